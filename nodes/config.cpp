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

#include "cli.hpp"
#include "exit_codes.hpp"
#include "transport/endpoint.hpp"
#include "units.hpp"

namespace posthorn::nodes {

namespace {

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

WhenFull parse_live_when_full(const std::string& text) {
    if (text == "block") return WhenFull::block;
    if (text == "drop_oldest") return WhenFull::drop_oldest;
    throw Error{"'" + text + "' is neither drop_oldest nor block"};
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

// What [subscription.TOPIC/NAME] has beside the settings of a queue. Of the headers each pattern is to have all or any.
struct BindingsDraft {
    std::vector<std::string> patterns;
    std::map<std::string, std::string> headers;
    bool any = false;

    [[nodiscard]] bool empty() const { return patterns.empty() && headers.empty(); }
};

// What [topic.NAME] has beside these.
struct TopicDraft {
    std::vector<std::string> subscriptions;
    BindingsDraft bindings;           // of those of them that have none of their own
    std::optional<Retention> retain;  // any of its settings makes it retained
};

std::string joined(const std::vector<std::string>& parts) {
    std::string text;
    for (const std::string& part : parts) text += (text.empty() ? "" : ", ") + part;
    return text;
}

void set_subscriptions(TopicDraft& topic, const std::string& text) {
    for (const std::string& name : split_list(text)) {
        if (!valid_queue_name(name)) throw Error{"'" + name + "' is not a name: " + name_rule};
        if (name == retained_name) throw Error{"'" + name + "' is kept for retained topics; take another name"};
        if (std::find(topic.subscriptions.begin(), topic.subscriptions.end(), name) != topic.subscriptions.end())
            throw Error{"'" + name + "' is given twice"};
        topic.subscriptions.push_back(name);
    }
}

Retention& retention_of(TopicDraft& topic) {
    return topic.retain ? *topic.retain : topic.retain.emplace();
}

void set_patterns(BindingsDraft& bindings, const std::string& text) {
    for (std::string& pattern : split_list(not_empty(text))) bindings.patterns.push_back(not_empty(pattern));
}

void set_headers(BindingsDraft& bindings, const std::string& text) {
    for (const std::string& header : split_list(not_empty(text))) {
        const auto equals = header.find('=');
        const std::string name = trimmed(std::string_view{header}.substr(0, equals));
        if (equals == std::string::npos || name.empty())
            throw Error{"'" + header + "' is not of the form KEY=VALUE; several stand with commas between them"};
        if (!bindings.headers.emplace(name, trimmed(std::string_view{header}.substr(equals + 1))).second)
            throw Error{"'" + name + "' is given twice"};
    }
}

std::string headers_of(const BindingsDraft& bindings) {
    std::vector<std::string> parts;
    for (const auto& [name, value] : bindings.headers) parts.push_back(std::string{name}.append("=").append(value));
    return joined(parts);
}

bool parse_any(const std::string& text) {
    if (text == "any") return true;
    if (text == "all") return false;
    throw Error{"'" + text + "' is neither all nor any"};
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
    {"auto_create", "on | off", "queues, topics and subscriptions appear on first use",
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
    {"request_attempts", "number, 1 or more", "how often a request may be begun; 1: never again once it may have been",
     [](QueuePolicy& p, const std::string& v) { p.request_attempts = parse_count32(v); },
     [](const QueuePolicy& p) { return std::to_string(p.request_attempts); }},
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
     "producers wait, or are refused, or the oldest are deleted, or dead-lettered; automatic: block, of a topic's "
     "subscription dead_letter",
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

constexpr auto topic_settings = std::to_array<Known<TopicDraft>>({
    {"subscriptions", "names with commas between them", "subscriptions that are there before anybody comes",
     &set_subscriptions, [](const TopicDraft& t) { return joined(t.subscriptions); }},
    {"retain_age", "duration",
     "what is published is kept so long for subscriptions that begin in the past, 0: for ever",
     [](TopicDraft& t, const std::string& v) { retention_of(t).age = parse_duration(v); },
     [](const TopicDraft& t) { return t.retain ? write_duration(t.retain->age) : std::string{}; }},
    {"retain_bytes", "size", "of that at most so much, the latest, 0: as the disk allows",
     [](TopicDraft& t, const std::string& v) { retention_of(t).bytes = parse_size(v); },
     [](const TopicDraft& t) { return t.retain ? write_size(t.retain->bytes) : std::string{}; }},
    {"retain_messages", "number", "and at most so many, 0: any number; without any of the three nothing is kept",
     [](TopicDraft& t, const std::string& v) { retention_of(t).messages = parse_count(v); },
     [](const TopicDraft& t) { return t.retain ? std::to_string(t.retain->messages) : std::string{}; }},
});

constexpr auto subscription_settings = std::to_array<Known<BindingsDraft>>({
    {"bindings", "patterns with commas between them",
     "the subjects it gets; * is one word, # any number of words; without: all", &set_patterns,
     [](const BindingsDraft& b) { return joined(b.patterns); }},
    {"headers", "KEY=VALUE with commas between them", "the headers it gets; without: whatever they are", &set_headers,
     &headers_of},
    {"headers_match", "all | any", "of these headers a message has to have all, or one",
     [](BindingsDraft& b, const std::string& v) { b.any = parse_any(v); },
     [](const BindingsDraft& b) { return std::string{b.any ? "any" : "all"}; }},
});

constexpr auto live_settings = std::to_array<Known<LivePolicy>>({
    {"max_messages", "number, 1 or more", "messages kept for one subscriber until it has taken them",
     [](LivePolicy& p, const std::string& v) { p.max_messages = parse_count(v); },
     [](const LivePolicy& p) { return std::to_string(p.max_messages); }},
    {"max_bytes", "size", "bytes of them", [](LivePolicy& p, const std::string& v) { p.max_bytes = parse_size(v); },
     [](const LivePolicy& p) { return write_size(p.max_bytes); }},
    {"when_full", "drop_oldest | block", "a slow subscriber misses the oldest and is told how many, or publishers wait",
     [](LivePolicy& p, const std::string& v) { p.when_full = parse_live_when_full(v); },
     [](const LivePolicy& p) { return std::string{when_full_names.at(static_cast<std::size_t>(p.when_full))}; }},
    {"total_bytes", "size, max_bytes or more", "bytes kept for all subscribers together",
     [](LivePolicy& p, const std::string& v) { p.total_bytes = parse_size(v); },
     [](const LivePolicy& p) { return write_size(p.total_bytes); }},
    {"last_values", "number", "subjects whose last message a new subscriber gets first, 0: none",
     [](LivePolicy& p, const std::string& v) { p.last_values = parse_count(v); },
     [](const LivePolicy& p) { return std::to_string(p.last_values); }},
    {"last_value_bytes", "size", "bytes of these messages",
     [](LivePolicy& p, const std::string& v) { p.last_value_bytes = parse_size(v); },
     [](const LivePolicy& p) { return write_size(p.last_value_bytes); }},
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
        help.append("; ").append(setting.form);
        if (const std::string value = default_of(setting); !value.empty()) help.append(" (").append(value).append(")");
        return SettingHelp{std::string{setting.name}, std::move(help), value_name(setting.form)};
    });
    return all;
}

// With the values that `target` has; `mark` stands before each of them.
template <typename Target>
std::string ini_of(std::span<const Known<Target>> known, const Target& target, std::string_view mark) {
    std::string text;
    for (const auto& setting : known) {
        text.append("\n# ").append(setting.help).append("; ").append(setting.form).append("\n");
        text.append(mark).append(setting.name).append(" = ").append(setting.get(target)).append("\n");
    }
    return text;
}

// False: there is no such setting.
template <typename Target>
bool set_one(Target& target, std::span<const Known<Target>> known, const std::string& source, const Setting& setting) {
    const std::string key = setting.name.substr(setting.name.rfind('.') + 1);
    const auto found = std::find_if(known.begin(), known.end(), [&](const auto& k) { return k.name == key; });
    if (found == known.end()) return false;
    try {
        found->set(target, setting.value);
    } catch (const Error& error) {
        refuse(source, setting.name + ": " + error.what());
    }
    return true;
}

[[noreturn]] void refuse_unknown(const std::string& source, const Setting& setting, const std::string& valid) {
    refuse(source, "unknown setting '" + setting.name + "'; valid ones are " + valid);
}

std::string queue_setting_names() {
    return names_of<QueuePolicy>(queue_settings);
}

std::string subscription_setting_names() {
    return names_of<BindingsDraft>(subscription_settings) + ", " + queue_setting_names();
}

bool is_section(const Setting& setting) {
    return setting.name.starts_with('[');
}

enum class SectionKind { every_queue, queue, topic, subscription, live };

// What a section is about.
struct Section {
    SectionKind kind;
    std::string address;
};

// Of "[queue.NAME]" or "queue.NAME.key". Names may have dots, keys have none.
Section section_of(const Setting& setting, const std::string& source) {
    const std::string path = is_section(setting)
                                 ? trimmed(std::string_view{setting.name}.substr(1, setting.name.size() - 2))
                                 : setting.name.substr(0, setting.name.rfind('.'));
    const auto dot = path.find('.');
    const std::string kind = path.substr(0, dot);
    const std::string name = dot == std::string::npos ? std::string{} : path.substr(dot + 1);
    const bool known = kind == "queue" || kind == "topic" || kind == "subscription" || kind == "live";
    if (dot == std::string::npos || !known)
        refuse(source, "unknown section '" + path +
                           "'; valid ones are [queue.NAME], [queue.*], [topic.NAME], [subscription.TOPIC/NAME] and "
                           "[live.NAME]");
    if (kind == "subscription") {
        const auto address = parse_address(name);
        if (!address || address->subscription.empty())
            refuse(source, "'" + name + "' is not a subscription: TOPIC/NAME, each of the two " + name_rule);
        if (address->subscription == retained_name)
            refuse(source,
                   "'" + name +
                       "' is kept for retained topics; retain_age, retain_bytes and retain_messages of [topic." +
                       std::string{address->topic} + "] say what is in it");
        return {SectionKind::subscription, name};
    }
    if (kind == "queue" && name == every_queue_name) return {SectionKind::every_queue, name};
    if (!valid_queue_name(name)) {
        std::string text = "'" + name + "' is not a " + kind + " name: " + name_rule;
        if (kind == "queue") text += "; [queue.*] is for every queue";
        refuse(source, text);
    }
    return {kind == "queue" ? SectionKind::queue : kind == "topic" ? SectionKind::topic : SectionKind::live, name};
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

// A # in a pattern is a word of it. The parser takes it for a comment, so it gets to see another character.
constexpr char masked_hash = '\x1f';

std::string mask_patterns(const std::string& text) {
    std::string masked;
    std::istringstream lines{text};
    for (std::string line; std::getline(lines, line); masked.append(line).append("\n")) {
        const auto equals = line.find('=');
        if (equals == std::string::npos || trimmed(std::string_view{line}.substr(0, equals)) != "bindings") continue;
        std::replace(line.begin() + static_cast<std::ptrdiff_t>(equals), line.end(), '#', masked_hash);
    }
    return masked;
}

template <typename Policy>
void check(const Policy& policy, const std::string& name, const std::string& source) {
    try {
        validate(policy);
    } catch (const Error& error) {
        refuse(source, "[" + name + "] " + error.what());
    }
}

// The settings in sections of one source. What is for more comes first, wherever it stands: every queue, then queues
// and topics, then subscriptions.
class Sections {
public:
    Sections(NodeConfig& config, std::string source) : config_(config), source_(std::move(source)) {}

    void apply(const std::vector<Setting>& settings) {
        each(settings, SectionKind::every_queue, [&](const std::string&, const Setting& one) { set_every_queue(one); });
        each(settings, SectionKind::queue, [&](const std::string& name, const Setting& one) { set_queue(name, one); });
        each(settings, SectionKind::topic, [&](const std::string& name, const Setting& one) { set_topic(name, one); });
        for (const auto& [topic, draft] : topics_) {
            for (const std::string& name : draft.subscriptions)
                bind(std::string{topic}.append("/").append(name), draft.bindings);
            if (draft.retain) retain(topic, *draft.retain);
        }
        each(settings, SectionKind::subscription,
             [&](const std::string& address, const Setting& one) { set_subscription(address, one); });
        for (const auto& [address, draft] : bindings_) {
            const auto topic = topics_.find(std::string{parse_address(address)->topic});
            bind(address, draft.empty() && topic != topics_.end() ? topic->second.bindings : draft);
        }
        each(settings, SectionKind::live, [&](const std::string& name, const Setting& one) { set_live(name, one); });
    }

private:
    template <typename Set>
    void each(const std::vector<Setting>& settings, SectionKind kind, Set set) {
        for (const Setting& setting : settings) {
            const Section section = section_of(setting, source_);
            if (section.kind == kind) set(section.address, setting);
        }
    }

    void set_every_queue(const Setting& setting) { set_policy(config_.every_queue, setting); }

    void set_queue(const std::string& name, const Setting& setting) {
        queues_.insert(name);
        set_policy(config_.queues.try_emplace(name, config_.every_queue).first->second, setting);
    }

    void set_topic(const std::string& name, const Setting& setting) {
        open_topic(name);
        QueuePolicy& policy = config_.queues.try_emplace(name, config_.every_queue).first->second;
        TopicDraft& draft = topics_[name];
        if (is_section(setting) || set_one<TopicDraft>(draft, topic_settings, source_, setting)) return;
        set_subscription_setting(policy, draft.bindings, setting, names_of<TopicDraft>(topic_settings) + ", ");
    }

    void retain(const std::string& topic, const Retention& retention) {
        try {
            validate(retention);
        } catch (const Error& error) {
            refuse(source_, "[topic." + topic + "] " + error.what());
        }
        config_.retained[topic] = retention;
    }

    void set_subscription(const std::string& address, const Setting& setting) {
        const auto [topic, name] = *parse_address(address);
        open_topic(std::string{topic})[std::string{name}];
        const auto of_topic = config_.queues.find(std::string{topic});
        const QueuePolicy& base = of_topic == config_.queues.end() ? config_.every_queue : of_topic->second;
        QueuePolicy& policy = config_.queues.try_emplace(address, base).first->second;
        BindingsDraft& draft = bindings_[address];
        if (!is_section(setting)) set_subscription_setting(policy, draft, setting, "");
    }

    void set_subscription_setting(QueuePolicy& policy, BindingsDraft& draft, const Setting& setting,
                                  const std::string& also_valid) {
        if (set_one<BindingsDraft>(draft, subscription_settings, source_, setting)) return;
        if (set_one<QueuePolicy>(policy, queue_settings, source_, setting)) return;
        refuse_unknown(source_, setting, also_valid + subscription_setting_names());
    }

    void set_live(const std::string& name, const Setting& setting) {
        if (queues_.contains(name) || config_.topics.contains(name))
            refuse(source_, "[live." + name + "] is a live topic, and other sections have " + name +
                                " as a queue or a topic; give one of them another name");
        LivePolicy& policy = config_.live[name];
        if (is_section(setting) || set_one<LivePolicy>(policy, live_settings, source_, setting)) return;
        refuse_unknown(source_, setting, names_of<LivePolicy>(live_settings));
    }

    void set_policy(QueuePolicy& policy, const Setting& setting) {
        if (is_section(setting) || set_one<QueuePolicy>(policy, queue_settings, source_, setting)) return;
        refuse_unknown(source_, setting, queue_setting_names());
    }

    NodeConfig::Subscriptions& open_topic(const std::string& name) {
        if (queues_.contains(name))
            refuse(source_, "[queue." + name + "] is a queue, and other sections have " + name +
                                " as a topic; give one of them another name");
        return config_.topics[name];
    }

    void bind(const std::string& address, const BindingsDraft& draft) {
        const auto [topic, name] = *parse_address(address);
        std::vector<Binding> bindings;
        for (const std::string& pattern : draft.patterns)
            bindings.push_back({.subject = pattern, .headers = draft.headers, .any = draft.any});
        if (bindings.empty() && !draft.headers.empty())
            bindings.push_back({.headers = draft.headers, .any = draft.any});
        try {
            validate(bindings);
        } catch (const Error& error) {
            refuse(source_, "[subscription." + address + "] " + error.what());
        }
        open_topic(std::string{topic})[std::string{name}] = std::move(bindings);
    }

    NodeConfig& config_;
    std::string source_;
    std::set<std::string> queues_;
    std::map<std::string, TopicDraft> topics_;
    std::map<std::string, BindingsDraft> bindings_;
};

std::string section_name(const NodeConfig& config, const std::string& address) {
    if (address.find('/') != std::string::npos) return "subscription." + address;
    return (config.topics.contains(address) ? "topic." : "queue.") + address;
}

}  // namespace

std::vector<Setting> read_ini(const std::string& text, const std::string& source) {
    namespace po = boost::program_options;
    std::vector<Setting> settings = section_heads(text);
    try {
        std::istringstream in{mask_patterns(text)};
        const auto parsed = po::parse_config_file(in, po::options_description{}, true);
        for (const auto& option : parsed.options) {
            std::string value = option.value.front();
            std::replace(value.begin(), value.end(), masked_hash, '#');
            settings.push_back({option.string_key, std::move(value)});
        }
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
    std::vector<Setting> in_sections;
    for (const auto& setting : settings) {
        const bool first = seen.insert(setting.name).second;
        if (!first && !is_section(setting) && setting.name != "bind")
            refuse(source, "'" + setting.name + "' is given twice");
        if (is_section(setting) || setting.name.find('.') != std::string::npos) {
            in_sections.push_back(setting);
            continue;
        }
        if (first && setting.name == "bind") config.bind.clear();
        if (!set_one<NodeConfig>(config, node_settings, source, setting))
            refuse_unknown(source, setting, names_of<NodeConfig>(node_settings));
    }
    Sections{config, source}.apply(in_sections);
    check(config.every_queue, "queue.*", source);
    for (const auto& [address, policy] : config.queues) check(policy, section_name(config, address), source);
    for (const auto& [name, policy] : config.live) check(policy, "live." + name, source);
}

std::string default_ini() {
    return "# Every setting of a posthorn node, with its default. Durations have a unit: 50ms 1s 10min 2h. Sizes too: "
           "64KiB\n"
           "# 64MiB 1GiB. What is left out has its default; the command line goes before this file. A # starts a\n"
           "# comment, but in bindings.\n" +
           ini_of<NodeConfig>(node_settings, {}, "") +
           "\n# Every queue. A section [queue.NAME] changes what it names for one queue, and makes that queue at the "
           "start.\n"
           "[queue.*]\n" +
           ini_of<QueuePolicy>(queue_settings, {}, "") +
           "\n# An example of a topic, which is there from the start. All settings above may stand in its section as "
           "well,\n"
           "# and hold for each of its subscriptions.\n"
           "#[topic.orders]\n" +
           ini_of<TopicDraft>(topic_settings,
                              {.subscriptions = {"inventory", "billing"},
                               .retain = Retention{.age = std::chrono::hours{48}, .bytes = 10ULL << 30U}},
                              "#") +
           "\n# One of its subscriptions, which is thereby there from the start too. All settings above may stand "
           "here as\n"
           "# well, and hold for this one. These may stand in the section of a topic, for those that have none.\n"
           "#[subscription.orders/billing]\n" +
           ini_of<BindingsDraft>(
               subscription_settings,
               {.patterns = {"order.*", "#.refund"}, .headers = {{"region", "eu"}, {"urgent", "yes"}}, .any = false},
               "#") +
           "\n# A live topic, which keeps nothing but for those who subscribe now. These are all its settings.\n"
           "#[live.prices]\n" +
           ini_of<LivePolicy>(live_settings, {}, "#");
}

std::vector<SettingHelp> node_settings_help() {
    return help_of<NodeConfig>(node_settings);
}

std::vector<SettingHelp> queue_settings_help() {
    return help_of<QueuePolicy>(queue_settings);
}

std::vector<SettingHelp> topic_settings_help() {
    return help_of<TopicDraft>(topic_settings);
}

std::vector<SettingHelp> live_settings_help() {
    return help_of<LivePolicy>(live_settings);
}

std::vector<SettingHelp> subscription_settings_help() {
    return help_of<BindingsDraft>(subscription_settings);
}

}  // namespace posthorn::nodes
