#include <posthorn/context.hpp>

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "ends.hpp"

namespace posthorn {
namespace {

TEST(Context, HasALoopThatRuns) {
    Context context;
    transport::test::Echo echo(context.loop());
    transport::test::Caller caller(context.loop());
    context.loop().bind(echo, "inproc://echo");
    context.loop().connect(caller, "inproc://echo");
    EXPECT_TRUE(caller.call("hello"));
}

TEST(Context, HandsEventsToTheHookAndTheLog) {
    std::vector<Event> events;
    std::vector<std::pair<LogLevel, std::string>> lines;
    const Context context({.on_event = [&](const Event& event) { events.push_back(event); },
                           .log = [&](LogLevel level, std::string_view line) { lines.emplace_back(level, line); }});
    context.emit({.kind = Event::Kind::dropped, .subject = "encode", .text = "not a frame", .count = 3});
    context.emit({.kind = Event::Kind::store_failed});
    ASSERT_EQ(events.size(), 2U);
    EXPECT_EQ(events[0].subject, "encode");
    EXPECT_EQ(events[0].count, 3U);
    ASSERT_EQ(lines.size(), 2U);
    EXPECT_EQ(lines[0].first, LogLevel::warning);
    EXPECT_EQ(lines[0].second, std::string(to_string(Event::Kind::dropped)) + ": encode: not a frame (3)");
    EXPECT_EQ(lines[1].first, LogLevel::error);
}

TEST(Context, SilenceIsTheDefault) {
    const Context context;
    context.emit({.kind = Event::Kind::lost});
}

}  // namespace
}  // namespace posthorn
