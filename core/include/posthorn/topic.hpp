// Which messages of a topic a subscription gets. Plain values; everything here is thread-safe.
//
// Subjects and their patterns are those of AMQP 0-9-1's topic exchange; a binding with headers is its headers exchange.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace posthorn {

// Which messages a subscription gets: those that at least one of its bindings matches. To match, a message needs a
// subject of the pattern and, where headers are given, all of them with these values, or with `any` at least one.
struct Binding {
    std::string subject = "#";  // dotted words; `*` stands for one word, `#` for any number of them, none included
    std::map<std::string, std::string> headers{};
    bool any = false;
    bool operator==(const Binding&) const = default;
};

inline constexpr std::size_t bindings_limit = 64;  // of one subscription
inline constexpr std::size_t pattern_limit = 255;  // bytes, as AMQP has it; all of this bounds what a match costs
inline constexpr std::size_t binding_headers_limit = 64;  // of one binding

// Whether the subject is of the pattern. Time: at most (words of the pattern) x (words of the subject).
[[nodiscard]] bool matches_subject(std::string_view pattern, std::string_view subject) noexcept;
// Throws Error naming what is beyond its limit.
void validate(const std::vector<Binding>& bindings);

// Where a new subscription of a retained topic begins (Here::retain, retain_... of a node's topic): with what is still
// kept of it, and goes on with what is published, without a gap or a double in between.
struct From {
    enum class What : std::uint8_t { sequence, time, last };
    What what = What::sequence;
    std::uint64_t number = 0;  // time: ms since the Unix epoch

    static From first() noexcept { return {}; }  // with the oldest
    // With the last so many of the topic, whether the bindings match them or not; 0 is taken for 1.
    static From last(std::uint64_t messages = 1) noexcept { return {What::last, messages}; }
    static From sequence(std::uint64_t number) noexcept { return {What::sequence, number}; }  // Delivery::sequence()
    // With what the host accepted then or later, by its clock.
    static From time(std::chrono::system_clock::time_point at) noexcept {
        const auto ms = std::chrono::ceil<std::chrono::milliseconds>(at.time_since_epoch()).count();
        return {What::time, static_cast<std::uint64_t>(std::max<std::int64_t>(0, ms))};
    }
    bool operator==(const From&) const = default;
};

// The name of the subscription under which a host keeps what a retained topic retains; nobody else's.
inline constexpr std::string_view retained_name = ".retained";

// "orders" and "inventory" of the address "orders/inventory"; the second is empty for a queue's or a topic's name.
struct Address {
    std::string_view topic;
    std::string_view subscription;
};
// Nothing: a name in it is not valid.
[[nodiscard]] std::optional<Address> parse_address(std::string_view address) noexcept;

}  // namespace posthorn
