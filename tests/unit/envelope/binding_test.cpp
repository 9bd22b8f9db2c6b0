// Which subjects are of a pattern, which messages match a binding, and bindings on the wire.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include <posthorn/status.hpp>

#include "envelope/binding.hpp"

namespace posthorn {
namespace {

struct Case {
    const char* pattern;
    const char* subject;
    bool matches;
};

TEST(MatchesSubject, AsAmqpHasIt) {
    for (const Case& one : {Case{"a.b", "a.b", true},
                            {"a.b", "a.c", false},
                            {"a.b", "a", false},
                            {"a.b", "a.b.c", false},
                            {"*", "a", true},
                            {"*", "", false},
                            {"*", "a.b", false},
                            {"a.*", "a.b", true},
                            {"a.*", "a", false},
                            {"*.b", "a.b", true},
                            {"#", "", true},
                            {"#", "a.b.c", true},
                            {"a.#", "a", true},
                            {"a.#", "a.b.c", true},
                            {"a.#", "b", false},
                            {"#.c", "c", true},
                            {"#.c", "a.b.c", true},
                            {"#.c", "a.b", false},
                            {"a.#.c", "a.c", true},
                            {"a.#.c", "a.b.b.c", true},
                            {"a.#.c", "a.c.b", false},
                            {"#.b.#", "a.b.c", true},
                            {"#.b.#", "b", true},
                            {"#.b.#", "a.c", false},
                            {"#.#", "", true},
                            {"#.*", "", false},
                            {"#.*", "a", true},
                            {"*.#", "a.b", true},
                            {"#.a.*.b", "a.a.x.b", true},
                            {"#.a.b.#.c", "a.a.b.x.b.c", true},
                            {"", "", true},
                            {"", "a", false},
                            {"a.", "a.", true},
                            {"a.", "a", false},
                            {"a.*", "a.", true},
                            {"A", "a", false}}) {
        EXPECT_EQ(matches_subject(one.pattern, one.subject), one.matches) << one.pattern << " and " << one.subject;
    }
}

// What the pattern says, word by word, without a thought for time.
bool plainly(const std::vector<std::string>& pattern, const std::vector<std::string>& words, std::size_t p,
             std::size_t w) {
    if (p == pattern.size()) return w == words.size();
    if (pattern[p] == "#") {
        for (std::size_t end = w; end <= words.size(); ++end) {
            if (plainly(pattern, words, p + 1, end)) return true;
        }
        return false;
    }
    return w < words.size() && (pattern[p] == "*" || pattern[p] == words[w]) && plainly(pattern, words, p + 1, w + 1);
}

TEST(MatchesSubject, AsTheRuleSaysForRandomOnes) {
    std::mt19937 random(7);
    const auto draw = [&](const std::vector<std::string>& from) {
        std::vector<std::string> words(1 + random() % 6);
        for (auto& word : words) word = from[random() % from.size()];
        return words;
    };
    const auto joined = [](const std::vector<std::string>& words) {
        std::string text;
        for (const auto& word : words) text += (text.empty() ? "" : ".") + word;
        return text;
    };
    int matched = 0;
    for (int i = 0; i < 50'000; ++i) {
        const auto pattern = draw({"a", "b", "*", "#"});
        const auto words = draw({"a", "b"});
        const bool expected = plainly(pattern, words, 0, 0);
        matched += expected ? 1 : 0;
        ASSERT_EQ(matches_subject(joined(pattern), joined(words)), expected)
            << joined(pattern) << " and " << joined(words);
    }
    EXPECT_GT(matched, 5'000);
}

TEST(MatchesSubject, TakesNoTimeToSpeakOfForTheWorst) {
    std::string pattern;
    std::string subject;
    for (int i = 0; i < 250; ++i) pattern += "#.a.";
    for (int i = 0; i < 500; ++i) subject += "a.";
    EXPECT_FALSE(matches_subject(pattern + "b", subject + "c"));  // else this would not end
}

TEST(ParseAddress, OfQueuesTopicsAndSubscriptions) {
    EXPECT_EQ(parse_address("orders")->topic, "orders");
    EXPECT_EQ(parse_address("orders")->subscription, "");
    EXPECT_EQ(parse_address("orders/billing")->subscription, "billing");
    for (const char* bad : {"", "/", "a/", "/a", "a/b/c", "a b", "a/b.dlq", "a.dlq/b"}) {
        EXPECT_FALSE(parse_address(bad)) << bad;
    }
}

TEST(Bindings, BeyondTheirLimitsAreNamed) {
    const auto fault = [](const std::vector<Binding>& bindings) -> std::string {
        try {
            validate(bindings);
            return "";
        } catch (const Error& error) {
            return error.what();
        }
    };
    EXPECT_EQ(fault({{.subject = "a.#", .headers = {{"k", "v"}}}}), "");
    EXPECT_THAT(fault(std::vector<Binding>(bindings_limit + 1)), testing::HasSubstr("at most 64"));
    EXPECT_THAT(fault({{.subject = std::string(256, 'x')}}), testing::HasSubstr("255 bytes"));
    EXPECT_THAT(fault({{.headers = {{"k", std::string(1025, 'x')}}}}), testing::HasSubstr("1 KiB"));
    Binding many;
    for (std::size_t i = 0; i <= binding_headers_limit; ++i) many.headers[std::to_string(i)] = "v";
    EXPECT_THAT(fault({many}), testing::HasSubstr("65 headers"));
}

TEST(Bindings, ComeBackFromTheWireAndBadOnesAreRefused) {
    const std::vector<Binding> sent{
        {}, {.subject = "a.*"}, {.subject = "b", .headers = {{"k", "v"}, {"l", ""}}, .any = true}};
    std::string bytes;
    wire::Writer out(bytes);
    envelope::write_bindings(out, sent);
    wire::Reader in(bytes);
    std::vector<Binding> got;
    envelope::read_bindings(in, got);
    EXPECT_TRUE(in.ok() && in.at_end());
    EXPECT_EQ(got, sent);
    for (std::size_t cut = 0; cut < bytes.size(); ++cut) {
        wire::Reader part(std::string_view(bytes).substr(0, cut));
        envelope::read_bindings(part, got);
        EXPECT_FALSE(part.ok()) << cut;
    }
    std::string many;
    wire::Writer writer(many);
    envelope::write_bindings(writer, std::vector<Binding>(bindings_limit + 1));
    wire::Reader reader(many);
    envelope::read_bindings(reader, got);
    EXPECT_FALSE(reader.ok());
}

}  // namespace
}  // namespace posthorn
