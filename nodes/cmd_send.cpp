#include <algorithm>
#include <chrono>
#include <optional>
#include <variant>

#include <unistd.h>

#include <posthorn/fanout.hpp>
#include <posthorn/pub_sub.hpp>
#include <posthorn/work_queue.hpp>

#include "cli.hpp"
#include "envelope/envelope.hpp"
#include "json.hpp"
#include "lines.hpp"
#include "signals.hpp"
#include "units.hpp"
#include "verbs.hpp"

namespace posthorn::nodes {

namespace po = boost::program_options;

namespace {

constexpr const char* default_timeout = "30s";

Verb send_verb() {
    return {
        "send", "QUEUE [TEXT...]",
        R"(Sends a message for every TEXT, or, without any, for every line of standard input: its exact bytes without
the newline. Returns when all of them are stored and says "sent N" on standard error; otherwise it says
how many are not confirmed (some of these may have arrived all the same). A node that dies and
comes back within the timeout is waited for, and what it had not confirmed is sent again.
)",
        R"(Examples:
  ls *.mov | posthorn send encode
  posthorn send mail --type welcome --header lang=en '{"to":"x@example.org"}'
  posthorn send mail --delay 10min --ttl 1h 'remember the milk'
  posthorn send invoices --key customer-7 --priority 5 < invoices.txt
  posthorn send queue -- -text-with-a-dash
)"};
}

Verb publish_verb() {
    return {
        "publish", "TOPIC [TEXT...]",
        R"(Publishes to a topic: each of its subscriptions gets every message that its bindings match, and works, retries
and gives up on its own. Otherwise as `posthorn send`: a message for every TEXT, or, without any, for every line of
standard input. It returns when all of them are stored, for all their subscriptions at once. A message that no
subscription takes is refused; it says how many, and ends with 4.

With --live the topic is a live one: a message goes to those who subscribe at this moment (posthorn subscribe --live),
and to nobody else. Nothing is stored, and that nobody listens is no error.
)",
        R"(--delay, --key, --priority and --ttl hold in each subscription on its own, --dedup-key in the topic.
Examples:
  posthorn publish orders --subject order.placed.eu '{"id":7}'
  posthorn publish orders --subject order.refund --header urgent=yes < refunds.jsonl
  posthorn publish prices --live --subject price.eur.usd 1.0842
  posthorn queues    # lists the subscriptions as TOPIC/NAME; posthorn subscribe makes one, and so does
                     # [subscription.TOPIC/NAME] in the node's configuration
)"};
}

enum class Kind { queue, topic, live };

struct SendOptions {
    Kind kind = Kind::queue;
    std::string to;  // its name
    std::string endpoint;
    Message message;  // without its payload
    std::uint64_t count = 1;
    Duration timeout{};
};

// Sends, waits, and knows why it gave up.
class Sender {
public:
    Sender(const Verb& verb, SendOptions options, const Signals& signals)
        : verb_(verb),
          options_(std::move(options)),
          signals_(signals),
          reports_(verb),
          context_(reports_.context_options()),
          end_(make_end()),
          producer_(std::visit([](ProducerEnd& end) -> ProducerEnd& { return end; }, end_)) {}

    // False: there is no use in sending more.
    bool send(const std::string& payload) {
        for (std::uint64_t i = 0; i < options_.count; ++i) {
            if (!send_once(payload)) return false;
        }
        return true;
    }

    void too_long(std::size_t limit) {
        ++sent_;
        ++unsendable_;
        say(verb_, "message " + std::to_string(sent_) + " is longer than " + std::to_string(limit) +
                       " bytes and was left out");
    }

    // Reads lines until the end. False: stopped by a signal, or there is no use in more.
    bool send_lines(LineReader& lines, std::size_t limit) {
        for (;;) {
            switch (lines.next()) {
                case LineReader::Result::line:
                    if (!send(lines.line())) return false;
                    break;
                case LineReader::Result::too_long:
                    too_long(limit);
                    break;
                case LineReader::Result::end:
                    return true;
                case LineReader::Result::stopped:
                    gave_up_ = "interrupted";
                    return false;
            }
        }
    }

    // Waits until everything is stored or refused, or gives up.
    void finish() {
        wait_while([this] { return producer_.flush(slice) == Status::timed_out; });
    }

