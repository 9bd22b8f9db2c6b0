// What ours need to find each other: a node of the benchmark's own, and endpoints.
#pragma once

#include <chrono>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <thread>

#include "child.hpp"

namespace bench {

struct TemporaryFolder {
    std::filesystem::path path;

    explicit TemporaryFolder(std::filesystem::path name) : path(std::move(name)) {}
    ~TemporaryFolder();
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder(TemporaryFolder&&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(TemporaryFolder&&) = delete;
};

// Runs the program `posthorn` on new data in a folder below `disk`.
class Node {
public:
    Node(const std::filesystem::path& posthorn, const std::filesystem::path& disk);

    [[nodiscard]] const std::string& endpoint() const { return endpoint_; }
    void stop();

private:
    void become_node(const Line& line, const std::filesystem::path& posthorn) const;

    TemporaryFolder data_;
    std::string endpoint_;
    Child process_;
};

// An end's own, empty at a node.
void say_endpoint(const Line& line, const std::string& endpoint);
[[nodiscard]] std::string endpoint_of(const Child& end);

template <typename End>
void wait_until_connected(const End& end) {
    using namespace std::chrono_literals;
    const auto deadline = std::chrono::steady_clock::now() + 10s;
    while (!end.connected()) {
        if (std::chrono::steady_clock::now() > deadline) throw std::runtime_error("not connected after 10 s");
        std::this_thread::sleep_for(1ms);
    }
}

}  // namespace bench
