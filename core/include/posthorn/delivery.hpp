// One message handed to one consumer under a lease.
//
// Thread safety: a Delivery belongs to one thread at a time; it may be moved to another and settled there.
// Ownership: settled exactly once. Returning from the handler acks what was neither settled nor moved out; a delivery
// that was moved out (or received) and dropped unsettled is nacked. Settling twice throws Error.
//
// Settling answers whether it could count: ok, the worker passes it on and repeats it until the host has confirmed it;
// stale, the lease was over before; closed, the worker has ended. Not ok means that the message may run again.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>

#include <posthorn/message.hpp>
#include <posthorn/payload.hpp>
#include <posthorn/status.hpp>
#include <posthorn/time.hpp>

namespace posthorn {

class Ticket;

namespace detail {
struct DeliveryAccess;
struct DeliveryState;
}  // namespace detail

class Delivery {
public:
    explicit Delivery(std::unique_ptr<detail::DeliveryState> state) noexcept;
    Delivery(Delivery&&) noexcept;
    Delivery& operator=(Delivery&&) noexcept;
    ~Delivery();

    // Throws Error, and rejects the delivery as undecodable, if its bytes are not a message.
    [[nodiscard]] const Message& message() const;
    // The payload as a value. Empty: it is not a T, and the delivery is thereby rejected as undecodable.
    template <MsgpackMap T>
    [[nodiscard]] std::optional<T> as() const {
        const Message* decoded = decode();
        if (decoded == nullptr) return std::nullopt;
        auto value = from_payload<T>(decoded->payload);
        if (!value) reject_undecodable("the payload is not of the type that was asked for");
        return value;
    }
    // "<producer>-<sequence>", "-r<n>" behind it after the n-th redrive. The same over redeliveries.
    [[nodiscard]] std::string id() const;
    [[nodiscard]] std::uint32_t attempt() const noexcept;  // from 1
    // Its place in its queue or topic: ascends in the order of acceptance, with gaps, also over restarts of the host;
    // the same in all subscriptions of a topic. A redriven message has a new one. From::sequence() begins with it.
    [[nodiscard]] std::uint64_t sequence() const noexcept;
    [[nodiscard]] bool maybe_duplicate() const noexcept;  // resent by a producer the host did not remember
    // Fires when the lease is lost, at drain after the grace period, and when the worker is cancelled.
    [[nodiscard]] std::stop_token stop_token() const noexcept;

    Status ack();  // done
    // Done, and waits until the host has confirmed that this is safe (on its disk, where it has one); it stores it at
    // once. timed_out: not within the time; it is still passed on and repeated like any other ack. stale, closed: as
    // above, and the host's answer as well. Inside Posthorn's hooks it does not wait.
    [[nodiscard]] Status ack_sync(Duration timeout);
    // For who sends onward: done as soon as the ticket is safe, as Ticket::wait() means it. No thread waits for that,
    // the lease is renewed meanwhile, and the delivery does not count for WorkerOptions.concurrency any more (up to
    // defaults::prefetch_max may wait like this; WorkerOptions.prefetch, if it is set, bounds them as well). If the
    // ticket is rejected, or not everything was taken, the delivery is nacked with the reason; if its producer is
    // closed before that is known, it is released. A drain waits for it as for a handler, and gives it back after its
    // timeout.
    void ack_when(const Ticket& ticket);
    // Once all of them are safe. They are looked at in their order; the first that is not decides. None: at once.
    void ack_when(std::span<const Ticket> tickets);
    // Of a request (request_reply.hpp): the answer, and done; an answer that says what went wrong. Throws Error if
    // nobody waits for one, or for a message beyond the limits in message.hpp. One that is above the message limit is
    // answered as failed. Priority, ordering key, delay, time to live and dedup key mean nothing.
    [[nodiscard]] bool is_request() const;
    Status reply(Message message);
    Status fail(std::string why);                       // of which the first 1024 bytes count, as of all reasons below
    Status nack(std::string why = {});                  // failed: counts, retried by the queue's policy
    Status nack(Duration delay, std::string why = {});  // failed: counts, retried after this delay
    Status release();                                   // give back, does not count
    Status reject(std::string reason);                  // dead-letter now
    void extend(Duration lease);                        // from now on, at least so long, even if the link is lost

    [[nodiscard]] bool settled() const noexcept;

private:
    [[nodiscard]] const Message* decode() const;  // null: it cannot be, and is rejected
    void reject_undecodable(const char* what) const;
    Status answer(std::string_view status, Message message);

    friend struct detail::DeliveryAccess;
    std::unique_ptr<detail::DeliveryState> state_;
};

}  // namespace posthorn
