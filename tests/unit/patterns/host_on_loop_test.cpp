#include "../../../patterns/host_on_loop.hpp"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fixture.hpp"
#include "store/memory_store.hpp"

namespace posthorn::work_queue {
namespace {

host::Options host_options(std::uint8_t life) {
    host::Options options;
    options.incarnation.bytes.fill(life);
    return options;
}

// Connects and leaves without a word.
void knock(const std::string& endpoint) {
    const int stranger = ::socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    endpoint.substr(std::string_view("ipc://").size()).copy(address.sun_path, sizeof address.sun_path - 1);
    ASSERT_EQ(::connect(stranger, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    ::close(stranger);
}

class HostOnLoopTest : public ::testing::Test {
protected:
    std::unique_ptr<HostOnLoop> host(std::uint8_t life, const std::string& endpoint) {
        auto made = std::make_unique<HostOnLoop>(hosts_, host_options(life), store::make_memory_store());
        made->bind(endpoint);
        return made;
    }

    Events events_;
    Context hosts_;
    Context ends_{events_.hook()};
    TempFolder folder_;
};

TEST_F(HostOnLoopTest, ProducersAndWorkersMeetAtIt) {
    const std::string endpoint = folder_.ipc("host");
    const auto home = host(1, endpoint);
    Producer producer{ends_, "q", at(endpoint)};
    Running running{ends_, at(endpoint), {}, [](Delivery&) {}};
    for (int i = 0; i < 100; ++i) EXPECT_EQ(producer.send("x").status(), Status::ok);
    EXPECT_EQ(producer.flush(patience), Status::ok);
}

TEST_F(HostOnLoopTest, WhatAMemoryHostTookAlongIsSentAgain) {
    const std::string endpoint = folder_.ipc("host");
    auto home = host(1, endpoint);
    Producer producer{ends_, "q", at(endpoint)};
    std::vector<Ticket> tickets;
    tickets.reserve(100);
    for (int i = 0; i < 100; ++i) tickets.push_back(producer.send(std::to_string(i)));
    ASSERT_TRUE(events_.wait(Event::Kind::connected));
    home.reset();
    home = host(2, endpoint);
    Log<std::string> handled;
    Running running{ends_, at(endpoint), {}, [&](Delivery& delivery) { handled.add(delivery.message().payload); }};
    EXPECT_EQ(producer.flush(patience), Status::ok);
    EXPECT_EQ(handled.now().size(), 100U);
}

TEST_F(HostOnLoopTest, AProducerGoesOnWithTheNextEndpoint) {
    const std::string endpoint = folder_.ipc("second");
    const auto home = host(1, endpoint);
    Producer producer{ends_, "q", at({folder_.ipc("first"), endpoint})};
    Running running{ends_, at(endpoint), {}, [](Delivery&) {}};
    EXPECT_EQ(producer.send("x").wait(patience), Status::ok);
}

TEST_F(HostOnLoopTest, StrangersAreNamedWhereverOneBinds) {
    HostOnLoop host{ends_, host_options(1), store::make_memory_store()};
    host.bind(folder_.ipc("host"));
    const Worker worker{ends_, "q", Home{}, {.bind = {folder_.ipc("worker")}}};
    for (const auto* name : {"host", "worker"}) {
        knock(folder_.ipc(name));
        EXPECT_TRUE(events_.wait(Event::Kind::dropped, folder_.ipc(name)));
    }
}

TEST_F(HostOnLoopTest, DrainSaysGoodbyeToEveryone) {
    const std::string endpoint = folder_.ipc("host");
    const auto home = host(1, endpoint);
    const Worker worker{ends_, "q", at(endpoint)};
    ASSERT_TRUE(events_.wait(Event::Kind::connected));
    EXPECT_TRUE(home->drain(1s, patience));
    EXPECT_TRUE(events_.wait(Event::Kind::lost));
    EXPECT_FALSE(worker.connected());
}

TEST_F(HostOnLoopTest, ItKeepsIntroducingItselfUntilTheOtherSideIsThere) {
    const std::string endpoint = folder_.ipc("worker");
    Here options;
    options.connect = {endpoint};
    Producer producer{ends_, "q", here(options)};
    const Ticket ticket = producer.send("x");
    ASSERT_TRUE(events_.wait(Event::Kind::connected));  // to the host beside it
    Worker worker{ends_, "q", Home{}, {.bind = {endpoint}}};
    std::stop_source stop;
    std::thread runs{[&] { worker.run([](Delivery&) {}, until(stop.get_token())); }};
    EXPECT_EQ(ticket.wait(patience), Status::ok);
    stop.request_stop();
    runs.join();
}

}  // namespace
}  // namespace posthorn::work_queue
