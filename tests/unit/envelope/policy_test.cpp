#include <posthorn/policy.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include <posthorn/event.hpp>
#include <posthorn/status.hpp>

namespace posthorn {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

template <class Call>
std::string error_of(Call&& call) {
    try {
        call();
    } catch (const Error& error) {
        return error.what();
    }
    return "";
}

TEST(QueueName, FollowsTheRule) {
    EXPECT_TRUE(valid_queue_name("encode"));
    EXPECT_TRUE(valid_queue_name("Az09._-"));
    EXPECT_TRUE(valid_queue_name(std::string(200, 'q')));
    EXPECT_FALSE(valid_queue_name(""));
    EXPECT_FALSE(valid_queue_name(std::string(201, 'q')));
    EXPECT_FALSE(valid_queue_name("encode.dlq"));
    EXPECT_TRUE(valid_queue_name("encode.dlq2"));
    for (const char* name : {"a b", "a/b", "a\n", "größe", "a*"}) EXPECT_FALSE(valid_queue_name(name)) << name;
    EXPECT_FALSE(valid_queue_name(std::string_view("a\0b", 3)));
}

TEST(HomeParse, ReadsWhatConfigurationSays) {
    const Home node = Home::parse("tcp://127.0.0.1:5757");
    EXPECT_FALSE(node.is_here());
    EXPECT_THAT(node.endpoints(), ElementsAre("tcp://127.0.0.1:5757"));
    EXPECT_THAT(Home::parse("at:tcp://a:1,ipc:///b").endpoints(), ElementsAre("tcp://a:1", "ipc:///b"));

    const Home own = Home::parse("here:tcp://127.0.0.1:*");
    EXPECT_TRUE(own.is_here());
    EXPECT_EQ(own.options().bind, "tcp://127.0.0.1:*");
    EXPECT_TRUE(own.endpoints().empty());
    EXPECT_TRUE(own.options().store.empty());

    const Home spooled = Home::parse("here:tcp://127.0.0.1:*?store=./a folder?");
    EXPECT_EQ(spooled.options().bind, "tcp://127.0.0.1:*");
    EXPECT_EQ(spooled.options().store, "./a folder?");
}

TEST(HomeParse, NamesWhatItCannotRead) {
    for (const char* text : {"", "at:", "here:", "here:?store=x", "here:tcp://a:1?store=", "localhost:5757", "tcp://",
                             "tcp://a:1,", "at:tcp://a:1,b", "udp://a:1"})
        EXPECT_NE(error_of([&] { (void)Home::parse(text); }), "") << text;
    EXPECT_THAT(error_of([] { (void)Home::parse("localhost:5757"); }),
                HasSubstr("'localhost:5757' is not an endpoint"));
}

TEST(Home, AHostHereMayBindOrConnectButMustDoOne) {
    EXPECT_NE(error_of([] { (void)here({}); }), "");
    const Home home = here({.bind = {}, .connect = {"ipc:///tmp/worker"}, .queue = {}});
    EXPECT_THAT(home.options().connect, ElementsAre("ipc:///tmp/worker"));
    EXPECT_NE(error_of([] { (void)here({.bind = {}, .connect = {"worker"}, .queue = {}}); }), "");
    EXPECT_NE(error_of([] { (void)at(std::vector<std::string>{}); }), "");
}

TEST(QueuePolicyCheck, TheDefaultsAreValid) {
    EXPECT_EQ(error_of([] { validate(QueuePolicy{}); }), "");
}

template <class Change>
std::string fault_of(Change&& change) {
    QueuePolicy policy;
    change(policy);
    return error_of([&] { validate(policy); });
}

TEST(QueuePolicyCheck, NamesTheFieldAndItsRange) {
    EXPECT_THAT(fault_of([](QueuePolicy& p) { p.max_attempts = 0; }), HasSubstr("max_attempts must be 1 or more"));
    EXPECT_THAT(fault_of([](QueuePolicy& p) { p.lease = 999ms; }),
                HasSubstr("lease must be between 1 s and lease_cap"));
    EXPECT_THAT(fault_of([](QueuePolicy& p) { p.lease = p.lease_cap + 1ns; }), HasSubstr("lease must be"));
    EXPECT_THAT(fault_of([](QueuePolicy& p) { p.lease_cap = Duration::max(); }), HasSubstr("lease_cap must be"));
    EXPECT_THAT(fault_of([](QueuePolicy& p) { p.backoff.min = -1ns; }), HasSubstr("backoff.min must be"));
    EXPECT_THAT(fault_of([](QueuePolicy& p) { p.backoff.min = p.backoff.max + 1ns; }),
                HasSubstr("backoff.min must be"));
    EXPECT_THAT(fault_of([](QueuePolicy& p) { p.backoff.max = Duration::max(); }), HasSubstr("backoff.max must be"));
}

TEST(QueuePolicyCheck, LooksOnlyAtWhatTheBackoffUses) {
    EXPECT_EQ(
        fault_of([](QueuePolicy& p) { p.backoff = {.kind = Backoff::Kind::fixed, .min = 1h, .max = 1s, .list = {}}; }),
        "");
    EXPECT_THAT(fault_of([](QueuePolicy& p) { p.backoff.kind = Backoff::Kind::list; }),
                HasSubstr("backoff.list must name"));
    EXPECT_EQ(fault_of([](QueuePolicy& p) {
                  p.backoff.kind = Backoff::Kind::list;
                  p.backoff.list = {0s, 1s, 1min};
              }),
              "");
    EXPECT_THAT(fault_of([](QueuePolicy& p) {
                    p.backoff.kind = Backoff::Kind::list;
                    p.backoff.list = {1s, -1s};
                }),
                HasSubstr("backoff.list must be of waits"));
}

TEST(Names, EveryStatusAndEventHasItsOwn) {
    std::set<std::string_view> names;
    const int statuses = static_cast<int>(Status::rejected) + 1;
    for (int status = 0; status < statuses; ++status) names.insert(to_string(static_cast<Status>(status)));
    const int kinds = static_cast<int>(Event::Kind::storm) + 1;
    for (int kind = 0; kind < kinds; ++kind) names.insert(to_string(static_cast<Event::Kind>(kind)));
    EXPECT_EQ(names.size(), static_cast<std::size_t>(statuses + kinds));
    EXPECT_FALSE(names.contains("unknown"));
    EXPECT_EQ(to_string(Status::would_block), "would_block");
    EXPECT_EQ(to_string(Event::Kind::store_lost_confirmed), "store_lost_confirmed");
}

}  // namespace
}  // namespace posthorn
