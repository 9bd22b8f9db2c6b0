#include <iostream>
#include <map>
#include <set>
#include <sstream>
#include <utility>

#include "admin_client.hpp"
#include "cli.hpp"
#include "verbs.hpp"

namespace posthorn::nodes {

namespace po = boost::program_options;

namespace {

constexpr Patience at_a_prompt{.welcome = 1s, .result = 1s};

// What is the same whatever the verbs are. A line is split at blanks: bash itself would split endpoints at their
// colons.
constexpr const char* frame = R"bash(# bash completion for posthorn; in ~/.bashrc: source <(posthorn completion bash)
_posthorn() {
    local line=${COMP_LINE:0:COMP_POINT} words=() places=0 node=() at
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    local last=$((${#words[@]} - 1))
    local current=${words[last]} previous=${words[last - 1]} verb=${words[1]}
    local options= kinds=()
    COMPREPLY=()
    if ((last <= 1)); then
        COMPREPLY=($(compgen -W "$(_posthorn_verbs) --help --version" -- "$current"))
        return
    fi
    declare -A values=()
    _posthorn_verb "$verb" || return
    for ((at = 2; at < last; ++at)); do
        if [[ ${words[at]} == --node ]]; then node=(--node "${words[at + 1]}"); fi
        if [[ -n ${values[${words[at]}]} ]]; then
            ((++at))
        elif [[ ${words[at]} != -* ]]; then
            ((++places))
        fi
    done
    if [[ -n ${values[$previous]} ]]; then
        _posthorn_complete "${values[$previous]}"
    elif [[ $current == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$current"))
    else
        _posthorn_complete "${kinds[places]}" "$1" "${node[@]}"
    fi
}

_posthorn_complete() {
    case $1 in
        QUEUE) _posthorn_names queues "${@:2}" ;;
        TOPIC) _posthorn_names topics "${@:2}" ;;
        TOPIC/NAME) _posthorn_names subscriptions "${@:2}" ;;
        FOLDER) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$current") ;;
        FILE | CMD) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
        *"|"*) COMPREPLY=($(compgen -W "${1//|/ }" -- "$current")) ;;
    esac
}

_posthorn_names() {
    COMPREPLY=($(compgen -W "$("$2" completion "$1" "${@:3}" 2>/dev/null)" -- "$current"))
}

)bash";

Verb completion_verb() {
    return {"completion", "bash|queues|topics|subscriptions",
            R"(Prints what a shell needs to complete this command.
  bash           the script for bash: verbs, options, and the names that the node has
  queues         names of the node's queues, topics and subscriptions (TOPIC/NAME), a line each
  topics         names of its topics that have subscriptions
  subscriptions  names of its subscriptions
It ends with 3 and no names if the node does not answer within a second.
)",
            R"(To have it, in ~/.bashrc:
  source <(posthorn completion bash)
)"};
}

// What stands in front of the options in a synopsis: "list|show QUEUE [--reason R]" has two.
std::vector<std::string> places_of(const std::string& synopsis) {
    std::vector<std::string> places;
    std::istringstream words{synopsis};
    for (std::string word; words >> word && !word.starts_with('[');) places.push_back(word);
    return places;
}

std::string quoted(const std::string& text) {
    return "'" + text + "'";  // names and synopses of ours have no quotes
}

void print_verb(const Command& command) {
    std::string options = "--help";
    std::string values;
    for (const auto& option : command.options.options()) {
        const std::string name = "--" + option->long_name();
        options += " " + name;
        if (option->semantic()->max_tokens() == 0) continue;
        // "NAME" or, with a default, "NAME (=1)"
        const std::string form = option->format_parameter();
        values += "[" + name + "]=" + quoted(form.substr(0, form.find(' '))) + " ";
    }
    std::string kinds;
    for (const auto& place : places_of(command.verb.synopsis)) kinds += quoted(place) + " ";
    std::cout << "        " << command.verb.name << ") options=" << quoted(options) << " kinds=(" << kinds
              << ") values=(" << values << ") ;;\n";
}

void print_bash() {
    const auto commands = all_commands();
    std::cout << frame << "_posthorn_verbs() {\n    echo";
    for (const auto& command : commands) std::cout << ' ' << command.verb.name;
    std::cout << "\n}\n\n_posthorn_verb() {\n    case $1 in\n";
    for (const auto& command : commands) print_verb(command);
    std::cout << "        *) return 1 ;;\n    esac\n}\n\ncomplete -F _posthorn posthorn\n";
}

enum class Names { queues, topics, subscriptions };

void print_names(Names which, const std::string& endpoint) {
    Context context;
    AdminClient client{context, endpoint, at_a_prompt};
    protocol::AdminRequest request;
    request.verb = "queues";
    std::set<std::string> names;
    client.ask(request, [&](const Row& row) {
        std::string name = row.text("name");
        const auto address = parse_address(name);
        if (!address) return;  // what a shell reads has to be what it seems
        if (which != Names::queues && address->subscription.empty()) return;
        if (which == Names::topics) name = std::string{address->topic};
        names.insert(std::move(name));
    });
    for (const std::string& name : names) std::cout << name << '\n';
}

Exit run_completion(const Verb& verb, const Arguments& given) {
    const std::map<std::string, Names> lists{
        {"queues", Names::queues}, {"topics", Names::topics}, {"subscriptions", Names::subscriptions}};
    const std::string what = given.words.size() == 1 ? given.words.front() : std::string{};
    if (what == "bash") {
        print_bash();
    } else if (const auto found = lists.find(what); found != lists.end()) {
        print_names(found->second, node_endpoint(verb, given));
    } else {
        usage_error(verb, "say bash, queues, topics or subscriptions");
    }
    return Exit::ok;
}

}  // namespace

Command completion_command() {
    po::options_description options = described_options();
    add_node_option(options);
    return {completion_verb(), "print the script that completes this command in bash", std::move(options),
            &run_completion};
}

}  // namespace posthorn::nodes
