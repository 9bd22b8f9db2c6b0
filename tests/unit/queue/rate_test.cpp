#include "queue/rate.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit/queue/fixture.hpp"

namespace posthorn::queue {
namespace {

using ::testing::DoubleNear;

class RateTest : public ::testing::Test {
protected:
    void count(int times) {
        for (int i = 0; i < times; ++i) rate.count(now);
    }
    // So many a second, ten times a second.
    void run(Duration time, int per_second) {
        for (const Mono end = now + time; now < end; now += 100ms) count(per_second / 10);
    }
    [[nodiscard]] double get() const { return rate.per_second(now); }

    Mono now{100h + 3s};
    Rate rate;
};

TEST_F(RateTest, NothingIsZero) {
    EXPECT_EQ(get(), 0);
}

TEST_F(RateTest, TheFirstSecondIsAWholeOne) {
    count(10);
    EXPECT_EQ(get(), 10);
    now += 2s;
    EXPECT_EQ(get(), 5);
}

TEST_F(RateTest, IsExactFromTheFirstMinuteOn) {
    for (int i = 0; i < 100; ++i) {
        run(3s, 50);
        EXPECT_THAT(get(), DoubleNear(50, 0.01)) << i;
    }
}

TEST_F(RateTest, FollowsAChangeWithinAMinute) {
    run(10min, 1000);
    run(30s, 0);
    EXPECT_THAT(get(), DoubleNear(500, 50));
    run(30s, 0);
    EXPECT_EQ(get(), 0);
    run(1min, 10);
    EXPECT_THAT(get(), DoubleNear(10, 0.01));
}

TEST_F(RateTest, ALongPauseIsForgotten) {
    count(1000);
    now += std::chrono::hours{100};
    EXPECT_EQ(get(), 0);
    count(60);
    EXPECT_THAT(get(), DoubleNear(60. / 57, 0.06)) << "one burst in a minute, not in a second";
}

class FlowTest : public QueueFixture {
protected:
    // So many come and are done each second, for a minute.
    void minute(int in, int out) {
        if (worker == 0) worker = consumer(2, 100, 100'000);
        for (int second = 0; second < 60; ++second) {
            publish_many(in);
            auto given = turn();
            held.insert(held.end(), given.begin(), given.end());
            for (int i = 0; i < out && !held.empty(); ++i) {
                EXPECT_TRUE(settle(held.front(), Verdict::ack));
                held.erase(held.begin());
            }
            queue->heard(worker, now);
            pass(1s);
        }
    }
    ConsumerId worker = 0;
    std::vector<Delivered> held;
};

TEST_F(FlowTest, SaysWhenTheQueueIsEmptyAtTheseRates) {
    make();
    EXPECT_EQ(queue->flow(now).drain, 0ms) << "it is";
    publish_many(1200);
    EXPECT_EQ(queue->flow(now).in, 1200);
    EXPECT_EQ(queue->flow(now).drain, std::nullopt) << "nobody works";
    pass(2min);
    EXPECT_EQ(queue->flow(now).in, 0);
    minute(5, 10);
    Flow flow = queue->flow(now);
    EXPECT_THAT(flow.in, DoubleNear(5, 0.1));
    EXPECT_THAT(flow.out, DoubleNear(10, 0.1));
    ASSERT_TRUE(flow.drain);
    EXPECT_THAT(static_cast<double>(flow.drain->count()), DoubleNear(180'000, 5000)) << "900 left, 5 a second";
    minute(10, 5);
    EXPECT_EQ(queue->flow(now).drain, std::nullopt) << "it grows";
    minute(0, 1'000);
    EXPECT_EQ(queue->flow(now).drain, 0ms);
}

TEST_F(FlowTest, CountsWhatIsAcceptedAndWhatIsDone) {
    make({.max_messages = 3, .when_full = WhenFull::reject});
    publish_many(3);
    EXPECT_EQ(publish(), Accepted::refused);
    EXPECT_EQ(queue->flow(now).in, 3);
    consumer(2, 3);
    const auto given = turn();
    ASSERT_EQ(given.size(), 3U);
    EXPECT_TRUE(settle(given[0], Verdict::ack));
    EXPECT_TRUE(settle(given[0], Verdict::ack)) << "said once more";
    EXPECT_TRUE(settle(given[1], Verdict::nack));
    EXPECT_TRUE(settle(given[2], Verdict::reject));
    EXPECT_EQ(queue->flow(now).out, 1);
}

}  // namespace
}  // namespace posthorn::queue
