// A copy made in slices while the store goes on working.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "store/sqlite_store.hpp"
#include "unit/store/model.hpp"
#include "unit/temp_folder.hpp"

namespace posthorn::store {

using namespace testing;
using ::testing::HasSubstr;

namespace {

class BackupTest : public ::testing::Test {
protected:
    void SetUp() override {
        store = open(folder / "data");
        for (Offset first = 1; first < 30'000; first += 1000) {
            const Job job = job_of(batch_of(first, 1000, 500));
            ASSERT_EQ(store->run(job).failure, Failure::none);
            play(model, job);
        }
    }
    BackupResult step(BackupStep::What what, Job job = {}) {
        job.backup = {.what = what, .folder = (folder / "copy").string(), .ticket = 5};
        const Outcome outcome = store->run(job);
        EXPECT_EQ(outcome.failure, Failure::none) << outcome.text;
        if (!outcome.backup) return {};
        EXPECT_EQ(outcome.backup->ticket, 5U);
        return *outcome.backup;
    }
    Model copy() {
        auto opened = open_sqlite_store({.folder = folder / "copy", .min_free = 0, .vfs = {}});
        return recovered(*opened);
    }

    TempFolder temporary;
    std::filesystem::path folder = temporary.path();
    std::unique_ptr<Store> store;
    Model model;
};

TEST_F(BackupTest, the_copy_is_the_store_as_of_its_last_slice) {
    Work work(3);
    BackupResult result = step(BackupStep::What::begin);
    int slices = 1;
    for (; !result.whole; ++slices) {
        ASSERT_EQ(result.error, "");
        EXPECT_LT(result.copied, result.total);
        EXPECT_FALSE(std::filesystem::exists(folder / "copy" / "posthorn.db")) << "no part passes for the whole";
        const Job job = work.job(model);  // changes what was copied and what was not
        play(model, job);
        result = step(BackupStep::What::go_on, job);
    }
    EXPECT_GE(slices, 4);
    EXPECT_EQ(result.copied, result.total);
    EXPECT_FALSE(std::filesystem::exists(folder / "copy" / "posthorn.db.part"));
    const Model as_copied = model;
    for (int i = 0; i < 5; ++i) {  // what comes behind is not in it
        const Job job = work.job(model);
        ASSERT_EQ(store->run(job).failure, Failure::none);
        play(model, job);
    }
    EXPECT_TRUE(copy() == as_copied);
    EXPECT_TRUE(contents(*store, {"q"}).at("q").messages == model.at("q").messages) << "the original is as it was";
}

TEST_F(BackupTest, what_is_given_up_leaves_nothing_and_can_be_begun_again) {
    ASSERT_FALSE(step(BackupStep::What::begin).whole);
    EXPECT_TRUE(std::filesystem::exists(folder / "copy" / "posthorn.db.part"));
    step(BackupStep::What::give_up);
    EXPECT_TRUE(std::filesystem::is_empty(folder / "copy"));
    EXPECT_THAT(step(BackupStep::What::go_on).error, HasSubstr("no backup is under way"));
    BackupResult result = step(BackupStep::What::begin);
    while (!result.whole && result.error.empty()) result = step(BackupStep::What::go_on);
    EXPECT_EQ(result.error, "");
    EXPECT_TRUE(copy() == model);
}

TEST_F(BackupTest, a_folder_with_something_in_it_is_refused_and_left_as_it_is) {
    std::filesystem::create_directory(folder / "copy");
    std::ofstream(folder / "copy" / "mine") << "mine";
    EXPECT_THAT(step(BackupStep::What::begin).error, HasSubstr("is there and is not an empty folder"));
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder / "copy"), {}), 1);
    Job relative;
    relative.backup = {.what = BackupStep::What::begin, .folder = "copy"};
    EXPECT_THAT(store->run(relative).backup->error, HasSubstr("has to be an absolute path"));
}

TEST_F(BackupTest, a_disk_without_room_ends_the_copy_and_not_the_store) {
    store.reset();
    store = open_sqlite_store({.folder = folder / "data", .min_free = std::uint64_t{1} << 60U, .vfs = {}});
    static_cast<void>(store->recover());
    EXPECT_THAT(step(BackupStep::What::begin).error, HasSubstr("has less than min_free"));
    EXPECT_TRUE(std::filesystem::is_empty(folder / "copy"));
}

}  // namespace
}  // namespace posthorn::store
