// The five patterns, one after the other, both ends of each in this process. Where their queues live is one argument;
// the code behind it stays as it is.
//
//   patterns                                         in this process's memory
//   patterns 'here:tcp://127.0.0.1:*?store=./spool'  in this process, on disk
//   patterns tcp://127.0.0.1:5757                    at a node
#include <cstdlib>
#include <exception>
#include <iostream>
#include <string>
#include <thread>

#include <posthorn/fanout.hpp>
#include <posthorn/point_to_point.hpp>
#include <posthorn/pub_sub.hpp>
#include <posthorn/request_reply.hpp>
#include <posthorn/work_queue.hpp>

using namespace std::chrono_literals;
using posthorn::Context, posthorn::Home;

namespace {

// Each producer here has a folder of its own.
Home home_of(const Home& home, const std::string& name) {
    if (!home.is_here()) return home;
    posthorn::Here options = home.options();
    if (!options.store.empty()) options.store /= name;
    return posthorn::here(options);
}

// Where the other end finds it.
template <typename End>
Home home_with(const Home& home, const End& end) {
    return home.is_here() ? posthorn::at(end.endpoint()) : home;
}

template <typename End>
void show_next(const std::string& pattern, End& end) {
    posthorn::Received received = end.receive(10s);
    std::cout << pattern << ": " << received->message().payload << std::endl;
    if (received->ack_sync(10s) != posthorn::Status::ok) throw posthorn::Error(pattern + ": not acknowledged");
}

void work_queue(Context& context, const Home& home) {
    posthorn::work_queue::Producer jobs{context, "jobs", home_of(home, "jobs")};
    jobs.send("one of the workers does it");
    posthorn::work_queue::Worker worker{context, "jobs", home_with(home, jobs)};
    show_next("work queue", worker);
}

void point_to_point(Context& context, const Home& home) {
    posthorn::point_to_point::Sender ledger{context, "ledger", home_of(home, "ledger")};
    ledger.send("one receiver, in order");
    posthorn::point_to_point::Receiver receiver{context, "ledger", home_with(home, ledger)};
    show_next("point-to-point", receiver);
}

void fanout(Context& context, const Home& home) {
    posthorn::fanout::Publisher events{context, "events", home_of(home, "events")};
    posthorn::fanout::Subscriber audit{context, "events", "audit", home_with(home, events)};
    while (!audit.connected()) std::this_thread::sleep_for(1ms);  // from then on its subscription is there
    events.send("every subscription gets it");
    show_next("fanout", audit);
}

void publish_subscribe(Context& context, const Home& home) {
    posthorn::Here in_memory{.bind = home.options().bind};  // live topics keep nothing, so they have no store
    posthorn::pub_sub::Publisher prices{context, "prices", home.is_here() ? posthorn::here(in_memory) : home};
    posthorn::pub_sub::Subscriber watcher{context, "prices", home_with(home, prices)};
    if (prices.wait_for_subscribers(1, 10s) != posthorn::Status::ok) throw posthorn::Error("nobody subscribes");
    prices.send("whoever listens now gets it");
    std::cout << "publish-subscribe: " << watcher.receive(10s)->payload << std::endl;
}

void request_reply(Context& context, const Home& home) {
    posthorn::request_reply::Requester sums{context, "sums", home_of(home, "sums")};
    auto answer = sums.request("2 + 2");
    posthorn::request_reply::Replier replier{context, "sums", home_with(home, sums)};
    posthorn::Received asked = replier.receive(10s);
    static_cast<void>(asked->reply({.payload = asked->message().payload + " = 4"}));
    std::cout << "request-reply: " << answer.get().message.payload << std::endl;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        const Home home = Home::parse(argc > 1 ? argv[1] : "here:tcp://127.0.0.1:*");
        Context context;
        work_queue(context, home);
        point_to_point(context, home);
        fanout(context, home);
        publish_subscribe(context, home);
        request_reply(context, home);
        return EXIT_SUCCESS;
    } catch (const std::exception& error) {
        std::cerr << "patterns: " << error.what() << '\n';
        return EXIT_FAILURE;
    }
}
