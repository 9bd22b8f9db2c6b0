// What a user's program is: it includes public headers and links posthorn::posthorn. A job goes through a node of the
// test's and is worked on, and so is a message that is fanned out.
#include <cstdlib>
#include <iostream>
#include <string>

#include <posthorn/fanout.hpp>
#include <posthorn/point_to_point.hpp>
#include <posthorn/testing.hpp>
#include <posthorn/work_queue.hpp>

using namespace std::chrono_literals;

struct Greeting {
    std::string name;
    MSGPACK_DEFINE_MAP(name)
};

int main() {
    posthorn::Context context;
    posthorn::testing::Node node{context, {.on_disk = true}};
    posthorn::work_queue::Producer producer{context, "greetings", node.at()};
    if (producer.send(Greeting{"world"}).wait(30s) != posthorn::Status::ok) return EXIT_FAILURE;
    posthorn::work_queue::Worker worker{context, "greetings", node.at()};
    posthorn::Received received = worker.receive(30s);
    if (!received || received->as<Greeting>()->name != "world") return EXIT_FAILURE;
    if (received->ack_sync(30s) != posthorn::Status::ok) return EXIT_FAILURE;
    std::cout << "hello, world\n";

    posthorn::fanout::Publisher publisher{context, "news",
                                          posthorn::here({.bind = "inproc://news", .subscriptions = {{.name = "us"}}})};
    posthorn::fanout::Subscriber subscriber{context, "news", "us", posthorn::at("inproc://news")};
    const posthorn::Ticket ticket = publisher.send(Greeting{"all"});
    received = subscriber.receive(30s);
    if (!received || received->as<Greeting>()->name != "all") return EXIT_FAILURE;
    return received->ack() == posthorn::Status::ok && ticket.wait(30s) == posthorn::Status::ok ? EXIT_SUCCESS
                                                                                               : EXIT_FAILURE;
}
