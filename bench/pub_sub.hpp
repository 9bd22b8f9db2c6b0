// One run each of the same work: `messages` of 128 bytes from one process to all of `subscribers` others over tcp on
// this machine.
#pragma once

#include <cstdint>

namespace bench {

struct Fan {
    double per_second = 0;  // that each received, from before the first was sent until the last has come, on average
    double received = 1;    // the share of all, by the subscriber that got least
};

[[nodiscard]] Fan ours_blocking(std::uint64_t messages, unsigned subscribers);
[[nodiscard]] Fan ours_dropping(std::uint64_t messages, unsigned subscribers);
[[nodiscard]] Fan xpub_nodrop(std::uint64_t messages, unsigned subscribers);
[[nodiscard]] Fan pub(std::uint64_t messages, unsigned subscribers);

}  // namespace bench
