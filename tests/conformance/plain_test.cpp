// The plain work queue: every message to one worker until it is done or dead-lettered.
#include <algorithm>
#include <set>

#include "fixture.hpp"

namespace posthorn::work_queue {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

class Plain : public Conformance {};
class PlainOverLives : public Conformance {};

TEST_P(Plain, EveryMessageIsHandledAndTheTicketsSay) {
    open();
    Log<std::string> handled;
    auto running =
        this->running({.concurrency = 2}, [&](Delivery& delivery) { handled.add(delivery.message().payload); });
    std::vector<Ticket> tickets;
    tickets.reserve(1000);
    for (int i = 0; i < 1000; ++i) tickets.push_back(producer().send(std::to_string(i)));
    for (const Ticket& ticket : tickets) ASSERT_EQ(ticket.wait(patience), Status::ok);
    EXPECT_EQ(tickets.front().level(), stores() ? Level::stored : Level::settled);
    EXPECT_EQ(producer().flush(patience), Status::ok);
    EXPECT_EQ(producer().unconfirmed(), 0U);
    const char* const what = GetParam().home == In::node ? "host:node" : stores() ? "host:spool" : "host:memory";
    EXPECT_THAT(producer().capabilities(), ElementsAre(what));
    const auto all = stores() ? handled.wait(1000) : handled.now();
    EXPECT_THAT(running.worker.capabilities(), ElementsAre(what));
    EXPECT_EQ(all.size(), 1000U);
    EXPECT_EQ(std::set<std::string>(all.begin(), all.end()).size(), 1000U);
    EXPECT_EQ(running.stop(), Status::ok);
    EXPECT_TRUE(running.worker.idle());
}

TEST_P(Plain, EveryVerdictDoesWhatItSays) {
    QueuePolicy thrice = policy();
    thrice.max_attempts = 3;
    open(thrice);
    using Seen = std::pair<std::string, std::uint32_t>;
    Log<Seen> seen;
    const auto runs = running({}, [&](Delivery& delivery) {
        const std::string& what = delivery.message().payload;
        seen.add({what, delivery.attempt()});
        const auto all = seen.now();
        const auto times = std::count_if(all.begin(), all.end(), [&](const Seen& one) { return one.first == what; });
        if (what == "ack") delivery.ack();
        if (what == "nack") delivery.nack("never");
        if (what == "delayed" && times == 1) delivery.nack(1ms, "later");
        if (what == "release" && times == 1) delivery.release();
        if (what == "reject") delivery.reject("no good");
        if (what == "throw") throw 42;
    });
    for (const char* what : {"ack", "nack", "delayed", "release", "reject", "throw"}) {
        EXPECT_EQ(producer().send(what).status(), Status::ok);
    }
    EXPECT_EQ(producer().flush(patience), Status::ok);
    const auto all = stores() ? seen.wait(12) : seen.now();
    EXPECT_THAT(
        all, UnorderedElementsAre(Seen("ack", 1), Seen("nack", 1), Seen("nack", 2), Seen("nack", 3), Seen("delayed", 1),
                                  Seen("delayed", 2), Seen("release", 1), Seen("release", 1), Seen("reject", 1),
                                  Seen("throw", 1), Seen("throw", 2), Seen("throw", 3)));
    EXPECT_TRUE(dead_letter_of("rejected"));
}

TEST_P(Plain, WhatAlwaysFailsIsDeadLetteredWithItsReason) {
    QueuePolicy twice = policy();
    twice.max_attempts = 2;
    open(twice);
    const Ticket ticket = producer().send("x");
    Worker one = worker();
    for (const std::uint32_t attempt : {1U, 2U}) {
        Delivery delivery = take(one);
        EXPECT_EQ(delivery.attempt(), attempt);
        EXPECT_EQ(delivery.nack("never"), Status::ok);
    }
    EXPECT_TRUE(dead_letter_of("max_attempts"));
    EXPECT_EQ(ticket.wait(patience), Status::ok);
    EXPECT_TRUE(nothing_comes(one));
}

TEST_P(Plain, WhatIsHeldMayBeSettledLaterAndElsewhere) {
    open();
    const Ticket ticket = producer().send(std::vector<std::string>{"dropped", "kept"});
    await_arrival(ticket);
    Worker one = worker({.concurrency = 2});
    Delivery kept = [&] {
        const Delivery dropped = take(one);
        EXPECT_EQ(dropped.message().payload, "dropped");
        return take(one);
    }();
    Delivery again = take(one);
    EXPECT_EQ(again.message().payload, "dropped") << "that was a nack";
    EXPECT_EQ(again.attempt(), 2U);
    std::thread settles{[&] {
        EXPECT_EQ(kept.ack_sync(patience), Status::ok);
        EXPECT_EQ(again.ack_sync(patience), Status::ok);
    }};
    settles.join();
    EXPECT_EQ(ticket.wait(patience), Status::ok);
    EXPECT_TRUE(nothing_comes(one));
}

TEST_P(Plain, OneTicketIsForAWholeBatch) {
    open();
    Worker one = worker({.concurrency = 3});
    const Ticket ticket = producer().send(std::vector<Job>{{"a", 1}, {"b", 2}, {"c", 3}});
    EXPECT_EQ(ticket.taken(), 3U);
    std::vector<Delivery> out;
    for (const int number : {1, 2, 3}) {
        out.push_back(take(one));
        EXPECT_EQ(out.back().as<Job>()->number, number);
    }
    EXPECT_EQ(out[0].ack_sync(patience), Status::ok);
    EXPECT_EQ(out[2].ack_sync(patience), Status::ok);
    if (!stores()) {
        EXPECT_EQ(ticket.wait(1ms), Status::timed_out) << "one is left";
        EXPECT_NE(ticket.level(), Level::settled);
    }
    EXPECT_EQ(out[1].ack(), Status::ok);
    EXPECT_EQ(ticket.wait(patience), Status::ok);
    EXPECT_EQ(ticket.level(), stores() ? Level::stored : Level::settled);
}

TEST_P(Plain, ADrainGivesBackWhatIsNotSettledInTime) {
    open();
    const Ticket ticket = producer().send("x");
    Worker first = worker();
    Delivery out = take(first);
    const std::stop_token token = out.stop_token();
    EXPECT_FALSE(token.stop_requested());
    EXPECT_EQ(first.drain(1ms), Status::timed_out);
    EXPECT_EQ(first.receive(patience).status(), Status::closed);
    Worker second = worker();
    Delivery again = take(second);
    EXPECT_EQ(again.attempt(), 1U) << "given back, not failed";
    EXPECT_TRUE(token.stop_requested());
    EXPECT_EQ(out.ack(), Status::closed);
    if (!stores()) {
        EXPECT_EQ(ticket.wait(0ms), Status::timed_out) << "that ack was not one";
    }
    EXPECT_EQ(again.ack(), Status::ok);
    EXPECT_EQ(ticket.wait(patience), Status::ok);
    EXPECT_EQ(second.drain(patience), Status::ok);
}

TEST_P(Plain, ALaterWorkerOfTheNameEndsTheEarlier) {
    open();
    Worker earlier = worker({.name = "one"});
    EXPECT_EQ(producer().send("x").status(), Status::ok);
    const Delivery out = take(earlier);
    Worker later = worker({.name = "one"});
    EXPECT_EQ(take(later).ack(), Status::ok);
    EXPECT_TRUE(event(Event::Kind::refused));
}

TEST_P(Plain, RefusalsReachTheTicket) {
    QueuePolicy full = policy();
    full.max_messages = 1;
    full.when_full = WhenFull::reject;
    open(full);
    const Ticket kept = producer().send("1");
    const Ticket refused = producer().send("2");
    EXPECT_EQ(refused.wait(patience), Status::rejected);
    EXPECT_THAT(refused.refusal(), HasSubstr("queue_full"));
    EXPECT_EQ(refused.level(), Level::none);
    EXPECT_EQ(producer().refused(), 1U);
    EXPECT_TRUE(event(Event::Kind::refused));
    const auto runs = running({}, [](Delivery&) {});
    EXPECT_EQ(kept.wait(patience), Status::ok);
    EXPECT_EQ(producer().flush(patience), Status::rejected);
    EXPECT_EQ(producer().flush(patience), Status::ok) << "that was told";
}

TEST_P(Plain, AFullQueueSaysWhyNothingMoves) {
    QueuePolicy full = policy();
    full.max_messages = 1;
    open(full);
    EXPECT_EQ(producer().send("1").status(), Status::ok);
    const Ticket waiting = producer().send("2");
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (producer().waits_for().empty() && std::chrono::steady_clock::now() < deadline) (void)waiting.wait(1ms);
    EXPECT_EQ(producer().waits_for(), "queue_full");
    EXPECT_EQ(waiting.level(), Level::none);
    const auto runs = running({}, [](Delivery&) {});
    EXPECT_EQ(waiting.wait(patience), Status::ok);
}

TEST_P(PlainOverLives, WhatIsDoneDoesNotComeAgain) {
    open();
    {
        Worker one = worker();
        EXPECT_EQ(producer().send(std::vector<std::string>{"done", "failed", "untouched"}).wait(patience), Status::ok);
        EXPECT_EQ(take(one).ack_sync(patience), Status::ok);
        EXPECT_EQ(take(one).nack("not yet"), Status::ok);
        EXPECT_EQ(one.drain(patience), Status::ok);
    }
    restart();
    Worker one = worker({.concurrency = 2});
    std::set<std::pair<std::string, std::uint32_t>> came;
    std::vector<Delivery> out;
    while (out.size() < 2) {
        out.push_back(take(one));
        came.insert({out.back().message().payload, out.back().attempt()});
    }
    EXPECT_THAT(came, ElementsAre(std::pair("failed", 2U), std::pair("untouched", 1U)));
    for (Delivery& delivery : out) EXPECT_EQ(delivery.ack_sync(patience), Status::ok);
    EXPECT_TRUE(nothing_comes(one));
}

INSTANTIATE_TEST_SUITE_P(Conformance, Plain, ::testing::ValuesIn(everywhere()), ::testing::PrintToStringParamName());
INSTANTIATE_TEST_SUITE_P(Conformance, PlainOverLives, ::testing::ValuesIn(with_a_store()),
                         ::testing::PrintToStringParamName());

}  // namespace
}  // namespace posthorn::work_queue
