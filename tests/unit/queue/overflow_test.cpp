// Queues that are full and make room.
#include <algorithm>
#include <random>
#include <set>

#include <gmock/gmock.h>

#include "unit/queue/fixture.hpp"

namespace posthorn::queue {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class Overflow : public QueueFixture {
protected:
    static QueuePolicy bounded(std::uint64_t messages, WhenFull when_full = WhenFull::drop_oldest) {
        return {.max_messages = messages, .when_full = when_full};
    }
    static Limits small() {
        return {.tracked = 1000, .ready = 4, .bytes = 3000, .waiting = 4, .waiting_soon = 1s, .line = 3, .block = 8};
    }
    std::vector<Offset> unsettled() const {
        std::vector<Offset> offsets;
        for (const auto& [offset, envelope] : stored) offsets.push_back(offset);
        return offsets;
    }
    std::vector<Offset> dead_of(store::Reason reason) const {
        std::vector<Offset> offsets;
        for (const auto& [offset, letter] : dead) {
            if (letter.record.reason == reason) offsets.push_back(offset);
        }
        return offsets;
    }
    // Until nothing is to be read any more.
    void settle_down() {
        constexpr int rounds = 200;  // a block each
        for (int i = 0; i < rounds; ++i) {
            std::vector<Delivered> none;
            queue->pause(true);
            queue->turn(now, none, recalls);
            queue->pause(false);
            commit();
        }
    }
    std::ptrdiff_t told() const {
        return std::count_if(events.begin(), events.end(),
                             [](const Event& event) { return event.kind == Event::Kind::overflow; });
    }
};

TEST_F(Overflow, TheOldestAreDeleted) {
    make(bounded(3));
    publish_many(5);
    consumer(7);
    EXPECT_THAT(offsets(turn()), ElementsAre(3, 4, 5));
    EXPECT_EQ(queue->messages(), 3U);
    EXPECT_EQ(queue->counters().dropped_full, 2U);
    EXPECT_EQ(told(), 1);
    commit();
    EXPECT_THAT(unsettled(), ElementsAre(3, 4, 5));
    EXPECT_EQ(producer->stored, 5U) << "nobody is refused";
    EXPECT_THAT(dead, IsEmpty());
}

TEST_F(Overflow, TheOldestAreDeadLettered) {
    make(bounded(3, WhenFull::dead_letter));
    publish_many(4);
    commit();
    publish();
    consumer(7);
    EXPECT_THAT(offsets(turn()), ElementsAre(3, 4, 5));
    commit();
    EXPECT_THAT(unsettled(), ElementsAre(3, 4, 5));
    EXPECT_THAT(dead_of(store::Reason::queue_full), ElementsAre(1, 2));
    EXPECT_EQ(dead.at(1).record.attempts, 0U);
    EXPECT_EQ(queue->counters().dead_queue_full, 2U);
    EXPECT_EQ(queue->depth().dead, 2U);
    EXPECT_EQ(told(), 1);
}

TEST_F(Overflow, BytesAreABoundAsWell) {
    const std::size_t size = envelope_bytes(identity(1), 1, std::string(100, 'x')).size();
    make({.max_bytes = 3 * size, .when_full = WhenFull::drop_oldest});
    for (int i = 0; i < 5; ++i) publish(std::string(100, 'x'));
    turn();
    EXPECT_EQ(queue->depth().bytes, 3 * size);
    publish(std::string(4 * size, 'x'));
    turn();
    EXPECT_EQ(queue->messages(), 1U) << "one is always allowed, and it is the latest";
    publish();
    consumer(7);
    EXPECT_THAT(offsets(turn()), ElementsAre(7));
}

TEST_F(Overflow, WhatConsumersHoldIsNotTouched) {
    make(bounded(3));
    consumer(7, 2, 2);
    publish_many(3);
    const auto held = turn();
    ASSERT_THAT(offsets(held), ElementsAre(1, 2));
    EXPECT_EQ(queue->free_messages(), 1U);
    publish_many(2);
    EXPECT_THAT(turn(), IsEmpty());
    EXPECT_EQ(queue->messages(), 3U);
    EXPECT_TRUE(settle(held[0], Verdict::release)) << "it is the oldest, and now nobody holds it";
    publish();
    EXPECT_THAT(offsets(turn()), ElementsAre(5));
    EXPECT_EQ(queue->counters().dropped_full, 3U);
    EXPECT_TRUE(settle(held[1], Verdict::ack));
}

TEST_F(Overflow, WhereNothingElseIsLeftTheLatestStaysAndProducersWait) {
    make(bounded(2));
    consumer(7, 2, 2);
    publish_many(2);
    EXPECT_THAT(turn(), SizeIs(2));
    EXPECT_EQ(queue->free_messages(), 0U);
    publish_many(2);
    turn();
    EXPECT_EQ(queue->messages(), 3U);
    settle_down();
    EXPECT_THAT(unsettled(), ElementsAre(1, 2, 4));
    std::vector<store::Read> reads;
    queue->wanted_reads(reads, now);
    EXPECT_THAT(reads, IsEmpty()) << "there is nothing to look for";
}

TEST_F(Overflow, DeadLettersThatBlockMakeProducersWait) {
    QueuePolicy policy = bounded(3, WhenFull::dead_letter);
    policy.dlq_max_messages = 2;
    make(policy);
    EXPECT_EQ(queue->free_messages(), 3U);
    publish_many(3);
    turn();
    EXPECT_EQ(queue->free_messages(), 2U) << "so many can go yet";
    publish_many(3);
    turn();
    EXPECT_EQ(queue->free_messages(), 0U);
    EXPECT_EQ(queue->messages(), 4U);
    EXPECT_EQ(queue->depth().dead, 2U);
    commit();
    EXPECT_TRUE(queue->purge(dead.at(1), now));
    turn();
    EXPECT_EQ(queue->messages(), 3U);
    policy.dlq_when_full = DlqWhenFull::drop_oldest;
    make(policy);
    publish_many(10);
    turn();
    EXPECT_EQ(queue->messages(), 3U);
    EXPECT_EQ(queue->free_messages(), 3U);
}

TEST_F(Overflow, TheOldestMayBeInTheStore) {
    for (const WhenFull when_full : {WhenFull::drop_oldest, WhenFull::dead_letter}) {
        stored.clear();
        dead.clear();
        make(bounded(30, when_full), true, small());
        for (int i = 0; i < 10; ++i) publish(Message{.payload = "low", .priority = 1});
        for (int i = 0; i < 10; ++i) publish(Message{.payload = "late", .delay = 1h});
        for (int i = 0; i < 10; ++i) publish(Message{.payload = "keyed", .ordering_key = "a"});
        for (int i = 0; i < 15; ++i) publish(Message{.payload = "high", .priority = 9});
        settle_down();
        EXPECT_EQ(queue->messages(), 30U);
        EXPECT_THAT(unsettled(), AllOf(SizeIs(30), Each(testing::Ge(16U))));
        EXPECT_EQ(queue->depth().waiting, 5U);
        EXPECT_EQ(queue->counters().dropped_full + queue->counters().dead_queue_full, 15U);
        EXPECT_EQ(dead.size(), when_full == WhenFull::dead_letter ? 15U : 0U);
        for (int i = 0; i < 29; ++i) publish();
        settle_down();
        EXPECT_THAT(unsettled(), SizeIs(30));
        EXPECT_EQ(unsettled().front(), 45U);
        EXPECT_EQ(queue->depth().waiting, 0U);
    }
}

TEST_F(Overflow, TheOldestMayBeAboutToBeStored) {
    make(bounded(10), true, small());
    for (int i = 0; i < 6; ++i) publish();
    for (int i = 0; i < 10; ++i) publish(Message{.payload = "high", .priority = 9});
    turn();
    settle_down();
    EXPECT_THAT(unsettled(), ElementsAre(7, 8, 9, 10, 11, 12, 13, 14, 15, 16));
}

TEST_F(Overflow, ALowerBoundHoldsAfterARestart) {
    make({}, true, small());
    consumer(7, 1, 1);
    publish_many(20);
    for (int i = 0; i < 10; ++i) publish(Message{.payload = "k", .ordering_key = std::to_string(i % 2)});
    commit();
    const auto held = turn();
    ASSERT_THAT(offsets(held), ElementsAre(1));
    commit();
    restart(bounded(10), small());
    settle_down();
    EXPECT_EQ(queue->messages(), 10U);
    std::vector<Offset> left{1};
    for (Offset offset = 22; offset <= 30; ++offset) left.push_back(offset);
    EXPECT_EQ(unsettled(), left) << "the one that is held stays";
    restart({}, small());
    consumer(8);
    std::size_t given = 0;
    for (int i = 0; i < 20; ++i) {
        for (const Delivered& one : turn()) {
            ++given;
            settle(one, Verdict::ack);
        }
        commit();
    }
    EXPECT_EQ(given, 9U);
}

TEST_F(Overflow, WhatComesBackFromAFullDiskIsStillGone) {
    make(bounded(2, WhenFull::dead_letter));
    publish_many(2);
    const auto batch = queue->gather(now);
    publish_many(1);
    turn();
    queue->take_back(batch, now);
    commit(false);
    EXPECT_THAT(stored, IsEmpty());
    commit();
    EXPECT_THAT(unsettled(), ElementsAre(2, 3));
    EXPECT_THAT(dead_of(store::Reason::queue_full), ElementsAre(1));

    make(bounded(2));
    stored.clear();
    publish_many(2);
    const auto other = queue->gather(now);
    publish_many(1);
    turn();
    queue->take_back(other, now);
    commit();
    EXPECT_THAT(unsettled(), ElementsAre(2, 3));
}

TEST_F(Overflow, WhatIsSentBackMakesRoomAsWell) {
    make(bounded(3));
    consumer(7);
    publish();
    settle(turn()[0], Verdict::reject);
    publish_many(3);
    commit();
    queue->set_window(1, 0, 0);
    EXPECT_TRUE(queue->redrive(dead.at(1), now));
    settle_down();
    EXPECT_THAT(unsettled(), ElementsAre(3, 4, 5));
    EXPECT_THAT(dead, IsEmpty());
    EXPECT_EQ(queue->depth().messages, 3U);
}

TEST_F(Overflow, InMemoryTheProducerIsToldThatTheyAreSettled) {
    for (const bool behind : {false, true}) {
        SCOPED_TRACE(behind);
        stored.clear();
        make(bounded(3), false, behind ? small() : Limits{});
        if (behind) {
            for (int i = 0; i < 4; ++i) publish(Message{.payload = "x", .priority = 1});
            publish_many(6);
            for (int i = 0; i < 4; ++i) publish(Message{.payload = "high", .priority = 9});
        } else {
            publish_many(14);
        }
        settle_down();
        EXPECT_EQ(queue->messages(), 3U);
        std::vector<SequenceRange> settled;
        queue->take_settled([&](Producer&, const auto& news) { settled = news; });
        ASSERT_THAT(settled, SizeIs(1));
        EXPECT_EQ(settled[0].first, 1U);
        EXPECT_EQ(settled[0].last, 11U);
        EXPECT_EQ(producer->unsettled, 3U);
    }
}

TEST_F(Overflow, InMemoryDeadLettersHaveABoundOfTheirOwn) {
    make(bounded(3, WhenFull::dead_letter), false);
    EXPECT_EQ(queue->policy().dlq_max_messages, 3U);
    EXPECT_EQ(queue->policy().dlq_max_bytes, defaults::memory_max_bytes);
    publish_many(6);
    turn();
    EXPECT_EQ(queue->messages(), 3U) << "dead letters take none of their room";
    EXPECT_EQ(queue->depth().dead, 3U);
    EXPECT_EQ(queue->free_messages(), 0U);
    EXPECT_TRUE(queue->dlq_blocks());
    commit();
    EXPECT_TRUE(queue->purge(dead.at(1), now));
    EXPECT_EQ(queue->free_messages(), 1U);

    QueuePolicy policy = bounded(3, WhenFull::dead_letter);
    policy.dlq_max_bytes = 1000;
    make(policy, false);
    stored.clear();
    dead.clear();
    publish_many(4);
    turn();
    commit();
    EXPECT_EQ(queue->edit(dead.at(1), Slice{std::string(1100, 'x')}, now), Queue::Edited::no_room);
    EXPECT_EQ(queue->edit(dead.at(1), Slice{std::string(500, 'x')}, now), Queue::Edited::yes);
}

TEST_F(Overflow, AnEditMakesNoMessageGo) {
    make({.max_messages = 10, .max_bytes = 1000, .when_full = WhenFull::drop_oldest}, false);
    consumer(7, 1, 1);
    publish(std::string(100, 'x'));
    settle(turn().at(0), Verdict::reject);
    publish(std::string(500, 'x'));
    publish(std::string(100, 'x'));
    commit();
    EXPECT_EQ(queue->edit(dead.at(1), Slice{std::string(900, 'x')}, now), Queue::Edited::no_room);
}

TEST_F(Overflow, ItIsToldTheFirstAndTheTenthTime) {
    make(bounded(1));
    publish();
    for (int i = 0; i < 10; ++i) {
        publish();
        turn();
    }
    EXPECT_EQ(told(), 2);
    EXPECT_EQ(events.back().count, 10U) << "messages so far";
}

TEST_F(Overflow, DamageIsNotWaitedFor) {
    make(bounded(5), true, small());
    for (int i = 0; i < 5; ++i) publish();
    commit();
    for (int i = 0; i < 5; ++i) publish(Message{.payload = "high", .priority = 9});
    queue->lost_damaged({.topic = "q", .range = {1, 5}, .messages = 5, .what = "test"});
    stored.clear();
    settle_down();
    EXPECT_EQ(queue->messages(), 5U);
    EXPECT_EQ(queue->counters().dropped_full, 0U);
    queue->lost_damaged({.topic = "q", .range = {1, 3}, .messages = 3, .what = "test", .dead = true, .dead_bytes = 9});
    EXPECT_EQ(queue->messages(), 5U) << "dead letters are none";
}

// Whatever happens beside: what goes was never with a consumer when it went, everything that nobody ever held and that
// is left is newer than all that went, and each is counted.
class RandomOverflow : public Overflow {
protected:
    void begin(unsigned seed) {
        random.seed(seed);
        stored.clear();
        marks.clear();
        terms.clear();
        dead.clear();
        last = {};
        accepted.clear();
        done.clear();
        given.clear();
        held.clear();
        gone = 0;
        policy = bounded(5 + pick(40), pick(2) == 0 ? WhenFull::drop_oldest : WhenFull::dead_letter);
        make(policy, true, pick(3) == 0 ? Limits{} : small());
        id = consumer(7, 3, 6);
    }
    unsigned pick(unsigned below) { return std::uniform_int_distribution<unsigned>{0, below - 1}(random); }
    void step() {
        switch (pick(8)) {
            case 0:
            case 1:
            case 2:
                for (unsigned count = pick(12); count > 0; --count) publish_one();
                break;
            case 3:
                for (const Delivered& one : turn()) {
                    held.push_back(one);
                    given.insert(one.offset);
                }
                break;
            case 4:
                while (!held.empty() && pick(4) != 0) settle_one();
                break;
            case 5:
                commit();
                break;
            case 6:
                pass(std::chrono::milliseconds{pick(500)});
                queue->heard(id, now);
                break;
            default:
                if (pick(4) == 0) {
                    find_a_full_disk();
                } else if (pick(10) == 0) {
                    begin_again();
                }
        }
    }
    void publish_one() {
        Message message{.payload = std::string(pick(200), 'x')};
        if (pick(4) == 0) message.priority = static_cast<std::uint8_t>(pick(10));
        if (pick(4) == 0) message.ordering_key = std::to_string(pick(3));
        if (pick(8) == 0) message.delay = std::chrono::milliseconds{pick(5000)};
        accepted.insert(queue->next_offset());
        publish(message);
    }
    void settle_one() {
        const Verdict verdict = pick(2) == 0 ? Verdict::ack : Verdict::release;
        EXPECT_TRUE(settle(held.back(), verdict)) << "it was taken from its consumer";
        if (verdict == Verdict::ack) done.insert(held.back().offset);
        held.pop_back();
    }
    void find_a_full_disk() {
        const auto batch = queue->gather(now);
        if (pick(2) == 0) publish_one();
        queue->take_back(batch, now);
    }
    void count_gone() {
        settle_down();
        gone += queue->counters().dropped_full + queue->counters().dead_queue_full;
    }
    void begin_again() {
        count_gone();
        std::vector<Held> kept;
        for (const Delivered& one : held) kept.push_back({one.offset, one.token});
        restart(policy, small());
        id = consumer(7, 3, 6, kept);
        EXPECT_THAT(lost, IsEmpty());
        for (Delivered& one : held) one.consumer = id;
    }
    void check() {
        count_gone();
        ASSERT_EQ(stored.size(), queue->messages());
        ASSERT_LE(stored.size(), std::max<std::size_t>(policy.max_messages, held.size() + 1));
        std::set<Offset> went;
        for (const Offset offset : accepted) {
            if (!done.contains(offset) && !stored.contains(offset)) went.insert(offset);
        }
        ASSERT_EQ(went.size(), gone);
        ASSERT_THAT(dead, SizeIs(policy.when_full == WhenFull::dead_letter ? went.size() : 0));
        for (const Offset offset : unsettled()) {
            ASSERT_TRUE(went.empty() || given.contains(offset) || offset > *went.rbegin()) << offset;
        }
    }

