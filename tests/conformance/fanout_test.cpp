// Fanout: every subscription of a topic gets what its bindings match, and is a queue of its own from there on.
#include <algorithm>
#include <set>

#include <posthorn/fanout.hpp>

#include "fixture.hpp"

namespace posthorn::fanout {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using work_queue::everywhere;
using work_queue::patience;
using work_queue::Place;
using work_queue::with_a_store;

class Fanout : public work_queue::ConformanceOf<Publisher> {
protected:
    [[nodiscard]] Subscriber subscriber(const std::string& name, SubscriberOptions options = {}) {
        return {workers(), "q", name, queue(), std::move(options)};
    }
    // Connected, so its subscription is there.
    [[nodiscard]] Subscriber welcome(const std::string& name, SubscriberOptions options = {}) {
        Subscriber one = subscriber(name, std::move(options));
        const auto deadline = std::chrono::steady_clock::now() + patience;
        while (!one.connected() && std::chrono::steady_clock::now() < deadline) (void)one.receive(1ms);
        EXPECT_TRUE(one.connected());
        return one;
    }
    void publish(const std::string& subject, std::map<std::string, std::string> headers = {}) {
        await_arrival(send({.payload = subject, .headers = std::move(headers), .subject = subject}));
    }
};
class FanoutOverLives : public Fanout {};

TEST_P(Fanout, EverySubscriptionGetsEveryMessage) {
    subscriptions_ = {{.name = "inventory"}, {.name = "billing"}};
    open();
    std::vector<Message> messages(300);
    std::vector<std::string> expected;
    for (std::size_t i = 0; i < messages.size(); ++i) {
        expected.push_back(messages[i].payload = std::to_string(i));
    }
    const Ticket ticket = producer().send(messages);
    Subscriber inventory = subscriber("inventory");
    EXPECT_EQ(take_all(inventory, messages.size()), expected);
    if (!stores()) {
        EXPECT_EQ(ticket.wait(10ms), Status::timed_out) << "billing has not settled them";
    }
    Subscriber billing = subscriber("billing");
    EXPECT_EQ(take_all(billing, messages.size()), expected);
    EXPECT_EQ(ticket.wait(patience), Status::ok);
    EXPECT_TRUE(nothing_comes(inventory));
    EXPECT_TRUE(nothing_comes(billing));
}

TEST_P(Fanout, ConsumersOfASubscriptionCompete) {
    subscriptions_ = {{.name = "a"}};
    open();
    Subscriber one = subscriber("a");
    Subscriber other = subscriber("a");
    arrive({{.payload = "1"}, {.payload = "2"}});
    Delivery first = take(one);
    Delivery second = take(other);
    EXPECT_NE(first.message().payload, second.message().payload);
    EXPECT_EQ(first.ack(), Status::ok);
    EXPECT_EQ(second.ack(), Status::ok);
    EXPECT_TRUE(nothing_comes(one));
}

// RabbitMQ's exchanges: direct, fanout, topic and headers.
TEST_P(Fanout, BindingsSayWhoGetsWhat) {
    subscriptions_ = {{.name = "direct", .bindings = {{.subject = "log.error"}, {.subject = "log.fatal"}}},
                      {.name = "fanout"},
                      {.name = "topic", .bindings = {{.subject = "*.error"}, {.subject = "pay.#"}}},
                      {.name = "all", .bindings = {{.headers = {{"region", "eu"}, {"urgent", "yes"}}}}},
                      {.name = "any", .bindings = {{.headers = {{"region", "eu"}, {"urgent", "yes"}}, .any = true}}}};
    open();
    publish("log.error");
    publish("log.info", {{"region", "eu"}});
    publish("pay", {{"region", "eu"}, {"urgent", "yes"}});
    publish("pay.card.error", {{"urgent", "no"}});
    const auto gets = [&](const std::string& name, const std::vector<std::string>& expected) {
        Subscriber one = subscriber(name);
        EXPECT_EQ(take_all(one, expected.size()), expected) << name;
        EXPECT_TRUE(nothing_comes(one)) << name;
    };
    gets("direct", {"log.error"});
    gets("fanout", {"log.error", "log.info", "pay", "pay.card.error"});
    gets("topic", {"log.error", "pay", "pay.card.error"});
    gets("all", {"pay"});
    gets("any", {"log.info", "pay"});
}

TEST_P(Fanout, WhatReachesNobodyIsRefused) {
    subscriptions_ = {{.name = "errors", .bindings = {{.subject = "error"}}}};
    open();
    const Ticket none = send({.payload = "x", .subject = "info"});
    const Ticket some = send({.payload = "y", .subject = "error"});
    EXPECT_EQ(none.wait(patience), Status::rejected);
    EXPECT_THAT(none.refusal(), HasSubstr("no_subscription"));
    Subscriber errors = subscriber("errors");
    EXPECT_THAT(take_all(errors, 1), ElementsAre("y"));
    EXPECT_EQ(some.wait(patience), Status::ok);
}

TEST_P(Fanout, FailuresAreOfOneSubscription) {
    subscriptions_ = {{.name = "bad"}, {.name = "good"}};
    QueuePolicy twice = policy();
    twice.max_attempts = 2;
    open(twice);
    const Ticket ticket = producer().send("x");
    Subscriber good = subscriber("good");
    Subscriber bad = subscriber("bad");
    for (const std::uint32_t attempt : {1U, 2U}) {
        Delivery delivery = take(bad);
        EXPECT_EQ(delivery.attempt(), attempt);
        EXPECT_EQ(delivery.nack("never"), Status::ok);
    }
    EXPECT_TRUE(dead_letter_of("max_attempts"));
    Delivery delivery = take(good);
    EXPECT_EQ(delivery.attempt(), 1U);
    EXPECT_EQ(delivery.ack(), Status::ok);
    EXPECT_EQ(ticket.wait(patience), Status::ok);
}

TEST_P(Fanout, ADeadSubscriptionHoldsUpNobody) {
    QueuePolicy small = policy();
    small.max_messages = 5;
    subscriptions_ = {{.name = "dead", .policy = small}, {.name = "live"}};
    producer_options_.buffer_messages = 2;  // less than what the dead one holds
    open();
    Subscriber live = subscriber("live");
    for (int i = 0; i < 100; ++i) {
        const std::string sent = std::to_string(i);
        ASSERT_EQ(producer().send(sent).status(), Status::ok);
        EXPECT_THAT(take_all(live, 1), ElementsAre(sent));
    }
    EXPECT_TRUE(event(Event::Kind::overflow));
    Subscriber dead = subscriber("dead");
    EXPECT_THAT(take_all(dead, 1), SizeIs(1));
}

TEST_P(Fanout, OneThatBlocksHoldsUpThePublisher) {
    QueuePolicy small = policy();
    small.max_messages = 1;
    small.when_full = WhenFull::block;
    subscriptions_ = {{.name = "slow", .policy = small}, {.name = "quick"}};
    open();
    arrive({{.payload = "1"}});
    const Ticket second = producer().send("2");
    Subscriber quick = subscriber("quick");
    EXPECT_THAT(take_all(quick, 1), ElementsAre("1"));
    EXPECT_TRUE(nothing_comes(quick));
    EXPECT_EQ(second.level(), Level::none);
    Subscriber slow = subscriber("slow");
    EXPECT_THAT(take_all(slow, 2), ElementsAre("1", "2"));
    EXPECT_THAT(take_all(quick, 1), ElementsAre("2"));
    EXPECT_EQ(second.wait(patience), Status::ok);
}

TEST_P(Fanout, ASubscriberMakesItsSubscriptionAndLeavesItBehind) {
    open();
    EXPECT_EQ(producer().send("too early").wait(patience), Status::rejected);
    {
        Subscriber one = welcome("late");
        EXPECT_EQ(one.drain(patience), Status::ok);
    }
    arrive({{.payload = "kept"}});
    Subscriber again = subscriber("late");
    EXPECT_THAT(take_all(again, 1), ElementsAre("kept"));
}

TEST_P(Fanout, ATemporarySubscriptionGoesWithItsLastConsumer) {
    open();
    {
        Subscriber one = welcome("t", {.temporary = true});
        Subscriber other = welcome("t", {.temporary = true});
        EXPECT_EQ(one.drain(patience), Status::ok);
        arrive({{.payload = "x"}});
        EXPECT_EQ(take(other).release(), Status::ok);
        EXPECT_EQ(other.drain(patience), Status::ok);
    }
    // Its bye is on its way to the host, by another link.
    const auto deadline = std::chrono::steady_clock::now() + patience;
    Ticket ticket = producer().send("y");
    while (ticket.wait(stores() ? patience : 5ms) != Status::rejected) {
        ASSERT_LT(std::chrono::steady_clock::now(), deadline);
        ticket = producer().send("y");
    }
    EXPECT_THAT(ticket.refusal(), HasSubstr("no_subscription"));
    EXPECT_EQ(producer().flush(patience), Status::rejected) << "nobody is left who would have to settle anything";
    Subscriber later = welcome("t");
    EXPECT_TRUE(nothing_comes(later)) << "that is a new one";
}

TEST_P(Fanout, AnExclusiveConsumerIsAlone) {
    subscriptions_ = {{.name = "audit"}};
    open();
    Subscriber only = welcome("audit", {.exclusive = true});
    Subscriber other = subscriber("audit");
    EXPECT_TRUE(event(Event::Kind::refused));
    arrive({{.payload = "1"}});
    EXPECT_THAT(take_all(only, 1), ElementsAre("1"));
    EXPECT_FALSE(other.connected());
    EXPECT_EQ(only.drain(patience), Status::ok);
    arrive({{.payload = "2"}});
    EXPECT_THAT(take_all(other, 1), ElementsAre("2")) << "it comes again";
}

TEST_P(Fanout, ASubscriberMayBindAnew) {
    subscriptions_ = {{.name = "all"}};
    open();
    {
        Subscriber one = welcome("s", {.bindings = {{{.subject = "old"}}}});
        publish("old");
        publish("new");
        EXPECT_THAT(take_all(one, 1), ElementsAre("old"));
        EXPECT_EQ(one.drain(patience), Status::ok);
    }
    Subscriber one = welcome("s", {.bindings = {{{.subject = "new"}}}});
    publish("old");
    publish("new");
    EXPECT_THAT(take_all(one, 1), ElementsAre("new"));
    EXPECT_TRUE(nothing_comes(one));
}

TEST_P(Fanout, AQueueIsNoTopic) {
    open();
    const Ticket ticket = producer().send("x");
    EXPECT_EQ(ticket.wait(patience), Status::rejected);
    const work_queue::Worker worker{workers(), "q", queue()};
    EXPECT_TRUE(event(Event::Kind::refused));
}

TEST_P(FanoutOverLives, SubscriptionsAndTheirPlacesStay) {
    subscriptions_ = {{.name = "declared"}};
    open();
    {
        Subscriber made = welcome("made", {.bindings = {{{.subject = "a.#"}}}});
        for (const char* subject : {"a.1", "b.2", "a.3"}) publish(subject);
        Delivery first = take(made);
        EXPECT_EQ(first.ack_sync(patience), Status::ok);
        EXPECT_EQ(made.drain(patience), Status::ok);
    }
    EXPECT_EQ(producer().flush(patience), Status::ok);
    restart();
    publish("a.4");
    publish("b.5");
    Subscriber made = subscriber("made");
    EXPECT_THAT(take_all(made, 2), ElementsAre("a.3", "a.4"));
    EXPECT_TRUE(nothing_comes(made));
    Subscriber declared = subscriber("declared");
    EXPECT_THAT(take_all(declared, 5), ElementsAre("a.1", "b.2", "a.3", "a.4", "b.5"));
}

TEST_P(FanoutOverLives, ATemporarySubscriptionWaitsForItsConsumer) {
    open();
    Subscriber lasting = welcome("lasting", {.temporary = true});
    arrive({{.payload = "1"}});
    Delivery held = take(lasting);
    restart();
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (send({.payload = "2"}).wait(patience) == Status::rejected) {
        ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "the subscription is gone";
    }
    EXPECT_EQ(held.ack(), Status::ok);
    EXPECT_THAT(take_all(lasting, 1), ElementsAre("2"));
}

// What becomes of the messages: they wait, or are dead letters, for each was rejected or there were too many of them.
enum class Fate { wait, rejected, too_many };

// Bytes on the disk of as many subscriptions.
std::uintmax_t disk_of(int subscriptions, Fate fate) {
    const TempFolder folder;
    Here home = work_queue::stored_at(work_queue::here_at(folder.ipc("socket")), folder.path() / "store");
    for (int i = 0; i < subscriptions; ++i) home.subscriptions.push_back({.name = std::to_string(i)});
    home.queue.storm_after = 0;
    if (fate == Fate::too_many) home.queue.max_messages = 100;
    std::vector<Message> messages(fate == Fate::wait ? 20'000 : 2'000);
    for (std::size_t i = 0; i < messages.size(); ++i) {
        messages[i].payload.assign((fate == Fate::wait ? 100 : 500) + i % 57, 'x');
    }
    Context context;
    {
        Publisher publisher{context, "q", here(home)};
        EXPECT_EQ(publisher.send(messages).wait(patience), Status::ok);
        for (int i = 0; i < (fate == Fate::rejected ? subscriptions : 0); ++i) {
            Subscriber one{context, "q", std::to_string(i), at(home.bind), {.concurrency = 1000}};
            for (std::size_t left = messages.size(); left != 0; --left) {
                auto delivery = one.receive(patience);
                if (!delivery) {
                    ADD_FAILURE() << left << " are missing";
                    return 0;
                }
                (void)delivery->reject("bad");
            }
            EXPECT_EQ(one.drain(patience), Status::ok);
        }
    }
    std::uintmax_t bytes = 0;
    for (const auto& file : std::filesystem::directory_iterator(folder.path() / "store")) bytes += file.file_size();
    return bytes;
}

TEST(FanoutDisk, EightSubscriptionsTakeLittleMoreThanOne) {
    for (const Fate fate : {Fate::wait, Fate::rejected, Fate::too_many}) {
        const std::uintmax_t one = disk_of(1, fate);
        EXPECT_GT(one, 1'000'000U);
        EXPECT_LT(static_cast<double>(disk_of(8, fate)), 1.2 * static_cast<double>(one)) << static_cast<int>(fate);
    }
}

TEST_P(FanoutOverLives, ASubscriptionOfARetainedTopicBeginsInThePast) {
    retain_ = {.messages = 4};
    open();
    for (const char* subject : {"a.1", "b.2", "a.3", "b.4", "a.5"}) publish(subject);
    EXPECT_EQ(send({.payload = "a.6", .subject = "a.6"}).wait(patience), Status::ok) << "nobody else has to want it";
    Subscriber all = subscriber("all", {.from = From::first()});
    Delivery first = take(all);
    EXPECT_EQ(first.message().payload, "a.3");
    const std::uint64_t third = first.sequence();
    EXPECT_EQ(first.ack(), Status::ok);
    EXPECT_THAT(take_all(all, 3), ElementsAre("b.4", "a.5", "a.6"));
    restart();
    Subscriber behind = subscriber("behind", {.bindings = {{{.subject = "a.*"}}}, .from = From::sequence(third + 1)});
    EXPECT_THAT(take_all(behind, 2), ElementsAre("a.5", "a.6"));
    publish("a.7");
    EXPECT_THAT(take_all(behind, 1), ElementsAre("a.7"));
    EXPECT_THAT(take_all(all, 1), ElementsAre("a.7"));
    Subscriber latest = subscriber("latest", {.from = From::last()});
    Delivery last = take(latest);
    EXPECT_EQ(last.message().payload, "a.7");
    EXPECT_GT(last.sequence(), third);
    EXPECT_EQ(last.ack(), Status::ok);
}

TEST_P(FanoutOverLives, WhatIsNotRetainedIsNotThere) {
    open();
    Subscriber one = subscriber("one", {.from = From::first()});
    EXPECT_TRUE(event(Event::Kind::refused));
}

INSTANTIATE_TEST_SUITE_P(Conformance, Fanout, ::testing::ValuesIn(everywhere()), ::testing::PrintToStringParamName());
INSTANTIATE_TEST_SUITE_P(Conformance, FanoutOverLives, ::testing::ValuesIn(with_a_store()),
                         ::testing::PrintToStringParamName());

}  // namespace
}  // namespace posthorn::fanout
