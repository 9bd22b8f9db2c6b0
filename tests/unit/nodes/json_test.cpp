#include "json.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "envelope/wire.hpp"

namespace posthorn::nodes {
namespace {

std::string bytes(std::initializer_list<int> values) {
    std::string text;
    for (const int value : values) text += static_cast<char>(value);
    return text;
}

std::string json_of(const std::string& msgpack) {
    return msgpack_to_json(msgpack).value_or("<none>");
}

TEST(MsgpackToJson, KnowsEveryType) {
    std::string out;
    wire::Writer writer{out};
    writer.map(8);
    writer.string("nil").nil();
    writer.string("yes").boolean(true);
    writer.string("largest").unsigned_integer(UINT64_MAX);
    writer.string("least").integer(INT64_MIN);
    writer.string("half").floating(0.5);
    writer.string("text").string("a\"b\n\xc3\xa4");
    writer.string("bytes").binary("\xff\x01");
    writer.string("list").array(2).integer(-1).map(0);
    EXPECT_EQ(json_of(out),
              "{\"nil\":null,\"yes\":true,\"largest\":18446744073709551615,\"least\":-9223372036854775808,\"half\":0.5,"
              "\"text\":\"a\\\"b\\n\xc3\xa4\",\"bytes\":\"/wE=\",\"list\":[-1,{}]}");
}

TEST(MsgpackToJson, KeepsNumbersOfEveryWidth) {
    EXPECT_EQ(json_of(bytes({0x7f})), "127");
    EXPECT_EQ(json_of(bytes({0xe0})), "-32");
    EXPECT_EQ(json_of(bytes({0xcc, 0xff})), "255");
    EXPECT_EQ(json_of(bytes({0xd0, 0x80})), "-128");
    EXPECT_EQ(json_of(bytes({0xd3, 0, 0, 0, 0, 0, 0, 0, 5})), "5");
    EXPECT_EQ(json_of(bytes({0xca, 0x3f, 0x80, 0, 0})), "1.0");
    EXPECT_EQ(json_of(bytes({0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0})), "null");  // not a number
}

TEST(MsgpackToJson, WritesKeysThatAreNoStringsAndExtensions) {
    EXPECT_EQ(json_of(bytes({0x81, 0x01, 0xc3})), R"({"1":true})");
    EXPECT_EQ(json_of(bytes({0x81, 0xc4, 0x01, 0x61, 0xc3})), R"({"\"YQ==\"":true})");
    EXPECT_EQ(json_of(bytes({0x81, 0x91, 0x01, 0xc3})), R"({"kQE=":true})");
    EXPECT_EQ(json_of(bytes({0xd4, 0xff, 0x61})), R"({"type":-1,"data":"YQ=="})");
    EXPECT_EQ(json_of(bytes({0xc7, 0x02, 0x05, 0x61, 0x62})), R"({"type":5,"data":"YWI="})");
    EXPECT_EQ(json_of(bytes({0xc8, 0x00, 0x01, 0x05, 0x61})), R"({"type":5,"data":"YQ=="})");
}

TEST(MsgpackToJson, IsOneLineOfValidJsonWhateverTheStringsHold) {
    std::string out;
    wire::Writer{out}.string(std::string("\0\n\r\x1b\xff\xc0\xaf", 7));
    const std::string json = json_of(out);
    EXPECT_EQ(json.find('\n'), std::string::npos);
    EXPECT_FALSE(nlohmann::json::parse(json, nullptr, false).is_discarded());
}

TEST(MsgpackToJson, RefusesWhatIsNotOneWholeValue) {
    EXPECT_FALSE(msgpack_to_json(""));
    EXPECT_FALSE(msgpack_to_json(bytes({0xc1})));
    EXPECT_FALSE(msgpack_to_json(bytes({0xa5, 'a'})));
    EXPECT_FALSE(msgpack_to_json(bytes({0x01, 0x02})));
    EXPECT_FALSE(msgpack_to_json(bytes({0xdd, 0xff, 0xff, 0xff, 0xff})));  // four thousand million elements, none there
    EXPECT_FALSE(msgpack_to_json(bytes({0xdf, 0xff, 0xff, 0xff, 0xff, 0x01})));
    EXPECT_FALSE(msgpack_to_json(bytes({0xc7, 0x02, 0x05, 0x61})));
}

TEST(MsgpackToJson, RefusesEndlessNesting) {
    EXPECT_TRUE(msgpack_to_json(std::string(60, '\x91') + '\x01'));
    EXPECT_FALSE(msgpack_to_json(std::string(1'000'000, '\x91') + '\x01'));
    EXPECT_FALSE(msgpack_to_json(std::string(1'000'000, '\x81') + '\x01'));  // in the key
    std::string values;
    for (int i = 0; i < 1'000'000; ++i) values += "\x81\x01";
    EXPECT_FALSE(msgpack_to_json(values + '\x01'));
}

TEST(Base64, PadsToFours) {
    EXPECT_EQ(base64(""), "");
    EXPECT_EQ(base64("f"), "Zg==");
    EXPECT_EQ(base64("fo"), "Zm8=");
    EXPECT_EQ(base64("foo"), "Zm9v");
    EXPECT_EQ(base64("foob"), "Zm9vYg==");
    EXPECT_EQ(base64(bytes({0xfb, 0xff, 0xfe})), "+//+");
}

TEST(Utf8, IsCheckedAsTheStandardSays) {
    EXPECT_TRUE(is_utf8("a\xc3\xa4\xe2\x82\xac\xf0\x9f\x93\xaf"));
    for (const char* text : {"\x80", "\xc0\xaf", "\xc3", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                             "\xf5\x80\x80\x80", "\xe2\x82", "\xff"})
        EXPECT_FALSE(is_utf8(text)) << printable(text);
}

TEST(Printable, LeavesNothingThatMovesACursor) {
    EXPECT_EQ(printable("a\xc3\xa4"), "a\xc3\xa4");
    EXPECT_EQ(printable("\x1b[2J\n\x7f"), "\\x1b[2J\\x0a\\x7f");
    EXPECT_EQ(printable("\xc2\x9b"
                        "1m"),
              "\\xc2\\x9b1m");
    EXPECT_EQ(printable("\xff"), "\\xff");
}

TEST(JsonObjectOf, WritesItsMembersInOrder) {
    EXPECT_EQ(JsonObject{}.done(), "{}");
    EXPECT_EQ(JsonObject{}.text("b", "x\"").number("a", 1).flag("c", true).raw("d", "[]").done(),
              R"({"b":"x\"","a":1,"c":true,"d":[]})");
}

}  // namespace
}  // namespace posthorn::nodes
