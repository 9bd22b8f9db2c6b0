#include "store/store.hpp"

#include <isa-l/crc64.h>

#include <algorithm>
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

std::uint64_t key_of(std::string_view ordering_key) noexcept {
    if (ordering_key.empty()) return 0;
    const auto* bytes = reinterpret_cast<const unsigned char*>(ordering_key.data());
    return std::max<std::uint64_t>(1, crc64_ecma_refl(0, bytes, ordering_key.size()));
}

}  // namespace posthorn::store
