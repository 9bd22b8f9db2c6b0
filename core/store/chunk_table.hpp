// The chunks of a store file: rows of header, body and state, and a bounded cache of headers and states. The file has
// every change by the end of flush(); the cache is only ever a copy, so after a rollback it is simply emptied.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "store/chunk.hpp"
#include "store/chunk_format.hpp"
#include "store/database.hpp"
#include "store/upkeep_plan.hpp"

namespace posthorn::store {

// Where a chunk's body lies: a row of `body`; below 0: the row of that number without its sign, over which other
// chunks lie as well, or did when this one was made; 0: in the chunk's own row, for it is small.
using BodyRef = std::int64_t;
inline constexpr BodyRef no_body_row = 0;
[[nodiscard]] constexpr bool is_shared(BodyRef body) noexcept {
    return body < 0;
}
[[nodiscard]] constexpr BodyRef body_row(BodyRef body) noexcept {
    return is_shared(body) ? -body : body;
}

// A body over which several chunks lie.
struct SharedBody {
    BodyRef body = no_body_row;
    std::uint32_t crc = 0;
    std::string layout;  // of most of them: what lies where
};

struct HeldChunk {
    Chunk chunk;
    TopicId topic = 0;
    BodyRef body = no_body_row;
    std::uint32_t body_crc = 0;
    bool has_state = false;   // there is a row
    bool dirty = false;       // which is behind
    bool planned = false;     // the plan knows that it is sparse
    std::size_t counted = 0;  // bytes of memory, as last counted
    std::list<ChunkKey>::iterator used;

    [[nodiscard]] ChunkKey key() const noexcept { return {topic, chunk.first()}; }
};

struct ChunkRow {  // a chunk without its header
    TopicId topic = 0;
    Offset first = 0;
    Offset last = 0;
    std::uint64_t messages = 0;
    std::uint64_t body_size = 0;
    BodyRef body = no_body_row;
};

[[nodiscard]] bool matches(const HeaderSummary& header, const ChunkRow& row);

// A chunk that can no longer be read and was set aside.
struct LostChunk {
    TopicId topic = 0;
    OffsetRange range;
    std::uint64_t messages = 0;
    std::string what;
};

class ChunkTable {
public:
    static constexpr std::size_t cached_chunks = 4096;
    static constexpr std::size_t cached_bytes = 32 * 1024 * 1024;

    // Bytes; such a body costs a commit no page of its own. Merging moves it out, so recovery never reads many.
    static constexpr std::size_t small_body = 1024;

    ChunkTable(Database& db, UpkeepPlan& plan);

    // `planned`: false for what a merge made, which is not to be merged again.
    void insert(TopicId topic, PackedChunk packed, bool planned = true);
    // A body for so many chunks, each of which has all its messages; those to come are inserted over it.
    [[nodiscard]] SharedBody insert_shared(const PackedChunk& packed, std::size_t chunks);
    void insert(const SharedBody& shared, TopicId topic, Chunk chunk, bool planned = true);
    // One more chunk is to be inserted over this one's body, which is in a row. Nothing: how many there are is not
    // known any more, so none may join them.
    [[nodiscard]] std::optional<SharedBody> share(HeldChunk& held);
    // One less lies over this shared body, which goes with the last.
    void release(BodyRef body);
    void settle(TopicId topic, OffsetRange range);
    void set_marks(TopicId topic, std::span<const Mark> marks);
    void erase(HeldChunk& held);
    void erase(const ChunkRow& row);
    void erase_all(TopicId topic);

    // The chunk that holds `offset`, else the next one; damaged ones are set aside on the way. The pointer holds
    // until the next call that may load a chunk.
    HeldChunk* at_or_behind(TopicId topic, Offset offset);
    // Where the last so many unsettled messages begin; 0: there are no more than that.
    [[nodiscard]] Offset begin_of_last(TopicId topic, std::uint64_t messages);
    // How many chunks lie over this chunk's body; 0: that is not known any more, and the body stays.
    [[nodiscard]] std::uint64_t sharers(BodyRef body);
    // The topics of the chunks over this chunk's body, ascending; all of a body that no dead letters lie in.
    [[nodiscard]] std::vector<TopicId> topics_over(const ChunkRow& row);
    // Nothing: the body is damaged and the chunk has been set aside; `held` is gone.
    std::optional<Slice> body(HeldChunk& held);

    [[nodiscard]] std::vector<ChunkRow> rows_from(TopicId topic, Offset first, std::size_t most);
    void settle_at(HeldChunk& held, std::size_t index);
    void set_aside(const ChunkRow& row, std::uint64_t live, const std::string& what);

    void flush();           // writes what has changed
    void clear() noexcept;  // after a rollback
    std::vector<LostChunk> take_lost();
    [[nodiscard]] std::size_t cached() const noexcept { return held_.size(); }

private:
    HeldChunk* covering(TopicId topic, Offset offset);
    std::optional<ChunkRow> locate(TopicId topic, Offset offset);
    HeldChunk* load(const ChunkRow& row);
    HeldChunk& keep(HeldChunk held);
    void forget(HeldChunk& held);
    void touch(HeldChunk& held);
    void changed(HeldChunk& held);
    void write_state(HeldChunk& held);
    void count(HeldChunk& held);
    void trim();
    void insert_row(HeldChunk held, std::string_view header, const std::string* small, bool planned);
    BodyRef insert_body(std::string_view bytes);
    void erase_rows(ChunkKey key, BodyRef body, bool has_state);
    void erase_body(BodyRef body);
    std::optional<std::string> read_body(const HeldChunk& held);
    [[nodiscard]] static ChunkRow row_of(const HeldChunk& held);

    Database& db_;
    UpkeepPlan& plan_;
    std::map<ChunkKey, HeldChunk> held_;
    std::list<ChunkKey> used_;  // most recently used first
    std::vector<ChunkKey> dirty_;
    std::size_t bytes_ = 0;
    std::vector<LostChunk> lost_;
    BodyRef last_body_ = no_body_row;  // row of the body read last: whoever reads a chunk in parts reads it once
    Slice last_body_bytes_;

    Statement insert_chunk_;
    Statement insert_body_;
    Statement insert_shared_;
    Statement join_shared_;
    Statement release_shared_;
    Statement delete_shared_;
    Statement select_sharers_;
    Statement select_topics_;
    Statement select_layout_;
    Statement share_chunk_;
    Statement delete_chunk_;
    Statement delete_body_;
    Statement delete_state_;
    Statement put_state_;
    Statement select_before_;
    Statement select_behind_;
    Statement select_rows_;
    Statement select_backwards_;
    Statement select_header_;
    Statement select_body_;
    Statement select_small_body_;
    Statement insert_damaged_;
};

}  // namespace posthorn::store
