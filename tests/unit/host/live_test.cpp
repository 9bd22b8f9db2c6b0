// Live topics at a host: links, credit, gaps, and that nothing is stored.
#include "fixture.hpp"

namespace posthorn::host {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class Live : public HostFixture {
protected:
    void open(LivePolicy policy = {}, Options options = {}) {
        options.live["t"] = policy;
        make(std::move(options));
    }
    Peer publisher(PeerId id, std::uint8_t who) {
        return hello(id, {.role = protocol::Role::producer,
                          .address = "t",
                          .incarnation = identity(who),
                          .live = true,
                          .watch = true});
    }
    Peer subscriber(PeerId id, std::uint8_t who, protocol::Hello how = {}) {
        how.role = protocol::Role::consumer;
        how.address = "t";
        how.incarnation = identity(who);
        how.live = true;
        Peer peer = hello(id, std::move(how));
        say(peer, protocol::Taken{});  // nothing is fed before
        return peer;
    }
    void publish(Peer& peer, std::uint8_t who, std::uint64_t from, std::uint64_t to) {
        protocol::Publish publish;
        for (std::uint64_t i = from; i <= to; ++i) publish.envelopes.push_back(envelope_of(identity(who), i));
        say(peer, publish);
    }
    std::uint64_t settled(Peer& peer) {
        std::uint64_t last = 0;
        for (const auto& confirm : heard_of<protocol::Confirm>(peer)) {
            for (const auto& range : confirm.settled) last = std::max(last, range.last);
        }
        return last;
    }
    // The numbers that came, and where a feed said there is nothing, the one behind.
    std::vector<std::uint64_t> numbers(Peer& peer) {
        std::vector<std::uint64_t> all;
        for (const auto& feed : heard_of<protocol::Feed>(peer)) {
            for (std::uint64_t i = 0; i < std::max(feed.count, 1U); ++i) all.push_back(feed.first + i);
        }
        return all;
    }
    std::string refused(Peer& peer) {
        const auto refusals = heard_of<protocol::Refusal>(peer);
        return refusals.empty() ? "" : refusals.back().code;
    }
};

TEST_F(Live, IsSettledAtOnceAndKeepsNothing) {
    TightStore& tight = make_tight();
    tight.takes = TightStore::Takes::nothing;
    Peer sends = publisher(1, 1);
    EXPECT_FALSE(heard_of<protocol::Welcome>(sends).at(0).durable);
    publish(sends, 1, 1, 3);
    EXPECT_EQ(settled(sends), 3U);
    EXPECT_EQ(tight.runs, 0);
    EXPECT_EQ(host->unsettled(), 0U);
    EXPECT_TRUE(host->idle());
}

TEST_F(Live, WhatIsResentIsNotFedTwice) {
    open();
    Peer hears = subscriber(2, 2);
    Peer sends = publisher(1, 1);
    publish(sends, 1, 1, 2);
    Peer again = publisher(3, 1);
    EXPECT_EQ(heard_of<protocol::Welcome>(again).at(0).watermark, 2U);
    publish(again, 1, 2, 3);
    EXPECT_THAT(numbers(hears), ElementsAre(1, 2, 3));
}

TEST_F(Live, ALinkGoesOnWhereItsSubscriberWas) {
    open();
    Peer sends = publisher(1, 1);
    Peer hears = subscriber(2, 2);
    const std::uint64_t link = heard_of<protocol::Welcome>(hears).at(0).link;
    EXPECT_NE(link, 0U);
    publish(sends, 1, 1, 3);
    Peer back = subscriber(3, 2, {.link = link, .received = 2});
    EXPECT_EQ(heard_of<protocol::Welcome>(back).at(0).link, link);
    say(back, protocol::Taken{.count = 3, .messages = 100, .bytes = 1 << 20});
    publish(sends, 1, 4, 4);
    EXPECT_THAT(numbers(back), ElementsAre(4));
    say(back, protocol::Bye{});
    Peer fresh = subscriber(4, 2, {.link = link, .received = 4});
    EXPECT_NE(heard_of<protocol::Welcome>(fresh).at(0).link, link) << "it had left";
}

// What a former session left in its pipe may not have gone through yet.
TEST_F(Live, NothingIsFedBeforeTheWelcomeIsAnswered) {
    open();
    Peer sends = publisher(1, 1);
    const protocol::Hello how{
        .role = protocol::Role::consumer, .address = "t", .incarnation = identity(2), .live = true};
    Peer hears = hello(2, how);
    publish(sends, 1, 1, 3);
    EXPECT_THAT(numbers(hears), IsEmpty());
    say(hears, protocol::Taken{});
    EXPECT_THAT(numbers(hears), ElementsAre(1, 2, 3));
}

TEST_F(Live, OneThatIsSlowIsToldWhatItMisses) {
    open({.max_messages = 10});
    Peer sends = publisher(1, 1);
    Peer slow = subscriber(2, 2);
    publish(sends, 1, 1, 10);
    for (std::uint64_t i = 0; i < 9; ++i) publish(sends, 1, 11 + i * 10, 20 + i * 10);
    EXPECT_THAT(numbers(slow), SizeIs(100)) << "as much as it has room for";
    publish(sends, 1, 101, 200);
    EXPECT_THAT(numbers(slow), ElementsAre(191)) << "it has no room, and hears of the gap all the same";
    publish(sends, 1, 201, 210);
    EXPECT_THAT(numbers(slow), IsEmpty());
    pass(1s);
    EXPECT_THAT(numbers(slow), ElementsAre(201)) << "not for each of them";
    say(slow, protocol::Taken{.count = 100, .messages = 200, .bytes = 1 << 20});
    const auto rest = numbers(slow);
    EXPECT_THAT(rest, SizeIs(10));
    EXPECT_EQ(rest.front(), 201U);
}

TEST_F(Live, ABlockingOneMakesItsPublishersWait) {
    open({.max_messages = 10, .when_full = WhenFull::block});
    Peer hears = subscriber(2, 2);
    Peer sends = publisher(1, 1);
    std::uint64_t sent = 0;
    std::uint64_t credit = 0;
    const auto use_credit = [&] {
        for (const auto& one : heard_of<protocol::Credit>(sends)) credit = std::max(credit, one.messages);
        const bool more = credit > sent;
        if (more) publish(sends, 1, sent + 1, credit);
        sent = credit;
        return more;
    };
    while (use_credit()) {
    }
    EXPECT_EQ(sent, 10U) << "given, and not yet taken";
    say(hears, protocol::Taken{.count = 10, .messages = 100, .bytes = 1 << 20});
    while (use_credit()) {
    }
    EXPECT_EQ(sent, 20U);
}

TEST_F(Live, KindsAreNotMixed) {
    open();
    Peer queue = hello(1, {.role = protocol::Role::producer, .address = "t", .incarnation = identity(1)});
    EXPECT_EQ(refused(queue), "wrong_kind");
    Peer topic = hello(2, {.role = protocol::Role::consumer, .address = "t/s", .incarnation = identity(2)});
    EXPECT_EQ(refused(topic), "wrong_kind");
    (void)hello(3, {.role = protocol::Role::producer, .address = "q", .incarnation = identity(3)});
    Peer live = hello(4, {.role = protocol::Role::consumer, .address = "q", .incarnation = identity(4), .live = true});
    EXPECT_EQ(refused(live), "wrong_kind");
}

TEST_F(Live, ASubscriberSaysWhatIsASubscribersToSay) {
    open();
    Peer hears = subscriber(2, 2);
    say(hears, protocol::Settle{.acks = {{1, 1, 1}}});
    EXPECT_EQ(refused(hears), "wrong_role");
}

TEST_F(Live, ItsPublishersKnowHowManyListen) {
    open();
    Peer sends = publisher(1, 1);
    Peer hears = subscriber(2, 2);
    const auto told = heard_of<protocol::Peers>(sends);
    ASSERT_FALSE(told.empty());
    EXPECT_EQ(told.back().consumers, 1U);
    pass(6s);  // it says nothing
    EXPECT_EQ(heard_of<protocol::Peers>(sends).back().consumers, 0U);
}

TEST_F(Live, HoweverMuchASubscriberAsksForThereIsABound) {
    open({.max_messages = 200'000});
    Peer sends = publisher(1, 1);
    Peer hears = subscriber(2, 2);
    say(hears, protocol::Taken{.messages = ~std::uint64_t{0}, .bytes = ~std::uint64_t{0}});
    for (std::uint64_t from = 1; from < 120'000; from += 1000) {
        publish(sends, 1, from, from + 999);
        said.erase(1);
    }
    EXPECT_THAT(numbers(hears), SizeIs(defaults::live_max_messages));
}

TEST_F(Live, AtTheEndSubscribersAreAskedWhetherEverythingHasCome) {
    open();
    Peer sends = publisher(1, 1);
    Peer hears = subscriber(2, 2);
    say(hears, protocol::Taken{.messages = 100, .bytes = 1 << 20});
    publish(sends, 1, 1, 3);
    EXPECT_THAT(numbers(hears), ElementsAre(1, 2, 3));
    EXPECT_FALSE(host->all_arrived());
    host->ask_arrival();
    work();
    EXPECT_THAT(numbers(hears), ElementsAre(4)) << "it is asked";
    work();
    EXPECT_THAT(numbers(hears), IsEmpty()) << "once";
    say(hears, protocol::Taken{.messages = 100, .bytes = 1 << 20, .received = 3});
    EXPECT_TRUE(host->all_arrived());
}

TEST_F(Live, TheLastWordIsWhatWillNotCome) {
    open();
    Peer sends = publisher(1, 1);
    Peer hears = subscriber(2, 2);
    publish(sends, 1, 1, 150);
    EXPECT_FALSE(host->all_arrived());
    host->drain(100ms, now);
    work();
    const auto all = numbers(hears);
    EXPECT_THAT(all, SizeIs(101));
    EXPECT_EQ(all.back(), 151U);
}

}  // namespace
}  // namespace posthorn::host
