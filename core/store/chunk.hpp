// The messages that one commit brought to one topic: where each lies in the body they share, which are settled, what
// is remembered of the others. Knows neither bytes nor files; chunk_format.hpp writes it down.
//
// Invariants: offsets ascend; positions are the running sum of the sizes, so the body has no gaps; a message without
// a bit in the bitmap is live; an empty bitmap means that all are.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "store/store.hpp"

namespace posthorn::store {

class Chunk {
public:
    static constexpr std::size_t max_messages = 4096;
    static constexpr std::size_t max_bytes = 1024 * 1024;  // of body; a larger message stands alone

    struct Message {
        Offset offset = 0;
        std::uint32_t size = 0;
        std::uint16_t redrives = 0;
        bool maybe_duplicate = false;
        Wall accepted_at{};
        Terms terms{};
    };
    struct MarkRun {  // the messages begin..end-1, by index, have the values of `mark`, its offset apart
        std::uint32_t begin = 0;
        std::uint32_t end = 0;
        Mark mark;
    };

    // Behind all others. False, and nothing changes, when the chunk is full; an empty one takes anything.
    bool add(const Message& message);

    [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }
    [[nodiscard]] Offset first() const noexcept { return first_; }
    [[nodiscard]] Offset last() const noexcept { return offset(size() - 1); }
    [[nodiscard]] std::uint32_t body_size() const noexcept { return body_size_; }
    [[nodiscard]] std::uint64_t live() const noexcept { return size() - settled_count_; }
    [[nodiscard]] std::uint64_t live_bytes() const noexcept { return body_size_ - settled_bytes_; }
    [[nodiscard]] bool touched() const noexcept { return settled_count_ != 0 || !marks_.empty(); }
    [[nodiscard]] std::size_t memory() const noexcept;  // bytes, about

    // By index, from 0.
    [[nodiscard]] Offset offset(std::size_t index) const noexcept { return first_ + entries_[index].delta; }
    [[nodiscard]] Message message(std::size_t index) const noexcept;
    [[nodiscard]] std::string_view bytes(std::size_t index, std::string_view body) const noexcept;
    [[nodiscard]] bool is_live(std::size_t index) const noexcept;
    [[nodiscard]] std::size_t next_live(std::size_t index) const noexcept;  // `index` or behind; size(): none
    [[nodiscard]] std::size_t lower_bound(Offset offset) const noexcept;    // first at `offset` or behind
    [[nodiscard]] std::optional<Mark> mark(std::size_t index) const;

    // Both skip what is not in the chunk or already settled.
    void settle(OffsetRange range);
    void set_marks(std::vector<MarkRun> runs);  // ascending, disjoint; replaces what was known of these
    [[nodiscard]] std::vector<MarkRun> runs_of(std::span<const Mark> marks) const;  // ascending by offset

    // What the format writes.
    [[nodiscard]] const std::vector<std::uint64_t>& settled_bitmap() const noexcept { return settled_; }
    [[nodiscard]] const std::vector<MarkRun>& marks() const noexcept { return marks_; }
    void settle_indexes(std::size_t begin, std::size_t end);
    void drop_settled_marks();  // those whose messages are all settled

private:
    struct Entry {
        std::uint32_t delta = 0;     // offset - first
        std::uint32_t position = 0;  // in the body
        std::uint16_t redrives = 0;
        bool maybe_duplicate = false;
    };
    struct Stamp {  // from this message on, accepted at
        std::uint32_t index = 0;
        Wall accepted_at{};
    };
    struct TermsRun {  // from this message on
        std::uint32_t index = 0;
        Terms terms{};
    };

    [[nodiscard]] std::uint32_t position(std::size_t index) const noexcept {
        return index < entries_.size() ? entries_[index].position : body_size_;
    }

    Offset first_ = 0;
    std::uint32_t body_size_ = 0;
    std::uint32_t settled_bytes_ = 0;
    std::uint64_t settled_count_ = 0;
    std::vector<Entry> entries_;
    std::vector<Stamp> stamps_;
    std::vector<TermsRun> terms_;  // none in front of the first one
    std::vector<std::uint64_t> settled_;
    std::vector<MarkRun> marks_;
};

// Whether a queue is to know of both as one range, the second behind the first: there may be many more chunks than it
// wants to know of. The lives of a host lie far apart.
[[nodiscard]] constexpr bool are_near(const OffsetRange& before, const OffsetRange& behind) noexcept {
    return behind.first - before.last <= Chunk::max_messages;
}

struct PackedChunk {
    Chunk chunk;
    std::string body;
};

// As many of batch.appends, from the one at `from` on and below an offset, as fit one chunk; at least one. A chunk does
// not reach across the offset of a redrive of the same batch, which becomes a chunk of its own. Returns where to go on.
std::size_t pack(const TopicBatch& batch, std::size_t from, PackedChunk& out,
                 Offset below = std::numeric_limits<Offset>::max());
[[nodiscard]] PackedChunk pack_one(const Chunk::Message& message, std::string_view envelope);

// Adds what is live in a chunk to another, marks included. False when they do not all fit; then `to` is spoilt.
[[nodiscard]] bool copy_live(const Chunk& from, std::string_view body, PackedChunk& to);

}  // namespace posthorn::store
