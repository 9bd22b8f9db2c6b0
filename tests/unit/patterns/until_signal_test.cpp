#include <csignal>

#include "fixture.hpp"

namespace posthorn::work_queue {
namespace {

using ::testing::ExitedWithCode;
using ::testing::KilledBySignal;

// Signals are the process's: each test has one of its own.
class UntilSignal : public ::testing::Test {
protected:
    UntilSignal() { ::testing::FLAGS_gtest_death_test_style = "threadsafe"; }
};

bool stops(const std::stop_token& token) {
    std::mutex mutex;
    std::condition_variable stopped;
    bool fired = false;
    const std::stop_callback on_stop(token, [&] {
        const std::lock_guard lock(mutex);
        fired = true;
        stopped.notify_all();
    });
    std::unique_lock lock(mutex);
    return stopped.wait_for(lock, patience, [&] { return fired; });
}

TEST_F(UntilSignal, TheFirstSignalStops) {
    for (const int signal : {SIGINT, SIGTERM}) {
        EXPECT_EXIT(
            {
                const Until until = until_signal();
                if (until.token().stop_requested()) std::_Exit(1);
                ::raise(signal);
                std::exit(stops(until.token()) ? 7 : 2);
            },
            ExitedWithCode(7), "");
    }
}

TEST_F(UntilSignal, TheSecondDoesWhatItWouldHaveDoneWithoutUs) {
    EXPECT_EXIT(
        {
            const Until until = until_signal();
            ::raise(SIGINT);
            (void)stops(until.token());
            ::raise(SIGTERM);
            std::_Exit(1);
        },
        KilledBySignal(SIGTERM), "");
}

TEST_F(UntilSignal, WhoComesLaterIsStoppedAtOnce) {
    EXPECT_EXIT(
        {
            const Until first = until_signal();
            ::raise(SIGINT);
            (void)stops(first.token());
            std::_Exit(until_signal().token().stop_requested() ? 7 : 1);
        },
        ExitedWithCode(7), "");
}

}  // namespace
}  // namespace posthorn::work_queue
