#include "store/gathering.hpp"

#include <algorithm>
#include <string>

namespace posthorn::store {

namespace {

constexpr std::size_t dead_read_bytes = 1024 * 1024;

// A slice holds on to the whole body. Where little of it is wanted, that little is copied.
Slice slice_of(const Chunk& chunk, std::size_t index, const Slice& body) {
    const std::string_view bytes = chunk.bytes(index, body.view());
    if (chunk.live_bytes() * 4 <= chunk.body_size()) return Slice(std::string(bytes));
    return body.part(bytes);
}

}  // namespace

Gathering::Gathering(const Read& read, ReadResult& result) : read_(read), result_(result) {
    result.topic = read.topic;
    result.from = result.next = read.from;
}

bool Gathering::spent() const noexcept {
    return given_ >= read_.max_messages || (given_ != 0 && bytes_ >= read_.max_bytes);
}

bool Gathering::full() const noexcept {
    return !read_.select && spent();
}

bool Gathering::selected(const Chunk& chunk, std::size_t index) const {
    if (!read_.select) return true;
    const Terms terms = chunk.message(index).terms;
    const auto mark = chunk.mark(index);
    if ((mark ? mark->due : terms.due) > read_.select->now) return false;
    if ((read_.select->priorities >> terms.priority & 1U) != 0) return true;
    return terms.key != 0 && (read_.select->keys >> key_group(terms.key) & 1U) != 0;
}

bool Gathering::wants_body(const Chunk& chunk) const {
    if (!read_.bodies || spent()) return false;
    std::size_t i = chunk.next_live(chunk.lower_bound(read_.from));
    while (i < chunk.size() && chunk.offset(i) <= read_.to && !selected(chunk, i)) i = chunk.next_live(i + 1);
    return i < chunk.size() && chunk.offset(i) <= read_.to;
}

bool Gathering::take(const Chunk& chunk, const Slice& body) {
    for (std::size_t i = chunk.next_live(chunk.lower_bound(read_.from)); i < chunk.size(); i = chunk.next_live(i + 1)) {
        const Chunk::Message message = chunk.message(i);
        if (message.offset > read_.to) return true;
        const bool fits = !spent() && (given_ == 0 || bytes_ + message.size <= read_.max_bytes);
        if (!fits && !read_.select) {
            result_.next = message.offset;
            return false;
        }
        StoredMessage& stored = result_.messages.emplace_back();
        stored.offset = message.offset;
        stored.size = message.size;
        stored.redrives = message.redrives;
        stored.maybe_duplicate = message.maybe_duplicate;
        stored.accepted_at = message.accepted_at;
        stored.terms = message.terms;
        stored.mark = chunk.mark(i);
        result_.next = message.offset + 1;
        if (!fits || !selected(chunk, i)) continue;
        if (read_.bodies) stored.envelope = slice_of(chunk, i, body);
        bytes_ += message.size;
        ++given_;
    }
    return true;
}

void Gathering::finish() {
    if (read_.to >= read_.from) result_.next = std::max(read_.to, read_.to + 1);  // the last offset of all stays itself
}

DeadGathering::DeadGathering(const ReadDead& read, ReadDeadResult& result) : read_(read), result_(result) {
    result.topic = read.topic;
    result.ticket = read.ticket;
}

bool DeadGathering::fits(std::size_t envelope_bytes) {
    if (count_ >= read_.max || (count_ != 0 && bytes_ + envelope_bytes > dead_read_bytes)) {
        result_.more = true;
        return false;
    }
    ++count_;
    bytes_ += envelope_bytes;
    return true;
}

bool exceeds(const DeadBound& bound, std::uint64_t messages, std::uint64_t bytes) noexcept {
    return (bound.max_messages != 0 && messages > bound.max_messages) ||
           (bound.max_bytes != 0 && bytes > bound.max_bytes);
}

Chunk::Message redriven(const Redrive& redrive, const StoredDeadLetter& letter, Wall accepted_at) {
    return {redrive.offset,
            static_cast<std::uint32_t>(letter.envelope.size()),
            static_cast<std::uint16_t>(letter.redrives + 1),
            false,
            accepted_at,
            redrive.terms};
}

}  // namespace posthorn::store
