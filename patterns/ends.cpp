#include <posthorn/ends.hpp>

#include <utility>

#include "delivery_state.hpp"
#include "producer_core.hpp"
#include "worker_core.hpp"

namespace posthorn {

Status Ticket::wait(Duration timeout) const {
    if (!core_) return why_not_all();
    const Status taken = core_->wait(first_, last_, timeout);
    return taken == Status::ok ? status_ : taken;
}

Level Ticket::level() const {
    return core_ ? core_->level(first_, last_) : Level::none;
}

std::string Ticket::refusal() const {
    return core_ ? core_->refusal(first_, last_) : std::string{};
}

ProducerEnd::ProducerEnd(std::shared_ptr<detail::ProducerCore> core) noexcept : core_(std::move(core)) {}

ProducerEnd::~ProducerEnd() {
    if (core_) core_->close_in_destructor();
}

ProducerEnd::ProducerEnd(ProducerEnd&&) noexcept = default;

ProducerEnd& ProducerEnd::operator=(ProducerEnd&& other) noexcept {
    if (this == &other) return *this;
    if (core_) core_->close_in_destructor();
    core_ = std::move(other.core_);
    return *this;
}

Ticket ProducerEnd::send(Message message) {
    return core_->send({&message, 1});
}
Ticket ProducerEnd::send_all(std::span<Message> messages) {
    return core_->send(messages);
}
std::optional<std::uint64_t> ProducerEnd::resumed_at(Duration timeout) const {
    return core_->resumed_at(timeout);
}
Status ProducerEnd::wait_for_consumers(std::uint32_t count, Duration timeout) const {
    return core_->wait_for_consumers(count, timeout);
}
Status ProducerEnd::flush(Duration timeout) {
    return core_->flush(timeout);
}
std::uint64_t ProducerEnd::unconfirmed() const {
    return core_->unconfirmed();
}
std::uint64_t ProducerEnd::refused() const {
    return core_->refused();
}
bool ProducerEnd::connected() const {
    return core_->connected();
}
std::string ProducerEnd::waits_for() const {
    return core_->waits_for();
}

std::vector<std::string> ProducerEnd::capabilities() const {
    return core_->capabilities();
}
const std::string& ProducerEnd::endpoint() const {
    return core_->endpoint();
}
std::uint64_t ProducerEnd::close(Duration timeout) {
    return core_->close(timeout);
}

ConsumerEnd::ConsumerEnd(std::shared_ptr<detail::WorkerCore> core) noexcept : core_(std::move(core)) {}

ConsumerEnd::~ConsumerEnd() {
    if (core_) core_->close();
}

ConsumerEnd::ConsumerEnd(ConsumerEnd&&) noexcept = default;

ConsumerEnd& ConsumerEnd::operator=(ConsumerEnd&& other) noexcept {
    if (this == &other) return *this;
    if (core_) core_->close();
    core_ = std::move(other.core_);
    return *this;
}

Status ConsumerEnd::run(const Handler& handler, const Until& until) {
    const auto core = core_;  // a handler may let the end go
    return core->run(handler, until);
}

Received ConsumerEnd::receive(Duration timeout) {
    return core_->receive(timeout);
}

int ConsumerEnd::ready_fd() {
    return core_->ready_fd();
}

Status ConsumerEnd::drain(Duration timeout) {
    return core_->drain(timeout);
}
bool ConsumerEnd::connected() const {
    return core_->connected();
}
bool ConsumerEnd::idle() const {
    return core_->idle();
}
bool ConsumerEnd::host_empty() const {
    return core_->host_empty();
}
Duration ConsumerEnd::since_last_activity() const {
    return core_->since_last_activity();
}
std::vector<std::string> ConsumerEnd::capabilities() const {
    return core_->capabilities();
}
const std::vector<std::string>& ConsumerEnd::endpoints() const {
    return core_->endpoints();
}

}  // namespace posthorn
