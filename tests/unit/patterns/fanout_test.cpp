// What is special to the ends of fanout: their options and what they refuse. The rest is conformance's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <posthorn/fanout.hpp>

#include "fixture.hpp"

namespace posthorn::fanout {
namespace {

using ::testing::HasSubstr;
using work_queue::Events;
using work_queue::fault_of;
using work_queue::patience;

class FanoutEnds : public ::testing::Test {
protected:
    [[nodiscard]] static Here with(std::vector<Subscription> subscriptions) {
        Here options;
        options.bind = "inproc://t";
        options.subscriptions = std::move(subscriptions);
        return options;
    }
    [[nodiscard]] static Home home() { return here(with({{.name = "s"}})); }
    [[nodiscard]] Subscriber subscriber(SubscriberOptions options) {
        return {context_, "t", "s", at("inproc://t"), std::move(options)};
    }
    static Delivery take(Subscriber& one) { return std::move(*one.receive(patience)); }

    Events events_;
    Context context_{events_.hook()};
};

TEST_F(FanoutEnds, WhatTheyCannotBeIsNamed) {
    const auto publisher = [&](const std::vector<Subscription>& subscriptions) {
        return fault_of([&] { const Publisher made(context_, "t", here(with(subscriptions))); });
    };
    const auto subscribes = [&](const SubscriberOptions& options) {
        return fault_of([&] { const Subscriber made(context_, "t", "s", at("inproc://t"), options); });
    };
    Here retained = with({});
    retained.retain = Retention{.age = -1s};
    const auto retains = [&] { return fault_of([&] { const Publisher made(context_, "t", here(retained)); }); };
    EXPECT_THAT(retains(), HasSubstr("retain.age"));
    retained.retain = Retention{};
    EXPECT_THAT(retains(), HasSubstr("needs a store"));
    EXPECT_THAT(publisher({{.name = ".retained"}}), HasSubstr("kept for retained topics"));
    EXPECT_THAT(fault_of([&] { const Publisher made(context_, "a/b", at("inproc://t")); }),
                HasSubstr("not a queue name"));
    EXPECT_THAT(fault_of([&] { const Subscriber made(context_, "t", "a/b", at("inproc://t")); }), HasSubstr("t/a/b"));
    EXPECT_THAT(fault_of([&] { const Subscriber made(context_, "t", "s", home()); }),
                HasSubstr("SubscriberOptions.bind"));
    EXPECT_THAT(fault_of([&] { const work_queue::Producer made(context_, "t", home()); }), HasSubstr("for a topic"));
    EXPECT_THAT(subscribes({.concurrency = 0}), HasSubstr("SubscriberOptions.concurrency"));
    EXPECT_THAT(subscribes({.prefetch = 20'000}), HasSubstr("SubscriberOptions.prefetch"));
    EXPECT_THAT(subscribes({.bindings = std::vector<Binding>(1000)}), HasSubstr("bindings"));
    QueuePolicy no_attempts;
    no_attempts.max_attempts = 0;
    const Subscription never{.name = "a", .policy = no_attempts};
    EXPECT_THAT(publisher({{.name = "a b"}}), HasSubstr("\"a b\""));
    EXPECT_THAT(publisher({{.name = "a"}, {.name = "a"}}), HasSubstr("twice"));
    EXPECT_THAT(publisher({never}), HasSubstr("max_attempts"));
}

TEST_F(FanoutEnds, ALaterSubscriberOfTheNameEndsTheEarlier) {
    Publisher publisher{context_, "t", home(), {.close_timeout = 0ms}};
    Subscriber earlier = subscriber({.name = "one"});
    EXPECT_EQ(publisher.send("x").status(), Status::ok);
    const Delivery out = take(earlier);
    Subscriber later = subscriber({.name = "one"});
    EXPECT_EQ(take(later).ack(), Status::ok);
    EXPECT_TRUE(events_.wait(Event::Kind::refused));
}

TEST_F(FanoutEnds, ConcurrencyBoundsWhatIsUnsettled) {
    Publisher publisher{context_, "t", home(), {.close_timeout = 0ms}};
    const Ticket ticket = publisher.send(std::vector<std::string>{"1", "2", "3"});
    Subscriber two = subscriber({.concurrency = 2});
    const Delivery first = take(two);
    const Delivery second = take(two);
    EXPECT_EQ(two.receive(50ms).status(), Status::timed_out);
}

TEST_F(FanoutEnds, PrefetchBoundsWhatIsHeld) {
    Publisher publisher{context_, "t", home(), {.close_timeout = 0ms}};
    Subscriber hoards = subscriber({.prefetch = 3});
    const Ticket ticket = publisher.send(std::vector<std::string>{"1", "2", "3", "4"});
    const Delivery first = take(hoards);
    Subscriber other = subscriber({.prefetch = 1});
    EXPECT_EQ(take(other).message().payload, "4");
}

TEST_F(FanoutEnds, PublishersThatComeAndGoConnectToASubscriberThatBinds) {
    Subscriber binds{context_, "t", "s", Home{}, {.bind = {"tcp://127.0.0.1:*"}}};
    Here options = with({{.name = "s"}});
    options.bind.clear();
    options.connect = binds.endpoints();
    Publisher publisher{context_, "t", here(options)};
    EXPECT_EQ(publisher.send("x").status(), Status::ok);
    EXPECT_EQ(take(binds).ack(), Status::ok);
}

TEST_F(FanoutEnds, StopTokensFireWhenADrainTakesTooLong) {
    Publisher publisher{context_, "t", home(), {.close_timeout = 0ms}};
    Subscriber one = subscriber({.drain_timeout = 10ms});
    EXPECT_EQ(publisher.send("text").status(), Status::ok);
    EXPECT_LT(work_queue::stopped_while_busy(one), SubscriberOptions{}.drain_timeout) << "not the default";
}

}  // namespace
}  // namespace posthorn::fanout
