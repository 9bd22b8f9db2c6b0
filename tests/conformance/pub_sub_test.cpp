// Publish-subscribe: live, in order, at most once; and what does not come is counted, exactly.
#include <set>
#include <thread>

#include <posthorn/pub_sub.hpp>

#include "fixture.hpp"

namespace posthorn::pub_sub {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using work_queue::In;
using work_queue::over_all;
using work_queue::patience;
using work_queue::Place;

std::vector<Message> numbered(std::size_t count, const std::vector<std::string>& subjects) {
    std::vector<Message> messages(count);
    for (std::size_t i = 0; i < count; ++i) {
        messages[i].payload = std::to_string(i);
        messages[i].subject = subjects[i % subjects.size()];
    }
    return messages;
}

class PubSub : public work_queue::ConformanceOf<Publisher> {
protected:
    void open_live(LivePolicy policy = {}) {
        live_ = policy;
        open();
    }
    [[nodiscard]] Subscriber subscriber(const SubscriberOptions& options = {}) {
        return {workers(), "q", queue(), options};
    }
    void await_subscribers(std::uint32_t count) {
        ASSERT_EQ(producer().wait_for_subscribers(count, patience), Status::ok);
    }
    static std::string next(Subscriber& from) {
        Received received = from.receive(patience);
        return received ? received->payload : std::string{to_string(received.status())};
    }
    static std::vector<std::string> next(Subscriber& from, std::size_t count) {
        std::vector<std::string> payloads;
        while (payloads.size() < count) payloads.push_back(next(from));
        return payloads;
    }
};

TEST_P(PubSub, EachGetsWhatItsFilterMatches) {
    open_live();
    Subscriber all = subscriber();
    Subscriber some = subscriber({.match = {{.subject = "a.*"}, {.headers = {{"urgent", "yes"}}}}});
    await_subscribers(2);
    EXPECT_EQ(send({.payload = "1", .subject = "a.x"}).wait(patience), Status::ok);
    EXPECT_EQ(send({.payload = "2", .subject = "b"}).wait(patience), Status::ok);
    EXPECT_EQ(send({.payload = "3", .headers = {{"urgent", "yes"}}, .subject = "b"}).wait(patience), Status::ok);
    EXPECT_THAT(next(all, 3), ElementsAre("1", "2", "3"));
    EXPECT_THAT(next(some, 2), ElementsAre("1", "3"));
    EXPECT_EQ(all.matched(), 3U);
    EXPECT_EQ(some.matched(), 2U);
    EXPECT_EQ(some.received(), 2U);
}

TEST_P(PubSub, ThatNobodyListensIsNoRefusal) {
    open_live();
    EXPECT_EQ(producer().wait_for_subscribers(1, 1ms), Status::timed_out);
    EXPECT_EQ(producer().send(numbered(100, {"a"})).wait(patience), Status::ok);
    Subscriber late = subscriber();
    await_subscribers(1);
    send({.payload = "now"});
    EXPECT_EQ(next(late), "now") << "nothing was kept";
}

// One that reads when it likes, over sessions that are lost on both sides.
TEST_P(PubSub, ReceivedAndMissedIsWhatWasMatched) {
    constexpr std::size_t rounds = 10;
    constexpr std::size_t batch = 6000;
    open_live({.max_messages = 1500});
    Subscriber slow = subscriber({.match = {{.subject = "a"}}, .buffer_messages = 200});
    Subscriber quick = subscriber({.match = {{.subject = "b"}}});
    await_subscribers(2);
    std::uint64_t last = 0;
    const auto in_order = [&](const std::string& payload) {
        const std::uint64_t number = std::stoull(payload) + 1;
        EXPECT_GT(number, last);
        last = number;
    };
    for (std::size_t round = 0; round < rounds; ++round) {
        std::vector<Message> messages = numbered(batch, {"a", "b"});
        for (Message& one : messages) one.payload = std::to_string(round * batch + std::stoull(one.payload));
        ASSERT_EQ(producer().send(messages).wait(patience), Status::ok);
        if (round % 3 == 1) clock_.advance(20s);  // neither end is heard in time
        while (slow.matched() < round * batch / 2) in_order(next(slow));
        while (quick.matched() < (round + 1) * batch / 2) (void)next(quick);
    }
    while (slow.matched() < rounds * batch / 2) in_order(next(slow));
    EXPECT_EQ(slow.matched(), rounds * batch / 2);
    EXPECT_EQ(slow.received() + slow.missed(), slow.matched());
    EXPECT_EQ(quick.received() + quick.missed(), quick.matched());
    EXPECT_GT(slow.missed(), 0U) << "else this has shown little";
    EXPECT_EQ(slow.breaks() + quick.breaks(), 0U);
    EXPECT_TRUE(event(Event::Kind::missed));
}

TEST_P(PubSub, WhereThePublisherWaitsNothingIsMissed) {
    constexpr std::size_t count = 3000;
    open_live({.max_messages = 100, .when_full = WhenFull::block});
    Subscriber slow = subscriber({.buffer_messages = 50});
    await_subscribers(1);
    std::jthread publishes{[&] { EXPECT_EQ(producer().send(numbered(count, {"a"})).wait(patience), Status::ok); }};
    for (std::size_t i = 0; i < count; ++i) {
        ASSERT_EQ(next(slow), std::to_string(i));
        if (i == count / 2) clock_.advance(20s);
    }
    EXPECT_EQ(slow.missed(), 0U);
    EXPECT_EQ(slow.received(), count);
}

TEST_P(PubSub, ALateOneGetsTheLastValuesFirst) {
    open_live({.last_values = 100});
    ASSERT_EQ(producer().send(numbered(50, {"a", "b", "c.d"})).wait(patience), Status::ok);
    Subscriber late = subscriber({.match = {{.subject = "a"}, {.subject = "c.*"}}});
    await_subscribers(1);
    send({.payload = "live", .subject = "a"});
    EXPECT_THAT(next(late, 3), ElementsAre("47", "48", "live"));
    EXPECT_EQ(late.matched(), 3U);
}

TEST_P(PubSub, AHostThatHasStartedAgainIsSaid) {
    open_live();
    Subscriber one = subscriber();
    await_subscribers(1);
    send({.payload = "before"});
    EXPECT_EQ(next(one), "before");
    restart();
    clock_.advance(20s);  // or it would be seen only after a while that it is gone
    while (one.breaks() == 0) ASSERT_NE(one.receive(10ms).status(), Status::closed);
    send({.payload = "after"});
    EXPECT_EQ(next(one), "after");
    EXPECT_EQ(one.breaks(), 1U);
    EXPECT_EQ(one.matched(), 2U);
}

TEST_P(PubSub, TheEndOfAPublisherLosesNothing) {
    open_live();
    Subscriber slow = subscriber({.buffer_messages = 100});
    await_subscribers(1);
    (void)producer().send(numbered(1000, {"a"}));
    std::jthread ends{[&] { EXPECT_EQ(producer().close(patience), 0U); }};
    for (int i = 0; i < 1000; ++i) ASSERT_EQ(next(slow), std::to_string(i));
}

TEST_P(PubSub, OtherKindsAreRefused) {
    open_live();
    work_queue::Worker worker{workers(), "q", queue()};
    EXPECT_TRUE(event(Event::Kind::refused));
    EXPECT_FALSE(worker.connected());
}

TEST_P(PubSub, AHandlerThatThrowsMissesNothing) {
    open_live();
    Subscriber subscriber = this->subscriber();
    await_subscribers(1);
    producer().send(numbered(3, {"a"}));
    std::stop_source stop;
    std::vector<std::string> seen;
    const auto handler = [&](const Message& message) {
        seen.push_back(message.payload);
        if (seen.size() == 3) stop.request_stop();
        if (seen.size() == 2) throw std::runtime_error("no");
    };
    EXPECT_EQ(subscriber.run(handler, until(stop.get_token())), Status::ok);
    EXPECT_THAT(seen, ElementsAre("0", "1", "2"));
    EXPECT_TRUE(event(Event::Kind::dropped));
    EXPECT_THROW((void)subscriber.receive(0ms), Error) << "one way or the other";
}

INSTANTIATE_TEST_SUITE_P(Conformance, PubSub, ::testing::ValuesIn(over_all({In::memory, In::node})),
                         ::testing::PrintToStringParamName());

}  // namespace
}  // namespace posthorn::pub_sub
