// What every store promises, checked against the model. The same for all of them.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "sim/sim_vfs.hpp"
#include "store/memory_store.hpp"
#include "store/sqlite_store.hpp"
#include "unit/store/model.hpp"

namespace posthorn::store {

using namespace testing;

namespace {

struct Kind {
    const char* name;
    std::unique_ptr<Store> (*make)(sim::SimDisk& disk);
    bool keeps_lives;  // marks, watermarks, next offsets: what is for a restart
};

void PrintTo(const Kind& kind, std::ostream* out) {
    *out << kind.name;
}

class Conformance : public ::testing::TestWithParam<Kind> {
protected:
    sim::SimDisk disk;
    std::unique_ptr<Store> store = GetParam().make(disk);

    Outcome run(const Job& job) {
        Outcome outcome = store->run(job);
        EXPECT_EQ(outcome.failure, Failure::none) << outcome.text;
        return outcome;
    }
    Model kept(const Model& model) const { return GetParam().keeps_lives ? model : without_memory_of_lives(model); }
};

INSTANTIATE_TEST_SUITE_P(Stores, Conformance,
                         ::testing::Values(Kind{"memory", [](sim::SimDisk&) { return make_memory_store(); }, false},
                                           Kind{"sqlite",
                                                [](sim::SimDisk& disk) {
                                                    return open_sqlite_store(
                                                        {.folder = "sim", .min_free = 0, .vfs = disk.vfs()});
                                                },
                                                true}),
                         [](const auto& test) { return std::string(test.param.name); });

void expect_same(const ReadResult& got, const ReadResult& wanted, bool marks) {
    EXPECT_EQ(got.topic, wanted.topic);
    EXPECT_TRUE(got.damage.empty());
    ASSERT_EQ(got.messages.size(), wanted.messages.size());
    for (std::size_t i = 0; i < got.messages.size(); ++i) {
        const StoredMessage& a = got.messages[i];
        const StoredMessage& b = wanted.messages[i];
        ASSERT_EQ(a.offset, b.offset);
        ASSERT_EQ(a.envelope.view(), b.envelope.view()) << a.offset;
        ASSERT_EQ(a.size, b.size);
        ASSERT_EQ(a.redrives, b.redrives);
        ASSERT_EQ(a.maybe_duplicate, b.maybe_duplicate);
        ASSERT_EQ(a.accepted_at, b.accepted_at);
        ASSERT_EQ(a.terms, b.terms);
        if (marks) {
            ASSERT_EQ(a.mark, b.mark) << a.offset;
        }
    }
}

// `next` may skip what is settled, or not; it must not skip anything else, and a read that gives nothing is at its end.
void check_next(const Model& model, const Read& read, const ReadResult& got) {
    if (got.messages.empty()) {
        EXPECT_EQ(got.next, std::max(read.from, read.to + 1));
        return;
    }
    const Offset last = got.messages.back().offset;
    EXPECT_GT(got.next, last);
    if (got.next > last + 1) {
        EXPECT_TRUE(expected(model, {read.topic, last + 1, got.next - 1, 1, 1, false}).messages.empty());
    }
}

TEST_P(Conformance, a_new_store_is_empty) {
    EXPECT_TRUE(store->recover().topics.empty());
    Job job;
    job.reads.push_back(read_all("nothing"));
    job.dead_reads.push_back({"nothing", 0, 10, 1});
    const Outcome outcome = run(job);
    EXPECT_TRUE(outcome.reads.at(0).messages.empty());
    EXPECT_EQ(outcome.reads.at(0).next, read_all().to + 1);
    EXPECT_TRUE(outcome.dead_reads.at(0).letters.empty());
    EXPECT_FALSE(outcome.dead_reads.at(0).more);
}

TEST_P(Conformance, random_work_leaves_what_the_model_has) {
    for (std::uint64_t seed = 1; seed <= 5 && !HasFailure(); ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        sim::SimDisk own_disk(seed);
        store = GetParam().make(own_disk);
        static_cast<void>(store->recover());
        Work work(seed);
        Model model;
        for (int step = 0; step < 150 && !HasFailure(); ++step) {
            SCOPED_TRACE("step " + std::to_string(step));
            Job job = work.job(model);
            play(model, job);
            for (int i = 0; i < 3; ++i) job.reads.push_back(work.read(model));
            const Outcome outcome = run(job);
            ASSERT_TRUE(outcome.damage.empty());
            ASSERT_EQ(outcome.reads.size(), job.reads.size());
            for (std::size_t i = 0; i < job.reads.size(); ++i) {
                const ReadResult wanted = expected(model, job.reads[i], GetParam().keeps_lives);
                expect_same(outcome.reads[i], wanted, GetParam().keeps_lives);
                check_next(model, job.reads[i], outcome.reads[i]);
            }
        }
        std::vector<std::string> names;
        for (const auto& [name, topic] : model) names.push_back(name);
        Model read = contents(*store, names);
        EXPECT_EQ(without_memory_of_lives(read), without_memory_of_lives(model));
        store.reset();
    }
}

TEST_P(Conformance, a_whole_batch_settled_leaves_nothing) {
    static_cast<void>(store->recover());
    run(job_of(batch_of(1, 1000)));
    TopicBatch settle;
    settle.topic = "q";
    settle.next_offset = 1001;
    settle.settled = {{1, 1000}};
    Job job = job_of(settle);
    job.reads.push_back(read_all());
    EXPECT_TRUE(run(job).reads.at(0).messages.empty());
}

TEST_P(Conformance, what_is_read_outlives_its_settlement) {
    static_cast<void>(store->recover());
    Job job = job_of(batch_of(1, 100, 500));
    job.reads.push_back(read_all());
    const Outcome outcome = run(job);
    TopicBatch settle;
    settle.topic = "q";
    settle.next_offset = 101;
    settle.settled = {{1, 90}};
    run(job_of(settle));
    settle.settled = {{91, 100}};
    run(job_of(settle));
    EXPECT_EQ(outcome.reads.at(0).messages.at(99).envelope.view().substr(0, 4), "100.");
}

TEST_P(Conformance, one_message_is_given_however_large) {
    static_cast<void>(store->recover());
    Job job = job_of(batch_of(1, 2, 3'000'000));
    job.reads.push_back({"q", 1, 10, 100, 1000, true});
    const Outcome outcome = run(job);
    ASSERT_EQ(outcome.reads.at(0).messages.size(), 1U);
    EXPECT_EQ(outcome.reads.at(0).messages[0].envelope.size(), 3'000'000U);
    EXPECT_EQ(outcome.reads.at(0).next, 2U);
}

TEST_P(Conformance, what_topics_share_each_settles_for_itself) {
    static_cast<void>(store->recover());
    Job job = shared_job(batch_of(1, 100, 500), {"t/a", "t/b", "t/c"});
    std::erase_if(job.batch[1].appends, [](const Append& append) { return append.offset % 2 == 0; });
    job.batch[2].appends[4].terms.priority = 7;
    job.batch[2].appends[4].redrives = 2;
    job.batch[2].accepted_at = some_time + 1ms;
    Model model;
    play(model, job);
    run(job);
    const std::vector<std::string> topics = {"t/a", "t/b", "t/c"};
    EXPECT_EQ(without_memory_of_lives(contents(*store, topics)), without_memory_of_lives(model));
    TopicBatch settle{.topic = "t/a", .next_offset = 101, .settled = {{1, 100}}};
    play(model, settle);
    run(job_of(settle));
    settle.topic = "t/c";
    settle.settled = {{1, 90}};
    settle.dead = {{95, Reason::rejected, "", 1, some_time, some_time, ""}};
    play(model, settle);
    run(job_of(settle));
    EXPECT_EQ(without_memory_of_lives(contents(*store, topics)), without_memory_of_lives(model));
}

// The engine has no reason to ask for this; nothing may be lost if it does.
TEST_P(Conformance, a_share_that_reaches_across_what_a_topic_has_leaves_that_alone) {
    static_cast<void>(store->recover());
    Model model;
    TopicBatch first = batch_of(5, 6, 500);
    first.topic = "t/b";
    play(model, first);
    run(job_of(first));
    Job job = shared_job(batch_of(1, 20, 500), {"t/a", "t/b", "t/c"});
    std::erase_if(job.batch[1].appends, [](const Append& append) { return append.offset <= 12; });
    std::erase_if(job.batch[2].appends, [](const Append& append) { return append.offset >= 12; });
    job.batch[2].next_offset = 12;
    play(model, job);
    run(job);
    TopicBatch more = batch_of(12, 3, 500);
    more.topic = "t/c";
    play(model, more);
    run(job_of(more));
    EXPECT_EQ(without_memory_of_lives(contents(*store, {"t/a", "t/b", "t/c"})), without_memory_of_lives(model));
}

TEST_P(Conformance, a_topic_that_has_gone_begins_anew) {
    static_cast<void>(store->recover());
    Job job = shared_job(batch_of(1, 10, 500), {"t/a", "t/b"});
    job.batch[0].dead = {{1, Reason::rejected, "", 1, some_time, some_time, ""}};
    run(job);
    TopicBatch gone = batch_of(11, 1);
    gone.topic = "t/a";
    gone.gone = true;
    Job look = job_of(gone);
    look.reads = {read_all("t/a"), read_all("t/b")};
    look.dead_reads.push_back({"t/a", 0, 10, 0});
    Outcome outcome = run(look);
    EXPECT_TRUE(outcome.reads.at(0).messages.empty());
    EXPECT_EQ(outcome.reads.at(1).messages.size(), 10U);
    EXPECT_TRUE(outcome.dead_reads.at(0).letters.empty());
    TopicBatch again = batch_of(1, 3);
    again.topic = "t/a";
    look.batch = {again};
    outcome = run(look);
    EXPECT_EQ(outcome.reads.at(0).messages.size(), 3U);
    EXPECT_EQ(outcome.reads.at(1).messages.size(), 10U);
}

TEST_P(Conformance, a_dead_letter_goes_back_once) {
    static_cast<void>(store->recover());
    run(job_of(batch_of(1, 3)));
    TopicBatch bury;
    bury.topic = "q";
    bury.next_offset = 4;
    bury.dead = {{2, Reason::max_attempts, "no such file", 5, some_time, some_time, "worker"}};
    run(job_of(bury));
    TopicBatch redrive;
    redrive.topic = "q";
    redrive.next_offset = 6;
    redrive.redrives = {{2, 4}, {2, 5}};
    Job job = job_of(redrive);
    job.reads.push_back(read_all());
    job.dead_reads.push_back({"q", 0, 10, 0});
    const Outcome outcome = run(job);
    EXPECT_TRUE(outcome.dead_reads.at(0).letters.empty());
    ASSERT_EQ(outcome.reads.at(0).messages.size(), 3U);
    const StoredMessage& back = outcome.reads.at(0).messages[2];
    EXPECT_EQ(back.offset, 4U);
    EXPECT_EQ(back.redrives, 1U);
    EXPECT_EQ(back.envelope.view().substr(0, 2), "2.");
}

TEST_P(Conformance, an_edited_dead_letter_keeps_what_it_was_first_and_goes_back_as_it_is_last) {
    static_cast<void>(store->recover());
    TopicBatch bury = batch_of(1, 3);
    for (Offset offset = 1; offset <= 3; ++offset)
        bury.dead.push_back({offset, Reason::rejected, "", 1, some_time, some_time, ""});
    run(job_of(bury));
    const auto edit = [&](std::vector<Edit> edits) {
        TopicBatch batch{.topic = "q", .edits = std::move(edits)};
        Job job = job_of(batch);
        job.dead_reads.push_back({"q", 0, 10, 0});
        return run(job).dead_reads.at(0).letters;
    };
    edit({{1, Slice(std::string("first edit"))},
          {2, Slice(std::string("x"))},
          {9, Slice(std::string("nothing there"))}});
    const auto letters = edit({{1, Slice(std::string("second edit"))}});
    ASSERT_EQ(letters.size(), 3U);
    EXPECT_EQ(letters[0].envelope.view(), "second edit");
    ASSERT_TRUE(letters[0].original);
    EXPECT_EQ(letters[0].original->view().substr(0, 2), "1.");
    EXPECT_FALSE(letters[2].original);

    TopicBatch leave{.topic = "q", .next_offset = 5};
    leave.redrives = {{1, 4}};
    leave.purged = {2};
    Job job = job_of(leave);
    job.reads.push_back(read_all());
    job.dead_reads.push_back({"q", 0, 10, 0});
    const Outcome outcome = run(job);
    ASSERT_EQ(outcome.reads.at(0).messages.size(), 1U);
    EXPECT_EQ(outcome.reads[0].messages[0].envelope.view(), "second edit");
    EXPECT_EQ(outcome.dead_reads.at(0).letters.size(), 1U);
}

TEST_P(Conformance, the_oldest_dead_letters_go_where_there_are_too_many) {
    static_cast<void>(store->recover());
    TopicBatch bury = batch_of(1, 5, 100);
    for (Offset offset = 1; offset <= 5; ++offset)
        bury.dead.push_back({offset, Reason::rejected, "", 1, some_time, some_time, ""});
    bury.edits = {{2, Slice(std::string(10, 'e'))}};
    bury.dead_bound = {4, 0, {1}};
    Outcome outcome = run(job_of(bury));
    ASSERT_EQ(outcome.dropped.size(), 1U);
    EXPECT_EQ(outcome.dropped[0].topic, "q");
    EXPECT_EQ(outcome.dropped[0].messages, 1U);
    EXPECT_EQ(outcome.dropped[0].bytes, 110U) << "with its original";
    TopicBatch later{.topic = "q"};
    later.dead_bound = {0, 299, {}};
    Job job = job_of(later);
    job.dead_reads.push_back({"q", 0, 10, 0});
    outcome = run(job);
    ASSERT_EQ(outcome.dropped.size(), 1U);
    EXPECT_EQ(outcome.dropped[0].messages, 2U);
    EXPECT_EQ(outcome.dead_reads.at(0).letters.at(0).record.offset, 4U);
    EXPECT_TRUE(run(job).dropped.empty()) << "it fits now";
}

TEST_P(Conformance, originals_count_where_dead_letters_come_in_parts) {
    static_cast<void>(store->recover());
    TopicBatch batch = batch_of(1, 4, 300'000);
    for (Offset offset = 1; offset <= 4; ++offset) {
        batch.dead.push_back({offset, Reason::rejected, "", 1, some_time, some_time, ""});
        batch.edits.push_back({offset, Slice(std::string(300'000, 'e'))});
    }
    Job job = job_of(batch);
    job.dead_reads.push_back({"q", 0, 1000, 0});
    EXPECT_EQ(run(job).dead_reads.at(0).letters.size(), 1U);
}

TEST_P(Conformance, many_dead_letters_come_in_parts_of_about_a_mebibyte) {
    static_cast<void>(store->recover());
    TopicBatch batch = batch_of(1, 10, 300'000);
    for (Offset offset = 1; offset <= 10; ++offset) {
        batch.dead.push_back({offset, Reason::rejected, "", 1, some_time, some_time, ""});
    }
    Job job = job_of(batch);
    job.dead_reads.push_back({"q", 0, 1000, 0});
    const Outcome outcome = run(job);
    EXPECT_EQ(outcome.dead_reads.at(0).letters.size(), 3U);
    EXPECT_TRUE(outcome.dead_reads.at(0).more);
}

}  // namespace
}  // namespace posthorn::store
