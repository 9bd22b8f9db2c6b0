// What the demo's workers do with a job: its block's checksum, recorded before the ack.
#pragma once

#include <isa-l/crc.h>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>

#include <posthorn/work_queue.hpp>

#include "block_job.hpp"
#include "record.hpp"

inline std::uint32_t checksum(const std::filesystem::path& file, const BlockJob& job) {
    std::ifstream in(file, std::ios::binary);
    std::string block(job.length, '\0');
    in.seekg(static_cast<std::streamoff>(job.offset));
    in.read(block.data(), static_cast<std::streamsize>(block.size()));
    if (!in) throw std::runtime_error("cannot read " + file.string());
    // The CRC-32 of gzip and zlib, so that the verifier can use a library that is not ours.
    return crc32_gzip_refl(0, reinterpret_cast<const unsigned char*>(block.data()), block.size());
}

// `duration` is how long it takes at least.
inline void work_on(const BlockJob& job, posthorn::Delivery& delivery, const std::filesystem::path& folder,
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
