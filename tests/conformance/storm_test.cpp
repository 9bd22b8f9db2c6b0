// A queue whose messages only fail.
#include "fixture.hpp"

namespace posthorn::work_queue {
namespace {

class Storm : public Conformance {
protected:
    // The next one, however long it is held back.
    Delivery next(Worker& worker) {
        for (;;) {
            if (Received received = worker.receive(20ms)) return std::move(*received);
            clock_.advance(defaults::storm_pause_max);
        }
    }
};

TEST_P(Storm, IsSlowUntilOneIsAcked) {
    QueuePolicy guarded = policy();
    guarded.storm_after = 3;
    open(guarded);
    arrive(std::vector<Message>(20, Message{.payload = "x"}));
    Worker one = worker({.prefetch = 1});
    for (int i = 0; i < 3; ++i) EXPECT_EQ(take(one).reject("bad"), Status::ok);
    EXPECT_TRUE(event(Event::Kind::storm));
    constexpr int until_it_is_longest = 8;
    for (int i = 0; i < until_it_is_longest; ++i) EXPECT_EQ(next(one).reject("bad"), Status::ok);
    EXPECT_TRUE(nothing_comes(one));
    EXPECT_EQ(next(one).ack(), Status::ok);
    for (int i = 0; i < 8; ++i) EXPECT_EQ(take(one).ack(), Status::ok);
}

INSTANTIATE_TEST_SUITE_P(Conformance, Storm, ::testing::ValuesIn(everywhere()), ::testing::PrintToStringParamName());

}  // namespace
}  // namespace posthorn::work_queue
