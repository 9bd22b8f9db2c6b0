#include <unistd.h>

#include <iostream>

#include <posthorn/fanout.hpp>

#include "tutorials.hpp"

int tutorials::receive_logs_direct(Words words) {
    if (words.empty()) throw posthorn::Error("usage: receive_logs_direct [info] [warning] [error]");
    std::vector<posthorn::Binding> wanted;
    for (const char* subject : words) wanted.push_back({.subject = subject});
    posthorn::Context context;
    posthorn::fanout::Subscriber logs{
        context, "direct_logs", std::to_string(::getpid()), node(), {.bindings = wanted, .temporary = true}};
    const auto ended = logs.run([](posthorn::Delivery& delivery) {
        const posthorn::Message& line = delivery.message();
        std::cout << " [x] Received " << line.subject << ":" << line.payload << std::endl;
    });
    return ended == posthorn::Status::ok ? 0 : 1;
}
