// What <posthorn/testing.hpp> gives users, used as they do: on the handlers of our own examples.
#include <posthorn/testing.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "../../../examples/demo/work_on.hpp"
#include "../../../examples/encode.hpp"
#include "../../../examples/text.hpp"
#include "unit/temp_folder.hpp"

namespace {

using namespace std::chrono_literals;
using posthorn::Delivery;
using posthorn::Error;
using posthorn::Status;
using posthorn::testing::MadeUpDelivery;
using posthorn::testing::ManualClock;
using posthorn::testing::Node;
using posthorn::testing::Verdict;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using Kind = Verdict::Kind;
namespace wq = posthorn::work_queue;

constexpr posthorn::Duration patience = 60s;

// Made-up deliveries -----------------------------------------------------------------------------------------------

Verdict verdict_of(const wq::Handler& handler, std::uint32_t attempt = 1) {
    MadeUpDelivery delivery{posthorn::Message{.payload = "x"}, {.attempt = attempt}};
    EXPECT_EQ(delivery.verdict().kind, Kind::none);
    delivery.handle(handler);
    return delivery.verdict();
}

TEST(MadeUpDelivery, EveryVerdictCanBeLookedAt) {
    EXPECT_EQ(verdict_of([](Delivery&) {}).kind, Kind::ack);
    EXPECT_EQ(verdict_of([](Delivery& delivery) { EXPECT_EQ(delivery.ack_sync(0ms), Status::ok); }).kind, Kind::ack);
    EXPECT_EQ(verdict_of([](Delivery& delivery) { delivery.release(); }).kind, Kind::release);

    const Verdict thrown = verdict_of([](Delivery&) { throw std::runtime_error("no"); });
    EXPECT_EQ(thrown.kind, Kind::nack);
    EXPECT_EQ(thrown.text, "no");
    EXPECT_FALSE(thrown.delay);

    const Verdict later = verdict_of([](Delivery& delivery) { delivery.nack(3s, "busy"); });
    EXPECT_EQ(later.kind, Kind::nack);
    EXPECT_EQ(later.text, "busy");
    EXPECT_EQ(later.delay, 3s);

    const Verdict rejected = verdict_of([](Delivery& delivery) {
        delivery.extend(1min);
        delivery.reject("never");
    });
    EXPECT_EQ(rejected.kind, Kind::reject);
    EXPECT_EQ(rejected.text, "never");
    EXPECT_EQ(rejected.extended, 1min);
}

TEST(MadeUpDelivery, LooksLikeOneToTheHandler) {
    MadeUpDelivery delivery{Text{"to be"}, {.attempt = 4, .maybe_duplicate = true}};
    delivery.handle([](const Text& text, Delivery& given) {
        EXPECT_EQ(count_words(text), 2U);
        EXPECT_EQ(given.attempt(), 4U);
        EXPECT_TRUE(given.maybe_duplicate());
        EXPECT_THAT(given.id(), EndsWith("-1"));
    });
    EXPECT_EQ(delivery.verdict().kind, Kind::ack);
    EXPECT_THROW(delivery.handle([](Delivery&) {}), Error) << "once";

    MadeUpDelivery junk{posthorn::Message{.payload = "junk"}};
    junk.handle([](const Text&, Delivery&) { FAIL(); });
    EXPECT_EQ(junk.verdict().kind, Kind::undecodable);
    EXPECT_THROW(MadeUpDelivery(posthorn::Message{.subject = std::string(2000, 's')}), Error);
}

TEST(MadeUpDelivery, MayBeMovedOutAndSettledLater) {
    MadeUpDelivery delivery{posthorn::Message{}};
    std::optional<Delivery> kept;
    delivery.handle([&](Delivery& given) { kept.emplace(std::move(given)); });
    EXPECT_EQ(delivery.verdict().kind, Kind::none);
    EXPECT_EQ(delivery.wait(1ms).kind, Kind::none);
    const std::stop_token stop = kept->stop_token();
    delivery.stop();
    EXPECT_TRUE(stop.stop_requested());
    std::thread settles{[moved = std::move(*kept)]() mutable { moved.ack(); }};
    EXPECT_EQ(delivery.wait(patience).kind, Kind::ack);
    settles.join();

    MadeUpDelivery dropped{posthorn::Message{}};
    { const Delivery given = dropped.take(); }
    EXPECT_EQ(dropped.verdict().kind, Kind::nack);
}

TEST(MadeUpDelivery, WaitsForRealTickets) {
    Node node;
    posthorn::Context context;
    wq::Producer onward{context, "onward", node.at()};
    MadeUpDelivery delivery{posthorn::Message{}};
    delivery.handle([&](Delivery& given) { given.ack_when(onward.send("x")); });
    EXPECT_EQ(delivery.verdict().kind, Kind::none);
    wq::Worker worker{context, "onward", node.at()};
    wq::Received received = worker.receive(patience);
    ASSERT_TRUE(received);
    received->ack();
    EXPECT_EQ(delivery.wait(patience).kind, Kind::ack);
}

// The encoder ------------------------------------------------------------------------------------------------------

TEST(Encoder, SaysWhatItEncodesAndIsDone) {
    MadeUpDelivery delivery{EncodeJob{"cat.mov", "720p"}};
    ::testing::internal::CaptureStdout();
    delivery.handle(encode);
    EXPECT_EQ(::testing::internal::GetCapturedStdout(), "cat.mov as 720p\n");
    EXPECT_EQ(delivery.verdict().kind, Kind::ack);
}

// The demo's worker ------------------------------------------------------------------------------------------------

class DemoWorker : public ::testing::Test {
protected:
    DemoWorker() { std::ofstream(folder_ / "file") << "123456789"; }

