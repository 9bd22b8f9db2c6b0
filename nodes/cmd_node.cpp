#include <cstdlib>

#include "cli.hpp"
#include "config.hpp"
#include "node.hpp"
#include "verbs.hpp"

namespace posthorn::nodes {

namespace po = boost::program_options;

namespace {

Verb node_verb() {
    return {
        "node", "[--bind ENDPOINT]... [--data DIR] [--config FILE]",
        "Runs a node: it keeps queues on its disk, takes messages from producers and hands them to workers. It says\n"
        "\"ready on ENDPOINT\" on standard error once it serves. SIGTERM and SIGINT drain it: no more messages are\n"
        "taken or handed out, what is under way is stored, running workers keep their messages; a second one ends it\n"
        "at once. Nothing that was confirmed is lost either way.\n",
        "Settings of the configuration, an INI file; those of the node are options as well (auto_create:\n"
        "--auto-create), which go before it. In brackets: the default.\n\n" +
            settings_help() +
            "\nDurations have a unit: 50ms 1s 10min 2h. Sizes too: 64KiB 64MiB 1GiB. # starts a comment. Example:\n\n"
            "  bind = tcp://0.0.0.0:5757\n"
            "  data = /var/lib/posthorn\n\n"
            "  [queue.encode]\n"
            "  max_attempts = 3\n"
            "  backoff = 1s,10s,1min\n"
            "  when_full = reject\n"};
}

std::string option_name(std::string setting) {
    for (char& c : setting) {
        if (c == '_') c = '-';
    }
    return setting;
}

}  // namespace

Exit run_node(const std::vector<std::string>& arguments) {
    const Verb verb = node_verb();
    po::options_description options;
    for (const auto& setting : node_setting_names()) {
        options.add_options()(option_name(setting).c_str(), po::value<std::vector<std::string>>()->value_name("VALUE"),
                              ("the setting " + setting).c_str());
    }
    options.add_options()("config", po::value<std::string>()->value_name("FILE"), "the configuration");
    const Arguments parsed_arguments = parse_arguments(verb, options, arguments);
    if (parsed_arguments.help) return Exit::ok;
    if (!parsed_arguments.words.empty())
        usage_error(verb, "'" + parsed_arguments.words.front() + "' is not expected here");

    NodeConfig config;
    if (parsed_arguments.options.count("config") > 0) {
        const auto file = parsed_arguments.options["config"].as<std::string>();
        apply(config, read_ini_file(file), file);
    }
    std::vector<Setting> given;
    for (const auto& setting : node_setting_names()) {
        const std::string option = option_name(setting);
        if (parsed_arguments.options.count(option) == 0) continue;
        for (const auto& value : parsed_arguments.options[option].as<std::vector<std::string>>())
            given.push_back({setting, value});
    }
    apply(config, given, "command line");
    return serve(config);
}

}  // namespace posthorn::nodes
