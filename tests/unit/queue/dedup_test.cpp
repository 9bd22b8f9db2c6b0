// Deduplication keys: what counts as the same message, for how long, and over what.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit/queue/fixture.hpp"

namespace posthorn::queue {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class Deduplication : public QueueFixture {
protected:
    Accepted send(const std::string& key) { return publish(Message{.payload = "x", .dedup_key = key}); }
    std::vector<std::string> keys_written() const {
        std::vector<std::string> keys;
        for (const store::DedupKey& one : last.dedup_keys) keys.push_back(one.key);
        return keys;
    }
    bool is_told() const {
        return std::any_of(events.begin(), events.end(),
                           [](const Event& event) { return event.kind == Event::Kind::dedup_full; });
    }
};

TEST_F(Deduplication, AKeyIsTakenOnceWithinTheWindow) {
    make({.dedup_window = 10s});
    EXPECT_EQ(send("a"), Accepted::yes);
    EXPECT_EQ(send("b"), Accepted::yes);
    EXPECT_EQ(send(""), Accepted::yes);
    EXPECT_EQ(send(""), Accepted::yes) << "none is no key";
    pass(9999ms);
    EXPECT_EQ(send("a"), Accepted::deduplicated);
    EXPECT_EQ(queue->messages(), 4U);
    EXPECT_EQ(queue->counters().deduplicated, 1U);
    EXPECT_EQ(queue->counters().duplicates, 0U);
    commit();
    EXPECT_EQ(producer->stored, 5U) << "it counts as accepted";
    EXPECT_EQ(queue->publish(*producer, {.producer = identity(1), .sequence = 5, .previous = 4},
                             Slice{envelope_bytes(identity(1), 5)}, now),
              Accepted::duplicate);
    pass(1ms);
    EXPECT_EQ(send("a"), Accepted::yes) << "the window was not prolonged by the repeat";
    pass(9999ms);
    EXPECT_EQ(send("a"), Accepted::deduplicated);
}

TEST_F(Deduplication, ARepeatAloneIsConfirmed) {
    make();
    send("a");
    commit();
    EXPECT_EQ(send("a"), Accepted::deduplicated);
    EXPECT_TRUE(queue->has_changes());
    EXPECT_FALSE(queue->has_appends());
    commit();
    EXPECT_EQ(producer->stored, 2U);
}

TEST_F(Deduplication, ItHoldsForAnotherProducer) {
    make();
    send("a");
    producer = &queue->attach_producer(identity(2), now);
    envelope::Routing routing{.producer = identity(2), .sequence = 1, .dedup_key = "a"};
    EXPECT_EQ(queue->publish(*producer, routing, Slice{envelope_bytes(identity(2), 1)}, now), Accepted::deduplicated);
}

TEST_F(Deduplication, WindowZeroIsNone) {
    make({.dedup_window = 0s});
    send("a");
    EXPECT_EQ(send("a"), Accepted::yes);
    commit();
    EXPECT_THAT(keys_written(), IsEmpty());
}

TEST_F(Deduplication, WhatIsRefusedWasNotAccepted) {
    make({.max_messages = 1, .when_full = WhenFull::reject});
    EXPECT_EQ(send("a"), Accepted::yes);
    EXPECT_EQ(send("b"), Accepted::refused);
    EXPECT_EQ(send("a"), Accepted::deduplicated) << "it needs no room";
    consumer(7);
    for (const Delivered& one : turn()) settle(one, Verdict::ack);
    EXPECT_EQ(send("b"), Accepted::yes);
}

TEST_F(Deduplication, ItHoldsWhateverBecameOfTheFirstAndNotForRedrives) {
    make();
    for (const char* key : {"in flight", "done", "dead"}) send(key);
    consumer(7, 3);
    const auto given = turn();
    settle(given.at(1), Verdict::ack);
    settle(given.at(2), Verdict::reject);
    commit();
    for (const char* key : {"in flight", "done", "dead"}) EXPECT_EQ(send(key), Accepted::deduplicated) << key;
    EXPECT_TRUE(queue->redrive(dead.at(3), now));
    commit();
    EXPECT_THAT(offsets(turn()), ElementsAre(4));
}

TEST_F(Deduplication, AMemoryHomeSaysSettledAtOnce) {
    make({}, false);
    send("a");
    EXPECT_EQ(send("a"), Accepted::deduplicated);
    std::vector<SequenceRange> said;
    queue->take_settled([&](Producer&, const std::vector<SequenceRange>& news) { said = news; });
    EXPECT_THAT(said, ElementsAre(SequenceRange{2, 2}));
    EXPECT_THAT(queue->gather(now).dedup_keys, IsEmpty());
}

TEST_F(Deduplication, KeysAreStoredInTheCommitOfTheirMessages) {
    make();
    send("a");
    send("acked before it is stored");
    send("");
    consumer(7, 3);
    settle(turn().at(1), Verdict::ack);
    commit(false);
    EXPECT_THAT(keys_written(), IsEmpty()) << "there is no room for the messages";
    commit();
    EXPECT_THAT(keys_written(), ElementsAre("a", "acked before it is stored"));
    EXPECT_EQ(last.dedup_keys[1].offset, 2U);
    EXPECT_EQ(last.dedup_keys[1].accepted_at, now.wall);
    EXPECT_THAT(last.appends, SizeIs(2));
    send("b");
    commit();
    EXPECT_THAT(keys_written(), ElementsAre("b"));
}

TEST_F(Deduplication, WhatWasNotStoredIsStoredLater) {
    make({.dedup_window = 10s});
    send("old");
    commit();
    pass(5s);
    send("a");
    pass(5s);
    turn();
    const store::TopicBatch batch = queue->gather(now);
    EXPECT_EQ(batch.dedup_gone, 2U);
    send("b");
    queue->take_back(batch, now);
    EXPECT_EQ(send("a"), Accepted::deduplicated);
    commit();
    EXPECT_THAT(keys_written(), ElementsAre("a", "b"));
    EXPECT_EQ(last.dedup_gone, 2U);
    EXPECT_THAT(dedup, SizeIs(1));
}

TEST_F(Deduplication, ItHoldsOverRestarts) {
    const QueuePolicy policy{.dedup_window = 10s};
    make(policy);
    send("a");
    commit();
    pass(1s);
    send("b");
    commit();
    send("not stored");
    pass(8999ms);
    restart(policy);
    EXPECT_EQ(send("a"), Accepted::deduplicated);
    EXPECT_EQ(send("b"), Accepted::deduplicated);
    EXPECT_EQ(send("not stored"), Accepted::yes);
    commit();
    pass(1ms);
    restart(policy);
    EXPECT_EQ(send("a"), Accepted::yes);
    EXPECT_EQ(send("b"), Accepted::deduplicated);
    commit();
    pass(1s);
    restart(policy);
    EXPECT_EQ(send("b"), Accepted::yes);
    EXPECT_EQ(send("a"), Accepted::deduplicated) << "the later one counts";
}

TEST_F(Deduplication, OfAKeyThatIsStoredTwiceTheLaterCounts) {
    const QueuePolicy policy{.dedup_window = 10s};
    make(policy);
    send("a");
    pass(5s);
    send("keeps the row of the first");
    commit();
    pass(5s);
    EXPECT_EQ(send("a"), Accepted::yes);
    commit();
    ASSERT_THAT(dedup, SizeIs(2));
    restart(policy);
    EXPECT_EQ(send("a"), Accepted::deduplicated);
}

TEST_F(Deduplication, AWallClockThatIsSetBackMakesNoWindowLonger) {
    const QueuePolicy policy{.dedup_window = 10s};
    make(policy);
    send("a");
    commit();
    now.wall -= 1h;
    send("b");
    commit();
    pass(4s);
    restart(policy);
    pass(5999ms);
    EXPECT_EQ(send("a"), Accepted::deduplicated);
    pass(1ms);
    EXPECT_EQ(send("a"), Accepted::yes) << "it was accepted before b";
    EXPECT_EQ(send("b"), Accepted::yes);
}

TEST_F(Deduplication, WhatIsOverIsForgottenInTheStoreAsWell) {
    make({.dedup_window = 10s});
    send("a");
    commit();
    pass(4s);
    send("b");
    send("c");
    commit();
    pass(6s);
    turn();
    EXPECT_FALSE(queue->has_changes()) << "not worth a commit of its own";
    publish();
    commit();
    EXPECT_THAT(dedup, SizeIs(1));
    pass(4s - 1ns);
    turn();
    EXPECT_EQ(queue->next_deadline(), now.mono + 1ns);
    EXPECT_FALSE(queue->has_changes());
    pass(1ns);
    turn();
    EXPECT_TRUE(queue->has_changes()) << "but when nothing is left";
    commit();
    EXPECT_THAT(dedup, IsEmpty());
    EXPECT_FALSE(queue->has_changes());
}

TEST_F(Deduplication, AStoreThatKnowsKeysIsToldThatTheyAreNotLookedAtAnyMore) {
    make();
    send("a");
    commit();
    restart({.dedup_window = 0s});
    EXPECT_EQ(send("a"), Accepted::yes);
    commit();
    EXPECT_THAT(dedup, IsEmpty());
}

TEST_F(Deduplication, WhenThereAreTooManyTheOldestAreForgottenWithAWord) {
    constexpr std::size_t three = 3 * 129;  // a byte each, and what is beside it
    make({}, true, {.dedup = three});
    for (const char* key : {"1", "2", "3"}) send(key);
    EXPECT_EQ(send("1"), Accepted::deduplicated);
    EXPECT_FALSE(is_told());
    send("4");
    EXPECT_TRUE(is_told());
    EXPECT_EQ(events.back().count, 1U);
    commit();
    EXPECT_EQ(send("2"), Accepted::deduplicated);
    EXPECT_EQ(send("1"), Accepted::yes);
    commit();
    events.clear();
    restart({}, {.dedup = three - 1});
    EXPECT_TRUE(is_told()) << "a store may have more than there is memory for";
    EXPECT_EQ(send("4"), Accepted::deduplicated);
    EXPECT_EQ(send("1"), Accepted::deduplicated);
    EXPECT_EQ(send("3"), Accepted::yes);
}

}  // namespace
}  // namespace posthorn::queue
