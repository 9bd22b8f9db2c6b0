// Takes the demo's jobs: computes the checksum of a block of a file and appends it to its own record before it acks.
//
//   demo_worker HOME FOLDER RECORD CONCURRENCY MICROSECONDS
//
// MICROSECONDS is how long a job takes at least. Ends on SIGTERM when what is begun is done.
#include <chrono>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include <posthorn/work_queue.hpp>

#include "work_on.hpp"

namespace wq = posthorn::work_queue;

namespace {

void run(const std::vector<std::string>& arguments) {
    const std::filesystem::path folder{arguments.at(2)};
    const Record record{arguments.at(3)};
    const auto concurrency = static_cast<unsigned>(std::stoul(arguments.at(4)));
    const std::chrono::microseconds duration{std::stoll(arguments.at(5))};

    posthorn::Context context;
    wq::Worker worker{context, demo_queue, posthorn::Home::parse(arguments.at(1)), {.concurrency = concurrency}};
    const auto status = worker.run(
        [&](const BlockJob& job, posthorn::Delivery& delivery) { work_on(job, delivery, folder, duration, record); },
        wq::until_signal());
    if (status != posthorn::Status::ok) throw std::runtime_error("not finished: " + std::string(to_string(status)));
}

}  // namespace

int main(int argc, char** argv) {
    try {
        const std::vector<std::string> arguments(argv, argv + argc);
        if (arguments.size() != 6)
            throw std::runtime_error("usage: demo_worker HOME FOLDER RECORD CONCURRENCY MICROSECONDS");
        run(arguments);
        return EXIT_SUCCESS;
    } catch (const std::exception& error) {
        std::cerr << "demo_worker: " << error.what() << '\n';
        return EXIT_FAILURE;
    }
}
