// Several messages in one send().
#include <array>
#include <atomic>

#include "fixture.hpp"

namespace posthorn::work_queue {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Batch : public WorkQueue {};

TEST_F(Batch, WhateverCanBeSentAloneCanBeSentTogether) {
    Producer producer{producers_, "q", here(here_at("tcp://127.0.0.1:*"))};
    Log<std::string> handled;
    Running running{
        workers_, at(producer.endpoint()), {}, [&](Delivery& delivery) { handled.add(delivery.message().payload); }};
    Message c;
    c.payload = "c";
    const std::array<const char*, 2> literals{"d", "e"};
    EXPECT_EQ(producer.send(std::vector<std::string>{"a", "b"}).taken(), 2U);
    EXPECT_EQ(producer.send(std::vector<Message>{c}).taken(), 1U);
    EXPECT_EQ(producer.send(std::span{literals}).taken(), 2U);
    const Ticket none = producer.send(std::vector<Job>{});
    EXPECT_EQ(none.taken(), 0U);
    EXPECT_EQ(none.wait(0ms), Status::ok);
    EXPECT_EQ(producer.flush(patience), Status::ok);
    EXPECT_THAT(handled.now(), ElementsAre("a", "b", "c", "d", "e"));
}

TEST_F(Batch, ItIsSaidHowManyWereTaken) {
    Producer producer{
        producers_, "q", at(folder_.ipc("nobody")), {.send_timeout = 1ms, .close_timeout = 0ms, .buffer_messages = 2}};
    const Ticket ticket = producer.send(std::vector<std::string>(5, "x"));
    EXPECT_EQ(ticket.status(), Status::timed_out);
    EXPECT_EQ(ticket.taken(), 2U);
    EXPECT_EQ(producer.unconfirmed(), 2U);
    const Ticket nothing = producer.send(std::vector<std::string>(5, "x"));
    EXPECT_EQ(nothing.taken(), 0U);
    EXPECT_EQ(nothing.wait(patience), Status::timed_out) << "there is nothing to wait for";
    EXPECT_EQ(producer.close(0ms), 2U);
    EXPECT_EQ(ticket.wait(patience), Status::closed);
    EXPECT_EQ(producer.send(std::vector<std::string>(5, "x")).status(), Status::closed);
}

TEST_F(Batch, WhatWasTakenIsWaitedForBeforeTheRestIsTold) {
    Producer producer{producers_, "q", here(here_at("tcp://127.0.0.1:*"))};
    Worker worker{workers_, "q", at(producer.endpoint())};
    const Ticket ticket = producer.send(std::vector<std::string>{"x", std::string(defaults::message_limit + 1, 'x')});
    EXPECT_EQ(ticket.status(), Status::too_large);
    EXPECT_EQ(ticket.taken(), 1U);
    EXPECT_EQ(ticket.wait(1ms), Status::timed_out);
    Received received = worker.receive(patience);
    ASSERT_TRUE(received);
    EXPECT_EQ(received->ack(), Status::ok);
    EXPECT_EQ(ticket.wait(patience), Status::too_large);
}

TEST_F(Batch, OneBeyondTheLimitsAndNothingIsTaken) {
    Producer producer{producers_, "q", at(folder_.ipc("nobody")), {.close_timeout = 0ms}};
    std::vector<Message> messages(3);
    messages[2].subject = std::string(2000, 's');
    EXPECT_THROW((void)producer.send(messages), Error);
    EXPECT_EQ(producer.unconfirmed(), 0U);
}

TEST_F(Batch, ARefusalOfOneIsToldOfAll) {
    auto home = here_at("tcp://127.0.0.1:*");
    home.queue.max_messages = 1;
    home.queue.when_full = WhenFull::reject;
    Producer producer{producers_, "q", here(home)};
    const Ticket ticket = producer.send(std::vector<std::string>(3, "x"));
    EXPECT_EQ(ticket.taken(), 3U);
    while (producer.refused() < 2) (void)ticket.wait(1ms);
    EXPECT_EQ(ticket.wait(0ms), Status::timed_out) << "the first one is not settled";
    EXPECT_THAT(ticket.refusal(), HasSubstr("queue_full"));
    EXPECT_EQ(ticket.level(), Level::none);
    Running running{workers_, at(producer.endpoint()), {}, [](Delivery&) {}};
    EXPECT_EQ(ticket.wait(patience), Status::rejected);
}

TEST_F(Batch, TheyFollowOneAnotherThoughTheyWaitForRoom) {
    Producer producer{producers_, "q", here(here_at("tcp://127.0.0.1:*")), {.buffer_messages = 10}};
    Log<std::string> handled;
    Running running{
        workers_, at(producer.endpoint()), {}, [&](Delivery& delivery) { handled.add(delivery.message().payload); }};
    std::atomic<bool> over = false;
    std::thread interferes{[&] {
        while (!over) EXPECT_EQ(producer.send("other").status(), Status::ok);
    }};
    (void)handled.wait(1);
    for (int i = 0; i < 5; ++i) EXPECT_EQ(producer.send(std::vector<std::string>(100, "together")).taken(), 100U);
    over = true;
    interferes.join();
    EXPECT_EQ(producer.flush(patience), Status::ok);
    std::size_t run = 0;
    for (const std::string& one : handled.now()) {
        if (one == "together") {
            ++run;
            continue;
        }
        EXPECT_EQ(run % 100, 0U);
        run = 0;
    }
}

}  // namespace
}  // namespace posthorn::work_queue
