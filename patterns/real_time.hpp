// Where somebody waits in a call; the time of sessions is the loop's.
#pragma once

#include <chrono>

#include <posthorn/time.hpp>

namespace posthorn::detail {

using RealTime = std::chrono::steady_clock::time_point;

[[nodiscard]] inline RealTime real_time(Duration from_now) {
    const auto now = std::chrono::steady_clock::now();
    return from_now > RealTime::max() - now ? RealTime::max() : now + from_now;
}

}  // namespace posthorn::detail
