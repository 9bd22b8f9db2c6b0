// What the two ends of the patterns have in common: sending with tickets, and receiving by a handler or one by one.
// Used through a pattern, which has the constructors and says what becomes of a message in between: work_queue.hpp,
// point_to_point.hpp.
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <ranges>
#include <span>
#include <stop_token>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <posthorn/context.hpp>
#include <posthorn/delivery.hpp>
#include <posthorn/message.hpp>
#include <posthorn/payload.hpp>
#include <posthorn/policy.hpp>
#include <posthorn/status.hpp>

namespace posthorn {

// What has become of a message, in rising order.
enum class Level {
    none,
    held,     // in the host's memory
    stored,   // on the host's disk (homes with a store)
    settled,  // done, dead-lettered or, with drop_oldest, dropped (reported by memory homes)
};

struct ProducerOptions {
    std::string name{};  // for the host's events and log; grants nothing
    // A named producer: one that continues under its name where the last one of that name on this queue ended, even if
    // that was killed. For who sends from a source of his own, a file or a table: see resumed_at(). The queue's host
    // remembers names on its disk (in memory: as long as it lives), so several endpoints must be ways to one host. One
    // at a time: a later producer of the name ends this one, with an event of the code "fenced"; send() answers closed
    // then, and so does wait() for what was not known to be safe.
    bool resume = false;
    Duration send_timeout = defaults::send_timeout;    // how long send() waits for room
    Duration close_timeout = defaults::close_timeout;  // how long the destructor waits for confirms
    // What is kept here until it is confirmed; send() waits beyond. What a queue in the memory of this producer holds
    // is not kept twice: the policy of the queue bounds it, so that both bounds together are what memory it takes.
    // With more than half of these bounds unsettled there, sending is paced, to 100 messages or 256 KiB in each ms.
    std::size_t buffer_messages = defaults::producer_buffer_messages;
    std::size_t buffer_bytes = defaults::producer_buffer_bytes;
};

using Handler = std::function<void(Delivery&)>;

namespace detail {
class ProducerCore;
class WorkerCore;

// The T of a callable that takes (const T&, Delivery&).
template <typename Call>
struct Takes {};
template <typename R, typename T>
struct Takes<R (*)(T, Delivery&)> {
    using Value = std::remove_cvref_t<T>;
};
template <typename C, typename R, typename T>
struct Takes<R (C::*)(T, Delivery&)> : Takes<R (*)(T, Delivery&)> {};
template <typename C, typename R, typename T>
struct Takes<R (C::*)(T, Delivery&) const> : Takes<R (*)(T, Delivery&)> {};

template <typename F>
struct TakesOf : Takes<F> {};
template <typename F>
requires requires {
    &F::operator();
}
struct TakesOf<F> : Takes<decltype(&F::operator())> {};
template <typename F>
using ValueOf = typename TakesOf<std::decay_t<F>>::Value;
template <typename F>
concept TypedHandler = MsgpackMap<ValueOf<F>>;
template <TypedHandler F>
Handler handler_of(F handler) {
    return [handler = std::move(handler)](Delivery& delivery) mutable {
        if (const auto value = delivery.as<ValueOf<F>>()) handler(*value, delivery);
    };
}

// What can be sent, as a message.
inline Message message_of(Message message) {
    return message;
}
inline Message message_of(std::string payload) {
    return {.payload = std::move(payload)};
}
template <MsgpackMap T>
Message message_of(const T& value) {
    return to_message(value);
}
template <typename R>
concept Sendables = std::ranges::input_range<R> && requires(std::ranges::range_reference_t<R> value) {
    message_of(std::forward<std::ranges::range_reference_t<R>>(value));
};
}  // namespace detail

// The fate of what one send() took: a message, or several. Cheap to copy; thread-safe; may outlive the producer (then:
// closed).
class Ticket {
public:
    // Until all of them are safe: stored in homes with a store, settled in memory homes.
    // ok; timed_out; rejected: the host refused at least one (see refusal()); closed. When all that was taken is safe
    // and that was not everything: status().
    [[nodiscard]] Status wait(Duration timeout) const;
    // Of the one that is least far.
    [[nodiscard]] Level level() const;
    // Set when the host refused a message: "queue_full: ...". Of several the first one's.
    [[nodiscard]] std::string refusal() const;
    // Why not everything was even buffered; ok otherwise.
    [[nodiscard]] Status status() const noexcept { return status_; }
    // How many were: of several the first ones.
    [[nodiscard]] std::uint64_t taken() const noexcept { return last_ + 1 - first_; }

private:
    friend class detail::ProducerCore;
    [[nodiscard]] Status why_not_all() const noexcept {
        return core_ || status_ != Status::ok ? status_ : Status::closed;
    }

