// How a chunk is written down: a header (what lies where in the body) and a state (what became of it), both msgpack
// values in a row with a CRC32C behind them; docs/storage.md has them field by field. The header's CRC covers the
// body as well, through the body's own CRC in it. Decoding never throws and allocates at most a chunk.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "store/chunk.hpp"

namespace posthorn::store {

inline constexpr std::uint64_t chunk_version = 1;
inline constexpr std::uint64_t layout_elsewhere = 2;  // version of a header without what lies where

[[nodiscard]] std::uint32_t crc32c(std::string_view bytes) noexcept;

// Wall-clock times as they are stored: milliseconds since the Unix epoch.
[[nodiscard]] inline std::int64_t ticks(Wall at) noexcept {
    return at.time_since_epoch().count();
}
[[nodiscard]] inline Wall wall(std::int64_t milliseconds) noexcept {
    return Wall{WallClock::duration{milliseconds}};
}

// Appends the CRC32C of what is there; and the other way round: empty when it does not fit.
void seal(std::string& bytes);
[[nodiscard]] std::optional<std::string_view> unseal(std::string_view bytes) noexcept;

// What is in front in a header: enough for recovery and for chunks that go whole.
struct HeaderSummary {
    std::uint64_t topic = 0;
    std::int64_t body = 0;  // as in the chunk's row
    Offset first = 0;
    Offset last = 0;
    std::uint64_t messages = 0;
    std::uint32_t body_size = 0;
    std::uint32_t body_crc = 0;
    Wall accepted_at{};    // of the first message
    bool special = false;  // some messages have terms
    bool needs_layout = false;
};

// The same of a state.
struct StateSummary {
    std::uint64_t messages = 0;  // in the chunk, settled or not
    std::uint64_t settled = 0;
    std::uint64_t settled_bytes = 0;
    Offset first_live = 0;
    Offset last_marked = 0;  // 0: none
};

// What lies where, for the chunks over one body: those that have no more to say leave it out of their headers.
[[nodiscard]] std::string encode_layout(const Chunk& chunk, std::uint32_t body_crc);
[[nodiscard]] std::string encode_header(const Chunk& chunk, std::uint64_t topic, std::int64_t body,
                                        std::uint32_t body_crc, std::string_view layout = {});
[[nodiscard]] std::optional<HeaderSummary> read_summary(std::string_view header) noexcept;
// Whether the layout is sound and its own, if it needs one.
[[nodiscard]] bool is_complete(const HeaderSummary& header, std::string_view layout) noexcept;
[[nodiscard]] std::optional<Chunk> decode_header(std::string_view header, std::string_view layout = {});

[[nodiscard]] std::string encode_state(Chunk& chunk);  // drops marks that no longer matter first
[[nodiscard]] std::optional<StateSummary> read_state_summary(std::string_view state) noexcept;
[[nodiscard]] bool decode_state(std::string_view state, Chunk& chunk);

}  // namespace posthorn::store
