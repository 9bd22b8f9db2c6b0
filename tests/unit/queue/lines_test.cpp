// Priorities, ordering keys and delays: who is next in turn, in memory and behind it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit/queue/fixture.hpp"

namespace posthorn::queue {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class Lines : public QueueFixture {
protected:
    void send(Message message) { ASSERT_EQ(publish(std::move(message)), Accepted::yes); }
    void send_priority(unsigned priority, int count = 1) {
        for (; count > 0; --count) send({.payload = "x", .priority = static_cast<std::uint8_t>(priority)});
    }
    void send_key(const std::string& key, int count = 1) {
        for (; count > 0; --count) send({.payload = "x", .ordering_key = key});
    }
    // What is given out, reading on as often as it takes.
    std::vector<Delivered> all() {
        std::vector<Delivered> given;
        for (int round = 0; round < 20; ++round) {
            for (auto& one : turn()) given.push_back(std::move(one));
            commit();
        }
        return given;
    }
    std::vector<Offset> offsets_of_all() { return offsets(all()); }

    // Time passes, and the consumer is heard all the while.
    void pass_with(ConsumerId id, Duration time) {
        pass(time);
        queue->heard(id, now);
    }

    // A queue that is long for its memory.
    static Limits small() {
        return {
            .tracked = 1000, .ready = 8, .bytes = 100'000, .waiting = 4, .waiting_soon = 1s, .line = 4, .block = 16};
    }
};

TEST_F(Lines, HigherPrioritiesGoFirstAndEqualOnesInTheirOrder) {
    make();
    send_priority(0);
    send_priority(3);
    send_priority(9);
    send_priority(3);
    consumer(7);
    EXPECT_THAT(offsets(turn()), ElementsAre(3, 2, 4, 1));
}

TEST_F(Lines, AReturnedMessageKeepsItsPriority) {
    make();
    send_priority(5);
    consumer(7, 1, 1);
    const auto first = turn().at(0);
    send_priority(4);
    send_priority(6);
    settle(first, Verdict::release);
    EXPECT_THAT(offsets_of_all(), ElementsAre(3));
    consumer(8, 1, 10);
    EXPECT_THAT(offsets_of_all(), ElementsAre(1, 2));
}

TEST_F(Lines, PriorityHoldsBeyondTheMemoryOfTheQueue) {
    make({}, true, small());
    for (int i = 0; i < 100; ++i) send_priority(static_cast<unsigned>(i % 10));
    commit();
    send_priority(9);
    consumer(7, 1, 1000);
    const auto given = offsets_of_all();
    ASSERT_THAT(given, SizeIs(101));
    std::vector<Offset> wanted;
    for (int priority = 9; priority >= 0; --priority) {
        for (Offset offset = 1 + static_cast<Offset>(priority); offset <= 100; offset += 10) wanted.push_back(offset);
        if (priority == 9) wanted.push_back(101);
    }
    EXPECT_EQ(given, wanted);
}

TEST_F(Lines, PriorityHoldsOverARestart) {
    make();
    send_priority(1);
    send_priority(8);
    send_priority(1);
    commit();
    restart();
    consumer(7);
    EXPECT_THAT(offsets_of_all(), ElementsAre(2, 1, 3));
}

TEST_F(Lines, OneMessageOfAKeyIsOutAtATime) {
    make();
    send_key("a", 2);
    send_key("b");
    send_key("a");
    consumer(7);
    auto given = turn();
    EXPECT_THAT(offsets(given), ElementsAre(1, 3));
    settle(given[0], Verdict::ack);
    given = all();
    EXPECT_THAT(offsets(given), ElementsAre(2));
    settle(given[0], Verdict::ack);
    EXPECT_THAT(offsets_of_all(), ElementsAre(4));
}

TEST_F(Lines, AFailedMessageHoldsUpItsKeyAndNobodyElse) {
    make();
    send_key("a", 2);
    send_key("b", 2);
    consumer(7);
    auto given = turn();
    ASSERT_THAT(offsets(given), ElementsAre(1, 3));
    settle(given[0], Verdict::nack, 5s);
    settle(given[1], Verdict::ack);
    EXPECT_THAT(offsets_of_all(), ElementsAre(4)) << "the other key goes on";
    pass(5s);
    given = all();
    EXPECT_THAT(offsets(given), ElementsAre(1)) << "to its own place";
    settle(given[0], Verdict::reject);
    EXPECT_THAT(offsets_of_all(), ElementsAre(2)) << "a dead letter is out of the line";
}

TEST_F(Lines, AReleasedMessageIsBeforeThoseBehindIt) {
    make();
    send_key("a", 2);
    consumer(7, 1, 1);
    settle(turn().at(0), Verdict::release);
    EXPECT_THAT(offsets_of_all(), ElementsAre(1));
}

TEST_F(Lines, KeyOrderBeatsPriority) {
    make();
    send({.payload = "first", .priority = 1, .ordering_key = "a"});
    send({.payload = "second", .priority = 9, .ordering_key = "a"});
    send({.payload = "other", .priority = 5});
    consumer(7);
    auto given = turn();
    EXPECT_THAT(offsets(given), ElementsAre(3, 1));
    settle(given[1], Verdict::ack);
    EXPECT_THAT(offsets_of_all(), ElementsAre(2));
}

TEST_F(Lines, KeyOrderBeatsPriorityOverARestartAndBeyondMemory) {
    make({}, true, small());
    for (int i = 0; i < 100; ++i) {
        send({.payload = "x", .priority = static_cast<std::uint8_t>(i % 10), .ordering_key = i % 3 == 0 ? "a" : ""});
    }
    commit();
    restart({}, small());
    consumer(7, 1, 1000);
    std::vector<Offset> keyed;
    for (int round = 0; round < 400; ++round) {
        for (const auto& one : turn()) {
            if (one.offset % 3 == 1) keyed.push_back(one.offset);
            settle(one, Verdict::ack);
        }
        commit();
    }
    EXPECT_EQ(queue->messages(), 0U);
    EXPECT_TRUE(std::is_sorted(keyed.begin(), keyed.end()));
    EXPECT_THAT(keyed, SizeIs(34));
}

TEST_F(Lines, ABlockedKeyWithMoreThanFitsIntoMemoryStarvesNobody) {
    make({}, true, small());
    send_key("a");
    consumer(7, 1, 10'000);
    const auto stuck = turn().at(0);
    for (int i = 0; i < 500; ++i) {
        send_key("a");
        send_key("free" + std::to_string(i));
        if (i % 50 == 0) commit();
    }
    std::size_t others = 0;
    for (int round = 0; round < 600; ++round) {
        for (const auto& one : turn()) {
            ++others;
            settle(one, Verdict::ack);
        }
        commit();
    }
    EXPECT_EQ(others, 500U) << "all that have another key";
    settle(stuck, Verdict::ack);
    Offset before = 0;
    std::size_t of_key = 0;
    for (int round = 0; round < 2000 && queue->messages() > 0; ++round) {
        for (const auto& one : turn()) {
            EXPECT_GT(one.offset, before);
            before = one.offset;
            ++of_key;
            settle(one, Verdict::ack);
        }
        commit();
    }
    EXPECT_EQ(of_key, 500U);
}

TEST_F(Lines, AKeyIsOutOverARestart) {
    make();
    send_key("a", 2);
    commit();
    consumer(7);
    const auto given = all();
    ASSERT_THAT(offsets(given), ElementsAre(1));
    restart();
    consumer(8);
    EXPECT_THAT(offsets_of_all(), IsEmpty()) << "its lease goes on";
    const auto id = consumer(7, 1, 0, {{1, given[0].token}});
    EXPECT_TRUE(queue->settle(id, {1, given[0].token, Verdict::ack, {}, {}}, now));
    EXPECT_THAT(offsets_of_all(), ElementsAre(2));
}

TEST_F(Lines, ADelayedMessageIsDeliveredWhenItIsDue) {
    make();
    send({.payload = "soon", .delay = 5s});
    send({.payload = "at once"});
    send({.payload = "later", .delay = std::chrono::hours{24 * 365}});
    commit();
    const auto id = consumer(7);
    EXPECT_THAT(offsets_of_all(), ElementsAre(2));
    EXPECT_EQ(queue->depth().waiting, 2U);
    EXPECT_EQ(queue->next_deadline(), now.mono + 5s);
    pass_with(id, 4999ms);
    EXPECT_THAT(offsets_of_all(), IsEmpty());
    pass_with(id, 1ms);
    EXPECT_THAT(offsets_of_all(), ElementsAre(1));
    pass_with(id, std::chrono::hours{24 * 365});
    EXPECT_THAT(offsets_of_all(), ElementsAre(3));
}

TEST_F(Lines, DelaysRunOnOverARestart) {
    make();
    send({.payload = "due meanwhile", .delay = 5s});
    send({.payload = "not yet", .delay = 60s});
    commit();
    pass(20s);
    restart();
    const auto id = consumer(7);
    EXPECT_THAT(offsets_of_all(), ElementsAre(1));
    EXPECT_EQ(queue->depth().waiting, 1U);
    pass_with(id, 40s);
    EXPECT_THAT(offsets_of_all(), ElementsAre(2));
}

TEST_F(Lines, AWallClockThatIsSetBackLengthensNoDelay) {
    make();
    send({.payload = "x", .delay = 60s});
    commit();
    now.wall -= 24h;
    restart();
    consumer(7);
    pass(60s);
    EXPECT_THAT(offsets_of_all(), ElementsAre(1));
}

TEST_F(Lines, ADelayedMessageJoinsTheLineOfItsKeyWhenItIsDue) {
    make();
    send({.payload = "late", .ordering_key = "a", .delay = 5s});
    send_key("a");
    consumer(7);
    auto given = all();
    EXPECT_THAT(offsets(given), ElementsAre(2)) << "it is not in line yet";
    pass(5s);
    EXPECT_THAT(offsets_of_all(), IsEmpty()) << "and now it waits for the one that is out";
    settle(given[0], Verdict::ack);
    EXPECT_THAT(offsets_of_all(), ElementsAre(1));
}

TEST_F(Lines, AMessageCanExpireBeforeItsDelayIsOver) {
    make();
    send({.payload = "x", .delay = 1h, .ttl = 5s});
    commit();
    EXPECT_EQ(queue->next_deadline(), now.mono + 5s);
    pass(5s);
    all();
    EXPECT_EQ(queue->counters().dead_expired, 1U);
    EXPECT_EQ(queue->messages(), 0U);
}

TEST_F(Lines, AMessageBehindABusyKeyExpiresOnTime) {
    make({}, true, small());
    send_key("a");
    consumer(7);
    all();
    for (int i = 0; i < 50; ++i) send({.payload = "x", .ordering_key = "a", .ttl = 5s});
    commit();
    pass(5s);
    all();
    EXPECT_EQ(queue->counters().dead_expired, 50U);
}

TEST_F(Lines, ManyDelayedMessagesAreNotInMemory) {
    make({}, true, small());
    for (int i = 0; i < 900; ++i) send({.payload = "x", .delay = 1h});
    send({.payload = "at once"});
    commit();
    const auto id = consumer(7, 1, 10'000);
    EXPECT_THAT(offsets_of_all(), ElementsAre(901));
    EXPECT_EQ(queue->depth().waiting, 900U);
    pass_with(id, 1h);
    std::size_t seen = 0;
    for (int round = 0; round < 100; ++round) seen += all().size();
    EXPECT_EQ(seen, 900U);
}

TEST_F(Lines, ManyThatWaitForTheirRetryGoBackToTheStoreAndComeBackInTime) {
    make({}, true, small());
    for (int i = 0; i < 200; ++i) send({.payload = "x"});
    commit();
    consumer(7, 1, 10'000);
    std::size_t nacked = 0;
    for (int round = 0; round < 50; ++round) {
        for (const auto& one : all()) {
            ++nacked;
            settle(one, Verdict::nack, 1h);
        }
    }
    EXPECT_EQ(nacked, 200U);
    EXPECT_EQ(queue->depth().waiting, 200U);
    restart({}, small());
    EXPECT_EQ(queue->depth().waiting, 200U);
    consumer(7, 1, 10'000);
    pass(1h);
    std::size_t again = 0;
    for (int round = 0; round < 50; ++round) {
        for (const auto& one : all()) {
            ++again;
            EXPECT_EQ(one.attempt, 2U);
        }
    }
    EXPECT_EQ(again, 200U);
}

TEST_F(Lines, ARedrivenMessageKeepsItsKeyAndPriority) {
    make();
    send({.payload = "x", .priority = 4, .ordering_key = "a"});
    commit();
    consumer(7);
    settle(all().at(0), Verdict::reject);
    commit();
    queue->leave(1, now);
    send_priority(3);
    send({.payload = "y", .priority = 2, .ordering_key = "a"});
    ASSERT_TRUE(queue->redrive(dead.at(1), now));
    commit();
    consumer(8);
    const auto given = all();
    EXPECT_THAT(offsets(given), ElementsAre(2, 3)) << "behind the one of its key that came meanwhile";
    settle(given[1], Verdict::ack);
    EXPECT_THAT(offsets_of_all(), ElementsAre(4));
}

TEST_F(Lines, BodiesThatDoNotFitIntoOneReadAreReadInSeveral) {
    Limits limits = small();
    limits.bytes = 1000;
    make({}, true, limits);
    for (int i = 0; i < 6; ++i) send({.payload = std::string(400, 'x')});
    commit();
    const auto id = consumer(7);
    ASSERT_THAT(all(), SizeIs(6));
    queue->leave(id, now);
    consumer(8);
    EXPECT_THAT(all(), SizeIs(6)) << "given back without their bodies";
    EXPECT_EQ(queue->messages(), 6U) << "what was not read yet is not damaged";
}

}  // namespace
}  // namespace posthorn::queue
