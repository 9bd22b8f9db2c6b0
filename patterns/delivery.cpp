#include <posthorn/delivery.hpp>

#include <exception>
#include <utility>

#include <posthorn/policy.hpp>
#include <posthorn/status.hpp>

#include "delivery_state.hpp"
#include "envelope/envelope.hpp"
#include "producer_core.hpp"

namespace posthorn {

using protocol::Verdict;

namespace detail {

std::string cut(std::string text) {
    constexpr std::size_t most = 1024;  // what a dead letter keeps
    if (text.size() > most) text.resize(most);
    return text;
}

std::optional<Settlement> DeliveryAccess::run(const std::function<void(Delivery&)>& handler, Delivery& delivery) {
    Settlement settlement;
    try {
        handler(delivery);
    } catch (const std::exception& error) {
        settlement = {.verdict = Verdict::nack, .text = cut(error.what())};
    } catch (...) {  // a handler may throw anything; whatever it is, it failed
        settlement = {.verdict = Verdict::nack, .text = "the handler threw something that is no std::exception"};
    }
    if (delivery.settled()) return std::nullopt;
    delivery.state_->settled = true;
    return settlement;
}

DeliveryState& DeliveryAccess::close(Delivery& delivery) {
    DeliveryState* state = delivery.state_.get();
    if (state == nullptr) throw Error("this delivery was moved away; whoever has it now settles it");
    if (state->settled) throw Error("delivery " + delivery.id() + " is settled already; settle once");
    state->settled = true;
    return *state;
}

Status DeliveryAccess::settle(Delivery& delivery, Settlement settlement) {
    const DeliveryState& state = close(delivery);
    settlement.text = cut(std::move(settlement.text));
    return state.sink->settle(state.begun.handle, std::move(settlement));
}

namespace {

void drop(std::unique_ptr<DeliveryState>& state) noexcept {
    if (state == nullptr || state->settled) return;
    state->settled = true;
    state->sink->settle(state->begun.handle, {.verdict = Verdict::nack, .text = "dropped unsettled"});
}

std::uint64_t milliseconds(Duration span) {
    if (span <= Duration::zero()) return 0;
    return static_cast<std::uint64_t>(std::chrono::ceil<std::chrono::milliseconds>(span).count());
}

}  // namespace

}  // namespace detail

Delivery::Delivery(std::unique_ptr<detail::DeliveryState> state) noexcept : state_(std::move(state)) {}
Delivery::Delivery(Delivery&&) noexcept = default;

Delivery& Delivery::operator=(Delivery&& other) noexcept {
    if (this == &other) return *this;
    detail::drop(state_);
    state_ = std::move(other.state_);
    return *this;
}

Delivery::~Delivery() {
    detail::drop(state_);
}

const Message& Delivery::message() const {
    if (const Message* decoded = decode()) return *decoded;
    throw Error("delivery " + id() + " cannot be decoded; it was rejected as undecodable");
}

const Message* Delivery::decode() const {
    if (state_ == nullptr) throw Error("this delivery was moved away");
    if (!state_->message) {
        auto decoded = envelope::decode(state_->begun.envelope.view());
        if (!decoded) {
            reject_undecodable("the bytes are not a message");
            return nullptr;
        }
        state_->message = std::move(decoded->message);
    }
    return &*state_->message;
}

void Delivery::reject_undecodable(const char* what) const {
    if (std::exchange(state_->settled, true)) return;
    state_->sink->settle(state_->begun.handle, {.verdict = Verdict::undecodable, .text = what});
}

std::string Delivery::id() const {
    if (state_ == nullptr) throw Error("this delivery was moved away");
    const auto routing = envelope::read_routing(state_->begun.envelope.view());
    if (!routing) return "at " + std::to_string(state_->begun.offset);
    return envelope::message_id(routing->producer, routing->sequence, state_->begun.redrives);
}

std::uint32_t Delivery::attempt() const noexcept {
    return state_ == nullptr ? 0 : state_->begun.attempt;
}
std::uint64_t Delivery::sequence() const noexcept {
    return state_ == nullptr ? 0 : state_->begun.offset;
}
bool Delivery::maybe_duplicate() const noexcept {
    return state_ != nullptr && state_->begun.maybe_duplicate;
}
bool Delivery::settled() const noexcept {
    return state_ == nullptr || state_->settled;
}

std::stop_token Delivery::stop_token() const noexcept {
    return state_ == nullptr ? std::stop_token{} : state_->sink->stop_token(state_->begun.handle);
}

Status Delivery::ack() {
    return detail::DeliveryAccess::settle(*this, {});
}

Status Delivery::ack_sync(Duration timeout) {
    const detail::DeliveryState& state = detail::DeliveryAccess::close(*this);
    return state.sink->settle_and_wait(state.begun.handle, {}, timeout);
}

void Delivery::ack_when(const Ticket& ticket) {
    ack_when(std::span{&ticket, 1});
}

void Delivery::ack_when(std::span<const Ticket> tickets) {
    if (tickets.empty()) {
        ack();
        return;
    }
    const detail::DeliveryState& state = detail::DeliveryAccess::close(*this);
    state.sink->hand_over(state.begun.handle);
    detail::ProducerCore::ack_when({.sink = state.sink,
                                    .handle = state.begun.handle,
                                    .ticket = tickets.front(),
                                    .rest = {tickets.rbegin(), tickets.rend() - 1}});
}

bool Delivery::is_request() const {
    if (state_ == nullptr) throw Error("this delivery was moved away");
    return !envelope::read_request(state_->begun.envelope.view()).reply_to.empty();
}

Status Delivery::reply(Message message) {
    return answer({}, std::move(message));
}

Status Delivery::fail(std::string why) {
    return answer(envelope::status::failed, {.payload = detail::cut(std::move(why))});
}

Status Delivery::answer(std::string_view status, Message message) {
    if (state_ == nullptr) throw Error("this delivery was moved away; whoever has it now answers it");
    if (const auto fault = envelope::invalid(message)) throw Error("reply: " + *fault);
    const envelope::Request request = envelope::read_request(state_->begun.envelope.view());
    if (request.reply_to.empty())
        throw Error("delivery " + id() + " is no request: nobody waits for an answer; ack it");
    std::string bytes = envelope::answer(request, status, std::move(message));
    if (bytes.size() > defaults::message_limit) {
        bytes = envelope::answer(
            request, envelope::status::failed,
            {.payload = "the answer is larger than a message may be: " + std::to_string(bytes.size()) + " bytes"});
    }
    return detail::DeliveryAccess::settle(*this, {.reply = Slice{std::move(bytes)}});
}

Status Delivery::nack(std::string why) {
    return detail::DeliveryAccess::settle(*this, {.verdict = Verdict::nack, .text = std::move(why)});
}

Status Delivery::nack(Duration delay, std::string why) {
    return detail::DeliveryAccess::settle(
        *this, {.verdict = Verdict::nack, .delay_ms = detail::milliseconds(delay), .text = std::move(why)});
}

Status Delivery::release() {
    return detail::DeliveryAccess::settle(*this, {.verdict = Verdict::release});
}

Status Delivery::reject(std::string reason) {
    return detail::DeliveryAccess::settle(*this, {.verdict = Verdict::reject, .text = std::move(reason)});
}

void Delivery::extend(Duration lease) {
    if (settled()) throw Error("only a delivery that is not settled can be extended");
    state_->sink->extend(state_->begun.handle, lease);
}

}  // namespace posthorn
