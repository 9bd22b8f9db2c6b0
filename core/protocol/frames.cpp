#include <utility>

#include "protocol/codec.hpp"

namespace posthorn::protocol {

namespace {

constexpr std::uint32_t head_elements = 3;                      // epoch, number, more
constexpr std::uint32_t fragment_elements = head_elements + 1;  // and one bin
constexpr std::size_t head_room = 5 + 9 + 9 + 1;                // bytes of the longest array head, epoch, number, more
constexpr std::size_t fragment_room = head_room + 5;            // and of the longest bin head

std::string begin_frame(std::uint32_t elements, std::uint64_t epoch, std::uint64_t number, bool more,
                        std::size_t room) {
    std::string frame;
    frame.reserve(fragment_room + room);
    wire::Writer(frame).array(elements).unsigned_integer(epoch).unsigned_integer(number).boolean(more);
    return frame;
}

}  // namespace

std::optional<Frame> decode_frame(const Slice& bytes) {
    wire::Reader reader(bytes.view());
    std::optional<Frame> frame{std::in_place};
    const std::uint32_t elements = reader.array();
    frame->epoch = reader.unsigned_integer();
    frame->number = reader.unsigned_integer();
    frame->more = reader.boolean();
    if (!reader.ok() || elements < head_elements) return std::nullopt;
    if (elements == fragment_elements) {
        frame->fragment = bytes.part(reader.binary());
    } else {
        if (frame->more || (elements - head_elements) % 2 != 0) return std::nullopt;
        std::size_t entries_left = entries_limit;
        for (std::uint32_t left = (elements - head_elements) / 2; left > 0 && reader.ok(); --left)
            codec::decode(reader, bytes, entries_left, *frame);
    }
    if (!reader.ok() || !reader.at_end()) return std::nullopt;
    return frame;
}

bool decode_commands(const Slice& pairs, Frame& into) {
    wire::Reader reader(pairs.view());
    std::size_t entries_left = entries_limit;
    while (reader.ok() && !reader.at_end()) codec::decode(reader, pairs, entries_left, into);
    return reader.ok();
}

void FrameWriter::start_session(std::uint64_t epoch) {
    epoch_ = epoch;
    number_ = 0;
    pairs_.clear();
    count_ = 0;
    heartbeat_ = false;
    ready_.clear();
}

void FrameWriter::add(const Command& command) {
    const std::size_t before = pairs_.size();
    codec::encode(command, pairs_);
    ++count_;
    if (head_room + pairs_.size() <= limit_ && count_ <= commands_limit) return;

    const std::string_view all = pairs_;
    if (before > 0) seal(all.substr(0, before), count_ - 1);
    if (head_room + all.size() - before <= limit_) {
        pairs_.erase(0, before);
        count_ = 1;
    } else {
        cut(all.substr(before));
        pairs_ = {};  // not clear(): a large message's memory is not kept for the small ones after it
        count_ = 0;
    }
}

void FrameWriter::heartbeat() {
    heartbeat_ = true;
}

std::vector<std::string> FrameWriter::flush() {
    if (count_ > 0 || (heartbeat_ && ready_.empty())) seal(pairs_, count_);
    pairs_.clear();
    count_ = 0;
    heartbeat_ = false;
    return std::exchange(ready_, {});
}

void FrameWriter::seal(std::string_view pairs, std::uint32_t count) {
    const std::uint64_t number = epoch_ == 0 ? 0 : ++number_;
    std::string frame = begin_frame(head_elements + 2 * count, epoch_, number, false, pairs.size());
    frame.append(pairs);
    ready_.push_back(std::move(frame));
}

void FrameWriter::cut(std::string_view pairs) {
    if (epoch_ == 0) number_ = 0;  // outside a session the fragments of each large command count from 1
    const std::size_t most = limit_ - fragment_room;
    while (!pairs.empty()) {
        const std::string_view part = pairs.substr(0, most);
        pairs.remove_prefix(part.size());
        std::string frame = begin_frame(fragment_elements, epoch_, ++number_, !pairs.empty(), part.size());
        wire::Writer(frame).binary(part);
        ready_.push_back(std::move(frame));
    }
}

void FrameReader::start_session(std::uint64_t epoch, std::uint64_t next_number) {
    epoch_ = epoch;
    next_ = next_number;
    joined_ = {};
}

FrameReader::Verdict FrameReader::accept(Frame& frame) {
    if (frame.epoch != epoch_) return Verdict::other_epoch;
    if (epoch_ == 0 && frame.number <= 1) start_session(0, frame.number);  // each large command counts from 1 again
    if (frame.number < next_) return Verdict::nothing;
    if (frame.number > next_) return Verdict::gap;
    ++next_;
    if (!frame.fragment) {
        if (frame.commands.empty() && frame.unknown.empty()) return Verdict::nothing;
        return joined_.empty() ? Verdict::commands : Verdict::malformed;
    }

    const std::string_view part = frame.fragment->view();
    if (part.size() > limit_ - joined_.size()) return Verdict::malformed;
    joined_.append(part);
    if (frame.more) return Verdict::nothing;
    frame.fragment.reset();
    return decode_commands(Slice(std::exchange(joined_, {})), frame) ? Verdict::commands : Verdict::malformed;
}

}  // namespace posthorn::protocol