    std::shared_ptr<detail::ProducerCore> core_;  // none: nothing was taken
    std::uint64_t first_ = 1;                     // sequences
    std::uint64_t last_ = 0;
    Status status_ = Status::ok;
};

// The end that sends. Thread-safe; sends from one thread keep their order. Ownership: what it has buffered goes with
// it, but for what is stored. Destruction waits up to close_timeout for what is not yet safe; what is left then is
// reported by an event (left_behind). With a store here, what is stored and not yet done waits on the disk for whoever
// has the folder next.
class ProducerEnd {
public:
    ProducerEnd(const ProducerEnd&) = delete;
    ProducerEnd& operator=(const ProducerEnd&) = delete;

    // Throws Error for a message beyond the limits in message.hpp.
    // Buffers the message; it is resent over reconnects until confirmed. Ticket::status() is would_block or timed_out
    // when the buffer stayed full for send_timeout, too_large, closed.
    Ticket send(Message message);
    template <MsgpackMap T>
    Ticket send(const T& value) {
        return send(to_message(value));
    }
    Ticket send(std::string payload) { return send(Message{.payload = std::move(payload)}); }
    Ticket send(const char* payload) { return send(std::string{payload}); }
    // Several at once, of anything that can be sent alone, with one lock and one wake of the other side; they follow
    // one another in the queue. Limits are checked before any is taken. If the buffer stays full for send_timeout, the
    // first ones may have been taken and the others not: Ticket::taken() says how many, status() why.
    template <detail::Sendables R>
    Ticket send(R&& values) {
        std::vector<Message> messages;
        if constexpr (std::ranges::sized_range<R>) messages.reserve(std::ranges::size(values));
        for (auto&& value : values) messages.push_back(detail::message_of(std::forward<decltype(value)>(value)));
        return send_all(messages);
    }

    // Of a named producer (ProducerOptions::resume): how many messages that send() took its host has decided under this
    // name before this producer, accepted or refused, whether or not their sender lived to know. These are safe; what
    // else the former ones had buffered is gone. So whoever sends the items of a source one by one goes on with item
    // number resumed_at(), counting from 0, and each comes into the queue once. Waits for the host's word, before which
    // send() finds no room; empty: not in time, or closed. 0 for producers that do not resume.
    [[nodiscard]] std::optional<std::uint64_t> resumed_at(Duration timeout) const;

    // Waits until everything sent so far is safe (see Ticket::wait) or refused. ok, timed_out, closed, rejected (some
    // were refused since the last flush() that ended).
    [[nodiscard]] Status flush(Duration timeout);
    [[nodiscard]] std::uint64_t unconfirmed() const;  // sent, not yet safe
    [[nodiscard]] std::uint64_t refused() const;      // refused by the host since construction
    [[nodiscard]] bool connected() const;
    // Why the host takes no more just now: "queue_full", "disk_full", "store_failed", "draining", "starting". Empty: it
    // does, or there is no session.
    [[nodiscard]] std::string waits_for() const;
    // What the host said of itself: "host:memory", "host:spool" (here, with a store) or "host:node". Empty before the
    // first session.
    [[nodiscard]] std::vector<std::string> capabilities() const;
    // As bound, for homes here: wildcards are numbers now. Empty for homes elsewhere.
    [[nodiscard]] const std::string& endpoint() const;
    // Waits for what is not yet safe, then ends. Returns how many were left. Afterwards send() answers closed.
    std::uint64_t close(Duration timeout);

protected:
    explicit ProducerEnd(std::shared_ptr<detail::ProducerCore> core) noexcept;
    ~ProducerEnd();
    ProducerEnd(ProducerEnd&&) noexcept;
    ProducerEnd& operator=(ProducerEnd&&) noexcept;
    // Until so many consumers have a session with the host. ok, timed_out, closed.
    [[nodiscard]] Status wait_for_consumers(std::uint32_t count, Duration timeout) const;

private:
    Ticket send_all(std::span<Message> messages);

