#include <algorithm>
#include <iostream>

#include <posthorn/fanout.hpp>

#include "tutorials.hpp"

int tutorials::emit_log_topic(Words words) {
    posthorn::Context context;
    posthorn::fanout::Publisher logs{context, "topic_logs", node()};
    const std::string subject = words.empty() ? "anonymous.info" : words[0];
    const std::string message = joined(words.subspan(std::min<std::size_t>(1, words.size())), "Hello World!");
    const auto ticket = logs.send(posthorn::Message{.payload = message, .subject = subject});
    if (ticket.wait(5s) != posthorn::Status::ok) return 1;
    std::cout << " [x] Sent " << subject << ":" << message << std::endl;
    return 0;
}
