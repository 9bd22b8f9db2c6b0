// Request-reply: prices of shares, asked of whichever replier is free.
//
//   quote                   asks for three and prints the answers, in this process
//   quote serve ENDPOINT    answers for the service "quotes" of the node at ENDPOINT, until SIGINT or SIGTERM
//   quote ask NAME ENDPOINT asks for one there, and says what became of that
#include <cstdlib>
#include <exception>
#include <future>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <posthorn/request_reply.hpp>

namespace rr = posthorn::request_reply;
using namespace std::chrono_literals;

struct Ask {
    std::string name;
    MSGPACK_DEFINE_MAP(name)
};
struct Quote {
    double price = 0;
    MSGPACK_DEFINE_MAP(price)
};

namespace {

Quote quote(const Ask& ask) {
    static const std::map<std::string, double> prices{{"ACME", 12.5}, {"INIT", 99}};
    const auto found = prices.find(ask.name);
    if (found == prices.end()) throw std::runtime_error("nobody trades " + ask.name);  // is the answer, too
    return {found->second};
}

bool print(const std::string& name, const rr::Reply& reply) {
    const auto quoted = reply.as<Quote>();
    std::cout << name << ' '
              << (quoted ? std::to_string(quoted->price) : std::string{to_string(reply.status)} + ": " + reply.error)
              << std::endl;
    return quoted.has_value();
}

bool ask_ourselves(posthorn::Context& context) {
    rr::Requester quotes{context, "quotes", posthorn::here({.bind = "inproc://quotes"})};
    const std::jthread replier{[&](const std::stop_token& stop) {
        rr::Replier serves{context, "quotes", posthorn::at("inproc://quotes"), {.concurrency = 2}};
        static_cast<void>(serves.run(quote, rr::until(stop)));
    }};
    const std::vector<std::string> names{"ACME", "INIT", "NONE"};
    std::vector<std::future<rr::Reply>> answers;
    answers.reserve(names.size());
    for (const std::string& name : names) answers.push_back(quotes.request(Ask{name}));  // all at once
    int quoted = 0;
    for (std::size_t i = 0; i < names.size(); ++i) quoted += print(names[i], answers[i].get()) ? 1 : 0;
    return quoted == 2;
}

bool serve(posthorn::Context& context, const std::string& endpoint) {
    rr::Replier serves{context, "quotes", posthorn::at(endpoint), {.concurrency = 2}};
    return serves.run(quote) == posthorn::Status::ok;
}

bool ask(posthorn::Context& context, const std::string& name, const std::string& endpoint) {
    rr::Requester quotes{context, "quotes", posthorn::at(endpoint)};
    return print(name, quotes.request(Ask{name}, {.deadline = 5s}).get());
}

}  // namespace

int main(int argc, char** argv) {
    try {
        const std::vector<std::string> words(argv + 1, argv + argc);
        posthorn::Context context;
        const bool well = words.empty()       ? ask_ourselves(context)
                          : words.size() == 2 ? serve(context, words[1])
                          : words.size() == 3
                              ? ask(context, words[1], words[2])
                              : throw std::invalid_argument("quote; quote serve ENDPOINT; quote ask NAME ENDPOINT");
        return well ? EXIT_SUCCESS : EXIT_FAILURE;
    } catch (const std::exception& error) {
        std::cerr << error.what() << '\n';
        return EXIT_FAILURE;
    }
}
