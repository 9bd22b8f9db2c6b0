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
    std::vector<Delivery> left;  // outlives its worker: what is dropped while that lives is nacked
    {
        Worker first = worker();
        left.push_back(take(first));
        EXPECT_EQ(left[0].message().priority, 5);
    }
    arrive({of(4, "lower"), of(6, "higher"), of(5, "equal")});
    Worker second = worker();
    EXPECT_THAT(take_all(second, 4), ElementsAre("higher", "returned", "equal", "lower"));
}

TEST_P(Priorities, WhatAWorkerHasNotAskedForYetIsOvertaken) {
    open();
    arrive({of(1, "1a"), of(1, "1b")});
    Worker one = worker({.prefetch = 1});
    Delivery first = take(one);
    EXPECT_EQ(first.message().payload, "1a");
    arrive({of(2, "2a")});
    EXPECT_EQ(first.ack(), Status::ok);
    EXPECT_THAT(take_all(one, 2), ElementsAre("2a", "1b"));
}

// More than are kept in memory for delivery; the lower ones come first, and are in the way of nobody.
class LongQueue {
public:
    static constexpr int many = static_cast<int>(defaults::window_messages) + 5000;
    static constexpr int low = 100;

    [[nodiscard]] static std::vector<Message> messages() {
        std::vector<Message> messages;
        messages.reserve(low + many + 1);
        for (int i = 0; i < low + many; ++i) {
            messages.push_back({.payload = std::to_string(i), .priority = static_cast<std::uint8_t>(i < low ? 0 : 1)});
        }
        messages.push_back({.payload = "urgent", .priority = 9});
        return messages;
    }
    static void expect_in_order(const std::vector<std::string>& all) {
        ASSERT_EQ(all.size(), static_cast<std::size_t>(many) + low + 1);
        EXPECT_EQ(all[0], "urgent");
        for (int i = 0; i < low + many; ++i) {
            ASSERT_EQ(all[static_cast<std::size_t>(i) + 1], std::to_string(i < many ? low + i : i - many));
        }
    }
};

TEST_P(Priorities, HoldForALongQueue) {
    open();
    arrive(LongQueue::messages());
    Log<std::string> handled;
    const auto runs = running({}, [&](Delivery& delivery) { handled.add(delivery.message().payload); });
    LongQueue::expect_in_order(handled.wait(LongQueue::many + LongQueue::low + 1));
}

TEST_P(PrioritiesOverLives, HoldForALongQueue) {
    open();
    arrive(LongQueue::messages());
    ASSERT_EQ(producer().flush(patience), Status::ok);
    restart();
    Log<std::string> handled;
    const auto runs = running({}, [&](Delivery& delivery) { handled.add(delivery.message().payload); });
    LongQueue::expect_in_order(handled.wait(LongQueue::many + LongQueue::low + 1));
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
