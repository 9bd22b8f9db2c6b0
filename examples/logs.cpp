// Logs by level and source. The subject of a line is LEVEL.SOURCE, and each that listens says which it wants:
//
//   errors    error.*      the errors of every source
//   payment   *.payment    whatever the payments say
//   all       #            everything
//
//   logs                 a few lines and the three listeners, all in this process
//   logs NAME ENDPOINT   one of the listeners, at a node or publisher; until SIGINT or SIGTERM. To feed it:
//                        posthorn publish logs --subject error.payment 'card refused'
#include <cstdlib>
#include <exception>
#include <iostream>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include <posthorn/fanout.hpp>

namespace fanout = posthorn::fanout;
using namespace std::chrono_literals;

namespace {

const std::map<std::string, posthorn::Binding> listeners{
    {"errors", {.subject = "error.*"}},
    {"payment", {.subject = "*.payment"}},
    {"all", {.subject = "#"}},
};

// The payload is the line as it is: no type is needed for what a shell can publish as well.
posthorn::Handler show(const std::string& name) {
    return [name](posthorn::Delivery& delivery) {
        const posthorn::Message& line = delivery.message();
        std::cout << name + ": " + line.subject + " " + line.payload + "\n" << std::flush;
    };
}

bool all_in_this_process(posthorn::Context& context) {
    posthorn::Here home{.bind = "inproc://logs"};
    for (const auto& [name, binding] : listeners) home.subscriptions.push_back({.name = name, .bindings = {binding}});
    fanout::Publisher logs{context, "logs", posthorn::here(home)};  // declared: they miss nothing, whenever they come
    std::vector<std::jthread> listening;
    listening.reserve(listeners.size());
    for (const auto& [name, binding] : listeners) {
        listening.emplace_back([&context, listener = name](const std::stop_token& stop) {
            fanout::Subscriber subscriber{context, "logs", listener, posthorn::at("inproc://logs")};
            static_cast<void>(subscriber.run(show(listener), fanout::until(stop)));
        });
    }
    logs.send(posthorn::Message{.payload = "order 7 paid", .subject = "info.payment"});
    logs.send(posthorn::Message{.payload = "card refused", .subject = "error.payment"});
    logs.send(posthorn::Message{.payload = "no shelf 12", .subject = "error.inventory"});
    logs.send(posthorn::Message{.payload = "up since 8:00", .subject = "info.shipping"});
    return logs.flush(30s) == posthorn::Status::ok;  // in memory: all who want them have had them
}

bool listen(const std::string& name, posthorn::Context& context, const std::string& endpoint) {
    fanout::Subscriber subscriber{
        context, "logs", name, posthorn::at(endpoint), {.bindings = {{listeners.at(name)}}, .temporary = true}};
    return subscriber.run(show(name)) == posthorn::Status::ok;  // temporary: who does not listen is not kept logs for
}

bool run(const std::vector<std::string>& words) {
    posthorn::Context context;
    if (words.empty()) return all_in_this_process(context);
    if (words.size() == 2 && listeners.contains(words[0])) return listen(words[0], context, words[1]);
    throw posthorn::Error("give nothing, or errors, payment or all and ENDPOINT");
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return run({argv + 1, argv + argc}) ? EXIT_SUCCESS : EXIT_FAILURE;
    } catch (const std::exception& error) {
        std::cerr << "logs: " << error.what() << '\n';
        return EXIT_FAILURE;
    }
}
