// Point-to-point: one receiver at a time, in strict order, over failures as well.
#include <algorithm>
#include <atomic>

#include <posthorn/point_to_point.hpp>

#include "fixture.hpp"

namespace posthorn::work_queue {
namespace {

using point_to_point::Receiver;
using point_to_point::ReceiverOptions;
using point_to_point::Sender;
using ::testing::ElementsAre;

class PointToPoint : public ConformanceOf<Sender> {
protected:
    [[nodiscard]] static QueuePolicy policy(bool retry_aside = false) {
        QueuePolicy policy = ConformanceOf::policy();
        policy.retry_aside = retry_aside;
        return policy;
    }
    [[nodiscard]] Receiver receiver(ReceiverOptions options = {}) {
        return Receiver{workers(), "q", queue(), std::move(options)};
    }
    void send_numbers(int count) {
        std::vector<Message> messages;
        messages.reserve(static_cast<std::size_t>(count));
        for (int i = 0; i < count; ++i) messages.push_back({.payload = std::to_string(i)});
        arrive(messages);
    }
    [[nodiscard]] static std::string payload_of(const Delivery& delivery) { return delivery.message().payload; }
    [[nodiscard]] static std::vector<std::string> numbers(int first, int last) {
        std::vector<std::string> all;
        all.reserve(static_cast<std::size_t>(last + 1 - first));
        for (; first <= last; ++first) all.push_back(std::to_string(first));
        return all;
    }
    // Handles them until `count` are done, with a verdict of one's own.
    template <typename F>
    void run_until(Receiver& receiver, Log<std::string>& done, std::size_t count, F handler) {
        std::stop_source over;
        std::jthread runs{[&] { EXPECT_EQ(receiver.run(handler, until(over.get_token())), Status::ok); }};
        (void)done.wait(count);
        over.request_stop();
    }
};
class PointToPointOverLives : public PointToPoint {};

TEST_P(PointToPoint, OrderHoldsOverFailuresAndReleases) {
    open();
    constexpr int count = 200;
    send_numbers(count);
    Receiver one = receiver();
    Log<std::string> begun;
    Log<std::string> done;
    run_until(one, done, count, [&](Delivery& delivery) {
        const std::string number = payload_of(delivery);
        const bool again = !begun.now().empty() && begun.now().back() == number;
        begun.add(number);
        if (!again && number.ends_with("5")) {
            delivery.nack("once");
        } else if (!again && number.ends_with("8")) {
            delivery.release();
        } else {
            done.add(number);
        }
    });
    EXPECT_EQ(done.now(), numbers(0, count - 1));
    std::vector<std::string> all = begun.now();
    EXPECT_EQ(all.size(), static_cast<std::size_t>(count + 40));
    EXPECT_EQ(std::unique(all.begin(), all.end()) - all.begin(), count) << "what came back came next";
}

TEST_P(PointToPoint, AFailedMessageHoldsUpTheOthers) {
    open();
    send_numbers(3);
    Receiver one = receiver();
    EXPECT_EQ(take(one).nack(1h, "not now"), Status::ok);
    EXPECT_TRUE(nothing_comes(one));
    clock_.advance(1h);
    EXPECT_THAT(take_all(one, 3), ElementsAre("0", "1", "2"));
}

TEST_P(PointToPoint, WithRetryAsideAFailedMessageStepsAside) {
    open(policy(true));
    send_numbers(3);
    Receiver one = receiver();
    EXPECT_EQ(take(one).nack(1h, "not now"), Status::ok);
    EXPECT_THAT(take_all(one, 2), ElementsAre("1", "2"));
    EXPECT_TRUE(nothing_comes(one));
    clock_.advance(1h);
    Delivery again = take(one);
    EXPECT_EQ(payload_of(again), "0");
    EXPECT_EQ(again.attempt(), 2U);
    EXPECT_EQ(again.ack(), Status::ok);
}

TEST_P(PointToPoint, ADeadLetterIsOutOfTheLine) {
    open();
    send_numbers(3);
    Receiver one = receiver();
    EXPECT_EQ(take(one).reject("no good"), Status::ok);
    EXPECT_THAT(take_all(one, 2), ElementsAre("1", "2"));
    EXPECT_TRUE(dead_letter_of("rejected"));
}

TEST_P(PointToPoint, OneIsBegunAtATimeThoughMoreAreThere) {
    open();
    send_numbers(3);
    Receiver one = receiver({.prefetch = 3});
    Delivery first = take(one);
    EXPECT_TRUE(nothing_comes(one)) << "it is not settled";
    EXPECT_EQ(first.ack(), Status::ok);
    EXPECT_THAT(take_all(one, 2), ElementsAre("1", "2"));
}

TEST_P(PointToPoint, AStandbyTakesOverWhenTheActiveOneEnds) {
    open();
    send_numbers(4);
    std::optional<Receiver> first{receiver()};
    EXPECT_THAT(take_all(*first, 1), ElementsAre("0"));
    Receiver second = receiver();
    EXPECT_TRUE(nothing_comes(second)) << "it stands by";
    EXPECT_THAT(take_all(*first, 1), ElementsAre("1"));
    std::optional<Delivery> left{take(*first)};
    EXPECT_TRUE(nothing_comes(second));
    first.reset();
    EXPECT_NE(left->ack(), Status::ok) << "too late";
    EXPECT_THAT(take_all(second, 2), ElementsAre("2", "3"));
}

TEST_P(PointToPoint, ALaterReceiverOfTheNameEndsTheEarlier) {
    open();
    send_numbers(1);
    Receiver earlier = receiver({.name = "one"});
    const Delivery out = take(earlier);
    Receiver later = receiver({.name = "one"});
    EXPECT_EQ(take(later).ack(), Status::ok);
    EXPECT_TRUE(event(Event::Kind::refused));
}

TEST_P(PointToPoint, ReceiversTakeTurnsAndNeverWorkAtTheSameTime) {
    open();
    constexpr int each = 20;
    send_numbers(3 * each);
    std::atomic<int> held{0};
    Log<std::string> done;
    const auto take_a_turn = [&] {
        Receiver one = receiver();
        std::stop_source over;
        int left = each;
        const auto handler = [&](Delivery& delivery) {
            EXPECT_EQ(++held, 1);
            done.add(payload_of(delivery));
            --held;
            if (--left == 0) over.request_stop();
        };
        EXPECT_EQ(one.run(handler, until(over.get_token())), Status::ok);
    };
    {
        const std::jthread first{take_a_turn};
        const std::jthread second{take_a_turn};
        const std::jthread third{take_a_turn};
    }
    EXPECT_EQ(done.now(), numbers(0, 3 * each - 1));
}

// A host that gave them out one at a time would have others ready until the first is settled.
TEST_P(PointToPoint, DeliveriesComeAheadOfNeed) {
    open();
    send_numbers(10);
    Receiver one = receiver({.prefetch = 10});
    Delivery first = take(one);
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (!one.host_empty()) {  // all of them are with it
        ASSERT_LT(std::chrono::steady_clock::now(), deadline);
        std::this_thread::sleep_for(1ms);
    }
    EXPECT_EQ(first.ack(), Status::ok);
    EXPECT_EQ(take_all(one, 9), numbers(1, 9));
}

TEST_P(PointToPoint, WhatIsSentOnwardIsSafeBeforeTheNextIsBegun) {
    open();
    send_numbers(2);
    Receiver one = receiver();
    Sender onward{workers(), "onward", here({.bind = "inproc://onward"})};
    Log<std::string> begun;
    std::optional<Ticket> ticket;
    std::stop_source over;
    std::jthread runs{[&] {
        (void)one.run(
            [&](Delivery& delivery) {
                if (payload_of(delivery) == "0") delivery.ack_when(ticket.emplace(onward.send("on")));
                begun.add(payload_of(delivery));
            },
            until(over.get_token()));
    }};
    (void)begun.wait(1);
    Receiver next{workers(), "onward", at(onward.endpoint())};
    Delivery sent = take(next);
    EXPECT_THAT(begun.now(), ElementsAre("0")) << "in memory safe is settled, and it is not yet";
    EXPECT_EQ(sent.ack(), Status::ok);
    EXPECT_THAT(begun.wait(2), ElementsAre("0", "1"));
    over.request_stop();
}

TEST_P(PointToPoint, AWorkerOfAWorkQueueKeepsTheOrderAsWell) {
    open();
    send_numbers(20);
    Log<std::string> done;
    {
        const auto runs = running({.concurrency = 4}, [&](Delivery& delivery) {
            if (delivery.attempt() == 1 && payload_of(delivery) == "3") throw std::runtime_error("once");
            done.add(payload_of(delivery));
        });
        (void)done.wait(20);
    }
    EXPECT_EQ(done.now(), numbers(0, 19));
}

TEST_P(PointToPointOverLives, TheOrderHoldsOverRestarts) {
    open();
    send_numbers(6);
    {
        Receiver one = receiver();
        EXPECT_EQ(take_all(one, 2), numbers(0, 1));
        EXPECT_EQ(take(one).nack(1h, "not now"), Status::ok);
        EXPECT_EQ(one.drain(patience), Status::ok);
    }
    restart();
    Receiver two = receiver();
    EXPECT_TRUE(nothing_comes(two));
    clock_.advance(1h);
    EXPECT_EQ(take_all(two, 4), numbers(2, 5));
}

INSTANTIATE_TEST_SUITE_P(Conformance, PointToPoint, ::testing::ValuesIn(everywhere()),
                         ::testing::PrintToStringParamName());
INSTANTIATE_TEST_SUITE_P(Conformance, PointToPointOverLives, ::testing::ValuesIn(with_a_store()),
                         ::testing::PrintToStringParamName());

}  // namespace
}  // namespace posthorn::work_queue
