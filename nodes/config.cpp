#include "config.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <limits>
#include <set>
#include <span>
#include <sstream>
#include <string_view>

#include <boost/program_options.hpp>

#include "exit_codes.hpp"
#include "transport/endpoint.hpp"
#include "units.hpp"

namespace posthorn::nodes {

namespace {

constexpr std::string_view queue_prefix = "queue.";
constexpr std::string_view every_queue_name = "*";

[[noreturn]] void refuse(const std::string& source, const std::string& text) {
    throw ExitError{Exit::usage, source + ": " + text};
}

std::string trimmed(std::string_view text) {
    const auto first = text.find_first_not_of(" \t");
    if (first == std::string_view::npos) return {};
    return std::string{text.substr(first, text.find_last_not_of(" \t") - first + 1)};
}

std::vector<std::string> split_list(const std::string& text) {
    std::vector<std::string> parts;
    std::istringstream in{text};
    for (std::string part; std::getline(in, part, ',');) parts.push_back(trimmed(part));
    return parts;
}

bool parse_switch(const std::string& text) {
    if (text == "on") return true;
    if (text == "off") return false;
    throw Error{"'" + text + "' is neither on nor off"};
}

constexpr std::array<std::string_view, 4> log_levels{"debug", "info", "warning", "error"};  // as LogLevel has them

LogLevel parse_log_level(const std::string& text) {
    const auto* const found = std::find(log_levels.begin(), log_levels.end(), text);
    if (found == log_levels.end()) throw Error{"'" + text + "' is not one of debug, info, warning, error"};
    return static_cast<LogLevel>(found - log_levels.begin());
}

std::uint32_t parse_count32(const std::string& text) {
    const auto number = parse_count(text);
    if (number > std::numeric_limits<std::uint32_t>::max()) throw Error{"'" + text + "' is too large"};
    return static_cast<std::uint32_t>(number);
}

std::uint64_t parse_message_limit(const std::string& text) {
    const auto size = parse_size(text);
    if (size < 1024 || size > defaults::message_limit)
        throw Error{"'" + text + "' is out of range: 1KiB to 16MiB; larger things belong in object storage"};
    return size;
}

constexpr std::array<std::string_view, 5> when_full_names{"block", "reject", "drop_oldest", "dead_letter",
                                                          "automatic"};  // as WhenFull has them

WhenFull parse_when_full(const std::string& text) {
    const auto* const found = std::find(when_full_names.begin(), when_full_names.end(), text);
    if (found == when_full_names.end())
        throw Error{"'" + text + "' is not one of automatic, block, reject, drop_oldest, dead_letter"};
    return static_cast<WhenFull>(found - when_full_names.begin());
}

DlqWhenFull parse_dlq_when_full(const std::string& text) {
    if (text == "block") return DlqWhenFull::block;
    if (text == "drop_oldest") return DlqWhenFull::drop_oldest;
    throw Error{"'" + text + "' is neither block nor drop_oldest"};
}

void set_backoff(QueuePolicy& policy, const std::string& text) {
    if (text == "exponential" || text == "fixed") {
        policy.backoff.kind = text == "fixed" ? Backoff::Kind::fixed : Backoff::Kind::exponential;
        policy.backoff.list.clear();
        return;
    }
    std::vector<Duration> list;
    try {
        for (const auto& part : split_list(text)) list.push_back(parse_duration(part));
    } catch (const Error& error) {
        throw Error{std::string{error.what()} + "; backoff is exponential, fixed, or a list such as 1s,10s,1min"};
    }
    if (list.empty()) throw Error{"is empty; backoff is exponential, fixed, or a list such as 1s,10s,1min"};
    policy.backoff.kind = Backoff::Kind::list;
    policy.backoff.list = std::move(list);
}

std::string not_empty(const std::string& value) {
    if (value.empty()) throw Error{"is empty"};
    return value;
}

std::string backoff_of(const QueuePolicy& policy) {
    std::string list;
    for (const Duration wait : policy.backoff.list) list += (list.empty() ? "" : ",") + write_duration(wait);
    if (policy.backoff.kind == Backoff::Kind::list) return list;
    return policy.backoff.kind == Backoff::Kind::fixed ? "fixed" : "exponential";
}

// All there is to know of a setting. Defaults stand in the structs and nowhere else: help and --print-config get them.
template <typename Target>
struct Known {
    std::string_view name;
    std::string_view form;  // what values look like
    std::string_view help;
    void (*set)(Target&, const std::string& value);  // throws Error
    std::string (*get)(const Target&);               // as an INI file has it
};

constexpr auto node_settings = std::to_array<Known<NodeConfig>>({
    {"bind", "endpoint, several allowed", "where to listen",
     [](NodeConfig& c, const std::string& v) {
         transport::check_endpoint(v, transport::Use::bind);
         c.bind.push_back(v);
     },
     [](const NodeConfig& c) { return c.bind.front(); }},
    {"data", "folder", "where the store is", [](NodeConfig& c, const std::string& v) { c.data = not_empty(v); },
     [](const NodeConfig& c) { return c.data.string(); }},
    {"auto_create", "on | off", "queues appear on first use",
     [](NodeConfig& c, const std::string& v) { c.auto_create = parse_switch(v); },
     [](const NodeConfig& c) { return std::string{c.auto_create ? "on" : "off"}; }},
    {"min_free", "size", "disk space that publishing leaves free, so that a full node drains",
     [](NodeConfig& c, const std::string& v) { c.min_free = parse_size(v); },
     [](const NodeConfig& c) { return write_size(c.min_free); }},
    {"message_limit", "size, 1KiB to 16MiB", "largest message taken",
     [](NodeConfig& c, const std::string& v) { c.message_limit = parse_message_limit(v); },
     [](const NodeConfig& c) { return write_size(c.message_limit); }},
    {"log_level", "debug | info | warning | error", "what is said on standard error",
     [](NodeConfig& c, const std::string& v) { c.log_level = parse_log_level(v); },
     [](const NodeConfig& c) { return std::string{log_levels[static_cast<std::size_t>(c.log_level)]}; }},
});

constexpr auto queue_settings = std::to_array<Known<QueuePolicy>>({
    {"max_attempts", "number, 1 or more", "attempts before a message is dead-lettered",
     [](QueuePolicy& p, const std::string& v) { p.max_attempts = parse_count32(v); },
     [](const QueuePolicy& p) { return std::to_string(p.max_attempts); }},
    {"backoff", "exponential | fixed | a list such as 1s,10s,1min", "wait between attempts", &set_backoff, &backoff_of},
    {"backoff_min", "duration", "first wait of exponential, the wait of fixed",
     [](QueuePolicy& p, const std::string& v) { p.backoff.min = parse_duration(v); },
     [](const QueuePolicy& p) { return write_duration(p.backoff.min); }},
    {"backoff_max", "duration", "longest wait of exponential",
     [](QueuePolicy& p, const std::string& v) { p.backoff.max = parse_duration(v); },
     [](const QueuePolicy& p) { return write_duration(p.backoff.max); }},
    {"storm_after", "number", "failures with no ack between them after which messages go out one at a time, 0: never",
     [](QueuePolicy& p, const std::string& v) { p.storm_after = parse_count32(v); },
     [](const QueuePolicy& p) { return std::to_string(p.storm_after); }},
    {"lease", "duration", "a worker not heard for so long loses its messages",
     [](QueuePolicy& p, const std::string& v) { p.lease = parse_duration(v); },
     [](const QueuePolicy& p) { return write_duration(p.lease); }},
    {"lease_cap", "duration", "longest time a worker may hold one message",
     [](QueuePolicy& p, const std::string& v) { p.lease_cap = parse_duration(v); },
     [](const QueuePolicy& p) { return write_duration(p.lease_cap); }},
    {"max_messages", "number", "messages kept, 0: as the disk allows",
     [](QueuePolicy& p, const std::string& v) { p.max_messages = parse_count(v); },
     [](const QueuePolicy& p) { return std::to_string(p.max_messages); }},
    {"max_bytes", "size", "bytes of messages kept, 0: as the disk allows",
     [](QueuePolicy& p, const std::string& v) { p.max_bytes = parse_size(v); },
     [](const QueuePolicy& p) { return write_size(p.max_bytes); }},
    {"when_full", "automatic | block | reject | drop_oldest | dead_letter",
     "producers wait, or are refused, or the oldest messages are deleted, or dead-lettered; automatic: block, in "
     "subscriptions of topics dead_letter",
     [](QueuePolicy& p, const std::string& v) { p.when_full = parse_when_full(v); },
     [](const QueuePolicy& p) { return std::string{when_full_names.at(static_cast<std::size_t>(p.when_full))}; }},
    {"max_age", "duration", "messages older than that expire, or are deleted by drop_oldest, 0s: none does",
     [](QueuePolicy& p, const std::string& v) { p.max_age = parse_duration(v); },
     [](const QueuePolicy& p) { return write_duration(p.max_age); }},
    {"dlq_max_messages", "number", "dead letters kept, 0: as the disk allows",
     [](QueuePolicy& p, const std::string& v) { p.dlq_max_messages = parse_count(v); },
     [](const QueuePolicy& p) { return std::to_string(p.dlq_max_messages); }},
    {"dlq_max_bytes", "size", "bytes of dead letters kept, 0: as the disk allows",
     [](QueuePolicy& p, const std::string& v) { p.dlq_max_bytes = parse_size(v); },
     [](const QueuePolicy& p) { return write_size(p.dlq_max_bytes); }},
    {"dlq_when_full", "block | drop_oldest", "deliveries pause until there is room, or the oldest dead letters go",
     [](QueuePolicy& p, const std::string& v) { p.dlq_when_full = parse_dlq_when_full(v); },
     [](const QueuePolicy& p) { return std::string{p.dlq_when_full == DlqWhenFull::block ? "block" : "drop_oldest"}; }},
    {"dedup_window", "duration", "a dedup key accepted so short ago is not taken again, 0s: keys are not looked at",
     [](QueuePolicy& p, const std::string& v) { p.dedup_window = parse_duration(v); },
     [](const QueuePolicy& p) { return write_duration(p.dedup_window); }},
    {"strict_order", "on | off",
     "one consumer at a time, in strict order; a receiver that asks for it needs no setting",
     [](QueuePolicy& p, const std::string& v) { p.strict_order = parse_switch(v); },
     [](const QueuePolicy& p) { return std::string{p.strict_order ? "on" : "off"}; }},
    {"retry_aside", "on | off", "of a queue in strict order: failed messages wait aside and hold up no others",
     [](QueuePolicy& p, const std::string& v) { p.retry_aside = parse_switch(v); },
     [](const QueuePolicy& p) { return std::string{p.retry_aside ? "on" : "off"}; }},
});

template <typename Target>
std::string default_of(const Known<Target>& setting) {
    const Target untouched;
    return setting.get(untouched);
}

template <typename Target>
std::string names_of(std::span<const Known<Target>> known) {
    std::string names;
    for (const auto& setting : known) {
        if (!names.empty()) names += ", ";
        names += setting.name;
    }
    return names;
}

// "SIZE" of "size, 1KiB to 16MiB", "on|off" of "on | off".
std::string value_name(std::string_view form) {
    std::string name{form.substr(0, form.find(','))};
    if (form.find('|') != std::string_view::npos) {
        name.erase(std::remove(name.begin(), name.end(), ' '), name.end());
    } else {
        std::transform(name.begin(), name.end(), name.begin(), [](char c) { return c >= 'a' ? c - 'a' + 'A' : c; });
    }
    return name;
}

template <typename Target>
std::vector<SettingHelp> help_of(std::span<const Known<Target>> known) {
    std::vector<SettingHelp> all(known.size());
    std::transform(known.begin(), known.end(), all.begin(), [](const auto& setting) {
        std::string help{setting.help};
        help.append("; ").append(setting.form).append(" (").append(default_of(setting)).append(")");
        return SettingHelp{std::string{setting.name}, std::move(help), value_name(setting.form)};
    });
    return all;
}

template <typename Target>
std::string ini_of(std::span<const Known<Target>> known) {
    std::string text;
    for (const auto& setting : known) {
        text.append("\n# ").append(setting.help).append("; ").append(setting.form).append("\n");
        text.append(setting.name).append(" = ").append(default_of(setting)).append("\n");
    }
    return text;
}

template <typename Target>
void set_one(Target& target, std::span<const Known<Target>> known, const std::string& source,
             const std::string& full_name, std::string_view key, const std::string& value) {
    const auto found = std::find_if(known.begin(), known.end(), [&](const auto& k) { return k.name == key; });
    if (found == known.end()) refuse(source, "unknown setting '" + full_name + "'; valid ones are " + names_of(known));
    try {
        found->set(target, value);
    } catch (const Error& error) {
        refuse(source, full_name + ": " + error.what());
    }
}

bool is_section(const Setting& setting) {
    return setting.name.starts_with('[');
}

// The queue that "[queue.NAME]" or "queue.NAME.key" is about. Names may have dots, keys have none.
std::string queue_of(const Setting& setting, const std::string& source) {
    const std::string path = is_section(setting)
                                 ? trimmed(std::string_view{setting.name}.substr(1, setting.name.size() - 2))
                                 : setting.name.substr(0, setting.name.rfind('.'));
    if (!path.starts_with(queue_prefix))
        refuse(source, "unknown section '" + path + "'; valid ones are [queue.NAME] and [queue.*]");
    std::string queue = path.substr(queue_prefix.size());
    if (queue != every_queue_name && !valid_queue_name(queue))
        refuse(source, "'" + queue +
                           "' is not a queue name: 1 to 200 of A-Z a-z 0-9 . _ - and not ending in .dlq; "
                           "[queue.*] is for every queue");
    return queue;
}

// The heads come first, so that a section without settings counts as well and every name has been checked.
std::vector<Setting> section_heads(const std::string& text) {
    std::vector<Setting> heads;
    std::istringstream lines{text};
    for (std::string line; std::getline(lines, line);) {
        line = trimmed(std::string_view{line}.substr(0, line.find_first_of("#\r")));
        if (line.starts_with('[') && line.ends_with(']')) heads.push_back({line, {}});
    }
    return heads;
}

void apply_to_queues(NodeConfig& config, const std::vector<Setting>& settings, bool every, const std::string& source) {
    for (const auto& setting : settings) {
        const std::string queue = queue_of(setting, source);
        if ((queue == every_queue_name) != every) continue;
        QueuePolicy& policy =
            every ? config.every_queue : config.queues.try_emplace(queue, config.every_queue).first->second;
        if (is_section(setting)) continue;
        const std::string key = setting.name.substr(setting.name.rfind('.') + 1);
        set_one<QueuePolicy>(policy, queue_settings, source, setting.name, key, setting.value);
    }
}

void check(const QueuePolicy& policy, const std::string& name, const std::string& source) {
    try {
        validate(policy);
    } catch (const Error& error) {
        refuse(source, "[queue." + name + "] " + error.what());
    }
}

}  // namespace

std::vector<Setting> read_ini(const std::string& text, const std::string& source) {
    namespace po = boost::program_options;
    std::vector<Setting> settings = section_heads(text);
    try {
        std::istringstream in{text};
        const auto parsed = po::parse_config_file(in, po::options_description{}, true);
        for (const auto& option : parsed.options) settings.push_back({option.string_key, option.value.front()});
    } catch (const po::error& error) {
        refuse(source, error.what());
    }
    return settings;
}

std::vector<Setting> read_ini_file(const std::filesystem::path& path) {
    std::ifstream in{path};
    std::ostringstream text;
    // A folder can be opened but not read; an empty file has nothing to copy, which is no failure.
    if (!in || (in.peek() != std::ifstream::traits_type::eof() && !(text << in.rdbuf())) || in.bad()) {
        const std::string reason = std::filesystem::is_directory(path) ? "it is a folder" : std::strerror(errno);
        throw ExitError{Exit::usage, "cannot read the configuration " + path.string() + ": " + reason};
    }
    return read_ini(text.str(), path.string());
}

void apply(NodeConfig& config, const std::vector<Setting>& settings, const std::string& source) {
    std::set<std::string> seen;
    std::vector<Setting> of_queues;
    for (const auto& setting : settings) {
        const bool first = seen.insert(setting.name).second;
        if (!first && !is_section(setting) && setting.name != "bind")
            refuse(source, "'" + setting.name + "' is given twice");
        if (is_section(setting) || setting.name.find('.') != std::string::npos) {
            of_queues.push_back(setting);
            continue;
        }
        if (first && setting.name == "bind") config.bind.clear();
        set_one<NodeConfig>(config, node_settings, source, setting.name, setting.name, setting.value);
    }
    // First what is for every queue, wherever it stands.
    apply_to_queues(config, of_queues, true, source);
    apply_to_queues(config, of_queues, false, source);
    check(config.every_queue, std::string{every_queue_name}, source);
    for (const auto& [name, policy] : config.queues) check(policy, name, source);
}

std::string default_ini() {
    return "# Every setting of a posthorn node, with its default. Durations have a unit: 50ms 1s 10min 2h. Sizes too: "
           "64KiB\n"
           "# 64MiB 1GiB. What is left out has its default; the command line goes before this file.\n" +
           ini_of<NodeConfig>(node_settings) +
           "\n# Every queue. A section [queue.NAME] changes what it names for one queue, and makes that queue at the "
           "start.\n"
           "[queue.*]\n" +
           ini_of<QueuePolicy>(queue_settings);
}

std::vector<SettingHelp> node_settings_help() {
    return help_of<NodeConfig>(node_settings);
}

std::vector<SettingHelp> queue_settings_help() {
    return help_of<QueuePolicy>(queue_settings);
}

}  // namespace posthorn::nodes
