#include "protocol/feed_session.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>

#include "scripted_host.hpp"

namespace posthorn::protocol {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

class FeedSessionTest : public testing::Test {
protected:
    void start(std::uint32_t messages = 100, std::size_t hosts = 1) {
        session_.emplace(FeedSession::Options{.incarnation = Identity{{9}},
                                              .topic = "prices",
                                              .bindings = {{.subject = "a"}},
                                              .messages = messages,
                                              .bytes = 1000});
        for (PeerId peer = 1; peer <= hosts; ++peer) {
            hosts_.emplace_back(peer);
            session_->add_host(peer, "host " + std::to_string(peer));
        }
        turn(0ms);
        for (ScriptedHost& host : hosts_) welcome(host, static_cast<std::uint8_t>(6 + host.peer()));
        answer(0ms);
    }
    static void welcome(ScriptedHost& host, std::uint8_t who, std::uint64_t link = 70) {
        host.welcome({.host = Identity{{who}}, .heartbeat_ms = 1000, .link = link});
    }
    void turn(Duration time) {
        now_ = at(time);
        session_->turn(now_);
        const auto frames = session_->take_frames();
        for (ScriptedHost& host : hosts_) host.hear(frames);
        for (Event& event : session_->take_events()) events_.push_back(std::move(event));
    }
    void answer(Duration time) {
        for (ScriptedHost& host : hosts_) {
            for (const std::string& bytes : host.said()) session_->receive(host.peer(), Slice{bytes}, at(time));
        }
        turn(time);
    }
    void feed(ScriptedHost& host, std::uint64_t first, std::uint32_t count, const std::string& body = "x") {
        std::string list;
        for (std::uint32_t i = 0; i < count; ++i) wire::Writer(list).binary(body + std::to_string(first + i));
        host.say(Feed{.first = first, .count = count, .list = Slice{std::move(list)}});
    }
    std::vector<std::string> taken() {
        std::vector<std::string> all;
        while (const auto one = session_->next()) all.emplace_back(one->view());
        return all;
    }
    // received, missed, matched
    std::vector<std::uint64_t> counts() {
        const FeedSession::Counts& counts = session_->counts();
        return {counts.received, counts.missed, counts.matched};
    }
    ScriptedHost& host() { return hosts_.front(); }

