#include <chrono>
#include <limits>

#include "cli.hpp"
#include "live_run.hpp"
#include "signals.hpp"
#include "units.hpp"
#include "verbs.hpp"
#include "work_run.hpp"

namespace posthorn::nodes {

namespace po = boost::program_options;

namespace {

// What becomes of a message, with work and with subscribe.
constexpr const char* handling =
    R"(Without --exec each payload is written as a line to standard output and acknowledged
once it is written; msgpack as JSON, and what only says that it is msgpack is dead-lettered (undecodable). With --exec
CMD runs under `sh -c` for each message, the payload on its standard input, with these variables:
  POSTHORN_ID             the message's id, the same for every attempt
  POSTHORN_ATTEMPT        from 1
  POSTHORN_SEQUENCE       its place in its queue or topic, ascending with gaps; subscribe --from takes it
  POSTHORN_TYPE           as given to send --type
  POSTHORN_SUBJECT        as given to publish --subject
  POSTHORN_HEADER_<NAME>  a header, its name in upper case and with _ for all but letters and digits;
                          of two headers with one name so, the first in byte order counts
A value with a NUL byte is left out; no other variable is set by a message. What the exit status of CMD does:
  0         the message is done
  65        it is dead-lettered at once (rejected), with the last line of standard error as the reason
  126, 127  CMD cannot be run: the message goes back uncharged and this command ends with 6
  other     it has failed, with that last line as the reason; it is retried as the policy says
A death by signal is a failure as well.

SIGINT and SIGTERM: no more messages are taken and what is begun may end within 30 s; what is then still
running, or at a second signal, gets SIGTERM with all it has started, SIGKILL 5 s later, and its message goes
back uncharged. The same happens to CMD when the lease of its message is lost.
)";

Verb work_verb() {
    return {"work", "QUEUE [--exec CMD] [--concurrency N] [--count N] [--idle-exit SECONDS] [--until-empty]",
            std::string{"Takes messages from a queue, or from a subscription that is there, TOPIC/NAME. "} + handling,
            R"(Examples:
  posthorn work encode --exec ./encode.sh --concurrency 4
  posthorn work encode --until-empty > payloads.txt
)"};
}

Verb subscribe_verb() {
    return {
        "subscribe", "TOPIC [--as NAME] [--from WHERE] [--match PATTERN]... [--header K=V]... [--any] [OPTION]...",
        std::string{
            R"(Takes messages from a subscription of a topic, and makes it if it is not there. Each subscription gets all messages
published from then on that it wants; those who subscribe under one name share them. It stays, with what it has not
worked off, until `posthorn unsubscribe TOPIC/NAME`; without --as, or with --temporary, only as long as somebody
subscribes under its name.

What it wants is whatever is published, or, from now on, what --match and --header say:
  --match PATTERN   messages with a subject of this pattern: words with dots between them, * for one word, # for
                    any number of words; with several of it, of one of these patterns
  --header K=V      with all of these headers; with --any at least one
If neither is given, what the subscription wanted before holds; --match '#' makes it everything.

A topic that the node's configuration retains (retain_age, retain_bytes, retain_messages of [topic.NAME]) keeps what was
published, and a subscription that this makes may begin with that:
  --from first      with the oldest that is kept
  --from last       with the last message of the topic
  --from N          with the message of the sequence N, or the next behind it
  --from TIME       with what was accepted since then: 2026-01-31T12:00:05Z, or 2h ago: 2h
From there it goes on with what is published, without a gap. One that is there goes on where it left off.

With --live the topic is a live one (posthorn publish --live): what is published while this command runs is written to
standard output, a line each, and at its end it says how many messages it received, and exactly how many of those
before the last of them it missed.
Of the options only --match, --header, --any, --count, --idle-exit, --raw and --node go with it.

)"} + handling,
        R"(Examples:
  posthorn subscribe orders --as billing --match 'order.placed.#' --exec ./bill.sh
  posthorn subscribe orders --match '*.refund' --match 'error.#' --header region=eu
  posthorn subscribe orders    # watch: whatever is published from now on
  posthorn subscribe prices --live --match 'price.eur.*'
  posthorn subscribe orders --as audit --from first
  posthorn subscribe orders --from 2h --until-empty > last-two-hours.txt
)"};
}

Verb reply_verb() {
    return {
        "reply", "SERVICE --exec CMD [--concurrency N] [--count N] [--idle-exit SECONDS]",
        R"(Answers the requests to a service: CMD runs under `sh -c` for each, the payload on its standard input, and what it
writes to standard output is the answer. If it ends with another status than 0, or by a signal, the answer is an error with
the last line of standard error; at 126 and 127, which say that CMD cannot be run, this command ends with 6 as well.
CMD has the variables POSTHORN_ID, POSTHORN_ATTEMPT, POSTHORN_TYPE, POSTHORN_SUBJECT and
POSTHORN_HEADER_<NAME> (`posthorn work --help` says what is in them).

A request that may have been begun is not begun again when this command, its machine or the node dies: who asked is told
that the replier was lost. For services that may do a request twice, request_attempts in the node's configuration.

SIGINT and SIGTERM: no more requests are taken and what is begun may end within 30 s; what is then still running, or at a
second signal, gets SIGTERM with all it has started, SIGKILL 5 s later, and is answered by an error.
)",
        R"(Examples:
  posthorn reply quotes --exec ./quote.sh --concurrency 4
  posthorn reply upper --exec 'tr a-z A-Z'
  posthorn request upper hello
)"};
}

