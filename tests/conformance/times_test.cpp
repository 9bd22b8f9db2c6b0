// Delays and times to live, alone, with each other and with ordering keys.
#include <set>

#include "fixture.hpp"

namespace posthorn::work_queue {
namespace {

using ::testing::ElementsAre;

class Times : public Conformance {
protected:
    [[nodiscard]] static Message later(Duration delay, std::string payload) {
        return {.payload = std::move(payload), .delay = delay};
    }
    [[nodiscard]] static Message mortal(Duration ttl, std::string payload) {
        return {.payload = std::move(payload), .ttl = ttl};
    }
    [[nodiscard]] static std::string payload_of(const Delivery& delivery) { return delivery.message().payload; }
};
class Delays : public Times {};
class DelaysOverLives : public Times {};
class TimeToLive : public Times {};
class TimeToLiveOverLives : public Times {};

TEST_P(Delays, NotBeforeAndThenByItself) {
    open();
    Worker one = worker();
    const auto sent = std::chrono::steady_clock::now();
    EXPECT_EQ(send(later(200ms, "x")).status(), Status::ok);
    Delivery delivery = take(one);
    EXPECT_GE(std::chrono::steady_clock::now() - sent, 200ms);
    EXPECT_EQ(delivery.ack(), Status::ok);
}

TEST_P(Delays, OthersOvertakeIt) {
    open();
    arrive({later(1h, "later"), later(0ns, "now")});
    Worker one = worker();
    EXPECT_THAT(take_all(one, 1), ElementsAre("now"));
    EXPECT_TRUE(nothing_comes(one));
    clock_.advance(59min);
    EXPECT_TRUE(nothing_comes(one));
    clock_.advance(1min);
    EXPECT_THAT(take_all(one, 1), ElementsAre("later"));
}

TEST_P(Delays, EachComesWhenItIsDue) {
    open();
    arrive({later(3h, "3h"), later(1h, "1h"), later(2h, "2h")});
    Worker one = worker();
    for (const char* next : {"1h", "2h", "3h"}) {
        EXPECT_TRUE(nothing_comes(one)) << next;
        clock_.advance(1h);
        EXPECT_THAT(take_all(one, 1), ElementsAre(next));
    }
}

TEST_P(Delays, NobodyHasToBeThereWhenItIsDue) {
    open();
    arrive({later(1h, "x")});
    clock_.advance(2h);
    Worker one = worker();
    EXPECT_THAT(take_all(one, 1), ElementsAre("x"));
}

TEST_P(Delays, AMessageJoinsTheLineOfItsKeyWhenItIsDue) {
    open();
    arrive({{.payload = "late", .ordering_key = "a", .delay = 1h}, {.payload = "at once", .ordering_key = "a"}});
    Worker one = worker({.concurrency = 2});
    Delivery out = take(one);
    EXPECT_EQ(payload_of(out), "at once") << "the other one is not in line yet";
    clock_.advance(1h);
    EXPECT_TRUE(nothing_comes(one)) << "one of the key is out";
    EXPECT_EQ(out.ack(), Status::ok);
    EXPECT_THAT(take_all(one, 1), ElementsAre("late"));
}

TEST_P(Delays, ANackMayNameOne) {
    QueuePolicy slow = policy();
    slow.backoff.min = slow.backoff.max = 5h;
    open(slow);
    arrive({later(0ns, "named"), later(0ns, "policy")});
    Worker one = worker({.concurrency = 2});
    Delivery named = take(one);
    Delivery by_policy = take(one);
    EXPECT_EQ(named.nack(1h, "busy"), Status::ok);
    EXPECT_EQ(by_policy.nack("busy"), Status::ok);
    EXPECT_TRUE(nothing_comes(one));
    clock_.advance(1h);
    EXPECT_THAT(take_all(one, 1), ElementsAre("named"));
    EXPECT_TRUE(nothing_comes(one));
    clock_.advance(4h);
    EXPECT_THAT(take_all(one, 1), ElementsAre("policy"));
}

TEST_P(Delays, ManyThatAreDueTogetherAllCome) {
    open();
    constexpr std::size_t many = 6000;  // in more than one block of the backlog
    std::vector<Message> messages;
    messages.reserve(many);
    for (std::size_t i = 0; i < many; ++i) messages.push_back(later(i % 2 == 0 ? 1h : 2h, std::to_string(i)));
    arrive(messages);
    arrive({later(0ns, "now")});
    Log<std::string> handled;
    const auto runs = running({}, [&](Delivery& delivery) { handled.add(delivery.message().payload); });
    EXPECT_THAT(handled.wait(1), ElementsAre("now"));
    for (const std::size_t half : {0U, 1U}) {
        clock_.advance(1h);
        const auto all = handled.wait(1 + (half + 1) * many / 2);
        ASSERT_EQ(all.size(), 1 + (half + 1) * many / 2) << "no more are due";
        std::set<std::size_t> came;
        for (auto it = all.end() - many / 2; it != all.end(); ++it) came.insert(std::stoul(*it));
        EXPECT_EQ(came.size(), many / 2);
        for (const std::size_t number : came) ASSERT_EQ(number % 2, half);
    }
}

TEST_P(DelaysOverLives, RunOnOverARestart) {
    open();
    arrive({later(1h, "1h"), later(3h, "3h"), later(0ns, "now")});
    ASSERT_EQ(producer().flush(patience), Status::ok);
    clock_.advance(30min);
    restart();
    Worker one = worker();
    EXPECT_THAT(take_all(one, 1), ElementsAre("now"));
    EXPECT_TRUE(nothing_comes(one));
    clock_.advance(30min);
    EXPECT_THAT(take_all(one, 1), ElementsAre("1h"));
    EXPECT_TRUE(nothing_comes(one));
    clock_.advance(2h);
    EXPECT_THAT(take_all(one, 1), ElementsAre("3h"));
}

TEST_P(TimeToLive, WhatNoWorkerTakesInItsTimeIsDeadLettered) {
    open();
    const Ticket ticket = send(mortal(1h, "mortal"));
    arrive({mortal(3h, "longer"), mortal(0ns, "for ever")});
    clock_.advance(1h);
    EXPECT_TRUE(dead_letter_of("expired"));
    EXPECT_EQ(ticket.wait(patience), Status::ok) << "safe, one way or the other";
    Worker one = worker();
    EXPECT_THAT(take_all(one, 2), ElementsAre("longer", "for ever"));
    EXPECT_TRUE(nothing_comes(one));
    EXPECT_EQ(producer().flush(patience), Status::ok);
    EXPECT_THROW(static_cast<void>(send(mortal(-1ms, "x"))), Error);
}

TEST_P(TimeToLive, NothingOfALongQueueComesAfterIt) {
    open();
    const std::size_t many = defaults::window_messages + 1000;  // more than are watched all the time
    arrive(std::vector<Message>(many, mortal(1h, "mortal")));
    arrive({mortal(0ns, "for ever")});
    clock_.advance(1h);
    Worker one = worker();
    EXPECT_THAT(take_all(one, 1), ElementsAre("for ever"));
    EXPECT_TRUE(nothing_comes(one));
    EXPECT_TRUE(dead_letter_of("expired"));
    EXPECT_EQ(producer().flush(patience), Status::ok);
}

TEST_P(TimeToLive, RunsBehindABusyKey) {
    open();
    arrive({{.payload = "a1", .ordering_key = "a"},
            {.payload = "a2", .ordering_key = "a", .ttl = 1h},
            {.payload = "a3", .ordering_key = "a"}});
    Worker one = worker({.concurrency = 3});
    Delivery out = take(one);
    EXPECT_TRUE(nothing_comes(one));
    clock_.advance(1h);
    EXPECT_TRUE(dead_letter_of("expired"));
    EXPECT_EQ(out.ack(), Status::ok);
    EXPECT_THAT(take_all(one, 1), ElementsAre("a3"));
}

TEST_P(TimeToLive, MayEndBeforeADelay) {
    open();
    arrive({{.payload = "never", .delay = 2h, .ttl = 1h}, {.payload = "later", .delay = 2h, .ttl = 3h}});
    clock_.advance(1h);
    EXPECT_TRUE(dead_letter_of("expired"));
    clock_.advance(1h);
    Worker one = worker();
    EXPECT_THAT(take_all(one, 1), ElementsAre("later"));
    EXPECT_TRUE(nothing_comes(one));
}

TEST_P(TimeToLive, WhatAWorkerHoldsMayStillBeSettled) {
    open();
    arrive({mortal(1h, "acked"), mortal(1h, "failed")});
    Worker one = worker({.concurrency = 2});
    Delivery acked = take(one);
    Delivery failed = take(one);
    clock_.advance(2h);
    EXPECT_EQ(acked.ack_sync(patience), Status::ok);
    EXPECT_EQ(failed.nack("too late for another attempt"), Status::ok);
    EXPECT_TRUE(dead_letter_of("expired"));
    EXPECT_TRUE(nothing_comes(one));
    EXPECT_EQ(producer().flush(patience), Status::ok);
}

TEST_P(TimeToLiveOverLives, RunsOnOverARestart) {
    open();
    arrive({mortal(1h, "mortal"), mortal(3h, "longer")});
    ASSERT_EQ(producer().flush(patience), Status::ok);
    clock_.advance(30min);
    restart();
    clock_.advance(30min);
    EXPECT_TRUE(dead_letter_of("expired"));
    Worker one = worker();
    EXPECT_THAT(take_all(one, 1), ElementsAre("longer"));
    EXPECT_TRUE(nothing_comes(one));
}

INSTANTIATE_TEST_SUITE_P(Conformance, Delays, ::testing::ValuesIn(everywhere()), ::testing::PrintToStringParamName());
INSTANTIATE_TEST_SUITE_P(Conformance, DelaysOverLives, ::testing::ValuesIn(with_a_store()),
                         ::testing::PrintToStringParamName());
INSTANTIATE_TEST_SUITE_P(Conformance, TimeToLive, ::testing::ValuesIn(everywhere()),
                         ::testing::PrintToStringParamName());
INSTANTIATE_TEST_SUITE_P(Conformance, TimeToLiveOverLives, ::testing::ValuesIn(with_a_store()),
                         ::testing::PrintToStringParamName());

}  // namespace
}  // namespace posthorn::work_queue
