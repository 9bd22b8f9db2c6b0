// How often something happens a second, over about the last minute. Counting costs an addition.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include <posthorn/time.hpp>

namespace posthorn::queue {

class Rate {
public:
    void count(Mono now) {
        move_to(now);
        ++counts_[newest_ % slots];
        if (!begun_) begun_ = now;
    }
    // In the first minute over the time since the first one, but no less than a second.
    [[nodiscard]] double per_second(Mono now) const;

private:
    static constexpr std::uint64_t slots = 12;
    static constexpr Duration slot = 5s;

    void move_to(Mono now) {
        const auto number = static_cast<std::uint64_t>(now.time_since_epoch() / slot);
        if (number > newest_) forget_until(number);
    }
    void forget_until(std::uint64_t number);

    std::array<std::uint64_t, slots> counts_{};  // of the slot with the number n at n % slots
    std::uint64_t newest_ = 0;                   // number of the slot that is counted into
    std::optional<Mono> begun_;
};

}  // namespace posthorn::queue
