#include <algorithm>
#include <string>
#include <vector>

#include <zmq.hpp>

#include "child.hpp"
#include "work_queue.hpp"

namespace bench {

namespace {

void receive(const Line& line, std::uint64_t messages) {
    zmq::context_t context;
    zmq::socket_t socket{context, zmq::socket_type::pull};
    socket.set(zmq::sockopt::rcvtimeo, 30'000);  // a message lost ends the run
    socket.bind("tcp://127.0.0.1:*");
    line.say(socket.get(zmq::sockopt::last_endpoint));

    Tally tally{messages};
    zmq::message_t frame;
    while (!tally.complete()) {
        if (!socket.recv(frame)) throw std::runtime_error("PUSH/PULL has lost messages");
        if (frame.size() % payload_bytes != 0) throw std::runtime_error("PUSH/PULL: not a frame of ours");
        for (std::size_t at = 0; at < frame.size(); at += payload_bytes)
            tally.count(frame.data<char>() + at, payload_bytes);
    }
    line.say(std::to_string(monotonic_ns()));
}

void send(const Line& line, const std::string& endpoint, std::uint64_t messages, std::size_t per_frame) {
    zmq::context_t context;
    zmq::socket_t socket{context, zmq::socket_type::push};
    socket.set(zmq::sockopt::immediate, true);
    socket.connect(endpoint);
    zmq::pollitem_t connected{socket.handle(), 0, ZMQ_POLLOUT, 0};
    if (zmq::poll(&connected, 1, std::chrono::seconds{10}) == 0) throw std::runtime_error("PUSH does not connect");
    line.say("connected");
    static_cast<void>(line.hear());  // go

    const std::int64_t start = monotonic_ns();
    std::vector<char> frame(per_frame * payload_bytes, 'x');
    for (std::uint64_t number = 0; number < messages;) {
        const auto count = std::min<std::uint64_t>(per_frame, messages - number);
        for (std::uint64_t i = 0; i < count; ++i) write_number(frame.data() + i * payload_bytes, number++);
        socket.send(zmq::buffer(frame.data(), count * payload_bytes));
    }
    line.say(std::to_string(start));
}

}  // namespace

Run peer(std::uint64_t messages, std::size_t per_frame) {
    Child receiver{[=](const Line& line) { receive(line, messages); }};
    const std::string endpoint = receiver.hear();
    Child sender{[=](const Line& line) { send(line, endpoint, messages, per_frame); }};
    static_cast<void>(sender.hear());  // connected
    sender.say("go");
    const std::int64_t start = std::stoll(sender.hear());
    const std::int64_t end = std::stoll(receiver.hear());
    sender.join();
    receiver.join();
    return {.per_second = static_cast<double>(messages) * 1e9 / static_cast<double>(end - start), .duplicates = 0};
}

}  // namespace bench
