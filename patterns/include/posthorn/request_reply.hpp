// Request-reply: requests to competing repliers, each answered exactly once: by a replier, or by the queue's host,
// which says why no replier did. The idea is Majordomo's (zguide chapter 4), with leases instead of a client that
// guesses.
//
//   namespace rr = posthorn::request_reply;
//   rr::Requester quotes{context, "quotes", posthorn::at("tcp://127.0.0.1:5757")};
//   std::future<rr::Reply> answer = quotes.request(Ask{"ACME"});
//   if (const auto quote = answer.get().as<Quote>()) ...
//   ...
//   rr::Replier replier{context, "quotes", posthorn::at("tcp://127.0.0.1:5757")};
//   replier.run([](const Ask& ask) { return Quote{price_of(ask.name)}; });
//
// A request that may have been begun is not begun again when its replier is lost, unless the queue's request_attempts
// is above 1. docs/request_reply.md has the rules, docs/guarantees.md what survives what.
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <posthorn/ends.hpp>

namespace posthorn::request_reply {

using posthorn::Handler;
using posthorn::Received;
using posthorn::Until;
using posthorn::until;
using posthorn::until_signal;

// What became of a request.
struct Reply {
    // ok: it was answered. failed: by an error. replier_lost. timed_out, no_replier: not in time. rejected, too_large:
    // the host refused it. would_block, timed_out: there was no room to send it. cancelled. closed: the requester was.
    Status status = Status::ok;
    Message message{};    // the answer, where there is one
    std::string error{};  // what went wrong, for people; of `failed` what the replier said, 1024 bytes at most
    std::string id{};     // of the request: "<producer>-<sequence>"; empty: it was not sent

    explicit operator bool() const noexcept { return status == Status::ok; }
    // The answer as a value. Empty: there is none, or it is not a T.
    template <MsgpackMap T>
    [[nodiscard]] std::optional<T> as() const {
        return status == Status::ok ? from_payload<T>(message.payload) : std::nullopt;
    }
};

// Called once, on a thread of Posthorn's or on the one that asks, cancels or closes: must be quick, must not wait for
// another answer, close or destroy the requester, or throw. It may ask again.
using Callback = std::function<void(Reply)>;

enum class NoReplier {
    at_deadline,  // requests wait for one
    at_once,      // they are refused while none is connected
};

struct RequesterOptions {
    // A named requester: the answers to what its former lives have asked wait for it (for a day, where the host has a
    // store), and go to `earlier`. One at a time: a later one of the name ends this one, whose requests are then
    // answered closed. Letters as in a queue's name. Empty: what is not answered at its end never is.
    std::string name{};
    Callback earlier{};  // needed with a name: answers to requests of former lives; may come more than once
    Duration deadline = defaults::request_deadline;  // of a request that has none of its own; 1 ms to 365 days
    NoReplier no_replier = NoReplier::at_deadline;
    std::size_t outstanding = defaults::requests_outstanding;  // request() waits beyond; 1 or more
    Duration send_timeout = defaults::send_timeout;            // how long request() waits for room
    Duration close_timeout = defaults::close_timeout;          // a named one: how long its end waits for what it sent
};

struct RequestOptions {
    Duration deadline{};       // 0: the requester's
    std::stop_token cancel{};  // when it is stopped the answer is `cancelled`; a handler that is at it has its own fire
};

namespace detail {
class RequesterCore;

// What a replier's handler takes, alone or with the delivery, and gives.
template <typename Call>
struct Answers {};
template <typename R, typename T>
struct Answers<R (*)(T)> {
    using Value = std::remove_cvref_t<T>;
    using Result = R;
    static constexpr bool with_delivery = false;
};
template <typename R, typename T>
struct Answers<R (*)(T, Delivery&)> {
    using Value = std::remove_cvref_t<T>;
    using Result = R;
    static constexpr bool with_delivery = true;
};
template <typename C, typename R, typename... T>
struct Answers<R (C::*)(T...)> : Answers<R (*)(T...)> {};
template <typename C, typename R, typename... T>
struct Answers<R (C::*)(T...) const> : Answers<R (*)(T...)> {};
template <typename F>
struct AnswersOf : Answers<F> {};
template <typename F>
requires requires {
    &F::operator();
}
struct AnswersOf<F> : Answers<decltype(&F::operator())> {};

template <typename F>
concept Answering = requires {
    typename AnswersOf<std::decay_t<F>>::Value;
}
&&!std::same_as<typename AnswersOf<std::decay_t<F>>::Value, Delivery>;

// Calls it, and answers with what it gives or throws, unless it has settled the delivery or given it to somebody.
void answer(Delivery& delivery, const std::function<std::optional<Message>(Delivery&)>& handler);

template <Answering F>
std::optional<Message> call(F& handler, Delivery& delivery) {
    using Shape = AnswersOf<std::decay_t<F>>;
    const auto with = [&](const auto& value) -> std::optional<Message> {
        const auto run = [&]() -> decltype(auto) {
            if constexpr (Shape::with_delivery) {
                return handler(value, delivery);
            } else {
                return handler(value);
            }
        };
        if constexpr (std::is_void_v<typename Shape::Result>) {
            run();
            return Message{};
        } else {
            return posthorn::detail::message_of(run());
        }
    };
    if constexpr (std::same_as<typename Shape::Value, Message>) {
        if constexpr (Shape::with_delivery) {
            // NOLINTNEXTLINE(performance-unnecessary-copy-initialization): the handler may move the delivery away
            const Message message = delivery.message();
            return with(message);
        } else {
            return with(delivery.message());
        }
    } else {
        const auto value = delivery.as<typename Shape::Value>();
        return value ? with(*value) : std::nullopt;
    }
}
}  // namespace detail

// The end that asks. Thread-safe. Destruction is close().
class Requester {
public:
    // Throws Error: invalid name, option or policy, endpoint malformed or in use; a store that another process has,
    // that holds messages of other queues, or that cannot be read or written.
    Requester(Context& context, const std::string& service, const Home& home, RequesterOptions options = {});
    ~Requester();
    Requester(Requester&&) noexcept;
    Requester& operator=(Requester&&) noexcept;
    Requester(const Requester&) = delete;
    Requester& operator=(const Requester&) = delete;

