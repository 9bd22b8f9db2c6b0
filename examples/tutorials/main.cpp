#include <cstdlib>
#include <exception>
#include <iostream>
#include <map>
#include <string_view>

#include "tutorials.hpp"

namespace tutorials {

posthorn::Home node() {
    const char* const endpoint = std::getenv("POSTHORN_NODE");
    return posthorn::at(endpoint == nullptr ? "tcp://127.0.0.1:5757" : endpoint);
}

std::string joined(Words words, const char* otherwise) {
    if (words.empty()) return otherwise;
    std::string all;
    for (const char* word : words) all += (all.empty() ? "" : " ") + std::string{word};
    return all;
}

}  // namespace tutorials

int main(int argc, char** argv) {
    const std::map<std::string_view, int (*)(tutorials::Words)> programs{
        {"send", tutorials::send},
        {"receive", tutorials::receive},
        {"new_task", tutorials::new_task},
        {"worker", tutorials::worker},
        {"emit_log", tutorials::emit_log},
        {"receive_logs", tutorials::receive_logs},
        {"emit_log_direct", tutorials::emit_log_direct},
        {"receive_logs_direct", tutorials::receive_logs_direct},
        {"emit_log_topic", tutorials::emit_log_topic},
        {"receive_logs_topic", tutorials::receive_logs_topic},
        {"rpc_client", tutorials::rpc_client},
        {"rpc_server", tutorials::rpc_server},
    };
    const auto program = programs.find(argc > 1 ? argv[1] : "");
    if (program == programs.end()) {
        std::cerr << "tutorials: give one of";
        for (const auto& [name, run] : programs) std::cerr << ' ' << name;
        std::cerr << '\n';
        return EXIT_FAILURE;
    }
    try {
        return program->second({argv + 2, argv + argc});
    } catch (const std::exception& error) {
        std::cerr << "tutorials: " << error.what() << '\n';
        return EXIT_FAILURE;
    }
}
