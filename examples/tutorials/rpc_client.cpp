#include <iostream>

#include <posthorn/request_reply.hpp>

#include "tutorials.hpp"

int tutorials::rpc_client(Words words) {
    posthorn::Context context;
    posthorn::request_reply::Requester fibonacci{context, "rpc_queue", node()};
    const std::string n = joined(words, "30");
    std::cout << " [x] Requesting fib(" << n << ")" << std::endl;
    const auto reply = fibonacci.request(n).get();
    std::cout << " [.] " << (reply ? "Got " + reply.message.payload : reply.error) << std::endl;
    return reply ? 0 : 1;
}
