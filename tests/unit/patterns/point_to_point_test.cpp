// What is wrong with a sender or receiver is said by their own names. What they do is asked in tests/conformance.
#include <functional>

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

}  // namespace
}  // namespace posthorn::point_to_point
