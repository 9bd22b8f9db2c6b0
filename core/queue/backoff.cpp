#include "queue/backoff.hpp"

#include <algorithm>

namespace posthorn::queue {

Duration backoff_delay(const Backoff& backoff, std::uint32_t failures, std::mt19937_64& random) {
    switch (backoff.kind) {
        case Backoff::Kind::fixed:
            return backoff.min;
        case Backoff::Kind::list: {
            if (backoff.list.empty()) return backoff.min;
            const std::size_t index = std::min<std::size_t>(failures, backoff.list.size()) - 1;
            return backoff.list[index];
        }
        case Backoff::Kind::exponential:
            break;
    }
    Duration ceiling = backoff.min;
    for (std::uint32_t i = 1; i < failures && ceiling < backoff.max; ++i) {
        ceiling = ceiling > backoff.max / 2 ? backoff.max : ceiling * 2;
    }
    ceiling = std::clamp(ceiling, Duration::zero(), backoff.max);
    return Duration{std::uniform_int_distribution<Duration::rep>{0, ceiling.count()}(random)};
}

}  // namespace posthorn::queue
