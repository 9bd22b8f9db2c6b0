#include <algorithm>
#include <iostream>

#include "cli.hpp"
#include "config.hpp"
#include "node.hpp"
#include "verbs.hpp"

namespace posthorn::nodes {

namespace po = boost::program_options;

namespace {

std::string listed(const std::vector<SettingHelp>& settings) {
    std::size_t width = 0;
    for (const auto& setting : settings) width = std::max(width, setting.name.size() + 2);
    std::string text;
    for (const auto& [name, help, form] : settings)
        text.append("  ").append(name).append(width - name.size(), ' ').append(help).append("\n");
    return text;
}

Verb node_verb() {
    return {
        "node", "[--bind ENDPOINT]... [--data DIR] [--config FILE]",
        R"(Runs a node: it keeps queues and topics on its disk, takes messages from producers and hands them to workers
and subscribers. It says "ready on ENDPOINT" on standard error once it serves. SIGTERM and SIGINT drain it: no
more messages are taken or handed out, what is under way is stored, running workers keep their messages; a
second one ends it at once. Nothing that was confirmed is lost either way.
)",
        R"(The configuration is an INI file. It knows the settings above (--auto-create off is auto_create = off; the
command line goes before the file), and these in a section [queue.NAME], or [queue.*] for every queue;
`posthorn node --print-config` prints one with everything in it:

)" + listed(queue_settings_help()) +
            R"(
A section [topic.NAME] makes a topic with subscriptions that are there before anybody comes. It knows the same
settings, and those of a subscription, which hold for each of its subscriptions that has none of its own, and these:

)" + listed(topic_settings_help()) +
            R"(
A section [subscription.TOPIC/NAME] makes a subscription. It knows the same settings as a queue, and these:

)" + listed(subscription_settings_help()) +
            R"(
Settings of a live topic, in a section [live.NAME]; it keeps nothing but for those who subscribe now:
)" + listed(live_settings_help()) +
            R"(
Durations have a unit: 50ms 1s 10min 2h. Sizes too: 64KiB 64MiB 1GiB. # starts a comment, but in bindings. Example:

  bind = tcp://0.0.0.0:5757
  data = /var/lib/posthorn

  [queue.encode]
  max_attempts = 3
  backoff = 1s,10s,1min
  when_full = reject

  [topic.orders]
  subscriptions = inventory, billing
  retain_age = 48h

  [subscription.orders/billing]
  bindings = order.placed, #.refund
  max_attempts = 20
)"};
}

std::string option_name(std::string setting) {
    std::replace(setting.begin(), setting.end(), '_', '-');
    return setting;
}

// What the command line says of the node's own settings.
std::vector<Setting> settings_of(const Arguments& given) {
    std::vector<Setting> settings;
    for (const auto& [name, help, form] : node_settings_help()) {
        const std::string option = option_name(name);
        if (given.options.count(option) == 0) continue;
        for (const auto& value : given.options[option].as<std::vector<std::string>>())
            settings.push_back({name, value});
    }
    return settings;
}

Exit run_node(const Verb& verb, const Arguments& given) {
    if (!given.words.empty()) usage_error(verb, "'" + given.words.front() + "' is not expected here");

    if (given.options.count("print-config") > 0) {
        if (given.options.size() > 1) usage_error(verb, "--print-config prints the defaults; it goes alone");
        std::cout << default_ini();
        return Exit::ok;
    }
    NodeConfig config;
    if (given.options.count("config") > 0) {
        const auto file = given.options["config"].as<std::string>();
        apply(config, read_ini_file(file), file);
    }
    apply(config, settings_of(given), "command line");
    return serve(config);
}

}  // namespace

Command node_command() {
    po::options_description options = described_options();
    options.add_options()("config", po::value<std::string>()->value_name("FILE"), "the configuration")(
        "print-config", "print a configuration with every setting, what it means and its default, and end");
    for (const auto& [name, help, form] : node_settings_help()) {
        options.add_options()(option_name(name).c_str(), po::value<std::vector<std::string>>()->value_name(form),
                              help.c_str());
    }
    return {node_verb(), "run a node: queues on disk that outlive producers and workers", std::move(options),
            &run_node};
}

}  // namespace posthorn::nodes
