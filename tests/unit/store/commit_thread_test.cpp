// The thread around a store.
#include "store/commit_thread.hpp"

#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>

#include "store/memory_store.hpp"
#include "unit/store/model.hpp"

namespace posthorn::store {

using namespace testing;

namespace {

TEST(CommitThread, runs_one_job_after_the_other_and_says_when) {
    const auto store = make_memory_store();
    std::mutex mutex;
    std::condition_variable wake;
    int finished = 0;
    CommitThread thread(*store, [&] {
        const std::lock_guard lock(mutex);
        ++finished;
        wake.notify_one();
    });
    EXPECT_FALSE(thread.take());
    for (int i = 1; i <= 3; ++i) {
        Job job = job_of(batch_of(static_cast<Offset>(i), 1));
        job.reads.push_back(read_all());
        thread.submit(std::make_shared<const Job>(std::move(job)));
        std::unique_lock lock(mutex);
        wake.wait(lock, [&] { return finished == i; });
        const auto outcome = thread.take();
        ASSERT_TRUE(outcome);
        EXPECT_EQ(outcome->reads.at(0).messages.size(), static_cast<std::size_t>(i));
        EXPECT_FALSE(thread.take());
    }
}

TEST(CommitThread, a_job_handed_in_is_run_before_the_end) {
    const auto store = make_memory_store();
    {
        CommitThread(*store, [] {}).submit(std::make_shared<const Job>(job_of(batch_of(1, 5))));
    }
    Job job;
    job.reads.push_back(read_all());
    EXPECT_EQ(store->run(job).reads.at(0).messages.size(), 5U);
}

}  // namespace
}  // namespace posthorn::store
