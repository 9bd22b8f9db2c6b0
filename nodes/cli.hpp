// What all verbs share: their command lines, the node they talk to, and what they say about it.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <boost/program_options.hpp>

#include <posthorn/context.hpp>

#include "exit_codes.hpp"

namespace posthorn::nodes {

// What --help shows of a verb around its options.
struct Verb {
    std::string name;      // "send"
    std::string synopsis;  // "QUEUE [TEXT...]"
    std::string summary;   // what it does, wrapped, ending in a newline
    std::string details;   // what stands behind the options
};

struct Arguments {
    boost::program_options::variables_map options;
    std::vector<std::string> words;  // what is no option, in order
    bool help = false;               // was asked for and has been printed; nothing else is to be done
};

// Empty, as wide as the rest of the help.
[[nodiscard]] boost::program_options::options_description described_options();

// Options are refused by name with the valid ones listed. Throws ExitError (usage).
[[nodiscard]] Arguments parse_arguments(const Verb& verb, const boost::program_options::options_description& options,
                                        const std::vector<std::string>& arguments);

[[noreturn]] void usage_error(const Verb& verb, const std::string& text);

inline constexpr const char* name_rule = "1 to 200 of A-Z a-z 0-9 . _ - and not ending in .dlq";

// The one word that names a queue or a topic (`what`); a queue or a subscription; a subscription. Throw ExitError
// (usage).
[[nodiscard]] std::string name_of(const Verb& verb, const std::string& what, const std::string& word);
[[nodiscard]] std::string service_name_of(const Verb& verb, const std::string& word);
[[nodiscard]] std::string address_of(const Verb& verb, const std::string& word);
[[nodiscard]] std::string subscription_of(const Verb& verb, const std::string& word);

// The headers of --header K=V. Throws ExitError (usage).
[[nodiscard]] std::map<std::string, std::string> headers_of(const Verb& verb, const Arguments& arguments);

// Adds --node. node_endpoint(): --node, else POSTHORN_NODE, else tcp://127.0.0.1:5757. Throws ExitError (usage).
void add_node_option(boost::program_options::options_description& options);
[[nodiscard]] std::string node_endpoint(const Verb& verb, const Arguments& arguments);

// Reads the value of an option with one of the parsers of units.hpp, naming the option when it is refused.
template <typename Parser>
[[nodiscard]] auto parsed(const Verb& verb, const Arguments& arguments, const std::string& option, Parser parser) {
    try {
        return parser(arguments.options[option].template as<std::string>());
    } catch (const Error& error) {
        usage_error(verb, "--" + option + ": " + error.what());
    }
}

[[nodiscard]] std::string no_answer(const std::string& endpoint);

// "HOST:PID", for listings and logs of the node.
[[nodiscard]] std::string own_name();
// With something random behind it: of two consumers of one name a host turns the earlier away.
[[nodiscard]] std::string unique_name();
// As a part of a name.
[[nodiscard]] std::string something_random();

// One line on standard error: "posthorn VERB: text".
void say(const Verb& verb, const std::string& text);
// For people.
[[nodiscard]] std::string describe(const Event& event);

// Hears what the ends of a context report: says it on standard error, keeps a refusal that no waiting helps against,
// and counts messages that reached no subscription. Thread-safe; outlives the context.
class Reports {
public:
    explicit Reports(const Verb& verb) : verb_(verb) {}
    void hear(const Event& event);
    [[nodiscard]] ContextOptions context_options();
    [[nodiscard]] std::optional<std::string> final_refusal() const;
    [[nodiscard]] std::uint64_t without_subscription() const;

private:
    const Verb& verb_;
    mutable std::mutex mutex_;
    std::optional<std::string> refusal_;
    std::uint64_t without_subscription_ = 0;
};

}  // namespace posthorn::nodes
