#include <posthorn/work_queue.hpp>

#include <utility>

#include "producer_core.hpp"
#include "worker_core.hpp"

namespace posthorn::work_queue {

Producer::Producer(Context& context, std::string queue, Home home, ProducerOptions options)
    : ProducerEnd(detail::ProducerCore::make(context, std::move(queue), home, std::move(options))) {}

Worker::Worker(Context& context, std::string queue, Home home, WorkerOptions options)
    : ConsumerEnd(detail::WorkerCore::make(context, std::move(queue), home,
                                           {.end = "worker",
                                            .options = "WorkerOptions",
                                            .name = std::move(options.name),
                                            .concurrency = options.concurrency,
                                            .prefetch = options.prefetch,
                                            .bind = std::move(options.bind),
                                            .drain_timeout = options.drain_timeout})) {}

}  // namespace posthorn::work_queue
