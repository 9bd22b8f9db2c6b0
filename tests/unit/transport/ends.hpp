// Participants for these tests, and the patience to wait for what they see.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <functional>
#include <future>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <posthorn/status.hpp>

#include "transport/loop.hpp"
#include "unit/temp_folder.hpp"

namespace posthorn::transport::test {

constexpr auto patience = std::chrono::seconds(60);  // a test that waits so long has failed

// What a participant was told of strangers.
class Strangers {
public:
    void add(const Event& event) {
        const std::lock_guard lock(mutex_);
        events_.push_back(event);
        changed_.notify_all();
    }
    bool wait_for(std::string_view words, std::uint64_t count = 1) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, patience, [&] {
            return std::any_of(events_.begin(), events_.end(), [&](const Event& event) {
                return event.count == count && event.text.find(words) != std::string::npos;
            });
        });
    }
    bool wait_for_events(std::size_t count) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, patience, [&] { return events_.size() >= count; });
    }
    std::vector<Event> events() {
        const std::lock_guard lock(mutex_);
        return events_;
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<Event> events_;
};

// Sends every frame back whence it came and remembers who sent what.
class Echo : public Participant {
public:
    explicit Echo(Loop& loop) : loop_(loop) { loop_.add(*this); }
    ~Echo() override { loop_.remove(*this); }
    Echo(const Echo&) = delete;
    Echo& operator=(const Echo&) = delete;

    void on_frame(PeerId peer, Slice frame, Now /*now*/) override {
        {
            const std::lock_guard lock(mutex_);
            ++frames_[peer];
            ++total_;
            if (frame.empty()) ++empty_;
            changed_.notify_all();
        }
        if (!frame.empty()) loop_.send(peer, std::string(frame.view()));
    }
    Mono turn(Now /*now*/) override { return never; }
    void on_stranger(const Event& event) override { strangers.add(event); }
    Strangers strangers;

    bool wait_for_frames(std::uint64_t count) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, patience, [&] { return total_ >= count; });
    }
    bool wait_for_empty(std::uint64_t count) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, patience, [&] { return empty_ >= count; });
    }
    std::uint64_t total() {
        const std::lock_guard lock(mutex_);
        return total_;
    }
    // Who has sent something.
    std::size_t peers() {
        const std::lock_guard lock(mutex_);
        return frames_.size();
    }

private:
    Loop& loop_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::map<PeerId, std::uint64_t> frames_;
    std::uint64_t total_ = 0;
    std::uint64_t empty_ = 0;
};

// Says what it is told to on its one link, again and again until the link takes it, and collects the answers.
class Caller : public Participant {
public:
    explicit Caller(Loop& loop) : loop_(loop) { loop_.add(*this); }
    ~Caller() override { loop_.remove(*this); }
    Caller(const Caller&) = delete;
    Caller& operator=(const Caller&) = delete;

    void say(std::string text) {
        {
            const std::lock_guard lock(mutex_);
            to_say_.push_back(std::move(text));
        }
        loop_.wake(*this);
    }

    // Says it until an answer comes, as a session does with its hello: what was under way when a link broke is lost.
    bool call(const std::string& text) {
        const auto before = answers().size();
        const auto end = std::chrono::steady_clock::now() + patience;
        while (std::chrono::steady_clock::now() < end) {
            say(text);
            std::unique_lock lock(mutex_);
            // Answers to what was called before, more than once, may still come.
            const auto answered = [&] {
                return std::find(answers_.begin() + static_cast<std::ptrdiff_t>(before), answers_.end(), text) !=
                       answers_.end();
            };
            if (changed_.wait_for(lock, std::chrono::milliseconds(200), answered)) return true;
        }
        return false;
    }

    bool wait_for_answers(std::size_t count) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, patience, [&] { return answers_.size() >= count; });
    }
    bool wait_for_refused_sends(std::uint64_t count) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, patience, [&] { return refused_sends_ >= count; });
    }
    std::vector<std::string> answers() {
        const std::lock_guard lock(mutex_);
        return answers_;
    }

    void on_link(PeerId peer, const std::string& /*endpoint*/) override { link_ = peer; }
    void on_stranger(const Event& event) override { strangers.add(event); }
    Strangers strangers;
    void on_frame(PeerId /*peer*/, Slice frame, Now /*now*/) override {
        const std::lock_guard lock(mutex_);
        answers_.emplace_back(frame.view());
        changed_.notify_all();
    }
    Mono turn(Now now) override {
        const std::lock_guard lock(mutex_);
        while (!to_say_.empty()) {
            if (!loop_.send(link_, to_say_.front())) {
                ++refused_sends_;
                changed_.notify_all();
                return now.mono + std::chrono::milliseconds(10);
            }
            to_say_.pop_front();
        }
        return never;
    }

private:
    Loop& loop_;
    PeerId link_ = 0;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::string> to_say_;
    std::vector<std::string> answers_;
    std::uint64_t refused_sends_ = 0;
};

// Returns when the loop has done all that was asked of it so far.
inline void settle(Loop& loop) {
    std::promise<void> done;
    loop.post([&] { done.set_value(); });
    done.get_future().wait();
}

inline std::string error_of(const std::function<void()>& work) {
    try {
        work();
    } catch (const Error& error) {
        return error.what();
    }
    return {};
}

}  // namespace posthorn::transport::test
