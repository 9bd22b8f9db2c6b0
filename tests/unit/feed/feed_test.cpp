#include "feed/feed.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "envelope/wire.hpp"

namespace posthorn::feed {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr Room plenty{.messages = 1'000'000, .bytes = 1'000'000'000};

Identity identity(std::uint8_t n) {
    Identity id;
    id.bytes.fill(n);
    return id;
}

Slice message(const std::string& subject, std::string payload) {
    envelope::Envelope envelope{.producer = identity(1), .sequence = 1};
    envelope.message.subject = subject;
    envelope.message.payload = std::move(payload);
    std::string bytes;
    envelope::encode(envelope, bytes);
    return Slice{std::move(bytes)};
}

std::vector<std::string> payloads(const Batch& batch) {
    std::vector<std::string> all;
    wire::Reader in{batch.list};
    for (std::uint32_t left = batch.count; left > 0; --left) {
        all.push_back(envelope::decode(in.binary())->message.payload);
    }
    EXPECT_TRUE(in.ok() && in.at_end());
    return all;
}

class FeedTest : public ::testing::Test {
protected:
    void make(LivePolicy policy = {}) { feed.emplace(policy); }
    void publish(const std::string& subject, const std::string& payload) {
        feed->publish(message(subject, payload));
        feed->keep_bounds();
    }
    LinkId join(std::uint8_t who, std::vector<Binding> filter = {}) {
        return feed->attach(identity(who), std::move(filter), 0, 0, ++last);
    }
    // All it is given now, with the number of the first.
    std::pair<std::uint64_t, std::vector<std::string>> given(LinkId link, Room room = plenty) {
        std::pair<std::uint64_t, std::vector<std::string>> all;
        while (const auto batch = feed->next(link, room)) {
            if (all.second.empty()) all.first = batch->first;
            for (std::string& one : payloads(*batch)) all.second.push_back(std::move(one));
            room.messages -= batch->count;
            room.bytes -= std::min<std::uint64_t>(room.bytes, batch->list.size());
        }
        return all;
    }

