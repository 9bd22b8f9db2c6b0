// Publish-subscribe: a live topic, whose messages go to those who subscribe now and are kept for nobody else. ZeroMQ's
// PUB/SUB and NATS without silence: a subscriber is told exactly how many messages that its filter matched have not
// come, over disconnects and slow readers too.
//
//   pub_sub::Publisher prices{context, "prices", here({.bind = "tcp://127.0.0.1:5555"})};
//   prices.wait_for_subscribers(1, 5s);
//   prices.send({.payload = "1.0842", .subject = "price.eur.usd"});
//   ...
//   pub_sub::Subscriber eur{context, "prices", at("tcp://127.0.0.1:5555"), {.match = {{.subject = "price.eur.*"}}}};
//   eur.run([](const posthorn::Message& message) { ... });
//   eur.received() + eur.missed() == eur.matched();
//
// Delivery is at most once, in the order of each publisher; docs/pub_sub.md says what is missed when, and how to have
// none of it (LivePolicy, when_full = block). At a node a live topic joins many publishers and many subscribers, and
// nothing of it is stored.
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <posthorn/ends.hpp>
#include <posthorn/topic.hpp>

namespace posthorn::pub_sub {

using posthorn::Ticket;
using posthorn::Until;
using posthorn::until;
using posthorn::until_signal;

using PublisherOptions = ProducerOptions;

// A ticket is settled as soon as the host has passed the message on, whoever gets it: also if nobody does. Where the
// host's policy (Here::live, a node's [live.NAME]) is block, send() waits for slow subscribers. Priority, ordering
// key, delay and time to live of a message mean nothing here; a dedup key does. close() waits, up to its
// timeout, until everything has come to the subscribers, those included that are away and may come back; of what is
// left then those that are there are told that it is missed.
class Publisher : public ProducerEnd {
public:
    // Throws Error: invalid name or policy; endpoint malformed or in use; a home here with a store, which a live topic
    // has no use for.
    Publisher(Context& context, std::string topic, Home home, PublisherOptions options = {});

    // Until so many subscribers have a session with the host: what is sent from then on is matched for each of them.
    // ok, timed_out, closed.
    [[nodiscard]] Status wait_for_subscribers(std::uint32_t count, Duration timeout) const;
};

struct SubscriberOptions {
    std::string name{};               // for listings and logs
    std::vector<Binding> match{};     // what it gets: messages that one of them matches; none: all
    std::vector<std::string> bind{};  // endpoints for publishers that connect to subscribers
    // Of one publisher (or node), that have come and wait to be taken; the publisher keeps more, as its policy says.
    // bytes: but one message of any size.
    std::uint32_t buffer_messages = defaults::subscriber_messages;
    std::uint64_t buffer_bytes = defaults::subscriber_bytes;
};

// What receive() gives: a message, or why there is none.
class Received {
public:
    explicit Received(Status why) noexcept : status_(why) {}
    explicit Received(Message message) : status_(Status::ok), message_(std::move(message)) {}

    // ok: there is a message. timed_out: nothing came in time. closed: nothing will come any more.
    [[nodiscard]] Status status() const noexcept { return status_; }
    explicit operator bool() const noexcept { return message_.has_value(); }
    // These throw Error if there is none.
    [[nodiscard]] Message& operator*() { return *get(); }
    [[nodiscard]] Message* operator->() { return get(); }

private:
    [[nodiscard]] Message* get() {
        if (!message_) throw Error("receive() gave no message: " + std::string{to_string(status_)});
        return &*message_;
    }

    Status status_;
    std::optional<Message> message_;
};

using MessageHandler = std::function<void(const Message&)>;

}  // namespace posthorn::pub_sub

namespace posthorn::detail {
class SubscriberCore;

// The T of a callable that takes (const T&) alone.
template <typename Call>
struct TakesOne {};
template <typename R, typename T>
struct TakesOne<R (*)(T)> {
    using Value = std::remove_cvref_t<T>;
};
template <typename C, typename R, typename T>
struct TakesOne<R (C::*)(T)> : TakesOne<R (*)(T)> {};
template <typename C, typename R, typename T>
struct TakesOne<R (C::*)(T) const> : TakesOne<R (*)(T)> {};

template <typename F>
struct TakesOneOf : TakesOne<F> {};
template <typename F>
requires requires {
    &F::operator();
}
struct TakesOneOf<F> : TakesOne<decltype(&F::operator())> {};
template <typename F>
using OnlyValueOf = typename TakesOneOf<std::decay_t<F>>::Value;
template <typename F>
concept TypedMessageHandler = MsgpackMap<OnlyValueOf<F>>;
}  // namespace posthorn::detail

namespace posthorn::pub_sub {

// The end that listens, to one publisher or node, or to several (endpoints of the home; publishers that connect), each
// with a sequence of its own. Thread-safe. It gives its messages to a handler, by run(), or to whoever asks for them,
// by receive() and ready_fd(): what is called first decides, and the other one then throws Error. Ownership: what waits
// in it goes with it.
class Subscriber {
public:
    // Throws Error: invalid name or option, endpoint malformed or in use.
    Subscriber(Context& context, const std::string& topic, const Home& home, const SubscriberOptions& options = {});
    ~Subscriber();
    Subscriber(Subscriber&&) noexcept;
    Subscriber& operator=(Subscriber&&) noexcept;
    Subscriber(const Subscriber&) = delete;
    Subscriber& operator=(const Subscriber&) = delete;

    // Calls the handler on this thread for one message after the other until told to stop, or closed. One that throws
    // is an event (dropped) and the next message goes on. ok after an orderly end, closed if this was closed before.
    Status run(const MessageHandler& handler, const Until& until = until_signal());
    // Typed: a handler of (const T&). Bytes that are not a T are an event (dropped).
    template <detail::TypedMessageHandler F>
    Status run(F handler, const Until& until = until_signal()) {
        return run(MessageHandler{[handler = std::move(handler)](const Message& message) mutable {
                       const auto value = from_payload<detail::OnlyValueOf<F>>(message.payload);
                       if (!value) throw Error("the payload is not of the type that was asked for");
                       handler(*value);
                   }},
                   until);
    }

    // The next message, waiting up to `timeout` for one.
    [[nodiscard]] Received receive(Duration timeout);
    // For an event loop of one's own: readable while receive(0ms) would give a message, and for good once it would
    // answer closed. Level-triggered. It is the end's: do not read, write or close it.
    [[nodiscard]] int ready_fd();

    // Of all messages that the filter matched, up to the one that was taken last: received + missed = matched, exactly.
    // They count over all publishers, from this subscriber's first session with each.
    [[nodiscard]] std::uint64_t received() const;
    [[nodiscard]] std::uint64_t missed() const;  // an event (missed) says so as soon as it is known
    [[nodiscard]] std::uint64_t matched() const;
    // How often a publisher (or node) did not know this subscriber any more, or went without a last word: it had
    // started again, or could not be reached for 10 min (1 min where it waits for its subscribers). What it published
    // until it knew it again is in none of the counts.
    [[nodiscard]] std::uint64_t breaks() const;

    [[nodiscard]] std::size_t connected() const;                      // to how many publishers or nodes
    [[nodiscard]] const std::vector<std::string>& endpoints() const;  // as bound
    // Ends the subscription at once: run() returns after the message at hand, receive() answers closed.
    void close();

private:
    std::shared_ptr<detail::SubscriberCore> core_;
};

}  // namespace posthorn::pub_sub
