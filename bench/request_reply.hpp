// One run each of the same work: requests of 128 bytes from one process to another over tcp on this machine, each
// answered with its own payload by one handler.
#pragma once

#include <cstdint>
#include <filesystem>

namespace bench {

inline constexpr int outstanding = 1000;

struct Exchange {
    double per_second = 0;  // answered, with up to `outstanding` at once
    double median_us = 0;   // from request to answer, one at a time
    double p99_us = 0;
};

[[nodiscard]] Exchange ours_brokerless(std::uint64_t requests);
[[nodiscard]] Exchange ours_at_node(std::uint64_t requests, const std::filesystem::path& posthorn,
                                    const std::filesystem::path& disk);
[[nodiscard]] Exchange dealer_router(std::uint64_t requests);

}  // namespace bench