    Exit report(bool input_left) {
        const std::uint64_t unconfirmed = std::min(sent_, producer_.unconfirmed() + producer_.refused() + unsendable_);
        if (unconfirmed == 0 && gave_up_.empty()) {
            say(verb_, "sent " + std::to_string(sent_));
            return Exit::ok;
        }
        const std::uint64_t refused = producer_.refused();
        producer_.close(0s);  // afterwards all has been reported
        std::string text =
            "sent " + std::to_string(sent_ - unconfirmed) + ", not confirmed " + std::to_string(unconfirmed);
        if (input_left) text += ", the rest of the input was not read";
        if (refused > 0) text += "; refused by the node: " + std::to_string(refused);
        if (const auto unwanted = reports_.without_subscription(); unwanted > 0) {
            text += "; no subscription of " + options_.to + " takes " + std::to_string(unwanted) +
                    " of them: `posthorn queues` lists the subscriptions, `posthorn subscribe " + options_.to +
                    " --as NAME` makes one";
        }
        if (!gave_up_.empty()) text += "; " + gave_up_;
        say(verb_, text);
        return exit_;
    }

    [[nodiscard]] bool gave_up() const { return !gave_up_.empty(); }

private:
    using Clock = std::chrono::steady_clock;

    using End = std::variant<work_queue::Producer, fanout::Publisher, pub_sub::Publisher>;

    End make_end() {
        if (options_.kind == Kind::live)
            return pub_sub::Publisher{context_, options_.to, at(options_.endpoint), producer_options()};
        if (options_.kind == Kind::topic)
            return fanout::Publisher{context_, options_.to, at(options_.endpoint), producer_options()};
        return work_queue::Producer{context_, options_.to, at(options_.endpoint), producer_options()};
    }

    static ProducerOptions producer_options() {
        ProducerOptions options;
        options.name = own_name();
        options.send_timeout = slice;
        options.close_timeout = 0s;  // finish() has waited
        return options;
    }

    bool send_once(const std::string& payload) {
        ++sent_;
        Status status = Status::ok;
        wait_while([&] {
            Message message = options_.message;
            message.payload = payload;
            status = producer_.send(std::move(message)).status();
            return status == Status::would_block || status == Status::timed_out;
        });
        if (status == Status::ok) return true;
        ++unsendable_;
        if (status == Status::too_large)
            say(verb_, "message " + std::to_string(sent_) + " is too large and was left out");
        return !gave_up();
    }

    // Repeats `attempt` while it says so and there is hope: something is confirmed at least every `timeout`, nobody
    // interrupts, the node has not refused us.
    template <typename Attempt>
    void wait_while(Attempt attempt) {
        std::optional<Clock::time_point> since;
        std::uint64_t decided = 0;
        while (attempt()) {
            const std::uint64_t now_decided = sent_ - std::min(sent_, producer_.unconfirmed());
            if (!since || now_decided != decided) since = Clock::now();
            decided = now_decided;
            say_no_answer(Clock::now() - *since);
            if (const auto refusal = reports_.final_refusal()) {
                give_up(Exit::refused, *refusal);
            } else if (signals_.take()) {
                give_up(Exit::unconfirmed, "interrupted");
            } else if (Clock::now() - *since >= options_.timeout) {
                const bool nobody = never_connected();
                give_up(
                    nobody ? Exit::unreachable : Exit::unconfirmed,
                    nobody ? no_answer(options_.endpoint) : "nothing was confirmed within the timeout" + waits_for());
            } else {
                continue;
            }
            return;
        }
    }

    // Why the node takes nothing, as far as it has said.
    [[nodiscard]] std::string waits_for() const {
        if (!producer_.connected()) return ": the node is gone and has not come back";
        const std::string reason = producer_.waits_for();
        if (reason == "queue_full") return ": the queue is full; `posthorn queues` shows it, a worker makes room";
        return reason.empty() ? std::string{}
                              : ": the node takes nothing for now (" + printable(reason) + "); its log says more";
    }

    [[nodiscard]] bool never_connected() const { return !producer_.connected() && producer_.capabilities().empty(); }

    void say_no_answer(Clock::duration waited) {
        constexpr auto patience = 2s;
        if (said_no_answer_ || waited < patience || !never_connected()) return;
        said_no_answer_ = true;
        say(verb_, "no answer from " + options_.endpoint + " yet; waiting for it");
    }

    void give_up(Exit exit, const std::string& why) {
        exit_ = exit;
        gave_up_ = why;
    }

    static constexpr Duration slice = 200ms;  // how often a wait looks up

    const Verb& verb_;
    SendOptions options_;
    const Signals& signals_;
    Reports reports_;
    Context context_;
    End end_;
    ProducerEnd& producer_;         // of end_
    std::uint64_t sent_ = 0;        // messages begun
    std::uint64_t unsendable_ = 0;  // of them never given to the producer
    bool said_no_answer_ = false;
    std::string gave_up_;
    Exit exit_ = Exit::unconfirmed;
};

