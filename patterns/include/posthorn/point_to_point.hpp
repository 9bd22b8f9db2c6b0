// Point-to-point: a stream of messages, worked on one at a time and in order, by one receiver; others stand by and take
// over. The idea is the zguide's exclusive pair (chapter 2) made to outlive its peers, and RabbitMQ's single active
// consumer.
//
//   posthorn::Context context;
//   posthorn::point_to_point::Sender ledger{context, "ledger", posthorn::at("tcp://127.0.0.1:5757")};
//   auto ticket = ledger.send(Booking{"alice", 20});
//   ...
//   posthorn::point_to_point::Receiver receiver{context, "ledger", posthorn::at("tcp://127.0.0.1:5757")};
//   receiver.run([](const Booking& booking, posthorn::Delivery&) { book(booking); });
//
// Order. Messages are begun in the order in which their host accepted them, over failures as well: one that is nacked
// or released comes again before anything behind it is begun. One that is dead-lettered (rejected, undecodable, out of
// attempts, expired) leaves the line. A delayed message joins the line at its place when it is due. Keys and priorities
// mean nothing. A message may be delivered again after its handler has finished (at least once), and then again before
// those behind it that were not begun. To let failed messages step aside instead of holding up the others, set
// QueuePolicy::retry_aside where the queue is hosted.
//
// One at a time. All messages go to the receiver that came first, ahead of need, so that it streams. Another one takes
// over when that one ends in order, at once; when it dies, hangs or is cut off, once its lease is over. So no two
// receivers hold a message of a host at the same time, as long as the one that is cut off heeds its stop token.
//
// Scope. A host that has once seen a Sender or a Receiver of a queue keeps it strict, on its disk as well; workers of a
// work queue, and clients of other languages, then have one message at a time. With several senders that host the queue
// themselves, order and exclusivity hold for each of them; at a node for the whole queue.
#pragma once

#include <string>
#include <vector>

#include <posthorn/ends.hpp>

namespace posthorn::point_to_point {

using posthorn::Handler;
using posthorn::Level;
using posthorn::Received;
using posthorn::Ticket;
using posthorn::Until;
using posthorn::until;
using posthorn::until_signal;
using SenderOptions = posthorn::ProducerOptions;

class Sender : public ProducerEnd {
public:
    // Throws Error: invalid name or policy, endpoint malformed or in use; a store that another process has, that holds
    // messages of other queues, or that cannot be read or written. With a home here the queue's policy is strict,
    // whatever it says.
    Sender(Context& context, std::string queue, Home home, SenderOptions options = {});
};

struct ReceiverOptions {
    // For listings and logs; grants nothing. A later receiver under a name ends an earlier one: give each its own, or
    // none.
    std::string name{};
    unsigned prefetch = 0;            // deliveries held unsettled, one of them begun; 0: adapts (design section 4)
    std::vector<std::string> bind{};  // endpoints for senders that connect to receivers
    Duration drain_timeout = 30s;     // how long run() lets the handler finish once it is asked to stop
};

// Begins one delivery at a time, over all hosts it is linked to: the next one once the last is settled, wherever it was
// moved to, and with ack_when() once its tickets are safe.
class Receiver : public ConsumerEnd {
public:
    // Throws Error: invalid name or option, endpoint malformed or in use.
    Receiver(Context& context, std::string queue, Home home, ReceiverOptions options = {});
};

}  // namespace posthorn::point_to_point
