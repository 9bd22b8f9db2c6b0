#include "transport/monitor.hpp"

#include <zmq.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "transport/socket.hpp"

namespace posthorn::transport {
namespace {

constexpr int listener_close_timeout = 2000;  // ms; libzmq closes a listener on its own thread, at once

constexpr int of_any_connection = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                                  ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH |
                                  ZMQ_EVENT_DISCONNECTED;
constexpr int of_a_bound_socket = of_any_connection | ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_CLOSED | ZMQ_EVENT_CLOSE_FAILED;
constexpr int of_a_link = of_any_connection | ZMQ_EVENT_CONNECTED;  // CLOSED would be each attempt where nobody listens

bool set(void* socket, int option, int value) {
    return zmq_setsockopt(socket, option, &value, sizeof value) == 0;
}

}  // namespace

std::string_view explain(Handshake failed, Use use) {
    const bool came = use == Use::bind;
    switch (failed) {
        case Handshake::succeeded:
            break;
        case Handshake::unfinished:
            if (came)
                return "a peer left before the handshake was over, or did not finish it in time: a health check, a "
                       "port scan, or a program that does not speak ZeroMQ, or with a socket of another type; only "
                       "Posthorn's processes belong here";
            return "what answers there closed the connection before the handshake was over, or did not finish it in "
                   "time: it is not a Posthorn process, or one that ends or hangs; check the endpoint";
        case Handshake::unfit:
            if (came)
                return "a peer was cut off in the handshake: it does not speak ZeroMQ, or with a socket of another "
                       "type; only Posthorn's processes belong here";
            return "what answers there is not a Posthorn process: it does not speak ZeroMQ, or with a socket of "
                   "another type; check the endpoint";
        case Handshake::wants_keys:
            if (came)
                return "a peer was cut off in the handshake: it wants keys (another security mechanism of ZeroMQ's), "
                       "and there are none here yet; only Posthorn's processes belong here, without keys";
            return "what answers there is not a Posthorn process: it wants keys (another security mechanism of "
                   "ZeroMQ's), and Posthorn has none yet; check the endpoint";
    }
    return {};
}

// -------------------------------------------------------------------------------------------------------- handshakes

void Handshakes::succeeded() {
    ++succeeded_;
    forget_if_all_succeeded();
}

std::optional<Handshake> Handshakes::over(int connection) {
    const bool unknown = begun_.erase(connection) > 0;
    const auto failure = std::exchange(failure_, std::nullopt);
    if (failure || !unknown) {
        forget_if_all_succeeded();
        return failure;
    }
    if (succeeded_ == 0) return Handshake::unfit;
    // Some of those that came together have succeeded, perhaps this one too.
    begun_.clear();
    succeeded_ = 0;
    return std::nullopt;
}

void Handshakes::forget_if_all_succeeded() {
    if (succeeded_ < begun_.size()) return;
    begun_.clear();
    succeeded_ = 0;
}

// ----------------------------------------------------------------------------------------------------------- monitor

struct Monitor::Event {
    std::uint16_t what;
    std::uint32_t value;
};

Monitor::Monitor(void* context, void* watched, Use use) {
    static std::atomic<std::uint64_t> monitors{0};
    void* const events = zmq_socket(context, ZMQ_PAIR);
    if (events == nullptr) return;
    const std::string name = "inproc://posthorn-monitor-" + std::to_string(++monitors);
    // Without a bound: libzmq's thread, which all connections share, would wait for us.
    if (set(events, ZMQ_LINGER, 0) && set(events, ZMQ_RCVHWM, 0) && set(events, ZMQ_RCVTIMEO, listener_close_timeout) &&
        zmq_socket_monitor(watched, name.c_str(), use == Use::bind ? of_a_bound_socket : of_a_link) == 0) {
        watched_ = watched;
        if (zmq_connect(events, name.c_str()) == 0) {
            events_ = events;
            return;
        }
        stop();
    }
    zmq_close(events);
}

Monitor::Monitor(Monitor&& other) noexcept
    : watched_(std::exchange(other.watched_, nullptr)),
      events_(std::exchange(other.events_, nullptr)),
      handshakes_(std::move(other.handshakes_)) {}

Monitor& Monitor::operator=(Monitor&& other) noexcept {
    if (this != &other) {
        stop();
        watched_ = std::exchange(other.watched_, nullptr);
        events_ = std::exchange(other.events_, nullptr);
        handshakes_ = std::move(other.handshakes_);
    }
    return *this;
}

void Monitor::stop() noexcept {
    if (watched_ != nullptr) zmq_socket_monitor(std::exchange(watched_, nullptr), nullptr, 0);
    if (events_ != nullptr) zmq_close(std::exchange(events_, nullptr));
}

// Two parts: what and of which connection, and the endpoint, which we know.
std::optional<Monitor::Event> Monitor::receive(int flags) const {
    if (events_ == nullptr) return std::nullopt;
    Message part;
    while (zmq_msg_recv(part.get(), events_, flags) < 0)
        if (errno != EINTR) return std::nullopt;
    Event event{};
    const auto bytes = part.view();
    if (bytes.size() == sizeof event.what + sizeof event.value) {
        std::memcpy(&event.what, bytes.data(), sizeof event.what);
        std::memcpy(&event.value, bytes.data() + sizeof event.what, sizeof event.value);
    }
    while (part.more() && zmq_msg_recv(part.get(), events_, 0) < 0 && errno == EINTR) {
    }
    return event;
}

std::optional<Handshake> Monitor::next() {
    while (const auto event = receive(ZMQ_DONTWAIT)) {
        switch (event->what) {
            case ZMQ_EVENT_ACCEPTED:
            case ZMQ_EVENT_CONNECTED:
                handshakes_.begun(static_cast<int>(event->value));
                break;
            case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
                handshakes_.succeeded();
                return Handshake::succeeded;
            case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
                handshakes_.failed(Handshake::unfinished);
                break;
            case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
                handshakes_.failed(event->value == ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH ? Handshake::wants_keys
                                                                                              : Handshake::unfit);
                break;
            case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
                handshakes_.failed(Handshake::wants_keys);
                break;
            case ZMQ_EVENT_DISCONNECTED:
                if (const auto failed = handshakes_.over(static_cast<int>(event->value))) return failed;
                break;
            default:
                break;
        }
    }
    return std::nullopt;
}

void Monitor::wait_for_closed_listener() {
    while (const auto event = receive(0))
        if (event->what == ZMQ_EVENT_CLOSED || event->what == ZMQ_EVENT_CLOSE_FAILED) return;
}

}  // namespace posthorn::transport
