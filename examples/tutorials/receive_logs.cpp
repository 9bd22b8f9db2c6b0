#include <unistd.h>

#include <iostream>

#include <posthorn/fanout.hpp>

#include "tutorials.hpp"

int tutorials::receive_logs(Words /*words*/) {
    posthorn::Context context;
    posthorn::fanout::Subscriber logs{context, "logs", std::to_string(::getpid()), node(), {.temporary = true}};
    const auto ended = logs.run(
        [](posthorn::Delivery& delivery) { std::cout << " [x] Received " << delivery.message().payload << std::endl; });
    return ended == posthorn::Status::ok ? 0 : 1;
}
