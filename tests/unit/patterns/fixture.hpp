// Both ends of a work queue in one process, each with a context of its own, as two processes would have.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <posthorn/work_queue.hpp>

#include "unit/temp_folder.hpp"

namespace posthorn::work_queue {

constexpr Duration patience = 60s;  // for what happens at once; only a broken build waits so long

// What happened, over threads, to be waited for.
template <typename T>
class Log {
public:
    void add(T value) {
        const std::lock_guard lock(mutex_);
        all_.push_back(std::move(value));
        changed_.notify_all();
    }
    // Until there are so many; patient as long as they come.
    [[nodiscard]] std::vector<T> wait(std::size_t count) {
        std::unique_lock lock(mutex_);
        std::size_t before = 0;
        do {
            before = all_.size();
            changed_.wait_for(lock, patience, [&] { return all_.size() >= count; });
        } while (all_.size() > before && all_.size() < count);
        EXPECT_GE(all_.size(), count) << "no more came";
        return all_;
    }
    template <typename Is>
    [[nodiscard]] bool wait_for(Is is) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, patience, [&] { return std::any_of(all_.begin(), all_.end(), is); });
    }
    [[nodiscard]] std::vector<T> now() {
        const std::lock_guard lock(mutex_);
        return all_;
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<T> all_;
};

class Events {
public:
    [[nodiscard]] ContextOptions hook() {
        ContextOptions options;
        options.on_event = [this](const Event& event) { log_.add(event); };
        return options;
    }
    [[nodiscard]] bool wait(Event::Kind kind) {
        return log_.wait_for([kind](const Event& event) { return event.kind == kind; });
    }
    template <typename Is>
    [[nodiscard]] bool wait_for(Is is) {
        return log_.wait_for(is);
    }
    [[nodiscard]] bool wait(Event::Kind kind, const std::string& subject) {
        return log_.wait_for([&](const Event& event) { return event.kind == kind && event.subject == subject; });
    }
    [[nodiscard]] std::size_t count(Event::Kind kind) {
        const auto all = log_.now();
        return static_cast<std::size_t>(
            std::count_if(all.begin(), all.end(), [kind](const Event& event) { return event.kind == kind; }));
    }

private:
    Log<Event> log_;
};

struct Job {
    std::string path;
    int number = 0;
    MSGPACK_DEFINE_MAP(path, number)
};

class WorkQueue : public ::testing::Test {
protected:
    Events producer_events_;
    Events worker_events_;
    Context producers_{producer_events_.hook()};
    Context workers_{worker_events_.hook()};
    TempFolder folder_;
};

// A worker that runs on a thread of its own until it is stopped.
class Running {
public:
    template <typename F>
    Running(Context& context, Home home, WorkerOptions options, F handler, std::string queue = "q")
        : worker(context, std::move(queue), std::move(home), std::move(options)),
          thread_([this, handler = std::move(handler)] { status_ = worker.run(handler, until(stop_.get_token())); }) {}
    ~Running() { stop(); }
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;

    Status stop() {
        stop_.request_stop();
        if (thread_.joinable()) thread_.join();
        return status_;
    }

    Worker worker;

private:
    std::stop_source stop_;
    Status status_ = Status::ok;
    std::thread thread_;
};

// Failed messages come again at once.
inline Here here_at(std::string endpoint) {
    Here options;
    options.bind = std::move(endpoint);
    options.queue.backoff = {.kind = Backoff::Kind::fixed, .min = 1ms, .max = 1ms};
    return options;
}

// The same in a folder, however full the disk is.
inline Here stored_at(Here options, std::filesystem::path folder) {
    options.store = std::move(folder);
    options.min_free = 0;
    return options;
}

inline std::string fault_of(const std::function<void()>& make) {
    try {
        make();
    } catch (const Error& error) {
        return error.what();
    }
    return "none";
}

// Runs the end with a handler that tells it to stop and then goes on until its stop token fires. How long that took.
inline Duration stopped_while_busy(ConsumerEnd& end) {
    std::stop_source stop;
    std::chrono::steady_clock::time_point asked;
    const auto handler = [&](Delivery& delivery) {
        asked = std::chrono::steady_clock::now();
        stop.request_stop();
        std::mutex mutex;
        std::condition_variable_any stopped;
        std::unique_lock lock(mutex);
        stopped.wait(lock, delivery.stop_token(), [] { return false; });
        delivery.release();
    };
    EXPECT_EQ(end.run(handler, until(stop.get_token())), Status::timed_out);
    return std::chrono::steady_clock::now() - asked;
}

}  // namespace posthorn::work_queue
