// The example of README.md: one program that is producer or worker of a queue at a node, that of POSTHORN_NODE or the
// one at the default port.
#include <cstdlib>
#include <exception>
#include <iostream>
#include <string_view>

#include <posthorn/work_queue.hpp>

#include "encode.hpp"

namespace wq = posthorn::work_queue;
using namespace std::chrono_literals;

namespace {

const char* const node = [] {
    const char* const given = std::getenv("POSTHORN_NODE");
    return given == nullptr ? "tcp://127.0.0.1:5757" : given;
}();

bool produce(posthorn::Context& context) {
    wq::Producer jobs{context, "encode", posthorn::at(node)};
    const wq::Ticket ticket = jobs.send(EncodeJob{"cat.mov", "720p"});
    const bool safe = ticket.wait(5s) == posthorn::Status::ok;  // on the node's disk
    return safe;
}

bool work(posthorn::Context& context) {
    wq::Worker worker{context, "encode", posthorn::at(node), {.concurrency = 4}};
    const posthorn::Status ended = worker.run(encode);
    return ended == posthorn::Status::ok;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        const std::string_view role = argc > 1 ? argv[1] : "";
        if (role != "produce" && role != "work") {
            std::cerr << "usage: encode produce|work, with a node at " << node << '\n';
            return EXIT_FAILURE;
        }
        posthorn::Context context;
        return (role == "produce" ? produce(context) : work(context)) ? EXIT_SUCCESS : EXIT_FAILURE;
    } catch (const std::exception& error) {
        std::cerr << error.what() << '\n';
        return EXIT_FAILURE;
    }
}