    std::optional<Feed> feed;
    LinkId last = 0;
};

TEST_F(FeedTest, EachGetsWhatItsFilterMatchesFromWhenItCame) {
    make();
    publish("a", "before");
    const LinkId all = join(1);
    const LinkId some = join(2, {{.subject = "a.*"}});
    publish("a.x", "1");
    publish("b", "2");
    const LinkId late = join(3, {{.subject = "#"}});
    publish("a.y", "3");
    EXPECT_THAT(given(all).second, ElementsAre("1", "2", "3"));
    EXPECT_THAT(given(some).second, ElementsAre("1", "3"));
    EXPECT_EQ(given(late), (std::pair{std::uint64_t{1}, std::vector<std::string>{"3"}})) << "its own sequence";
    EXPECT_EQ(feed->counters().matched, 6U);
}

TEST_F(FeedTest, GivesWhatThereIsRoomFor) {
    make();
    const LinkId link = join(1);
    for (int i = 1; i <= 5; ++i) publish("", std::to_string(i));
    EXPECT_THAT(given(link, {.messages = 2, .bytes = 1000}).second, ElementsAre("1", "2"));
    EXPECT_THAT(given(link, {.messages = 2, .bytes = 0}).second, IsEmpty());
    EXPECT_THAT(given(link, {.messages = 5, .bytes = 1}).second, ElementsAre("3")) << "the last may go beyond";
    EXPECT_THAT(given(link).second, ElementsAre("4", "5"));
}

TEST_F(FeedTest, KnowsWhetherWhatWasGivenHasCome) {
    make();
    const LinkId link = join(1);
    EXPECT_TRUE(feed->all_arrived());
    for (int i = 1; i <= 3; ++i) publish("", std::to_string(i));
    EXPECT_EQ(feed->unheard_of(link), std::nullopt) << "there is something to give first";
    given(link);
    EXPECT_EQ(feed->unheard_of(link), 4U);
    feed->arrived(link, 2);
    EXPECT_FALSE(feed->all_arrived());
    feed->detach(link, Mono{1h});
    EXPECT_FALSE(feed->all_arrived()) << "it may come back";
    EXPECT_EQ(feed->attach(identity(1), {}, link, 2, ++last), link);
    EXPECT_THAT(given(link).second, ElementsAre("3"));
    feed->arrived(link, 99);
    EXPECT_TRUE(feed->all_arrived());
    publish("", "4");
    EXPECT_FALSE(feed->all_arrived());
}

TEST_F(FeedTest, WhatIsTooMuchLeavesAGap) {
    make({.max_messages = 3});
    const LinkId slow = join(1);
    const LinkId quick = join(2);
    for (int i = 1; i <= 10; ++i) {
        publish("", std::to_string(i));
        EXPECT_EQ(given(quick).second.size(), 1U);
        feed->taken(quick, static_cast<std::uint64_t>(i));
    }
    EXPECT_EQ(feed->gap(slow), 8U);
    EXPECT_EQ(feed->gap(slow), std::nullopt) << "said once";
    EXPECT_EQ(given(slow), (std::pair{std::uint64_t{8}, std::vector<std::string>{"8", "9", "10"}}));
    EXPECT_EQ(feed->counters().missed_full, 7U);
}

TEST_F(FeedTest, BytesAreABoundAndTheLatestStays) {
    make({.max_bytes = 100});
    const LinkId link = join(1);
    publish("", "small");
    publish("", std::string(1000, 'x'));
    EXPECT_EQ(given(link).first, 2U);
    publish("", "one");
    publish("", "two");
    EXPECT_EQ(given(link).first, 3U);
    EXPECT_EQ(feed->counters().missed_full, 1U) << "the large one had been given";
}

TEST_F(FeedTest, AnEmptyLinkKeepsNothing) {
    make();
    const LinkId link = join(1);
    for (int i = 0; i < 1000; ++i) publish("", std::string(1000, 'x'));
    EXPECT_GT(feed->bytes(), 1'000'000U);
    given(link);
    feed->taken(link, 1000);
    feed->keep_bounds();
    EXPECT_EQ(feed->bytes(), 0U);
    publish("", "x");
    feed->leave(link);
    EXPECT_EQ(feed->bytes(), 0U);
}

TEST_F(FeedTest, AllTogetherKeepToABound) {
    make({.max_messages = 1'000'000, .max_bytes = 400'000, .total_bytes = 1'000'000});
    std::vector<LinkId> links;
    for (std::uint8_t i = 0; i < 20; ++i) {
        links.push_back(join(i, {{.subject = std::string{static_cast<char>('a' + i)}}, {.subject = "all"}}));
    }
    for (int i = 0; i < 1000; ++i) {
        publish("all", std::string(1000, 'x'));
        ASSERT_LT(feed->bytes(), 1'000'000U + links.size() * 2 * Feed::batch_bytes);
    }
    for (const LinkId link : links) {
        const auto [first, messages] = given(link);
        EXPECT_EQ(first + messages.size(), 1001U);
    }
}

TEST_F(FeedTest, ALostLinkGoesOnWhereItWas) {
    make({.max_messages = 4});
    const LinkId link = join(1);
    for (int i = 1; i <= 4; ++i) publish("", std::to_string(i));
    EXPECT_EQ(given(link).second.size(), 4U);
    feed->taken(link, 1);
    feed->detach(link, Mono{1h});
    EXPECT_EQ(feed->attach(identity(1), {}, link, 2, ++last), link);
    EXPECT_EQ(given(link), (std::pair{std::uint64_t{3}, std::vector<std::string>{"3", "4"}}));
    feed->detach(link, Mono{1h});
    for (int i = 5; i <= 10; ++i) publish("", std::to_string(i));
    EXPECT_EQ(feed->attach(identity(1), {}, link, 3, ++last), link);
    EXPECT_EQ(given(link), (std::pair{std::uint64_t{7}, std::vector<std::string>{"7", "8", "9", "10"}}));
    EXPECT_EQ(feed->counters().missed_full, 2U) << "4 was given, though it was lost on its way";
}

TEST_F(FeedTest, OneThatNeverHeardOfItsLinkHasAllOfIt) {
    make();
    const LinkId link = join(1);
    publish("", "1");
    given(link);
    EXPECT_EQ(feed->attach(identity(1), {}, 77, 500, ++last), link) << "77 was another host's";
    EXPECT_EQ(given(link).first, 1U);
    feed->taken(link, 1);
    EXPECT_NE(feed->attach(identity(1), {}, 77, 500, ++last), link);
    EXPECT_EQ(feed->links(), 1U);
}

TEST_F(FeedTest, ALinkIsForgottenInTime) {
    make();
    const LinkId link = join(1);
    publish("", "1");
    feed->detach(link, Mono{1h});
    EXPECT_EQ(feed->next_deadline(), Mono{1h} + defaults::live_link_memory);
    feed->forget_away(Mono{1h} + defaults::live_link_memory - 1ns);
    EXPECT_EQ(feed->links(), 1U);
    feed->forget_away(Mono{1h} + defaults::live_link_memory);
    EXPECT_EQ(feed->links(), 0U);
    EXPECT_EQ(feed->counters().missed_gone, 1U);
    EXPECT_EQ(feed->next_deadline(), never);
}

TEST_F(FeedTest, OfThoseThatAreAwayTheEarliestIsForgottenFirst) {
    make();
    for (std::size_t i = 0; i <= Feed::away_limit; ++i) {
        Identity id = identity(3);
        id.bytes[0] = static_cast<std::uint8_t>(i);
        id.bytes[1] = static_cast<std::uint8_t>(i >> 8U);
        feed->detach(feed->attach(id, {}, 0, 0, ++last), Mono{1h});
    }
    EXPECT_EQ(feed->links(), Feed::away_limit);
    EXPECT_NE(feed->attach(identity(0), {}, 1, 0, ++last), 1U);
}

TEST_F(FeedTest, ABlockingOneSaysHowMuchThereIsRoomFor) {
    make({.max_messages = 3, .when_full = WhenFull::block});
    EXPECT_EQ(feed->free_messages(), 3U);
    const LinkId link = join(1);
    publish("", "1");
    publish("", "2");
    given(link);
    EXPECT_EQ(feed->free_messages(), 1U) << "until they are taken";
    feed->taken(link, 2);
    feed->keep_bounds();
    EXPECT_EQ(feed->free_messages(), 3U);
    for (int i = 3; i <= 9; ++i) publish("", std::to_string(i));
    EXPECT_EQ(feed->free_messages(), 0U);
    EXPECT_EQ(given(link).first, 3U) << "nothing is dropped, whatever came";
}

TEST_F(FeedTest, ALateOneGetsTheLastValuesFirst) {
    make({.last_values = 2});
    publish("a", "a1");
    publish("b", "b1");
    publish("a", "a2");
    const LinkId late = join(1);
    publish("a", "a3");
    EXPECT_EQ(given(late), (std::pair{std::uint64_t{1}, std::vector<std::string>{"b1", "a2", "a3"}}));
    publish("c", "c1");  // b goes
    EXPECT_THAT(given(join(2)).second, ElementsAre("a3", "c1"));
    EXPECT_THAT(given(join(3, {{.subject = "c"}})).second, ElementsAre("c1"));
    feed->taken(late, 2);
    EXPECT_EQ(feed->attach(identity(1), {}, late, 2, ++last), late);
    EXPECT_THAT(given(late).second, ElementsAre("a3", "c1"));
}

TEST_F(FeedTest, WhatIsNotGivenAtTheEndIsSaid) {
    make();
    const LinkId link = join(1);
    publish("", "1");
    publish("", "2");
    given(link, {.messages = 1, .bytes = 1000});
    feed->give_up(link);
    EXPECT_EQ(feed->gap(link), 3U);
    EXPECT_EQ(feed->counters().missed_gone, 1U);
}

TEST_F(FeedTest, FiltersAreBounded) {
    make();
    for (std::size_t i = 0; i < Feed::filters_limit; ++i) {
        Identity id = identity(3);
        id.bytes[0] = static_cast<std::uint8_t>(i);
        id.bytes[1] = static_cast<std::uint8_t>(i >> 8U);
        feed->attach(id, {{.subject = std::to_string(i)}}, 0, 0, ++last);
    }
    EXPECT_TRUE(feed->is_crowded({{.subject = "another"}}));
    EXPECT_FALSE(feed->is_crowded({{.subject = "7"}}));

    feed->detach(12, Mono{1h});
    feed->detach(11, Mono{2h});
    EXPECT_FALSE(feed->is_crowded({{.subject = "another"}})) << "who is away makes way";
    feed->attach(identity(1), {{.subject = "another"}}, 0, 0, ++last);
    EXPECT_EQ(feed->links(), Feed::filters_limit);
    feed->attach(identity(2), {{.subject = "a third"}}, 0, 0, ++last);
    EXPECT_EQ(feed->links(), Feed::filters_limit);
    EXPECT_TRUE(feed->is_crowded({{.subject = "a fourth"}}));
    EXPECT_EQ(feed->counters().missed_gone, 0U);
}

// Whatever happens: each gets what it matched, in order and once, or is shown a gap of the right size.
class RandomFeed : public FeedTest {
protected:
    struct Subscriber {
        Identity id;
        std::string pattern;
        LinkId link = 0;
        std::uint64_t received = 0, missed = 0;
        std::vector<std::string> matched{};
        [[nodiscard]] std::uint64_t at() const { return received + missed; }
    };
    std::uint64_t pick(std::uint64_t below) { return random() % below; }
    void attach(Subscriber& one) {
        one.link = feed->attach(one.id, {{.subject = one.pattern}}, one.link, one.at(), ++last);
    }
    void publish_one() {
        const std::string subject = pick(2) == 0 ? "a" : "b";
        const std::string payload = std::to_string(last_message++) + std::string(pick(200), 'x');
        publish(subject, payload);
        for (Subscriber& each : subscribers) {
            if (each.link != 0 && matches_subject(each.pattern, subject)) each.matched.push_back(payload);
        }
    }
    bool listen(Subscriber& one, const Room& room) {
        const auto batch = feed->next(one.link, room);
        if (!batch) return false;
        if (pick(8) == 0) {  // it is lost, and the link with it
            const LinkId before = one.link;
            feed->detach(one.link, Mono{1h});
            attach(one);
            EXPECT_EQ(one.link, before);
            return true;
        }
        EXPECT_GT(batch->first, one.at());
        one.missed += batch->first - one.at() - 1;
        for (const std::string& payload : payloads(*batch)) {
            EXPECT_EQ(payload, one.matched.at(one.missed + one.received++));
        }
        return true;
    }
    void step() {
        Subscriber& one = subscribers[pick(subscribers.size())];
        const std::uint64_t what = pick(5);
        if (what < 2) {
            publish_one();
        } else if (one.link == 0) {
            attach(one);
        } else if (what == 2) {
            feed->taken(one.link, one.at() - pick(2) * std::min<std::uint64_t>(one.at(), 1));
        } else {
            listen(one, {1 + pick(5), 1 + pick(500)});
        }
    }

    std::mt19937 random{7};  // NOLINT(cert-msc32-c,cert-msc51-cpp): the same each time
    std::uint64_t last_message = 0;
    std::vector<Subscriber> subscribers;
};

TEST_F(RandomFeed, WhatIsReceivedAndMissedIsWhatWasMatched) {
    std::uint64_t missed = 0;
    for (int round = 0; round < 60; ++round) {
        make({.max_messages = 1 + pick(20), .max_bytes = 50 + pick(2000)});
        subscribers.clear();
        for (const char* pattern : {"#", "a", "#", "b", "#"})
            subscribers.push_back({identity(static_cast<std::uint8_t>(subscribers.size())), pattern});
        for (int steps = 0; steps < 500; ++steps) step();
        for (Subscriber& one : subscribers) {
            while (one.link != 0 && listen(one, plenty)) {
            }
            EXPECT_EQ(one.at(), one.matched.size());
            missed += one.missed;
        }
    }
    EXPECT_GT(missed, 1000U) << "else it has shown little";
}

}  // namespace
}  // namespace posthorn::feed
