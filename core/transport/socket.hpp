// libzmq's handles, owned; its options, chosen; its messages, turned into slices and back.
#pragma once

#include <zmq.h>

#include <string>
#include <string_view>

#include <posthorn/status.hpp>

#include "envelope/bytes.hpp"
#include "transport/endpoint.hpp"
#include "transport/monitor.hpp"

namespace posthorn::transport {

class Message {
public:
    Message() noexcept { zmq_msg_init(&message_); }
    explicit Message(std::string_view bytes);  // a copy
    explicit Message(std::string&& bytes);     // takes larger ones over without copying
    ~Message() { zmq_msg_close(&message_); }
    Message(const Message&) = delete;
    Message& operator=(const Message&) = delete;

    [[nodiscard]] std::string_view view() const noexcept;
    [[nodiscard]] bool more() const noexcept { return zmq_msg_more(&message_) != 0; }
    // The bytes, without copying larger ones; leaves the message empty.
    Slice take();
    [[nodiscard]] zmq_msg_t* get() noexcept { return &message_; }

private:
    zmq_msg_t message_{};
};

class Socket {
public:
    Socket() = default;
    // `type` is ZMQ_ROUTER or ZMQ_DEALER. Throws Error naming the endpoint when there are too many.
    Socket(void* context, int type, const std::string& endpoint, Use use);
    ~Socket() { close(); }
    Socket(Socket&& other) noexcept;
    Socket& operator=(Socket&& other) noexcept;
    Socket(const Socket&) = delete;
    Socket& operator=(const Socket&) = delete;

    [[nodiscard]] void* get() const noexcept { return handle_; }
    explicit operator bool() const noexcept { return handle_ != nullptr; }
    // Drops what has not gone out.
    void close() noexcept;
    // Lets it go out first, in the background; whoever ends the context waits for that, but not long.
    void close_gently() noexcept;

    // Before bind() or connect() it misses nothing. Costs what monitor.hpp says.
    void watch(void* context, Use use) {
        monitor_.stop();
        monitor_ = Monitor(context, handle_, use);
    }
    void unwatch() noexcept { monitor_.stop(); }
    [[nodiscard]] Monitor& monitor() noexcept { return monitor_; }

    // These throw Error naming the endpoint.
    std::string bind(const std::string& endpoint);
    void connect(const std::string& endpoint);
    // Gives the endpoint up and returns when its port or path is free again.
    void unbind(void* context, const std::string& endpoint);

    // Never wait. False: nothing there; no connection or no such peer.
    [[nodiscard]] bool receive(Message& message) noexcept;
    [[nodiscard]] bool send(Message& message, int flags = 0) noexcept;

private:
    void* handle_ = nullptr;
    Monitor monitor_;
};

}  // namespace posthorn::transport
