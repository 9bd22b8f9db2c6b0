// Deliveries that are asked for, instead of handed to a handler.
#include <poll.h>

#include "fixture.hpp"

namespace posthorn::work_queue {
namespace {

using ::testing::HasSubstr;

class Receive : public WorkQueue {
protected:
    Producer producer_{producers_, "q", here(here_at("tcp://127.0.0.1:*"))};
};

std::string error_of(const std::function<void()>& call) {
    try {
        call();
    } catch (const Error& error) {
        return error.what();
    }
    return "nothing was thrown";
}

TEST_F(Receive, EveryMessageIsReceivedAndSettledByHand) {
    Worker worker{workers_, "q", at(producer_.endpoint())};
    EXPECT_EQ(worker.receive(0ms).status(), Status::timed_out);
    for (const char* text : {"a", "b", "c"}) EXPECT_EQ(producer_.send(text).status(), Status::ok);
    for (const char* text : {"a", "b", "c"}) {
        Received received = worker.receive(patience);
        ASSERT_EQ(received.status(), Status::ok);
        EXPECT_EQ(received->message().payload, text);
        EXPECT_EQ(received->ack(), Status::ok);
    }
    EXPECT_EQ(producer_.flush(patience), Status::ok);
    Received none = worker.receive(1ms);
    EXPECT_FALSE(none);
    EXPECT_EQ(none.status(), Status::timed_out);
    EXPECT_THAT(error_of([&] { (void)none->settled(); }), HasSubstr("timed_out"));
    EXPECT_EQ(worker.drain(patience), Status::ok);
    EXPECT_EQ(worker.receive(patience).status(), Status::closed);
}

TEST_F(Receive, ConcurrencyBoundsWhatIsUnsettled) {
    Worker worker{workers_, "q", at(producer_.endpoint()), {.concurrency = 2, .prefetch = 3}};
    for (const char* text : {"a", "b", "c"}) EXPECT_EQ(producer_.send(text).status(), Status::ok);
    Received a = worker.receive(patience);
    Received b = worker.receive(patience);
    ASSERT_TRUE(a && b);
    EXPECT_EQ(worker.receive(100ms).status(), Status::timed_out) << "two are out";
    Log<Status> waiting;
    std::thread waits{[&] {
        waiting.add(Status::ok);
        Received c = worker.receive(patience);
        ASSERT_TRUE(c);
        EXPECT_EQ(c->message().payload, "c");
        EXPECT_EQ(c->ack(), Status::ok);
    }};
    (void)waiting.wait(1);
    EXPECT_EQ(b->ack(), Status::ok);
    waits.join();
    EXPECT_EQ(a->ack(), Status::ok);
    EXPECT_EQ(producer_.flush(patience), Status::ok);
}

TEST_F(Receive, WhatIsNotOfTheTypeIsDeadLettered) {
    Worker worker{workers_, "q", at(producer_.endpoint())};
    EXPECT_EQ(producer_.send(Job{"cat.mov", 7}).status(), Status::ok);
    EXPECT_EQ(producer_.send("no msgpack").status(), Status::ok);
    Received job = worker.receive(patience);
    ASSERT_TRUE(job);
    EXPECT_EQ(job->as<Job>()->number, 7);
    EXPECT_EQ(job->ack(), Status::ok);
    Received junk = worker.receive(patience);
    ASSERT_TRUE(junk);
    EXPECT_FALSE(junk->as<Job>().has_value());
    EXPECT_TRUE(junk->settled());
    EXPECT_EQ(producer_.flush(patience), Status::ok);
    EXPECT_TRUE(producer_events_.wait(Event::Kind::dead_lettered));
}

TEST_F(Receive, ADrainWaitsForWhatIsOutAndWakesWhoWaits) {
    Worker worker{workers_, "q", at(producer_.endpoint()), {.concurrency = 2}};
    EXPECT_EQ(producer_.send("x").status(), Status::ok);
    Received out = worker.receive(patience);
    ASSERT_TRUE(out);
    Log<Status> woken;
    std::thread waits{[&] { woken.add(worker.receive(patience).status()); }};
    std::thread drains{[&] { EXPECT_EQ(worker.drain(patience), Status::ok); }};
    EXPECT_THAT(woken.wait(1), ::testing::ElementsAre(Status::closed));
    EXPECT_EQ(out->ack(), Status::ok);
    drains.join();
    waits.join();
    EXPECT_EQ(producer_.flush(patience), Status::ok) << "the host has heard of it, and nobody else is there to work";
}

TEST_F(Receive, TheDestructorGivesBackWhatIsOut) {
    std::optional<Worker> first{std::in_place, workers_, "q", at(producer_.endpoint())};
    const Ticket ticket = producer_.send("x");
    Received out = first->receive(patience);
    ASSERT_TRUE(out);
    first.reset();
    EXPECT_EQ(out->nack("late"), Status::closed);
    EXPECT_TRUE(out->stop_token().stop_requested());
    Worker second{workers_, "q", at(producer_.endpoint())};
    Received again = second.receive(patience);
    ASSERT_TRUE(again);
    EXPECT_EQ(again->attempt(), 1U);
    EXPECT_EQ(again->ack(), Status::ok);
}

TEST_F(Receive, ALateSettlementIsToldThatItIsStale) {
    auto home = here_at("tcp://127.0.0.1:*");
    home.queue.lease = home.queue.lease_cap = 1s;
    Producer producer{producers_, "q", here(home), {.close_timeout = 0ms}};
    Worker worker{workers_, "q", at(producer.endpoint()), {.concurrency = 2}};
    EXPECT_EQ(producer.send("x").status(), Status::ok);
    Received out = worker.receive(patience);
    ASSERT_TRUE(out);
    Received again = worker.receive(patience);
    ASSERT_TRUE(again);
    EXPECT_GE(again->attempt(), 2U) << "a lease that reached its cap counts";
    EXPECT_EQ(out->ack(), Status::stale);
}

bool readable(int descriptor, std::chrono::milliseconds timeout) {
    pollfd item{descriptor, POLLIN, 0};
    return ::poll(&item, 1, static_cast<int>(timeout.count())) == 1;
}

constexpr std::chrono::milliseconds poll_patience = std::chrono::duration_cast<std::chrono::milliseconds>(patience);

TEST_F(Receive, TheDescriptorIsReadableWhileThereIsADelivery) {
    Worker worker{workers_, "q", at(producer_.endpoint()), {.prefetch = 2}};
    const int ready = worker.ready_fd();
    EXPECT_EQ(worker.ready_fd(), ready);
    EXPECT_FALSE(readable(ready, 0ms));
    EXPECT_EQ(producer_.send("a").status(), Status::ok);
    EXPECT_EQ(producer_.send("b").status(), Status::ok);
    ASSERT_TRUE(readable(ready, poll_patience));
    EXPECT_TRUE(readable(ready, 0ms)) << "until it is received";
    Received a = worker.receive(0ms);
    ASSERT_TRUE(a);
    EXPECT_FALSE(readable(ready, 100ms)) << "one is out, and concurrency is 1";
    EXPECT_EQ(a->ack(), Status::ok);
    ASSERT_TRUE(readable(ready, poll_patience));
    Received b = worker.receive(0ms);
    ASSERT_TRUE(b);
    EXPECT_EQ(b->ack(), Status::ok);
    EXPECT_EQ(producer_.flush(patience), Status::ok);
    EXPECT_FALSE(readable(ready, 0ms));
}

TEST_F(Receive, TheDescriptorSaysThatTheWorkerHasEnded) {
    Worker worker{workers_, "q", at(producer_.endpoint())};
    const int ready = worker.ready_fd();
    std::thread drains{[&] { EXPECT_EQ(worker.drain(patience), Status::ok); }};
    EXPECT_TRUE(readable(ready, poll_patience));
    EXPECT_EQ(worker.receive(0ms).status(), Status::closed);
    drains.join();
    EXPECT_TRUE(readable(ready, 0ms)) << "for good";
}

TEST_F(Receive, AnEventLoopMissesNothing) {
    Worker worker{workers_, "q", at(producer_.endpoint()), {.concurrency = 3}};
    const int ready = worker.ready_fd();
    constexpr int all = 2000;
    std::thread sends{[&] {
        for (int i = 0; i < all; ++i) EXPECT_EQ(producer_.send(std::to_string(i)).status(), Status::ok);
    }};
    std::vector<Delivery> out;
    int done = 0;
    while (done < all) {
        ASSERT_TRUE(readable(ready, poll_patience)) << "after " << done;
        while (Received received = worker.receive(0ms)) out.push_back(std::move(*received));
        ASSERT_LE(out.size(), 3U);
        done += static_cast<int>(out.size());
        for (Delivery& delivery : out) EXPECT_EQ(delivery.ack(), Status::ok);
        out.clear();
    }
    sends.join();
    EXPECT_EQ(producer_.flush(patience), Status::ok);
}

TEST_F(Receive, AckSyncWaitsForTheHostsWord) {
    Worker worker{workers_, "q", at(producer_.endpoint()), {.concurrency = 2}};
    const Ticket ticket = producer_.send("x");
    EXPECT_EQ(producer_.send("y").status(), Status::ok);
    Received x = worker.receive(patience);
    Received y = worker.receive(patience);
    ASSERT_TRUE(x && y);
    EXPECT_EQ(x->ack_sync(patience), Status::ok);
    EXPECT_EQ(ticket.wait(patience), Status::ok);
    EXPECT_THROW((void)x->ack_sync(patience), Error);
    EXPECT_EQ(worker.drain(0ms), Status::timed_out);
    while (!y->stop_token().stop_requested()) std::this_thread::yield();
    EXPECT_EQ(y->ack_sync(patience), Status::closed);
    Worker second{workers_, "q", at(producer_.endpoint())};
    Received again = second.receive(patience);
    ASSERT_TRUE(again);
    EXPECT_EQ(again->message().payload, "y");
    EXPECT_EQ(again->ack_sync(patience), Status::ok);
}

TEST_F(Receive, AckSyncEndsInTime) {
    std::optional<Producer> producer{std::in_place, producers_, "q", here(here_at(folder_.ipc("q")))};
    Worker worker{workers_, "q", at(producer->endpoint())};
    EXPECT_EQ(producer->send("x").status(), Status::ok);
    Received x = worker.receive(patience);
    ASSERT_TRUE(x);
    EXPECT_EQ(producer->close(0ms), 1U);
    EXPECT_TRUE(worker_events_.wait(Event::Kind::lost));
    EXPECT_EQ(x->ack_sync(1ms), Status::timed_out);
}

TEST_F(Receive, AckSyncEndsWithTheWorker) {
    std::optional<Producer> producer{std::in_place, producers_, "q", here(here_at(folder_.ipc("q")))};
    Worker worker{workers_, "q", at(producer->endpoint())};
    EXPECT_EQ(producer->send("x").status(), Status::ok);
    Received x = worker.receive(patience);
    ASSERT_TRUE(x);
    EXPECT_EQ(producer->close(0ms), 1U);
    EXPECT_TRUE(worker_events_.wait(Event::Kind::lost));
    std::thread waits{[&] { EXPECT_EQ(x->ack_sync(patience), Status::closed); }};
    EXPECT_EQ(worker.drain(50ms), Status::timed_out);
    waits.join();
}

TEST_F(Receive, AWorkerIsUsedOneWay) {
    Worker receives{workers_, "q", at(producer_.endpoint())};
    EXPECT_EQ(receives.receive(0ms).status(), Status::timed_out);
    EXPECT_THAT(error_of([&] { (void)receives.run([](Delivery&) {}, until(std::stop_token{})); }),
                HasSubstr("one way or the other"));
    Log<std::string> errors;
    Running running{workers_, at(producer_.endpoint()), {}, [&](Delivery&) {
                        errors.add(error_of([&] { (void)running.worker.receive(0ms); }));
                    }};
    EXPECT_EQ(producer_.send("x").status(), Status::ok);
    EXPECT_EQ(receives.drain(patience), Status::ok) << "so that the other one gets it";
    EXPECT_THAT(errors.wait(1)[0], HasSubstr("one way or the other"));
}

}  // namespace
}  // namespace posthorn::work_queue
