#include "queue/rate.hpp"

#include <algorithm>
#include <numeric>

namespace posthorn::queue {

void Rate::forget_until(std::uint64_t number) {
    for (std::uint64_t left = std::min(number - newest_, slots); left > 0; --left) {
        counts_[(number - left + 1) % slots] = 0;
    }
    newest_ = number;
}

double Rate::per_second(Mono now) const {
    if (!begun_) return 0;
    Rate later = *this;
    later.move_to(now);
    const Mono oldest{slot * static_cast<std::int64_t>(later.newest_ - std::min(later.newest_, slots - 1))};
    const Duration over = std::max<Duration>(now - std::max(*begun_, oldest), 1s);
    const std::uint64_t count = std::accumulate(later.counts_.begin(), later.counts_.end(), std::uint64_t{0});
    return static_cast<double>(count) / std::chrono::duration<double>(over).count();
}

}  // namespace posthorn::queue
