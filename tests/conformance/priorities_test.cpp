// Of what is ready, higher priorities go first, and equal ones in their order.
#include "fixture.hpp"

namespace posthorn::work_queue {
namespace {

using ::testing::ElementsAre;

class Priorities : public Conformance {
protected:
    [[nodiscard]] static Message of(std::uint8_t priority, std::string payload) {
        return {.payload = std::move(payload), .priority = priority};
    }
    [[nodiscard]] static std::vector<Message> mixed() {
        return {of(0, "0a"), of(5, "5a"), of(9, "9a"), of(5, "5b"), of(0, "0b"), of(1, "1a"), of(9, "9b"), of(8, "8a")};
    }
    [[nodiscard]] static auto in_their_order() { return ElementsAre("9a", "9b", "8a", "5a", "5b", "1a", "0a", "0b"); }
};
class PrioritiesOverLives : public Priorities {};

TEST_P(Priorities, HigherOnesGoFirstAndEqualOnesInTheirOrder) {
    open();
    arrive(mixed());
    Worker one = worker();
    EXPECT_THAT(take_all(one, 8), in_their_order());
}

TEST_P(Priorities, WhatIsGivenBackKeepsItsOwn) {
    open();
    arrive({of(5, "returned")});
    {
        Worker first = worker();
        const Delivery delivery = take(first);
        EXPECT_EQ(delivery.message().priority, 5);
        EXPECT_EQ(first.drain(0ms), Status::timed_out) << "it is out";
    }
    arrive({of(4, "lower"), of(6, "higher"), of(5, "equal")});
    Worker second = worker();
    EXPECT_THAT(take_all(second, 4), ElementsAre("higher", "returned", "equal", "lower"));
}

TEST_P(Priorities, ALongQueueIsNotInTheWay) {
    open();
    const int many = static_cast<int>(defaults::window_messages) + 5000;  // more than are kept in memory for delivery
    std::vector<Message> messages;
    messages.reserve(static_cast<std::size_t>(many) + 1);
    for (int i = 0; i < many; ++i) messages.push_back(of(static_cast<std::uint8_t>(i % 2), std::to_string(i)));
    messages.push_back(of(9, "urgent"));
    arrive(std::move(messages));
    Log<std::string> handled;
    const auto runs = running({}, [&](Delivery& delivery) { handled.add(delivery.message().payload); });
    const auto all = handled.wait(static_cast<std::size_t>(many) + 1);
    ASSERT_EQ(all.size(), static_cast<std::size_t>(many) + 1);
    EXPECT_EQ(all[0], "urgent");
    std::size_t at = 1;
    for (const int first : {1, 0}) {
        for (int i = first; i < many; i += 2) ASSERT_EQ(all[at++], std::to_string(i));
    }
}

TEST_P(PrioritiesOverLives, HoldOverARestart) {
    open();
    arrive(mixed());
    ASSERT_EQ(producer().flush(patience), Status::ok);
    restart();
    arrive({of(5, "5c"), of(9, "9c")});
    Worker one = worker();
    EXPECT_THAT(take_all(one, 10), ElementsAre("9a", "9b", "9c", "8a", "5a", "5b", "5c", "1a", "0a", "0b"));
}

INSTANTIATE_TEST_SUITE_P(Conformance, Priorities, ::testing::ValuesIn(everywhere()),
                         ::testing::PrintToStringParamName());
INSTANTIATE_TEST_SUITE_P(Conformance, PrioritiesOverLives, ::testing::ValuesIn(with_a_store()),
                         ::testing::PrintToStringParamName());

}  // namespace
}  // namespace posthorn::work_queue
