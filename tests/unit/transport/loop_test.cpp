#include "transport/loop.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <future>
#include <memory>
#include <stdexcept>

#include "ends.hpp"
#include "transport/clock.hpp"

namespace posthorn::transport {
namespace {

using test::Caller;
using test::Echo;
using test::patience;
using test::settle;

// Counts its turns and asks for the next one when told to.
class Turner : public Participant {
public:
    explicit Turner(Loop& loop) : loop_(loop) { loop_.add(*this); }
    ~Turner() override { loop_.remove(*this); }
    Turner(const Turner&) = delete;
    Turner& operator=(const Turner&) = delete;

    void on_frame(PeerId /*peer*/, Slice /*frame*/, Now /*now*/) override {}
    Mono turn(Now now) override {
        const std::lock_guard lock(mutex_);
        ++turns_;
        changed_.notify_all();
        return every_ == Duration::zero() ? never : now.mono + every_;
    }

    void every(Duration period) {
        {
            const std::lock_guard lock(mutex_);
            every_ = period;
        }
        loop_.wake(*this);
    }
    bool wait_for_turns(std::uint64_t count) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, patience, [&] { return turns_ >= count; });
    }
    std::uint64_t turns() {
        const std::lock_guard lock(mutex_);
        return turns_;
    }

private:
    Loop& loop_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::uint64_t turns_ = 0;
    Duration every_{};
};

TEST(Loop, GivesATurnToTheNewcomerAndOnEveryWake) {
    Loop loop;
    Turner turner(loop);
    ASSERT_TRUE(turner.wait_for_turns(1));
    for (std::uint64_t i = 2; i < 100; ++i) {
        loop.wake(turner);
        ASSERT_TRUE(turner.wait_for_turns(i));
    }
}

TEST(Loop, GivesNoTurnWhenNothingHappens) {
    Loop loop;
    Turner idle(loop);
    Turner busy(loop);
    ASSERT_TRUE(idle.wait_for_turns(1));
    const auto before = busy.turns();
    for (int i = 0; i < 50; ++i) {
        loop.wake(busy);
        ASSERT_TRUE(busy.wait_for_turns(before + static_cast<std::uint64_t>(i) + 1));
    }
    EXPECT_EQ(idle.turns(), 1U);
}

TEST(Loop, WakesOfABusyLoopAreOne) {
    Loop loop;
    Turner turner(loop);
    ASSERT_TRUE(turner.wait_for_turns(1));
    std::promise<void> go;
    std::promise<void> held;
    loop.post([&] {
        held.set_value();
        go.get_future().wait();
    });
    held.get_future().wait();
    for (int i = 0; i < 1000; ++i) loop.wake(turner);
    go.set_value();
    ASSERT_TRUE(turner.wait_for_turns(2));
    settle(loop);
    settle(loop);  // a second turn would have come by now
    EXPECT_EQ(turner.turns(), 2U);
}

TEST(Loop, NoWakeIsLost) {
    Loop loop;
    // Counts what came in; every thread raises the number first and wakes then, so the last turn must see the total.
    class Counter : public Participant {
    public:
        void on_frame(PeerId /*peer*/, Slice /*frame*/, Now /*now*/) override {}
        Mono turn(Now /*now*/) override {
            seen = sent.load();
            seen.notify_all();
            return never;
        }
        std::atomic<int> sent{0};
        std::atomic<int> seen{0};
    } counter;
    loop.add(counter);
    constexpr int rounds = 2000;
    std::vector<std::thread> threads;
    threads.reserve(4);
    for (int t = 0; t < 3; ++t)
        threads.emplace_back([&] {
            for (int i = 0; i < rounds; ++i) {
                const int mine = ++counter.sent;
                loop.wake(counter);
                for (int seen = counter.seen; seen < mine; seen = counter.seen) counter.seen.wait(seen);
            }
        });
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(counter.seen, 3 * rounds);
    loop.remove(counter);
}

TEST(Loop, KeepsDeadlines) {
    Loop loop;
    Turner turner(loop);
    const auto begin = loop.mono();
    turner.every(5ms);
    ASSERT_TRUE(turner.wait_for_turns(10));
    EXPECT_GE(loop.mono() - begin, 8 * 5ms);  // the first two turns may have come at once
}

