#include "store/store.hpp"

#include <array>

namespace posthorn::store {

namespace {

constexpr std::array<std::pair<Reason, std::string_view>, 5> reasons{{
    {Reason::rejected, "rejected"},
    {Reason::max_attempts, "max_attempts"},
    {Reason::expired, "expired"},
    {Reason::queue_full, "queue_full"},
    {Reason::undecodable, "undecodable"},
}};

}  // namespace

std::string_view to_string(Reason reason) noexcept {
    for (const auto& [value, name] : reasons) {
        if (value == reason) return name;
    }
    return "unknown";
}

std::optional<Reason> reason_from(std::string_view text) noexcept {
    for (const auto& [value, name] : reasons) {
        if (name == text) return value;
    }
    return std::nullopt;
}

std::string describe(const Damage& damage) {
    return "messages " + std::to_string(damage.range.first) + " to " + std::to_string(damage.range.last) +
           " cannot be read (" + damage.what + "); they were set aside, the rest is served";
}

}  // namespace posthorn::store
