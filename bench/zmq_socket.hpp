// Plain libzmq, for those it is compared with.
#pragma once

#include <array>
#include <stdexcept>
#include <string>

#include <zmq.h>

namespace bench {

inline void check(int result, const char* what) {
    if (result < 0) throw std::runtime_error(std::string(what) + ": " + ::zmq_strerror(::zmq_errno()));
}

// A socket with a context of its own. Its end waits until everything sent is handed to the kernel.
class Socket {
public:
    explicit Socket(int type) : context_(::zmq_ctx_new()), socket_(::zmq_socket(context_, type)) {
        if (socket_ == nullptr) throw std::runtime_error("cannot make a socket");
    }
    ~Socket() {
        ::zmq_close(socket_);
        ::zmq_ctx_term(context_);
    }
    Socket(const Socket&) = delete;
    Socket(Socket&&) = delete;
    Socket& operator=(const Socket&) = delete;
    Socket& operator=(Socket&&) = delete;

    [[nodiscard]] void* get() const { return socket_; }
    void set(int option, int value) const {
        check(::zmq_setsockopt(socket_, option, &value, sizeof value), "setsockopt");
    }
    [[nodiscard]] std::string bind_anywhere() const {
        check(::zmq_bind(socket_, "tcp://127.0.0.1:*"), "bind");
        std::array<char, 256> endpoint{};
        std::size_t size = endpoint.size();
        check(::zmq_getsockopt(socket_, ZMQ_LAST_ENDPOINT, endpoint.data(), &size), "endpoint");
        return endpoint.data();
    }

private:
    void* context_;
    void* socket_;
};

}  // namespace bench
