// For tests of services that use Posthorn (target posthorn::testing): deliveries made up for a handler, whose verdict
// can be looked at; a node in this process; a clock that leaps when it is told to.
//
//   posthorn::testing::MadeUpDelivery delivery{EncodeJob{"cat.mov", "720p"}};
//   delivery.handle(encode);
//   EXPECT_EQ(delivery.verdict().kind, posthorn::testing::Verdict::Kind::ack);
//
//   posthorn::testing::ManualClock clock;
//   posthorn::testing::Node node{{.queue = {.max_attempts = 3}, .clock = clock.source()}};
//   posthorn::Context context{{.clock = clock.source()}};
//   posthorn::work_queue::Producer jobs{context, "encode", node.at()};
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include <posthorn/context.hpp>
#include <posthorn/ends.hpp>

namespace posthorn::testing {

// How a delivery was settled.
struct Verdict {
    enum class Kind { none, ack, nack, release, reject, undecodable };
    Kind kind = Kind::none;           // none: not settled yet
    std::string text{};               // of nack, reject and undecodable: why
    std::optional<Duration> delay{};  // of nack(delay), in whole milliseconds
    Duration extended{};              // what extend() asked for last; zero: nothing
};

struct MadeUpOptions {
    std::uint32_t attempt = 1;
    bool maybe_duplicate = false;
    std::uint64_t sequence = 1;
};

// One delivery that no host knows. Thread-safe but for handle() and take(), of which one is called, once; may go before
// the delivery that was taken. Settling it answers ok, ack_sync() at once. ack_when() waits for real tickets.
class MadeUpDelivery {
public:
    // Throws Error for a message that could not be sent.
    explicit MadeUpDelivery(const Message& message, MadeUpOptions options = {});
    template <MsgpackMap T>
    explicit MadeUpDelivery(const T& value, MadeUpOptions options = {}) : MadeUpDelivery(to_message(value), options) {}
    ~MadeUpDelivery();
    MadeUpDelivery(MadeUpDelivery&&) noexcept;
    MadeUpDelivery& operator=(MadeUpDelivery&&) noexcept;

    // Hands it to a handler as Worker::run() does: return is ack, throw is nack. The handler may be of (Delivery&) or
    // of (const T&, Delivery&), and may move it out and settle it later.
    void handle(const Handler& handler);
    template <posthorn::detail::TypedHandler F>
    void handle(F handler) {
        handle(posthorn::detail::handler_of(std::move(handler)));
    }
    // Gives it out as Worker::receive() does.
    [[nodiscard]] Delivery take();

    // As far as it is known.
    [[nodiscard]] Verdict verdict() const;
    // Waits until there is one, for those who settle later on another thread.
    [[nodiscard]] Verdict wait(Duration timeout) const;
    // Fires its stop token, as a drain or a lost lease does.
    void stop();

private:
    struct Recorder;
    std::shared_ptr<Recorder> recorder_;
    std::unique_ptr<detail::DeliveryState> state_;
};

// A clock that runs like the system's and leaps when it is told to. Whoever has it leaps with it: the nodes and
// contexts that were made with source(). Leases, backoff, delays and heartbeats take their time from it; what waits in
// a call (Ticket::wait(), receive(), ...) waits in real time, and so does a send_timeout.
//
// For a session a leap is what a suspended machine is: beyond a few heartbeats both ends find the other silent, and
// resume by themselves. Whether a worker that lives has renewed a lease by then is a race; beyond
// QueuePolicy::lease_cap the lease is over for certain. Thread-safe.
class ManualClock {
public:
    ManualClock();

    // Forward only; throws Error otherwise. Returns at once; what is due then happens soon.
    void advance(Duration by);
    [[nodiscard]] const std::shared_ptr<transport::Clock>& source() const noexcept { return clock_; }

private:
    std::shared_ptr<transport::Clock> clock_;
};

struct NodeOptions {
    QueuePolicy queue{};  // of queues that are not listed
    std::map<std::string, QueuePolicy> queues{};
    std::map<std::string, std::vector<Subscription>> topics{};  // with the subscriptions that are there from the start
    std::map<std::string, LivePolicy> live{};                   // live topics, others are as they are by default
    std::map<std::string, Retention> retained{};                // topics that are retained; on_disk only
    bool on_disk = false;  // safe is stored, in a temporary folder; else settled, in memory
    // "tcp://127.0.0.1:*", "ipc:///path", "inproc://name" on a context of the test's. Empty: an ipc endpoint in the
    // temporary folder.
    std::string bind{};
    EventHook on_event{};                       // empty: the context's
    std::shared_ptr<transport::Clock> clock{};  // of a ManualClock; empty: the system's, or the context's
};

// A node in this process, with a temporary folder that goes with it. It is a real one: the same host, sessions and
// stores as `posthorn node` has. Not thread-safe; a hook of it is called on a thread of its own.
class Node {
public:
    // On a context of its own. Throws Error: a policy out of range, an endpoint malformed or in use, or no temporary
    // folder to be had.
    explicit Node(NodeOptions options = {});
    // On the test's, whose clock it has: inproc endpoints are links within one context.
    explicit Node(Context& context, NodeOptions options = {});
    ~Node();
    Node(const Node&) = delete;
    Node& operator=(const Node&) = delete;

    [[nodiscard]] Home at() const;
    // Ends like a killed process and starts again at its endpoint: what was on the disk is there, what was in memory is
    // not.
    void restart();

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace posthorn::testing
