#include <iostream>

#include <posthorn/fanout.hpp>

#include "tutorials.hpp"

int tutorials::emit_log(Words words) {
    posthorn::Context context;
    posthorn::fanout::Publisher logs{context, "logs", node()};
    const std::string message = joined(words, "info: Hello World!");
    if (logs.send(message).wait(5s) != posthorn::Status::ok) return 1;
    std::cout << " [x] Sent " << message << std::endl;
    return 0;
}
