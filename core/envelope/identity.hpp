// 128-bit identities: producer ids, consumer incarnations, host incarnations. Random, made by whoever starts a life.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>

namespace posthorn {

struct Identity {
    std::array<std::uint8_t, 16> bytes{};

    friend auto operator<=>(const Identity&, const Identity&) = default;
    [[nodiscard]] bool is_zero() const noexcept { return *this == Identity{}; }
    [[nodiscard]] std::string_view view() const noexcept {
        return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    }
    // Any 16 bytes; false when `raw` has another length.
    [[nodiscard]] static bool from_bytes(std::string_view raw, Identity& out) noexcept {
        if (raw.size() != out.bytes.size()) return false;
        std::memcpy(out.bytes.data(), raw.data(), raw.size());
        return true;
    }
    [[nodiscard]] std::string hex() const;
};

}  // namespace posthorn

template <>
struct std::hash<posthorn::Identity> {
    std::size_t operator()(const posthorn::Identity& id) const noexcept {
        std::uint64_t low = 0;
        std::memcpy(&low, id.bytes.data(), sizeof low);  // random bytes: any eight of them are a hash
        return static_cast<std::size_t>(low);
    }
};
