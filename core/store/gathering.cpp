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
    result.next = read.from;
}

bool Gathering::full() const noexcept {
    return result_.messages.size() >= read_.max_messages || (!result_.messages.empty() && bytes_ >= read_.max_bytes);
}

bool Gathering::take(const Chunk& chunk, const Slice& body) {
    for (std::size_t i = chunk.next_live(chunk.lower_bound(read_.from)); i < chunk.size(); i = chunk.next_live(i + 1)) {
        const Chunk::Message message = chunk.message(i);
        if (message.offset > read_.to) return true;
        const bool fits = result_.messages.empty() || bytes_ + message.size <= read_.max_bytes;
        if (full() || !fits) {
            result_.next = message.offset;
            return false;
        }
        bytes_ += message.size;
        StoredMessage& stored = result_.messages.emplace_back();
        stored.offset = message.offset;
        if (read_.bodies) stored.envelope = slice_of(chunk, i, body);
        stored.size = message.size;
        stored.redrives = message.redrives;
        stored.maybe_duplicate = message.maybe_duplicate;
        stored.accepted_at = message.accepted_at;
        stored.expires_at = message.expires_at;
        stored.mark = chunk.mark(i);
        result_.next = message.offset + 1;
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
            Wall{}};
}

}  // namespace posthorn::store
