#include <posthorn/point_to_point.hpp>

#include <utility>

#include "producer_core.hpp"
#include "worker_core.hpp"

namespace posthorn::point_to_point {

namespace {

Home strict(const Home& home) {
    if (!home.is_here()) return home;
    Here options = home.options();
    options.queue.strict_order = true;
    return here(std::move(options));
}

}  // namespace

Sender::Sender(Context& context, std::string queue, Home home, SenderOptions options)
    : ProducerEnd(
          detail::ProducerCore::make(context, std::move(queue), strict(home), std::move(options), {.strict = true})) {}

Receiver::Receiver(Context& context, std::string queue, Home home, ReceiverOptions options)
    : ConsumerEnd(detail::WorkerCore::make(context, std::move(queue), home,
                                           {.end = "receiver",
                                            .options = "ReceiverOptions",
                                            .name = std::move(options.name),
                                            .concurrency = 1,
                                            .prefetch = options.prefetch,
                                            .bind = std::move(options.bind),
                                            .drain_timeout = options.drain_timeout,
                                            .strict = true})) {}

}  // namespace posthorn::point_to_point
