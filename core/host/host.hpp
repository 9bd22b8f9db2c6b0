// Sessions + queues + store joined: everything a host does, without socket, thread, file or clock. A node runs one on
// its loop, a brokerless producer runs one on its own, the simulator runs many.
//
// Not thread-safe. The driver calls receive() and complete(), then turn(), sends what take_frames() gives, runs what
// take_job() gives (one at a time) and hands the outcome to complete(); it calls turn() again by next_deadline().
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <posthorn/event.hpp>
#include <posthorn/policy.hpp>
#include <posthorn/topic.hpp>

#include "envelope/bytes.hpp"
#include "envelope/identity.hpp"
#include "queue/limits.hpp"
#include "store/store.hpp"

namespace posthorn::host {

using PeerId = std::uint64_t;

struct Options {
    Identity incarnation;                       // random, new for every life of this host
    std::uint64_t seed = 0;                     // for the jitter of backoff
    QueuePolicy defaults;                       // of queues that are not listed
    std::map<std::string, QueuePolicy> queues;  // by address; what stands for a topic holds for its subscriptions
    std::map<std::string, std::vector<Subscription>> topics;  // with the subscriptions that are there from the start
    std::map<std::string, LivePolicy> live;                   // live topics that are there from the start
    LivePolicy live_defaults;                                 // of others
    std::map<std::string, Retention> retained;                // topics that keep what was published
    bool auto_create = true;                                  // queues, topics and subscriptions appear on first use
    std::string only_queue;  // a brokerless producer hosts this one, or this topic, and no other; empty: any
    std::uint64_t message_limit = posthorn::defaults::message_limit;
    std::size_t credit_bytes = posthorn::defaults::credit_bytes;
    queue::Limits limits;
    LogHook log;
    EventHook on_event;  // called from within receive(), turn() and complete()
};

struct OutFrame {
    PeerId peer = 0;
    std::string bytes;
};

class Host {
public:
    // Recovers the store; throws what Store::recover throws, and Error if it holds messages that only_queue leaves out.
    Host(Options options, store::Store& store, Now now);
    ~Host();
    Host(const Host&) = delete;
    Host& operator=(const Host&) = delete;

    // A frame from a peer, whoever that may be. Never throws on its content.
    void receive(PeerId peer, const Slice& frame, Now now);
    // Makes this host known on a link it opened itself, so that the peer says hello.
    void greet(PeerId peer);
    void turn(Now now);
    std::vector<OutFrame> take_frames();

    // A job for the store, if there is one and none is under way. Shared, because the host takes back what was in it
    // when it finds the disk full.
    std::shared_ptr<const store::Job> take_job(Now now);
    void complete(store::Outcome outcome, Now now);

    [[nodiscard]] Mono next_deadline() const;

    // Stops publish credit and deliveries and says bye to everyone; what consumers hold stays leased to them.
    void drain(std::chrono::milliseconds retry_after, Now now);
    // True once nothing waits for the store, and producers and consumers have answered the bye or had time for it.
    [[nodiscard]] bool idle() const;
    // From now on subscribers of live topics are asked whether everything has come.
    void ask_arrival();
    // It has, as far as that was asked; to those as well that are away and may come back.
    [[nodiscard]] bool all_arrived() const;
    // Messages not settled, in all queues; what topics retain is nobody's to settle.
    [[nodiscard]] std::uint64_t unsettled() const;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace posthorn::host
