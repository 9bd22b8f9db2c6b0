// What survives which crash: kills, power cuts, full disks and failed syncs, on a disk that fails as told.
#include <gtest/gtest.h>

#include <memory>

#include <posthorn/status.hpp>

#include "sim/sim_vfs.hpp"
#include "store/sqlite_store.hpp"
#include "unit/store/model.hpp"

namespace posthorn::store {

using namespace testing;

namespace {

std::unique_ptr<Store> open_on(const sim::SimDisk& disk, std::uint64_t min_free = 0) {
    return open_sqlite_store({.folder = "sim", .min_free = min_free, .vfs = disk.vfs()});
}

// Random work with a crash somewhere in the middle of it, over and over. What was confirmed must be there; a batch
// that was under way is there whole or not at all.
void work_and_crash(std::uint64_t seed, bool power, int crashes) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    sim::SimDisk disk(seed);
    Work work(seed);
    Model model;
    for (int crash = 0; crash < crashes && !::testing::Test::HasFailure(); ++crash) {
        SCOPED_TRACE("crash " + std::to_string(crash));
        auto store = open_on(disk);
        Model confirmed = recovered(*store);
        ASSERT_EQ(confirmed, model);
        disk.stop_after(work.pick(400));
        Model next = model;
        for (;;) {
            const Job job = work.job(model);
            next = model;
            play(next, job);
            const Outcome outcome = store->run(job);
            if (outcome.failure != Failure::none) {
                EXPECT_EQ(outcome.failure, Failure::failed);
                EXPECT_FALSE(outcome.text.empty());
                break;
            }
            model = next;
        }
        store.reset();
        disk.restart(power);
        store = open_on(disk);
        confirmed = recovered(*store);
        if (confirmed == next) model = next;
        ASSERT_EQ(confirmed, model);
        store.reset();
        disk.restart(false);
    }
}

TEST(Crash, a_killed_process_loses_nothing_confirmed) {
    for (std::uint64_t seed = 1; seed <= 6; ++seed) work_and_crash(seed, false, 15);
}

TEST(Crash, a_power_cut_loses_nothing_confirmed) {
    for (std::uint64_t seed = 101; seed <= 112; ++seed) work_and_crash(seed, true, 15);
}

TEST(Crash, a_disk_that_lies_about_syncs_is_caught_by_this_test) {
    bool lost = false;
    for (std::uint64_t seed = 1; seed <= 10 && !lost; ++seed) {
        sim::SimDisk disk(seed);
        auto store = open_on(disk);
        static_cast<void>(store->recover());
        disk.lie_about_sync();
        ASSERT_EQ(store->run(job_of(batch_of(1, 100))).failure, Failure::none);
        store.reset();
        disk.restart(true);
        try {
            store = open_on(disk);
            const Recovery recovery = store->recover();
            lost = recovery.topics.empty() || recovery.topics[0].messages != 100;
        } catch (const Error&) {
            lost = true;
        }
    }
    EXPECT_TRUE(lost);
}

TEST(Crash, a_full_disk_stores_nothing_of_the_batch_and_recovers) {
    sim::SimDisk disk(7);
    auto store = open_on(disk);
    static_cast<void>(store->recover());
    Work work(7);
    Model model;
    int full = 0;
    for (int step = 0; step < 300; ++step) {
        SCOPED_TRACE(step);
        if (step % 10 == 5) disk.set_capacity(disk.used() + work.pick(60'000));
        if (step % 10 == 0) disk.set_capacity(sim::SimDisk::unlimited);
        const Job job = work.job(model);
        const Outcome outcome = store->run(job);
        if (outcome.failure == Failure::none) {
            play(model, job);
        } else {
            ASSERT_EQ(outcome.failure, Failure::full) << outcome.text;
            EXPECT_EQ(outcome.free_bytes, 0U);
            ++full;
        }
        Job reads;
        for (int i = 0; i < 3; ++i) {
            reads.reads = {work.read(model)};
            reads.reads[0].bodies = true;
            const ReadResult wanted = expected(model, reads.reads[0]);
            const Outcome read = store->run(reads);
            ASSERT_EQ(read.reads.at(0).messages.size(), wanted.messages.size());
        }
    }
    EXPECT_GT(full, 10);
    store.reset();
    disk.restart(false);
    store = open_on(disk);
    EXPECT_EQ(recovered(*store), model);
}

TEST(Crash, below_the_floor_nothing_is_appended_and_settlements_go_on) {
    constexpr std::uint64_t min_free = 8 * 1024 * 1024;
    sim::SimDisk disk;
    auto store = open_on(disk, min_free);
    static_cast<void>(store->recover());
    disk.set_capacity(disk.used() + 3 * min_free);
    Outcome outcome = store->run(job_of(batch_of(1, 1000)));
    ASSERT_EQ(outcome.failure, Failure::none);
    EXPECT_GT(outcome.free_bytes, 0U);
    EXPECT_LT(outcome.free_bytes, 2 * min_free);

    disk.set_capacity(disk.used() + min_free / 2);  // below min_free: credit should end, what is under way is stored
    outcome = store->run(job_of(batch_of(1001, 10)));
    EXPECT_EQ(outcome.failure, Failure::none);
    EXPECT_EQ(outcome.free_bytes, 0U);

    disk.set_capacity(disk.used() + min_free / 10);  // below the floor
    outcome = store->run(job_of(batch_of(1011, 10)));
    EXPECT_EQ(outcome.failure, Failure::full);
    EXPECT_NE(outcome.text.find("posthorn.db"), std::string::npos);
    TopicBatch settle;
    settle.topic = "q";
    settle.next_offset = 1011;
    settle.settled = {{1, 1010}};
    EXPECT_EQ(store->run(job_of(settle)).failure, Failure::none);

    disk.set_capacity(sim::SimDisk::unlimited);
    EXPECT_EQ(store->run(job_of(batch_of(1011, 10))).failure, Failure::none);
}

TEST(Crash, after_a_failed_sync_nothing_more_is_stored) {
    sim::SimDisk disk;
    auto store = open_on(disk);
    static_cast<void>(store->recover());
    ASSERT_EQ(store->run(job_of(batch_of(1, 10))).failure, Failure::none);
    disk.fail_next_sync();
    const Outcome outcome = store->run(job_of(batch_of(11, 10)));
    EXPECT_EQ(outcome.failure, Failure::failed);
    EXPECT_NE(outcome.text.find("posthorn.db"), std::string::npos);
    EXPECT_EQ(store->run(job_of(batch_of(11, 10))).failure, Failure::failed);  // though this sync would not fail
    EXPECT_EQ(store->run({}).failure, Failure::failed);
    store.reset();
    disk.restart(true);
    store = open_on(disk);
    const Recovery recovery = store->recover();
    EXPECT_GE(recovery.topics.at(0).messages, 10U);
}

TEST(Crash, the_log_stays_bounded) {
    sim::SimDisk disk;
    auto store = open_on(disk);
    static_cast<void>(store->recover());
    Offset next = 1;
    for (int i = 0; i < 400; ++i, next += 500) {
        ASSERT_EQ(store->run(job_of(batch_of(next, 500, 200))).failure, Failure::none);
        ASSERT_LT(disk.size("sim/posthorn.db-wal"), 10U * 1024 * 1024);
    }
}

}  // namespace
}  // namespace posthorn::store
