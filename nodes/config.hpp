// The node's configuration: command line over INI file over defaults. A setting that is unknown, given twice or
// invalid is refused by name, with what is valid.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <posthorn/event.hpp>
#include <posthorn/policy.hpp>

namespace posthorn::nodes {

struct NodeConfig {
    std::vector<std::string> bind{"tcp://127.0.0.1:" + std::to_string(defaults::port)};
    std::filesystem::path data{"./posthorn-data"};
    bool auto_create = true;                      // queues appear on first use
    std::uint64_t min_free = defaults::min_free;  // bytes of disk kept for settlements
    std::uint64_t message_limit = defaults::message_limit;
    LogLevel log_level = LogLevel::info;
    QueuePolicy every_queue;  // [queue.*]
    // By address: [queue.NAME] and [topic.NAME] on top of [queue.*], [subscription.TOPIC/NAME] on top of its topic's.
    std::map<std::string, QueuePolicy> queues;
    using Subscriptions = std::map<std::string, std::vector<Binding>>;  // by name
    std::map<std::string, Subscriptions> topics;
    std::map<std::string, LivePolicy> live;     // [live.NAME]
    std::map<std::string, Retention> retained;  // those of the topics that are
    bool operator==(const NodeConfig&) const = default;
};

struct Setting {
    std::string name;  // of the node: "min_free"; in a section: "queue.NAME.lease"; a section's head: "[queue.NAME]"
    std::string value;
};

// The settings of an INI file, heads of sections first. Throws ExitError (usage) naming `source`.
[[nodiscard]] std::vector<Setting> read_ini(const std::string& text, const std::string& source);
[[nodiscard]] std::vector<Setting> read_ini_file(const std::filesystem::path& path);

// Puts settings of one source into `config`; those given replace what was there. Throws ExitError (usage).
void apply(NodeConfig& config, const std::vector<Setting>& settings, const std::string& source);

// An INI file of all settings, each with what it means and its default.
[[nodiscard]] std::string default_ini();

struct SettingHelp {
    std::string name;
    std::string help;   // with the form of its values, and the default, if there is one, in brackets
    std::string value;  // for a command line: "SIZE", "on|off"
};

[[nodiscard]] std::vector<SettingHelp> node_settings_help();
[[nodiscard]] std::vector<SettingHelp> queue_settings_help();
[[nodiscard]] std::vector<SettingHelp> topic_settings_help();         // beside those of queues
[[nodiscard]] std::vector<SettingHelp> subscription_settings_help();  // beside those of queues
[[nodiscard]] std::vector<SettingHelp> live_settings_help();          // all there are

}  // namespace posthorn::nodes