TEST(Loop, RunsPostedWorkInOrder) {
    Loop loop;
    std::vector<int> order;
    for (int i = 0; i < 100; ++i) loop.post([&order, i] { order.push_back(i); });
    settle(loop);
    ASSERT_EQ(order.size(), 100U);
    for (int i = 0; i < 100; ++i) EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
}

TEST(Loop, TellsTimeOnBothClocks) {
    const Loop loop;
    const auto before = std::chrono::system_clock::now().time_since_epoch();
    const auto first = loop.now();
    const auto second = loop.now();
    EXPECT_LE(first.mono, second.mono);
    EXPECT_LT(std::chrono::abs(first.wall.time_since_epoch() - before), 5s);
}

TEST(Loop, ALeapOfItsClockMakesDeadlinesDue) {
    const auto clock = std::make_shared<Clock>();
    Loop loop{clock};
    Turner turner(loop);
    turner.every(std::chrono::hours{1});
    ASSERT_TRUE(turner.wait_for_turns(1));
    const auto before = loop.now();
    for (std::uint64_t leaps = 1; leaps <= 100; ++leaps) {  // some of them while it sleeps
        clock->advance(std::chrono::hours{2});
        ASSERT_TRUE(turner.wait_for_turns(1 + leaps));
    }
    EXPECT_GE(loop.mono() - before.mono, std::chrono::hours{2});
    EXPECT_GE(loop.now().wall - before.wall, std::chrono::hours{2});
}

// Or a message would be taken in before it was sent, in a round that had begun before.
TEST(Loop, WhatComesBehindSomethingHasNoTimeBeforeIt) {
    const auto clock = std::make_shared<Clock>();
    Loop loop{clock};
    class Leaper : public Participant {
    public:
        Leaper(Clock& clock, std::vector<Mono>& times) : clock_(clock), times_(times) {}
        void on_frame(PeerId /*peer*/, Slice /*frame*/, Now now) override { leap(now); }
        Mono turn(Now now) override {
            leap(now);
            return never;
        }

    private:
        void leap(Now now) {
            times_.push_back(now.mono);
            clock_.advance(std::chrono::hours{1});
        }
        Clock& clock_;
        std::vector<Mono>& times_;
    };
    std::vector<Mono> times;
    Leaper one{*clock, times};
    Leaper other{*clock, times};
    loop.add(one);
    loop.add(other);
    Caller caller(loop);
    loop.connect(caller, loop.bind(one, "inproc://leaps"));
    for (const char* word : {"a", "b", "c"}) caller.say(word);
    std::size_t seen = 0;
    while (seen < 8) {
        std::promise<std::size_t> count;
        loop.post([&] {
            loop.wake(one);  // both, in one round
            loop.wake(other);
            count.set_value(times.size());
        });
        seen = count.get_future().get();
    }
    loop.remove(one);
    loop.remove(other);
    for (std::size_t i = 1; i < times.size(); ++i) EXPECT_GE(times[i] - times[i - 1], std::chrono::hours{1}) << i;
}

TEST(Loop, LeavesSignalsToTheApplication) {
    Loop loop;
    sigset_t on_loop;
    sigset_t here;
    std::promise<void> done;
    loop.post([&] {
        pthread_sigmask(SIG_SETMASK, nullptr, &on_loop);
        done.set_value();
    });
    done.get_future().wait();
    pthread_sigmask(SIG_SETMASK, nullptr, &here);
    EXPECT_EQ(sigismember(&on_loop, SIGTERM), 1);
    EXPECT_EQ(sigismember(&on_loop, SIGSEGV), 0);
    EXPECT_EQ(sigismember(&here, SIGTERM), 0);
}

TEST(Loop, ErrorsComeToWhoAsked) {
    Loop loop;
    Echo echo(loop);
    EXPECT_THROW(loop.bind(echo, "nonsense"), Error);
    EXPECT_THROW(loop.connect(echo, "tcp://host:nonsense"), Error);
    EXPECT_EQ(loop.bind(echo, "inproc://still-there"), "inproc://still-there");
}