    Verdict work(const BlockJob& job, std::uint32_t attempt = 1) {
        const Record record{(folder_ / "record").string()};
        MadeUpDelivery delivery{job, {.attempt = attempt}};
        delivery.handle([&](const BlockJob& given, Delivery& to) { work_on(given, to, folder_, 0us, record); });
        return delivery.verdict();
    }
    [[nodiscard]] std::string record() const {
        std::ostringstream all;
        all << std::ifstream(folder_ / "record").rdbuf();
        return all.str();
    }

    posthorn::TempFolder temporary_;
    std::filesystem::path folder_ = temporary_.path();
};

TEST_F(DemoWorker, RecordsTheChecksumBeforeItAcks) {
    EXPECT_EQ(work({.number = 7, .path = "file", .offset = 0, .length = 9, .fate = "passes"}).kind, Kind::ack);
    EXPECT_THAT(record(), HasSubstr("begun 7 1 "));
    EXPECT_THAT(record(), EndsWith("done 7 1 3421780262\n"));  // the check value of CRC-32
}

TEST_F(DemoWorker, FailsAsItsJobsSay) {
    const BlockJob twice{.number = 1, .path = "file", .offset = 0, .length = 9, .fate = "fails-twice"};
    EXPECT_EQ(work(twice, 2).kind, Kind::nack);
    EXPECT_EQ(work(twice, 3).kind, Kind::ack);
    EXPECT_EQ(work({.number = 2, .path = "file", .fate = "never-passes"}, 9).kind, Kind::nack);
    EXPECT_EQ(work({.number = 3, .path = "file", .fate = "rejected"}).text, "nobody wants this block");
    const Verdict missing = work({.number = 4, .path = "nowhere", .length = 1, .fate = "passes"});
    EXPECT_EQ(missing.kind, Kind::nack);
    EXPECT_THAT(missing.text, HasSubstr("nowhere"));
}

// The node and the clock -------------------------------------------------------------------------------------------

TEST(TestingNode, HasThePoliciesItWasGiven) {
    posthorn::testing::NodeOptions options;
    options.queue.max_attempts = 1;
    options.queues["patient"].backoff = {.kind = posthorn::Backoff::Kind::fixed, .min = 1ms};
    Node node{std::move(options)};
    posthorn::Context context;
    for (const auto& [queue, attempts] : {std::pair{"other", 1U}, std::pair{"patient", 5U}}) {
        wq::Producer producer{context, queue, node.at()};
        const wq::Ticket ticket = producer.send("x");
        wq::Worker worker{context, queue, node.at()};
        for (std::uint32_t attempt = 1; attempt <= attempts; ++attempt) {
            wq::Received received = worker.receive(patience);
            ASSERT_TRUE(received);
            EXPECT_EQ(received->attempt(), attempt);
            received->nack("no");
        }
        EXPECT_EQ(ticket.wait(patience), Status::ok) << "dead-lettered";
    }
    EXPECT_THROW(Node({.queue = {.max_attempts = 0}}), Error);
}

TEST(TestingNode, KeepsWhatIsOnItsDiskOverARestart) {
    Node node{{.on_disk = true}};
    posthorn::Context context;
    wq::Producer producer{context, "q", node.at()};
    EXPECT_EQ(producer.send("x").wait(patience), Status::ok);
    node.restart();
    wq::Worker worker{context, "q", node.at()};
    wq::Received received = worker.receive(patience);
    ASSERT_TRUE(received);
    EXPECT_EQ(received->message().payload, "x");
    EXPECT_EQ(received->ack_sync(patience), Status::ok);
}

TEST(TestingNode, IsWhereItWasBoundAndTellsTheHook) {
    posthorn::Context context;
    std::atomic<bool> told{false};
    posthorn::testing::NodeOptions options;
    options.queue.max_attempts = 1;
    options.bind = "inproc://node";
    options.on_event = [&](const posthorn::Event& event) {
        if (event.kind == posthorn::Event::Kind::dead_lettered) told = true;
    };
    Node node{context, options};
    EXPECT_EQ(node.at().endpoints(), std::vector<std::string>{"inproc://node"});
    wq::Producer producer{context, "q", node.at()};
    wq::Worker worker{context, "q", node.at()};
    const wq::Ticket ticket = producer.send("x");
    wq::Received received = worker.receive(patience);
    ASSERT_TRUE(received);
    received->nack("no");
    EXPECT_EQ(ticket.wait(patience), Status::ok);
    EXPECT_TRUE(told);

    options.bind = "tcp://127.0.0.1:*";
    Node elsewhere{options};
    const auto endpoints = elsewhere.at().endpoints();
    elsewhere.restart();
    EXPECT_EQ(elsewhere.at().endpoints(), endpoints) << "at the number it had";
    options.clock = ManualClock{}.source();
    EXPECT_THROW(Node(context, options), Error) << "the context has one";
}

class Clocked : public ::testing::Test {
protected:
    static posthorn::testing::NodeOptions options(const ManualClock& clock) {
        posthorn::testing::NodeOptions options;
        options.queue.backoff = {.kind = posthorn::Backoff::Kind::fixed, .min = 10min};
        options.queues["hangs"].backoff = {.kind = posthorn::Backoff::Kind::fixed, .min = 1ms};
        options.queues["hangs"].lease_cap = 1min;
        options.clock = clock.source();
        return options;
    }

