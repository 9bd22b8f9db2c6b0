#include <gtest/gtest.h>

#include "queue/backoff.hpp"

namespace posthorn::queue {
namespace {

TEST(Backoff, FixedAndListRepeatTheirLast) {
    std::mt19937_64 random{1};
    EXPECT_EQ(backoff_delay({.kind = Backoff::Kind::fixed, .min = 3s}, 9, random), 3s);
    const Backoff list{.kind = Backoff::Kind::list, .list = {1s, 10s, 1min}};
    EXPECT_EQ(backoff_delay(list, 1, random), 1s);
    EXPECT_EQ(backoff_delay(list, 2, random), 10s);
    EXPECT_EQ(backoff_delay(list, 3, random), 1min);
    EXPECT_EQ(backoff_delay(list, 400, random), 1min);
}

TEST(Backoff, ExponentialStaysBelowItsDoublingCeilingAndUsesAllOfIt) {
    std::mt19937_64 random{1};
    const Backoff policy{.min = 1s, .max = 10s};
    for (std::uint32_t failures = 1; failures < 80; ++failures) {
        const Duration ceiling = failures > 4 ? Duration{10s} : Duration{1s} * (1 << (failures - 1));
        Duration longest{};
        for (int i = 0; i < 200; ++i) {
            const Duration wait = backoff_delay(policy, failures, random);
            ASSERT_GE(wait, 0s);
            ASSERT_LE(wait, ceiling);
            longest = std::max(longest, wait);
        }
        EXPECT_GT(longest, ceiling / 2);
    }
}

}  // namespace
}  // namespace posthorn::queue
