// Fanout: every subscription of a topic gets every message that its bindings match, each with its own place, attempts,
// retries and dead letters; the consumers of one subscription compete like workers. What is not taken by any
// subscription is refused, so its publisher knows. AMQP's exchanges without a broker, and Kafka's consumer groups with
// acknowledgement per message.
//
//   fanout::Publisher orders{context, "orders", here({.bind = "tcp://127.0.0.1:5555"})};
//   orders.send({.payload = order, .subject = "order.placed"}).wait(1s);
//   ...
//   fanout::Subscriber billing{context, "orders", "billing", at("tcp://127.0.0.1:5555")};
//   billing.run([](const Order& order, posthorn::Delivery&) { ... });
//
// Delivery is at least once to each subscription. docs/guarantees.md says what survives what, docs/fanout.md which
// exchange of RabbitMQ is which binding.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <posthorn/ends.hpp>
#include <posthorn/topic.hpp>

namespace posthorn::fanout {

using posthorn::Handler;
using posthorn::Level;
using posthorn::Received;
using posthorn::Ticket;
using posthorn::Until;
using posthorn::until;
using posthorn::until_signal;

using PublisherOptions = ProducerOptions;

// A ticket of what reached no subscription answers rejected, and its refusal() begins with "no_subscription". In a
// memory home a message is settled when all the subscriptions it reached have settled it.
class Publisher : public ProducerEnd {
public:
    // Throws Error: invalid name, policy or subscription; endpoint malformed or in use; a store that another process
    // has, that holds messages of a queue of that name or of others, or that cannot be read or written.
    Publisher(Context& context, std::string topic, Home home, PublisherOptions options = {});
};

struct SubscriberOptions {
    std::string name{};        // as a worker's: for listings and logs; a later one of the name ends an earlier one
    unsigned concurrency = 1;  // handlers, or received deliveries unsettled, at a time; 1 to 1000
    unsigned prefetch = 0;     // deliveries held unsettled; 0: adapts
    std::vector<std::string> bind{};  // endpoints for publishers that connect to subscribers
    Duration drain_timeout = 30s;     // how long run() lets handlers finish once it is asked to stop
    // What the subscription gets from now on, whatever it got before. Not given: as it is; everything if it is new.
    std::optional<std::vector<Binding>> bindings{};
    // If this makes the subscription, it goes with its last consumer: at once when that ends in order, and when it has
    // not been heard for a lease. What it has not settled goes with it. Otherwise a subscription stays until
    // `posthorn unsubscribe`, which ends its consumers, or in a memory home as long as its host.
    bool temporary = false;
    // No other consumer beside this one: while there is one, it or we are refused (an event with the code "exclusive")
    // and try again every second. One that died is missed after 5 heartbeats (50 s, or 5 s while it holds something);
    // with a `name` the next of that name takes over at once.
    bool exclusive = false;
    // If this makes the subscription: it begins with what the retained topic has kept, which it gets in the order of
    // acceptance whatever keys, priorities and times to live say, and goes on with what is published, without a gap or
    // a double. It is made when all of that is there (see connected()). One that exists goes on where it is. Refused
    // where nothing is retained (an event with the code "not_retained"). Not given: from now on.
    std::optional<From> from{};
};

class Subscriber : public ConsumerEnd {
public:
    // Makes the subscription if the topic has none of that name; it then gets what is published from the host's
    // welcome on (see connected()). Throws Error: invalid name or option, endpoint malformed or in use.
    Subscriber(Context& context, const std::string& topic, const std::string& subscription, Home home,
               SubscriberOptions options = {});
};

}  // namespace posthorn::fanout
