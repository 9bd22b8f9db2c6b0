#include "store/commit_thread.hpp"

#include <utility>

namespace posthorn::store {

CommitThread::CommitThread(Store& store, std::function<void()> done)
    : store_(store), done_(std::move(done)), thread_([this] { work(); }) {}

CommitThread::~CommitThread() {
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    wake_.notify_one();
    thread_.join();
}

void CommitThread::submit(std::shared_ptr<const Job> job) {
    {
        const std::lock_guard lock(mutex_);
        job_ = std::move(job);
    }
    wake_.notify_one();
}

std::optional<Outcome> CommitThread::take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(outcome_, std::nullopt);
}

void CommitThread::work() {
    std::unique_lock lock(mutex_);
    for (;;) {
        wake_.wait(lock, [this] { return job_ != nullptr || stop_; });
        if (!job_) return;  // a job handed in before the end is still run
        const std::shared_ptr<const Job> job = std::exchange(job_, nullptr);
        lock.unlock();
        Outcome outcome = store_.run(*job);
        lock.lock();
        outcome_ = std::move(outcome);
        lock.unlock();
        done_();
        lock.lock();
    }
}

}  // namespace posthorn::store
