// Time as the loops of one or more contexts have it: the system's, and so much ahead of it as a test has said.
// Thread-safe.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <utility>

#include <posthorn/time.hpp>

namespace posthorn::transport {

class Clock {
public:
    [[nodiscard]] Mono mono() const noexcept {
        return Mono{std::chrono::steady_clock::now().time_since_epoch()} + Duration{ahead_.load()};
    }
    [[nodiscard]] Now now() const noexcept {
        const auto wall = std::chrono::system_clock::now().time_since_epoch() + Duration{ahead_.load()};
        return {mono(), Wall{std::chrono::duration_cast<WallClock::duration>(wall)}};
    }

    // Leaps, and lets every loop look at it.
    void advance(Duration by) {
        const std::lock_guard lock(mutex_);
        ahead_ += by.count();
        for (const auto& [loop, wake] : loops_) wake();
    }
    void attach(const void* loop, std::function<void()> wake) {
        const std::lock_guard lock(mutex_);
        loops_.emplace(loop, std::move(wake));
    }
    void detach(const void* loop) {
        const std::lock_guard lock(mutex_);
        loops_.erase(loop);
    }

private:
    std::atomic<Duration::rep> ahead_{0};
    std::mutex mutex_;
    std::map<const void*, std::function<void()>> loops_;
};

}  // namespace posthorn::transport
