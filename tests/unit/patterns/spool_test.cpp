// The queue in its producer with a store: what outlives the producer, and who may have the folder.
#include <set>

#include "fixture.hpp"

namespace posthorn::work_queue {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class Spool : public WorkQueue {
protected:
    [[nodiscard]] Home home(const std::string& folder = "spool") const {
        return here(stored_at(here_at("tcp://127.0.0.1:*"), folder_.path() / folder));
    }
    [[nodiscard]] Producer producer(const std::string& folder = "spool", const std::string& queue = "q") {
        return Producer{producers_, queue, home(folder)};
    }
    // Sends it, and ends in order.
    void leave(const std::string& payload, const std::string& queue = "q") {
        Producer one = producer("spool", queue);
        EXPECT_EQ(one.send(payload).wait(patience), Status::ok);
        EXPECT_EQ(one.close(patience), 0U);
    }
    [[nodiscard]] std::string refusal(const std::string& queue = "q") {
        try {
            const Producer one = producer("spool", queue);
        } catch (const Error& error) {
            return error.what();
        }
        return {};
    }
};

TEST_F(Spool, WhatAProducerLeavesBehindTheNextOneServes) {
    leave("1");
    leave("2");
    EXPECT_EQ(producer_events_.count(Event::Kind::left_behind), 0U) << "it is on the disk";
    Producer third = producer();
    EXPECT_EQ(third.unconfirmed(), 0U);
    EXPECT_EQ(third.send("3").wait(patience), Status::ok) << "stored, though nobody works";
    Log<std::string> handled;
    Log<std::string> ids;
    Running running{workers_, at(third.endpoint()), {}, [&](Delivery& delivery) {
                        ids.add(delivery.id());
                        handled.add(delivery.message().payload);
                    }};
    EXPECT_THAT(handled.wait(3), ElementsAre("1", "2", "3"));
    const auto all = ids.now();
    EXPECT_EQ(std::set<std::string>(all.begin(), all.end()).size(), 3U) << "each life has an identity of its own";
    EXPECT_THAT(running.worker.capabilities(), ElementsAre("host:spool"));
}

TEST_F(Spool, ItsFolderIsOneProducersAtATime) {
    const Producer one = producer();
    EXPECT_THAT(refusal(), AllOf(HasSubstr((folder_.path() / "spool").string()),
                                 HasSubstr("in use by process " + std::to_string(::getpid()))));
}

TEST_F(Spool, MessagesOfAnotherQueueAreNotLeftLying) {
    leave("x", "other");
    EXPECT_THAT(refusal(),
                AllOf(HasSubstr((folder_.path() / "spool").string()), HasSubstr("(other)"), HasSubstr("--data")));
    {
        Producer other = producer("spool", "other");
        Worker worker{workers_, "other", at(other.endpoint())};
        EXPECT_EQ(worker.receive(patience)->ack_sync(patience), Status::ok);
    }
    EXPECT_THAT(refusal(), IsEmpty()) << "an empty queue is in nobody's way";
}

TEST_F(Spool, DeadLettersStayWithTheOthers) {
    {
        Producer one = producer();
        Worker worker{workers_, "q", at(one.endpoint())};
        EXPECT_EQ(one.send("x").wait(patience), Status::ok);
        EXPECT_EQ(worker.receive(patience)->reject("no good"), Status::ok);
        EXPECT_EQ(worker.drain(patience), Status::ok);
    }
    EXPECT_THAT(refusal("other"), HasSubstr("(q)")) << "they are messages that somebody may want back";
}

TEST_F(Spool, ACopyOfItsFolderIsAQueueOfItsOwn) {
    leave("before");
    std::filesystem::copy(folder_.path() / "spool", folder_.path() / "copy");
    Producer original = producer("spool");
    Producer copy = producer("copy");
    Log<std::string> handled;
    Running running{workers_, at({original.endpoint(), copy.endpoint()}), {}, [&](Delivery& delivery) {
                        handled.add(delivery.message().payload);
                    }};
    EXPECT_EQ(original.send("original").wait(patience), Status::ok);
    EXPECT_EQ(copy.send("copy").wait(patience), Status::ok);
    EXPECT_THAT(handled.wait(4), UnorderedElementsAre("before", "before", "original", "copy"));
    EXPECT_EQ(running.stop(), Status::ok);
    EXPECT_EQ(worker_events_.count(Event::Kind::stale_delivery), 0U);
}

TEST_F(Spool, WhatTheDiskHasNoRoomForIsLeftBehindAndCounted) {
    Here options = stored_at(here_at("tcp://127.0.0.1:*"), folder_.path() / "spool");
    options.min_free = std::uint64_t{1} << 60U;
    {
        Producer one{producers_, "q", here(options), {.close_timeout = 1ms}};
        const Ticket ticket = one.send("x");
        ASSERT_TRUE(producer_events_.wait(Event::Kind::store_failed));
        const auto deadline = std::chrono::steady_clock::now() + patience;
        while (one.waits_for().empty() && std::chrono::steady_clock::now() < deadline) (void)ticket.wait(1ms);
        EXPECT_EQ(one.waits_for(), "disk_full");
        EXPECT_EQ(ticket.wait(1ms), Status::timed_out);
        EXPECT_EQ(ticket.level(), Level::held);
    }
    EXPECT_TRUE(producer_events_.wait_for(
        [](const Event& event) { return event.kind == Event::Kind::left_behind && event.count == 1; }));
}

}  // namespace
}  // namespace posthorn::work_queue
