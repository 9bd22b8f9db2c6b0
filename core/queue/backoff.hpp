// How long a failed message waits. Full jitter as in "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
#pragma once

#include <cstdint>
#include <random>

#include <posthorn/policy.hpp>

namespace posthorn::queue {

// `failures`: attempts charged so far, the one that just failed included; at least 1.
[[nodiscard]] Duration backoff_delay(const Backoff& backoff, std::uint32_t failures, std::mt19937_64& random);

}  // namespace posthorn::queue
