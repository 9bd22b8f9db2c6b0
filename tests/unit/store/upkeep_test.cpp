// Chunks that are merged, rewritten, forgotten by the cache; room that is given back. The store never tells; the test
// looks into the file.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "sim/sim_vfs.hpp"
#include "store/chunk_table.hpp"
#include "store/schema.hpp"
#include "store/sqlite_store.hpp"
#include "store/upkeep.hpp"
#include "store/upkeep_plan.hpp"
#include "unit/store/model.hpp"

namespace posthorn::store {

using namespace testing;

namespace {

class UpkeepTest : public ::testing::Test {
protected:
    std::unique_ptr<sim::SimDisk> disk = std::make_unique<sim::SimDisk>();
    std::unique_ptr<Store> store = open();
    Model model;

    std::unique_ptr<Store> open() {
        auto opened = open_sqlite_store({.folder = "sim", .min_free = 0, .vfs = disk->vfs()});
        static_cast<void>(opened->recover());
        return opened;
    }
    void run(TopicBatch batch) { run(job_of(std::move(batch))); }
    TopicBatch nothing() {
        TopicBatch batch;
        batch.topic = "q";
        batch.next_offset = model["q"].next_offset;
        return batch;
    }
    void settle(Offset first, Offset last) {
        TopicBatch batch = nothing();
        batch.settled = {{first, last}};
        run(batch);
    }
    // Stops the store, asks the file, starts it again.
    std::int64_t ask(const char* sql) {
        store.reset();
        std::int64_t answer = 0;
        {
            const auto file = open_store_file("sim/posthorn.db", disk->vfs());
            answer = file->integer(sql);
        }
        store = open();
        return answer;
    }
    void expect_contents() {
        std::vector<std::string> names;
        for (const auto& [name, topic] : model) names.push_back(name);
        EXPECT_EQ(without_memory_of_lives(contents(*store, names)), without_memory_of_lives(model));
    }
    // Every body is as many chunks' as it is said to be, and no less than one's.
    void expect_bodies_accounted_for() {
        EXPECT_EQ(ask("SELECT count(*) FROM body WHERE id NOT IN (SELECT abs(body) FROM chunk) "
                      "AND -id NOT IN (SELECT body FROM dead_chunk)"),
                  0);
        EXPECT_EQ(ask("SELECT count(*) FROM dead_chunk WHERE -body NOT IN (SELECT id FROM body)"), 0);
        EXPECT_EQ(ask("SELECT count(*) FROM chunk WHERE body<>0 AND abs(body) NOT IN (SELECT id FROM body)"), 0);
        EXPECT_EQ(ask("SELECT count(*) FROM shared_body WHERE "
                      "chunks <> (SELECT count(*) FROM chunk WHERE chunk.body = -shared_body.body) + "
                      "(SELECT count(*) FROM dead_chunk WHERE dead_chunk.body = -shared_body.body)"),
                  0);
        EXPECT_EQ(ask("SELECT count(*) FROM chunk WHERE body<0 AND -body NOT IN (SELECT body FROM shared_body)"), 0);
    }
    void run(const Job& job) {
        play(model, job);
        ASSERT_EQ(store->run(job).failure, Failure::none);
    }
    // Batches of an own topic, so that upkeep has its turns.
    void pass_time(std::uint64_t commits) {
        TopicBatch batch{.topic = "time"};
        for (; commits != 0; --commits) {
            batch.next_offset = ++model["time"].next_offset;
            run(batch);
        }
    }
    static DeadLetter dead(Offset offset) {
        return {offset, Reason::rejected, "bad", 1, some_time, some_time, "worker"};
    }
    void bury_in(const std::string& topic, Offset first, Offset last) {
        TopicBatch batch{.topic = topic, .next_offset = model[topic].next_offset};
        for (Offset offset = first; offset <= last; ++offset) batch.dead.push_back(dead(offset));
        run(batch);
    }
    void settle_in(const std::string& topic, Offset first, Offset last) {
        TopicBatch batch{.topic = topic, .next_offset = model[topic].next_offset, .settled = {{first, last}}};
        run(batch);
    }
};

TEST_F(UpkeepTest, messages_sent_one_by_one_end_in_few_chunks) {
    for (Offset offset = 1; offset <= 3000; ++offset) {
        TopicBatch batch = batch_of(offset, 1);
        if (offset % 7 == 0) {
            Mark mark;
            mark.offset = offset;
            mark.attempts = 2;
            batch.marks = {mark};
        }
        run(batch);
        if (offset % 50 == 0) settle(offset - 20, offset - 11);
    }
    EXPECT_LT(ask("SELECT count(*) FROM chunk"), 400);
    EXPECT_EQ(ask("SELECT count(*) FROM body LEFT JOIN chunk ON body=id WHERE body IS NULL"), 0);
    EXPECT_EQ(contents(*store, {"q"})["q"].messages, model["q"].messages);  // marks and all
}

TEST_F(UpkeepTest, what_is_settled_in_time_is_never_merged) {
    for (Offset offset = 1; offset <= 2000; ++offset) {
        run(batch_of(offset, 1));
        if (offset > 100) settle(offset - 100, offset - 100);
    }
    EXPECT_EQ(ask("SELECT max(messages) FROM chunk"), 1);
}

TEST_F(UpkeepTest, a_chunk_kept_alive_by_few_is_rewritten) {
    for (Offset first = 1; first <= 9001; first += 1000) run(batch_of(first, 1000, 100));
    for (Offset first = 1; first <= 9001; first += 1000) settle(first, first + 997);
    EXPECT_GT(ask("SELECT sum(bytes) FROM chunk"), 900'000);
    for (std::uint64_t i = 0; i < UpkeepPlan::sparse_wait + 20; ++i) run(batch_of(10'001 + i, 1));
    EXPECT_LT(ask("SELECT sum(bytes) FROM chunk"), 20'000);
    EXPECT_EQ(ask("SELECT count(*) FROM body LEFT JOIN chunk ON body=id WHERE body IS NULL"), 0);
    expect_contents();
}

TEST_F(UpkeepTest, freed_room_is_given_back) {
    Offset next = 1;
    for (int i = 0; i < 100; ++i, next += 1000) run(batch_of(next, 1000, 1000));
    EXPECT_GT(disk->size("sim/posthorn.db"), 90'000'000U);
    for (Offset first = 1; first < next; first += 500) settle(first, first + 499);
    for (int i = 0; i < 200; ++i, ++next) run(batch_of(next, 1, 10'000));
    EXPECT_LT(disk->size("sim/posthorn.db"), 40'000'000U);
    expect_contents();
}

TEST_F(UpkeepTest, the_cache_of_chunks_is_bounded) {
    store.reset();
    const auto file = open_store_file("sim/posthorn.db", disk->vfs());
    UpkeepPlan plan;
    ChunkTable chunks(*file, plan);
    Transaction transaction(*file);
    constexpr Offset count = 3 * ChunkTable::cached_chunks;
    for (Offset offset = 1; offset <= 2 * count; offset += 2) {
        PackedChunk packed;
        pack(batch_of(offset, 2), 0, packed);
        chunks.insert(1, std::move(packed));
        chunks.settle(1, {offset, offset});  // each has a state, which must not be forgotten with it
        ASSERT_LE(chunks.cached(), ChunkTable::cached_chunks);
    }
    chunks.flush();
    transaction.commit();
    for (Offset offset = 1; offset <= 2 * count; offset += 2) {
        const HeldChunk* held = chunks.at_or_behind(1, offset);
        ASSERT_NE(held, nullptr);
        ASSERT_EQ(held->chunk.first(), offset);
        ASSERT_EQ(held->chunk.live(), 1U);
        ASSERT_LE(chunks.cached(), ChunkTable::cached_chunks);
    }
}

std::vector<std::string> subscriptions(std::size_t count) {
    std::vector<std::string> names;
    for (std::size_t i = 1; i <= count; ++i) names.push_back("t/" + std::to_string(i));
    return names;
}

TEST_F(UpkeepTest, eight_subscriptions_need_hardly_more_than_one) {
    const auto bytes_of = [&](std::size_t count, auto measure) {
        store.reset();
        disk = std::make_unique<sim::SimDisk>();
        store = open();
        model.clear();
        const auto topics = subscriptions(count);
        for (Offset first = 1; first <= 9001; first += 1000) {
            TopicBatch batch = batch_of(first, 1000, 128);
            for (Append& append : batch.appends)
                append.envelope = Slice(std::string(96 + append.offset * 37 % 64, static_cast<char>(append.offset)));
            run(shared_job(batch, topics));
        }
        return measure(topics);
    };
    const auto now = [&](const auto&) {
        expect_bodies_accounted_for();
        return ask("PRAGMA page_count");
    };
    const auto half_settled = [&](const auto& topics) {
        for (const std::string& topic : topics) {
            TopicBatch batch{.topic = topic, .next_offset = 10'001};
            for (Offset offset = 1; offset <= 10'000; offset += 2) batch.settled.push_back({offset, offset});
            run(batch);
        }
        pass_time(UpkeepPlan::sparse_wait + 20);
        expect_contents();
        return now(topics);
    };
    const auto one = bytes_of(1, now);
    EXPECT_LT(bytes_of(8, now) * 10, one * 12);
    const auto one_half = bytes_of(1, half_settled);
    EXPECT_LT(bytes_of(8, half_settled) * 10, one_half * 12);
    for (const std::string& topic : subscriptions(8)) settle_in(topic, 1, 10'000);
    EXPECT_EQ(ask("SELECT count(*) FROM body"), 0);
    EXPECT_EQ(ask("SELECT count(*) FROM shared_body"), 0);
}

TEST_F(UpkeepTest, random_work_leaves_no_body_without_a_chunk) {
    Work work(11);
    for (int step = 0; step < 400 && !HasFailure(); ++step) run(work.job(model));
    expect_contents();
    expect_bodies_accounted_for();
}

TEST_F(UpkeepTest, small_shared_chunks_are_merged_for_all_that_have_them) {
    constexpr Offset count = 1500;
    const auto pages_of = [&](std::size_t subscriptions_count) {
        store.reset();
        disk = std::make_unique<sim::SimDisk>();
        store = open();
        model.clear();
        const auto topics = subscriptions(subscriptions_count);
        for (Offset offset = 1; offset <= count; ++offset) run(shared_job(batch_of(offset, 1, 500), topics));
        expect_bodies_accounted_for();
        expect_contents();
        return ask("SELECT sum(length(header) + ifnull(length(small_body), 0)) FROM chunk") +
               ask("SELECT sum(length(bytes)) FROM body") + ask("SELECT sum(length(layout)) FROM shared_body");
    };
    const auto one = pages_of(1);
    EXPECT_LT(pages_of(8) * 10, one * 12);
    const auto topics = subscriptions(8);
    EXPECT_LT(ask("SELECT count(*) FROM chunk WHERE topic=1"), 350);
    EXPECT_GT(ask("SELECT max(messages) FROM chunk"), 50);
    for (const std::string& topic : topics) settle_in(topic, 1, count);
    EXPECT_EQ(ask("SELECT count(*) FROM body"), 0);
}

TEST_F(UpkeepTest, merged_chunks_keep_what_each_topic_has_of_them) {
    constexpr Offset count = 400;
    const auto topics = subscriptions(3);
    for (Offset offset = 1; offset <= count; ++offset) {
        Job job = shared_job(batch_of(offset, 2 * (offset % 2) + 1, 300), topics);  // 1 or 3 of them
        for (TopicBatch& batch : job.batch) {
            for (Append& append : batch.appends) append.offset += 3 * offset;
            batch.next_offset = 4 * (offset + 1);
        }
        Mark mark;
        mark.offset = 4 * offset;
        mark.attempts = offset % 4 == 0 ? 2 : 3;
        job.batch[offset % 2].marks = {mark};
        job.batch[1].appends.front().terms.priority = offset % 5 == 0 ? 3 : 0;
        if (offset % 2 == 1) job.batch[2].appends.erase(job.batch[2].appends.begin() + 1);  // its bindings leave it out
        run(job);
        if (offset % 3 == 0 && offset % 2 == 1) settle_in(topics[0], 4 * offset, 4 * offset + 1);
    }
    EXPECT_LT(ask("SELECT count(*) FROM chunk"), 3 * 200);
    EXPECT_GT(ask("SELECT count(*) FROM chunk WHERE messages > 20"), 0);
    EXPECT_EQ(ask("SELECT count(*) FROM shared_body WHERE chunks <> 3"), 0);
    expect_bodies_accounted_for();
    auto found = contents(*store, topics);
    for (const std::string& topic : topics) EXPECT_EQ(found[topic].messages, model[topic].messages) << topic;
}

TEST_F(UpkeepTest, chunks_are_not_merged_across_what_only_some_have_or_dead_letters_lie_in) {
    const auto topics = subscriptions(3);
    for (Offset offset = 1; offset <= 400; ++offset) {
        const bool is_for_all = offset < 40 || offset > 60;
        run(shared_job(batch_of(offset, 1, 300), is_for_all ? topics : subscriptions(2)));
        if (offset == 100) bury_in(topics[0], 100, 100);
        if (offset == 200) run(batch_of(1, 1));  // of another topic altogether
    }
    EXPECT_LT(ask("SELECT count(*) FROM chunk"), 3 * 160);
    EXPECT_EQ(ask("SELECT count(*) FROM chunk WHERE first < 100 AND last > 100"), 0);
    EXPECT_EQ(ask("SELECT count(*) FROM shared_body WHERE chunks = 1"), 0);
    expect_bodies_accounted_for();
    expect_contents();
    for (const std::string& topic : topics) bury_in(topic, 30, 350);
    expect_bodies_accounted_for();
    expect_contents();
    EXPECT_EQ(ask("SELECT count(*) FROM dead_letter"), 0) << "they lie in the merged bodies";
}

TEST_F(UpkeepTest, random_work_on_what_is_sent_one_by_one_to_many) {
    for (const std::uint64_t seed : {1U, 2U}) {
        SCOPED_TRACE(seed);
        store.reset();
        disk = std::make_unique<sim::SimDisk>();
        store = open();
        model.clear();
        Work work(seed);
        const auto topics = subscriptions(4);
        Offset next = 1;
        for (int step = 0; step < 1000 && !HasFailure(); ++step) {
            Job job = shared_job(batch_of(next, 1, 1 + work.pick(300)), topics);
            next += 1 + work.pick(2);
            const std::uint64_t left_out = work.pick(100);
            for (std::size_t i = 0; i < topics.size(); ++i) {
                TopicBatch& batch = job.batch[i];
                batch.next_offset = next;
                if (left_out == i) batch.appends.clear();
                const Offset first = 1 + work.pick(next);
                if (work.pick(40) == 0) batch.settled = {{first, first + work.pick(20)}};
                if (work.pick(20) == 0 && model[topics[i]].messages.contains(first)) {
                    Mark mark;
                    mark.offset = first;
                    mark.attempts = 3;
                    if (batch.settled.empty()) batch.marks = {mark};
                }
                if (work.pick(60) == 0 && batch.settled.empty() && batch.marks.empty() &&
                    model[topics[i]].messages.contains(first)) {
                    batch.dead = {dead(first)};
                }
                const auto& buried = model[topics[i]].dead;
                if (work.pick(100) == 0 && batch.dead.empty() && !buried.empty()) {
                    batch.redrives = {{buried.begin()->first, next}};
                    batch.next_offset = next + 1;
                }
            }
            next = std::max_element(job.batch.begin(), job.batch.end(), [](const auto& a, const auto& b) {
                       return a.next_offset < b.next_offset;
                   })->next_offset;
            run(job);
        }
        EXPECT_GT(ask("SELECT max(messages) FROM chunk WHERE body < 0"), 20);
        expect_bodies_accounted_for();
        auto found = contents(*store, topics);
        for (const std::string& topic : topics) EXPECT_EQ(found[topic].messages, model[topic].messages) << topic;
        expect_contents();
    }
}

TEST_F(UpkeepTest, merging_for_very_many_is_done_in_pieces) {
    constexpr std::size_t many = 40;
    const auto topics = subscriptions(many);
    for (Offset offset = 1; offset <= 420; ++offset) run(shared_job(batch_of(offset, 1, 200), topics));
    EXPECT_LT(ask("SELECT count(*) FROM chunk"), 340 * many);
    EXPECT_GT(ask("SELECT max(messages) FROM chunk"), 20);
    EXPECT_LE(ask("SELECT max(messages) FROM chunk"), Upkeep::merged_chunks / many);
    expect_bodies_accounted_for();
    expect_contents();
}

TEST_F(UpkeepTest, a_sparse_chunk_is_rewritten_when_its_body_is_its_own_or_little_is_copied) {
    const auto topics = subscriptions(3);
    run(shared_job(batch_of(1, 1000, 100), topics));
    settle_in(topics[0], 1, 900);
    settle_in(topics[1], 1, 990);
    pass_time(UpkeepPlan::sparse_wait + 2);
    EXPECT_EQ(ask("SELECT chunks FROM shared_body"), 2) << "a hundredth is copied, a tenth is not";
    settle_in(topics[2], 1, 1000);
    settle_in(topics[0], 901, 901);
    pass_time(UpkeepPlan::sparse_wait + 2);
    EXPECT_EQ(ask("SELECT count(*) FROM shared_body"), 0);
    EXPECT_LT(ask("SELECT sum(length(bytes)) FROM body"), 12'000);
    expect_bodies_accounted_for();
    expect_contents();
}

TEST_F(UpkeepTest, what_was_too_much_to_copy_is_looked_at_again_when_it_is_touched) {
    const auto topics = subscriptions(2);
    run(shared_job(batch_of(1, 1000, 100), topics));
    settle_in(topics[0], 1, 900);
    pass_time(UpkeepPlan::sparse_wait + 2);
    settle_in(topics[1], 1, 1000);
    settle_in(topics[0], 901, 901);
    pass_time(UpkeepPlan::sparse_wait + 2);
    EXPECT_EQ(ask("SELECT count(*) FROM shared_body"), 0);
    expect_contents();
}

TEST_F(UpkeepTest, dead_letters_of_all_lie_in_the_body_that_their_messages_had) {
    const auto topics = subscriptions(8);
    run(shared_job(batch_of(1, 2000, 500), topics));
    const std::int64_t bodies = ask("SELECT sum(length(bytes)) FROM body");
    for (const std::string& topic : topics) bury_in(topic, 1, 2000);
    EXPECT_EQ(ask("SELECT count(*) FROM chunk"), 0);
    EXPECT_EQ(ask("SELECT count(*) FROM dead_letter"), 0);
    EXPECT_EQ(ask("SELECT sum(length(bytes)) FROM body"), bodies);
    EXPECT_LT(ask("SELECT sum(length(header) + length(record)) FROM dead_chunk"), bodies / 50);
    expect_bodies_accounted_for();
    expect_contents();
    for (const std::string& topic : topics) {
        EXPECT_EQ(ask("SELECT sum(length(bytes)) FROM body"), bodies);
        TopicBatch all{.topic = topic, .next_offset = 2001};
        all.dead_bound = DeadBound{1, 0, {7}};
        run(all);
    }
    EXPECT_EQ(ask("SELECT count(*) FROM body"), 1);
    EXPECT_EQ(ask("SELECT sum(length(bytes)) FROM body"), 500) << "one message, which each has";
    expect_contents();
    for (const std::string& topic : topics) {
        TopicBatch none{.topic = topic, .next_offset = 2001};
        none.purged = {7};
        run(none);
    }
    EXPECT_EQ(ask("SELECT count(*) FROM body"), 0);
    expect_bodies_accounted_for();
}

TEST_F(UpkeepTest, few_dead_letters_do_not_keep_a_large_body) {
    const auto topics = subscriptions(3);
    run(shared_job(batch_of(1, 1000, 100), topics));
    bury_in(topics[0], 300, 310);
    bury_in(topics[1], 305, 320);
    EXPECT_EQ(ask("SELECT sum(length(bytes)) FROM body"), 100'000);
    for (const std::string& topic : topics) {
        EXPECT_EQ(ask("SELECT sum(length(bytes)) FROM body"), 100'000) << "a message lies in it";
        settle_in(topic, 1, 1000);
    }
    EXPECT_EQ(ask("SELECT sum(length(bytes)) FROM body"), 2'100);
    EXPECT_EQ(ask("SELECT count(*) FROM dead_chunk"), 2);
    expect_bodies_accounted_for();
    expect_contents();
    TopicBatch edit{.topic = topics[1], .next_offset = 1003};
    edit.edits = {{305, Slice(std::string("edited"))}};
    edit.redrives = {{306, 1001}, {320, 1002}};
    run(edit);
    expect_bodies_accounted_for();
    expect_contents();
}

TEST_F(UpkeepTest, a_body_that_was_too_large_when_the_store_was_closed_is_found_at_the_start) {
    const auto topics = subscriptions(2);
    run(shared_job(batch_of(1, 1000, 100), topics));
    store.reset();
    disk->set_capacity(64ULL << 20U);
    store = open_sqlite_store({.folder = "sim", .min_free = 1ULL << 30U, .vfs = disk->vfs()});  // no room for upkeep
    static_cast<void>(store->recover());
    for (const std::string& topic : topics) {
        bury_in(topic, 300, 300);
        settle_in(topic, 1, 1000);
    }
    EXPECT_EQ(ask("SELECT sum(length(bytes)) FROM body"), 100'000);
    pass_time(1);
    EXPECT_EQ(ask("SELECT sum(length(bytes)) FROM body"), 100);
    expect_bodies_accounted_for();
    expect_contents();
}

TEST_F(UpkeepTest, dead_letters_that_have_much_to_say_are_copied) {
    const auto topics = subscriptions(2);
    run(shared_job(batch_of(1, 100, 100), topics));
    TopicBatch many{.topic = topics[0], .next_offset = 101};
    for (Offset offset = 1; offset <= 100; ++offset) {
        many.dead.push_back(dead(offset));
        many.dead.back().text.assign(1000, static_cast<char>('!' + offset % 90));
    }
    run(many);
    EXPECT_LT(ask("SELECT length(record) FROM dead_chunk"), 40'000);
    EXPECT_EQ(ask("SELECT letters + (SELECT count(*) FROM dead_letter) FROM dead_chunk"), 100);
    expect_bodies_accounted_for();
    expect_contents();
}

TEST_F(UpkeepTest, nothing_is_left_of_a_topic_that_has_gone) {
    Job job = shared_job(batch_of(1, 2500, 500), {"t/1", "t/2"});
    TopicBatch& one = job.batch[0];
    one.dead = {dead(1), dead(2)};
    one.edits = {{1, Slice(std::string("edited"))}};
    one.watermarks = {{identity(1), 7, {}, some_time}};
    one.dedup_keys = {{1, some_time, "key"}};
    one.strict = true;
    one.subscription = "settings";
    run(job);
    settle_in("t/1", 10, 20);
    TopicBatch gone{.topic = "t/1"};
    gone.gone = true;
    run(gone);
    for (const char* table : {"chunk", "chunk_state", "dead_letter", "dead_chunk", "dead_original", "producer", "dedup",
                              "strict_order", "subscription"}) {
        const std::string sql =
            "SELECT count(*) FROM " + std::string(table) + " WHERE topic NOT IN (SELECT id FROM topic)";
        EXPECT_EQ(ask(sql.c_str()), 0) << table;
    }
    EXPECT_EQ(ask("SELECT count(*) FROM topic"), 1);
    expect_bodies_accounted_for();
    expect_contents();
}

TEST(UpkeepPlan, merging_is_due_for_many_small_chunks_and_starts_with_the_oldest) {
    UpkeepPlan plan;
    for (Offset first = 1; first <= UpkeepPlan::merge_rows + UpkeepPlan::active_end; ++first) {
        plan.created({1, first}, 100);
        plan.created({2, first}, 100'000);
        EXPECT_FALSE(plan.merge_due());
    }
    plan.created({1, 1000}, 100);
    ASSERT_TRUE(plan.merge_due());
    EXPECT_EQ(*plan.merge_due(), (ChunkKey{1, 1}));
    for (Offset first = 1; first <= UpkeepPlan::merge_rows; ++first) plan.gone({1, first}, 100);
    plan.merged(1, 0, 257);
    EXPECT_FALSE(plan.merge_due());
}

TEST(UpkeepPlan, counts_that_were_wrong_are_set_right) {
    UpkeepPlan plan;
    for (Offset first = 1; first <= 1000; ++first) plan.created({1, first}, 100);  // and all rolled back
    ASSERT_TRUE(plan.merge_due());
    plan.merged(1, 0, std::nullopt);
    EXPECT_FALSE(plan.merge_due());
}

TEST(UpkeepPlan, a_rewrite_waits_and_the_list_is_bounded) {
    UpkeepPlan plan;
    for (std::size_t i = 0; i < 2 * UpkeepPlan::sparse_kept; ++i) plan.sparse({1, i});
    EXPECT_FALSE(plan.take_sparse());
    for (std::uint64_t i = 0; i < UpkeepPlan::sparse_wait; ++i) plan.committed();
    std::size_t taken = 0;
    while (plan.take_sparse()) ++taken;
    EXPECT_EQ(taken, UpkeepPlan::sparse_kept);
}

}  // namespace
}  // namespace posthorn::store
