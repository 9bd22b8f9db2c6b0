// What is wrong with a sender or receiver is said by their own names, and the options of a receiver are its own. What
// they do is asked in tests/conformance.
#include <posthorn/point_to_point.hpp>

#include "fixture.hpp"

namespace posthorn::point_to_point {
namespace {

using ::testing::HasSubstr;
using work_queue::fault_of;

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
    EXPECT_LT(work_queue::stopped_while_busy(receiver), ReceiverOptions{}.drain_timeout) << "not the default";
}

}  // namespace
}  // namespace posthorn::point_to_point
