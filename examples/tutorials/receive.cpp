#include <iostream>

#include <posthorn/work_queue.hpp>

#include "tutorials.hpp"

int tutorials::receive(Words /*words*/) {
    posthorn::Context context;
    posthorn::work_queue::Worker hello{context, "hello", node()};
    const auto ended = hello.run(
        [](posthorn::Delivery& delivery) { std::cout << " [x] Received " << delivery.message().payload << std::endl; });
    return ended == posthorn::Status::ok ? 0 : 1;
}