// What --match and --header ask for; nothing: neither is given.
std::optional<std::vector<Binding>> bindings_of(const Verb& verb, const Arguments& given) {
    std::vector<std::string> patterns;
    if (given.options.count("match") > 0) patterns = given.options["match"].as<std::vector<std::string>>();
    const auto headers = headers_of(verb, given);
    const bool any = given.options["any"].as<bool>();
    if (any && headers.empty()) usage_error(verb, "--any is for headers: give --header K=V as well");
    if (patterns.empty() && headers.empty()) return std::nullopt;
    if (patterns.empty()) patterns.emplace_back("#");
    std::vector<Binding> bindings;
    for (std::string& pattern : patterns) {
        if (pattern.empty()) usage_error(verb, "--match: give a pattern; # is for every subject");
        bindings.push_back({.subject = std::move(pattern), .headers = headers, .any = any});
    }
    try {
        validate(bindings);
    } catch (const Error& error) {
        usage_error(verb, error.what());
    }
    return bindings;
}

void add_subscription(const Verb& verb, const Arguments& given, WorkOptions& options) {
    const std::string topic = name_of(verb, "topic", given.words.front());
    const bool named = given.options.count("as") > 0;
    const std::string name = named ? name_of(verb, "subscription", given.options["as"].as<std::string>())
                                   : "temporary-" + something_random();
    options.address = std::string{topic}.append("/").append(name);
    fanout::SubscriberOptions& subscriber = options.subscriber.emplace();
    subscriber.temporary = !named || given.options["temporary"].as<bool>();
    subscriber.exclusive = given.options["exclusive"].as<bool>();
    if (given.options.count("from") > 0) {
        subscriber.from = parsed(verb, given, "from", [](const std::string& text) {
            return parse_from(text, std::chrono::system_clock::now());
        });
    }
    subscriber.bindings = bindings_of(verb, given);
}

// Of all three verbs.
WorkOptions consuming_options_of(const Verb& verb, const Arguments& given) {
    WorkOptions options;
    options.endpoint = node_endpoint(verb, given);
    if (given.options.count("exec") > 0) {
        options.command = given.options["exec"].as<std::string>();
        if (options.command.empty()) usage_error(verb, "--exec: give a command");
    }
    options.concurrency = parsed(verb, given, "concurrency", [](const std::string& text) {
        constexpr unsigned most = 1000;
        const auto number = parse_count(text);
        if (number < 1 || number > most) throw Error{"'" + text + "' is out of range: 1 to 1000"};
        return static_cast<unsigned>(number);
    });
    if (given.options.count("count") > 0) {
        options.count = parsed(verb, given, "count", parse_count);
        if (options.count == 0) usage_error(verb, "--count: at least 1");
    }
    if (given.options.count("idle-exit") > 0)
        options.idle_exit = parsed(verb, given, "idle-exit", parse_seconds_or_duration);
    return options;
}

// Of work and subscribe.
WorkOptions handling_options_of(const Verb& verb, const Arguments& given) {
    WorkOptions options = consuming_options_of(verb, given);
    options.raw = given.options["raw"].as<bool>();
    options.until_empty = given.options["until-empty"].as<bool>();
    if (options.raw && !options.command.empty())
        usage_error(verb, "--raw is for standard output; a command always gets the bytes");
    return options;
}

Exit run(const Verb& verb, WorkOptions options) {
    const Signals signals;
    return WorkRun{verb, std::move(options), signals}.run();
}

