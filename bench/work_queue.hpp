// One run each of the same work: `messages` of 128 bytes from one process to another over tcp on this machine, every
// one counted by its number.
#pragma once

#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

namespace bench {

inline constexpr std::size_t payload_bytes = 128;

struct Run {
    double per_second = 0;
    std::uint64_t duplicates = 0;  // handled more than once: allowed by at-least-once, and said
};

// Raw libzmq PUSH/PULL, nothing acknowledged: from before the first send until the last message is received.
[[nodiscard]] Run peer(std::uint64_t messages, std::size_t per_frame);

// The queue in the producer's memory: from before the first send until the producer knows that every message is acked.
[[nodiscard]] Run brokerless(std::uint64_t messages);

// The queue in a node with its store in a new folder below `disk`: from before the first send until both every message
// is confirmed as stored to the producer, and every ack to the worker.
[[nodiscard]] Run at_node(std::uint64_t messages, const std::filesystem::path& posthorn,
                          const std::filesystem::path& disk);

// A payload begins with the number of its message.
void write_number(char* payload, std::uint64_t number);
[[nodiscard]] std::uint64_t read_number(const char* payload);

// Which messages have come.
class Tally {
public:
    explicit Tally(std::uint64_t messages) : seen_(messages) {}

    // Throws if the payload is not one of ours.
    void count(const char* payload, std::size_t size);
    [[nodiscard]] bool complete() const { return distinct_ == seen_.size(); }
    [[nodiscard]] std::uint64_t duplicates() const { return duplicates_; }

private:
    std::vector<bool> seen_;
    std::uint64_t distinct_ = 0;
    std::uint64_t duplicates_ = 0;
};

}  // namespace bench
