// A message that kills its handler is dead-lettered; its neighbours never are.
#include <gmock/gmock.h>

#include <tuple>

#include "fixture.hpp"

namespace posthorn::queue {
namespace {

class Suspects : public QueueFixture, public ::testing::WithParamInterface<std::tuple<std::uint32_t, std::uint32_t>> {};

// Workers come one after the other; each dies the moment it holds the killer among its begun deliveries.
TEST_P(Suspects, TheKillerIsFoundAndItsNeighboursPass) {
    const auto [concurrency, max_attempts] = GetParam();
    make({.max_attempts = max_attempts});
    constexpr int messages = 60;
    constexpr Offset killer = 17;
    publish_many(messages);
    std::uint32_t deaths = 0;
    for (std::uint8_t worker = 10; worker < 60 && queue->messages() > 0; ++worker) {
        const auto id = consumer(worker, concurrency, 100);
        std::vector<Delivered> held;
        bool dead_now = false;
        for (int step = 0; step < 1000 && !dead_now && queue->messages() > 0; ++step) {
            for (auto& one : turn()) held.push_back(one);
            commit();
            if (held.empty()) continue;
            for (std::size_t i = 0; i < held.size() && i < concurrency; ++i) dead_now |= held[i].offset == killer;
            if (dead_now) {
                ++deaths;
                queue->detach(id, now);
                pass(31s);
                turn();
            } else {
                ASSERT_TRUE(settle(held.front(), Verdict::ack));
                held.erase(held.begin());
            }
        }
    }
    commit();
    EXPECT_EQ(queue->messages(), 0U);
    ASSERT_EQ(dead.size(), 1U);
    EXPECT_EQ(dead.begin()->first, killer);
    EXPECT_EQ(dead.begin()->second.record.reason, store::Reason::max_attempts);
    EXPECT_LE(deaths, std::max(max_attempts, 2U));
}

INSTANTIATE_TEST_SUITE_P(Matrix, Suspects,
                         ::testing::Combine(::testing::Values(1U, 4U), ::testing::Values(1U, 2U, 3U, 5U, 8U)));

TEST_F(QueueFixture, SuspectsAreNotMixedWithHealthyMessages) {
    make();
    publish_many(10);
    const auto first = consumer(7, 2, 4);
    turn();
    queue->detach(first, now);
    pass(31s);
    turn();
    commit();
    consumer(8, 2, 100);
    std::vector<Delivered> given = turn();
    if (given.empty()) {
        commit();
        given = turn();
    }
    EXPECT_THAT(offsets(given), ::testing::ElementsAre(1, 2)) << "at most `concurrency` suspects and nothing else";
    settle(given[0], Verdict::ack);
    const auto next = turn();
    EXPECT_THAT(offsets(next), ::testing::ElementsAre(3));
}

// A lease may be shorter than the time after which a host gives its peer up.
TEST_F(QueueFixture, AConsumerNotHeardForItsLeaseIsGivenNothingUntilItIs) {
    make({.max_attempts = 2, .lease = 2s});
    publish_many(2);
    const auto quiet = consumer(7, 1, 1);
    EXPECT_THAT(offsets(turn()), ::testing::ElementsAre(1));
    for (int lease = 0; lease < 10; ++lease) {
        pass(3s);
        EXPECT_THAT(turn(), ::testing::IsEmpty());
        commit();
    }
    EXPECT_THAT(dead, ::testing::IsEmpty()) << "nothing was begun, so nothing is charged";
    queue->heard(quiet, now);
    EXPECT_THAT(offsets(turn()), ::testing::ElementsAre(1));
}

}  // namespace
}  // namespace posthorn::queue
