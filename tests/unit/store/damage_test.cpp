// Bytes that are not what they were: the damaged part is set aside and reported, the rest is served.
#include <gtest/gtest.h>

#include <memory>

#include <posthorn/status.hpp>

#include "sim/sim_vfs.hpp"
#include "store/schema.hpp"
#include "store/sqlite_store.hpp"
#include "unit/store/model.hpp"

namespace posthorn::store {

using namespace testing;

namespace {

const std::string store_file = "sim/posthorn.db";

class DamageTest : public ::testing::Test {
protected:
    std::unique_ptr<sim::SimDisk> disk;
    std::unique_ptr<Store> store;

    void SetUp() override { fill(); }

    // Three chunks of a hundred messages on a new disk.
    void fill() {
        store.reset();
        disk = std::make_unique<sim::SimDisk>();
        open();
        for (Offset first = 1; first <= 201; first += 100) {
            TopicBatch batch = batch_of(first, 100, 50);
            for (Append& append : batch.appends) append.envelope = Slice("chunk-" + std::to_string(first) + ".");
            ASSERT_EQ(store->run(job_of(batch)).failure, Failure::none);
        }
    }

    Recovery open() {
        store = open_sqlite_store({.folder = "sim", .min_free = 0, .vfs = disk->vfs()});
        return store->recover();
    }

    // Flips a byte wherever the file has `text`. The store is closed first: then all of it is in the file.
    void damage(const std::string& text) {
        store.reset();
        const std::string bytes = disk->read(store_file);
        std::size_t at = bytes.find(text);
        ASSERT_NE(at, std::string::npos);
        for (; at != std::string::npos; at = bytes.find(text, at + 1)) disk->flip_byte(store_file, at);
    }

