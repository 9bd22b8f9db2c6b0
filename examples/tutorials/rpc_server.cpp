#include <iostream>

#include <posthorn/request_reply.hpp>

#include "tutorials.hpp"

static int fib(int n) {
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

int tutorials::rpc_server(Words /*words*/) {
    posthorn::Context context;
    posthorn::request_reply::Replier fibonacci{context, "rpc_queue", node()};
    const auto ended = fibonacci.run([](const posthorn::Message& request) {
        std::cout << " [.] fib(" << request.payload << ")" << std::endl;
        return std::to_string(fib(std::stoi(request.payload)));  // what it throws is the answer as well
    });
    return ended == posthorn::Status::ok ? 0 : 1;
}
