// Chunks that are merged, rewritten, forgotten by the cache; room that is given back. The store never tells; the test
// looks into the file.
#include <gtest/gtest.h>

#include <memory>

#include "sim/sim_vfs.hpp"
#include "store/chunk_table.hpp"
#include "store/schema.hpp"
#include "store/sqlite_store.hpp"
#include "store/upkeep_plan.hpp"
#include "unit/store/model.hpp"

namespace posthorn::store {

using namespace testing;

namespace {

class UpkeepTest : public ::testing::Test {
protected:
    sim::SimDisk disk;
    std::unique_ptr<Store> store = open();
    Model model;

    std::unique_ptr<Store> open() {
        auto opened = open_sqlite_store({.folder = "sim", .min_free = 0, .vfs = disk.vfs()});
        static_cast<void>(opened->recover());
        return opened;
    }
    void run(TopicBatch batch) {
        const Job job = job_of(std::move(batch));
        play(model, job);
        ASSERT_EQ(store->run(job).failure, Failure::none);
    }
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
            const auto file = open_store_file("sim/posthorn.db", disk.vfs());
            answer = file->integer(sql);
        }
        store = open();
        return answer;
    }
    void expect_contents() {
        EXPECT_EQ(without_memory_of_lives(contents(*store, {"q"})), without_memory_of_lives(model));
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
    EXPECT_GT(disk.size("sim/posthorn.db"), 90'000'000U);
    for (Offset first = 1; first < next; first += 500) settle(first, first + 499);
    for (int i = 0; i < 200; ++i, ++next) run(batch_of(next, 1, 10'000));
    EXPECT_LT(disk.size("sim/posthorn.db"), 40'000'000U);
    expect_contents();
}

TEST_F(UpkeepTest, the_cache_of_chunks_is_bounded) {
    store.reset();
    const auto file = open_store_file("sim/posthorn.db", disk.vfs());
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