TEST(Loop, WhoIsNotOnItCannotBindOrConnect) {
    Loop loop;
    Echo echo(loop);
    loop.remove(echo);
    EXPECT_NE(test::error_of([&] { loop.bind(echo, "inproc://a"); }).find("add() comes first"), std::string::npos);
    EXPECT_NE(test::error_of([&] { loop.connect(echo, "inproc://a"); }).find("add() comes first"), std::string::npos);
    loop.remove(echo);  // harmless
}

TEST(Loop, CanBeAskedFromItsOwnThread) {
    Loop loop;
    Echo echo(loop);
    Caller caller(loop);
    Turner passing(loop);
    std::promise<std::string> bound;
    loop.post([&] {
        loop.remove(passing);
        loop.add(passing);
        loop.add(passing);
        const auto endpoint = loop.bind(echo, "tcp://127.0.0.1:*");
        loop.connect(caller, endpoint);
        bound.set_value(endpoint);
    });
    EXPECT_TRUE(bound.get_future().get().starts_with("tcp://127.0.0.1:"));
    EXPECT_TRUE(caller.call("hello"));
}

// Removes itself in the middle of a burst of frames.
class Quitter : public Participant {
public:
    explicit Quitter(Loop& loop) : loop_(loop) { loop_.add(*this); }
    void on_frame(PeerId /*peer*/, Slice /*frame*/, Now /*now*/) override {
        ++frames;
        loop_.remove(*this);
        removed.set_value();
    }
    Mono turn(Now /*now*/) override { return never; }
    int frames = 0;
    std::promise<void> removed;

private:
    Loop& loop_;
};

TEST(Loop, AParticipantMayRemoveItselfWhileItIsCalled) {
    Loop loop;
    Quitter quitter(loop);
    Caller caller(loop);
    const auto endpoint = loop.bind(quitter, "inproc://quitter");
    loop.connect(caller, endpoint);
    for (int i = 0; i < 100; ++i) caller.say("go");
    ASSERT_EQ(quitter.removed.get_future().wait_for(patience), std::future_status::ready);
    settle(loop);
    EXPECT_EQ(quitter.frames, 1);
}

TEST(Loop, AfterRemoveNobodyIsCalled) {
    Loop loop;
    Echo server(loop);
    const auto endpoint = loop.bind(server, "tcp://127.0.0.1:*");
    for (int i = 0; i < 20; ++i) {
        auto caller = std::make_unique<Caller>(loop);
        loop.connect(*caller, endpoint);
        for (int n = 0; n < 50; ++n) caller->say("hello");
        ASSERT_TRUE(caller->wait_for_answers(1));
        caller.reset();  // with answers under way; the sanitizers see a call that comes later
    }
}

TEST(Loop, IsSharedByManyThreads) {
    Loop loop;
    Echo echo(loop);
    const auto endpoint = loop.bind(echo, "tcp://127.0.0.1:*");
    std::atomic<int> answered{0};
    std::vector<std::thread> threads;
    threads.reserve(4);
    for (int t = 0; t < 4; ++t)
        threads.emplace_back([&] {
            for (int i = 0; i < 10; ++i) {
                Caller caller(loop);
                loop.connect(caller, endpoint);
                Echo own(loop);
                loop.bind(own, "tcp://127.0.0.1:*");
                if (caller.call("hello")) ++answered;
            }
        });
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(answered, 40);
}

TEST(Loop, EndsWithParticipantsAndLinksOnIt) {
    class Bystander : public Participant {
    public:
        void on_frame(PeerId /*peer*/, Slice /*frame*/, Now /*now*/) override {}
        Mono turn(Now now) override { return now.mono; }
    };
    for (int i = 0; i < 20; ++i) {
        Bystander stays;
        Loop loop;
        loop.add(stays);
        loop.connect(stays, "tcp://127.0.0.1:9");
        loop.connect(stays, "inproc://nobody");
        loop.bind(stays, "inproc://somebody");
        loop.bind(stays, "tcp://127.0.0.1:*");
    }
}

}  // namespace
}  // namespace posthorn::transport
