#include <posthorn/work_queue.hpp>

#include <utility>

#include "delivery_state.hpp"
#include "producer_core.hpp"
#include "worker_core.hpp"

namespace posthorn::work_queue {

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

Producer::Producer(Context& context, std::string queue, Home home, ProducerOptions options)
    : core_(detail::ProducerCore::make(context, std::move(queue), home, std::move(options))) {}

Producer::~Producer() {
    if (core_) core_->close_in_destructor();
}

Producer::Producer(Producer&&) noexcept = default;

Producer& Producer::operator=(Producer&& other) noexcept {
    if (this == &other) return *this;
    if (core_) core_->close_in_destructor();
    core_ = std::move(other.core_);
    return *this;
}

Ticket Producer::send(Message message) {
    return core_->send({&message, 1});
}
Ticket Producer::send_all(std::span<Message> messages) {
    return core_->send(messages);
}
std::optional<std::uint64_t> Producer::resumed_at(Duration timeout) const {
    return core_->resumed_at(timeout);
}
Status Producer::flush(Duration timeout) {
    return core_->flush(timeout);
}
std::uint64_t Producer::unconfirmed() const {
    return core_->unconfirmed();
}
std::uint64_t Producer::refused() const {
    return core_->refused();
}
bool Producer::connected() const {
    return core_->connected();
}
std::string Producer::waits_for() const {
    return core_->waits_for();
}

std::vector<std::string> Producer::capabilities() const {
    return core_->capabilities();
}
const std::string& Producer::endpoint() const {
    return core_->endpoint();
}
std::uint64_t Producer::close(Duration timeout) {
    return core_->close(timeout);
}

Worker::Worker(Context& context, std::string queue, Home home, WorkerOptions options)
    : core_(detail::WorkerCore::make(context, std::move(queue), home, std::move(options))) {}

Worker::~Worker() {
    if (core_) core_->close();
}

Worker::Worker(Worker&&) noexcept = default;

Worker& Worker::operator=(Worker&& other) noexcept {
    if (this == &other) return *this;
    if (core_) core_->close();
    core_ = std::move(other.core_);
    return *this;
}

Status Worker::run(const Handler& handler, const Until& until) {
    const auto core = core_;  // a handler may let the worker go
    return core->run(handler, until);
}

Received Worker::receive(Duration timeout) {
    return core_->receive(timeout);
}

int Worker::ready_fd() {
    return core_->ready_fd();
}

Status Worker::drain(Duration timeout) {
    return core_->drain(timeout);
}
bool Worker::connected() const {
    return core_->connected();
}
bool Worker::idle() const {
    return core_->idle();
}
bool Worker::host_empty() const {
    return core_->host_empty();
}
Duration Worker::since_last_activity() const {
    return core_->since_last_activity();
}
std::vector<std::string> Worker::capabilities() const {
    return core_->capabilities();
}
const std::vector<std::string>& Worker::endpoints() const {
    return core_->endpoints();
}

}  // namespace posthorn::work_queue
