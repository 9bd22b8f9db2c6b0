#include <algorithm>
#include <stop_token>

#include <posthorn/work_queue.hpp>

#include "child.hpp"
#include "node.hpp"
#include "work_queue.hpp"

namespace fs = std::filesystem;
namespace wq = posthorn::work_queue;
using namespace std::chrono_literals;

namespace bench {

namespace {

constexpr const char* queue = "bench";
constexpr auto patience = 2min;

// Says its endpoint (empty at a node), "connected", the time before the first send, and the time at which all was safe.
void produce(const Line& line, const std::string& home, std::uint64_t messages) {
    posthorn::Context context;
    wq::Producer producer{context, queue, posthorn::Home::parse(home)};
    say_endpoint(line, producer.endpoint());
    wait_until_connected(producer);
    line.say("connected");
    static_cast<void>(line.hear());  // go

    const std::int64_t start = monotonic_ns();
    for (std::uint64_t number = 0; number < messages; ++number) {
        std::string payload(payload_bytes, 'x');
        write_number(payload.data(), number);
        const auto status = producer.send(std::move(payload)).status();
        if (status != posthorn::Status::ok) throw std::runtime_error("send: " + std::string(to_string(status)));
    }
    if (const auto status = producer.flush(patience); status != posthorn::Status::ok)
        throw std::runtime_error("flush: " + std::string(to_string(status)));
    const std::int64_t end = monotonic_ns();
    line.say(std::to_string(start));
    line.say(std::to_string(end));
    static_cast<void>(line.hear());  // the worker is done with us
    if (producer.close(10s) != 0) throw std::runtime_error("the producer has left messages behind");
}

// Says "connected", the time at which its last ack was confirmed, and how many duplicates came.
void consume(const Line& line, const std::string& endpoint, std::uint64_t messages) {
    posthorn::Context context;
    wq::Worker worker{context, queue, posthorn::at(endpoint)};
    wait_until_connected(worker);
    line.say("connected");

    Tally tally{messages};
    std::stop_source done;
    const auto status = worker.run(
        [&](posthorn::Delivery& delivery) {
            const std::string& payload = delivery.message().payload;
            tally.count(payload.data(), payload.size());
            if (tally.complete()) done.request_stop();
        },
        wq::until(done.get_token()));
    const std::int64_t end = monotonic_ns();
    if (status != posthorn::Status::ok || !tally.complete()) throw std::runtime_error("the worker did not finish");
    line.say(std::to_string(end));
    line.say(std::to_string(tally.duplicates()));
}

// The producer says its times, the worker its own: what counts is the later end.
Run measure(Child& producer, Child& worker, std::uint64_t messages) {
    producer.say("go");
    const std::int64_t start = std::stoll(producer.hear());
    const std::int64_t safe = std::stoll(producer.hear());
    const std::int64_t acked = std::stoll(worker.hear());
    const std::uint64_t duplicates = std::stoull(worker.hear());
    producer.say("bye");
    producer.join();
    worker.join();
    const std::int64_t end = std::max(safe, acked);
    return {.per_second = static_cast<double>(messages) * 1e9 / static_cast<double>(end - start),
            .duplicates = duplicates};
}

}  // namespace

Run brokerless(std::uint64_t messages) {
    Child producer{[=](const Line& line) { produce(line, "here:tcp://127.0.0.1:*", messages); }};
    const std::string endpoint = endpoint_of(producer);
    Child worker{[=](const Line& line) { consume(line, endpoint, messages); }};
    static_cast<void>(worker.hear());    // connected
    static_cast<void>(producer.hear());  // connected
    return measure(producer, worker, messages);
}

Run at_node(std::uint64_t messages, const fs::path& posthorn, const fs::path& disk) {
    Node node{posthorn, disk};
    Child worker{[&](const Line& line) { consume(line, node.endpoint(), messages); }};
    static_cast<void>(worker.hear());  // connected
    Child producer{[&](const Line& line) { produce(line, "at:" + node.endpoint(), messages); }};
    static_cast<void>(endpoint_of(producer));  // none of its own
    static_cast<void>(producer.hear());        // connected
    const Run run = measure(producer, worker, messages);
    node.stop();
    return run;
}

}  // namespace bench
