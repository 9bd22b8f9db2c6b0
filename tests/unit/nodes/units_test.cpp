#include "units.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <posthorn/status.hpp>

namespace posthorn::nodes {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(Units, DurationsAreAWholeNumberAndAUnit) {
    EXPECT_EQ(parse_duration("50ms"), 50ms);
    EXPECT_EQ(parse_duration("1s"), 1s);
    EXPECT_EQ(parse_duration("10min"), 10min);
    EXPECT_EQ(parse_duration("2h"), 2h);
    EXPECT_EQ(parse_duration("0"), 0s);
}

TEST(Units, WhatIsWrittenIsReadBackInItsLargestWholeUnit) {
    EXPECT_EQ(write_duration(0s), "0");
    EXPECT_EQ(write_duration(50ms), "50ms");
    EXPECT_EQ(write_duration(90s), "90s");
    EXPECT_EQ(write_duration(120s), "2min");
    EXPECT_EQ(write_duration(12h), "12h");
    EXPECT_EQ(write_size(0), "0");
    EXPECT_EQ(write_size(1000), "1000B");
    EXPECT_EQ(write_size(64ULL << 20U), "64MiB");
    EXPECT_EQ(write_size(1ULL << 40U), "1TiB");
}

TEST(Units, WhatIsNoDurationIsRefusedWithTheWayToWriteOne) {
    for (const char* text :
         {"", "s", "1", "1m", "1 s", " 1s", "1s ", "-1s", "+1s", "1.5s", "0x1s", "1S", "1sec", "1s2"}) {
        EXPECT_THAT([&] { static_cast<void>(parse_duration(text)); },
                    ThrowsMessage<Error>(HasSubstr("50ms, 1s, 10min, 2h")))
            << text;
    }
}

TEST(Units, DurationsDoNotOverflow) {
    EXPECT_EQ(parse_duration("2562047h"), std::chrono::hours{2562047});  // the most that nanoseconds hold
    for (const char* text :
         {"2562048h", "18446744073709551615ms", "18446744073709551616s", "99999999999999999999999h"}) {
        EXPECT_THAT([&] { static_cast<void>(parse_duration(text)); }, ThrowsMessage<Error>(HasSubstr("too large")))
            << text;
    }
}

TEST(Units, BareNumbersAreSecondsWhereThatIsSaid) {
    EXPECT_EQ(parse_seconds_or_duration("5"), 5s);
    EXPECT_EQ(parse_seconds_or_duration("500ms"), 500ms);
    EXPECT_THROW(static_cast<void>(parse_seconds_or_duration("5 ")), Error);
    EXPECT_THROW(static_cast<void>(parse_seconds_or_duration("-5")), Error);
}

TEST(Units, SizesAreAWholeNumberAndABinaryUnit) {
    EXPECT_EQ(parse_size("512B"), 512U);
    EXPECT_EQ(parse_size("64KiB"), 64U * 1024);
    EXPECT_EQ(parse_size("64MiB"), 64U * 1024 * 1024);
    EXPECT_EQ(parse_size("1GiB"), 1024ULL * 1024 * 1024);
    EXPECT_EQ(parse_size("2TiB"), 2ULL << 40U);
    EXPECT_EQ(parse_size("0"), 0U);
    for (const char* text : {"", "1", "1K", "1MB", "1kib", "-1B", "1.5MiB", "16777216TiB", "18446744073709551616B"})
        EXPECT_THROW(static_cast<void>(parse_size(text)), Error) << text;
}

TEST(Units, CountsAreDigitsOnly) {
    EXPECT_EQ(parse_count("0"), 0U);
    EXPECT_EQ(parse_count("18446744073709551615"), UINT64_MAX);
    for (const char* text : {"", "-1", "+1", "1 ", " 1", "1k", "0x10", "18446744073709551616"})
        EXPECT_THROW(static_cast<void>(parse_count(text)), Error) << text;
}

TEST(Units, PlacesInARetainedTopic) {
    using std::chrono::sys_days;
    using std::chrono::system_clock;
    const system_clock::time_point now = sys_days{std::chrono::year{2026} / 1 / 31} + 12h;
    EXPECT_EQ(parse_from("first", now), From::first());
    EXPECT_EQ(parse_from("last", now), From::last());
    EXPECT_EQ(parse_from("18446744073709551615", now), From::sequence(UINT64_MAX));
    EXPECT_EQ(parse_from("2h", now), From::time(now - 2h));
    EXPECT_EQ(parse_from("2026-01-31T12:00:05Z", now), From::time(now + 5s));
    EXPECT_EQ(parse_from("2026-01-31 12:00:05.25Z", now), From::time(now + 5250ms));
    for (const char* text :
         {"", "-1", "2x", "lasts", "2026-01-31", "2026-02-30T12:00:05Z", "2026-01-31T24:00:00Z", "2026-01-31T12:00:05",
          "2026-01-31T12:00:05.Z", "2026-01-31T12:00:05+01:00", "9999-01-31T12:00:05Z"}) {
        EXPECT_THROW(static_cast<void>(parse_from(text, now)), Error) << text;
    }
}

TEST(Units, PeopleReadAgesSizesAndTimes) {
    EXPECT_EQ(format_age(999ms), "999ms");
    EXPECT_EQ(format_age(59s), "59s");
    EXPECT_EQ(format_age(200s), "3min 20s");
    EXPECT_EQ(format_age(2h + 5min), "2h 5min");
    EXPECT_EQ(format_rate(0), "0");
    EXPECT_EQ(format_rate(0.04), "<0.1");
    EXPECT_EQ(format_rate(2.54), "2.5");
    EXPECT_EQ(format_rate(1234.6), "1235");
    EXPECT_EQ(format_size(1023), "1023 B");
    EXPECT_EQ(format_size(1536), "1.5 KiB");
    EXPECT_EQ(format_size(UINT64_MAX), "16.0 EiB");
    EXPECT_EQ(format_time(0), "-");
    EXPECT_EQ(format_time(1'000'000'000'000), "2001-09-09 01:46:40Z");
    EXPECT_EQ(format_time(UINT64_MAX), "584556019-04-03 14:25:51Z");
}

}  // namespace
}  // namespace posthorn::nodes
