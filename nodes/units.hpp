// Durations and sizes as people write them: a whole number and a unit, nothing before, between or behind.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include <posthorn/time.hpp>
#include <posthorn/topic.hpp>

namespace posthorn::nodes {

// All throw posthorn::Error saying what was given and what is expected.
[[nodiscard]] Duration parse_duration(std::string_view text);             // 50ms 1s 10min 2h
[[nodiscard]] Duration parse_seconds_or_duration(std::string_view text);  // the same; a bare number is seconds
[[nodiscard]] std::uint64_t parse_size(std::string_view text);            // 512B 64KiB 64MiB 1GiB 2TiB
[[nodiscard]] std::uint64_t parse_count(std::string_view text);           // digits only

// first, last, a sequence, 2026-01-31T12:00:05Z (a blank for the T and fractions are fine), or a duration before `now`.
[[nodiscard]] From parse_from(std::string_view text, std::chrono::system_clock::time_point now);

// What the parsers read back to the same: "90s", "64MiB", "0".
[[nodiscard]] std::string write_duration(Duration duration);  // whole milliseconds
[[nodiscard]] std::string write_size(std::uint64_t bytes);

[[nodiscard]] std::string format_age(std::chrono::milliseconds age);  // two leading units: "3min 20s"
[[nodiscard]] std::string format_rate(double rate);                   // "0", "<0.1", "2.5", "1200"
[[nodiscard]] std::string format_size(std::uint64_t bytes);           // "1.5 MiB"
[[nodiscard]] std::string format_time(std::uint64_t epoch_ms);        // "2026-01-31 12:00:05Z"; 0: "-"

}  // namespace posthorn::nodes
