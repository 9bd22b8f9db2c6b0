// What upkeep is worth doing on the chunks of a file: small neighbours to merge, chunks that little is left of to
// rewrite, bodies to cut down. Counts only; upkeep.hpp does the work. The counts are estimates (a commit that was
// rolled back leaves its traces); work that finds nothing sets them right.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "store/store.hpp"

namespace posthorn::store {

using TopicId = std::uint64_t;
using ChunkKey = std::pair<TopicId, Offset>;  // topic and first offset of a chunk: its place in the file

class UpkeepPlan {
public:
    static constexpr std::size_t small_bytes = 8 * 1024;    // a body up to here is merged with its neighbours
    static constexpr std::size_t merge_rows = 256;          // chunks looked at in one slice
    static constexpr std::size_t merged_bytes = 64 * 1024;  // of a body made by merging
    static constexpr std::size_t active_end = 64;           // chunks left alone: they will be settled in a moment
    static constexpr std::size_t sparse_bytes = 16 * 1024;  // a smaller body is not worth a rewrite
    static constexpr std::uint64_t sparse_wait = 64;        // commits: most chunks are gone by then
    static constexpr std::size_t sparse_kept = 65'536;      // entries, 24 bytes each; more are forgotten until touched
    static constexpr std::size_t thin_kept = 65'536;        // the same of bodies, 8 bytes each

    // A quarter of its bytes or less is live, and that is worth something.
    [[nodiscard]] static bool is_sparse(std::uint64_t body_bytes, std::uint64_t live_bytes) noexcept {
        return body_bytes >= sparse_bytes && live_bytes * 4 <= body_bytes;
    }

    // Of a chunk that is sparse, with so many chunks over its body. Copying one of several frees nothing before the
    // others have gone, which may be never: with this bound eight of them copy a ninth of it together.
    [[nodiscard]] static bool is_worth_copying(std::uint64_t body_bytes, std::uint64_t live_bytes,
                                               std::uint64_t sharers) noexcept {
        return sharers == 1 || live_bytes * 16 * sharers <= body_bytes;
    }

    // A shared body (chunk.body) of which less is needed than before.
    void thin(std::int64_t body);
    void not_thin(std::int64_t body) { thin_.erase(body); }
    std::optional<std::int64_t> take_thin();

    void created(ChunkKey chunk, std::size_t body_bytes);
    void gone(ChunkKey chunk, std::size_t body_bytes);
    void sparse(ChunkKey chunk);
    void committed() noexcept { ++commits_; }

    // Where to merge: a topic, and the chunk from which on `merge_rows` should be looked at.
    [[nodiscard]] std::optional<ChunkKey> merge_due() const;
    // A slice is done; `left` small chunks in it stay as they are, for they have no neighbours to merge with. Go on at
    // `next`; nothing there: the end was reached.
    void merged(TopicId topic, std::size_t left, std::optional<Offset> next);
    // Takes a chunk to rewrite off the list. It may be gone.
    std::optional<ChunkKey> take_sparse();

private:
    struct Fresh {        // small chunks that no merge has looked at
        Offset from = 0;  // all of them are here or behind
        std::uint64_t count = 0;
    };
    struct Sparse {
        ChunkKey chunk;
        std::uint64_t since = 0;
    };

    void set_due(TopicId topic, const Fresh& fresh);

    std::map<TopicId, Fresh> fresh_;
    std::set<TopicId> due_;
    std::deque<Sparse> sparse_;
    std::set<std::int64_t> thin_;
    std::uint64_t commits_ = 0;
};

}  // namespace posthorn::store