    Outcome read(Job job = {}) {
        job.reads.push_back(read_all());
        return store->run(job);
    }
};

TEST_F(DamageTest, a_damaged_body_is_found_when_it_is_read) {
    damage("chunk-101.");
    EXPECT_EQ(open().topics.at(0).messages, 300U);  // recovery does not read bodies
    const Outcome outcome = read();
    ASSERT_EQ(outcome.failure, Failure::none) << outcome.text;
    ASSERT_EQ(outcome.reads.at(0).damage.size(), 1U);
    const Damage& found = outcome.reads[0].damage[0];
    EXPECT_EQ(found.topic, "q");
    EXPECT_EQ(found.range, (OffsetRange{101, 200}));
    EXPECT_EQ(found.messages, 100U);
    EXPECT_EQ(outcome.reads[0].messages.size(), 200U);
    EXPECT_TRUE(read().reads.at(0).damage.empty());  // told once
    store.reset();
    const Recovery again = open();
    EXPECT_EQ(again.topics.at(0).messages, 200U);
    EXPECT_TRUE(again.damage.empty());
}

TEST_F(DamageTest, a_dead_letter_from_a_damaged_body_does_not_fail_the_batch) {
    damage("chunk-101.");
    open();
    TopicBatch bury;
    bury.topic = "q";
    bury.next_offset = 301;
    bury.settled = {{1, 1}, {150, 150}};
    bury.dead = {{120, Reason::rejected, "", 1, some_time, some_time, ""}};
    const Outcome outcome = read(job_of(bury));
    ASSERT_EQ(outcome.failure, Failure::none) << outcome.text;
    ASSERT_EQ(outcome.damage.size(), 1U);
    EXPECT_EQ(outcome.damage[0].range, (OffsetRange{101, 200}));
    EXPECT_EQ(outcome.damage[0].messages, 99U);
    EXPECT_EQ(outcome.reads.at(0).messages.size(), 199U);
}

TEST_F(DamageTest, a_damaged_header_is_found_at_the_start) {
    TopicBatch mixed;  // a header one can find: sizes that stand in it in clear
    mixed.topic = "q";
    mixed.accepted_at = some_time;
    for (Offset offset = 301; offset <= 308; ++offset) {
        mixed.appends.push_back(message(offset, std::string(offset % 2 == 0 ? 21 : 25, 'h')));
    }
    mixed.next_offset = 309;
    ASSERT_EQ(store->run(job_of(mixed)).failure, Failure::none);
    // Each message's entry in the index is its size << 2: 25 is 'd', 21 is 'T'.
    damage("dTdTdTdT");
    const Recovery recovery = open();
    ASSERT_EQ(recovery.damage.size(), 1U);
    EXPECT_EQ(recovery.damage[0].range, (OffsetRange{301, 308}));
    EXPECT_EQ(recovery.topics.at(0).messages, 300U);
    EXPECT_EQ(read().reads.at(0).messages.size(), 300U);
}

TEST_F(DamageTest, damaged_settlements_are_not_delivered_again) {
    TopicBatch batch;
    batch.topic = "q";
    batch.next_offset = 301;
    batch.settled = {{110, 120}};
    Mark mark;
    mark.offset = 130;
    mark.holder = identity(0x5A);
    batch.marks = {mark};
    ASSERT_EQ(store->run(job_of(batch)).failure, Failure::none);
    damage(std::string(16, '\x5A'));
    const Recovery recovery = open();
    ASSERT_EQ(recovery.damage.size(), 1U);
    EXPECT_EQ(recovery.damage[0].range, (OffsetRange{101, 200}));
    EXPECT_EQ(recovery.damage[0].messages, 100U);  // how many were settled is what was lost
    EXPECT_EQ(read().reads.at(0).messages.size(), 200U);
}

TEST_F(DamageTest, a_damaged_dead_letter_is_reported_and_not_sent_back) {
    TopicBatch bury = batch_of(301, 1);
    bury.appends[0].envelope = Slice(std::string("a dead letter"));
    bury.dead = {{301, Reason::rejected, "", 1, some_time, some_time, ""},
                 {1, Reason::rejected, "", 1, some_time, some_time, ""}};
    bury.next_offset = 302;
    bury.settled = {{2, 300}};
    ASSERT_EQ(store->run(job_of(bury)).failure, Failure::none);
    damage("a dead letter");
    open();
    Job job;
    job.dead_reads.push_back({"q", 0, 10, 0});
    TopicBatch redrive;
    redrive.topic = "q";
    redrive.redrives = {{301, 302}};
    redrive.next_offset = 303;
    job.batch.push_back(redrive);
    const Outcome outcome = read(job);
    ASSERT_EQ(outcome.damage.size(), 1U);
    EXPECT_EQ(outcome.damage[0].range, (OffsetRange{301, 301}));
    EXPECT_EQ(outcome.dead_reads.at(0).letters.size(), 1U);
    EXPECT_TRUE(outcome.reads.at(0).messages.empty());
}

TEST_F(DamageTest, a_damaged_original_sets_its_dead_letter_aside_with_both) {
    TopicBatch bury = batch_of(301, 1);
    bury.appends[0].envelope = Slice(std::string("an original"));
    bury.dead = {{301, Reason::rejected, "", 1, some_time, some_time, ""}};
    bury.edits = {{301, Slice(std::string("an edit"))}};
    bury.next_offset = 302;
    ASSERT_EQ(store->run(job_of(bury)).failure, Failure::none);
    damage("an original");
    open();
    Job job;
    job.dead_reads.push_back({"q", 0, 10, 0});
    const Outcome outcome = store->run(job);
    ASSERT_EQ(outcome.damage.size(), 1U);
    EXPECT_EQ(outcome.damage[0].range, (OffsetRange{301, 301}));
    EXPECT_TRUE(outcome.dead_reads.at(0).letters.empty());
    store.reset();
    EXPECT_NE(disk->read(store_file).find("an edit"), std::string::npos);
    EXPECT_EQ(open().topics.at(0).dead_bytes, 0U);
}

TEST_F(DamageTest, damaged_dedup_keys_are_left_out_with_a_note) {
    TopicBatch keys = batch_of(301, 2);
    keys.dedup_keys = {{301, some_time, "a broken key"}, {302, some_time, "its neighbour"}};
    ASSERT_EQ(store->run(job_of(keys)).failure, Failure::none);
    keys = batch_of(303, 1);
    keys.dedup_keys = {{303, some_time + 1ms, "a sound key"}};
    ASSERT_EQ(store->run(job_of(keys)).failure, Failure::none);
    damage("a broken key");
    const Recovery recovery = open();
    EXPECT_TRUE(recovery.damage.empty());
    ASSERT_EQ(recovery.topics.at(0).dedup_keys.size(), 1U);
    EXPECT_EQ(recovery.topics[0].dedup_keys[0].key, "a sound key");
    EXPECT_EQ(recovery.topics[0].dedup_keys[0].offset, 303U);
    EXPECT_EQ(recovery.topics[0].dedup_keys[0].accepted_at, some_time + 1ms);
    ASSERT_EQ(recovery.notes.size(), 2U);
    EXPECT_NE(recovery.notes[1].find("the dedup keys of 1 commits are damaged"), std::string::npos);
    TopicBatch gone{.topic = "q"};
    gone.dedup_gone = 303;
    ASSERT_EQ(store->run(job_of(gone)).failure, Failure::none);
    EXPECT_EQ(open().notes.size(), 1U) << "it went with what was to be forgotten";
}

TEST_F(DamageTest, a_damaged_subscription_is_left_empty_with_a_note) {
    const auto remember = [&](const std::string& what) {
        const TopicBatch batch{.topic = "q", .subscription = what};
        return store->run(job_of(batch)).failure;
    };
    ASSERT_EQ(remember("what the engine remembers"), Failure::none);
    store.reset();
    EXPECT_EQ(open().topics.at(0).subscription, "what the engine remembers");
    damage("what the engine remembers");
    const Recovery recovery = open();
    EXPECT_TRUE(recovery.damage.empty());
    EXPECT_TRUE(recovery.topics.at(0).subscription.empty());
    ASSERT_EQ(recovery.notes.size(), 2U);
    EXPECT_NE(recovery.notes[1].find("of 1 subscriptions is damaged"), std::string::npos);
    ASSERT_EQ(remember(""), Failure::none);
    store.reset();
    EXPECT_EQ(open().notes.size(), 1U);
}

class SharedDamageTest : public DamageTest {
protected:
    // What stands in its header in clear: sizes of messages (see above), and in their state: holders.
    void SetUp() override {
        disk = std::make_unique<sim::SimDisk>();
        open();
        TopicBatch batch = batch_of(1, 8, 0);
        for (Append& append : batch.appends)
            append.envelope = Slice("body-" + std::string(append.offset % 2 == 0 ? 16 : 20, '.'));
        Job job = shared_job(batch, topics);
        for (TopicBatch& one : job.batch) {
            Mark mark{.offset = 1};
            mark.holder = identity(static_cast<std::uint8_t>(one.topic.back()));
            one.marks = {mark};
        }
        ASSERT_EQ(store->run(job).failure, Failure::none);
    }
    std::size_t messages_of(const std::string& topic, std::size_t damages) {
        Job job;
        job.reads.push_back(read_all(topic));
        const Outcome outcome = store->run(job);
        EXPECT_EQ(outcome.failure, Failure::none) << outcome.text;
        EXPECT_EQ(outcome.reads.at(0).damage.size(), damages) << topic;
        for (const Damage& one : outcome.reads[0].damage) EXPECT_EQ(one.topic, topic);
        return outcome.reads[0].messages.size();
    }
    const std::vector<std::string> topics = {"t/x", "t/y", "t/z"};
};

TEST_F(SharedDamageTest, one_that_is_set_aside_keeps_the_body_and_the_others_have_it) {
    damage(std::string(16, 'y'));
    EXPECT_EQ(open().damage.at(0).topic, "t/y");
    EXPECT_EQ(messages_of("t/x", 0), 8U);
    TopicBatch settle{.topic = "t/x", .next_offset = 9, .settled = {{1, 8}}};
    ASSERT_EQ(store->run(job_of(settle)).failure, Failure::none);
    settle.topic = "t/z";
    settle.settled = {{1, 7}};
    ASSERT_EQ(store->run(job_of(settle)).failure, Failure::none);
    EXPECT_EQ(messages_of("t/z", 0), 1U);
    settle.gone = true;
    ASSERT_EQ(store->run(job_of(settle)).failure, Failure::none);
    store.reset();
    EXPECT_NE(disk->read(store_file).find("body-...."), std::string::npos);
    TopicBatch gone{.topic = "t/y"};
    gone.gone = true;
    open();
    ASSERT_EQ(store->run(job_of(gone)).failure, Failure::none);
    store.reset();
    EXPECT_NE(disk->read(store_file).find("body-...."), std::string::npos) << "it stays, as all that was set aside";
    open();
    settle = batch_of(1, 1);
    settle.topic = "t/new";
    ASSERT_EQ(store->run(job_of(settle)).failure, Failure::none);
    store.reset();
    const auto db = open_store_file(store_file, disk->vfs());
    EXPECT_EQ(db->integer("SELECT count(*) FROM damaged JOIN topic ON damaged.topic=topic.id"), 0)
        << "nobody gets the number of a topic with something set aside";
}

TEST_F(SharedDamageTest, a_damaged_body_is_damage_to_each) {
    damage("body-");
    EXPECT_TRUE(open().damage.empty());
    for (const std::string& topic : topics) EXPECT_EQ(messages_of(topic, 1), 0U);
    store.reset();
    EXPECT_TRUE(open().damage.empty());
}

class DeadDamageTest : public SharedDamageTest {
protected:
    void SetUp() override {
        SharedDamageTest::SetUp();
        bury("t/x", {1, 2, 7});
        bury("t/y", {2});
    }
    Outcome bury(const std::string& topic, const std::vector<Offset>& offsets, const std::string& text = "why-") {
        TopicBatch batch{.topic = topic, .next_offset = 9};
        for (const Offset offset : offsets)
            batch.dead.push_back({offset, Reason::rejected, text + topic, 1, some_time, some_time, ""});
        Outcome outcome = store->run(job_of(batch));
        EXPECT_EQ(outcome.failure, Failure::none) << outcome.text;
        return outcome;
    }
    Outcome read_dead(const std::string& topic) {
        Job job;
        job.dead_reads.push_back({topic, 0, 10, 0});
        Outcome outcome = store->run(job);
        EXPECT_EQ(outcome.failure, Failure::none) << outcome.text;
        return outcome;
    }
    static void expect_lost(const std::vector<Damage>& damage, OffsetRange range, std::uint64_t letters) {
        ASSERT_EQ(damage.size(), 1U);
        EXPECT_EQ(damage[0].range, range);
        EXPECT_EQ(damage[0].messages, letters);
        EXPECT_TRUE(damage[0].dead);
    }
};

TEST_F(DeadDamageTest, a_damaged_body_is_damage_to_the_dead_letters_of_each) {
    damage("body-");
    EXPECT_TRUE(open().damage.empty());
    disk->set_capacity(disk->used());
    EXPECT_TRUE(read_dead("t/x").dead_reads.at(0).letters.empty());  // no room to set it aside: passed over
    disk->set_capacity(std::numeric_limits<std::uint64_t>::max());
    expect_lost(read_dead("t/x").damage, {1, 7}, 3);
    expect_lost(read_dead("t/y").damage, {2, 2}, 1);
    EXPECT_TRUE(read_dead("t/x").damage.empty());
    store.reset();
    for (const RecoveredTopic& topic : open().topics) EXPECT_EQ(topic.dead + topic.dead_bytes, 0U) << topic.topic;
}

TEST_F(DeadDamageTest, a_damaged_record_is_damage_to_its_dead_letters_and_those_that_come_are_copied) {
    damage("why-t/x");
    open();
    EXPECT_TRUE(bury("t/x", {3}, "another").damage.empty());
    const Outcome outcome = read_dead("t/x");
    expect_lost(outcome.damage, {1, 7}, 3);
    ASSERT_EQ(outcome.dead_reads.at(0).letters.size(), 1U);
    EXPECT_EQ(outcome.dead_reads[0].letters[0].record.offset, 3U);
    EXPECT_EQ(read_dead("t/y").dead_reads.at(0).letters.size(), 1U);
    bury("t/x", {4});
    EXPECT_EQ(read_dead("t/x").dead_reads.at(0).letters.size(), 2U);
}

TEST_F(DeadDamageTest, a_damaged_record_does_not_count_for_a_bound) {
    damage("why-t/x");
    open();
    bury("t/x", {8}, "another");
    TopicBatch bound{.topic = "t/x", .next_offset = 9};
    bound.dead_bound = DeadBound{2, 0, {}};
    const Outcome outcome = store->run(job_of(bound));
    expect_lost(outcome.damage, {1, 7}, 3);
    EXPECT_TRUE(outcome.dropped.empty());
    EXPECT_EQ(read_dead("t/x").dead_reads.at(0).letters.size(), 1U);
}

TEST_F(SharedDamageTest, a_damaged_layout_is_damage_to_each_that_needs_it) {
    damage("dTdTdTdT");  // size << 2 of 25 and 21
    EXPECT_EQ(open().damage.size(), 3U);
    for (const std::string& topic : topics) EXPECT_EQ(messages_of(topic, 0), 0U);
    store.reset();
    EXPECT_NE(disk->read(store_file).find("body-...."), std::string::npos);
}

TEST_F(DamageTest, a_damaged_dead_letter_is_passed_over_while_there_is_no_room_to_set_it_aside) {
    TopicBatch bury = batch_of(301, 1);
    bury.appends[0].envelope = Slice(std::string("a dead letter"));
    bury.dead = {{301, Reason::rejected, "", 1, some_time, some_time, ""},
                 {1, Reason::rejected, "", 1, some_time, some_time, ""}};
    bury.next_offset = 302;
    ASSERT_EQ(store->run(job_of(bury)).failure, Failure::none);
    damage("a dead letter");
    open();
    disk->set_capacity(disk->used());
    Job job;
    job.dead_reads.push_back({"q", 0, 10, 0});
    Outcome outcome = store->run(job);
    ASSERT_EQ(outcome.failure, Failure::none) << outcome.text;
    EXPECT_TRUE(outcome.damage.empty());
    EXPECT_EQ(outcome.dead_reads.at(0).letters.size(), 1U);
    disk->set_capacity(sim::SimDisk::unlimited);
    outcome = store->run(job);
    EXPECT_EQ(outcome.damage.size(), 1U);
    EXPECT_EQ(outcome.dead_reads.at(0).letters.size(), 1U);
}

TEST_F(DamageTest, a_file_that_is_no_store_names_the_way_out) {
    store.reset();
    for (std::uint64_t at = 0; at < 100; ++at) disk->flip_byte(store_file, at);
    try {
        open();
        FAIL() << "opened";
    } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find(store_file), std::string::npos) << error.what();
        EXPECT_NE(std::string(error.what()).find(".dump"), std::string::npos) << error.what();
    }
}

// Wherever the byte is: an error that names the file, or all that is left plus what is reported lost. Never anything
// that was not sent.
TEST_F(DamageTest, any_byte_may_flip) {
    store.reset();
    const std::uint64_t size = disk->size(store_file);
    std::size_t refused = 0;
    for (std::uint64_t at = 0; at < size && !HasFailure(); at += 509) {
        SCOPED_TRACE(at);
        fill();
        store.reset();
        disk->flip_byte(store_file, at);
        try {
            open();
            const Outcome outcome = read();
            if (outcome.failure != Failure::none) {
                EXPECT_NE(outcome.text.find(store_file), std::string::npos);
                continue;
            }
            for (const StoredMessage& message : outcome.reads.at(0).messages) {
                const Offset first = (message.offset - 1) / 100 * 100 + 1;
                ASSERT_EQ(message.envelope.view(), "chunk-" + std::to_string(first) + ".");
            }
        } catch (const Error& error) {
            EXPECT_NE(std::string(error.what()).find(store_file), std::string::npos);
            ++refused;
        }
    }
    EXPECT_GT(refused, 0U);
}

}  // namespace
}  // namespace posthorn::store
