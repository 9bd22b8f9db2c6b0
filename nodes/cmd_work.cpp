#include <limits>

#include "cli.hpp"
#include "signals.hpp"
#include "units.hpp"
#include "verbs.hpp"
#include "work_run.hpp"

namespace posthorn::nodes {

namespace po = boost::program_options;

namespace {

Verb work_verb() {
    return {
        "work", "QUEUE [--exec CMD] [--concurrency N] [--count N] [--idle-exit SECONDS] [--until-empty]",
        R"(Takes messages from a queue. Without --exec each payload is written as a line to standard output and acknowledged
once it is written; msgpack as JSON, and what only says that it is msgpack is dead-lettered (undecodable). With --exec
CMD runs under `sh -c` for each message, the payload on its standard input, with these variables:
  POSTHORN_ID             the message's id, the same for every attempt
  POSTHORN_ATTEMPT        from 1
  POSTHORN_TYPE           as given to send --type
  POSTHORN_HEADER_<NAME>  a header, its name in upper case and with _ for all but letters and digits;
                          of two headers with one name so, the first in byte order counts
A value with a NUL byte is left out; no other variable is set by a message. What the exit status of CMD does:
  0         the message is done
  65        it is dead-lettered at once (rejected), with the last line of standard error as the reason
  126, 127  CMD cannot be run: the message goes back uncharged and the worker ends with 6
  other     it has failed, with that last line as the reason; it is retried as the queue's policy says
A death by signal is a failure as well.

SIGINT and SIGTERM: no more messages are taken and what is begun may end within 30 s; what is then still
running, or at a second signal, gets SIGTERM with all it has started, SIGKILL 5 s later, and its message goes
back uncharged. The same happens to CMD when the lease of its message is lost.
)",
        R"(Examples:
  posthorn work encode --exec ./encode.sh --concurrency 4
  posthorn work encode --until-empty > payloads.txt
)"};
}

WorkOptions options_of(const Verb& verb, const Arguments& given) {
    WorkOptions options;
    if (given.words.size() != 1) usage_error(verb, "give one queue to work for");
    options.queue = queue_name(verb, given.words.front());
    options.endpoint = node_endpoint(verb, given);
    options.raw = given.options["raw"].as<bool>();
    options.until_empty = given.options["until-empty"].as<bool>();
    if (given.options.count("exec") > 0) {
        options.command = given.options["exec"].as<std::string>();
        if (options.command.empty()) usage_error(verb, "--exec: give a command");
        if (options.raw) usage_error(verb, "--raw is for standard output; a command always gets the bytes");
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

Exit run(const Verb& verb, const Arguments& given) {
    WorkOptions work_options = options_of(verb, given);
    const Signals signals;
    return WorkRun{verb, std::move(work_options), signals}.run();
}

}  // namespace

Command work_command() {
    po::options_description options = described_options();
    options.add_options()("exec", po::value<std::string>()->value_name("CMD"), "run CMD for each message");
    options.add_options()("concurrency", po::value<std::string>()->value_name("N")->default_value("1"),
                          "messages worked on at a time, 1 to 1000");
    options.add_options()("count", po::value<std::string>()->value_name("N"), "end after N messages");
    options.add_options()("idle-exit", po::value<std::string>()->value_name("SECONDS"),
                          "end when nothing is being worked on and the last delivery or settlement was so long ago; "
                          "seconds, or with a unit (500ms, 10min)");
    options.add_options()(
        "until-empty", po::bool_switch(),
        "end when the queue has nothing ready, waiting for its next attempt or in flight, with whichever "
        "worker");
    options.add_options()("raw", po::bool_switch(), "write msgpack payloads as they are, not as JSON");
    add_node_option(options);
    return {work_verb(), "take messages: write them out, or run a command for each", std::move(options), &run};
}

}  // namespace posthorn::nodes
