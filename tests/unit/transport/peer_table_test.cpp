#include "transport/peer_table.hpp"

#include <gtest/gtest.h>

namespace posthorn::transport {
namespace {

TEST(PeerTable, KnowsWhomItHeard) {
    PeerTable table(10);
    EXPECT_EQ(table.hear("a"), nullptr);
    table.add(1, "a");
    table.add(2, "b");
    ASSERT_NE(table.hear("a"), nullptr);
    EXPECT_EQ(table.hear("a")->id, 1U);
    EXPECT_EQ(table.hear("b")->id, 2U);
    EXPECT_EQ(table.hear("c"), nullptr);
}

TEST(PeerTable, OfTooManyTheOneSilentLongestIsSurplus) {
    PeerTable table(2);
    table.add(1, "a");
    table.add(2, "b");
    EXPECT_EQ(table.surplus(), nullptr);
    table.hear("a");
    table.add(3, "c");
    ASSERT_NE(table.surplus(), nullptr);
    EXPECT_EQ(table.surplus()->id, 2U);
    table.erase(*table.surplus());
    EXPECT_EQ(table.surplus(), nullptr);
    EXPECT_EQ(table.hear("b"), nullptr);
    EXPECT_EQ(table.hear("a")->id, 1U);
    EXPECT_EQ(table.hear("c")->id, 3U);
}

TEST(PeerTable, OneThatIsGoneIsKnownUntilItsPlaceIsNeeded) {
    PeerTable table(2);
    table.add(1, "a");
    table.retire(*table.add(2, "b"));
    ASSERT_NE(table.hear("b"), nullptr);
    EXPECT_EQ(table.hear("b")->id, 2U);
    table.retire(*table.hear("b"));
    table.add(3, "c");
    ASSERT_NE(table.surplus(), nullptr);
    EXPECT_EQ(table.surplus()->id, 2U);
}

TEST(PeerTable, AnErasedOneIsNewAgain) {
    PeerTable table(2);
    table.erase(*table.add(1, "a"));
    EXPECT_EQ(table.hear("a"), nullptr);
    EXPECT_TRUE(table.peers().empty());
    table.add(2, "a");
    EXPECT_EQ(table.hear("a")->id, 2U);
}

TEST(PeerTable, RoutingIdsAreBytes) {
    PeerTable table(10);
    using namespace std::string_view_literals;
    table.add(1, "\0\1"sv);
    table.add(2, "\0\2"sv);
    EXPECT_EQ(table.hear("\0\1"sv)->id, 1U);
    EXPECT_EQ(table.hear("\0\2"sv)->id, 2U);
    EXPECT_EQ(table.hear("\0"sv), nullptr);
}

}  // namespace
}  // namespace posthorn::transport
