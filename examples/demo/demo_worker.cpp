// Takes the demo's jobs: computes the checksum of a block of a file and appends it to its own record before it acks.
//
//   demo_worker HOME FOLDER RECORD CONCURRENCY MICROSECONDS
//
// MICROSECONDS is how long a job takes at least. Ends on SIGTERM when what is begun is done.
#include <isa-l/crc.h>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <posthorn/work_queue.hpp>

#include "block_job.hpp"
#include "record.hpp"

namespace wq = posthorn::work_queue;

namespace {

std::uint32_t checksum(const std::filesystem::path& file, const BlockJob& job) {
    std::ifstream in(file, std::ios::binary);
    std::string block(job.length, '\0');
    in.seekg(static_cast<std::streamoff>(job.offset));
    in.read(block.data(), static_cast<std::streamsize>(block.size()));
    if (!in) throw std::runtime_error("cannot read " + file.string());
    // The CRC-32 of gzip and zlib, so that the verifier can use a library that is not ours.
    return crc32_gzip_refl(0, reinterpret_cast<const unsigned char*>(block.data()), block.size());
}

void work_on(const BlockJob& job, posthorn::Delivery& delivery, const std::filesystem::path& folder,
             std::chrono::microseconds duration, const Record& record) {
    const std::string job_and_attempt = std::to_string(job.number) + ' ' + std::to_string(delivery.attempt());
    record.line("begun " + job_and_attempt + ' ' + delivery.id());
    std::this_thread::sleep_for(duration);
    if (job.fate == "rejected") {
        record.line("rejected " + job_and_attempt);
        delivery.reject("nobody wants this block");
        return;
    }
    if (job.fate == "never-passes" || (job.fate == "fails-twice" && delivery.attempt() <= 2)) {
        record.line("failed " + job_and_attempt);
        throw std::runtime_error("this block fails at attempt " + std::to_string(delivery.attempt()));
    }
    record.line("done " + job_and_attempt + ' ' + std::to_string(checksum(folder / job.path, job)));
}

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
