// Time as Posthorn passes it around. The machines inside own no clock: whoever drives them passes `Now`.
// The two clocks have no now() on purpose, so nothing below the transport can look at a real one.
#pragma once

#include <chrono>
#include <ratio>

namespace posthorn {

using namespace std::chrono_literals;
using Duration = std::chrono::nanoseconds;

struct MonotonicClock {  // for timers; starts anywhere, never steps
    using rep = std::int64_t;
    using period = std::nano;
    using duration = Duration;
    using time_point = std::chrono::time_point<MonotonicClock>;
    static constexpr bool is_steady = true;
};

struct WallClock {  // for what is stored or shown; milliseconds since the Unix epoch; may step
    using rep = std::int64_t;
    using period = std::milli;
    using duration = std::chrono::milliseconds;
    using time_point = std::chrono::time_point<WallClock>;
    static constexpr bool is_steady = false;
};

using Mono = MonotonicClock::time_point;
using Wall = WallClock::time_point;

struct Now {
    Mono mono;
    Wall wall;
};

inline constexpr Mono never = Mono::max();

}  // namespace posthorn
