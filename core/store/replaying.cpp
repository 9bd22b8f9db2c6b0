#include "store/replaying.hpp"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

namespace posthorn::store {

namespace {

// So much is done in one commit, for others wait for it: some 20 ms.
constexpr std::size_t replayed_chunks = 256;             // looked at
constexpr std::size_t replayed_bytes = 4 * 1024 * 1024;  // of bodies that are read

class Copying {
public:
    Copying(ChunkTable& chunks, const Replay& replay, TopicId to, Replayed& part)
        : chunks_(chunks), replay_(replay), to_(to), part_(part), from_(part.next) {}

    [[nodiscard]] bool is_enough() const {
        return part_.next >= replay_.at_least &&
               (looked_ >= replayed_chunks || read_ >= replayed_bytes || messages_ >= replay_.max_messages);
    }
    void copy(HeldChunk& held);

private:
    [[nodiscard]] bool is_wanted(const Chunk& chunk, std::size_t index, const std::optional<Slice>& body) const;
    [[nodiscard]] Chunk choose(const Chunk& chunk, const std::optional<Slice>& body) const;
    std::optional<Slice> body_of(HeldChunk& held);
    void count(const Chunk& copy);

    ChunkTable& chunks_;
    const Replay& replay_;
    TopicId to_;
    Replayed& part_;
    Offset from_;
    std::size_t looked_ = 0;
    std::size_t messages_ = 0;
    std::size_t read_ = 0;
};

bool Copying::is_wanted(const Chunk& chunk, std::size_t index, const std::optional<Slice>& body) const {
    if (!chunk.is_live(index) || chunk.offset(index) < from_) return false;
    if (replay_.since != Wall{} && chunk.message(index).accepted_at < replay_.since) return false;
    return !replay_.wants || replay_.wants(chunk.bytes(index, body->view()));
}

// The same messages, for the copy lies over the same body, with what is not wanted settled.
Chunk Copying::choose(const Chunk& chunk, const std::optional<Slice>& body) const {
    Chunk copy;
    std::vector<std::size_t> left_out;
    for (std::size_t i = 0; i < chunk.size(); ++i) {
        Chunk::Message message = chunk.message(i);
        message.terms = {};
        copy.add(message);
        if (!is_wanted(chunk, i, body)) left_out.push_back(i);
    }
    for (const std::size_t index : left_out) copy.settle_indexes(index, index + 1);
    return copy;
}

std::optional<Slice> Copying::body_of(HeldChunk& held) {
    read_ += held.chunk.body_size();
    return chunks_.body(held);
}

void Copying::count(const Chunk& copy) {
    part_.messages += copy.live();
    part_.bytes += copy.live_bytes();
    const std::size_t first = copy.next_live(0);
    if (part_.ranges.empty()) part_.oldest = copy.message(first).accepted_at;
    const OffsetRange range{copy.offset(first), copy.last()};
    if (!part_.ranges.empty() && are_near(part_.ranges.back(), range)) {
        part_.ranges.back().last = range.last;
    } else {
        part_.ranges.push_back(range);
    }
}

void Copying::copy(HeldChunk& held) {
    ++looked_;
    messages_ += held.chunk.size();
    // Upkeep may have merged what was behind the last slice with what was in it: a copy that lay over all of that would
    // reach across what the topic has.
    const bool reaches_back = held.chunk.first() < from_;
    const bool is_small = held.body == no_body_row;
    std::optional<Slice> body;
    if (replay_.wants || reaches_back || is_small) {
        body = body_of(held);
        if (!body) return;  // damaged: set aside with the messages of the other topic, and reported
    }
    Chunk copy = choose(held.chunk, body);
    if (copy.live() == 0) return;
    const bool is_little = body && copy.live_bytes() <= ChunkTable::small_body;
    auto shared = reaches_back || is_small || is_little ? std::nullopt : chunks_.share(held);
    if (!shared && !body) {
        body = body_of(held);
        if (!body) return;
    }
    count(copy);
    if (shared) {
        chunks_.insert(*shared, to_, std::move(copy));
        return;
    }
    PackedChunk packed;
    if (copy_live(copy, body->view(), packed)) chunks_.insert(to_, std::move(packed));  // a part of a chunk always fits
}

}  // namespace

Replayed copy_slice(ChunkTable& chunks, const Replay& replay, TopicId from, TopicId to) {
    Replayed part;
    part.next = replay.last != 0 ? chunks.begin_of_last(from, replay.last) : replay.from;
    Copying copying(chunks, replay, to, part);
    for (;;) {
        HeldChunk* held = chunks.at_or_behind(from, part.next);
        part.whole = held == nullptr;
        if (part.whole || copying.is_enough()) return part;
        const Offset next = held->chunk.last() + 1;
        copying.copy(*held);
        part.next = next;
    }
}

}  // namespace posthorn::store
