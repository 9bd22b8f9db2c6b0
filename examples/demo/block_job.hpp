// What the demo's producers send and its workers do: the checksum of one block of one file.
#pragma once

#include <cstdint>
#include <string>

#include <posthorn/payload.hpp>

inline constexpr const char* demo_queue = "blocks";

// `fate` is what the demo has in mind for the job: "passes", "fails-twice", "never-passes", "rejected".
struct BlockJob {
    std::uint64_t number = 0;
    std::string path;  // below the folder the worker was given
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    std::string fate;
    MSGPACK_DEFINE_MAP(number, path, offset, length, fate)
};
