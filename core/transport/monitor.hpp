// What becomes of a socket's connections before they carry frames, as libzmq's monitor tells it; and when a listener is
// closed, which it tells nowhere else. But for that it is diagnostics: words for people, never state.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <set>
#include <string_view>

#include "transport/endpoint.hpp"

namespace posthorn::transport {

constexpr std::chrono::milliseconds handshake_limit{2000};  // then a peer that has not finished is cut off

// How a handshake ended.
enum class Handshake { succeeded, unfinished, unfit, wants_keys };
constexpr std::size_t handshake_endings = 4;

// What a handshake that failed says to people, of a peer that came to an endpoint of ours or of what answers at one.
[[nodiscard]] std::string_view explain(Handshake failed, Use use);

// libzmq says nothing of some connections it cuts off in the handshake (another socket type, bytes it cannot read) but
// that they are over, by descriptor; and of those that succeeded it does not say which they are. This finds out, and
// blames nobody when it cannot.
class Handshakes {
public:
    void begun(int connection) { begun_.insert(connection); }
    void succeeded();
    // What libzmq says of the connection that is over next.
    void failed(Handshake how) { failure_ = how; }
    // Empty: it had shaken hands, or may have.
    std::optional<Handshake> over(int connection);

private:
    void forget_if_all_succeeded();

    std::set<int> begun_;        // connections of which it is not known that they have succeeded
    std::size_t succeeded_ = 0;  // among them
    std::optional<Handshake> failure_;
};

// Of one socket; libzmq allows it no second one. Costs two sockets and two descriptors.
class Monitor {
public:
    Monitor() = default;
    // If there are not enough sockets or descriptors it watches nothing: the connections matter more than the words.
    Monitor(void* context, void* watched, Use use);
    ~Monitor() { stop(); }
    Monitor(Monitor&& other) noexcept;
    Monitor& operator=(Monitor&& other) noexcept;
    Monitor(const Monitor&) = delete;
    Monitor& operator=(const Monitor&) = delete;

    explicit operator bool() const noexcept { return events_ != nullptr; }
    [[nodiscard]] void* get() const noexcept { return events_; }
    // Before the watched socket is closed: libzmq's thread would wait for ever to tell what nobody listens to.
    void stop() noexcept;

    // The next ending of a handshake; never waits.
    std::optional<Handshake> next();
    // Waits until the listener is closed, or for so long that something is wrong.
    void wait_for_closed_listener();

private:
    struct Event;
    std::optional<Event> receive(int flags) const;

    void* watched_ = nullptr;
    void* events_ = nullptr;
    Handshakes handshakes_;
};

}  // namespace posthorn::transport
