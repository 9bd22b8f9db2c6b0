#include "units.hpp"

#include <array>
#include <charconv>
#include <cstdio>
#include <ctime>
#include <limits>
#include <optional>
#include <span>

#include <posthorn/status.hpp>

namespace posthorn::nodes {

namespace {

struct Unit {
    std::string_view name;
    std::uint64_t factor;
};

constexpr std::array duration_units = {
    Unit{"ms", 1'000'000},
    Unit{"s", 1'000'000'000},
    Unit{"min", 60 * 1'000'000'000ULL},
    Unit{"h", 3600 * 1'000'000'000ULL},
};
constexpr std::array size_units = {
    Unit{"B", 1},
    Unit{"KiB", 1ULL << 10U},
    Unit{"MiB", 1ULL << 20U},
    Unit{"GiB", 1ULL << 30U},
    Unit{"TiB", 1ULL << 40U},
};
constexpr std::string_view duration_hint = "a duration is a whole number with a unit, as in 50ms, 1s, 10min, 2h";
constexpr std::string_view size_hint = "a size is a whole number with a unit, as in 512B, 64KiB, 64MiB, 1GiB, 2TiB";

[[noreturn]] void refuse(std::string_view text, std::string_view problem, std::string_view hint) {
    throw Error{"'" + std::string{text} + "' " + std::string{problem} + "; " + std::string{hint}};
}

// The number times its unit, at most `limit`. `bare`: the factor of a number without unit, 0: it
// needs one, unless it is zero.
std::uint64_t parse(std::string_view text, std::span<const Unit> units, std::uint64_t limit, std::string_view hint,
                    std::uint64_t bare) {
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error == std::errc::result_out_of_range) refuse(text, "is too large", hint);
    if (error != std::errc{}) refuse(text, "is not understood", hint);
    const std::string_view name = text.substr(static_cast<std::size_t>(end - text.data()));
    if (name.empty() && number == 0) return 0;
    std::uint64_t factor = name.empty() ? bare : 0;
    for (const Unit& unit : units) {
        if (unit.name == name) factor = unit.factor;
    }
    if (factor == 0) refuse(text, name.empty() ? "lacks its unit" : "is not understood", hint);
    if (number > limit / factor) refuse(text, "is too large", hint);
    return number * factor;
}

Duration to_duration(std::string_view text, std::uint64_t bare, std::string_view hint) {
    constexpr auto limit = static_cast<std::uint64_t>(std::numeric_limits<Duration::rep>::max());
    return Duration{static_cast<Duration::rep>(parse(text, duration_units, limit, hint, bare))};
}

// In the largest unit of which it is a whole number.
std::string write(std::uint64_t number, std::span<const Unit> units) {
    if (number == 0) return "0";
    const Unit* best = &units.front();
    for (const Unit& unit : units) {
        if (number % unit.factor == 0) best = &unit;
    }
    return std::to_string(number / best->factor) + std::string{best->name};
}

}  // namespace

std::string write_duration(Duration duration) {
    return write(static_cast<std::uint64_t>(duration.count()), duration_units);
}

std::string write_size(std::uint64_t bytes) {
    return write(bytes, size_units);
}

Duration parse_duration(std::string_view text) {
    return to_duration(text, 0, duration_hint);
}

Duration parse_seconds_or_duration(std::string_view text) {
    return to_duration(text, 1'000'000'000, "give seconds, or a whole number with a unit, as in 30, 500ms, 10min, 2h");
}

std::uint64_t parse_size(std::string_view text) {
    return parse(text, size_units, std::numeric_limits<std::uint64_t>::max(), size_hint, 0);
}

std::uint64_t parse_count(std::string_view text) {
    std::uint64_t number = 0;
    const char* const stop = text.data() + text.size();
    const auto [end, error] = std::from_chars(text.data(), stop, number);
    if (error == std::errc::result_out_of_range) refuse(text, "is too large", "a whole number is expected");
    if (error != std::errc{} || end != stop) refuse(text, "is not understood", "a whole number is expected");
    return number;
}

namespace {

// RFC 3339, UTC. Nothing: it is no such time.
std::optional<std::chrono::system_clock::time_point> parse_time(std::string_view text) {
    constexpr std::string_view form = "0000-00-00T00:00:00";
    if (text.size() <= form.size() || text.back() != 'Z') return std::nullopt;
    std::array<int, 6> parts{};
    std::size_t part = 0;
    for (std::size_t i = 0; i < form.size(); ++i) {
        const bool digit = text[i] >= '0' && text[i] <= '9';
        if (form[i] == '0' ? !digit : text[i] != form[i] && !(form[i] == 'T' && text[i] == ' ')) return std::nullopt;
        if (digit) {
            parts.at(part) = parts.at(part) * 10 + (text[i] - '0');
        } else {
            ++part;
        }
    }
    const auto [year, month, day, hours, minutes, seconds] = parts;
    const std::chrono::year_month_day date{std::chrono::year{year}, std::chrono::month{static_cast<unsigned>(month)},
                                           std::chrono::day{static_cast<unsigned>(day)}};
    const bool is_known = year >= 1970 && year <= 2261;  // to the system's clock
    if (!is_known || !date.ok() || hours > 23 || minutes > 59 || seconds > 60) return std::nullopt;
    std::chrono::milliseconds fraction{};
    if (text = text.substr(form.size()); text != "Z") {
        if (text.size() < 3 || text.front() != '.') return std::nullopt;
        std::chrono::milliseconds worth{100};
        for (const char c : text.substr(1, text.size() - 2)) {
            if (c < '0' || c > '9') return std::nullopt;
            fraction += (c - '0') * worth;
            worth /= 10;
        }
    }
    return std::chrono::sys_days{date} + std::chrono::hours{hours} + std::chrono::minutes{minutes} +
           std::chrono::seconds{seconds} + fraction;
}

}  // namespace

From parse_from(std::string_view text, std::chrono::system_clock::time_point now) {
    if (text == "first") return From::first();
    if (text == "last") return From::last();
    if (const auto time = parse_time(text)) return From::time(*time);
    constexpr std::string_view hint =
        "give first, last, a sequence, a time as 2026-01-31T12:00:05Z, or how long ago, as 10min or 2h";
    if (!text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos)
        return From::sequence(parse(text, {}, std::numeric_limits<std::uint64_t>::max(), hint, 1));
    const Duration ago = to_duration(text, 0, hint);
    return From::time(now - std::chrono::duration_cast<std::chrono::system_clock::duration>(ago));
}

std::string format_age(std::chrono::milliseconds age) {
    const auto ms = age.count();
    if (ms < 1000) return std::to_string(ms) + "ms";
    const auto seconds = ms / 1000;
    if (seconds < 60) return std::to_string(seconds) + "s";
    if (seconds < 3600) return std::to_string(seconds / 60) + "min " + std::to_string(seconds % 60) + "s";
    return std::to_string(seconds / 3600) + "h " + std::to_string(seconds / 60 % 60) + "min";
}

std::string format_rate(double rate) {
    constexpr double least_shown = 0.1;
    constexpr double least_whole = 10;
    if (rate == 0) return "0";
    if (rate < least_shown) return "<0.1";
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%.*f", rate < least_whole ? 1 : 0, rate);
    return text.data();
}

std::string format_size(std::uint64_t bytes) {
    if (bytes < 1024) return std::to_string(bytes) + " B";
    constexpr std::array names = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    auto value = static_cast<double>(bytes) / 1024;
    std::size_t unit = 0;
    while (value >= 1024 && unit + 1 < names.size()) {
        value /= 1024;
        ++unit;
    }
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%.1f %s", value, names[unit]);
    return text.data();
}

std::string format_time(std::uint64_t epoch_ms) {
    if (epoch_ms == 0) return "-";
    const auto seconds = static_cast<std::time_t>(epoch_ms / 1000);
    std::tm parts{};
    std::array<char, 40> text{};
    ::gmtime_r(&seconds, &parts);
    const auto size = std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%SZ", &parts);
    return {text.data(), size};
}

}  // namespace posthorn::nodes
