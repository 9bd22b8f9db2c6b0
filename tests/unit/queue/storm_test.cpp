// The storm guard: a queue whose messages only fail is slow until one is acked.
#include <algorithm>

#include <gmock/gmock.h>

#include "unit/queue/fixture.hpp"

namespace posthorn::queue {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

class Storm : public QueueFixture {
protected:
    void make_failing(std::uint32_t storm_after = 3) {
        make({.max_attempts = 100, .backoff = {.kind = Backoff::Kind::fixed, .min = 0s}, .storm_after = storm_after});
        publish_many(50);
        id = consumer(7, 10, 10);
        for (std::uint32_t i = 0; i < storm_after; ++i) {
            if (held.empty()) held = turn();
            ASSERT_TRUE(settle(held.back(), Verdict::reject));
            held.pop_back();
        }
    }
    std::ptrdiff_t told() const {
        return std::count_if(events.begin(), events.end(),
                             [](const Event& event) { return event.kind == Event::Kind::storm; });
    }
    // Fails what is held from before; the pause then begins.
    void fail_all(Verdict verdict = Verdict::reject) {
        for (const Delivered& one : held) ASSERT_TRUE(settle(one, verdict));
        held.clear();
    }

    ConsumerId id = 0;
    std::vector<Delivered> held;
};

TEST_F(Storm, OneAtATimeAfterPausesThatGrow) {
    make_failing();
    EXPECT_TRUE(queue->is_failing());
    EXPECT_EQ(told(), 1);
    fail_all();
    Duration pause = 100ms;
    for (int i = 0; i < 10; ++i) {
        EXPECT_THAT(turn(), IsEmpty());
        ASSERT_EQ(queue->next_deadline(), now.mono + pause);
        pass(pause - 1ms);
        queue->heard(id, now);
        EXPECT_THAT(turn(), IsEmpty());
        pass(1ms);
        const auto given = turn();
        ASSERT_THAT(given, SizeIs(1));
        EXPECT_THAT(turn(), IsEmpty());
        EXPECT_GT(queue->next_deadline(), now.mono) << "there is nothing to wake up for";
        pass(1s);
        EXPECT_TRUE(settle(given[0], i % 2 == 0 ? Verdict::nack : Verdict::undecodable));
        pause = std::min<Duration>(2 * pause, 10s);
    }
    EXPECT_EQ(pause, 10s);
    EXPECT_EQ(told(), 1);
}

TEST_F(Storm, TheFirstAckEndsIt) {
    make_failing();
    fail_all();
    pass(100ms);
    const auto given = turn();
    ASSERT_THAT(given, SizeIs(1));
    EXPECT_TRUE(settle(given[0], Verdict::ack));
    EXPECT_FALSE(queue->is_failing());
    EXPECT_EQ(told(), 2);
    held = turn();
    EXPECT_THAT(held, SizeIs(10));
    EXPECT_TRUE(settle(held.back(), Verdict::reject));
    held.pop_back();
    EXPECT_FALSE(queue->is_failing()) << "it counts anew";
    fail_all();
    EXPECT_TRUE(queue->is_failing());
    turn();
    EXPECT_EQ(queue->next_deadline(), now.mono + 100ms);
}

TEST_F(Storm, WhatWasHandedOutBeforeMakesNoPauseLonger) {
    make_failing();
    ASSERT_THAT(held, SizeIs(7));
    fail_all();
    turn();
    EXPECT_EQ(queue->next_deadline(), now.mono + 100ms);
}

TEST_F(Storm, ALongTaskOfBeforeHoldsNothingUp) {
    make_failing();
    const Delivered task = held.back();
    held.pop_back();
    fail_all();
    pass(100ms);
    const auto given = turn();
    ASSERT_THAT(given, SizeIs(1));
    pass(10s);
    queue->heard(id, now);
    EXPECT_THAT(turn(), IsEmpty());
    EXPECT_TRUE(settle(given[0], Verdict::release));
    EXPECT_THAT(turn(), SizeIs(1)) << "that is no failure, and it is not in flight any more";
    EXPECT_TRUE(settle(task, Verdict::ack));
    EXPECT_THAT(turn(), SizeIs(9));
}

TEST_F(Storm, AnAckBetweenThemADelayAndAReleaseAreNoStorm) {
    make({.max_attempts = 100, .backoff = {.kind = Backoff::Kind::fixed, .min = 0s}, .storm_after = 3});
    publish_many(50);
    consumer(7, 50, 50);
    const auto given = turn();
    ASSERT_THAT(given, SizeIs(50));
    std::size_t next = 0;
    for (int i = 0; i < 5; ++i) {
        for (const Verdict verdict : {Verdict::nack, Verdict::reject, Verdict::ack}) settle(given[next++], verdict);
    }
    for (int i = 0; i < 5; ++i) {
        settle(given[next++], Verdict::nack, 1s);
        settle(given[next++], Verdict::release);
    }
    EXPECT_FALSE(queue->is_failing());
    settle(given[next++], Verdict::nack);
    settle(given[next++], Verdict::nack, 1s);
    settle(given[next++], Verdict::reject);
    settle(given[next++], Verdict::release);
    settle(given[next++], Verdict::nack);
    EXPECT_TRUE(queue->is_failing());
}

TEST_F(Storm, ADeathThatIsChargedIsAFailure) {
    make({.max_attempts = 100, .storm_after = 2});
    publish_many(1);
    std::uint8_t n = 7;
    consumer(n);
    ASSERT_THAT(turn(), SizeIs(1));
    for (int deaths = 0; deaths < 3; ++deaths) {  // the first is not charged
        EXPECT_FALSE(queue->is_failing());
        pass(31s);
        turn();
        consumer(++n);
        ASSERT_THAT(turn(), SizeIs(deaths < 2 ? 1 : 0));
    }
    EXPECT_TRUE(queue->is_failing());
    pass(100ms);
    EXPECT_THAT(turn(), SizeIs(1)) << "a suspect, by itself";
}

TEST_F(Storm, WithoutALimitThereIsNone) {
    make({.storm_after = 0});
    publish_many(2000);
    consumer(7, 1, 1);
    for (int i = 0; i < 2000; ++i) {
        const auto given = turn();
        ASSERT_THAT(given, SizeIs(1));
        settle(given[0], Verdict::reject);
    }
    EXPECT_EQ(told(), 0);
}

TEST_F(Storm, OtherwiseItIsAThousand) {
    make();
    publish_many(1100);
    consumer(7, 1, 1);
    int failed = 0;
    for (auto given = turn(); !given.empty(); given = turn()) {
        settle(given[0], Verdict::reject);
        ++failed;
    }
    EXPECT_EQ(failed, 1000);
}

}  // namespace
}  // namespace posthorn::queue
