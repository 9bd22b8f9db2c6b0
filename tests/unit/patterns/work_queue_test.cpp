#include <posthorn/work_queue.hpp>

#include <atomic>
#include <latch>

#include "fixture.hpp"

namespace posthorn::work_queue {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

TEST_F(WorkQueue, FieldsAndIdentityArriveAsTheyWereSent) {
    Producer producer{producers_, "q", here(here_at("tcp://127.0.0.1:*"))};
    Log<Message> messages;
    Log<std::string> ids;
    Running running{workers_, at(producer.endpoint()), {}, [&](Delivery& delivery) {
                        messages.add(delivery.message());
                        ids.add(delivery.id());
                        if (delivery.attempt() == 1) throw std::runtime_error("once more");
                    }};
    Message message;
    message.payload = std::string("a\0b", 3);
    message.type = "job";
    message.headers = {{"k", "v"}};
    message.subject = "a.b";
    message.correlation_id = "c";
    const Ticket ticket = producer.send(message);
    EXPECT_EQ(ticket.wait(patience), Status::ok);
    const auto got = messages.wait(2);
    EXPECT_EQ(got[0].payload, message.payload);
    EXPECT_EQ(got[0].type, "job");
    EXPECT_EQ(got[0].headers, message.headers);
    EXPECT_EQ(got[0].subject, "a.b");
    EXPECT_EQ(got[0].correlation_id, "c");
    EXPECT_EQ(ids.now()[0], ids.now()[1]);
    EXPECT_THAT(ids.now()[0], HasSubstr("-1"));
}

TEST_F(WorkQueue, TypedHandlersGetTypedValuesAndWhatIsNoneIsDeadLettered) {
    Producer producer{producers_, "q", here(here_at("tcp://127.0.0.1:*"))};
    Log<std::pair<std::string, int>> jobs;
    Running running{workers_, at(producer.endpoint()), {}, [&](const Job& job, Delivery&) {
                        jobs.add({job.path, job.number});
                    }};
    EXPECT_EQ(producer.send("no msgpack").status(), Status::ok);
    EXPECT_EQ(producer.send(Job{"cat.mov", 7}).status(), Status::ok);
    EXPECT_EQ(producer.flush(patience), Status::ok);
    EXPECT_THAT(jobs.now(), ElementsAre(std::pair<std::string, int>("cat.mov", 7)));
    EXPECT_TRUE(producer_events_.wait(Event::Kind::dead_lettered));
}

int typed_calls = 0;
void typed_function(const Job& /*job*/, Delivery& /*delivery*/) {
    ++typed_calls;
}

TEST_F(WorkQueue, FunctionsAndMutableLambdasAreHandlersToo) {
    typed_calls = 0;
    Producer producer{producers_, "q", here(here_at("tcp://127.0.0.1:*"))};
    {
        Running running{workers_, at(producer.endpoint()), {}, &typed_function};
        EXPECT_EQ(producer.send(Job{}).wait(patience), Status::ok);
    }
    EXPECT_EQ(typed_calls, 1);
    Worker worker{workers_, "q", at(producer.endpoint())};
    std::stop_source stop;
    EXPECT_EQ(producer.send(Job{}).status(), Status::ok);
    worker.run(
        [&, calls = 0](const Job& job, Delivery&) mutable {
            EXPECT_EQ(job.number, 0);
            EXPECT_EQ(++calls, 1);
            stop.request_stop();
        },
        until(stop.get_token()));
    EXPECT_EQ(producer.flush(patience), Status::ok);
}

TEST_F(WorkQueue, ADeliveryIsSettledOnce) {
    Producer producer{producers_, "q", here(here_at("tcp://127.0.0.1:*"))};
    Log<std::string> errors;
    Running running{workers_, at(producer.endpoint()), {}, [&](Delivery& delivery) {
                        delivery.ack();
                        EXPECT_TRUE(delivery.settled());
                        try {
                            delivery.nack("again");
                        } catch (const Error& error) {
                            errors.add(error.what());
                        }
                    }};
    EXPECT_EQ(producer.send("x").wait(patience), Status::ok);
    EXPECT_THAT(errors.wait(1)[0], HasSubstr("settled already"));
}

TEST_F(WorkQueue, ADeliveryThatWasMovedOutIsSettledByWhoHasIt) {
    Producer producer{producers_, "q", here(here_at("tcp://127.0.0.1:*"))};
    std::mutex mutex;
    std::condition_variable came;
    std::optional<Delivery> kept;
    std::atomic<int> dropped{0};
    Running running{workers_, at(producer.endpoint()), {}, [&](Delivery& delivery) {
                        if (delivery.message().payload == "drop") {
                            if (++dropped == 1) const Delivery gone = std::move(delivery);
                            return;
                        }
                        const std::lock_guard lock(mutex);
                        kept.emplace(std::move(delivery));
                        came.notify_all();
                    }};
    const Ticket ticket = producer.send("keep");
    {
        std::unique_lock lock(mutex);
        ASSERT_TRUE(came.wait_for(lock, patience, [&] { return kept.has_value(); }));
        EXPECT_EQ(ticket.wait(0ms), Status::timed_out);
        kept->ack();
    }
    EXPECT_EQ(ticket.wait(patience), Status::ok);
    EXPECT_EQ(producer.send("drop").wait(patience), Status::ok);
    EXPECT_EQ(dropped, 2) << "dropped unsettled is a nack";
}

TEST_F(WorkQueue, HandlersRunAtTheSameTime) {
    Producer producer{producers_, "q", here(here_at("tcp://127.0.0.1:*"))};
    std::latch all_in{4};
    Running running{
        workers_, at(producer.endpoint()), {.concurrency = 4}, [&](Delivery&) { all_in.arrive_and_wait(); }};
    for (int i = 0; i < 4; ++i) EXPECT_EQ(producer.send("x").status(), Status::ok);
    EXPECT_EQ(producer.flush(patience), Status::ok);
}

TEST_F(WorkQueue, AWorkerServesSeveralProducers) {
    Producer one{producers_, "q", here(here_at("tcp://127.0.0.1:*"))};
    Producer two{producers_, "q", here(here_at(folder_.ipc("two")))};
    Log<std::string> handled;
    Running running{workers_, at({one.endpoint(), two.endpoint()}), {.prefetch = 1}, [&](Delivery& delivery) {
                        handled.add(delivery.message().payload);
                    }};
    for (int i = 0; i < 20; ++i) {
        EXPECT_EQ(one.send("one").status(), Status::ok);
        EXPECT_EQ(two.send("two").status(), Status::ok);
    }
    EXPECT_EQ(one.flush(patience), Status::ok);
    EXPECT_EQ(two.flush(patience), Status::ok);
    EXPECT_THAT(handled.now(), SizeIs(40));
}

TEST_F(WorkQueue, ProducersThatComeAndGoConnectToWorkersThatBind) {
    Log<std::string> handled;
    Worker worker{workers_, "q", Home{}, {.bind = {"tcp://127.0.0.1:*", folder_.ipc("worker")}}};
    std::stop_source stop;
    std::thread runs{[&] {
        worker.run([&](Delivery& delivery) { handled.add(delivery.message().payload); }, until(stop.get_token()));
    }};
    for (const std::string& endpoint : worker.endpoints()) {
        Here options;
        options.connect = {endpoint};
        Producer producer{producers_, "q", here(options)};
        EXPECT_EQ(producer.send(endpoint).wait(patience), Status::ok);
        EXPECT_EQ(producer.close(patience), 0U);
    }
    EXPECT_THAT(handled.now(), ::testing::ElementsAreArray(worker.endpoints()));
    stop.request_stop();
    runs.join();
}

TEST_F(WorkQueue, DrainFinishesWhatIsBegunAndLeavesTheRestToOthers) {
    Producer producer{producers_, "q", here(here_at("tcp://127.0.0.1:*"))};
    Log<std::string> first_handled;
    std::latch go{1};
    auto first = std::make_unique<Running>(workers_, at(producer.endpoint()), WorkerOptions{.prefetch = 5},
                                           [&](Delivery& delivery) {
                                               first_handled.add(delivery.message().payload);
                                               go.wait();
                                           });
    for (int i = 0; i < 5; ++i) EXPECT_EQ(producer.send(std::to_string(i)).status(), Status::ok);
    EXPECT_THAT(first_handled.wait(1), ElementsAre("0"));
    EXPECT_EQ(first->worker.drain(0ms), Status::timed_out) << "a handler runs";
    Log<std::pair<std::string, std::uint32_t>> second_handled;
    Running second{workers_, at(producer.endpoint()), {}, [&](Delivery& delivery) {
                       second_handled.add({delivery.message().payload, delivery.attempt()});
                   }};
    const auto rest = second_handled.wait(4);
    EXPECT_THAT(rest, Contains(std::pair<std::string, std::uint32_t>("1", 1)));
    go.count_down();
    EXPECT_EQ(first->stop(), Status::timed_out);
    EXPECT_EQ(producer.flush(patience), Status::ok);
    EXPECT_THAT(first_handled.now(), ElementsAre("0"));
    EXPECT_THAT(second_handled.now(), SizeIs(4));
}

TEST_F(WorkQueue, AnOrderlyEndWaitsForHandlersAndTheHostsWord) {
    Producer producer{producers_, "q", here(here_at("tcp://127.0.0.1:*"))};
    Log<int> begun;
    std::latch go{1};
    Running running{workers_, at(producer.endpoint()), {}, [&](Delivery&) {
                        begun.add(1);
                        go.wait();
                    }};
    const Ticket ticket = producer.send("x");
    (void)begun.wait(1);
    std::thread drains{[&] { EXPECT_EQ(running.worker.drain(patience), Status::ok); }};
    go.count_down();
    drains.join();
    EXPECT_EQ(running.stop(), Status::ok);
    EXPECT_EQ(ticket.wait(patience), Status::ok);
    EXPECT_EQ(running.worker.run([](Delivery&) {}, until(std::stop_token{})), Status::closed);
}

TEST_F(WorkQueue, StopTokensFireWhenADrainTakesTooLong) {
    Producer producer{producers_, "q", here(here_at("tcp://127.0.0.1:*")), {.close_timeout = 0ms}};
    Log<int> begun;
    Running running{workers_, at(producer.endpoint()), {.drain_timeout = 10ms}, [&](Delivery& delivery) {
                        std::mutex mutex;
                        std::condition_variable_any stopped;
                        std::unique_lock lock(mutex);
                        const std::stop_token token = delivery.stop_token();
                        begun.add(1);
                        stopped.wait(lock, token, [] { return false; });
                        EXPECT_TRUE(token.stop_requested());
                        delivery.release();
                    }};
    EXPECT_EQ(producer.send("x").status(), Status::ok);
    (void)begun.wait(1);
    const auto asked = std::chrono::steady_clock::now();
    EXPECT_EQ(running.stop(), Status::timed_out);
    EXPECT_LT(std::chrono::steady_clock::now() - asked, WorkerOptions{}.drain_timeout) << "not the default";
}

TEST_F(WorkQueue, AFullBufferIsAnAnswer) {
    Producer producer{
        producers_, "q", at(folder_.ipc("nobody")), {.send_timeout = 1ms, .close_timeout = 0ms, .buffer_messages = 2}};
    EXPECT_EQ(producer.send("1").status(), Status::ok);
    EXPECT_EQ(producer.send("2").status(), Status::ok);
    const auto asked = std::chrono::steady_clock::now();
    EXPECT_EQ(producer.send("3").status(), Status::timed_out);
    EXPECT_LT(std::chrono::steady_clock::now() - asked, defaults::send_timeout) << "not the default";
    EXPECT_EQ(producer.unconfirmed(), 2U);
    EXPECT_FALSE(producer.connected());
    EXPECT_EQ(producer.flush(1ms), Status::timed_out);
    EXPECT_EQ(producer.close(1ms), 2U);
    EXPECT_EQ(producer.send("4").status(), Status::closed);
}

TEST_F(WorkQueue, BytesAreBoundedAsWell) {
    Producer producer{producers_,
                      "q",
                      at(folder_.ipc("nobody")),
                      {.send_timeout = 1ms, .close_timeout = 0ms, .buffer_bytes = 10'000}};
    EXPECT_EQ(producer.send(std::string(20'000, 'x')).status(), Status::ok) << "one is always taken";
    EXPECT_EQ(producer.send("x").status(), Status::timed_out);
}

// One after the other, each when the queue has the one before.
void send_to_be_held(Producer& producer, int count) {
    for (int i = 0; i < count; ++i) {
        const Ticket ticket = producer.send(std::to_string(i));
        ASSERT_EQ(ticket.status(), Status::ok) << i;
        const auto deadline = std::chrono::steady_clock::now() + patience;
        while (ticket.level() == Level::none) {
            ASSERT_LT(std::chrono::steady_clock::now(), deadline);
            (void)ticket.wait(1ms);
        }
    }
}

TEST_F(WorkQueue, AQueueInMemoryIsBoundedByItsPolicyNotByTheBuffer) {
    const ProducerOptions small{.send_timeout = 1s, .close_timeout = 0ms, .buffer_messages = 2};
    Here home = here_at("inproc://dropping");
    home.queue.max_messages = 20;
    home.queue.when_full = WhenFull::drop_oldest;
    Producer dropping{producers_, "dropping", here(home), small};
    send_to_be_held(dropping, 100);
    EXPECT_TRUE(producer_events_.wait(Event::Kind::overflow));

    home.bind = "inproc://blocking";
    home.queue.when_full = WhenFull::block;
    Producer blocking{producers_, "q", here(home), small};
    send_to_be_held(blocking, 20);
    EXPECT_EQ(blocking.send("behind").status(), Status::ok);
    EXPECT_EQ(blocking.send("it").status(), Status::ok);
    EXPECT_EQ(blocking.send("too much").status(), Status::timed_out);
    EXPECT_EQ(blocking.waits_for(), "queue_full");
    EXPECT_EQ(blocking.unconfirmed(), 22U);
    EXPECT_EQ(blocking.flush(1ms), Status::timed_out);
    Log<std::string> done;
    const Running running{
        producers_, at("inproc://blocking"), {}, [&](Delivery& delivery) { done.add(delivery.message().payload); }};
    EXPECT_EQ(blocking.flush(patience), Status::ok);
    EXPECT_EQ(blocking.unconfirmed(), 0U);
    EXPECT_THAT(done.now(), SizeIs(22));
}

TEST_F(WorkQueue, SendNeverWaitsOnTheLoopsThread) {
    std::optional<Producer> full;
    Log<Status> answers;
    ContextOptions options;
    options.on_event = [&](const Event& event) {
        if (event.kind == Event::Kind::connected && event.subject == "other") answers.add(full->send("2").status());
    };
    Context context{options};
    full.emplace(context, "q", at(folder_.ipc("nobody")), ProducerOptions{.close_timeout = 0ms, .buffer_messages = 1});
    EXPECT_EQ(full->send("1").status(), Status::ok);
    Producer other{context, "other", here(here_at("inproc://other"))};
    EXPECT_THAT(answers.wait(1), ElementsAre(Status::would_block));
    full.reset();  // before its context
}

TEST_F(WorkQueue, WhatIsTooLargeIsNotTaken) {
    Producer producer{producers_, "q", here(here_at("tcp://127.0.0.1:*"))};
    EXPECT_EQ(producer.send(std::string(defaults::message_limit + 1, 'x')).status(), Status::too_large);
    Message message;
    message.subject = std::string(2000, 's');
    EXPECT_THROW((void)producer.send(message), Error);
    Log<std::size_t> sizes;
    Running running{workers_, at(producer.endpoint()), {}, [&](Delivery& delivery) {
                        sizes.add(delivery.message().payload.size());
                    }};
    const std::size_t large = defaults::message_limit - 200;
    EXPECT_EQ(producer.send(std::string(large, 'x')).wait(patience), Status::ok);
    EXPECT_THAT(sizes.now(), ElementsAre(large));
}

TEST_F(WorkQueue, WhatIsLeftBehindIsCounted) {
    Ticket ticket;
    {
        Producer producer{producers_, "q", here(here_at("tcp://127.0.0.1:*")), {.close_timeout = 1ms}};
        ticket = producer.send("nobody takes this");
        EXPECT_EQ(ticket.wait(0ms), Status::timed_out);
    }
    EXPECT_EQ(producer_events_.count(Event::Kind::left_behind), 1U);
    EXPECT_EQ(ticket.wait(patience), Status::closed) << "it outlives the producer";
}

TEST_F(WorkQueue, AnEndWaitsAsLongAsItWasTold) {
    const auto asked = std::chrono::steady_clock::now();
    {
        Producer nobody{producers_, "q", here(here_at("tcp://127.0.0.1:*")), {.close_timeout = 1ms}};
        EXPECT_EQ(nobody.send("x").status(), Status::ok);
    }
    EXPECT_LT(std::chrono::steady_clock::now() - asked, defaults::close_timeout) << "not the default";
    EXPECT_EQ(producer_events_.count(Event::Kind::left_behind), 1U);
    std::optional<Producer> producer{std::in_place, producers_, "q", here(here_at("tcp://127.0.0.1:*")),
                                     ProducerOptions{.close_timeout = patience}};
    Worker worker{workers_, "q", at(producer->endpoint())};
    EXPECT_EQ(producer->send("x").status(), Status::ok);
    Received out = worker.receive(patience);
    ASSERT_TRUE(out);
    EXPECT_EQ(out->ack(), Status::ok);
    producer.reset();
    EXPECT_EQ(producer_events_.count(Event::Kind::left_behind), 1U) << "it was settled in time";
}

TEST_F(WorkQueue, SettlingAfterTheWorkerIsGoneSaysSo) {
    auto home = here_at("tcp://127.0.0.1:*");
    Producer producer{producers_, "q", here(home), {.close_timeout = 0ms}};
    std::optional<Delivery> kept;
    Log<int> begun;
    {
        Running running{workers_, at(producer.endpoint()), {.drain_timeout = 1ms}, [&](Delivery& delivery) {
                            kept.emplace(std::move(delivery));
                            begun.add(1);
                        }};
        EXPECT_EQ(producer.send("x").status(), Status::ok);
        (void)begun.wait(1);
    }
    EXPECT_TRUE(kept->stop_token().stop_requested());
    EXPECT_EQ(kept->ack(), Status::closed);
}

TEST_F(WorkQueue, WhatCannotWorkIsRefusedByName) {
    const auto says = [](const auto& make, const char* what) {
        try {
            make();
            ADD_FAILURE() << "nothing was thrown for " << what;
        } catch (const Error& error) {
            EXPECT_THAT(error.what(), HasSubstr(what));
        }
    };
    const Home home = here(here_at("inproc://a"));
    says([&] { Producer producer(producers_, "a b", home); }, "a b");
    says([&] { Producer producer(producers_, "q", home, {.buffer_messages = 0}); }, "buffer_messages");
    says([&] { Worker worker(workers_, "q", home); }, "at(");
    says([&] { Worker worker(workers_, "q", Home{}); }, "at(");
    says([&] { Worker worker(workers_, "q.dlq", at("inproc://a")); }, "q.dlq");
    says([&] { Worker worker(workers_, "q", at("inproc://a"), {.concurrency = 0}); }, "concurrency");
    says([&] { Worker worker(workers_, "q", at("inproc://a"), {.prefetch = 100'000}); }, "prefetch");
    Producer first{producers_, "q", here(here_at("tcp://127.0.0.1:*"))};
    says([&] { Producer second(producers_, "q", here(here_at(first.endpoint()))); }, "in use");
    Worker runs{workers_, "q", at(first.endpoint())};
}

TEST_F(WorkQueue, AnotherQueueIsRefusedWithAnEvent) {
    Producer producer{producers_, "q", here(here_at("tcp://127.0.0.1:*"))};
    const Worker worker{workers_, "other", at(producer.endpoint())};
    EXPECT_TRUE(worker_events_.wait(Event::Kind::refused));
    EXPECT_FALSE(worker.connected());
}

TEST_F(WorkQueue, AWorkerKnowsWhenNothingIsLeftForIt) {
    Producer producer{producers_, "q", here(here_at("tcp://127.0.0.1:*"))};
    Running running{workers_, at(producer.endpoint()), {}, [](Delivery&) {}};
    EXPECT_EQ(producer.send("x").wait(patience), Status::ok);
    // There is nothing to wait on: who asks this, asks again.
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (!(running.worker.host_empty() && running.worker.idle())) {
        ASSERT_LT(std::chrono::steady_clock::now(), deadline);
        std::this_thread::yield();
    }
    EXPECT_TRUE(running.worker.connected());
    EXPECT_THAT(running.worker.capabilities(), ElementsAre("host:memory"));
    EXPECT_LT(running.worker.since_last_activity(), patience);
}

}  // namespace
}  // namespace posthorn::work_queue
