#include "envelope/wire.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "support/mutate.hpp"
#include "support/vectors.hpp"

namespace posthorn::wire {
namespace {

using test::from_hex;
using test::to_hex;

template <class Write>
std::string written(Write&& write) {
    std::string out;
    Writer writer(out);
    write(writer);
    return out;
}

TEST(Wire, UnsignedIntegersTakeTheShortestForm) {
    const std::vector<std::pair<std::uint64_t, std::string>> cases{
        {0, "00"},
        {0x7f, "7f"},
        {0x80, "cc80"},
        {0xff, "ccff"},
        {0x100, "cd0100"},
        {0xffff, "cdffff"},
        {0x10000, "ce00010000"},
        {0xffffffff, "ceffffffff"},
        {0x100000000, "cf0000000100000000"},
        {std::numeric_limits<std::uint64_t>::max(), "cfffffffffffffffff"},
    };
    for (const auto& [value, hex] : cases) {
        const std::string bytes = written([&, number = value](Writer& w) { w.unsigned_integer(number); });
        EXPECT_EQ(to_hex(bytes), hex);
        Reader reader(bytes);
        EXPECT_EQ(reader.unsigned_integer(), value);
        EXPECT_TRUE(reader.ok() && reader.at_end());
    }
}

TEST(Wire, SignedIntegersTakeTheShortestForm) {
    const std::vector<std::pair<std::int64_t, std::string>> cases{
        {127, "7f"},
        {-1, "ff"},
        {-32, "e0"},
        {-33, "d0df"},
        {-128, "d080"},
        {-129, "d1ff7f"},
        {-32768, "d18000"},
        {-32769, "d2ffff7fff"},
        {std::numeric_limits<std::int32_t>::min(), "d280000000"},
        {std::numeric_limits<std::int64_t>::min(), "d38000000000000000"},
        {std::numeric_limits<std::int64_t>::max(), "cf7fffffffffffffff"},
    };
    for (const auto& [value, hex] : cases) {
        const std::string bytes = written([&, number = value](Writer& w) { w.integer(number); });
        EXPECT_EQ(to_hex(bytes), hex);
        Reader reader(bytes);
        EXPECT_EQ(reader.integer(), value);
        EXPECT_TRUE(reader.ok() && reader.at_end());
    }
}

TEST(Wire, AnUnsignedReadTakesSignedFormsThatAreNotNegative) {
    for (const char* hex : {"05", "cc05", "d005", "d10005", "d200000005", "d30000000000000005"}) {
        const std::string bytes = from_hex(hex);
        Reader reader(bytes);
        EXPECT_EQ(reader.unsigned_integer(), 5U) << hex;
        EXPECT_TRUE(reader.ok()) << hex;
    }
    for (const char* hex : {"ff", "d0ff", "d3ffffffffffffffff", "c0", "a0", "cb4014000000000000"}) {
        const std::string bytes = from_hex(hex);
        Reader reader(bytes);
        EXPECT_EQ(reader.unsigned_integer(), 0U) << hex;
        EXPECT_FALSE(reader.ok()) << hex;
    }
}

TEST(Wire, ASignedReadRefusesWhatDoesNotFit) {
    const std::string bytes = from_hex("cf8000000000000000");
    Reader reader(bytes);
    EXPECT_EQ(reader.integer(), 0);
    EXPECT_FALSE(reader.ok());
}

TEST(Wire, StringsAndBinariesKeepTheirBytesAtEveryLengthForm) {
    for (const std::size_t size : {0U, 1U, 31U, 32U, 255U, 256U, 65535U, 65536U}) {
        const std::string content(size, 'x');
        const std::string text = written([&](Writer& w) { w.string(content); });
        const std::string binary = written([&](Writer& w) { w.binary(content); });
        EXPECT_EQ(binary.size(), size + binary_overhead(size));
        Reader texts(text);
        EXPECT_EQ(texts.string(), content);
        EXPECT_TRUE(texts.ok() && texts.at_end());
        Reader binaries(binary);
        EXPECT_EQ(binaries.binary(), content);
        EXPECT_TRUE(binaries.ok() && binaries.at_end());
        EXPECT_TRUE(Reader(binary).string().empty());
    }
}

TEST(Wire, ScalarsComeBack) {
    const std::string bytes = written([](Writer& w) { w.nil().boolean(true).boolean(false).floating(-2.5); }) +
                              from_hex("ca3fc00000");  // and a float 32, which the writer never makes
    Reader reader(bytes);
    EXPECT_TRUE(reader.nil());
    EXPECT_FALSE(reader.nil());
    EXPECT_TRUE(reader.boolean());
    EXPECT_FALSE(reader.boolean());
    EXPECT_EQ(reader.floating(), -2.5);
    EXPECT_EQ(reader.floating(), 1.5);
    EXPECT_TRUE(reader.ok() && reader.at_end());
}

TEST(Wire, PeekTellsTheType) {
    const std::vector<std::pair<std::string, Type>> cases{
        {"c0", Type::nil},     {"c3", Type::boolean},   {"7f", Type::integer},   {"e0", Type::integer},
        {"d3", Type::integer}, {"ca", Type::floating},  {"bf", Type::string},    {"db", Type::string},
        {"c4", Type::binary},  {"9f", Type::array},     {"dd", Type::array},     {"8f", Type::map},
        {"df", Type::map},     {"c7", Type::extension}, {"d8", Type::extension}, {"c1", Type::malformed},
        {"", Type::end},
    };
    for (const auto& [hex, type] : cases) {
        const std::string bytes = from_hex(hex);
        EXPECT_EQ(Reader(bytes).peek(), type) << hex;
    }
}

TEST(Wire, TheFirstFailureSticks) {
    const std::string bytes = from_hex("c00102");
    Reader reader(bytes);
    EXPECT_TRUE(reader.string().empty());
    EXPECT_FALSE(reader.ok());
    EXPECT_EQ(reader.peek(), Type::malformed);
    EXPECT_EQ(reader.unsigned_integer(), 0U);
    EXPECT_FALSE(reader.nil());
    EXPECT_TRUE(reader.rest().empty());
}

TEST(Wire, ACountThatCannotBeThereFails) {
    for (const char* hex : {"ddffffffff", "dcffff00", "9201", "93c0c0"}) {
        const std::string bytes = from_hex(hex);
        Reader reader(bytes);
        EXPECT_EQ(reader.array(), 0U) << hex;
        EXPECT_FALSE(reader.ok()) << hex;
    }
    for (const char* hex : {"dfffffffff", "deffff0000", "82c0c0c0"}) {
        const std::string bytes = from_hex(hex);
        Reader reader(bytes);
        EXPECT_EQ(reader.map(), 0U) << hex;
        EXPECT_FALSE(reader.ok()) << hex;
    }
}

// One of each kind the specification has.
std::vector<std::string> one_of_each() {
    std::vector<std::string> values;
    for (const char* hex : {"00",
                            "7f",
                            "e0",
                            "ff",
                            "c0",
                            "c2",
                            "c3",
                            "cc01",
                            "cd0102",
                            "ce01020304",
                            "cf0102030405060708",
                            "d001",
                            "d10102",
                            "d201020304",
                            "d30102030405060708",
                            "ca01020304",
                            "cb0102030405060708",
                            "a0",
                            "a3616263",
                            "d90161",
                            "da000161",
                            "db0000000161",
                            "c40100",
                            "c5000100",
                            "c60000000100",
                            "d40500",
                            "d5050000",
                            "d60500000000",
                            "d7050000000000000000",
                            "d80500000000000000000000000000000000",
                            "c7010500",
                            "c800010500",
                            "c9000000010500",
                            "90",
                            "920102",
                            "dc00020102",
                            "dd000000020102",
                            "80",
                            "820102c0c3",
                            "de0001a16101",
                            "df00000001a16101"})
        values.push_back(from_hex(hex));
    return values;
}

TEST(Wire, SkipTakesExactlyOneValue) {
    for (const std::string& value : one_of_each()) {
        const std::string bytes = value + static_cast<char>(42);
        Reader reader(bytes);
        EXPECT_EQ(to_hex(reader.raw()), to_hex(value));
        EXPECT_EQ(reader.unsigned_integer(), 42U) << to_hex(value);
        EXPECT_TRUE(reader.ok() && reader.at_end()) << to_hex(value);
    }
}

TEST(Wire, SkipFailsOnWhatIsCutOff) {
    for (const std::string& value : one_of_each()) {
        for (std::size_t size = 0; size < value.size(); ++size) {
            Reader reader(std::string_view{value}.substr(0, size));
            reader.skip();
            EXPECT_FALSE(reader.ok()) << to_hex(value) << " cut at " << size;
        }
    }
}

TEST(Wire, SkipGoesAsDeepAsTheLimitAndNoDeeper) {
    constexpr std::size_t limit = nesting_limit;
    for (const char* open : {"\x91", "\x81\x01"}) {
        std::string bytes;
        for (std::size_t depth = 0; depth < limit; ++depth) bytes += open;
        const std::string deepest = bytes + '\x01';
        Reader allowed(deepest);
        allowed.skip();
        EXPECT_TRUE(allowed.ok() && allowed.at_end());

        const std::string deeper = bytes + open + '\x01';
        Reader refused(deeper);
        refused.skip();
        EXPECT_FALSE(refused.ok());
    }
    const std::string abyss(1'000'000, '\x91');
    Reader reader(abyss);
    reader.skip();
    EXPECT_FALSE(reader.ok());
}

// Whatever the bytes: nothing is read outside them (the sanitizer builds watch), and the reader comes to an end.
TEST(Wire, RandomBytesEndInAnAnswer) {
    test::Mutator mutate(1);
    std::string all;
    for (const std::string& value : one_of_each()) all += value;
    std::size_t whole = 0;
    for (int round = 0; round < 30'000; ++round) {
        const std::string bytes = mutate(all.substr(mutate.below(all.size())));
        Reader reader(bytes);
        std::size_t values = 0;
        while (reader.ok() && !reader.at_end()) {
            reader.skip();
            ++values;
        }
        EXPECT_LE(values, bytes.size() + 1);
        if (reader.ok()) ++whole;
    }
    EXPECT_GT(whole, 0U);
}

}  // namespace
}  // namespace posthorn::wire
