// The only place that knows ZeroMQ. One thread, one zmq context, any number of endpoints and links; machines
// (participants) live on it and are called on its thread only.
//
// Over ZeroMQ: one ROUTER per bound endpoint (MANDATORY, never HANDOVER, ids left to libzmq), one DEALER per outgoing
// link with IMMEDIATE, so that a lost link empties its pipe. HANDSHAKE_IVL, TCP keepalive and TCP_USER_TIMEOUT reap
// dead TCP. MAXMSGSIZE and MAX_SOCKETS bound what a peer can make us hold; both HWMs are 0: the protocol's credit
// bounds what sits in pipes (socket.cpp says why not ZMTP heartbeats and RCVHWM). inproc endpoints are links within one
// Context. A socket monitor at each bound endpoint, and at links that are not up, names what fails in the handshake.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include <posthorn/event.hpp>
#include <posthorn/time.hpp>

#include "envelope/bytes.hpp"

namespace posthorn::transport {

using PeerId = std::uint64_t;  // one link; never reused, never 0

// Lives on a loop. Every call comes on the loop's thread; none may throw, there would be nobody to catch it.
class Participant {
public:
    virtual ~Participant() = default;
    // A message of more than one part is no frame of ours: it comes as an empty one.
    virtual void on_frame(PeerId peer, Slice frame, Now now) = 0;
    // Called after every round in which something happened to this participant (frames, wake(), its deadline).
    // Sends what it has to send and returns when it wants to be called again at the latest (`never`: only when
    // something happens).
    virtual Mono turn(Now now) = 0;
    // An outgoing link exists now (it may not be connected yet). Incoming links announce themselves by frames.
    virtual void on_link(PeerId /*peer*/, const std::string& /*endpoint*/) {}
    // Something that is none of ours came to a bound endpoint, or answers at the one of a link: `event` names it,
    // folded by endpoint and cause (a link's: said once, until somebody of ours answers). To be passed on; nothing
    // follows from it.
    virtual void on_stranger(const Event& /*event*/) {}

private:
    friend class Loop;
    std::atomic<bool> woken_{false};
};

class Clock;

class Loop {
public:
    explicit Loop(std::shared_ptr<Clock> clock = nullptr);  // null: the system's
    ~Loop();  // ends the thread; unsent frames are dropped (sessions know what that means)
    Loop(const Loop&) = delete;
    Loop& operator=(const Loop&) = delete;

    // Thread-safe. Blocks until the participant is on (off) the loop; after remove() it is not called again, and its
    // endpoints and links are closed and free to be bound again. It has to be off before it is destroyed. remove() is
    // harmless for one that is not on the loop.
    void add(Participant& participant);
    void remove(Participant& participant);

    // Thread-safe. bind() returns the endpoint as bound ("tcp://127.0.0.1:*" becomes a number). Both throw
    // posthorn::Error naming endpoint, cause and way out (address in use, no such interface, not an endpoint).
    std::string bind(Participant& participant, const std::string& endpoint);
    void connect(Participant& participant, const std::string& endpoint);

    // Loop thread only. False: the link is not up (the frame is dropped); the caller's session has to resume.
    bool send(PeerId peer, std::string frame);

    // Thread-safe, cheap, coalesced: turn() of the participant will be called soon.
    void wake(Participant& participant);
    // Thread-safe: runs `work`, which must not throw, on the loop thread.
    void post(std::function<void()> work);

    // Whether this is the loop's thread, which must not wait for what the loop does.
    [[nodiscard]] bool is_this_thread() const noexcept;

    [[nodiscard]] Now now() const noexcept;
    [[nodiscard]] Mono mono() const noexcept;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace posthorn::transport
