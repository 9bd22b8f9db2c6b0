#include <posthorn/pub_sub.hpp>

#include <utility>

#include "producer_core.hpp"
#include "subscriber_core.hpp"

namespace posthorn::pub_sub {

Publisher::Publisher(Context& context, std::string topic, Home home, PublisherOptions options)
    : ProducerEnd(detail::ProducerCore::make(context, std::move(topic), home, std::move(options),
                                             {.live = true, .watch = true})) {}

Status Publisher::wait_for_subscribers(std::uint32_t count, Duration timeout) const {
    return wait_for_consumers(count, timeout);
}

Subscriber::Subscriber(Context& context, const std::string& topic, const Home& home, const SubscriberOptions& options)
    : core_(std::make_shared<detail::SubscriberCore>(context, topic, home, options)) {}

Subscriber::~Subscriber() {
    if (core_) core_->close();
}

Subscriber::Subscriber(Subscriber&&) noexcept = default;

Subscriber& Subscriber::operator=(Subscriber&& other) noexcept {
    if (this == &other) return *this;
    if (core_) core_->close();
    core_ = std::move(other.core_);
    return *this;
}

Status Subscriber::run(const MessageHandler& handler, const Until& until) {
    const auto core = core_;  // a handler may let the end go
    return core->run(handler, until);
}

Received Subscriber::receive(Duration timeout) {
    return core_->receive(timeout);
}
int Subscriber::ready_fd() {
    return core_->ready_fd();
}
std::uint64_t Subscriber::received() const {
    return core_->counts().received;
}
std::uint64_t Subscriber::missed() const {
    return core_->counts().missed;
}
std::uint64_t Subscriber::matched() const {
    return core_->counts().matched;
}
std::uint64_t Subscriber::breaks() const {
    return core_->counts().breaks;
}
std::size_t Subscriber::connected() const {
    return core_->connected();
}
const std::vector<std::string>& Subscriber::endpoints() const {
    return core_->endpoints();
}
void Subscriber::close() {
    core_->close();
}

}  // namespace posthorn::pub_sub
