// Work queue: tasks to competing workers, each to one that is free, redelivered until done or dead-lettered.
// The idea is Majordomo's (zguide chapter 4) with credit instead of a "ready" per task, and SQS's leases.
//
//   posthorn::Context context;
//   posthorn::work_queue::Producer jobs{context, "encode", posthorn::at("tcp://127.0.0.1:5757")};
//   auto ticket = jobs.send(EncodeJob{"cat.mov", "720p"});
//   if (ticket.wait(1s) != posthorn::Status::ok) ...
//
// Delivery is at least once. docs/guarantees.md says what survives what.
#pragma once

#include <string>
#include <vector>

#include <posthorn/ends.hpp>

namespace posthorn::work_queue {

using posthorn::Handler;
using posthorn::Level;
using posthorn::ProducerOptions;
using posthorn::Received;
using posthorn::Ticket;
using posthorn::Until;
using posthorn::until;
using posthorn::until_signal;

class Producer : public ProducerEnd {
public:
    // Throws Error: invalid name or policy, endpoint malformed or in use; a store that another process has, that holds
    // messages of other queues, or that cannot be read or written.
    Producer(Context& context, std::string queue, Home home, ProducerOptions options = {});
};

struct WorkerOptions {
    // For listings and logs; grants nothing. A later worker under a name ends an earlier one: give each its own, or
    // none.
    std::string name{};
    unsigned concurrency = 1;         // handlers, or received deliveries unsettled, at a time; 1 to 1000
    unsigned prefetch = 0;            // deliveries held unsettled; 0: adapts (design section 4)
    std::vector<std::string> bind{};  // endpoints for producers that connect to workers
    Duration drain_timeout = 30s;     // how long run() lets handlers finish once it is asked to stop
};

class Worker : public ConsumerEnd {
public:
    // Throws Error: invalid name or option, endpoint malformed or in use.
    Worker(Context& context, std::string queue, Home home, WorkerOptions options = {});
};

}  // namespace posthorn::work_queue
