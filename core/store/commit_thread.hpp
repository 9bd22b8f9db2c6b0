// The shell around a store: runs one job at a time on a thread of its own.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "store/store.hpp"

namespace posthorn::store {

// submit() and take() are for one thread (the loop); `done` is called on the commit thread when an outcome waits.
class CommitThread {
public:
    CommitThread(Store& store, std::function<void()> done);
    ~CommitThread();  // lets the job under way end
    CommitThread(const CommitThread&) = delete;
    CommitThread& operator=(const CommitThread&) = delete;

    // Only when idle: after construction, or after take() gave the last outcome.
    void submit(std::shared_ptr<const Job> job);
    std::optional<Outcome> take();

private:
    void work();

    Store& store_;
    std::function<void()> done_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::shared_ptr<const Job> job_;
    std::optional<Outcome> outcome_;
    bool stop_ = false;
    std::thread thread_;
};

}  // namespace posthorn::store
