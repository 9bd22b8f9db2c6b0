#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "child.hpp"
#include "work_queue.hpp"
#include "zmq_socket.hpp"

namespace bench {

namespace {

void receive(const Line& line, std::uint64_t messages) {
    const Socket socket{ZMQ_PULL};
    socket.set(ZMQ_RCVTIMEO, 30'000);  // a message lost ends the run
    line.say(socket.bind_anywhere());

    Tally tally{messages};
    zmq_msg_t frame;
    ::zmq_msg_init(&frame);
    const std::unique_ptr<zmq_msg_t, int (*)(zmq_msg_t*)> closed_at_the_end{&frame, ::zmq_msg_close};
    while (!tally.complete()) {
        check(::zmq_msg_recv(&frame, socket.get(), 0), "PUSH/PULL has lost messages");
        const std::size_t bytes = ::zmq_msg_size(&frame);
        if (bytes % payload_bytes != 0) throw std::runtime_error("PUSH/PULL: not a frame of ours");
        const char* data = static_cast<const char*>(::zmq_msg_data(&frame));
        for (std::size_t at = 0; at < bytes; at += payload_bytes) tally.count(data + at, payload_bytes);
    }
    line.say(std::to_string(monotonic_ns()));
}

void send(const Line& line, const std::string& endpoint, std::uint64_t messages, std::size_t per_frame) {
    const Socket socket{ZMQ_PUSH};
    socket.set(ZMQ_IMMEDIATE, 1);  // so that "can send" means "is connected"
    check(::zmq_connect(socket.get(), endpoint.c_str()), "connect");
    zmq_pollitem_t connected{socket.get(), 0, ZMQ_POLLOUT, 0};
    if (::zmq_poll(&connected, 1, 10'000) != 1) throw std::runtime_error("PUSH does not connect");
    line.say("connected");
    static_cast<void>(line.hear());  // go

    const std::int64_t start = monotonic_ns();
    std::vector<char> frame(per_frame * payload_bytes, 'x');
    for (std::uint64_t number = 0; number < messages;) {
        const auto count = std::min<std::uint64_t>(per_frame, messages - number);
        for (std::uint64_t i = 0; i < count; ++i) write_number(frame.data() + i * payload_bytes, number++);
        check(::zmq_send(socket.get(), frame.data(), count * payload_bytes, 0), "send");
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