    ManualClock clock_;
    Node node_{options(clock_)};
    posthorn::Context context_{{.clock = clock_.source()}};
};

TEST_F(Clocked, BackoffIsOverWhenTheClockSaysSo) {
    wq::Producer producer{context_, "q", node_.at()};
    wq::Worker worker{context_, "q", node_.at()};
    const wq::Ticket ticket = producer.send("x");
    wq::Received received = worker.receive(patience);
    ASSERT_TRUE(received);
    received->nack("not now");
    EXPECT_EQ(worker.receive(100ms).status(), Status::timed_out);
    clock_.advance(10min);
    wq::Received again = worker.receive(patience);
    ASSERT_TRUE(again);
    EXPECT_EQ(again->attempt(), 2U);
    EXPECT_EQ(again->ack_sync(patience), Status::ok);
    EXPECT_EQ(ticket.wait(patience), Status::ok);
    EXPECT_THROW(clock_.advance(-1s), Error);
}

TEST_F(Clocked, WhoFallsSilentIsNamed) {
    std::mutex mutex;
    std::string texts;
    posthorn::testing::NodeOptions own = options(clock_);
    own.on_event = [&](const posthorn::Event& event) {
        const std::lock_guard lock(mutex);
        if (event.kind == posthorn::Event::Kind::lost) texts += event.text;
    };
    Node node{std::move(own)};
    const wq::Producer producer{context_, "q", node.at(), {.name = "importer"}};
    const wq::Worker worker{context_, "q", node.at(), {.name = "encoder"}};
    const auto deadline = std::chrono::steady_clock::now() + patience;
    const auto said = [&](const char* who) {
        const std::lock_guard lock(mutex);
        return texts.find(who) != std::string::npos;
    };
    // Who is heard right after a leap is not silent.
    while (!said("producer importer") || !said("consumer encoder")) {
        ASSERT_LT(std::chrono::steady_clock::now(), deadline);
        clock_.advance(1h);
    }
}

TEST_F(Clocked, LeasesAreOverWhenTheClockSaysSo) {
    wq::Producer producer{context_, "hangs", node_.at()};
    wq::Worker hangs{context_, "hangs", node_.at(), {.concurrency = 2}};
    EXPECT_EQ(producer.send("x").status(), Status::ok);
    wq::Received received = hangs.receive(patience);
    ASSERT_TRUE(received);
    std::mutex mutex;
    std::condition_variable_any told;
    const std::stop_token stop = received->stop_token();
    clock_.advance(2min);
    {
        std::unique_lock lock(mutex);
        EXPECT_FALSE(told.wait_for(lock, stop, patience, [] { return false; }));
        EXPECT_TRUE(stop.stop_requested());
    }
    wq::Received again = hangs.receive(patience);
    ASSERT_TRUE(again);
    EXPECT_EQ(again->ack_sync(patience), Status::ok);
}

}  // namespace
