// Handlers that send onward and are done when that is safe.
#include "fixture.hpp"

namespace posthorn::work_queue {
namespace {

using ::testing::HasSubstr;

class Forwards : public WorkQueue {
protected:
    static Here once(std::string endpoint) {
        Here home = here_at(std::move(endpoint));
        home.queue.max_attempts = 1;  // so that a nack is a dead letter, with its text
        return home;
    }
    [[nodiscard]] bool dead_lettered(const char* text) {
        return producer_events_.wait_for([&](const Event& event) {
            return event.kind == Event::Kind::dead_lettered && event.text.find(text) != std::string::npos;
        });
    }

    Producer in_{producers_, "in", here(once("tcp://127.0.0.1:*"))};
    std::optional<Producer> out_{std::in_place, workers_, "out", here(here_at("tcp://127.0.0.1:*")),
                                 ProducerOptions{.close_timeout = 0ms}};
};

TEST_F(Forwards, ADeliveryIsAckedWhenWhatWasSentForItIsSafe) {
    Log<std::string> handled;
    Running forwards{workers_,
                     at(in_.endpoint()),
                     {},
                     [&](Delivery& delivery) {
                         delivery.ack_when(out_->send(delivery.message().payload));
                         EXPECT_TRUE(delivery.settled());
                         EXPECT_THROW(delivery.ack(), Error);
                         handled.add(delivery.message().payload);
                     },
                     "in"};
    const Ticket ticket = in_.send(std::vector<std::string>(1000, "x"));
    EXPECT_EQ(handled.wait(1000).size(), 1000U) << "no handler waits for an ack";
    EXPECT_EQ(in_.unconfirmed(), 1000U) << "nothing is safe";
    Running second{workers_, at(out_->endpoint()), {}, [](Delivery&) {}, "out"};
    EXPECT_EQ(ticket.wait(patience), Status::ok);
}

TEST_F(Forwards, TheyDoNotCountAsUnsettled) {
    Worker worker{workers_, "in", at(in_.endpoint()), {.concurrency = 1}};
    const Ticket ticket = in_.send(std::vector<std::string>(3, "x"));
    for (int i = 0; i < 3; ++i) {
        Received received = worker.receive(patience);
        ASSERT_TRUE(received);
        received->ack_when(out_->send("x"));
    }
    EXPECT_FALSE(worker.idle());
    Running second{workers_, at(out_->endpoint()), {}, [](Delivery&) {}, "out"};
    EXPECT_EQ(ticket.wait(patience), Status::ok);
    EXPECT_EQ(worker.drain(patience), Status::ok);
}

TEST_F(Forwards, ARefusalIsANackWithItsWords) {
    auto home = here_at("tcp://127.0.0.1:*");
    home.queue.max_messages = 1;
    home.queue.when_full = WhenFull::reject;
    Producer full{workers_, "full", here(home), {.close_timeout = 0ms}};
    EXPECT_EQ(full.send("takes the room").status(), Status::ok);
    Running forwards{
        workers_, at(in_.endpoint()), {}, [&](Delivery& delivery) { delivery.ack_when(full.send("x")); }, "in"};
    EXPECT_EQ(in_.send("x").wait(patience), Status::ok) << "dead-lettered";
    EXPECT_TRUE(dead_lettered("queue_full"));
}

TEST_F(Forwards, WhatWasNotTakenIsANackToo) {
    EXPECT_EQ(out_->close(0ms), 0U);
    Running forwards{
        workers_, at(in_.endpoint()), {}, [&](Delivery& delivery) { delivery.ack_when(out_->send("x")); }, "in"};
    EXPECT_EQ(in_.send("x").wait(patience), Status::ok) << "dead-lettered";
    EXPECT_TRUE(dead_lettered("not sent on: closed"));
}

TEST_F(Forwards, AClosedProducerReleasesWhatItCannotKnow) {
    Worker worker{workers_, "in", at(in_.endpoint())};
    const Ticket ticket = in_.send("x");
    Received received = worker.receive(patience);
    ASSERT_TRUE(received);
    received->ack_when(out_->send("x"));
    EXPECT_EQ(out_->close(0ms), 1U);
    Received again = worker.receive(patience);
    ASSERT_TRUE(again);
    EXPECT_EQ(again->attempt(), 1U) << "that was nobody's fault";
    again->ack_when(std::vector<Ticket>{});
    EXPECT_EQ(ticket.wait(patience), Status::ok) << "no ticket, nothing to wait for";
}

TEST_F(Forwards, SoDoesOneThatIsFenced) {
    const Home home = here(here_at("inproc://out"));
    Producer out{workers_, "out", home, {.name = "n", .resume = true, .close_timeout = 0ms}};
    Worker worker{workers_, "in", at(in_.endpoint())};
    EXPECT_EQ(in_.send("x").status(), Status::ok);
    Received received = worker.receive(patience);
    ASSERT_TRUE(received);
    received->ack_when(out.send("x"));
    const Producer later{workers_, "out", at("inproc://out"), {.name = "n", .resume = true}};
    Received again = worker.receive(patience);
    ASSERT_TRUE(again);
    EXPECT_EQ(again->attempt(), 1U);
    EXPECT_EQ(again->ack(), Status::ok);
}

TEST_F(Forwards, AllOfThemHaveToBeSafe) {
    Producer other{workers_, "other", here(here_at("tcp://127.0.0.1:*"))};
    Worker outs{workers_, "out", at(out_->endpoint())};
    Worker others{workers_, "other", at(other.endpoint()), {.concurrency = 2}};
    Running forwards{
        workers_,
        at(in_.endpoint()),
        {},
        [&](Delivery& delivery) {
            const std::vector<Ticket> tickets{other.send(std::vector<std::string>{"a", "b"}), out_->send("c")};
            delivery.ack_when(tickets);
        },
        "in"};
    const Ticket ticket = in_.send("x");
    Received a = others.receive(patience);
    Received b = others.receive(patience);
    Received c = outs.receive(patience);
    ASSERT_TRUE(a && b && c);
    EXPECT_EQ(c->ack_sync(patience), Status::ok);
    EXPECT_EQ(b->ack_sync(patience), Status::ok);
    EXPECT_EQ(ticket.wait(20ms), Status::timed_out);
    EXPECT_EQ(a->ack_sync(patience), Status::ok);
    EXPECT_EQ(ticket.wait(patience), Status::ok);
}

TEST_F(Forwards, ADrainWaitsForThem) {
    Worker worker{workers_, "in", at(in_.endpoint())};
    const Ticket ticket = in_.send("x");
    Received received = worker.receive(patience);
    ASSERT_TRUE(received);
    received->ack_when(out_->send("x"));
    std::thread drains{[&] { EXPECT_EQ(worker.drain(patience), Status::ok); }};
    EXPECT_EQ(worker.receive(patience).status(), Status::closed) << "the drain has begun";
    Worker outs{workers_, "out", at(out_->endpoint())};
    Received onward = outs.receive(patience);
    ASSERT_TRUE(onward);
    EXPECT_EQ(onward->ack(), Status::ok);
    drains.join();
    EXPECT_EQ(ticket.wait(patience), Status::ok);
}

TEST_F(Forwards, ADrainGivesThemBackWhenItIsOver) {
    std::optional<Worker> worker{std::in_place, workers_, "in", at(in_.endpoint())};
    const Ticket ticket = in_.send("x");
    Received received = worker->receive(patience);
    ASSERT_TRUE(received);
    received->ack_when(out_->send("x"));
    EXPECT_EQ(worker->drain(1ms), Status::timed_out);
    worker.emplace(workers_, "in", at(in_.endpoint()));
    Received again = worker->receive(patience);
    ASSERT_TRUE(again);
    EXPECT_EQ(again->attempt(), 1U);
    EXPECT_EQ(again->ack(), Status::ok);
    EXPECT_EQ(ticket.wait(patience), Status::ok);
}

TEST_F(Forwards, ItGoesOnOverManyOfThem) {
    constexpr std::size_t all = 100'000;
    Running forwards{workers_,
                     at(in_.endpoint()),
                     {},
                     [&](Delivery& delivery) { delivery.ack_when(out_->send(delivery.message().payload)); },
                     "in"};
    Running second{workers_, at(out_->endpoint()), {.concurrency = 2}, [](Delivery&) {}, "out"};
    std::vector<Ticket> tickets;
    for (std::size_t i = 0; i < all; i += 1000) {
        tickets.push_back(in_.send(std::vector<std::string>(1000, "x")));
        EXPECT_EQ(tickets.back().taken(), 1000U);
    }
    for (const Ticket& ticket : tickets) EXPECT_EQ(ticket.wait(patience), Status::ok);
}

}  // namespace
}  // namespace posthorn::work_queue
