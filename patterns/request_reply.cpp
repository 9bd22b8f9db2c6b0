#include <posthorn/request_reply.hpp>

#include <exception>
#include <utility>

#include "requester_core.hpp"
#include "worker_core.hpp"

namespace posthorn::request_reply {

namespace detail {

void answer(Delivery& delivery, const std::function<std::optional<Message>(Delivery&)>& handler) {
    const bool request = delivery.is_request();
    const auto fail = [&](const char* why) {
        if (delivery.settled()) return;
        (void)(request ? delivery.fail(why) : delivery.nack(why));
    };
    try {
        auto message = handler(delivery);
        if (delivery.settled()) return;
        if (request && message) {
            (void)delivery.reply(*std::move(message));
        } else {
            (void)delivery.ack();
        }
    } catch (const std::exception& error) {
        fail(error.what());
    } catch (...) {  // a handler may throw anything; whatever it is, it failed
        fail("the handler threw something that is no std::exception");
    }
}

}  // namespace detail

Requester::Requester(Context& context, const std::string& service, const Home& home, RequesterOptions options)
    : core_(detail::RequesterCore::make(context, service, home, std::move(options))) {}
Requester::~Requester() = default;
Requester::Requester(Requester&&) noexcept = default;
Requester& Requester::operator=(Requester&&) noexcept = default;

std::future<Reply> Requester::request(Message message, const RequestOptions& options) {
    auto promise = std::make_shared<std::promise<Reply>>();
    auto future = promise->get_future();
    core_->request(
        std::move(message), [promise](Reply reply) { promise->set_value(std::move(reply)); }, options);
    return future;
}

void Requester::send(Message message, Callback callback, const RequestOptions& options) {
    core_->request(std::move(message), std::move(callback), options);
}

Status Requester::wait_for_repliers(unsigned repliers, Duration timeout) const {
    return core_->wait_for_repliers(repliers, timeout);
}
std::optional<std::uint64_t> Requester::resumed_at(Duration timeout) const {
    return core_->resumed_at(timeout);
}
bool Requester::connected() const {
    return core_->connected();
}
std::size_t Requester::outstanding() const {
    return core_->outstanding();
}
const std::string& Requester::endpoint() const {
    return core_->endpoint();
}
void Requester::close() {
    core_->close();
}

Replier::Replier(Context& context, std::string service, Home home, ReplierOptions options)
    : ConsumerEnd(posthorn::detail::WorkerCore::make(context, std::move(service), home,
                                                     {.end = "replier",
                                                      .options = "ReplierOptions",
                                                      .name = std::move(options.name),
                                                      .concurrency = options.concurrency,
                                                      .bind = std::move(options.bind),
                                                      .drain_timeout = options.drain_timeout,
                                                      .replier = true})) {}

}  // namespace posthorn::request_reply
