#include "protocol/sequence_bits.hpp"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <vector>

namespace posthorn::protocol {
namespace {

TEST(SequenceBits, MayBeginBehindOthers) {
    SequenceBits bits;
    bits.start_behind(130);
    EXPECT_EQ(bits.last(), 130U);
    EXPECT_EQ(bits.oldest(), 0U);
    EXPECT_EQ(bits.open_next(), 131U);
    EXPECT_FALSE(bits.is_open(130));
    bits.close(1, 131);
    EXPECT_EQ(bits.count(), 0U);
}

TEST(SequenceBits, ClosesRangesAcrossWordsAndSaysWhatItClosed) {
    SequenceBits bits;
    for (int i = 0; i < 200; ++i) bits.open_next();
    EXPECT_EQ(bits.oldest(), 1U);
    EXPECT_EQ(bits.count(), 200U);

    std::uint64_t closed = 0;
    bits.close(60, 130, [&](std::uint64_t, std::uint64_t gone, std::uint64_t) {
        closed += static_cast<std::uint64_t>(std::popcount(gone));
    });
    EXPECT_EQ(closed, 71U);
    EXPECT_TRUE(bits.is_open(59));
    EXPECT_FALSE(bits.is_open(60));
    EXPECT_FALSE(bits.is_open(130));
    EXPECT_EQ(bits.next_open(60), 131U);

    bits.close(1, ~std::uint64_t{0});
    EXPECT_EQ(bits.count(), 0U);
    EXPECT_EQ(bits.oldest(), 0U);
    EXPECT_EQ(bits.open_next(), 201U);
    EXPECT_EQ(bits.oldest(), 201U);
}

TEST(SequenceBits, AgreesWithASet) {
    std::mt19937 random{1};
    SequenceBits bits;
    std::set<std::uint64_t> model;
    for (int step = 0; step < 20'000; ++step) {
        if (random() % 3 != 0) {
            model.insert(bits.open_next());
        } else {
            const std::uint64_t first = random() % (bits.last() + 2);
            const std::uint64_t last = first + random() % 10;
            bits.close(first, last);
            model.erase(model.lower_bound(first), model.upper_bound(last));
        }
        const std::uint64_t from = random() % (bits.last() + 2);
        const auto next = model.lower_bound(from);
        ASSERT_EQ(bits.next_open(from), next == model.end() ? 0 : *next);
        ASSERT_EQ(bits.is_open(from), model.contains(from));
        ASSERT_EQ(bits.count(), model.size());
    }
    std::vector<std::uint64_t> visited;
    bits.visit_open(0, [&](std::uint64_t sequence) {
        visited.push_back(sequence);
        return true;
    });
    EXPECT_TRUE(std::equal(visited.begin(), visited.end(), model.begin(), model.end()));
}

}  // namespace
}  // namespace posthorn::protocol
