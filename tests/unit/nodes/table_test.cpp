#include "table.hpp"

#include <gtest/gtest.h>

namespace posthorn::nodes {
namespace {

TEST(Table, AlignsItsColumns) {
    EXPECT_EQ(table({{"NAME"}, {"COUNT", Align::right}, {"TEXT"}}, {{"a", "1", "x"}, {"longer", "1000000", "yy"}}),
              "NAME      COUNT  TEXT\n"
              "a             1  x\n"
              "longer  1000000  yy\n");
}

TEST(Table, CountsCharactersAndNotBytes) {
    EXPECT_EQ(table({{"A"}, {"B"}}, {{"\xc3\xa4\xc3\xa4", "x"}, {"ab", "y"}}), "A   B\n\xc3\xa4\xc3\xa4  x\nab  y\n");
}

TEST(Table, ShowsForeignTextAsPrintable) {
    EXPECT_EQ(table({{"A"}}, {{"a\nb\x1b"}}), "A\na\\x0ab\\x1b\n");
}

TEST(Shortened, SaysThatSomethingIsMissing) {
    EXPECT_EQ(shortened("abcdef", 6), "abcdef");
    EXPECT_EQ(shortened("abcdefg", 6), "abc...");
    EXPECT_EQ(shortened("\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4", 4), "\xc3\xa4...");
}

}  // namespace
}  // namespace posthorn::nodes
