#include "transport/socket.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <utility>

#include <posthorn/policy.hpp>

namespace posthorn::transport {
namespace {

// Below this a frame is copied: libzmq delivers smaller ones as parts of its 8 KiB read buffer, which a slice kept for
// long would keep alive as a whole.
constexpr std::size_t copy_in_below = 4096;
constexpr std::size_t copy_out_below = 512;  // a copy costs less than handing over an owner

constexpr int reconnect_first = 50;      // ms
constexpr int reconnect_longest = 1000;  // ms
constexpr int connect_timeout = 3000;    // ms without an answer to a connection attempt
constexpr int dead_after = 8000;         // ms without a sign of life from the other machine's TCP
constexpr int keepalive_idle = 5;        // s
constexpr int keepalive_interval = 1;    // s
constexpr int keepalive_count = 3;
constexpr int last_words = 1000;            // ms for what has not gone out when a link is given up in order
constexpr int accept_backlog = 1024;        // a node that comes back is met by all its peers at once
constexpr std::int64_t frame_slack = 1024;  // over the limit, so that the session can refuse by name

struct OptionValue {
    int option;
    int value;
};

// RCVHWM is 0 and ZMTP heartbeats are off, on purpose. In libzmq 4.3.4 a connection that is reset while its receive
// pipe is full aborts the process on the next heartbeat, ours or the peer's (libzmq issues 3937, 4364): any stranger
// could. What a peer may have in our pipes is bounded by the protocol's credit and by the loop, which reads before it
// works. A dead machine is found by TCP itself: keepalive when idle, MAXRT (TCP_USER_TIMEOUT) when data is under way.
constexpr std::array common_options{
    OptionValue{ZMQ_LINGER, 0},
    OptionValue{ZMQ_SNDHWM, 0},
    OptionValue{ZMQ_RCVHWM, 0},
    OptionValue{ZMQ_HANDSHAKE_IVL, static_cast<int>(handshake_limit.count())},
    OptionValue{ZMQ_TCP_KEEPALIVE, 1},
    OptionValue{ZMQ_TCP_KEEPALIVE_IDLE, keepalive_idle},
    OptionValue{ZMQ_TCP_KEEPALIVE_INTVL, keepalive_interval},
    OptionValue{ZMQ_TCP_KEEPALIVE_CNT, keepalive_count},
    OptionValue{ZMQ_TCP_MAXRT, dead_after},
};
constexpr std::array router_options{
    OptionValue{ZMQ_ROUTER_MANDATORY, 1},
    OptionValue{ZMQ_BACKLOG, accept_backlog},
};
constexpr std::array dealer_options{
    OptionValue{ZMQ_IMMEDIATE, 1},
    OptionValue{ZMQ_RECONNECT_IVL, reconnect_first},
    OptionValue{ZMQ_RECONNECT_IVL_MAX, reconnect_longest},
    OptionValue{ZMQ_CONNECT_TIMEOUT, connect_timeout},
};

bool set(void* socket, OptionValue what) noexcept {
    return zmq_setsockopt(socket, what.option, &what.value, sizeof what.value) == 0;
}

template <class Options>
bool set_all(void* socket, const Options& options) noexcept {
    return std::all_of(options.begin(), options.end(), [socket](OptionValue what) { return set(socket, what); });
}

bool configure(void* socket, int type, const std::string& endpoint) noexcept {
    const auto limit = static_cast<std::int64_t>(defaults::frame_limit) + frame_slack;
    if (zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &limit, sizeof limit) != 0) return false;
    if (endpoint.starts_with("tcp://") && endpoint.find('[') != std::string::npos && !set(socket, {ZMQ_IPV6, 1}))
        return false;
    return set_all(socket, common_options) &&
           (type == ZMQ_ROUTER ? set_all(socket, router_options) : set_all(socket, dealer_options));
}

// Bytes on their way out; freed on libzmq's thread. `ours` orders all we did with them before that.
struct Outgoing {
    explicit Outgoing(std::string&& taken) : bytes(std::move(taken)) {}
    std::string bytes;
    std::atomic<bool> ours{true};
};

void free_outgoing(void* /*data*/, void* hint) {
    const std::unique_ptr<Outgoing> outgoing(static_cast<Outgoing*>(hint));
    (void)outgoing->ours.load(std::memory_order_acquire);
}

}  // namespace

