#include "node.hpp"

#include <unistd.h>
#include <string_view>
#include <system_error>

namespace fs = std::filesystem;

namespace bench {

namespace {

constexpr std::string_view endpoint_is = "endpoint ";  // nothing at all cannot be said

}  // namespace

TemporaryFolder::~TemporaryFolder() {
    std::error_code ignored;  // nothing depends on its going
    fs::remove_all(path, ignored);
}

Node::Node(const fs::path& posthorn, const fs::path& disk)
    : data_(disk / ("posthorn-bench-" + std::to_string(::getpid()))),
      process_([this, &posthorn](const Line& line) { become_node(line, posthorn); }) {
    const std::string ready = "ready on ";
    for (std::string said; endpoint_.empty();) {
        said += process_.hear();
        const auto at = said.find(ready);
        const auto end = said.find_first_of(", \n", at + ready.size());
        if (at != std::string::npos && end != std::string::npos)
            endpoint_ = said.substr(at + ready.size(), end - at - ready.size());
    }
}

void Node::stop() {
    process_.terminate();
    process_.join();
}

void Node::become_node(const Line& line, const fs::path& posthorn) const {
    line.take_errors();
    ::execl(posthorn.c_str(), posthorn.c_str(), "node", "--bind", "tcp://127.0.0.1:*", "--data", data_.path.c_str(),
            "--log-level", "error", static_cast<char*>(nullptr));
    throw std::runtime_error("cannot run " + posthorn.string() + "; ./run build makes it");
}

void say_endpoint(const Line& line, const std::string& endpoint) {
    line.say(std::string{endpoint_is} + endpoint);
}

std::string endpoint_of(const Child& end) {
    return end.hear().substr(endpoint_is.size());
}

}  // namespace bench