    std::shared_ptr<detail::ProducerCore> core_;
};

// When run() ends.
class Until {
public:
    explicit Until(std::stop_token token) : token_(std::move(token)) {}
    [[nodiscard]] const std::stop_token& token() const noexcept { return token_; }

private:
    std::stop_token token_;
};

// SIGINT or SIGTERM: run() stops intake, finishes what is begun, releases the rest. A second signal ends the process
// as it would have without Posthorn.
[[nodiscard]] Until until_signal();
[[nodiscard]] inline Until until(std::stop_token token) {
    return Until{std::move(token)};
}

// What receive() gives: a delivery, or why there is none.
class Received {
public:
    explicit Received(Status why) noexcept : status_(why) {}
    explicit Received(Delivery delivery) noexcept : status_(Status::ok), delivery_(std::move(delivery)) {}

    // ok: there is a delivery. timed_out: nothing came in time. closed: nothing will come any more.
    [[nodiscard]] Status status() const noexcept { return status_; }
    explicit operator bool() const noexcept { return delivery_.has_value(); }
    // These throw Error if there is none.
    [[nodiscard]] Delivery& operator*() { return *get(); }
    [[nodiscard]] Delivery* operator->() { return get(); }

private:
    [[nodiscard]] Delivery* get() {
        if (!delivery_) throw Error("receive() gave no delivery: " + std::string{to_string(status_)});
        return &*delivery_;
    }

    Status status_;
    std::optional<Delivery> delivery_;
};

// The end that receives: one consumer of its queue. Thread-safe. It gives its deliveries to a handler, by run(), or to
// whoever asks for them, by receive() and ready_fd(): what is called first decides, and the other one then throws
// Error. If it is still running when it is destroyed it drains with a zero timeout: deliveries that are out are given
// back.
class ConsumerEnd {
public:
    ConsumerEnd(const ConsumerEnd&) = delete;
    ConsumerEnd& operator=(const ConsumerEnd&) = delete;

    // Calls the handler on `concurrency` threads (this one is one of them) until told to stop. Return: ack. Throw: nack
    // with what(). Once told to stop it waits for what is begun: at drain_timeout stop tokens fire, and when the
    // handlers have returned so does this. ok after an orderly end, timed_out if they did not finish in time, closed if
    // this was drained before, or its hosts have ended it for good: a later one came under its name, or somebody
    // removed the subscription (an event with the code "fenced" or "removed"). Then it does not come back by itself.
    Status run(const Handler& handler, const Until& until = until_signal());

    // Typed: a handler of (const T&, Delivery&). Bytes that are not a T are rejected as undecodable.
    template <detail::TypedHandler F>
    Status run(F handler, const Until& until = until_signal()) {
        return run(detail::handler_of(std::move(handler)), until);
    }

    // The next delivery, waiting up to `timeout` for one; begun by being given out. It is settled by hand, at any time
    // and on any thread, by whoever it is moved to; dropped unsettled it is nacked. While `concurrency` of them are
    // unsettled there is no next one. After a drain: closed.
    [[nodiscard]] Received receive(Duration timeout);

    // For an event loop of one's own (poll, epoll, Boost.Asio): a descriptor that is readable while receive(0ms) would
    // give a delivery, and for good once it would answer closed. Level-triggered. At times it is readable once when
    // nothing is there; then receive(0ms) answers timed_out. It is the end's: do not read, write or close it, and
    // give a dup() of it to what wants to own it. Asking for it is receiving: run() throws Error afterwards.
    [[nodiscard]] int ready_fd();

    // From any thread: stop intake, finish what is begun, release the rest, wait for the host's word on settlements.
    // run() returns, receive() answers closed. ok or timed_out: then stop tokens have fired, and once no handler runs
    // any more what is left unsettled is given back; settling that afterwards answers closed.
    Status drain(Duration timeout);

    [[nodiscard]] bool connected() const;   // to at least one host
    [[nodiscard]] bool idle() const;        // nothing held, nothing unconfirmed
    [[nodiscard]] bool host_empty() const;  // connected, and every host has said it has nothing ready for us
    [[nodiscard]] Duration since_last_activity()
        const;  // since the last delivery or settlement; since construction if none
    [[nodiscard]] std::vector<std::string> capabilities() const;
    [[nodiscard]] const std::vector<std::string>& endpoints() const;  // as bound

protected:
    explicit ConsumerEnd(std::shared_ptr<detail::WorkerCore> core) noexcept;
    ~ConsumerEnd();
    ConsumerEnd(ConsumerEnd&&) noexcept;
    ConsumerEnd& operator=(ConsumerEnd&&) noexcept;

private:
    std::shared_ptr<detail::WorkerCore> core_;
};

}  // namespace posthorn
