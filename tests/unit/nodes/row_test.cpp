#include "row.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <posthorn/status.hpp>

#include "envelope/wire.hpp"

namespace posthorn::nodes {
namespace {

using testing::ElementsAre;
using testing::Pair;

TEST(AdminRow, GivesItsFieldsByName) {
    std::string bytes;
    wire::Writer writer{bytes};
    writer.map(4).string("name").string("jobs").string("ready").unsigned_integer(7).string("payload").binary("\xff");
    writer.string("headers").map(1).string("k").string("v");
    const Row row{bytes};
    EXPECT_EQ(row.text("name"), "jobs");
    EXPECT_EQ(row.number("ready"), 7U);
    EXPECT_EQ(row.text("payload"), "\xff");
    EXPECT_THAT(row.texts("headers"), ElementsAre(Pair("k", "v")));
    EXPECT_EQ(row.json(), R"({"name":"jobs","ready":7,"payload":"/w==","headers":{"k":"v"}})");
}

TEST(AdminRow, NumbersMayHaveFractionsOrBeNil) {
    std::string bytes;
    wire::Writer writer{bytes};
    writer.map(3).string("rate").floating(0.5).string("never").nil().string("soon").unsigned_integer(7);
    const Row row{bytes};
    EXPECT_EQ(row.real("rate"), 0.5);
    EXPECT_EQ(row.real("other"), 0);
    EXPECT_EQ(row.maybe_number("never"), std::nullopt);
    EXPECT_EQ(row.maybe_number("soon"), 7U);
    EXPECT_EQ(row.json(), R"({"rate":0.5,"never":null,"soon":7})");
}

TEST(AdminRow, HasFlagsAndRowsWithin) {
    std::string bytes;
    wire::Writer writer{bytes};
    writer.map(3).string("yes").boolean(true).string("inner").map(1).string("n").unsigned_integer(7);
    writer.string("none").nil();
    const Row row{bytes};
    EXPECT_TRUE(row.flag("yes"));
    EXPECT_FALSE(row.flag("other"));
    ASSERT_TRUE(row.row("inner"));
    EXPECT_EQ(row.row("inner")->number("n"), 7U);
    EXPECT_FALSE(row.row("none"));
    EXPECT_FALSE(row.row("other"));
}

TEST(AdminRow, WhatIsNotThereOrOfAnotherTypeIsEmpty) {
    std::string bytes;
    wire::Writer{bytes}.map(1).string("name").unsigned_integer(1);
    const Row row{bytes};
    EXPECT_EQ(row.text("name"), "");
    EXPECT_EQ(row.text("other"), "");
    EXPECT_EQ(row.number("other"), 0U);
    EXPECT_TRUE(row.texts("name").empty());
}

TEST(AdminRow, BytesThatAreNoRowAreRefused) {
    EXPECT_THROW(Row{""}, Error);
    EXPECT_THROW(Row{"\x91\x01"}, Error);
    EXPECT_THROW(Row{"\x82\xa1"
                     "a\x01"},
                 Error);
    EXPECT_THROW(Row{"\x81\xa1"
                     "a\x01\x01"},
                 Error);
}

}  // namespace
}  // namespace posthorn::nodes
