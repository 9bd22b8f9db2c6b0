#include "pub_sub.hpp"

#include <algorithm>
#include <deque>
#include <functional>

#include <posthorn/pub_sub.hpp>

#include "child.hpp"
#include "work_queue.hpp"
#include "zmq_socket.hpp"

namespace bench {

namespace {

using namespace std::chrono_literals;
namespace ps = posthorn::pub_sub;

// Each says when it received its last message, and how many they were.
using Listen = std::function<void(const Line&, const std::string& endpoint, std::uint64_t messages)>;
// Says its endpoint, waits for "go", says the time before the first send, and ends when it is told to.
using Publish = std::function<void(const Line&, std::uint64_t messages, unsigned subscribers)>;

void take_part(const Line& line, std::uint64_t received) {
    line.say(std::to_string(monotonic_ns()));
    line.say(std::to_string(received));
}

void publish_ours(const Line& line, std::uint64_t messages, unsigned subscribers, posthorn::WhenFull when_full) {
    posthorn::Context context;
    ps::Publisher publisher{context, "bench",
                            posthorn::here({.bind = "tcp://127.0.0.1:*", .live = {.when_full = when_full}})};
    line.say(publisher.endpoint());
    if (publisher.wait_for_subscribers(subscribers, 30s) != posthorn::Status::ok)
        throw std::runtime_error("the subscribers do not come");
    line.say(std::to_string(monotonic_ns()));
    for (std::uint64_t number = 0; number < messages; ++number) {
        std::string payload(payload_bytes, 'x');
        write_number(payload.data(), number);
        const auto status = publisher.send(std::move(payload)).status();
        if (status != posthorn::Status::ok) throw std::runtime_error("send: " + std::string(to_string(status)));
    }
    static_cast<void>(line.hear());  // all are done
}

void listen_to_ours(const Line& line, const std::string& endpoint, std::uint64_t messages) {
    posthorn::Context context;
    ps::Subscriber subscriber{context, "bench", posthorn::at(endpoint)};
    std::stop_source done;
    std::uint64_t received = 0;
    const auto status = subscriber.run(
        [&](const posthorn::Message& message) {
            ++received;
            if (read_number(message.payload.data()) + 1 == messages) done.request_stop();
        },
        ps::until(done.get_token()));
    take_part(line, received);
    if (status != posthorn::Status::ok || subscriber.received() + subscriber.missed() != messages)
        throw std::runtime_error("what was received and missed is not what was sent");
}

void publish_zmq(const Line& line, std::uint64_t messages, unsigned subscribers, bool nodrop) {
    const Socket socket{ZMQ_XPUB};  // as PUB is, but that it hears of its subscribers
    if (nodrop) socket.set(ZMQ_XPUB_NODROP, 1);
    socket.set(ZMQ_XPUB_VERBOSE, 1);
    line.say(socket.bind_anywhere());
    for (unsigned i = 0; i < subscribers; ++i) {
        char subscription = 0;
        check(::zmq_recv(socket.get(), &subscription, 1, 0), "subscription");
    }
    line.say(std::to_string(monotonic_ns()));
    std::array<char, payload_bytes> payload{};
    for (std::uint64_t number = 0; number < messages; ++number) {
        write_number(payload.data(), number);
        check(::zmq_send(socket.get(), payload.data(), payload.size(), 0), "send");
    }
    static_cast<void>(line.hear());
}

// Of one that drops nobody knows which is the last: when nothing comes for a while.
void listen_to_zmq(const Line& line, const std::string& endpoint, std::uint64_t messages) {
    const Socket socket{ZMQ_SUB};
    check(::zmq_setsockopt(socket.get(), ZMQ_SUBSCRIBE, "", 0), "subscribe");
    check(::zmq_connect(socket.get(), endpoint.c_str()), "connect");
    std::array<char, payload_bytes> payload{};
    std::uint64_t received = 0;
    std::int64_t last = monotonic_ns();
    while (received < messages) {
        if (::zmq_recv(socket.get(), payload.data(), payload.size(), 0) < 0) break;
        if (++received == 1) socket.set(ZMQ_RCVTIMEO, 1000);
        if (received % 1024 == 0 || read_number(payload.data()) + 1 == messages) last = monotonic_ns();
    }
    line.say(std::to_string(last));
    line.say(std::to_string(received));
}

Fan measure(const Publish& publish, const Listen& listen, std::uint64_t messages, unsigned subscribers) {
    Child publisher{[&](const Line& line) { publish(line, messages, subscribers); }};
    const std::string endpoint = publisher.hear();
    std::deque<Child> listeners;
    for (unsigned i = 0; i < subscribers; ++i) {
        listeners.emplace_back([&](const Line& line) { listen(line, endpoint, messages); });
    }
    const std::int64_t start = std::stoll(publisher.hear());
    Fan fan;
    for (Child& one : listeners) {
        const std::int64_t end = std::stoll(one.hear());
        const auto received = static_cast<double>(std::stoull(one.hear()));
        fan.per_second += received * 1e9 / static_cast<double>(end - start) / subscribers;
        fan.received = std::min(fan.received, received / static_cast<double>(messages));
    }
    publisher.say("bye");
    for (Child& one : listeners) one.join();
    publisher.join();
    return fan;
}

}  // namespace

Fan ours_blocking(std::uint64_t messages, unsigned subscribers) {
    const Publish publish = [](const Line& line, std::uint64_t count, unsigned who) {
        publish_ours(line, count, who, posthorn::WhenFull::block);
    };
    return measure(publish, listen_to_ours, messages, subscribers);
}

Fan ours_dropping(std::uint64_t messages, unsigned subscribers) {
    const Publish publish = [](const Line& line, std::uint64_t count, unsigned who) {
        publish_ours(line, count, who, posthorn::WhenFull::drop_oldest);
    };
    return measure(publish, listen_to_ours, messages, subscribers);
}

Fan xpub_nodrop(std::uint64_t messages, unsigned subscribers) {
    const Publish publish = [](const Line& line, std::uint64_t count, unsigned who) {
        publish_zmq(line, count, who, true);
    };
    return measure(publish, listen_to_zmq, messages, subscribers);
}

Fan pub(std::uint64_t messages, unsigned subscribers) {
    const Publish publish = [](const Line& line, std::uint64_t count, unsigned who) {
        publish_zmq(line, count, who, false);
    };
    return measure(publish, listen_to_zmq, messages, subscribers);
}

}  // namespace bench
