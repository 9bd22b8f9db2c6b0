// Queues that keep strict order: one consumer at a time, and nothing is given out before what stands in front of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit/queue/fixture.hpp"

namespace posthorn::queue {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class Strict : public QueueFixture {
protected:
    static QueuePolicy policy(bool retry_aside = false) {
        return {.backoff = {.kind = Backoff::Kind::fixed, .min = 5s},
                .lease = 30s,
                .strict_order = true,
                .retry_aside = retry_aside};
    }
    // A queue that is long for its memory.
    static Limits small() {
        return {
            .tracked = 1000, .ready = 8, .bytes = 100'000, .waiting = 4, .waiting_soon = 1s, .line = 4, .block = 16};
    }
    ConsumerId receiver(std::uint8_t n, std::uint32_t window = 100, const std::vector<Held>& held = {}) {
        const ConsumerId id = consumer(n, 1, window, held);
        queue->set_keeps_order(id, true);
        return id;
    }
    // What is given out, with bodies read on as often as it takes.
    std::vector<Delivered> all() {
        std::vector<Delivered> given;
        for (int round = 0; round < 40; ++round) {
            for (auto& one : turn()) given.push_back(std::move(one));
            commit();
        }
        return given;
    }
    std::vector<Offset> lost_offsets() {
        std::vector<Offset> out;
        for (const auto& [id, held] : queue->take_lost()) out.push_back(held.offset);
        std::sort(out.begin(), out.end());
        return out;
    }
};

TEST_F(Strict, AllGoesToTheFirstConsumerAsFarAsItsWindow) {
    make(policy());
    publish_many(10);
    const auto first = receiver(7, 4);
    receiver(8, 4);
    const auto given = turn();
    EXPECT_THAT(offsets(given), ElementsAre(1, 2, 3, 4));
    for (const auto& one : given) EXPECT_EQ(one.consumer, first);
    settle(given[0], Verdict::ack);
    EXPECT_THAT(offsets(turn()), ElementsAre(5));
    EXPECT_THAT(recalls, IsEmpty());
}

TEST_F(Strict, AConsumerThatDoesNotKeepOrderHasOneAtATime) {
    make(policy());
    publish_many(3);
    consumer(7, 4, 100);
    auto given = turn();
    EXPECT_THAT(offsets(given), ElementsAre(1));
    settle(given[0], Verdict::nack);
    EXPECT_THAT(turn(), IsEmpty());
    pass(5s);
    commit();
    given = all();
    EXPECT_THAT(offsets(given), ElementsAre(1));
    settle(given[0], Verdict::ack);
    EXPECT_THAT(offsets(turn()), ElementsAre(2));
}

TEST_F(Strict, KeysAndPrioritiesMeanNothing) {
    make(policy());
    publish(Message{.payload = "x", .ordering_key = "a"});
    publish(Message{.payload = "x", .priority = 9, .ordering_key = "a"});
    publish(Message{.payload = "x", .priority = 3});
    receiver(7);
    EXPECT_THAT(offsets(turn()), ElementsAre(1, 2, 3));
    commit();
    EXPECT_EQ(last.appends.at(1).terms, store::Terms{});
}

TEST_F(Strict, ANackTakesBackWhatIsBehindAndHoldsItUp) {
    make(policy());
    publish_many(5);
    receiver(7, 4);
    auto given = turn();
    settle(given[0], Verdict::ack);
    settle(given[1], Verdict::nack);
    EXPECT_THAT(lost_offsets(), ElementsAre(3, 4));
    commit();
    EXPECT_THAT(all(), IsEmpty());
    pass(5s);
    given = all();
    EXPECT_THAT(offsets(given), ElementsAre(2, 3, 4, 5));
    EXPECT_EQ(given[0].attempt, 2U);
    EXPECT_EQ(given[1].attempt, 1U) << "what was behind it is not charged";
}

TEST_F(Strict, ANackLetsThoseInFrontGoOn) {
    make(policy());
    publish_many(4);
    receiver(7);
    const auto given = turn();
    settle(given[2], Verdict::nack);
    EXPECT_THAT(lost_offsets(), ElementsAre(4));
    EXPECT_TRUE(settle(given[1], Verdict::ack));
    EXPECT_TRUE(settle(given[0], Verdict::release));
    EXPECT_THAT(offsets(all()), ElementsAre(1));
}

TEST_F(Strict, WithRetryAsideAFailedMessageStepsAside) {
    make(policy(true));
    publish_many(4);
    receiver(7, 3);
    const auto given = turn();
    settle(given[0], Verdict::nack);
    EXPECT_THAT(lost_offsets(), IsEmpty());
    EXPECT_THAT(offsets(all()), ElementsAre(4));
    settle(given[1], Verdict::release);
    EXPECT_THAT(lost_offsets(), ElementsAre(3, 4)) << "what is given back has not failed";
    EXPECT_THAT(offsets(all()), ElementsAre(2, 3, 4));
    pass(5s);
    queue->set_window(given[0].consumer, 10, 1 << 20);
    EXPECT_THAT(offsets(all()), ElementsAre(1));
}

TEST_F(Strict, AReleaseTakesBackWhatIsBehindAndBeginsAgain) {
    make(policy());
    publish_many(4);
    const auto id = receiver(7, 3);
    auto given = turn();
    settle(given[0], Verdict::release);
    EXPECT_THAT(lost_offsets(), ElementsAre(2, 3));
    EXPECT_TRUE(settle(given[2], Verdict::release)) << "the word of it may be under way";
    EXPECT_FALSE(settle(given[1], Verdict::ack));
    given = all();
    EXPECT_THAT(offsets(given), ElementsAre(1, 2, 3));
    EXPECT_EQ(given[0].attempt, 1U);
    EXPECT_EQ(queue->in_flight(id), 3U);
}

TEST_F(Strict, WhatIsGivenUpHoldsUpNothing) {
    make({.max_attempts = 1, .strict_order = true});
    publish_many(5);
    receiver(7, 5);
    const auto given = turn();
    settle(given[0], Verdict::reject);
    settle(given[1], Verdict::undecodable);
    settle(given[2], Verdict::nack);
    EXPECT_THAT(lost_offsets(), IsEmpty());
    EXPECT_TRUE(settle(given[3], Verdict::ack));
    EXPECT_TRUE(settle(given[4], Verdict::ack));
    commit();
    EXPECT_EQ(queue->messages(), 0U);
    EXPECT_THAT(dead, SizeIs(3));
}

TEST_F(Strict, WhatIsHeldForTheWholeCapTakesBackWhatIsBehind) {
    auto rules = policy();
    rules.lease_cap = 100s;
    make(rules);
    publish_many(3);
    const auto id = receiver(7);
    turn();
    for (int i = 0; i < 10; ++i) {
        pass(10s);
        queue->heard(id, now);
    }
    EXPECT_THAT(turn(), IsEmpty());
    EXPECT_THAT(lost_offsets(), ElementsAre(1, 2, 3));
    pass(5s);
    queue->heard(id, now);
    const auto given = all();
    EXPECT_THAT(offsets(given), ElementsAre(1, 2, 3));
    EXPECT_EQ(given[0].attempt, 2U);
    EXPECT_EQ(given[1].attempt, 1U);
}

TEST_F(Strict, AStandbyTakesOverAtOnceWhenNothingIsHeld) {
    make(policy());
    const auto first = receiver(7);
    const auto second = receiver(8);
    publish();
    settle(turn().at(0), Verdict::ack);
    queue->detach(first, now);
    publish();
    EXPECT_EQ(turn().at(0).consumer, second);
    receiver(7);
    publish();
    EXPECT_EQ(turn().at(0).consumer, second) << "who was active stays so";
}

TEST_F(Strict, AStandbyTakesOverAfterTheLeaseWhenItsLinkIsLost) {
    make(policy());
    publish_many(3);
    const auto first = receiver(7, 2);
    const auto second = receiver(8);
    turn();
    commit();
    queue->detach(first, now);
    pass(29s);
    queue->heard(second, now);
    EXPECT_THAT(all(), IsEmpty());
    pass(2s);
    queue->heard(second, now);
    auto given = all();
    ASSERT_THAT(offsets(given), ElementsAre(1)) << "a suspect goes alone";
    EXPECT_EQ(given[0].consumer, second);
    settle(given[0], Verdict::ack);
    given = all();
    ASSERT_THAT(offsets(given), ElementsAre(2));
    settle(given[0], Verdict::ack);
    EXPECT_THAT(offsets(all()), ElementsAre(3));
}

TEST_F(Strict, AnExtendedLeaseOfADeadOneHoldsUpAll) {
    make(policy());
    publish_many(3);
    const auto first = receiver(7, 2);
    const auto second = receiver(8);
    const auto given = turn();
    commit();
    ASSERT_TRUE(queue->extend(first, {given[0].offset, given[0].token}, 60s, now));
    queue->detach(first, now);
    for (int i = 0; i < 5; ++i) {
        pass(10s);
        queue->heard(second, now);
        EXPECT_THAT(all(), IsEmpty());
    }
    pass(11s);
    queue->heard(second, now);
    EXPECT_THAT(offsets(all()), ElementsAre(1));
}

TEST_F(Strict, AStandbyTakesOverAtByeAndWhenTheActiveOneIsReplaced) {
    make(policy());
    publish_many(3);
    const auto first = receiver(7, 2);
    const auto second = receiver(8, 1);
    const auto third = receiver(9, 1);
    turn();
    commit();
    queue->leave(first, now);
    auto given = all();
    ASSERT_THAT(offsets(given), ElementsAre(1));
    EXPECT_EQ(given[0].consumer, second);
    EXPECT_EQ(given[0].attempt, 1U);
    queue->fence(second, now);
    given = all();
    ASSERT_THAT(offsets(given), ElementsAre(1));
    EXPECT_EQ(given[0].consumer, third);
}

TEST_F(Strict, AMessageThatKillsIsGivenUpAndItsNeighboursAreNot) {
    make(policy());
    publish_many(20);
    std::vector<Offset> done;
    for (std::uint8_t n = 10; n < 30 && queue->messages() > 0; ++n) {
        const auto id = receiver(n, 8);
        for (bool alive = true; alive && queue->messages() > 0;) {
            const auto given = all();
            for (const auto& one : given) {
                if (one.offset == 5) {
                    alive = false;
                    queue->detach(id, now);
                    pass(31s);
                    break;
                }
                if (queue->in_flight(id) > 0) settle(one, Verdict::ack);
                done.push_back(one.offset);
            }
        }
        turn();
        commit();
    }
    EXPECT_THAT(dead, SizeIs(1));
    EXPECT_TRUE(dead.contains(5));
    EXPECT_THAT(done, SizeIs(19));
    EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
}

TEST_F(Strict, ADelayedMessageJoinsAtItsPlaceAndHoldsUpNothing) {
    make(policy());
    publish();
    publish(Message{.payload = "x", .delay = 3s});
    publish_many(2);
    receiver(7, 2);
    auto given = turn();
    EXPECT_THAT(offsets(given), ElementsAre(1, 3));
    pass(3s);
    turn();
    settle(given[0], Verdict::ack);
    EXPECT_THAT(offsets(all()), ElementsAre(2));
}

TEST_F(Strict, OrderHoldsBeyondTheMemoryOfTheQueueAndOverFailures) {
    make(policy(), true, small());
    for (int i = 0; i < 100; ++i) publish(Message{.payload = "x", .delay = i % 7 == 3 ? Duration{2s} : Duration{}});
    commit();
    pass(2s);
    auto id = receiver(7, 6);
    std::vector<Offset> done;
    int rounds = 0;
    std::set<Offset> failed;
    while (done.size() < 100 && ++rounds < 2000) {
        queue->heard(id, now);
        auto given = turn();
        commit();
        for (const auto& one : given) {
            if (one.offset % 10 == 5 && failed.insert(one.offset).second) {
                ASSERT_TRUE(settle(one, Verdict::nack));
                break;
            }
            ASSERT_TRUE(settle(one, Verdict::ack));
            done.push_back(one.offset);
        }
        if (given.empty()) pass(1s);
    }
    ASSERT_THAT(done, SizeIs(100));
    EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
    EXPECT_THAT(failed, SizeIs(10));
}

// A retry is remembered in memory, and what was given back in the store.
TEST_F(Strict, ARetryDoesNotOvertakeWhatIsStillToBeRead) {
    make(policy(), true, small());
    publish_many(40);
    commit();
    const auto first = receiver(7, 20);
    const auto given = all();
    ASSERT_THAT(given, SizeIs(20));
    settle(given[19], Verdict::nack);
    queue->leave(first, now);
    commit();
    restart(policy(), small());
    pass(5s);
    receiver(8);
    const auto again = offsets(all());
    EXPECT_THAT(again, SizeIs(40));
    EXPECT_TRUE(std::is_sorted(again.begin(), again.end()));
}

// The former life died before it could write down who held what, and a standby came back first.
TEST_F(Strict, AfterARestartTwoDoNotHoldAtOnce) {
    make(policy());
    publish_many(4);
    commit();
    receiver(7);
    const auto before = turn();
    ASSERT_THAT(before, SizeIs(4));
    restart(policy());
    const auto second = receiver(8, 1);
    EXPECT_THAT(offsets(all()), ElementsAre(1));
    std::vector<Held> held;
    held.reserve(before.size());
    for (const auto& one : before) held.push_back({one.offset, one.token + 1});  // as if it had been given them again
    const auto first = receiver(7, 100, held);
    EXPECT_THAT(lost, SizeIs(4));
    EXPECT_EQ(queue->in_flight(first), 0U);
    queue->leave(second, now);
    EXPECT_THAT(offsets(all()), ElementsAre(1, 2, 3, 4));
}

TEST_F(Strict, AfterARestartWhoeverHeldThemGoesOn) {
    make(policy());
    publish_many(4);
    commit();
    receiver(7, 2);
    const auto before = turn();
    restart(policy());
    const auto first = receiver(7, 2, {{before[0].offset, before[0].token}, {before[1].offset, before[1].token}});
    EXPECT_THAT(lost, IsEmpty());
    receiver(9);
    EXPECT_THAT(all(), IsEmpty());
    EXPECT_EQ(queue->in_flight(first), 2U);
}

TEST_F(Strict, WhatAnEndAskedForIsRemembered) {
    make();
    publish_many(2);
    EXPECT_FALSE(queue->is_strict());
    queue->become_strict(now);
    EXPECT_TRUE(queue->is_strict());
    EXPECT_TRUE(queue->has_changes(false));
    commit();
    EXPECT_TRUE(last.strict);
    queue->become_strict(now);
    commit();
    EXPECT_FALSE(last.strict) << "once is enough";
    restart();
    EXPECT_TRUE(queue->is_strict());
    receiver(7, 1);
    receiver(8, 1);
    EXPECT_THAT(offsets(all()), ElementsAre(1));
}

TEST_F(Strict, WhatAnEndAskedForIsGatheredAgainIfItWasNotStored) {
    make();
    queue->become_strict(now);
    const auto batch = queue->gather(now);
    EXPECT_TRUE(batch.strict);
    queue->take_back(batch, now);
    commit();
    EXPECT_TRUE(last.strict);
}

TEST_F(Strict, ARetryHoldsUpWhatIsBehindOverARestart) {
    make(policy());
    publish_many(3);
    receiver(7);
    settle(turn().at(0), Verdict::nack, 60s);
    commit();
    restart(policy(), small());
    receiver(8);
    EXPECT_THAT(all(), IsEmpty());
    pass(60s);
    EXPECT_THAT(offsets(all()), ElementsAre(1, 2, 3));
}

TEST_F(Strict, ARetryHoldsUpWhatIsBehindWhenTheQueueBecomesStrict) {
    make({.backoff = {.kind = Backoff::Kind::fixed, .min = 5s}});
    publish_many(3);
    const auto id = consumer(7, 1, 1);
    settle(turn().at(0), Verdict::nack);
    queue->become_strict(now);
    queue->set_keeps_order(id, true);
    EXPECT_THAT(all(), IsEmpty());
    pass(5s);
    EXPECT_THAT(offsets(all()), ElementsAre(1));
}

TEST_F(Strict, WhatIsWithAConsumerOfTheTimeBeforeIsLeftWithIt) {
    make();
    publish_many(6);
    consumer(7, 2, 2);
    consumer(8, 2, 2);
    const auto given = turn();
    EXPECT_THAT(offsets(given), ElementsAre(1, 2, 3, 4));
    queue->become_strict(now);
    for (const auto& one : given) {
        EXPECT_TRUE(settle(one, one.offset == 1 ? Verdict::release : Verdict::ack)) << "it may have begun all of them";
        if (one.offset != 4) {
            EXPECT_THAT(turn(), IsEmpty());
        }
    }
    const auto next = turn();
    ASSERT_THAT(offsets(next), ElementsAre(1));
}

}  // namespace
}  // namespace posthorn::queue
