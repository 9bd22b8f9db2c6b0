#include "cli.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <iostream>

#include <unistd.h>

#include <posthorn/policy.hpp>

#include "json.hpp"
#include "lines.hpp"
#include "patterns/random.hpp"
#include "transport/endpoint.hpp"

namespace posthorn::nodes {

namespace po = boost::program_options;

namespace {

std::string option_names(const po::options_description& options) {
    std::string names;
    for (const auto& option : options.options()) {
        if (!names.empty()) names += ", ";
        names += "--" + option->long_name();
    }
    return names;
}

void print_help(const Verb& verb, const po::options_description& options) {
    std::cout << "usage: posthorn " << verb.name << ' ' << verb.synopsis << "\n\n"
              << verb.summary << "\nOptions:\n"
              << options << '\n'
              << verb.details << (verb.details.empty() ? "" : "\n") << exit_codes_help << std::flush;
}

}  // namespace

void usage_error(const Verb& verb, const std::string& text) {
    throw ExitError{Exit::usage, text + " (posthorn " + verb.name + " --help says more)"};
}

po::options_description described_options() {
    constexpr unsigned line = 116;
    constexpr unsigned least_for_text = 60;
    return {line, least_for_text};
}

Arguments parse_arguments(const Verb& verb, const po::options_description& options,
                          const std::vector<std::string>& arguments) {
    po::options_description all = options;
    all.add_options()("help", "show this text");
    Arguments result;
    try {
        namespace style = po::command_line_style;
        constexpr int no_guessing = style::unix_style & ~style::allow_guessing;
        const auto parsed = po::command_line_parser(arguments).options(all).style(no_guessing).run();
        for (const auto& option : parsed.options) {
            if (option.position_key >= 0) result.words.push_back(option.value.front());
        }
        po::store(parsed, result.options);
    } catch (const po::unknown_option& error) {
        usage_error(verb, "unknown option '" + error.get_option_name() + "'; valid ones are " + option_names(all));
    } catch (const po::error& error) {
        usage_error(verb, error.what());
    }
    result.help = result.options.count("help") > 0;
    if (result.help) print_help(verb, all);
    return result;
}

std::string name_of(const Verb& verb, const std::string& what, const std::string& word) {
    if (!valid_queue_name(word))
        usage_error(verb, "'" + printable(word) + "' is not a " + what + " name: " + name_rule);
    return word;
}

std::string service_name_of(const Verb& verb, const std::string& word) {
    if (!valid_queue_name(word) || !valid_queue_name(replies_of(word)) || !service_of(word).empty())
        usage_error(verb, "'" + printable(word) +
                              "' is not a service name: 1 to 192 of A-Z a-z 0-9 . _ - and not ending in .dlq or "
                              ".replies");
    return word;
}

std::string address_of(const Verb& verb, const std::string& word) {
    if (!parse_address(word))
        usage_error(verb, "'" + printable(word) + "' is not a queue name: " + name_rule +
                              "; nor a subscription: TOPIC/NAME, each of the two such a name");
    return word;
}

std::string subscription_of(const Verb& verb, const std::string& word) {
    const auto address = parse_address(word);
    if (!address || address->subscription.empty())
        usage_error(verb, "'" + printable(word) + "' is not a subscription: TOPIC/NAME, each of the two " + name_rule);
    return word;
}

std::map<std::string, std::string> headers_of(const Verb& verb, const Arguments& arguments) {
    std::map<std::string, std::string> headers;
    if (arguments.options.count("header") == 0) return headers;
    for (const auto& text : arguments.options["header"].as<std::vector<std::string>>()) {
        const auto equals = text.find('=');
        if (equals == std::string::npos || equals == 0)
            usage_error(verb, "--header: '" + text + "' is not of the form KEY=VALUE");
        if (!headers.emplace(text.substr(0, equals), text.substr(equals + 1)).second)
            usage_error(verb, "--header: " + text.substr(0, equals) + " is given twice");
    }
    return headers;
}

void add_node_option(po::options_description& options) {
    options.add_options()("node", po::value<std::string>()->value_name("ENDPOINT"),
                          "the node, or a producer that hosts its queue itself; else the variable POSTHORN_NODE, else "
                          "tcp://127.0.0.1:5757");
}

std::string node_endpoint(const Verb& verb, const Arguments& arguments) {
    std::string endpoint = "tcp://127.0.0.1:" + std::to_string(defaults::port);
    const char* named = std::getenv("POSTHORN_NODE");
    if (named != nullptr && *named != '\0') endpoint = named;
    if (arguments.options.count("node") > 0) endpoint = arguments.options["node"].as<std::string>();
    try {
        transport::check_endpoint(endpoint, transport::Use::connect);
    } catch (const Error& error) {
        usage_error(verb, error.what());
    }
    return endpoint;
}

std::string no_answer(const std::string& endpoint) {
    return "no answer from " + endpoint +
           ": is a node running there? start one with `posthorn node`, or name another with --node";
}

std::string own_name() {
    std::array<char, 256> host{};
    if (::gethostname(host.data(), host.size() - 1) != 0) host[0] = '\0';
    return std::string{host.data()} + ":" + std::to_string(::getpid());
}

std::string unique_name() {
    return own_name() + ":" + something_random();
}

std::string something_random() {
    return detail::random_identity().hex().substr(0, 8);
}

void say(const Verb& verb, const std::string& text) {
    // Nobody is left to tell if standard error is gone.
    static_cast<void>(write_all(STDERR_FILENO, "posthorn " + verb.name + ": " + text + "\n"));
}

std::string describe(const Event& event) {
    std::string text{to_string(event.kind)};
    if (!event.subject.empty()) text.append(" ").append(printable(event.subject));
    if (!event.text.empty()) text.append(": ").append(printable(event.text));
    return text;
}

void Reports::hear(const Event& event) {
    // Left behind: whoever closes the end counts that, and says it better.
    if (event.kind == Event::Kind::connected || event.kind == Event::Kind::left_behind) return;
    if (event.code == "no_subscription") {
        const std::lock_guard lock{mutex_};
        without_subscription_ += event.count;
    }
    constexpr std::array final_codes = {"unknown_queue", "bad_version",      "bad_name",
                                        "wrong_kind",    "forbidden",        "too_many_queues",
                                        "removed",       "too_many_filters", "not_retained"};
    if (std::find(final_codes.begin(), final_codes.end(), event.code) == final_codes.end()) {
        say(verb_, describe(event));
        return;
    }
    const std::lock_guard lock{mutex_};
    refusal_ = printable(event.text);
}

ContextOptions Reports::context_options() {
    ContextOptions options;
    options.on_event = [this](const Event& event) { hear(event); };
    return options;
}

std::optional<std::string> Reports::final_refusal() const {
    const std::lock_guard lock{mutex_};
    return refusal_;
}

std::uint64_t Reports::without_subscription() const {
    const std::lock_guard lock{mutex_};
    return without_subscription_;
}

}  // namespace posthorn::nodes
