#include <cerrno>
#include <chrono>
#include <cstring>
#include <future>
#include <optional>

#include <unistd.h>

#include <posthorn/request_reply.hpp>

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

Verb request_verb() {
    return {
        "request", "SERVICE [TEXT]",
        R"(Sends a request, TEXT or, without it, all of standard input, and waits for its answer: its payload goes to
standard output as it is, msgpack as JSON and a newline. Each request is answered once, if not by a replier then by the
node, which says why. Ends with
  0  it was answered
  7  it was answered by an error, which is on standard error
  8  there was no answer in time, or nobody to give one
  9  the replier that worked on it was lost; it may be done, in part or whole
)",
        R"(Examples:
  posthorn request quotes ACME
  posthorn request resize --timeout 1min --header width=640 < cat.png > small.png
  posthorn request quotes ACME --json    # id, status, payload or error in one line
  posthorn reply quotes --exec ./quote.sh
)"};
}

struct Asked {
    std::string service;
    std::string endpoint;
    Message message;
    Duration timeout{};
    bool at_once = false;
    bool json = false;
    bool raw = false;
};

std::string all_of_standard_input() {
    std::string text;
    std::string part(64 * std::size_t{1024}, '\0');
    for (;;) {
        const ssize_t count = ::read(STDIN_FILENO, part.data(), part.size());
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) throw Error{std::string{"cannot read standard input: "} + std::strerror(errno)};
        if (count == 0) return text;
        text.append(part, 0, static_cast<std::size_t>(count));
        if (text.size() > defaults::message_limit) {
            throw ExitError{Exit::usage, "standard input has more than " + std::to_string(defaults::message_limit) +
                                             " bytes, and that is the most a message may have"};
        }
    }
}

Asked options_of(const Verb& verb, const Arguments& given) {
    Asked asked;
    if (given.words.empty() || given.words.size() > 2) usage_error(verb, "give a service, and at most one text");
    asked.service = service_name_of(verb, given.words.front());
    asked.endpoint = node_endpoint(verb, given);
    if (given.options.count("type") > 0) asked.message.type = given.options["type"].as<std::string>();
    asked.message.headers = headers_of(verb, given);
    if (const auto fault = envelope::invalid(asked.message)) usage_error(verb, *fault);
    asked.timeout = parsed(verb, given, "timeout", parse_seconds_or_duration);
    constexpr Duration most = std::chrono::hours{24 * 365};
    if (asked.timeout < 1ms || asked.timeout > most) usage_error(verb, "--timeout: 1ms to 8760h, which is a year");
    asked.at_once = given.options["at-once"].as<bool>();
    asked.json = given.options["json"].as<bool>();
    asked.raw = given.options["raw"].as<bool>();
    return asked;
}

Exit exit_of(Status status) {
    switch (status) {
        case Status::ok:
            return Exit::ok;
        case Status::failed:
            return Exit::failed_answer;
        case Status::timed_out:
        case Status::no_replier:
            return Exit::no_answer_in_time;
        case Status::replier_lost:
            return Exit::replier_lost;
        case Status::rejected:
        case Status::too_large:
            return Exit::refused;
        default:
            return Exit::failed;
    }
}

std::string json_of(const request_reply::Reply& reply) {
    JsonObject object;
    object.text("id", reply.id).text("status", to_string(reply.status));
    if (reply.status != Status::ok) return object.text("error", reply.error).done();
    const Message& message = reply.message;
    std::optional<std::string> value;
    if (message.content_type == msgpack_content_type) value = msgpack_to_json(message.payload);
    if (value) {
        object.raw("payload", *value);
    } else if (is_utf8(message.payload)) {
        object.text("payload", message.payload);
    } else {
        object.text("payload_base64", base64(message.payload));
    }
    return object.done();
}

std::string text_of(const request_reply::Reply& reply, bool raw) {
    if (!raw && reply.message.content_type == msgpack_content_type) {
        if (auto value = msgpack_to_json(reply.message.payload)) return *value + "\n";
    }
    return reply.message.payload;
}

// Answered, or given up for a signal or a refusal.
std::optional<request_reply::Reply> wait_for(std::future<request_reply::Reply>& answer, const Signals& signals,
                                             const Reports& reports) {
    constexpr auto slice = 50ms;
    while (answer.wait_for(slice) != std::future_status::ready) {
        if (signals.take() || reports.final_refusal()) return std::nullopt;
    }
    return answer.get();
}

Exit run(const Verb& verb, const Arguments& given) {
    Asked asked = options_of(verb, given);
    asked.message.payload = given.words.size() > 1 ? given.words[1] : all_of_standard_input();
    const Signals signals;
    Reports reports{verb};
    Context context{reports.context_options()};
    request_reply::Requester requester{
        context,
        asked.service,
        at(asked.endpoint),
        {.deadline = asked.timeout,
         .no_replier = asked.at_once ? request_reply::NoReplier::at_once : request_reply::NoReplier::at_deadline}};
    auto answer = requester.request(std::move(asked.message));
    auto reply = wait_for(answer, signals, reports);
    if (!reply) {
        const auto refusal = reports.final_refusal();
        throw ExitError{refusal ? Exit::refused : Exit::failed, refusal.value_or("interrupted")};
    }
    // Whoever never reached the node knows nothing of repliers.
    const bool unreachable = reply->status == Status::timed_out && !requester.connected() &&
                             requester.wait_for_repliers(0, 0s) != Status::ok;
    if (asked.json && !write_all(STDOUT_FILENO, json_of(*reply) + "\n")) throw Error{"cannot write to standard output"};
    if (reply->status == Status::ok) {
        if (!asked.json && !write_all(STDOUT_FILENO, text_of(*reply, asked.raw)))
            throw Error{"cannot write to standard output"};
        return Exit::ok;
    }
    if (unreachable) throw ExitError{Exit::unreachable, no_answer(asked.endpoint)};
    say(verb, std::string{to_string(reply->status)} + ": " + printable(reply->error));
    return exit_of(reply->status);
}

}  // namespace

Command request_command() {
    po::options_description options = described_options();
    options.add_options()("timeout", po::value<std::string>()->value_name("TIME")->default_value("10s"),
                          "the deadline: how long an answer is waited for, here and at the node; seconds, or with a "
                          "unit (500ms, 10min)");
    options.add_options()("at-once", po::bool_switch(), "give up at once if there is no replier");
    options.add_options()("type", po::value<std::string>()->value_name("NAME"), "what the payload is, for repliers");
    options.add_options()("header", po::value<std::vector<std::string>>()->value_name("K=V"),
                          "a header; may be given more than once");
    options.add_options()("json", po::bool_switch(),
                          "one JSON object: id, status, and payload (payload_base64 if it is no text) or error");
    options.add_options()("raw", po::bool_switch(), "write a msgpack payload as it is, not as JSON");
    add_node_option(options);
    return {request_verb(), "ask a service and wait for the answer", std::move(options), &run};
}

}  // namespace posthorn::nodes
