#include "request_reply.hpp"

#include <algorithm>
#include <array>
#include <functional>
#include <semaphore>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include <posthorn/request_reply.hpp>

#include "child.hpp"
#include "node.hpp"
#include "work_queue.hpp"
#include "zmq_socket.hpp"

namespace fs = std::filesystem;

namespace bench {

namespace {

using namespace std::chrono_literals;
namespace rr = posthorn::request_reply;

constexpr std::uint64_t one_by_one = 5000;

std::string payload_of(std::uint64_t number) {
    std::string payload(payload_bytes, 'x');
    write_number(payload.data(), number);
    return payload;
}

// Asks one by one and says the median and the 99th percentile, then asks all and says how long that took.
void measure(const Line& line, const std::function<void(std::uint64_t number)>& ask_and_wait,
             const std::function<void()>& ask_all) {
    std::vector<std::int64_t> times;
    for (std::uint64_t number = 0; number < one_by_one; ++number) {
        const std::int64_t start = monotonic_ns();
        ask_and_wait(number);
        times.push_back(monotonic_ns() - start);
    }
    std::sort(times.begin(), times.end());
    line.say(std::to_string(times[times.size() / 2]));
    line.say(std::to_string(times[times.size() * 99 / 100]));
    const std::int64_t start = monotonic_ns();
    ask_all();
    line.say(std::to_string(monotonic_ns() - start));
}

void check_answer(const rr::Reply& reply, std::uint64_t number) {
    if (!reply) throw std::runtime_error("a request failed: " + reply.error);
    if (read_number(reply.message.payload.data()) != number) throw std::runtime_error("another request's answer");
}

// Says its endpoint (empty at a node) first.
void ask_ours(const Line& line, const std::string& home, std::uint64_t requests) {
    posthorn::Context context;
    rr::Requester requester{context, "bench", posthorn::Home::parse(home), {.deadline = 2min}};
    say_endpoint(line, requester.endpoint());
    if (requester.wait_for_repliers(1, 30s) != posthorn::Status::ok) throw std::runtime_error("no replier comes");
    const auto ask_and_wait = [&](std::uint64_t number) {
        check_answer(requester.request(payload_of(number)).get(), number);
    };
    const auto ask_all = [&] {
        Tally tally{requests};
        std::counting_semaphore<outstanding> free{outstanding};
        for (std::uint64_t number = 0; number < requests; ++number) {
            free.acquire();
            requester.request(payload_of(number), [&](const rr::Reply& reply) {
                if (reply) tally.count(reply.message.payload.data(), reply.message.payload.size());
                free.release();
            });
        }
        for (int i = 0; i < outstanding; ++i) free.acquire();
        if (!tally.complete()) throw std::runtime_error("not every request was answered");
    };
    measure(line, ask_and_wait, ask_all);
}

void reply_ours(const Line& line, const std::string& endpoint) {
    posthorn::Context context;
    rr::Replier replier{context, "bench", posthorn::at(endpoint)};
    std::stop_source done;
    std::jthread end([&] {
        static_cast<void>(line.hear());  // "bye"
        done.request_stop();
    });
    static_cast<void>(
        replier.run([](const posthorn::Message& request) { return request.payload; }, rr::until(done.get_token())));
}

void ask_dealer(const Line& line, const std::string& endpoint, std::uint64_t requests) {
    const Socket socket{ZMQ_DEALER};
    socket.set(ZMQ_RCVTIMEO, 30'000);
    check(::zmq_connect(socket.get(), endpoint.c_str()), "connect");
    const auto ask = [&](std::uint64_t number) {
        const std::string payload = payload_of(number);
        check(::zmq_send(socket.get(), payload.data(), payload.size(), 0), "send");
    };
    std::array<char, payload_bytes> answer{};
    const auto take = [&] { check(::zmq_recv(socket.get(), answer.data(), answer.size(), 0), "an answer is lost"); };
    const auto ask_and_wait = [&](std::uint64_t number) {
        ask(number);
        take();
        if (read_number(answer.data()) != number) throw std::runtime_error("another request's answer");
    };
    const auto ask_all = [&] {
        Tally tally{requests};
        std::uint64_t asked = 0;
        for (std::uint64_t answered = 0; answered < requests; ++answered) {
            while (asked < requests && asked < answered + outstanding) ask(asked++);
            take();
            tally.count(answer.data(), answer.size());
        }
        if (!tally.complete()) throw std::runtime_error("not every request was answered");
    };
    measure(line, ask_and_wait, ask_all);
}

void reply_router(const Line& line, std::uint64_t requests) {
    const Socket socket{ZMQ_ROUTER};
    socket.set(ZMQ_SNDHWM, 10 * outstanding);  // at the default of 1000 answers are dropped
    line.say(socket.bind_anywhere());
    std::array<char, 64> peer{};
    std::array<char, payload_bytes> payload{};
    for (std::uint64_t left = one_by_one + requests; left > 0; --left) {
        const int named = ::zmq_recv(socket.get(), peer.data(), peer.size(), 0);
        check(named, "recv");
        check(::zmq_recv(socket.get(), payload.data(), payload.size(), 0), "recv");
        check(::zmq_send(socket.get(), peer.data(), static_cast<std::size_t>(named), ZMQ_SNDMORE), "send");
        check(::zmq_send(socket.get(), payload.data(), payload.size(), 0), "send");
    }
}

Exchange result_of(const Child& asking, std::uint64_t requests) {
    const auto median = static_cast<double>(std::stoll(asking.hear()));
    const auto p99 = static_cast<double>(std::stoll(asking.hear()));
    const auto all = static_cast<double>(std::stoll(asking.hear()));
    return {.per_second = static_cast<double>(requests) * 1e9 / all, .median_us = median / 1e3, .p99_us = p99 / 1e3};
}

Exchange between(Child& asking, Child& replying, std::uint64_t requests) {
    const Exchange result = result_of(asking, requests);
    asking.join();
    replying.say("bye");
    replying.join();
    return result;
}

}  // namespace

Exchange ours_brokerless(std::uint64_t requests) {
    Child asking{[=](const Line& line) { ask_ours(line, "here:tcp://127.0.0.1:*", requests); }};
    const std::string endpoint = endpoint_of(asking);
    Child replying{[=](const Line& line) { reply_ours(line, endpoint); }};
    return between(asking, replying, requests);
}

Exchange ours_at_node(std::uint64_t requests, const fs::path& posthorn, const fs::path& disk) {
    Node node{posthorn, disk};
    Child replying{[&](const Line& line) { reply_ours(line, node.endpoint()); }};
    Child asking{[&](const Line& line) { ask_ours(line, "at:" + node.endpoint(), requests); }};
    static_cast<void>(endpoint_of(asking));  // none of its own
    const Exchange result = between(asking, replying, requests);
    node.stop();
    return result;
}

Exchange dealer_router(std::uint64_t requests) {
    Child replying{[=](const Line& line) { reply_router(line, requests); }};
    const std::string endpoint = replying.hear();
    Child asking{[=](const Line& line) { ask_dealer(line, endpoint, requests); }};
    const Exchange result = result_of(asking, requests);
    asking.join();
    replying.join();
    return result;
}

}  // namespace bench
