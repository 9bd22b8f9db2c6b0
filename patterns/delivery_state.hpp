// What is behind a Delivery: where its verdict goes, and what was delivered.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include <posthorn/delivery.hpp>
#include <posthorn/message.hpp>
#include <posthorn/time.hpp>

#include "protocol/consumer_session.hpp"

namespace posthorn::detail {

using Handle = protocol::ConsumerSession::Handle;
using Settlement = protocol::ConsumerSession::Settlement;

// The worker, or a test. Thread-safe; outlives the deliveries it gave out.
class DeliverySink {
public:
    virtual ~DeliverySink() = default;
    virtual Status settle(Handle handle, Settlement settlement) = 0;  // ok, stale, closed
    // The same, and waits until that is safe: timed_out as well.
    virtual Status settle_and_wait(Handle handle, Settlement settlement, Duration timeout) = 0;
    // Whoever began it is done with it; settle_handed_over() follows.
    virtual void hand_over(Handle handle) = 0;
    virtual void settle_handed_over(Handle handle, Settlement settlement) = 0;
    virtual void extend(Handle handle, Duration lease) = 0;
    virtual std::stop_token stop_token(Handle handle) = 0;
};

struct DeliveryState {
    std::shared_ptr<DeliverySink> sink;
    protocol::ConsumerSession::Begun begun;
    std::optional<Message> message{};  // decoded when first asked for
    bool settled = false;
};

// For who gives deliveries out.
struct DeliveryAccess {
    // Calls the handler, and answers what its worker settles for it; empty: it did, or has given the delivery to
    // somebody who will.
    [[nodiscard]] static std::optional<Settlement> run(const std::function<void(Delivery&)>& handler,
                                                       Delivery& delivery);
    static Status settle(Delivery& delivery, Settlement settlement);
    // Has its verdict from now on. Throws Error if it had one.
    static DeliveryState& close(Delivery& delivery);
};

// At most so much of a handler's words is kept.
[[nodiscard]] std::string cut(std::string text);

}  // namespace posthorn::detail
