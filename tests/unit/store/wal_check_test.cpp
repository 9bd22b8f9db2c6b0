#include "store/wal_check.hpp"

#include <gtest/gtest.h>

#include <memory>

#include "sim/sim_vfs.hpp"
#include "store/sqlite_store.hpp"
#include "unit/store/model.hpp"

namespace posthorn::store {

using namespace testing;

namespace {

const std::string database = "sim/posthorn.db";
const std::string log_file = "sim/posthorn.db-wal";
constexpr std::uint64_t frame = 24 + 16'384;

class LogTest : public ::testing::Test {
protected:
    sim::SimDisk disk;
    std::unique_ptr<Store> store;

    std::unique_ptr<Store> open() { return open_sqlite_store({.folder = "sim", .min_free = 0, .vfs = disk.vfs()}); }

    // `batches` commits in the log, then the process is killed.
    void fill(int batches) {
        store = open();
        static_cast<void>(store->recover());
        for (int i = 0; i < batches; ++i) {
            ASSERT_EQ(store->run(job_of(batch_of(1 + static_cast<Offset>(i) * 10, 10))).failure, Failure::none);
        }
        die();
    }
    void die() {
        disk.stop_after(0);
        store.reset();
        disk.restart(false);
    }
    std::uint64_t messages(std::vector<std::string>* notes = nullptr) {
        store = open();
        const Recovery recovery = store->recover();
        if (notes != nullptr) *notes = recovery.notes;
        return recovery.topics.empty() ? 0 : recovery.topics[0].messages;
    }
};

TEST_F(LogTest, there_is_nothing_to_say_of_a_sound_log) {
    EXPECT_FALSE(check_log(database, disk.vfs()));
    fill(5);
    const auto findings = check_log(database, disk.vfs());
    ASSERT_TRUE(findings);
    EXPECT_EQ(findings->frames, (disk.size(log_file) - 32) / frame);
    EXPECT_EQ(findings->behind, 0U);
    EXPECT_FALSE(findings->loss());
    EXPECT_EQ(describe(*findings, database), "");
    EXPECT_EQ(messages(), 50U);
}

TEST_F(LogTest, lost_commits_are_reported) {
    fill(5);
    const std::uint64_t frames = (disk.size(log_file) - 32) / frame;
    disk.flip_byte(log_file, 32 + (frames - 8) * frame + 100);  // a commit here takes fewer than eight frames
    const auto findings = check_log(database, disk.vfs());
    ASSERT_TRUE(findings);
    EXPECT_TRUE(findings->loss());
    std::vector<std::string> notes;
    EXPECT_LT(messages(&notes), 50U);
    ASSERT_EQ(notes.size(), 2U);
    EXPECT_NE(notes[1].find("LOST"), std::string::npos);
}

TEST_F(LogTest, an_unfinished_commit_is_no_loss) {
    fill(5);
    const std::uint64_t frames = (disk.size(log_file) - 32) / frame;
    disk.flip_byte(log_file, 32 + (frames - 1) * frame + 100);
    const auto findings = check_log(database, disk.vfs());
    ASSERT_TRUE(findings);
    EXPECT_FALSE(findings->loss());
    EXPECT_GT(findings->behind, 0U);
    EXPECT_NE(describe(*findings, database).find("unfinished"), std::string::npos);
    EXPECT_EQ(messages(), 40U);
}

// Every power cut leaves at most one unfinished commit, wherever it strikes: loss is never cried without one.
TEST_F(LogTest, a_power_cut_never_looks_like_loss) {
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        sim::SimDisk own(seed);
        auto opened = open_sqlite_store({.folder = "sim", .min_free = 0, .vfs = own.vfs()});
        static_cast<void>(opened->recover());
        own.stop_after(20 + seed * 3);
        Offset next = 1;
        while (opened->run(job_of(batch_of(next, 20, 500))).failure == Failure::none) next += 20;
        opened.reset();
        own.restart(true);
        const auto findings = check_log(database, own.vfs());
        if (findings) {
            EXPECT_FALSE(findings->loss()) << seed;
        }
    }
}

TEST_F(LogTest, a_damaged_header_is_told) {
    fill(2);
    disk.flip_byte(log_file, 17);
    const auto findings = check_log(database, disk.vfs());
    ASSERT_TRUE(findings);
    EXPECT_TRUE(findings->header_damaged);
    EXPECT_NE(describe(*findings, database), "");
}

}  // namespace
}  // namespace posthorn::store