    std::optional<FeedSession> session_;
    std::deque<ScriptedHost> hosts_;
    Now now_ = at(0ms);
    std::vector<Event> events_;
};

TEST_F(FeedSessionTest, SaysWhatItWantsAndTakesItInOrder) {
    start();
    const Hello& hello = host().hellos.at(0);
    EXPECT_TRUE(hello.live);
    EXPECT_EQ(hello.address, "prices");
    EXPECT_EQ(hello.window_messages, 100U);
    EXPECT_EQ(hello.bindings.value().at(0).subject, "a");
    feed(host(), 1, 2);
    feed(host(), 3, 1);
    answer(1ms);
    EXPECT_THAT(taken(), ElementsAre("x1", "x2", "x3"));
    EXPECT_THAT(counts(), ElementsAre(3, 0, 3));
}

TEST_F(FeedSessionTest, AGapCountsWhenItIsReached) {
    start();
    feed(host(), 1, 1);
    feed(host(), 5, 1);
    host().say(Feed{.first = 10});
    answer(1ms);
    EXPECT_EQ(events_.back().kind, Event::Kind::missed);
    EXPECT_THAT(counts(), ElementsAre(0, 0, 0));
    (void)session_->next();
    EXPECT_THAT(counts(), ElementsAre(1, 0, 1));
    (void)session_->next();
    EXPECT_THAT(counts(), ElementsAre(2, 7, 9)) << "nothing waits behind it, so the last gap counts as well";
    host().say(Feed{.first = 12});
    answer(2ms);
    EXPECT_THAT(counts(), ElementsAre(2, 9, 11));
}

TEST_F(FeedSessionTest, SaysThatThereIsRoomAgain) {
    start(8);
    EXPECT_THAT(host().take<Taken>(), SizeIs(1)) << "the host waits for it";
    feed(host(), 1, 8);
    answer(1ms);
    EXPECT_THAT(host().take<Taken>(), IsEmpty());
    (void)session_->next();
    EXPECT_FALSE(session_->has_news());
    (void)session_->next();
    (void)session_->next();
    EXPECT_TRUE(session_->has_news()) << "more than a quarter";
    turn(2ms);
    auto told = host().take<Taken>();
    ASSERT_THAT(told, SizeIs(1));
    EXPECT_EQ(told[0].count, 3U);
    EXPECT_EQ(told[0].messages, 11U) << "cumulative";
    taken();
    turn(3ms);
    told = host().take<Taken>();
    ASSERT_THAT(told, SizeIs(1));
    EXPECT_EQ(told[0].count, 8U) << "all there was";
    turn(4ms);
    EXPECT_THAT(host().take<Taken>(), IsEmpty());
}

TEST_F(FeedSessionTest, ALostSessionGoesOnBehindWhatHasCome) {
    start();
    feed(host(), 1, 3);
    answer(1ms);
    (void)session_->next();
    session_->send_failed(1, now_);
    turn(1s);
    EXPECT_EQ(host().hellos.back().link, 70U);
    EXPECT_EQ(host().hellos.back().received, 3U);
    EXPECT_EQ(host().hellos.back().window_messages, 98U) << "two wait";
    host().welcome({.host = Identity{{7}}, .heartbeat_ms = 1000, .link = 70});
    feed(host(), 5, 1);
    answer(1s);
    EXPECT_THAT(taken(), ElementsAre("x2", "x3", "x5"));
    EXPECT_THAT(counts(), ElementsAre(4, 1, 5));
    EXPECT_EQ(session_->counts().breaks, 0U);
}

TEST_F(FeedSessionTest, AnotherLinkIsABreak) {
    start();
    feed(host(), 1, 2);
    answer(1ms);
    session_->send_failed(1, now_);
    turn(1s);
    host().welcome({.host = Identity{{8}}, .heartbeat_ms = 1000, .link = 71});
    feed(host(), 1, 1, "y");
    answer(1s);
    EXPECT_EQ(session_->counts().breaks, 1U);
    const auto told = texts(events_, Event::Kind::missed);
    EXPECT_THAT(told, ElementsAre(HasSubstr("nobody knows how much")));
    (void)host().take<Taken>();
    (void)session_->next();
    (void)session_->next();
    EXPECT_THAT(taken(), ElementsAre("y1"));
    EXPECT_THAT(counts(), ElementsAre(3, 0, 3));
    turn(2s);
    EXPECT_EQ(host().take<Taken>().back().count, 1U) << "of the new link";
}

TEST_F(FeedSessionTest, OfSeveralHostsEachHasItsOwnSequence) {
    start(100, 2);
    feed(hosts_[0], 1, 1, "a");
    feed(hosts_[1], 4, 1, "b");
    answer(1ms);
    EXPECT_EQ(session_->connected(), 2U);
    taken();
    EXPECT_THAT(counts(), ElementsAre(2, 3, 5));
}

// What a host may make it hold is what it has asked for.
TEST_F(FeedSessionTest, AHostThatSendsTooMuchOrTwiceLosesTheSession) {
    start(4);
    feed(host(), 1, 5);
    answer(1ms);
    EXPECT_EQ(session_->connected(), 0U);
    EXPECT_THAT(taken(), IsEmpty());
    turn(2s);
    host().welcome({.host = Identity{{7}}, .heartbeat_ms = 1000, .link = 70});
    feed(host(), 1, 1);
    feed(host(), 1, 1);
    answer(2s);
    EXPECT_EQ(session_->connected(), 0U);
    EXPECT_THAT(taken(), ElementsAre("x1"));
}

TEST_F(FeedSessionTest, AHostThatComesToUsIsAskedAndKnownAgain) {
    start(100, 0);
    ScriptedHost& come = hosts_.emplace_back(5);
    come.say_outside(Identify{Identity{{7}}});
    answer(0ms);
    ASSERT_THAT(come.hellos, SizeIs(1));
    come.welcome({.host = Identity{{7}}, .heartbeat_ms = 1000, .link = 70});
    feed(come, 1, 1);
    answer(1ms);
    ScriptedHost& again = hosts_.emplace_back(6);
    again.say_outside(Identify{Identity{{7}}});
    answer(2ms);
    ASSERT_THAT(again.hellos, SizeIs(1));
    EXPECT_EQ(again.hellos[0].link, 70U);
    EXPECT_EQ(again.hellos[0].received, 1U);
}

TEST_F(FeedSessionTest, OneThatComesToUsIsKnownByItsSessionAsWell) {
    start(100, 0);
    ScriptedHost& come = hosts_.emplace_back(5);
    come.say_outside(Identify{Identity{{7}}});
    answer(0ms);
    welcome(come, 7);
    answer(1ms);
    feed(come, 1, 1);
    for (const std::string& bytes : come.said()) session_->receive(6, Slice{bytes}, at(2ms));  // made anew below
    ScriptedHost& again = hosts_.emplace_back(6);
    turn(2ms);
    ASSERT_THAT(again.hellos, SizeIs(1));
    EXPECT_EQ(again.hellos[0].link, 70U);
}

TEST_F(FeedSessionTest, SaysThatEverythingHasComeWhenItIsAsked) {
    start();
    feed(host(), 1, 2);
    host().say(Feed{.first = 3});
    answer(1ms);
    const auto told = host().take<Taken>();
    ASSERT_THAT(told, Not(IsEmpty()));
    EXPECT_EQ(told.back().received, 2U);
    EXPECT_EQ(told.back().count, 0U) << "the application has taken nothing";
}

TEST_F(FeedSessionTest, AHostThatStaysAwayIsABreak) {
    start();
    session_->send_failed(host().peer(), now_);
    turn(9min);
    EXPECT_EQ(session_->counts().breaks, 0U);
    turn(11min);
    EXPECT_EQ(session_->counts().breaks, 1U);
    EXPECT_THAT(events_.back().text, HasSubstr("nobody knows how much"));
    welcome(host(), 8, 71);
    answer(12min);
    EXPECT_EQ(session_->connected(), 1U);
    EXPECT_EQ(session_->counts().breaks, 1U) << "the same one";
}

TEST_F(FeedSessionTest, PublishersThatHaveEndedMakeWay) {
    start(100, 0);
    for (PeerId peer = 1; peer <= 1200; ++peer) {
        const auto identify = [&](const Identity& who) {
            FrameWriter outside{defaults::frame_limit};
            outside.add(Identify{who});
            for (std::string& bytes : outside.flush()) session_->receive(peer, Slice{std::move(bytes)}, now_);
        };
        Identity who{{1}};
        who.bytes[1] = static_cast<std::uint8_t>(peer);
        who.bytes[2] = static_cast<std::uint8_t>(peer >> 8U);
        identify(who);
        session_->send_failed(peer, now_);
    }
    EXPECT_EQ(session_->dropped(), 0U);
}

TEST_F(FeedSessionTest, TwoWaysToOneHostAreOneLink) {
    start(100, 0);
    for (PeerId peer = 1; peer <= 2; ++peer) {
        hosts_.emplace_back(peer);
        session_->add_host(peer, "way " + std::to_string(peer));
    }
    turn(0ms);
    for (ScriptedHost& way : hosts_) welcome(way, 7);
    answer(0ms);
    EXPECT_EQ(hosts_[0].hellos.size(), 2U) << "the hello on the other way has ended its session";
    welcome(hosts_[0], 7);
    answer(1ms);
    turn(3s);
    EXPECT_EQ(session_->connected(), 1U);
    EXPECT_EQ(session_->counts().breaks, 0U);
    EXPECT_EQ(hosts_[1].hellos.size(), 1U);
    feed(hosts_[0], 1, 1);
    answer(4s);
    EXPECT_THAT(taken(), ElementsAre("x1"));
    turn(30s);  // the first way is lost
    EXPECT_GT(hosts_[1].hellos.size(), 1U);
}

TEST_F(FeedSessionTest, AByeIsAnsweredAndABreakIsSaidLater) {
    start();
    host().say(Feed{.first = 3});
    host().say(Bye{.retry_after_ms = 100});
    answer(1ms);
    EXPECT_TRUE(host().take<Bye>().at(0).answer);
    EXPECT_THAT(counts(), ElementsAre(0, 2, 2)) << "its last words";
    session_->bye(now_);
    EXPECT_EQ(session_->next_deadline(), never);
}

}  // namespace
}  // namespace posthorn::protocol
