// Producers that go on under their name where the last one of it ended.
#include <posthorn/testing.hpp>

#include "fixture.hpp"

namespace posthorn::work_queue {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Homes that remember names over lives: a node, and a producer with a store (which is a new one in every life).
class NamedOver : public ::testing::TestWithParam<bool> {
protected:
    [[nodiscard]] Producer producer(const std::string& name = "importer") {
        if (!GetParam()) return Producer{context_, "q", node_.at(), {.name = name, .resume = true}};
        const Home own = here(stored_at(here_at("inproc://own"), folder_.path()));
        return Producer{context_, "q", own, {.name = name, .resume = true}};
    }
    [[nodiscard]] Home queue() const { return GetParam() ? at("inproc://own") : node_.at(); }

    TempFolder folder_;
    testing::Node node_{{.on_disk = true}};
    Context context_;
};

TEST_P(NamedOver, ContinuesWhereTheLastOneEnded) {
    for (const std::uint64_t life : {0U, 1U, 2U}) {
        Producer one = producer();
        ASSERT_EQ(one.resumed_at(patience), 2 * life);
        EXPECT_EQ(one.send(std::to_string(2 * life)).status(), Status::ok);
        EXPECT_EQ(one.send(std::to_string(2 * life + 1)).wait(patience), Status::ok);
        EXPECT_EQ(one.close(patience), 0U);
        if (life == 1) node_.restart();
    }
    Producer one = producer();
    EXPECT_EQ(one.send("6").wait(patience), Status::ok) << "send() waits for the place by itself";
    Log<std::string> handled;
    Log<std::string> ids;
    Running running{context_, queue(), {}, [&](Delivery& delivery) {
                        ids.add(delivery.id());
                        handled.add(delivery.message().payload);
                    }};
    EXPECT_THAT(handled.wait(7), ElementsAre("0", "1", "2", "3", "4", "5", "6"));
    // uuid.uuid5(uuid.UUID("cf01eeef-7e5f-4e76-91cb-fe1dfaa16ab5"), "q/importer"), as docs/protocol.md has it
    EXPECT_EQ(ids.now().back(), "16f600fde5ec53dfa4499c9a8da5a1d3-7");
}

TEST_P(NamedOver, NamesAndQueuesKeepApart) {
    {
        Producer one = producer();
        EXPECT_EQ(one.send("x").wait(patience), Status::ok);
    }
    Producer other = producer("another");
    EXPECT_EQ(other.resumed_at(patience), 0U);
}

INSTANTIATE_TEST_SUITE_P(Homes, NamedOver, ::testing::Bool(),
                         [](const auto& instance) { return instance.param ? "here_stored" : "at_a_node"; });

using NamedProducer = WorkQueue;

TEST_F(NamedProducer, TheLaterOneEndsTheEarlier) {
    const testing::Node node{{.on_disk = true}};
    std::optional<Producer> earlier;
    earlier.emplace(producers_, "q", node.at(), ProducerOptions{.name = "importer", .resume = true});
    EXPECT_EQ(earlier->send("1").wait(patience), Status::ok);
    Producer later{workers_, "q", node.at(), {.name = "importer", .resume = true}};
    EXPECT_EQ(later.resumed_at(patience), 1U);
    EXPECT_TRUE(producer_events_.wait_for([](const Event& event) { return event.code == "fenced"; }));
    EXPECT_EQ(earlier->send("2").status(), Status::closed);
    EXPECT_EQ(earlier->resumed_at(0ms), 0U);
    EXPECT_FALSE(earlier->connected());
    earlier.reset();
    EXPECT_EQ(producer_events_.count(Event::Kind::left_behind), 0U);
    EXPECT_EQ(later.send("2").wait(patience), Status::ok);
    EXPECT_EQ(worker_events_.count(Event::Kind::refused), 0U);
}

TEST_F(NamedProducer, WhatAFencedOneHadUnderWayIsClosed) {
    const testing::Node node{{.queue = {.max_messages = 1}}};
    std::optional<Producer> earlier;
    earlier.emplace(producers_, "q", node.at(),
                    ProducerOptions{.name = "importer", .resume = true, .buffer_messages = 2});
    const Ticket held = earlier->send("1");
    const Ticket waiting = earlier->send("2");
    Log<Status> answers;
    std::thread waits{[&] { answers.add(waiting.wait(patience)); }};
    std::thread sends{[&] { answers.add(earlier->send("3").status()); }};
    Producer later{workers_, "q", node.at(), {.name = "importer", .resume = true, .close_timeout = 0ms}};
    EXPECT_THAT(answers.wait(2), ElementsAre(Status::closed, Status::closed));
    EXPECT_EQ(earlier->flush(patience), Status::closed);
    waits.join();
    sends.join();
    earlier.reset();
    EXPECT_TRUE(producer_events_.wait_for(
        [](const Event& event) { return event.kind == Event::Kind::left_behind && event.count == 2; }));
}

TEST_F(NamedProducer, FindsNoRoomBeforeItKnowsItsPlace) {
    Producer producer{
        producers_, "q", at(folder_.ipc("nobody")), {.name = "importer", .resume = true, .send_timeout = 1ms}};
    EXPECT_EQ(producer.resumed_at(1ms), std::nullopt);
    EXPECT_EQ(producer.send("x").status(), Status::timed_out);
    EXPECT_EQ(producer.close(patience), 0U);
    EXPECT_EQ(producer.resumed_at(patience), std::nullopt);
}

TEST_F(NamedProducer, InMemoryItBeginsAnew) {
    for (int life = 0; life < 2; ++life) {
        Producer producer{producers_, "q", here(here_at("inproc://q")), {.name = "importer", .resume = true}};
        EXPECT_EQ(producer.resumed_at(patience), 0U);
        Running running{producers_, at("inproc://q"), {}, [](Delivery&) {}};
        EXPECT_EQ(producer.send("x").wait(patience), Status::ok);
    }
}

TEST_F(NamedProducer, OthersBeginAtNothing) {
    const Producer producer{producers_, "q", at(folder_.ipc("nobody")), {.name = "importer"}};
    EXPECT_EQ(producer.resumed_at(0ms), 0U);
    try {
        const Producer nameless(producers_, "q", at("inproc://a"), {.resume = true});
        ADD_FAILURE() << "nothing was thrown";
    } catch (const Error& error) {
        EXPECT_THAT(error.what(), HasSubstr("needs a name"));
    }
}

}  // namespace
}  // namespace posthorn::work_queue
