// What is wrong with a sender or receiver is said by their own names, and the options of a receiver are its own. What
// they do is asked in tests/conformance.
#include <condition_variable>
#include <functional>
#include <mutex>

#include <posthorn/point_to_point.hpp>

#include "fixture.hpp"

namespace posthorn::point_to_point {
namespace {

using ::testing::HasSubstr;

std::string fault_of(const std::function<void()>& make) {
    try {
        make();
    } catch (const Error& error) {
        return error.what();
    }
    return "none";
}

TEST(PointToPoint, FaultsAreNamedAsTheUserKnowsThem) {
    Context context;
    EXPECT_THAT(fault_of([&] { const Receiver one(context, "q", here({.bind = "inproc://q"})); }),
                HasSubstr("a receiver does not host its queue"));
    EXPECT_THAT(fault_of([&] { const Receiver one(context, "q", at("inproc://x"), {.prefetch = 1'000'000}); }),
                HasSubstr("ReceiverOptions.prefetch"));
    EXPECT_THAT(fault_of([&] { const Sender one(context, "q.dlq", here({.bind = "inproc://q"})); }),
                HasSubstr("is not a queue name"));
}

TEST(PointToPoint, TheEndsCanBeMoved) {
    Context context;
    Sender first{context, "q", here({.bind = "inproc://q"})};
    Sender sender{std::move(first)};
    Receiver receiver{context, "q", at("inproc://q")};
    receiver = Receiver{context, "q", at("inproc://q")};
    EXPECT_EQ(sender.send("text").status(), Status::ok);
    Received received = receiver.receive(work_queue::patience);
    ASSERT_EQ(received.status(), Status::ok);
    EXPECT_EQ(received->ack(), Status::ok);
}

TEST(PointToPoint, SendersThatComeAndGoConnectToAReceiverThatBinds) {
    Context context;
    Receiver receiver{context, "q", Home{}, {.bind = {"tcp://127.0.0.1:*"}}};
    Sender sender{context, "q", here({.connect = receiver.endpoints()})};
    EXPECT_EQ(sender.send("text").status(), Status::ok);
    Received received = receiver.receive(work_queue::patience);
    ASSERT_EQ(received.status(), Status::ok);
    EXPECT_EQ(received->ack(), Status::ok);
}

TEST(PointToPoint, StopTokensFireWhenADrainTakesTooLong) {
    Context context;
    Sender sender{context, "q", here({.bind = "inproc://q"}), {.close_timeout = 0ms}};
    Receiver receiver{context, "q", at("inproc://q"), {.drain_timeout = 10ms}};
    EXPECT_EQ(sender.send("text").status(), Status::ok);
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
    EXPECT_EQ(receiver.run(handler, until(stop.get_token())), Status::timed_out);
    EXPECT_LT(std::chrono::steady_clock::now() - asked, ReceiverOptions{}.drain_timeout) << "not the default";
}

}  // namespace
}  // namespace posthorn::point_to_point