    // The future is always completed, by the deadline and a little at the latest. Throws Error for a message beyond the
    // limits in message.hpp, with a time to live (it is the deadline) or with a dedup key. Waits for room up to
    // send_timeout; inside Posthorn's hooks and callbacks it does not.
    [[nodiscard]] std::future<Reply> request(Message message, const RequestOptions& options = {});
    template <MsgpackMap T>
    [[nodiscard]] std::future<Reply> request(const T& value, const RequestOptions& options = {}) {
        return request(to_message(value), options);
    }
    [[nodiscard]] std::future<Reply> request(std::string payload, const RequestOptions& options = {}) {
        return request(Message{.payload = std::move(payload)}, options);
    }
    [[nodiscard]] std::future<Reply> request(const char* payload, const RequestOptions& options = {}) {
        return request(std::string{payload}, options);
    }
    // The same with a callback, which may be called before this returns.
    template <typename T, std::invocable<Reply> F>
    void request(T&& value, F callback, const RequestOptions& options = {}) {
        send(posthorn::detail::message_of(std::forward<T>(value)), std::move(callback), options);
    }

    // Of a named requester: how many requests its host has decided under this name before this life, taken or refused.
    // So whoever asks for the items of a source one by one goes on with item number resumed_at(), counting from 0:
    // those before are answered to `earlier`, but for what was refused, and no item is asked twice. Waits for the
    // host's word; empty: not in time, or closed. 0 for one without a name.
    [[nodiscard]] std::optional<std::uint64_t> resumed_at(Duration timeout) const;
    // ok: so many repliers are connected to the host. timed_out, closed.
    [[nodiscard]] Status wait_for_repliers(unsigned repliers, Duration timeout) const;
    [[nodiscard]] bool connected() const;           // to the host, for requests and for answers
    [[nodiscard]] std::size_t outstanding() const;  // requests that are not answered
    // As bound, for homes here: wildcards are numbers now. Empty for homes elsewhere.
    [[nodiscard]] const std::string& endpoint() const;
    // Ends. What is not answered by now is answered `closed`; a named requester first waits up to close_timeout for
    // what it has asked to be safe with its host.
    void close();

private:
    void send(Message message, Callback callback, const RequestOptions& options);

    std::unique_ptr<detail::RequesterCore> core_;
};

struct ReplierOptions {
    std::string name{};        // as a worker's: for listings and logs; a later one of the name ends an earlier one
    unsigned concurrency = 1;  // handlers, or received requests not answered, at a time; 1 to 1000
    std::vector<std::string> bind{};  // endpoints for requesters that connect to repliers
    Duration drain_timeout = 30s;     // how long run() lets handlers finish once it is asked to stop
};

// The end that answers: one of those that compete for the requests of a service. It holds no more requests than its
// handlers are at, or will have begun within some 10 ms: what it holds when it is lost is answered replier_lost. What
// it has answered it does not run again (the last 10,000 answers, and 16 MiB of them). As ConsumerEnd else; a request
// that is received is answered by Delivery::reply() or fail(), at any time and on any thread. One that is acked is
// answered by an empty message, one that is nacked or rejected as failed; a drain that does not wait for them answers
// as failed.
class Replier : public ConsumerEnd {
public:
    // Throws Error: invalid name or option, endpoint malformed or in use.
    Replier(Context& context, std::string service, Home home, ReplierOptions options = {});

    // Answers with what the handler gives: it takes a const Message& or a const T&, alone or with a Delivery& behind,
    // and gives what can be sent, or nothing for an empty answer. What it throws is the answer `failed`, with what(). A
    // request that is no T is answered as failed, too. A handler that moves the delivery away has it answered later,
    // and what it gives does not count.
    template <detail::Answering F>
    Status run(F handler, const Until& until = until_signal()) {
        return ConsumerEnd::run(
            [handler = std::move(handler)](Delivery& delivery) mutable {
                detail::answer(delivery, [&](Delivery& one) { return detail::call(handler, one); });
            },
            until);
    }
    // A handler that answers by hand.
    Status run(const Handler& handler, const Until& until = until_signal()) { return ConsumerEnd::run(handler, until); }
};

}  // namespace posthorn::request_reply
