#include <posthorn/policy.hpp>

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include <posthorn/status.hpp>

namespace posthorn {

namespace {

// Far above any use, far below where adding it to a clock would overflow.
constexpr std::uint64_t last_values_most = 2ULL << 30U;  // they are copied together
constexpr Duration longest = std::chrono::hours{24 * 365};

constexpr std::string_view replies_suffix = ".replies";

void check_endpoint(std::string_view endpoint) {
    constexpr std::array<std::string_view, 3> transports{"tcp://", "ipc://", "inproc://"};
    const bool known = std::any_of(transports.begin(), transports.end(), [&](std::string_view transport) {
        return endpoint.starts_with(transport) && endpoint.size() > transport.size();
    });
    if (!known)
        throw Error("'" + std::string{endpoint} +
                    "' is not an endpoint: write tcp://HOST:PORT, ipc:///PATH or inproc://NAME");
}

void check_range(std::string_view field, Duration value, Duration least, Duration most, std::string_view range) {
    if (value < least || value > most)
        throw Error("queue policy: " + std::string{field} + " must be " + std::string{range});
}

void check_backoff(const Backoff& backoff) {
    switch (backoff.kind) {
        case Backoff::Kind::exponential:
            check_range("backoff.max", backoff.max, 0s, longest, "between 0 and 365 days");
            check_range("backoff.min", backoff.min, 0s, backoff.max, "between 0 and backoff.max");
            break;
        case Backoff::Kind::fixed:
            check_range("backoff.min", backoff.min, 0s, longest, "between 0 and 365 days");
            break;
        case Backoff::Kind::list:
            if (backoff.list.empty()) throw Error("queue policy: backoff.list must name at least one wait");
            for (const Duration wait : backoff.list)
                check_range("backoff.list", wait, 0s, longest, "of waits between 0 and 365 days");
            break;
    }
}

std::vector<std::string> split(std::string_view text) {
    std::vector<std::string> parts;
    for (std::size_t from = 0; from <= text.size();) {
        const std::size_t comma = std::min(text.find(',', from), text.size());
        parts.emplace_back(text.substr(from, comma - from));
        from = comma + 1;
    }
    return parts;
}

}  // namespace

Home Home::here(Here options) {
    if (options.bind.empty() && options.connect.empty())
        throw Error("here: give an endpoint to bind, or endpoints of consumers to connect to");
    if (!options.bind.empty()) check_endpoint(options.bind);
    for (const std::string& endpoint : options.connect) check_endpoint(endpoint);
    Home home;
    home.here_ = true;
    home.options_ = std::move(options);
    return home;
}

Home Home::at(std::vector<std::string> endpoints) {
    if (endpoints.empty()) throw Error("at: give the endpoint of a host, such as tcp://127.0.0.1:5757");
    for (const std::string& endpoint : endpoints) check_endpoint(endpoint);
    Home home;
    home.endpoints_ = std::move(endpoints);
    return home;
}

Home Home::parse(std::string_view text) {
    constexpr std::string_view here_prefix = "here:";
    constexpr std::string_view store_mark = "?store=";
    constexpr std::string_view at_prefix = "at:";
    if (text.starts_with(here_prefix)) {
        text.remove_prefix(here_prefix.size());
        Here options;
        if (const auto store = text.find(store_mark); store != std::string_view::npos) {
            options.store = text.substr(store + store_mark.size());
            if (options.store.empty()) throw Error("here: name a folder after ?store=, or leave that out");
            text = text.substr(0, store);
        }
        options.bind = std::string{text};
        return here(std::move(options));
    }
    if (text.starts_with(at_prefix)) text.remove_prefix(at_prefix.size());
    return at(split(text));
}

bool valid_queue_name(std::string_view name) noexcept {
    constexpr std::size_t longest_name = 200;
    constexpr std::string_view others = "._-";
    if (name.empty() || name.size() > longest_name || name.ends_with(".dlq")) return false;
    return std::all_of(name.begin(), name.end(), [&](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               others.find(c) != std::string_view::npos;
    });
}

std::string replies_of(std::string_view queue) {
    return std::string{queue}.append(replies_suffix);
}

std::string_view service_of(std::string_view topic) noexcept {
    return topic.ends_with(replies_suffix) ? topic.substr(0, topic.size() - replies_suffix.size()) : std::string_view{};
}

void validate(const QueuePolicy& policy) {
    if (policy.request_attempts < 1) throw Error("queue policy: request_attempts must be 1 or more");
    if (policy.max_attempts < 1) throw Error("queue policy: max_attempts must be 1 or more");
    check_range("lease_cap", policy.lease_cap, 1s, longest, "between 1 s and 365 days");
    check_range("lease", policy.lease, 1s, policy.lease_cap, "between 1 s and lease_cap");
    check_range("dedup_window", policy.dedup_window, 0s, longest, "between 0 and 365 days");
    check_range("max_age", policy.max_age, 0s, longest, "between 0 and 365 days");
    check_backoff(policy.backoff);
}

void validate(const LivePolicy& policy) {
    if (policy.max_messages == 0) throw Error("live policy: max_messages must be 1 or more");
    if (policy.max_bytes == 0) throw Error("live policy: max_bytes must be 1 or more");
    if (policy.last_value_bytes > last_values_most) throw Error("live policy: last_value_bytes must be 2 GiB or less");
    if (policy.total_bytes < policy.max_bytes) throw Error("live policy: total_bytes must be max_bytes or more");
    if (policy.when_full != WhenFull::drop_oldest && policy.when_full != WhenFull::block)
        throw Error("live policy: when_full is drop_oldest or block; a live topic can neither refuse nor dead-letter");
}

void validate(const Retention& retention) {
    if (retention.age < 0s || retention.age > longest) throw Error("retain.age must be between 0 and 365 days");
}

}  // namespace posthorn