Exit run_work(const Verb& verb, const Arguments& given) {
    if (given.words.size() != 1) usage_error(verb, "give one queue to work for");
    WorkOptions options = handling_options_of(verb, given);
    options.address = address_of(verb, given.words.front());
    return run(verb, std::move(options));
}

Exit run_live_subscriber(const Verb& verb, const Arguments& given, const WorkOptions& options) {
    for (const char* option : {"as", "from", "temporary", "exclusive", "exec", "concurrency", "until-empty"}) {
        if (given.options.count(option) > 0 && !given.options[option].defaulted())
            usage_error(verb, std::string{"--"} + option + " is for subscriptions that are kept; --live has none");
    }
    const Signals signals;
    return run_live(verb,
                    {.topic = name_of(verb, "topic", given.words.front()),
                     .match = bindings_of(verb, given).value_or(std::vector<Binding>{}),
                     .endpoint = options.endpoint,
                     .raw = options.raw,
                     .count = options.count,
                     .idle_exit = options.idle_exit},
                    signals);
}

Exit run_subscribe(const Verb& verb, const Arguments& given) {
    if (given.words.size() != 1) usage_error(verb, "give one topic to subscribe to");
    WorkOptions options = handling_options_of(verb, given);
    if (given.options["live"].as<bool>()) return run_live_subscriber(verb, given, options);
    add_subscription(verb, given, options);
    return run(verb, std::move(options));
}

Exit run_reply(const Verb& verb, const Arguments& given) {
    if (given.words.size() != 1) usage_error(verb, "give one service to answer for");
    WorkOptions options = consuming_options_of(verb, given);
    if (options.command.empty()) usage_error(verb, "give --exec CMD: what answers");
    options.replies = true;
    options.address = service_name_of(verb, given.words.front());
    return run(verb, std::move(options));
}

// Of all three verbs.
void add_consuming_options(po::options_description& options) {
    options.add_options()("exec", po::value<std::string>()->value_name("CMD"), "run CMD for each message");
    options.add_options()("concurrency", po::value<std::string>()->value_name("N")->default_value("1"),
                          "messages worked on at a time, 1 to 1000");
    options.add_options()("count", po::value<std::string>()->value_name("N"), "end after N messages");
    options.add_options()("idle-exit", po::value<std::string>()->value_name("SECONDS"),
                          "end when nothing is being worked on and the last delivery or settlement was so long ago; "
                          "seconds, or with a unit (500ms, 10min)");
}

// Of work and subscribe.
void add_handling_options(po::options_description& options) {
    add_consuming_options(options);
    options.add_options()("until-empty", po::bool_switch(),
                          "end when the queue or subscription has nothing ready, waiting for its next attempt or in "
                          "flight, with whichever "
                          "worker");
    options.add_options()("raw", po::bool_switch(), "write msgpack payloads as they are, not as JSON");
    add_node_option(options);
}

}  // namespace

Command work_command() {
    po::options_description options = described_options();
    add_handling_options(options);
    return {work_verb(), "take messages: write them out, or run a command for each", std::move(options), &run_work};
}

Command subscribe_command() {
    po::options_description options = described_options();
    options.add_options()("as", po::value<std::string>()->value_name("NAME"),
                          "the subscription's name; default: a new one that goes with this command");
    options.add_options()("from", po::value<std::string>()->value_name("WHERE"),
                          "where a new subscription of a retained topic begins: first, last, a sequence, a time or how "
                          "long ago");
    options.add_options()("match", po::value<std::vector<std::string>>()->value_name("PATTERN"),
                          "it gets messages with such a subject; may be given more than once");
    options.add_options()("header", po::value<std::vector<std::string>>()->value_name("K=V"),
                          "and with such a header; may be given more than once");
    options.add_options()("any", po::bool_switch(), "at least one of the headers, not all of them");
    options.add_options()("temporary", po::bool_switch(),
                          "if this makes it, it goes with what it has not worked off when the last that subscribes "
                          "under its name has gone");
    options.add_options()("exclusive", po::bool_switch(),
                          "no other beside this one: whoever comes second waits until the first has gone");
    options.add_options()("live", po::bool_switch(), "of a live topic: what is published from now on, and not kept");
    add_handling_options(options);
    return {subscribe_verb(), "take messages from a subscription of a topic", std::move(options), &run_subscribe};
}

Command reply_command() {
    po::options_description options = described_options();
    add_consuming_options(options);
    add_node_option(options);
    return {reply_verb(), "answer the requests to a service by a command", std::move(options), &run_reply};
}

}  // namespace posthorn::nodes
