#include "protocol/consumer_session.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <random>
#include <set>

#include "scripted_host.hpp"

namespace posthorn::protocol {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;
using Begun = ConsumerSession::Begun;

ConsumerSession::Options options(std::uint32_t concurrency, std::uint32_t prefetch) {
    return {.incarnation = Identity{{9}}, .queue = "q", .name = "n", .concurrency = concurrency, .prefetch = prefetch};
}

std::vector<std::uint64_t> offsets(const std::vector<Held>& held) {
    std::vector<std::uint64_t> all;
    all.reserve(held.size());
    for (const Held& one : held) all.push_back(one.offset);
    return all;
}

class ConsumerSessionTest : public testing::Test {
protected:
    void start(std::uint32_t concurrency, std::uint32_t prefetch, std::size_t hosts = 1) {
        start(options(concurrency, prefetch), hosts);
    }
    void start(ConsumerSession::Options options, std::size_t hosts = 1) {
        session_.emplace(std::move(options));
        for (PeerId peer = 1; peer <= hosts; ++peer) {
            hosts_.emplace_back(peer);
            session_->add_host(peer, "host " + std::to_string(peer));
        }
        turn(0ms);
        for (ScriptedHost& host : hosts_) welcome(host);
        answer(0ms);
    }
    void welcome(ScriptedHost& host, std::vector<Held> lost = {}) {
        host.welcome({.heartbeat_ms = 1000, .lease_ms = 30'000, .lost = std::move(lost)});
    }
    void turn(Duration time) {
        now_ = at(time);
        session_->turn(now_);
        const auto frames = session_->take_frames();
        for (ScriptedHost& host : hosts_) host.hear(frames);
        for (Event& event : session_->take_events()) events_.push_back(std::move(event));
        for (const auto handle : session_->take_lost()) lost_.push_back(handle);
        for (const auto& one : session_->take_synced()) synced_.emplace_back(one.number, one.safe);
    }
    void answer(Duration time) {
        for (ScriptedHost& host : hosts_) {
            for (const std::string& bytes : host.said()) session_->receive(host.peer(), Slice{bytes}, at(time));
        }
        turn(time);
    }
    ScriptedHost& host() { return hosts_.front(); }
    void deliver(ScriptedHost& host, std::uint64_t first, std::uint64_t last, std::uint32_t token = 1) {
        Deliver deliver;
        for (std::uint64_t offset = first; offset <= last; ++offset) {
            deliver.items.push_back({.offset = offset, .token = token, .envelope = Slice{std::string("bytes")}});
        }
        host.say(deliver);
    }
    Begun begin() {
        auto begun = session_->begin(now_.mono);
        EXPECT_TRUE(begun.has_value());
        return begun.value_or(Begun{});
    }
    void settle(const Begun& begun, ConsumerSession::Settlement settlement = {}) {
        session_->settle(begun.handle, std::move(settlement), now_.mono);
    }
    std::vector<std::uint32_t> windows() {  // the last each host heard of; those that heard nothing keep what they had
        std::vector<std::uint32_t> all;
        for (ScriptedHost& host : hosts_) {
            auto& window = known_windows_.try_emplace(host.peer(), host.hellos.back().window_messages).first->second;
            for (const Window& one : host.take<Window>()) window = one.messages;
            all.push_back(window);
        }
        return all;
    }

    std::optional<ConsumerSession> session_;
    std::deque<ScriptedHost> hosts_;
    std::map<PeerId, std::uint32_t> known_windows_;
    Now now_ = at(0ms);
    std::vector<Event> events_;
    std::vector<ConsumerSession::Handle> lost_;
    std::vector<std::pair<std::uint64_t, bool>> synced_;
};

TEST_F(ConsumerSessionTest, SaysWhoItIsAndWhatItTakes) {
    start(4, 100);
    ASSERT_THAT(host().hellos, SizeIs(1));
    EXPECT_EQ(host().hellos[0].role, Role::consumer);
    EXPECT_EQ(host().hellos[0].concurrency, 4U);
    EXPECT_EQ(host().hellos[0].window_messages, 100U);
    EXPECT_THAT(host().take<Window>(), IsEmpty()) << "the hello has said it";
}

TEST_F(ConsumerSessionTest, GivesDeliveriesInOrderAndSettlesThemInRuns) {
    start(1, 10);
    deliver(host(), 1, 5);
    answer(1ms);
    for (std::uint64_t offset = 1; offset <= 5; ++offset) {
        const Begun begun = begin();
        EXPECT_EQ(begun.offset, offset);
        settle(begun);
    }
    turn(2ms);
    const auto settles = host().take<Settle>();
    ASSERT_THAT(settles, SizeIs(1));
    ASSERT_THAT(settles[0].acks, SizeIs(1));
    EXPECT_EQ(settles[0].acks[0].offset, 1U);
    EXPECT_EQ(settles[0].acks[0].count, 5U);
    EXPECT_FALSE(session_->quiet());
    host().say(Settled{.count = 5});
    answer(3ms);
    EXPECT_TRUE(session_->quiet());
}

TEST_F(ConsumerSessionTest, AcksOutOfOrderStillMakeRunsAndOthersCountAfterThem) {
    start(4, 10);
    deliver(host(), 1, 4);
    answer(1ms);
    std::vector<Begun> begun;
    begun.reserve(4);
    for (int i = 0; i < 4; ++i) begun.push_back(begin());
    settle(begun[3], {.verdict = Verdict::nack, .delay_ms = 500, .text = "no"});
    settle(begun[1]);
    settle(begun[0]);
    settle(begun[2]);
    turn(2ms);
    const auto settles = host().take<Settle>();
    ASSERT_THAT(settles, SizeIs(1));
    ASSERT_THAT(settles[0].acks, SizeIs(1));
    EXPECT_EQ(settles[0].acks[0].count, 3U);
    ASSERT_THAT(settles[0].others, SizeIs(1));
    EXPECT_EQ(settles[0].others[0].offset, 4U);
    EXPECT_EQ(settles[0].others[0].delay_ms, 500U);
    // Three of the four are safe: what is left, and so repeated, is the nack.
    host().say(Settled{.count = 3});
    host().say(Bye{0, {}});
    answer(3ms);
    turn(1s);
    EXPECT_THAT(offsets(host().hellos.back().held), ElementsAre(4));
    welcome(host());
    answer(1s);
    const auto repeated = host().take<Settle>();
    ASSERT_THAT(repeated, SizeIs(1));
    EXPECT_THAT(repeated[0].acks, IsEmpty());
    EXPECT_THAT(repeated[0].others, SizeIs(1));
}

TEST_F(ConsumerSessionTest, ListsWhatItHoldsAndRepeatsWhatItSettled) {
    start(2, 10);
    deliver(host(), 1, 4);
    answer(1ms);
    const Begun first = begin();
    (void)begin();
    settle(first);
    turn(2ms);
    (void)host().take<Settle>();
    host().say_outside(Identify{});
    answer(3ms);
    ASSERT_THAT(host().hellos, SizeIs(2));
    const auto& held = host().hellos[1].held;
    EXPECT_THAT(offsets(held), ElementsAre(1, 2, 3, 4));
    EXPECT_TRUE(held[0].begun);  // settled, unconfirmed
    EXPECT_TRUE(held[1].begun);
    EXPECT_FALSE(held[2].begun);

    welcome(host());
    deliver(host(), 3, 5);  // 3 and 4 are held already: said twice
    answer(4ms);
    EXPECT_THAT(host().take<Settle>(), SizeIs(1));
    EXPECT_EQ(session_->held(), 4U);
    EXPECT_EQ(begin().offset, 3U);
    EXPECT_EQ(begin().offset, 4U);
    EXPECT_EQ(begin().offset, 5U);
    host().say(Settled{.count = 1});
    answer(5ms);
    EXPECT_EQ(session_->unconfirmed(), 0U);
}

TEST_F(ConsumerSessionTest, LeasesThatAreOverAreDroppedStoppedAndCounted) {
    start(1, 10);
    deliver(host(), 1, 3);
    answer(1ms);
    const Begun begun = begin();
    host().say(Lost{{{1, 1, false}, {3, 1, false}, {2, 7, false}}});
    answer(2ms);
    EXPECT_THAT(lost_, ElementsAre(begun.handle));
    EXPECT_TRUE(session_->is_lost(begun.handle));
    EXPECT_EQ(session_->held(), 1U) << "2 is still ours: the token was another";
    settle(begun);
    turn(3ms);
    EXPECT_THAT(host().take<Settle>(), IsEmpty());
    EXPECT_THAT(texts(events_, Event::Kind::stale_delivery), SizeIs(1));
}

TEST_F(ConsumerSessionTest, WhatAWelcomeCallsLostIsNotSettledAgain) {
    start(3, 10);
    deliver(host(), 1, 3);
    answer(1ms);
    settle(begin());
    settle(begin());
    const Begun third = begin();
    turn(2ms);
    host().say_outside(Identify{});
    answer(3ms);
    (void)host().take<Settle>();
    welcome(host(), {{1, 1, false}, {3, 1, false}});
    answer(4ms);
    const auto settles = host().take<Settle>();
    ASSERT_THAT(settles, SizeIs(1));
    ASSERT_THAT(settles[0].acks, SizeIs(1));
    EXPECT_EQ(settles[0].acks[0].offset, 2U);
    EXPECT_THAT(lost_, ElementsAre(third.handle));
    EXPECT_THAT(texts(events_, Event::Kind::stale_delivery), SizeIs(1));
}

TEST_F(ConsumerSessionTest, WhatAWelcomeCallsLostIsTakenWhenItIsGivenOutAnew) {
    start(1, 10);
    deliver(host(), 1, 2);
    answer(1ms);
    host().say_outside(Identify{});
    answer(2ms);
    welcome(host(), {{2, 1, false}});
    answer(3ms);
    EXPECT_EQ(session_->held(), 1U);
    deliver(host(), 1, 2);  // a host that came back may count what it had not written down as before
    answer(4ms);
    EXPECT_EQ(session_->held(), 2U) << "the first is a repeat of what is held, the second is not";
}

TEST_F(ConsumerSessionTest, AStaleAnswerIsTold) {
    start(1, 10);
    deliver(host(), 1, 1);
    answer(1ms);
    settle(begin());
    turn(2ms);
    host().say(Settled{.count = 1, .stale = {{1, 1, false}}});
    answer(3ms);
    EXPECT_THAT(texts(events_, Event::Kind::stale_delivery), SizeIs(1));
}

using Synced = std::pair<std::uint64_t, bool>;

TEST_F(ConsumerSessionTest, WhoWaitsForASettleIsToldOfThatOne) {
    start(4, 10);
    deliver(host(), 1, 4);
    answer(1ms);
    const std::vector<Begun> begun{begin(), begin(), begin(), begin()};
    settle(begun[0]);
    settle(begun[1], {.verdict = Verdict::nack, .sync = 2});
    settle(begun[2], {.sync = 3});
    settle(begun[3]);
    turn(2ms);
    const auto settles = host().take<Settle>();
    ASSERT_THAT(settles, SizeIs(1));
    EXPECT_TRUE(settles[0].sync);
    host().say(Settled{.count = 1});
    answer(3ms);
    EXPECT_THAT(synced_, IsEmpty());
    host().say(Settled{.count = 3});  // the acks
    answer(4ms);
    EXPECT_THAT(synced_, ElementsAre(Synced{3, true}));
    host().say(Settled{.count = 4, .stale = {{2, 1, false}}});
    answer(5ms);
    EXPECT_THAT(synced_, ElementsAre(Synced{3, true}, Synced{2, false}));
    deliver(host(), 5, 5);
    answer(6ms);
    settle(begin());
    turn(7ms);
    EXPECT_FALSE(host().take<Settle>().at(0).sync) << "nobody waits any more";
}

TEST_F(ConsumerSessionTest, WhoWaitsForASettleWaitsOverAResume) {
    start(3, 10);
    deliver(host(), 1, 3);
    answer(1ms);
    settle(begin(), {.sync = 1});
    settle(begin(), {.sync = 2});
    settle(begin());
    turn(2ms);
    (void)host().take<Settle>();
    host().say_outside(Identify{});
    answer(3ms);
    welcome(host(), {{1, 1, false}});
    answer(4ms);
    EXPECT_THAT(synced_, ElementsAre(Synced{1, false}));
    EXPECT_TRUE(host().take<Settle>().at(0).sync);
    host().say(Settled{.count = 2});
    answer(5ms);
    EXPECT_THAT(synced_, ElementsAre(Synced{1, false}, Synced{2, true}));
}

TEST_F(ConsumerSessionTest, WhoWaitsForASettleIsToldThatTheHostIsGone) {
    start(1, 10);
    deliver(host(), 1, 1);
    answer(1ms);
    settle(begin(), {.sync = 1});
    session_->remove_host(1, now_);
    turn(2ms);
    EXPECT_THAT(synced_, ElementsAre(Synced{1, false}));
}

TEST_F(ConsumerSessionTest, GivesTheLatestBackWhenRecalled) {
    start(1, 10);
    deliver(host(), 1, 4);
    answer(1ms);
    (void)begin();
    host().say(Recall{2});
    answer(2ms);
    ASSERT_THAT(host().heard, SizeIs(2));
    const auto settles = host().take<Settle>();
    ASSERT_THAT(settles, SizeIs(1));
    ASSERT_THAT(settles[0].others, SizeIs(2));
    EXPECT_EQ(settles[0].others[0].offset, 4U);
    EXPECT_EQ(settles[0].others[1].offset, 3U);
    EXPECT_EQ(settles[0].others[0].verdict, Verdict::release);
    EXPECT_TRUE(std::holds_alternative<Recalled>(host().heard.back()));
    host().say(Recall{100});
    answer(3ms);
    EXPECT_EQ(session_->held(), 1U) << "what is begun stays";
}

TEST_F(ConsumerSessionTest, BeginsNothingOfAHostThatWasNotHeardForHalfALease) {
    start(1, 10);
    deliver(host(), 1, 2);
    answer(0ms);
    EXPECT_TRUE(session_->can_begin(at(14'999ms).mono));
    EXPECT_FALSE(session_->can_begin(at(15s).mono));
    EXPECT_FALSE(session_->begin(at(15s).mono).has_value());
}

TEST_F(ConsumerSessionTest, AWholeLeaseOfSilenceStopsHandlersButKeepsAskingTheHost) {
    start(2, 10);
    deliver(host(), 1, 3);
    answer(0ms);
    const Begun first = begin();
    const Begun second = begin();
    session_->extend(second.handle, 60s, now_.mono);
    turn(5s);
    EXPECT_FALSE(session_->connected());
    EXPECT_LE(session_->next_deadline(), at(30s).mono);
    turn(29'999ms);
    EXPECT_THAT(lost_, IsEmpty());
    turn(30s);
    EXPECT_THAT(lost_, ElementsAre(first.handle));
    EXPECT_EQ(session_->held(), 2U) << "what was not begun is dropped";
    turn(60s);
    EXPECT_THAT(lost_, ElementsAre(first.handle, second.handle));

    // The host was only restarted, and still has the leases as ours: nothing is done twice.
    (void)host().take<Settle>();
    settle(first);
    turn(61s);
    welcome(host());
    answer(61s);
    EXPECT_THAT(host().take<Settle>(), SizeIs(1));
    EXPECT_THAT(texts(events_, Event::Kind::stale_delivery), IsEmpty());
}

TEST_F(ConsumerSessionTest, AGoodbyeForAWhileKeepsLeasesForThatWhileLonger) {
    start(1, 10);
    deliver(host(), 1, 1);
    answer(0ms);
    (void)begin();
    host().say(Bye{20'000, "restart"});
    answer(0ms);
    turn(49'999ms);
    EXPECT_THAT(lost_, IsEmpty());
    turn(50s);
    EXPECT_THAT(lost_, SizeIs(1));
}

TEST_F(ConsumerSessionTest, ExtendsAndSaysItAgainAfterAResume) {
    start(1, 10);
    deliver(host(), 1, 1);
    answer(0ms);
    const Begun begun = begin();
    session_->extend(begun.handle, 100s, now_.mono);
    turn(0ms);
    auto extends = host().take<Extend>();
    ASSERT_THAT(extends, SizeIs(1));
    EXPECT_EQ(extends[0].items[0].ms, 100'000U);
    host().say_outside(Identify{});
    answer(1s);
    welcome(host());
    answer(40s);
    extends = host().take<Extend>();
    ASSERT_THAT(extends, SizeIs(1));
    EXPECT_EQ(extends[0].items[0].ms, 60'000U);
}

TEST_F(ConsumerSessionTest, TheBudgetGoesToTheHostsThatHaveWork) {
    start(1, 12, 3);
    EXPECT_THAT(windows(), ElementsAre(4, 4, 4)) << "nobody has said anything";
    hosts_[1].say(State{true});
    answer(1ms);
    EXPECT_THAT(windows(), ElementsAre(0, 12, 0));
    hosts_[2].say(State{true});
    answer(2ms);
    EXPECT_THAT(windows(), ElementsAre(0, 6, 6));
    hosts_[1].say(State{false});
    hosts_[2].say(State{false});
    answer(3ms);
    EXPECT_THAT(windows(), ElementsAre(4, 4, 4));
    turn(4ms);
    for (ScriptedHost& host : hosts_) EXPECT_THAT(host.take<Window>(), IsEmpty()) << "nothing has changed";
}

TEST_F(ConsumerSessionTest, MoreHostsThanBudgetTakeTurns) {
    start(1, 2, 3);
    for (ScriptedHost& host : hosts_) host.say(State{true});
    answer(1ms);
    std::vector<std::uint32_t> served(3);
    for (int second = 0; second < 3; ++second) {
        EXPECT_LE(session_->next_deadline(), at(std::chrono::seconds{second + 1}).mono);
        for (ScriptedHost& host : hosts_) host.heartbeat();
        answer(std::chrono::seconds{second} + 2ms);
        const auto now = windows();
        EXPECT_EQ(now[0] + now[1] + now[2], 2U);
        for (std::size_t i = 0; i < 3; ++i) served[i] += now[i];
    }
    EXPECT_THAT(served, ElementsAre(2, 2, 2));
}

TEST_F(ConsumerSessionTest, TheWindowGrowsWithQuickHandlersAndShrinksWithSlowOnes) {
    start(2, 0);
    EXPECT_EQ(session_->window(), 3U);
    std::uint64_t offset = 0;
    std::uint64_t settled = 0;
    Duration time = 1ms;
    for (int round = 0; round < 100; ++round, time += 1ms) {  // each millisecond what the window allows
        const std::uint64_t count = session_->window();
        deliver(host(), offset + 1, offset + count);
        offset += count;
        host().say(Settled{.count = settled});
        settled += count;
        answer(time);
        while (auto begun = session_->begin(at(time + 500us).mono))
            session_->settle(begun->handle, {}, at(time + 500us).mono);
    }
    EXPECT_GT(session_->window(), 1000U);
    EXPECT_LE(session_->window(), defaults::prefetch_max);

    deliver(host(), offset + 1, offset + 2);
    answer(time);
    (void)begin();
    EXPECT_LE(session_->next_deadline(), at(time + 10ms).mono);
    for (int round = 0; round < 3; ++round) turn(time += 10ms);
    EXPECT_EQ(session_->window(), 3U);
}

TEST_F(ConsumerSessionTest, WhatIsHandedOverLeavesTheWindowToTheNext) {
    start(1, 0);
    EXPECT_THAT(windows(), ElementsAre(2));
    deliver(host(), 1, 2);
    answer(1ms);
    const Begun first = begin();
    const Begun second = begin();
    session_->hand_over(first.handle, now_.mono);
    session_->hand_over(second.handle, now_.mono);
    turn(2ms);
    EXPECT_THAT(windows(), ElementsAre(4));
    settle(first);
    host().say(Lost{{{2, 1, false}}});
    answer(3ms);
    EXPECT_THAT(windows(), ElementsAre(2));
    EXPECT_FALSE(session_->settle(second.handle, {}, now_.mono));
    EXPECT_EQ(session_->held(), 0U);
}

TEST_F(ConsumerSessionTest, AWindowThatWasSetStaysWhatItIs) {
    start(1, 2);
    deliver(host(), 1, 2);
    answer(1ms);
    session_->hand_over(begin().handle, now_.mono);
    turn(2ms);
    EXPECT_THAT(windows(), ElementsAre(2));
}

TEST_F(ConsumerSessionTest, DrainsInOrder) {
    start(1, 10);
    deliver(host(), 1, 3);
    answer(1ms);
    const Begun begun = begin();
    deliver(host(), 4, 5);
    session_->drain(now_.mono);
    answer(2ms);  // what was on its way goes back as well
    EXPECT_THAT(windows(), ElementsAre(0));
    turn(3ms);
    std::size_t released = 0;
    for (const Settle& settle : host().take<Settle>()) released += settle.others.size();
    EXPECT_EQ(released, 4U);
    EXPECT_FALSE(session_->begin(now_.mono).has_value());
    settle(begun);
    turn(4ms);
    EXPECT_FALSE(session_->quiet());
    host().say(Settled{.count = 5});
    answer(5ms);
    EXPECT_TRUE(session_->quiet());
    session_->bye(now_);
    turn(6ms);
    EXPECT_THAT(host().take<Bye>(), SizeIs(1));
    EXPECT_EQ(session_->next_deadline(), never);
}

TEST_F(ConsumerSessionTest, AHostThatComesByItselfIsServedAndKnownAgainOnAnotherLink) {
    session_.emplace(options(1, 10));
    const Identity identity{{42}};
    hosts_.emplace_back(77);
    host().say_outside(Identify{identity});
    answer(0ms);
    ASSERT_THAT(host().hellos, SizeIs(1));
    host().welcome({.host = identity, .heartbeat_ms = 1000, .lease_ms = 30'000});
    deliver(host(), 1, 2);
    answer(1ms);
    const Begun begun = begin();

    hosts_.emplace_back(78);  // the link was made anew below
    hosts_.back().say_outside(Identify{identity});
    answer(2ms);
    ASSERT_THAT(hosts_.back().hellos, SizeIs(1));
    EXPECT_THAT(offsets(hosts_.back().hellos[0].held), ElementsAre(1, 2));
    hosts_.back().welcome({.host = identity, .heartbeat_ms = 1000, .lease_ms = 30'000});
    answer(3ms);
    settle(begun);
    turn(4ms);
    EXPECT_THAT(hosts_.back().take<Settle>(), SizeIs(1));
}

class AHostThatCameByItself : public ConsumerSessionTest {
protected:
    AHostThatCameByItself() {
        session_.emplace(options(1, 10));
        hosts_.emplace_back(77);
        host().say_outside(Identify{identity});
        answer(0ms);
        host().welcome({.host = identity, .heartbeat_ms = 1000, .lease_ms = 30'000});
        deliver(host(), 1, 2);
        answer(1ms);
        begun_ = begin();
        turn(31s);
        EXPECT_THAT(lost_, SizeIs(1)) << "the handler was told to stop";
        host().hellos.clear();
    }
    const Identity identity{{42}};
    Begun begun_;
};

TEST_F(AHostThatCameByItself, IsSilentButHearsThatWeAreStillAtIt) {
    turn(40s);
    ASSERT_THAT(host().hellos, Not(IsEmpty()));
    EXPECT_THAT(offsets(host().hellos.back().held), ElementsAre(1));
    settle(begun_);
    turn(80s);
    EXPECT_THAT(offsets(host().hellos.back().held), ElementsAre(1)) << "or was";
    host().welcome({.host = identity, .heartbeat_ms = 1000, .lease_ms = 30'000});
    answer(81s);
    EXPECT_THAT(host().take<Settle>(), SizeIs(1));
}

TEST_F(AHostThatCameByItself, IsForgottenWithItsLink) {
    session_->send_failed(77, now_);
    settle(begun_);
    turn(120s);
    EXPECT_THAT(host().hellos, IsEmpty());
    EXPECT_TRUE(session_->quiet());
}

TEST_F(ConsumerSessionTest, OfTwoWaysToOneHostOneIsUsed) {
    session_.emplace(options(1, 10));
    for (PeerId peer = 1; peer <= 2; ++peer) {
        hosts_.emplace_back(peer);
        session_->add_host(peer, "way " + std::to_string(peer));
    }
    const Identity identity{{42}};
    const auto welcome_from = [&](ScriptedHost& way) {
        way.welcome({.host = identity, .heartbeat_ms = 1000, .lease_ms = 30'000});
    };
    turn(0ms);
    for (ScriptedHost& way : hosts_) welcome_from(way);
    answer(0ms);
    welcome_from(hosts_[0]);
    answer(1ms);
    turn(3s);
    EXPECT_EQ(hosts_[0].hellos.size(), 2U) << "the hello on the other way has ended its session";
    EXPECT_EQ(hosts_[1].hellos.size(), 1U);
    EXPECT_THAT(texts(events_, Event::Kind::refused), ElementsAre(HasSubstr("another way to way 1")));
    deliver(hosts_[0], 1, 1);
    answer(4s);
    settle(begin());
    turn(5s);
    EXPECT_THAT(hosts_[0].take<Settle>(), SizeIs(1));
    turn(60s);  // the first way is lost
    EXPECT_GT(hosts_[1].hellos.size(), 1U);
}

TEST_F(ConsumerSessionTest, StrangersThatDoNotIntroduceThemselvesAreIgnored) {
    session_.emplace(options(1, 10));
    session_->receive(5, Slice{std::string("no frame at all")}, at(0ms));
    FrameWriter writer{defaults::frame_limit};
    writer.start_session(1234);
    writer.add(State{true});
    for (std::string& bytes : writer.flush()) session_->receive(5, Slice{std::move(bytes)}, at(0ms));
    session_->turn(at(0ms));
    EXPECT_THAT(session_->take_frames(), IsEmpty());
    EXPECT_EQ(session_->dropped(), 2U);
    EXPECT_THAT(texts(session_->take_events(), Event::Kind::dropped), SizeIs(1));
}

TEST_F(ConsumerSessionTest, TellsWhetherHostsAreEmpty) {
    start(1, 10, 2);
    EXPECT_FALSE(session_->hosts_empty()) << "they have not said";
    for (ScriptedHost& host : hosts_) host.say(State{false});
    answer(1ms);
    EXPECT_TRUE(session_->hosts_empty());
    hosts_[1].say(State{true});
    answer(2ms);
    EXPECT_FALSE(session_->hosts_empty());
}

TEST_F(ConsumerSessionTest, AHostThatDeliversWithoutEndIsCutOff) {
    start(1, 10);
    for (std::uint64_t first = 1; first < 40'000 && session_->connected(); first += 500) {
        deliver(host(), first, first + 499);
        answer(1ms);
    }
    EXPECT_FALSE(session_->connected());
    EXPECT_LE(session_->held(), 2 * std::size_t{defaults::prefetch_max});
    EXPECT_THAT(texts(events_, Event::Kind::lost), ElementsAre(HasSubstr("more than")));
}

// A link that loses and repeats frames and is cut, against a host that leases, times out and counts.
class Chaos {
public:
    explicit Chaos(std::uint64_t seed)
        : random_(seed), session_(options(1 + static_cast<std::uint32_t>(seed % 3), seed % 2 == 0 ? 0 : 8)) {
        session_.add_host(host_.peer(), "host");
        for (std::uint64_t offset = 1; offset <= messages; ++offset) ready_.insert(offset);
    }

    void run() {
        int step = 0;
        for (; step < 20'000 && !(done_.size() == messages && session_.quiet()); ++step) this->step(step < 3000);
        EXPECT_EQ(done_.size(), messages);
        EXPECT_TRUE(session_.quiet());
        EXPECT_TRUE(leased_.empty());
        EXPECT_EQ(twice_, 0U) << "no lease ran out, so nothing may run twice";
    }

private:
    static constexpr std::uint64_t messages = 1500;

    bool one_in(unsigned n) { return random_() % n == 0; }

    void step(bool faults) {
        time_ += std::chrono::milliseconds{random_() % 30};
        now_ = at(time_);
        while (running_.size() < 3 && !one_in(3)) {
            auto begun = session_.begin(now_.mono);
            if (!begun) break;
            EXPECT_TRUE(leased_.contains(begun->offset)) << begun->offset;
            running_.push_back(*begun);
        }
        while (!running_.empty() && one_in(2)) {
            settle(running_.front());
            running_.pop_front();
        }
        session_.turn(now_);
        for (OutFrame& out : session_.take_frames()) {
            if (faults && one_in(60)) {
                session_.send_failed(out.peer, now_);
            } else {
                post(to_host_, out.bytes, faults);
            }
        }
        for (const Event& event : session_.take_events())
            EXPECT_NE(event.kind, Event::Kind::stale_delivery) << event.text;
        while (!to_host_.empty()) {
            host_hears(to_host_.front());
            to_host_.pop_front();
        }
        host_works();
        for (std::string& bytes : host_.said()) post(to_session_, bytes, faults);
        while (!to_session_.empty() && !(faults && one_in(4))) {
            session_.receive(host_.peer(), Slice{to_session_.front()}, now_);
            to_session_.pop_front();
        }
    }

    void settle(const Begun& begun) {
        switch (random_() % 4) {
            case 0:
                session_.settle(begun.handle, {.verdict = Verdict::release}, now_.mono);
                break;
            default:
                session_.settle(begun.handle, {}, now_.mono);
        }
    }

    void post(std::deque<std::string>& link, const std::string& bytes, bool faults) {
        if (faults && one_in(30)) return;
        link.push_back(bytes);
        if (faults && one_in(30)) link.push_back(bytes);
    }

    void host_hears(const std::string& bytes) {
        const std::size_t hellos = host_.hellos.size();
        host_.hear(bytes);
        if (host_.hellos.size() > hellos) {
            on_hello(host_.hellos.back());
            return;
        }
        if (host_.last_verdict == FrameReader::Verdict::gap) in_session_ = false;
        auto settles = host_.take<Settle>();
        for (const Window& window : host_.take<Window>()) window_ = window.messages;
        if (!in_session_) return;
        for (const Settle& settle : settles) {
            for (const AckRun& run : settle.acks) {
                for (std::uint32_t i = 0; i < run.count; ++i) on_settle(run.offset + i, run.token, Verdict::ack);
            }
            for (const SettleOne& one : settle.others) on_settle(one.offset, one.token, one.verdict);
        }
    }

    void on_hello(const Hello& hello) {
        in_session_ = true;
        window_ = hello.window_messages;
        settles_ = 0;
        std::set<std::pair<std::uint64_t, std::uint32_t>> listed;
        std::vector<Held> lost;
        for (const Held& held : hello.held) {
            listed.insert({held.offset, held.token});
            const auto lease = leased_.find(held.offset);
            const bool applied = applied_.contains({held.offset, held.token});
            if (!applied && (lease == leased_.end() || lease->second != held.token)) lost.push_back(held);
        }
        std::erase_if(leased_, [&](const auto& lease) {  // what was on the way to it goes back uncharged
            if (listed.contains(lease)) return false;
            ready_.insert(lease.first);
            return true;
        });
        EXPECT_TRUE(lost.empty());
        host_.welcome({.heartbeat_ms = 1000, .lease_ms = 600'000});
        host_.say(protocol::State{!ready_.empty()});
    }

    void on_settle(std::uint64_t offset, std::uint32_t token, Verdict verdict) {
        ++settles_;
        const auto lease = leased_.find(offset);
        if (lease == leased_.end() || lease->second != token) {
            EXPECT_TRUE(applied_.contains({offset, token})) << "settled, and never leased";
            return;
        }
        leased_.erase(lease);
        applied_.insert({offset, token});
        if (verdict == Verdict::ack) {
            twice_ += done_.insert(offset).second ? 0 : 1;
        } else {
            ready_.insert(offset);
        }
    }

    void host_works() {
        if (!in_session_) return;
        Deliver deliver;
        while (leased_.size() < window_ && !ready_.empty()) {
            const std::uint64_t offset = *ready_.begin();
            ready_.erase(ready_.begin());
            leased_[offset] = ++tokens_[offset];
            deliver.items.push_back({.offset = offset, .token = tokens_[offset], .envelope = Slice{std::string("x")}});
        }
        if (!deliver.items.empty()) host_.say(deliver);
        if (one_in(3)) host_.say(Settled{.count = settles_});
        if (one_in(40)) host_.say(Recall{2});
        host_.heartbeat();
    }

    std::mt19937_64 random_;
    ConsumerSession session_;
    ScriptedHost host_{1};
    Duration time_{};
    Now now_{};
    std::deque<std::string> to_host_;
    std::deque<std::string> to_session_;
    std::deque<Begun> running_;
    bool in_session_ = false;
    std::uint32_t window_ = 0;
    std::uint64_t settles_ = 0;
    std::set<std::uint64_t> ready_;
    std::map<std::uint64_t, std::uint32_t> leased_;
    std::map<std::uint64_t, std::uint32_t> tokens_;
    std::set<std::pair<std::uint64_t, std::uint32_t>> applied_;
    std::set<std::uint64_t> done_;
    std::size_t twice_ = 0;
};

TEST(ConsumerSessionChaos, EverythingIsDoneAndNoAckIsLost) {
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        Chaos{seed}.run();
        if (testing::Test::HasFailure()) return;
    }
}

// What a consumer does to keep strict order.
class StrictConsumer : public ConsumerSessionTest {
protected:
    void start_strict(std::size_t hosts = 1) {
        auto strict = options(4, 10);
        strict.strict = true;
        start(std::move(strict), hosts);
    }
    bool can_begin() { return session_->can_begin(now_.mono); }
    void say_lost(std::uint64_t first, std::uint64_t last, std::uint32_t token = 1) {
        Lost lost;
        for (std::uint64_t offset = first; offset <= last; ++offset) lost.items.push_back({offset, token, false});
        host().say(lost);
    }
    void lose_link(Duration time) {
        session_->send_failed(host().peer(), at(time));
        turn(time + 1s);
    }
};

TEST_F(StrictConsumer, SaysSo) {
    start_strict();
    EXPECT_TRUE(host().hellos[0].strict);
}

TEST_F(StrictConsumer, BeginsOneAtATime) {
    start_strict();
    deliver(host(), 1, 3);
    answer(1ms);
    const Begun first = begin();
    EXPECT_FALSE(can_begin());
    EXPECT_FALSE(session_->begin(now_.mono));
    session_->hand_over(first.handle, now_.mono);
    EXPECT_FALSE(can_begin()) << "that nobody works on it does not end it";
    settle(first);
    EXPECT_EQ(begin().offset, 2U) << "an ack need not be confirmed first";
}

TEST_F(StrictConsumer, BeginsOneAtATimeOverAllItsHosts) {
    start_strict(2);
    deliver(hosts_[0], 1, 1);
    deliver(hosts_[1], 7, 7);
    answer(1ms);
    const Begun first = begin();
    EXPECT_FALSE(can_begin());
    settle(first, {.verdict = Verdict::nack});
    EXPECT_TRUE(can_begin()) << "the barrier is one host's";
    EXPECT_NE(begin().peer, first.peer);
}

TEST_F(StrictConsumer, BeginsNothingBehindOneItGaveBackUntilThatIsConfirmed) {
    for (const Verdict verdict : {Verdict::nack, Verdict::release}) {
        hosts_.clear();
        start_strict();
        deliver(host(), 1, 4);
        answer(1ms);
        settle(begin());
        settle(begin(), {.verdict = verdict});
        EXPECT_FALSE(can_begin());
        turn(2ms);
        say_lost(3, 4);
        deliver(host(), 2, 2, 2);
        host().say(Settled{.count = 1});
        answer(3ms);
        EXPECT_FALSE(can_begin()) << "that was the ack";
        host().say(Settled{.count = 2});
        answer(4ms);
        const Begun again = begin();
        EXPECT_EQ(again.offset, 2U);
        EXPECT_EQ(again.token, 2U);
        EXPECT_EQ(session_->unbegun(), 0U);
        settle(again);
    }
}

TEST_F(StrictConsumer, BeginsBehindOneItGaveBackOnceTheHostHasDecidedSafeOrNot) {
    start_strict();
    deliver(host(), 1, 2);
    answer(1ms);
    settle(begin(), {.verdict = Verdict::nack});
    turn(2ms);
    host().say(Settled{.applied = 1});
    answer(3ms);
    settle(begin());
    EXPECT_EQ(session_->unconfirmed(), 2U);
    EXPECT_EQ(session_->held(), 0U);
}

TEST_F(StrictConsumer, WhatTheHostDidNotTakeBackIsBegunOnceItIsConfirmed) {
    start_strict();
    deliver(host(), 1, 2);
    answer(1ms);
    settle(begin(), {.verdict = Verdict::nack});
    turn(2ms);
    host().say(Settled{.count = 1});
    answer(3ms);
    EXPECT_EQ(begin().offset, 2U);
}

TEST_F(StrictConsumer, ARejectHoldsUpNothing) {
    start_strict();
    deliver(host(), 1, 3);
    answer(1ms);
    settle(begin(), {.verdict = Verdict::reject, .text = "no"});
    settle(begin(), {.verdict = Verdict::undecodable});
    EXPECT_TRUE(can_begin());
}

TEST_F(StrictConsumer, TheBarrierHoldsOverALostSession) {
    start_strict();
    deliver(host(), 1, 3);
    answer(1ms);
    settle(begin(), {.verdict = Verdict::nack});
    turn(2ms);
    host().take<Settle>();
    lose_link(3ms);
    EXPECT_FALSE(can_begin());
    ASSERT_THAT(host().hellos, SizeIs(2));
    EXPECT_THAT(offsets(host().hellos[1].held), ElementsAre(1, 2, 3));
    welcome(host(), {{2, 1, false}, {3, 1, false}});
    deliver(host(), 1, 2, 2);
    answer(1100ms);
    EXPECT_FALSE(can_begin()) << "the nack is said again";
    const auto settles = host().take<Settle>();
    ASSERT_THAT(settles, SizeIs(1));
    ASSERT_THAT(settles[0].others, SizeIs(1));
    host().say(Settled{.applied = 1});
    answer(1101ms);
    EXPECT_EQ(begin().token, 2U);
}

TEST_F(StrictConsumer, AWelcomeThatCallsTheGivenBackOneLostEndsTheBarrier) {
    start_strict();
    deliver(host(), 1, 2);
    answer(1ms);
    settle(begin(), {.verdict = Verdict::release});
    turn(2ms);
    lose_link(3ms);
    welcome(host(), {{1, 1, false}, {2, 1, false}});
    deliver(host(), 1, 1, 3);
    answer(1100ms);
    EXPECT_EQ(begin().token, 3U);
}

TEST_F(StrictConsumer, BeginsNothingBesideAHandlerWhoseLeaseIsOver) {
    start_strict();
    deliver(host(), 1, 2);
    answer(1ms);
    const Begun first = begin();
    say_lost(1, 2);
    deliver(host(), 1, 1, 2);
    answer(2ms);
    EXPECT_THAT(lost_, SizeIs(1));
    EXPECT_FALSE(can_begin());
    settle(first);
    EXPECT_EQ(begin().token, 2U);
}

TEST_F(StrictConsumer, ADrainGivesBackWhatIsNotBegunTheLatestFirst) {
    start_strict();
    deliver(host(), 1, 3);
    answer(1ms);
    const Begun first = begin();
    session_->drain(now_.mono);
    settle(first);
    turn(2ms);
    const auto settles = host().take<Settle>();
    ASSERT_THAT(settles, SizeIs(1));
    ASSERT_THAT(settles[0].others, SizeIs(2));
    EXPECT_EQ(settles[0].others[0].offset, 3U);
    EXPECT_EQ(settles[0].others[1].offset, 2U);
}

TEST_F(ConsumerSessionTest, SaysWhyTheHostEndedItsSession) {
    start(1, 10);
    events_.clear();
    host().say(Refusal{"removed", "the subscription is gone"});
    answer(1ms);
    EXPECT_THAT(texts(events_, Event::Kind::lost), ElementsAre(HasSubstr("the host ended the session")));
    ASSERT_THAT(texts(events_, Event::Kind::refused), ElementsAre(HasSubstr("removed: the subscription is gone")));
    EXPECT_EQ(events_.back().code, "removed");
    EXPECT_TRUE(session_->over());
}

TEST_F(ConsumerSessionTest, WhoIsRemovedDoesNotMakeItsSubscriptionAgain) {
    start(1, 10);
    deliver(host(), 1, 3);
    answer(1ms);
    const Begun first = begin();
    const Begun second = begin();
    settle(first);
    answer(1ms);
    EXPECT_EQ(session_->unconfirmed(), 1U);
    (void)host().take<Hello>();
    host().say(Refusal{"removed", "the subscription is gone"});
    answer(1ms);
    EXPECT_TRUE(session_->is_lost(second.handle));
    settle(second);
    EXPECT_TRUE(session_->quiet());
    for (int i = 0; i < 10; ++i) answer(10s);
    EXPECT_THAT(host().take<Hello>(), IsEmpty());
    EXPECT_EQ(session_->next_deadline(), never);
}

class ReplierSession : public ConsumerSessionTest {
protected:
    void start() {
        auto replier = options(2, 0);
        replier.replier = true;
        ConsumerSessionTest::start(std::move(replier));
    }
    // The offsets of what was given back, and of what was answered, with the bytes of the answers in each command.
    struct Said {
        std::vector<std::uint64_t> released, answered, given_up;
        std::vector<std::size_t> bytes;
    };
    Said said() {
        Said all;
        for (const Settle& settle : host().take<Settle>()) {
            std::size_t bytes = 0;
            for (const SettleOne& one : settle.others) {
                bytes += one.reply.size();
                if (one.verdict == Verdict::release) all.released.push_back(one.offset);
                if (one.verdict == Verdict::nack) all.given_up.push_back(one.offset);
                if (one.verdict == Verdict::ack) all.answered.push_back(one.offset);
            }
            all.bytes.push_back(bytes);
        }
        return all;
    }
};

TEST_F(ReplierSession, HoldsNoMoreThanItsHandlersHaveBegunOrSoonWill) {
    start();
    EXPECT_TRUE(host().hellos.back().replier);
    EXPECT_EQ(session_->window(), 2U) << "what it holds when it dies is lost";
    std::uint64_t offset = 0;
    Duration time = 1ms;
    for (int round = 0; round < 50; ++round, time += 1ms) {
        const std::uint64_t count = session_->window();
        deliver(host(), offset + 1, offset + count);
        offset += count;
        answer(time);
        while (auto begun = session_->begin(at(time + 500us).mono))
            session_->settle(begun->handle, {}, at(time + 500us).mono);
    }
    EXPECT_GT(session_->window(), 10U);
    deliver(host(), offset + 1, offset + 10);
    answer(time);
    (void)begin();
    (void)begin();
    (void)said();
    for (int round = 0; round < 3; ++round) turn(time += 10ms);
    EXPECT_EQ(session_->window(), 2U);
    EXPECT_THAT(said().released, SizeIs(8)) << "at once, though nobody has asked for them";
}

TEST_F(ReplierSession, LargeAnswersGoInCommandsOfTheirOwn) {
    start();
    deliver(host(), 1, 4);
    answer(1ms);
    for (const std::size_t size : std::initializer_list<std::size_t>{40'000, 40'000, 100'000, 10})
        settle(begin(), {.reply = Slice{std::string(size, 'x')}});
    turn(2ms);
    const Said all = said();
    EXPECT_THAT(all.answered, ElementsAre(1, 2, 3, 4));
    EXPECT_THAT(all.bytes, ElementsAre(40'000, 40'000, 100'000, 10));
    host().say(Settled{.count = 4});
    answer(3ms);
    EXPECT_TRUE(session_->quiet());
}

TEST_F(ReplierSession, GivesUpWhatItHasBegunWhenItEnds) {
    start();
    deliver(host(), 1, 2);
    answer(1ms);
    (void)begin();
    session_->drain(at(2ms).mono);
    session_->bye(at(2ms));
    host().hear(session_->take_frames());
    const Said all = said();
    EXPECT_THAT(all.released, ElementsAre(2));
    EXPECT_THAT(all.given_up, ElementsAre(1)) << "a bye would have it begun again";
    EXPECT_THAT(host().take<Bye>(), SizeIs(1));
}

}  // namespace
}  // namespace posthorn::protocol