SendOptions options_of(const Verb& verb, const Arguments& given, Kind kind) {
    SendOptions options;
    options.kind = kind;
    if (kind == Kind::topic && given.options["live"].as<bool>()) options.kind = Kind::live;
    for (const char* option : {"priority", "key", "delay", "ttl"}) {
        if (options.kind == Kind::live && given.options.count(option) > 0 && !given.options[option].defaulted())
            usage_error(verb, std::string{"--"} + option + " is for messages that are kept; --live keeps none");
    }
    const std::string what = kind == Kind::topic ? "topic" : "queue";
    if (given.words.empty()) usage_error(verb, "give the " + what + " to " + verb.name + " to");
    options.to = name_of(verb, what, given.words.front());
    options.endpoint = node_endpoint(verb, given);
    const auto text = [&](const char* option, std::string& into) {
        if (given.options.count(option) > 0) into = given.options[option].as<std::string>();
    };
    const auto time = [&](const char* option, Duration& into) {
        if (given.options.count(option) > 0) into = parsed(verb, given, option, parse_seconds_or_duration);
    };
    text("type", options.message.type);
    if (kind == Kind::topic) text("subject", options.message.subject);
    text("key", options.message.ordering_key);
    text("dedup-key", options.message.dedup_key);
    time("delay", options.message.delay);
    time("ttl", options.message.ttl);
    const std::uint64_t priority = parsed(verb, given, "priority", parse_count);
    options.message.priority = static_cast<std::uint8_t>(std::min<std::uint64_t>(priority, priority_limit + 1U));
    options.message.headers = headers_of(verb, given);
    if (const auto fault = envelope::invalid(options.message)) usage_error(verb, *fault);
    options.count = parsed(verb, given, "count", parse_count);
    options.timeout = parsed(verb, given, "timeout", parse_seconds_or_duration);
    return options;
}

template <Kind kind>
Exit run(const Verb& verb, const Arguments& given) {
    SendOptions send_options = options_of(verb, given, kind);

    const Signals signals;
    Sender sender{verb, std::move(send_options), signals};
    bool all_read = true;
    if (given.words.size() > 1) {
        all_read = std::all_of(given.words.begin() + 1, given.words.end(),
                               [&sender](const std::string& text) { return sender.send(text); });
    } else {
        LineReader lines{STDIN_FILENO, defaults::message_limit, signals.descriptor()};
        all_read = sender.send_lines(lines, defaults::message_limit);
    }
    if (!sender.gave_up()) sender.finish();
    return sender.report(!all_read);
}

// Of both verbs.
void add_sending_options(po::options_description& options) {
    options.add_options()("type", po::value<std::string>()->value_name("NAME"), "what the payload is, for the workers");
    options.add_options()("header", po::value<std::vector<std::string>>()->value_name("K=V"),
                          "a header; may be given more than once");
    options.add_options()("priority", po::value<std::string>()->value_name("0-9")->default_value("0"),
                          "of what is ready, higher ones go first");
    options.add_options()("key", po::value<std::string>()->value_name("KEY"),
                          "ordering key: messages with the same one are worked on one at a time, in their order");
    options.add_options()("delay", po::value<std::string>()->value_name("TIME"),
                          "not delivered before; seconds, or with a unit (500ms, 10min); default: at once");
    options.add_options()("ttl", po::value<std::string>()->value_name("TIME"),
                          "time to live: dead-lettered as expired when no worker has it by then; seconds, or with a "
                          "unit (500ms, 10min); default: none");
    options.add_options()("dedup-key", po::value<std::string>()->value_name("KEY"),
                          "not taken again if a message with this key was accepted within the dedup_window; it "
                          "counts as sent");
    options.add_options()("count", po::value<std::string>()->value_name("N")->default_value("1"),
                          "each message N times");
    options.add_options()(
        "timeout", po::value<std::string>()->value_name("TIME")->default_value(default_timeout),
        "give up when there is something to confirm and nothing has been confirmed for so long; seconds, "
        "or with a unit (500ms, 10min)");
    add_node_option(options);
}

}  // namespace

Command send_command() {
    po::options_description options = described_options();
    add_sending_options(options);
    return {send_verb(), "send messages, from arguments or lines of standard input", std::move(options),
            &run<Kind::queue>};
}

Command publish_command() {
    po::options_description options = described_options();
    options.add_options()("subject", po::value<std::string>()->value_name("WORDS"),
                          "what it is about, words with dots between them (order.placed.eu); bindings look at it");
    options.add_options()("live", po::bool_switch(), "to a live topic: to those who subscribe now, and not kept");
    add_sending_options(options);
    return {publish_verb(), "publish messages to all subscriptions of a topic that want them", std::move(options),
            &run<Kind::topic>};
}

}  // namespace posthorn::nodes
