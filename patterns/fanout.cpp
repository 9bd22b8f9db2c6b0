#include <posthorn/fanout.hpp>

#include <utility>

#include "producer_core.hpp"
#include "worker_core.hpp"

namespace posthorn::fanout {

Publisher::Publisher(Context& context, std::string topic, Home home, PublisherOptions options)
    : ProducerEnd(detail::ProducerCore::make(context, std::move(topic), home, std::move(options), {.topic = true})) {}

Subscriber::Subscriber(Context& context, const std::string& topic, const std::string& subscription, Home home,
                       SubscriberOptions options)
    : ConsumerEnd(detail::WorkerCore::make(context, topic + "/" + subscription, home,
                                           {.end = "subscriber",
                                            .options = "SubscriberOptions",
                                            .name = std::move(options.name),
                                            .concurrency = options.concurrency,
                                            .prefetch = options.prefetch,
                                            .bind = std::move(options.bind),
                                            .drain_timeout = options.drain_timeout,
                                            .bindings = std::move(options.bindings),
                                            .temporary = options.temporary,
                                            .exclusive = options.exclusive,
                                            .from = options.from})) {}

}  // namespace posthorn::fanout
