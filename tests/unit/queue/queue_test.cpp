#include <gmock/gmock.h>

#include <cstring>

#include "fixture.hpp"

namespace posthorn::queue {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST_F(QueueFixture, DeliversInOrderWithinTheWindow) {
    make();
    publish_many(5);
    consumer(7, 1, 3);
    const auto first = turn();
    EXPECT_THAT(offsets(first), ElementsAre(1, 2, 3));
    EXPECT_EQ(first[0].attempt, 1U);
    EXPECT_TRUE(settle(first[0], Verdict::ack));
    EXPECT_THAT(offsets(turn()), ElementsAre(4));
}

TEST_F(QueueFixture, FreeHandlersAreServedBeforeAnyoneGetsMore) {
    make();
    publish_many(2);
    const auto a = consumer(7, 1, 10);
    const auto b = consumer(8, 1, 10);
    const auto given = turn();
    ASSERT_THAT(given, SizeIs(2));
    EXPECT_NE(given[0].consumer, given[1].consumer);
    static_cast<void>(a);
    static_cast<void>(b);
}

TEST_F(QueueFixture, ADuplicateIsNotTakenAgainAndAGapIsRefused) {
    make();
    publish_many(3);
    EXPECT_EQ(queue->publish(*producer, {identity(1), 2, 1}, Slice{envelope_bytes(identity(1), 2)}, now),
              Accepted::duplicate);
    EXPECT_EQ(queue->publish(*producer, {identity(1), 6, 5}, Slice{envelope_bytes(identity(1), 6)}, now),
              Accepted::gap);
    // A message the producer dropped itself leaves a legal gap: it names the sequence before.
    EXPECT_EQ(queue->publish(*producer, {identity(1), 6, 3}, Slice{envelope_bytes(identity(1), 6)}, now),
              Accepted::yes);
    EXPECT_EQ(queue->messages(), 4U);
}

TEST_F(QueueFixture, AProducerThatIsForgottenAndComesBackIsRemembered) {
    make();
    publish_many(1);
    commit();
    queue->detach_producer(*producer, now);
    pass(defaults::producer_memory + 1h);
    turn();
    EXPECT_TRUE(queue->has_changes());
    producer = &queue->attach_producer(identity(1), now);
    publish_many(1);
    commit();
    EXPECT_THAT(last.watermarks, SizeIs(1));
    EXPECT_THAT(last.forgotten, IsEmpty()) << "the watermark would go with it";
}

TEST_F(QueueFixture, ANamedProducerIsNotForgottenForItsSilence) {
    make();
    queue->take_over(*producer, identity(8), now);
    commit();
    ASSERT_THAT(last.watermarks, SizeIs(1)) << "known before it has sent anything";
    EXPECT_EQ(last.watermarks[0].life, identity(8));
    EXPECT_EQ(producer->stored_life, identity(8));
    queue->detach_producer(*producer, now);
    pass(2 * defaults::producer_memory);
    turn();
    EXPECT_NE(queue->find_producer(identity(1)), nullptr);
    EXPECT_FALSE(queue->has_changes());
    // Where there are too many it goes last, though it was not seen for longest.
    for (std::size_t i = 0; i < defaults::producers_remembered; ++i) {
        Identity id = identity(2);
        std::memcpy(id.bytes.data(), &i, sizeof i);
        queue->detach_producer(queue->attach_producer(id, now), now);
    }
    EXPECT_NE(queue->find_producer(identity(1)), nullptr);
}

TEST_F(QueueFixture, AResendFromAnUnknownProducerIsMarked) {
    make();
    Producer& other = queue->attach_producer(identity(9), now);
    EXPECT_EQ(queue->publish(other, {identity(9), 5, 4}, Slice{envelope_bytes(identity(9), 5)}, now), Accepted::yes);
    consumer(7);
    const auto given = turn();
    ASSERT_THAT(given, SizeIs(1));
    EXPECT_TRUE(given[0].maybe_duplicate);
}

TEST_F(QueueFixture, FullQueueRejectsAndRemembersTheRefusal) {
    make({.max_messages = 2, .when_full = WhenFull::reject});
    publish_many(2);
    EXPECT_EQ(publish(), Accepted::refused);
    ASSERT_EQ(producer->refusals.size(), 1U);
    EXPECT_EQ(producer->refusals[0].code, "queue_full");
    EXPECT_EQ(producer->decided, 3U);
    EXPECT_EQ(queue->messages(), 2U);
    commit();
    ASSERT_EQ(last.watermarks.size(), 1U);
    EXPECT_EQ(last.watermarks[0].refusals.size(), 1U);
}

TEST_F(QueueFixture, BytesAreRejectedExactlyUnlessTheQueueIsEmpty) {
    const std::size_t size = envelope_bytes(identity(1), 1, std::string(100, 'x')).size();
    make({.max_bytes = 2 * size, .when_full = WhenFull::reject});
    EXPECT_EQ(publish(std::string(1000, 'x')), Accepted::yes) << "one is always allowed";
    EXPECT_EQ(publish(), Accepted::refused);
    consumer(7);
    settle(turn().at(0), Verdict::ack);
    EXPECT_EQ(publish(std::string(100, 'x')), Accepted::yes);
    EXPECT_EQ(publish(std::string(101, 'x')), Accepted::refused) << "a byte too much";
    EXPECT_EQ(publish(std::string(100, 'x')), Accepted::yes);
    EXPECT_EQ(queue->depth().bytes, 2 * size);
    EXPECT_EQ(publish(""), Accepted::refused);
    for (const Delivered& one : turn()) settle(one, Verdict::ack);
    EXPECT_EQ(queue->depth().bytes, 0U);
}

TEST_F(QueueFixture, InMemoryDeadLettersAreRejectedFor) {
    make({.max_messages = 3, .max_bytes = 1000, .when_full = WhenFull::reject}, false);
    EXPECT_EQ(publish(std::string(600, 'x')), Accepted::yes);
    consumer(7);
    settle(turn().at(0), Verdict::reject);
    EXPECT_EQ(publish(std::string(600, 'x')), Accepted::refused) << "they would have no end";
    EXPECT_EQ(publish(), Accepted::yes);
}

TEST_F(QueueFixture, NackWaitsForItsBackoffAndCountsAnAttempt) {
    make({.backoff = {.kind = Backoff::Kind::fixed, .min = 2s}});
    publish_many(2);
    consumer(7, 1, 1);
    auto given = turn();
    EXPECT_TRUE(settle(given[0], Verdict::nack));
    given = turn();
    EXPECT_THAT(offsets(given), ElementsAre(2)) << "the failed one must not hold up the rest";
    EXPECT_EQ(queue->next_deadline(), now.mono + 2s);
    EXPECT_TRUE(settle(given[0], Verdict::ack));
    commit();
    pass(2s);
    turn();
    commit();  // its body was let go and has to be fetched
    given = turn();
    ASSERT_THAT(offsets(given), ElementsAre(1));
    EXPECT_EQ(given[0].attempt, 2U);
}

TEST_F(QueueFixture, NackWithADelayOfItsOwn) {
    make();
    publish_many(1);
    consumer(7);
    settle(turn()[0], Verdict::nack, 7s);
    EXPECT_EQ(queue->next_deadline(), now.mono + 7s);
}

TEST_F(QueueFixture, ReleaseDoesNotCountAndGoesBackToItsPlace) {
    make();
    publish_many(3);
    consumer(7, 1, 2);
    const auto given = turn();
    commit();
    settle(given[0], Verdict::release);
    turn();
    commit();
    const auto again = turn();
    ASSERT_THAT(offsets(again), ElementsAre(1)) << "before the third, which was never delivered";
    EXPECT_EQ(again[0].attempt, 1U);
    EXPECT_GT(again[0].token, given[0].token);
}

TEST_F(QueueFixture, RejectIsADeadLetterAtOnce) {
    make();
    publish_many(1);
    consumer(7);
    settle(turn()[0], Verdict::reject, {}, "no such file");
    commit();
    ASSERT_EQ(dead.size(), 1U);
    EXPECT_EQ(dead[1].record.reason, store::Reason::rejected);
    EXPECT_EQ(dead[1].record.text, "no such file");
    EXPECT_EQ(dead[1].record.attempts, 1U);
    EXPECT_EQ(queue->depth().dead, 1U);
    EXPECT_EQ(queue->messages(), 0U);
}

TEST_F(QueueFixture, MaxAttemptsEndsInADeadLetterWithTheLastText) {
    make({.max_attempts = 3, .backoff = {.kind = Backoff::Kind::fixed, .min = 0s}});
    publish_many(1);
    consumer(7);
    for (int attempt = 1; attempt <= 3; ++attempt) {
        auto given = turn();
        if (given.empty()) {
            commit();
            given = turn();
        }
        ASSERT_THAT(given, SizeIs(1)) << attempt;
        settle(given[0], Verdict::nack, {}, "failure " + std::to_string(attempt));
    }
    commit();
    ASSERT_EQ(dead.size(), 1U);
    EXPECT_EQ(dead[1].record.reason, store::Reason::max_attempts);
    EXPECT_EQ(dead[1].record.attempts, 3U);
    EXPECT_EQ(dead[1].record.text, "failure 3");
}

TEST_F(QueueFixture, ALeaseIsRenewedByItsSessionAndEndsWithoutIt) {
    make({.lease = 30s});
    publish_many(1);
    const auto id = consumer(7);
    const auto given = turn();
    pass(29s);
    queue->heard(id, now);
    pass(29s);
    EXPECT_THAT(turn(), IsEmpty());
    EXPECT_EQ(queue->depth().in_flight, 1U);
    queue->detach(id, now);  // losing a link is not dying
    pass(500ms);
    turn();
    EXPECT_EQ(queue->depth().in_flight, 1U);
    pass(1s);
    turn();
    EXPECT_EQ(queue->depth().in_flight, 0U);
    EXPECT_FALSE(settle(given[0], Verdict::ack)) << "a late ack is stale";
    EXPECT_EQ(queue->messages(), 1U);
}

TEST_F(QueueFixture, ExtendKeepsADeliveryBeyondTheLostSession) {
    make({.lease = 10s});
    publish_many(2);
    const auto id = consumer(7, 2, 2);
    const auto given = turn();
    ASSERT_TRUE(queue->extend(id, {given[0].offset, given[0].token}, 60s, now));
    queue->detach(id, now);
    pass(11s);
    turn();
    EXPECT_EQ(queue->depth().in_flight, 1U);
    pass(50s);
    turn();
    EXPECT_EQ(queue->depth().in_flight, 0U);
}

TEST_F(QueueFixture, TheLeaseCapTakesAMessageFromAHandlerThatHangs) {
    make({.backoff = {.kind = Backoff::Kind::fixed, .min = 0s}, .lease = 10s, .lease_cap = 100s});
    publish_many(1);
    const auto id = consumer(7, 1, 1);
    turn();
    for (int i = 0; i < 30; ++i) {
        pass(5s);
        queue->heard(id, now);
        turn();
    }
    const auto lost_leases = queue->take_lost();
    ASSERT_THAT(lost_leases, SizeIs(1));
    EXPECT_EQ(lost_leases[0].first, id);
    EXPECT_EQ(queue->counters().expired_leases, 1U);
}

TEST_F(QueueFixture, ResumeKeepsWhatIsHeldAndGivesBackTheRestUncharged) {
    make();
    publish_many(3);
    const auto id = consumer(7, 1, 3);
    const auto given = turn();
    queue->detach(id, now);
    pass(1s);
    const auto again = consumer(7, 1, 3, {{given[1].offset, given[1].token}});
    EXPECT_EQ(again, id);
    EXPECT_THAT(lost, IsEmpty());
    EXPECT_EQ(queue->depth().in_flight, 1U);
    const auto back = turn();
    ASSERT_THAT(offsets(back), ElementsAre(1, 3));
    EXPECT_EQ(back[0].attempt, 1U);
    EXPECT_TRUE(settle(given[1], Verdict::ack));
}

TEST_F(QueueFixture, ASettleThatIsRepeatedAfterAResumeIsNotStale) {
    make();
    publish_many(1);
    const auto id = consumer(7);
    const auto given = turn();
    EXPECT_TRUE(settle(given[0], Verdict::nack, 10s));
    queue->detach(id, now);
    consumer(7, 1, 1, {{given[0].offset, given[0].token}});
    EXPECT_THAT(lost, IsEmpty());
    EXPECT_TRUE(settle(given[0], Verdict::nack, 10s));
    EXPECT_EQ(queue->counters().nacked, 1U) << "applied once";
}

TEST_F(QueueFixture, ByeGivesBackAtOnce) {
    make();
    publish_many(2);
    const auto id = consumer(7);
    turn();
    queue->leave(id, now);
    EXPECT_EQ(queue->depth().in_flight, 0U);
    EXPECT_EQ(queue->depth().consumers, 0U);
}

TEST_F(QueueFixture, AckedBeforeItsCommitTheBodyIsNotWritten) {
    make();
    publish_many(2);
    consumer(7);
    const auto given = turn();
    settle(given[0], Verdict::ack);
    commit();
    ASSERT_EQ(last.appends.size(), 1U);
    EXPECT_EQ(last.appends[0].offset, 2U);
    EXPECT_EQ(last.next_offset, 3U);
    ASSERT_EQ(last.watermarks.size(), 1U);
    EXPECT_EQ(last.watermarks[0].sequence, 2U) << "the watermark is written all the same";
    EXPECT_THAT(last.settled, IsEmpty());
}

TEST_F(QueueFixture, StoredIsSaidOnlyAfterTheCommit) {
    make();
    publish_many(2);
    auto batch = queue->gather(now);
    publish_many(1);
    EXPECT_EQ(producer->stored, 0U);
    queue->committed();
    EXPECT_EQ(producer->stored, 2U);
    EXPECT_EQ(producer->decided, 3U);
}

TEST_F(QueueFixture, ARestartKeepsLeasesAttemptsAndBackoff) {
    const QueuePolicy policy{.backoff = {.kind = Backoff::Kind::fixed, .min = 5s}, .lease = 30s};
    make(policy);
    publish_many(3);
    consumer(7, 1, 2);
    const auto given = turn();
    settle(given[0], Verdict::nack);
    commit();
    restart(policy);
    consumer(8, 1, 10);
    turn();
    commit();
    EXPECT_THAT(offsets(turn()), ElementsAre(3)) << "the first waits, the second is still worked on";
    const auto same = consumer(7, 1, 2, {{given[1].offset, given[1].token}});
    EXPECT_THAT(lost, IsEmpty());
    EXPECT_TRUE(queue->settle(same, {given[1].offset, given[1].token, Verdict::ack, {}, {}}, now));
    pass(6s);
    turn();
    commit();
    const auto retried = turn();
    ASSERT_THAT(offsets(retried), ElementsAre(1));
    EXPECT_EQ(retried[0].attempt, 2U);
}

TEST_F(QueueFixture, ADeliveryTheRestartForgotIsAdopted) {
    make();
    publish_many(2);
    commit();
    consumer(7, 1, 1);
    const auto given = turn();  // not committed: this life ends before
    restart();
    const auto id = consumer(7, 1, 1, {{given[0].offset, given[0].token}});
    EXPECT_THAT(lost, IsEmpty());
    EXPECT_THAT(turn(), IsEmpty()) << "it is still worked on";
    EXPECT_TRUE(queue->settle(id, {given[0].offset, given[0].token, Verdict::ack, {}, {}}, now));
}

TEST_F(QueueFixture, ALaterDeliveryThatWasNeverWrittenDownReplacesTheOneThatWas) {
    make();
    publish_many(1);
    consumer(7, 1, 1);
    const auto first = turn().at(0);
    commit();  // leased with this token
    settle(first, Verdict::nack, 0s);
    turn();
    read_on();
    const auto second = turn().at(0);  // and this one is not committed: this life ends before
    restart();
    const auto id = consumer(7, 1, 1, {{first.offset, first.token}, {second.offset, second.token}});
    EXPECT_THAT(lost, IsEmpty());
    EXPECT_THAT(turn(), IsEmpty());
    EXPECT_TRUE(queue->settle(id, {first.offset, first.token, Verdict::nack, 0s, {}}, now)) << "repeated";
    EXPECT_THAT(turn(), IsEmpty()) << "the token would name two deliveries, and its consumer would not take the second";
    EXPECT_TRUE(queue->settle(id, {second.offset, second.token, Verdict::ack, {}, {}}, now));
    EXPECT_EQ(queue->messages(), 0U);
}

TEST_F(QueueFixture, ALaterDeliveryToAnotherThatWasNeverWrittenDownTakesTheLeaseOver) {
    make();
    publish_many(1);
    consumer(7, 1, 1);
    const auto first = turn().at(0);
    commit();
    settle(first, Verdict::release);
    queue->leave(first.consumer, now);
    consumer(8, 1, 1);
    turn();
    read_on();
    const auto second = turn().at(0);
    restart();
    consumer(7, 1, 1, {{first.offset, first.token}});
    EXPECT_THAT(lost, IsEmpty()) << "as far as was written down it is still its own";
    const auto id = consumer(8, 1, 1, {{second.offset, second.token}});
    EXPECT_THAT(lost, IsEmpty());
    EXPECT_THAT(queue->take_lost(), SizeIs(1)) << "the first one is told";
    EXPECT_TRUE(queue->settle(id, {second.offset, second.token, Verdict::ack, {}, {}}, now));
    EXPECT_EQ(queue->messages(), 0U);
}

TEST_F(QueueFixture, AMessageThatDiedUnstoredIsNotTakenForAnother) {
    make();
    publish_many(1);
    commit();
    publish_many(1);
    consumer(7, 2, 2);
    const auto given = turn();
    ASSERT_THAT(offsets(given), ElementsAre(1, 2));
    restart();  // the second was delivered ahead of its commit
    publish_many(1);
    consumer(7, 2, 0, {{1, given[0].token}, {2, given[1].token}});
    ASSERT_THAT(lost, SizeIs(1));
    EXPECT_EQ(lost[0].offset, 2U);
    consumer(8);
    const auto again = turn();
    ASSERT_THAT(again, SizeIs(1));
    EXPECT_GT(again[0].offset, 2U);
}

TEST_F(QueueFixture, ASettlementOfTheLastLifeIsConfirmedAndOneOfALifeBeforeIsNot) {
    make();
    publish_many(1);
    consumer(7, 2, 2);
    const auto first = turn();
    settle(first.at(0), Verdict::ack);
    commit();
    publish_many(1);
    const auto second = turn();  // dies unstored
    restart();
    publish_many(1);
    consumer(8, 2, 2);
    settle(turn().at(0), Verdict::ack);
    commit();
    restart();
    consumer(8, 2, 2, {{last.next_offset - 1, 1}});
    EXPECT_THAT(lost, IsEmpty());
    consumer(7, 2, 2, {{second.at(0).offset, second[0].token}});
    EXPECT_THAT(lost, SizeIs(1)) << "it is sent again, and was acked for nobody";
}

TEST_F(QueueFixture, ABacklogBeyondTheWindowIsReadOn) {
    make();
    const int many = static_cast<int>(defaults::window_messages) + 5000;
    for (int i = 0; i < many; ++i) {
        publish_many(1);
        if (i % 1000 == 999) commit();
    }
    commit();
    const auto id = consumer(7, 1, 1000);
    Offset expected = 1;
    for (int rounds = 0; rounds < 1000 && expected <= static_cast<Offset>(many); ++rounds) {
        for (const auto& one : turn()) {
            ASSERT_EQ(one.offset, expected++);
            ASSERT_TRUE(settle(one, Verdict::ack));
        }
        commit();
    }
    EXPECT_EQ(expected, static_cast<Offset>(many) + 1);
    EXPECT_EQ(queue->messages(), 0U);
    EXPECT_TRUE(stored.empty());
    static_cast<void>(id);
}

TEST_F(QueueFixture, AFullWindowIsNotInTheWayOfTheBodyThatIsNext) {
    make();
    for (std::size_t bytes = 0; bytes < 2 * defaults::window_bytes; bytes += 64 * 1024) {
        publish(std::string(64 * 1024, 'x'));
    }
    commit();
    consumer(7, 1, 1);
    const auto first = turn();
    ASSERT_THAT(offsets(first), ElementsAre(1));
    commit();  // its place in the window goes to another
    settle(first[0], Verdict::release);
    EXPECT_THAT(turn(), IsEmpty());
    commit();
    EXPECT_THAT(offsets(turn()), ElementsAre(1));
}

TEST_F(QueueFixture, WithoutRoomWhatIsStoredIsSettledAndTheRestWaits) {
    make();
    publish_many(3);
    commit();
    publish_many(3);
    consumer(7, 10);
    const auto given = turn();
    ASSERT_THAT(given, SizeIs(6));
    settle(given[0], Verdict::ack);
    settle(given[1], Verdict::reject);
    EXPECT_TRUE(queue->has_changes(false));
    settle(given[3], Verdict::ack);
    settle(given[4], Verdict::reject);
    commit(false);
    EXPECT_THAT(last.appends, IsEmpty());
    EXPECT_THAT(last.watermarks, IsEmpty());
    EXPECT_THAT(last.settled, ElementsAre(store::OffsetRange{1, 1}));
    ASSERT_THAT(last.dead, SizeIs(1));
    EXPECT_EQ(last.dead[0].offset, 2U);
    ASSERT_THAT(last.marks, SizeIs(1));
    EXPECT_EQ(last.marks[0].offset, 3U);
    EXPECT_EQ(producer->stored, 3U);
    EXPECT_EQ(queue->pending_first(), 4U);
    EXPECT_EQ(last.next_offset, 4U) << "else the next life would take the rest for settled";
    EXPECT_FALSE(queue->has_changes(false));
    EXPECT_TRUE(queue->has_changes());

    commit();
    EXPECT_THAT(last.settled, IsEmpty());
    ASSERT_THAT(last.appends, SizeIs(2));
    EXPECT_EQ(last.appends[0].offset, 5U) << "the fourth was acked before it was stored";
    EXPECT_EQ(last.appends[1].offset, 6U);
    ASSERT_THAT(last.dead, SizeIs(1));
    EXPECT_EQ(last.dead[0].offset, 5U);
    ASSERT_THAT(last.marks, SizeIs(1));
    EXPECT_EQ(last.marks[0].offset, 6U);
    EXPECT_EQ(producer->stored, 6U);
}

TEST_F(QueueFixture, WhatIsTakenBackIsGatheredAgainWithWhatHasHappenedSince) {
    make();
    publish_many(1);
    commit();
    publish_many(4);
    consumer(7, 10);
    const auto given = turn();
    ASSERT_THAT(given, SizeIs(5));
    settle(given[0], Verdict::ack);
    settle(given[1], Verdict::ack);  // a hole in front
    const std::uint64_t size = given[1].envelope.size();
    EXPECT_EQ(queue->uncommitted_bytes(), 3 * size);
    const store::TopicBatch batch = queue->gather(now);
    EXPECT_EQ(batch.appends.size(), 3U);
    settle(given[2], Verdict::ack);
    settle(given[3], Verdict::release);
    settle(given[4], Verdict::reject);
    publish_many(1);
    queue->take_back(batch, now);
    EXPECT_EQ(queue->pending_first(), 2U);
    EXPECT_EQ(queue->uncommitted_bytes(), 3 * size) << "4 and 5, and the new one";
    EXPECT_EQ(producer->stored, 1U);
    EXPECT_THAT(offsets(turn()), ElementsAre(4, 6)) << "the store need not, and cannot, be asked for it";

    commit(false);
    EXPECT_THAT(last.settled, ElementsAre(store::OffsetRange{1, 1}));
    EXPECT_THAT(last.appends, IsEmpty());
    EXPECT_THAT(last.dead, IsEmpty());
    EXPECT_THAT(last.marks, IsEmpty());
    EXPECT_THAT(last.watermarks, IsEmpty());
    EXPECT_EQ(producer->stored, 1U);
    EXPECT_EQ(queue->uncommitted_bytes(), 3 * size);

    commit();
    EXPECT_THAT(last.settled, IsEmpty());
    ASSERT_THAT(last.appends, SizeIs(3));
    EXPECT_EQ(last.appends[0].offset, 4U);
    EXPECT_EQ(last.appends[1].offset, 5U);
    EXPECT_EQ(last.appends[2].offset, 6U);
    ASSERT_THAT(last.dead, SizeIs(1));
    EXPECT_EQ(last.dead[0].offset, 5U);
    ASSERT_THAT(last.marks, SizeIs(2));
    EXPECT_EQ(last.marks[0].token, 2U);
    EXPECT_EQ(producer->stored, 6U);
    EXPECT_EQ(queue->uncommitted_bytes(), 0U);
    EXPECT_FALSE(queue->has_changes());
}

TEST_F(QueueFixture, ABatchOfSettlementsThatIsTakenBackIsGatheredAgain) {
    make();
    publish_many(5);
    consumer(7, 10);
    const auto given = turn();
    commit();
    for (int i = 0; i < 3; ++i) settle(given[static_cast<std::size_t>(i)], Verdict::ack);
    settle(given[3], Verdict::reject);
    const store::TopicBatch batch = queue->gather(now, false);
    settle(given[4], Verdict::ack);
    publish_many(1);
    queue->take_back(batch, now);
    commit(false);
    EXPECT_THAT(last.settled, ElementsAre(store::OffsetRange{1, 3}, store::OffsetRange{5, 5}));
    EXPECT_THAT(last.dead, SizeIs(1));
    EXPECT_TRUE(stored.empty());
    EXPECT_EQ(queue->pending_first(), 6U);
}

TEST_F(QueueFixture, WithoutRoomDeadLettersArePurgedAndNotSentBack) {
    make();
    publish_many(2);
    consumer(7, 10);
    for (const Delivered& one : turn()) settle(one, Verdict::reject);
    commit();
    const auto letters = dead;
    EXPECT_TRUE(queue->redrive(letters.at(1), now));
    EXPECT_TRUE(queue->purge(letters.at(2), now));
    commit(false);
    EXPECT_THAT(last.redrives, IsEmpty());
    EXPECT_THAT(last.purged, ElementsAre(2));
    EXPECT_FALSE(queue->redrive(letters.at(1), now)) << "it is still on its way";
    queue->take_back(queue->gather(now), now);
    EXPECT_FALSE(queue->redrive(letters.at(1), now));
    commit();
    EXPECT_TRUE(dead.empty());
    EXPECT_THAT(offsets(turn()), ElementsAre(3));
}

TEST_F(QueueFixture, WithoutRoomABacklogBeyondTheWindowIsDeliveredFromMemory) {
    make();
    Offset many = 0;
    for (std::size_t bytes = 0; bytes < 2 * defaults::window_bytes; bytes += 64 * 1024, ++many) {
        ASSERT_EQ(publish(std::string(64 * 1024, 'x')), Accepted::yes);
        if (many % 100 == 0) queue->take_back(queue->gather(now), now);
    }
    consumer(7, 1, 10);
    for (Offset expected = 1; expected <= many;) {
        const auto given = turn();
        ASSERT_FALSE(given.empty());
        for (const Delivered& one : given) {
            ASSERT_EQ(one.offset, expected++);
            ASSERT_FALSE(one.envelope.empty());
            settle(one, Verdict::ack);
        }
    }
    commit();
    EXPECT_THAT(last.appends, IsEmpty());
    EXPECT_EQ(producer->stored, many);
    EXPECT_EQ(queue->uncommitted_bytes(), 0U);
}

TEST_F(QueueFixture, RedriveReturnsItUnderANewOffsetAndOnlyOnce) {
    make();
    publish_many(1);
    consumer(7);
    settle(turn()[0], Verdict::reject, {}, "bad");
    commit();
    const auto letter = dead[1];
    EXPECT_TRUE(queue->redrive(letter, now));
    EXPECT_FALSE(queue->redrive(letter, now));
    EXPECT_FALSE(queue->purge(letter, now));
    commit();
    EXPECT_THAT(offsets(turn()), ElementsAre(2));
    EXPECT_EQ(queue->depth().dead, 0U);
}

TEST_F(QueueFixture, ABoundOfDeadLettersPausesDeliveriesUntilThereIsRoom) {
    for (const bool by_bytes : {false, true}) {
        SCOPED_TRACE(by_bytes);
        now = {Mono{1h}, now.wall};
        dead.clear();
        stored.clear();
        events.clear();
        QueuePolicy policy;
        (by_bytes ? policy.dlq_max_bytes : policy.dlq_max_messages) =
            by_bytes ? 2 * envelope_bytes(identity(1), 1).size() : 2;
        make(policy);
        publish_many(4);
        publish("x", 5s);
        consumer(7, 3, 3);
        const auto given = turn();
        ASSERT_THAT(given, SizeIs(3));
        settle(given[0], Verdict::reject);
        EXPECT_FALSE(queue->dlq_blocks());
        settle(given[1], Verdict::reject);
        EXPECT_TRUE(queue->dlq_blocks());
        EXPECT_THAT(turn(), IsEmpty());
        settle(given[2], Verdict::reject);
        EXPECT_EQ(queue->depth().dead, 3U) << "what is with workers goes beyond";
        commit();
        pass(6s);
        EXPECT_THAT(turn(), IsEmpty());
        EXPECT_EQ(queue->depth().dead, 3U) << "nothing expires meanwhile";
        EXPECT_GT(queue->next_deadline(), now.mono);
        const auto told = [&] {
            return std::count_if(events.begin(), events.end(),
                                 [](const Event& event) { return event.kind == Event::Kind::dlq_full; });
        };
        EXPECT_EQ(told(), 1);
        EXPECT_TRUE(queue->purge(dead.at(1), now));
        EXPECT_THAT(turn(), IsEmpty());
        EXPECT_TRUE(queue->purge(dead.at(2), now));
        EXPECT_THAT(offsets(turn()), IsEmpty()) << "the one that had expired takes the room";
        EXPECT_TRUE(queue->purge(dead.at(3), now));
        EXPECT_THAT(offsets(turn()), ElementsAre(4));
        EXPECT_EQ(queue->depth().dead, 1U);
    }
}

TEST_F(QueueFixture, ABoundOfDeadLettersCutsThemBackButForThoseThatAreOnTheirWay) {
    make({.dlq_max_messages = 2, .dlq_max_bytes = 1000, .dlq_when_full = DlqWhenFull::drop_oldest});
    publish_many(3);
    consumer(7, 3, 3);
    for (const Delivered& one : turn()) settle(one, Verdict::reject);
    EXPECT_FALSE(queue->dlq_blocks());
    commit();
    ASSERT_TRUE(last.dead_bound);
    EXPECT_EQ(last.dead_bound->max_messages, 2U);
    EXPECT_EQ(last.dead_bound->max_bytes, 1000U);
    queue->dead_dropped(1, dead.at(1).size());
    EXPECT_EQ(queue->depth().dead, 2U);
    EXPECT_EQ(queue->depth().dead_bytes, dead.at(2).size() + dead.at(3).size());
    EXPECT_EQ(queue->counters().dead_dropped, 1U);
    EXPECT_EQ(events.back().kind, Event::Kind::dlq_full);
    EXPECT_TRUE(queue->redrive(dead.at(2), now));
    EXPECT_TRUE(queue->purge(dead.at(3), now));
    last = queue->gather(now, false);
    EXPECT_THAT(last.dead_bound->keep, ElementsAre(2)) << "there is no room to send it back";
}

TEST_F(QueueFixture, AnEditedDeadLetterIsLeftAloneUntilThatIsStored) {
    make();
    publish_many(1);
    consumer(7);
    settle(turn()[0], Verdict::reject, {}, "bad");
    commit();
    const auto before = dead.at(1);
    using Edited = Queue::Edited;
    EXPECT_EQ(queue->edit(before, Slice{std::string{"edited"}}, now), Edited::yes);
    EXPECT_EQ(queue->edit(before, Slice{std::string{"of what it was before"}}, now), Edited::claimed);
    EXPECT_FALSE(queue->redrive(before, now));
    EXPECT_FALSE(queue->purge(before, now));

    EXPECT_FALSE(queue->has_changes(false));
    commit(false);
    EXPECT_THAT(last.edits, IsEmpty()) << "there is no room";
    EXPECT_TRUE(queue->has_changes());
    queue->take_back(queue->gather(now), now);
    EXPECT_FALSE(queue->redrive(before, now)) << "it is still on its way";
    commit();
    EXPECT_FALSE(queue->has_changes());
    EXPECT_EQ(dead.at(1).envelope.view(), "edited");
    EXPECT_TRUE(queue->redrive(dead.at(1), now));
    EXPECT_EQ(queue->edit(dead.at(1), Slice{std::string{"too late"}}, now), Edited::claimed);
    commit();
    const auto given = turn();
    ASSERT_THAT(given, SizeIs(1));
    EXPECT_EQ(given[0].envelope.view(), "edited");
}

TEST_F(QueueFixture, EditedDeadLettersTakeRoomInMemoryWithTheirOriginals) {
    make({.max_bytes = 10'000}, false);
    publish_many(1);
    consumer(7);
    settle(turn()[0], Verdict::reject);
    commit();
    const std::uint64_t empty = 10'000;
    const std::uint64_t original = dead.at(1).envelope.size();
    EXPECT_EQ(queue->free_bytes(), empty - original);
    using Edited = Queue::Edited;
    EXPECT_EQ(queue->edit(dead.at(1), Slice{std::string(10'000, 'x')}, now), Edited::no_room);
    EXPECT_EQ(queue->edit(dead.at(1), Slice{std::string(6'000, 'x')}, now), Edited::yes);
    commit();
    EXPECT_EQ(queue->free_bytes(), empty - original - 6'000);
    EXPECT_EQ(queue->edit(dead.at(1), Slice{std::string(7'000, 'x')}, now), Edited::yes) << "the first edit goes";
    commit();
    EXPECT_EQ(queue->free_bytes(), empty - original - 7'000);
    EXPECT_TRUE(queue->redrive(dead.at(1), now));
    EXPECT_EQ(queue->free_bytes(), empty - 7'000);
    commit();
    settle(turn().at(0), Verdict::ack);
    EXPECT_EQ(queue->free_bytes(), empty);
}

TEST_F(QueueFixture, ALongTaskIsNotInTheWayOfAFreeConsumer) {
    make();
    publish_many(3);
    const auto slow = consumer(7, 1, 3);
    EXPECT_THAT(turn(), SizeIs(3));
    consumer(8, 1, 3);
    turn();
    EXPECT_THAT(recalls, IsEmpty()) << "it may be about to finish";
    EXPECT_EQ(queue->next_deadline(), now.mono + 10ms);
    pass(10ms);
    turn();
    ASSERT_THAT(recalls, SizeIs(1));
    EXPECT_EQ(recalls[0].consumer, slow);
    EXPECT_EQ(recalls[0].count, 1U);
}

TEST_F(QueueFixture, AReleaseThatIsListedDoesNotKeepTheLeaseThatCameAfterIt) {
    make();
    publish_many(1);
    consumer(7);
    const Delivered first = turn().at(0);
    settle(first, Verdict::release);
    const Delivered second = turn().at(0);  // never reaches the consumer: its link was cut
    consumer(7, 1, 100, {{first.offset, first.token}});
    EXPECT_THAT(lost, IsEmpty());
    const auto again = turn();
    ASSERT_THAT(again, SizeIs(1));
    EXPECT_GT(again[0].token, second.token);
}

TEST_F(QueueFixture, MemoryHomesBoundMessagesAndSaySettled) {
    make({.max_messages = 10}, false);
    publish_many(4);
    EXPECT_EQ(queue->free_messages(), 6U);
    consumer(7);
    for (const auto& one : turn()) settle(one, Verdict::ack);
    std::vector<SequenceRange> said;
    queue->take_settled([&](Producer&, const std::vector<SequenceRange>& news) { said = news; });
    EXPECT_THAT(said, ElementsAre(SequenceRange{1, 4}));
    EXPECT_THAT(producer->done.above(2), ElementsAre(SequenceRange{3, 4}));
}

TEST_F(QueueFixture, DamageIsReportedAndTheRestServed) {
    make();
    publish_many(3);
    commit();
    const auto id = consumer(7, 1, 1);
    settle(turn()[0], Verdict::release);
    commit();
    store::ReadResult result{.topic = "q", .next = 1};
    result.damage.push_back({"q", {1, 2}, 2, "checksum"});
    queue->loaded(std::move(result), now);
    EXPECT_EQ(events.back().kind, Event::Kind::damaged);
    EXPECT_EQ(queue->messages(), 1U);
    queue->set_window(id, 10, 1000);
    turn();
    commit();
    EXPECT_EQ(queue->depth().in_flight + queue->depth().ready, 1U);
}

TEST(SequenceSet, JoinsNeighbours) {
    SequenceSet set;
    set.add({5, 6});
    set.add({1, 2});
    set.add({3, 4});
    EXPECT_THAT(set.above(0), ElementsAre(SequenceRange{1, 6}));
    set.add({9, 9});
    EXPECT_THAT(set.above(3), ElementsAre(SequenceRange{4, 6}, SequenceRange{9, 9}));
    EXPECT_THAT(set.above(9), IsEmpty());
}

// Time to live ---------------------------------------------------------------------------------------------------

TEST_F(QueueFixture, WhatIsNotDoneWithinItsTimeToLiveIsDeadLetteredOnTime) {
    make();
    publish("short", 5s);
    publish("for ever");
    publish("long", 10s);
    commit();
    EXPECT_EQ(queue->next_deadline(), now.mono + 5s) << "no consumer is waited for";
    pass(4999ms);
    turn();
    EXPECT_EQ(queue->counters().dead_expired, 0U);
    pass(1ms);
    turn();
    commit();
    ASSERT_THAT(dead, SizeIs(1));
    EXPECT_EQ(dead.at(1).record.reason, store::Reason::expired);
    EXPECT_EQ(dead.at(1).record.attempts, 0U);
    EXPECT_EQ(queue->counters().dead_expired, 1U);
    EXPECT_EQ(queue->depth().ready, 2U);
    consumer(7);
    pass(5s);
    EXPECT_THAT(offsets(turn()), ElementsAre(2)) << "never delivered at its deadline or later";
}

TEST_F(QueueFixture, AMessageExpiresWhileItWaitsForItsNextAttempt) {
    make();
    publish("x", 5s);
    consumer(7);
    settle(turn()[0], Verdict::nack, 1min);
    pass(5s);
    EXPECT_THAT(turn(), IsEmpty());
    commit();
    ASSERT_THAT(dead, SizeIs(1));
    EXPECT_EQ(dead.at(1).record.reason, store::Reason::expired);
    EXPECT_EQ(dead.at(1).record.attempts, 1U);
    EXPECT_EQ(queue->depth().waiting, 0U);
    pass(1min);
    EXPECT_THAT(turn(), IsEmpty());
}

TEST_F(QueueFixture, AMessageThatIsWorkedOnExpiresOnlyWhenItComesBack) {
    make();
    publish("done late", 5s);
    publish("comes back", 5s);
    publish("its worker dies", 5s);
    const auto id = consumer(7, 3);
    const auto given = turn();
    ASSERT_THAT(given, SizeIs(3));
    pass(6s);
    turn();
    EXPECT_EQ(queue->counters().dead_expired, 0U);
    EXPECT_TRUE(settle(given[0], Verdict::ack));
    EXPECT_TRUE(settle(given[1], Verdict::release));
    EXPECT_THAT(turn(), IsEmpty()) << "not given out again";
    EXPECT_EQ(queue->counters().dead_expired, 1U);
    queue->detach(id, now);
    pass(30s);
    turn();
    EXPECT_EQ(queue->counters().dead_expired, 2U);
    commit();
    EXPECT_THAT(dead, SizeIs(2));
    EXPECT_EQ(queue->messages(), 0U);
}

TEST_F(QueueFixture, TimeToLiveRunsOnOverARestart) {
    make();
    publish("over meanwhile", 5s);
    publish("not yet", 60s);
    commit();
    pass(20s);
    restart();
    turn();
    commit();
    ASSERT_THAT(dead, SizeIs(1));
    EXPECT_TRUE(dead.contains(1));
    EXPECT_EQ(queue->next_deadline(), now.mono + 40s);
    pass(40s);
    consumer(7);
    EXPECT_THAT(turn(), IsEmpty());
    EXPECT_EQ(queue->messages(), 0U);
}

TEST_F(QueueFixture, AWallClockThatIsSetBackLengthensNoLife) {
    make();
    publish("x", 60s);
    commit();
    now.wall -= 24h;
    restart();
    EXPECT_EQ(queue->next_deadline(), now.mono + 60s);
}

TEST_F(QueueFixture, ABacklogBeyondTheWindowExpiresWithoutAConsumer) {
    make();
    const auto count = static_cast<int>(defaults::window_messages) * 2 + 100;
    for (int i = 0; i < count; ++i) publish("x", 5s);
    commit();
    pass(5s);
    for (int round = 0; round < 15; ++round) {
        turn();
        commit();
    }
    EXPECT_EQ(queue->messages(), 0U);
    EXPECT_THAT(dead, SizeIs(count));
}

TEST_F(QueueFixture, WhatWasReadOnAfterItsTimeIsNotDelivered) {
    make();
    publish_many(static_cast<int>(defaults::window_messages));
    publish("behind the window", 5s);
    publish("the last");
    commit();
    consumer(7, 1, 1'000'000);
    pass(5s);
    std::size_t seen = 0;
    for (int round = 0; round < 4; ++round) {
        for (const auto& one : turn()) {
            ++seen;
            EXPECT_NE(one.offset, defaults::window_messages + 1);
        }
        commit();
    }
    EXPECT_EQ(seen, defaults::window_messages + 1);
    EXPECT_EQ(queue->counters().dead_expired, 1U);
}

TEST_F(QueueFixture, AnExpiredMessageThatIsSentBackLivesForEver) {
    make();
    publish("x", 5s);
    commit();
    pass(5s);
    turn();
    commit();
    ASSERT_TRUE(queue->redrive(dead.at(1), now));
    commit();
    turn();
    commit();
    pass(1h);
    consumer(7);
    EXPECT_THAT(offsets(turn()), ElementsAre(2));
}

TEST_F(QueueFixture, InMemoryAnExpiredMessageCountsAsSettled) {
    make({}, false);
    publish("x", 5s);
    pass(5s);
    turn();
    std::vector<SequenceRange> settled;
    queue->take_settled([&](Producer&, const std::vector<SequenceRange>& news) { settled = news; });
    EXPECT_THAT(settled, SizeIs(1));
}

TEST_F(QueueFixture, ABatchThatIsTakenBackKeepsItsTimesToLive) {
    make();
    publish("x", 5s);
    queue->take_back(queue->gather(now), now);
    commit();
    ASSERT_THAT(last.appends, SizeIs(1));
    EXPECT_EQ(last.appends[0].terms.expires_at, now.wall + 5s);
}

}  // namespace
}  // namespace posthorn::queue