Message::Message(std::string_view bytes) {
    if (zmq_msg_init_size(&message_, bytes.size()) != 0) throw std::bad_alloc();
    std::copy(bytes.begin(), bytes.end(), static_cast<char*>(zmq_msg_data(&message_)));
}

Message::Message(std::string&& bytes) {
    if (bytes.size() < copy_out_below) {
        if (zmq_msg_init_size(&message_, bytes.size()) != 0) throw std::bad_alloc();
        std::copy(bytes.begin(), bytes.end(), static_cast<char*>(zmq_msg_data(&message_)));
        return;
    }
    auto outgoing = std::make_unique<Outgoing>(std::move(bytes));
    char* data = outgoing->bytes.data();
    const auto size = outgoing->bytes.size();
    outgoing->ours.store(false, std::memory_order_release);
    if (zmq_msg_init_data(&message_, data, size, free_outgoing, outgoing.get()) != 0) throw std::bad_alloc();
    static_cast<void>(outgoing.release());  // the message has it now
}

std::string_view Message::view() const noexcept {
    auto* message = const_cast<zmq_msg_t*>(&message_);  // NOLINT(*-const-cast): zmq_msg_data only reads
    return {static_cast<const char*>(zmq_msg_data(message)), zmq_msg_size(message)};
}

Slice Message::take() {
    const auto bytes = view();
    if (bytes.size() < copy_in_below) {
        auto copy = std::make_shared_for_overwrite<char[]>(bytes.size());  // NOLINT(*-avoid-c-arrays)
        std::copy(bytes.begin(), bytes.end(), copy.get());
        const std::string_view copied(copy.get(), bytes.size());
        return {std::move(copy), copied};
    }
    auto owner = std::make_shared<Message>();
    zmq_msg_move(&owner->message_, &message_);
    const auto moved = owner->view();
    return {std::move(owner), moved};
}

Socket::Socket(void* context, int type, const std::string& endpoint, Use use) : handle_(zmq_socket(context, type)) {
    if (handle_ == nullptr) throw endpoint_error(endpoint, use, errno);
    if (configure(handle_, type, endpoint)) return;
    const int code = errno;
    close();
    throw endpoint_error(endpoint, use, code);
}

Socket::Socket(Socket&& other) noexcept
    : handle_(std::exchange(other.handle_, nullptr)), monitor_(std::move(other.monitor_)) {}

Socket& Socket::operator=(Socket&& other) noexcept {
    if (this != &other) {
        close();
        handle_ = std::exchange(other.handle_, nullptr);
        monitor_ = std::move(other.monitor_);
    }
    return *this;
}

void Socket::close() noexcept {
    monitor_.stop();
    if (handle_ != nullptr) zmq_close(std::exchange(handle_, nullptr));
}

void Socket::close_gently() noexcept {
    if (handle_ != nullptr) set(handle_, {ZMQ_LINGER, last_words});
    close();
}

std::string Socket::bind(const std::string& endpoint) {
    if (zmq_bind(handle_, endpoint.c_str()) != 0) throw endpoint_error(endpoint, Use::bind, errno);
    std::array<char, 1024> bound{};
    std::size_t size = bound.size();
    if (zmq_getsockopt(handle_, ZMQ_LAST_ENDPOINT, bound.data(), &size) != 0)
        throw endpoint_error(endpoint, Use::bind, errno);
    return bound.data();
}

void Socket::connect(const std::string& endpoint) {
    if (zmq_connect(handle_, endpoint.c_str()) != 0) throw endpoint_error(endpoint, Use::connect, errno);
}

// libzmq closes a listener on its own thread and says so on a monitor only. Without this wait the address could still
// be taken when it is bound again, or the ipc path be unlinked after it was.
void Socket::unbind(void* context, const std::string& endpoint) {
    const bool listens = !endpoint.starts_with("inproc://");
    if (listens && !monitor_) watch(context, Use::bind);
    if (zmq_unbind(handle_, endpoint.c_str()) == 0 && listens) monitor_.wait_for_closed_listener();
}

bool Socket::receive(Message& message) noexcept {
    while (zmq_msg_recv(message.get(), handle_, ZMQ_DONTWAIT) < 0)
        if (errno != EINTR) return false;
    return true;
}

bool Socket::send(Message& message, int flags) noexcept {
    while (zmq_msg_send(message.get(), handle_, flags | ZMQ_DONTWAIT) < 0)
        if (errno != EINTR) return false;
    return true;
}

}  // namespace posthorn::transport