    std::mt19937 random;
    QueuePolicy policy;
    ConsumerId id = 0;
    std::set<Offset> accepted;
    std::set<Offset> done;
    std::set<Offset> given;
    std::vector<Delivered> held;
    std::uint64_t gone = 0;
};

TEST_F(RandomOverflow, TheOldestGoFirst) {
    for (unsigned seed = 1; seed <= 60 && !HasFailure(); ++seed) {
        SCOPED_TRACE(seed);
        begin(seed);
        for (int i = 0; i < 400; ++i) step();
        check();
    }
}

class MaxAge : public Overflow {
protected:
    static QueuePolicy aging(WhenFull when_full = WhenFull::block) { return {.when_full = when_full, .max_age = 10s}; }
};

TEST_F(MaxAge, WhatIsOlderExpires) {
    make(aging());
    publish_many(1);
    publish("x", 3s);
    publish("x", 1h);
    publish(Message{.payload = "late", .delay = 1h});
    commit();
    EXPECT_EQ(queue->next_deadline(), now.mono + 3s);
    pass(3s);
    turn();
    EXPECT_EQ(queue->counters().dead_expired, 1U);
    EXPECT_EQ(queue->next_deadline(), now.mono + 7s);
    pass(6999ms);
    publish_many(1);
    turn();
    EXPECT_EQ(queue->messages(), 4U);
    pass(1ms);
    consumer(7);
    EXPECT_THAT(offsets(turn()), ElementsAre(5));
    settle_down();  // the delayed one is not in memory
    EXPECT_EQ(queue->counters().dead_expired, 4U);
    EXPECT_EQ(dead.at(1).record.text, "older than the queue's max_age");
    EXPECT_EQ(dead.at(2).record.text, "not done within its time to live");
    EXPECT_THAT(dead_of(store::Reason::expired), ElementsAre(1, 2, 3, 4));
}

TEST_F(MaxAge, WithDropOldestItIsDeletedButForWhatHasATimeToLiveOfItsOwn) {
    make(aging(WhenFull::drop_oldest));
    publish_many(3);
    publish("x", 9s);
    pass(10s);
    turn();
    EXPECT_EQ(queue->messages(), 0U);
    EXPECT_EQ(queue->counters().dropped_expired, 3U);
    EXPECT_EQ(queue->counters().dead_expired, 1U);
    EXPECT_EQ(told(), 1);
    commit();
    EXPECT_THAT(stored, IsEmpty());
    EXPECT_THAT(dead, SizeIs(1));
}

TEST_F(MaxAge, WhatAConsumerHoldsLivesOnUntilItComesBack) {
    make(aging());
    consumer(7);
    publish_many(2);
    const auto held = turn();
    ASSERT_THAT(held, SizeIs(2));
    pass(20s);
    queue->heard(1, now);
    EXPECT_TRUE(settle(held[0], Verdict::ack));
    EXPECT_TRUE(settle(held[1], Verdict::release));
    EXPECT_THAT(turn(), IsEmpty());
    EXPECT_EQ(queue->counters().dead_expired, 1U);
}

TEST_F(MaxAge, HoldsForABacklogBeyondMemory) {
    make(aging(WhenFull::drop_oldest), true, small());
    publish_many(50);
    commit();
    pass(5s);
    publish_many(10);
    commit();
    pass(5s);
    settle_down();
    EXPECT_EQ(queue->messages(), 10U);
    EXPECT_EQ(unsettled().front(), 51U);
    pass(4999ms);
    settle_down();
    EXPECT_EQ(queue->messages(), 10U);
    pass(1ms);
    settle_down();
    EXPECT_EQ(queue->messages(), 0U);
    EXPECT_EQ(queue->counters().dropped_expired, 60U);
}

TEST_F(MaxAge, ANewOneHoldsForWhatWasStoredBefore) {
    make({}, true, small());
    publish_many(30);
    publish(Message{.payload = "keyed", .ordering_key = "a"});
    commit();
    pass(6s);
    publish_many(30);
    commit();
    restart(aging(), small());
    EXPECT_EQ(queue->messages(), 61U);
    pass(3s);
    settle_down();
    EXPECT_EQ(queue->messages(), 61U);
    pass(1s);
    settle_down();
    EXPECT_EQ(queue->messages(), 30U);
    pass(6s);
    settle_down();
    EXPECT_EQ(queue->messages(), 0U);
    EXPECT_THAT(dead_of(store::Reason::expired), SizeIs(61));
}

TEST_F(MaxAge, AWallClockThatIsSetBackMakesNothingOlderThanAtFirst) {
    make(aging());
    publish_many(30);
    commit();
    now.wall -= std::chrono::hours{5};
    restart(aging());
    pass(10s);
    settle_down();
    EXPECT_EQ(queue->messages(), 0U);
}

TEST_F(MaxAge, WhatIsSentBackBeginsAnew) {
    make(aging());
    publish_many(1);
    pass(10s);
    turn();
    commit();
    ASSERT_THAT(dead, SizeIs(1));
    EXPECT_TRUE(queue->redrive(dead.at(1), now));
    turn();
    commit();
    pass(9s);
    settle_down();
    EXPECT_EQ(queue->messages(), 1U);
    EXPECT_LE(queue->next_deadline(), now.mono + 1s);
    pass(1s);
    settle_down();
    EXPECT_EQ(queue->messages(), 0U);
    EXPECT_THAT(dead_of(store::Reason::expired), SizeIs(1));
}

}  // namespace
}  // namespace posthorn::queue
