#include "store/chunk.hpp"

#include <algorithm>
#include <bit>

namespace posthorn::store {

namespace {

constexpr std::size_t word_bits = 64;

// Bits begin..end-1 of a word, 0 <= begin < end <= 64.
constexpr std::uint64_t bit_range(std::size_t begin, std::size_t end) {
    const std::uint64_t below_end = end == word_bits ? ~std::uint64_t{0} : (std::uint64_t{1} << end) - 1;
    return below_end & (~std::uint64_t{0} << begin);
}

bool same_values(const Mark& a, const Mark& b) {
    Mark moved = b;
    moved.offset = a.offset;
    return a == moved;
}

// Ascending; joins neighbours that say the same.
void push_run(std::vector<Chunk::MarkRun>& runs, std::uint32_t begin, std::uint32_t end, const Mark& mark) {
    if (begin >= end) return;
    if (!runs.empty() && runs.back().end == begin && same_values(runs.back().mark, mark)) {
        runs.back().end = end;
    } else {
        runs.push_back({begin, end, mark});
    }
}

}  // namespace

bool Chunk::add(const Message& message) {
    if (entries_.empty()) {
        first_ = message.offset;
    } else if (size() >= max_messages || std::size_t{body_size_} + message.size > max_bytes ||
               message.offset - first_ > std::numeric_limits<std::uint32_t>::max()) {
        return false;
    }
    const auto index = static_cast<std::uint32_t>(size());
    entries_.push_back(
        {static_cast<std::uint32_t>(message.offset - first_), body_size_, message.redrives, message.maybe_duplicate});
    body_size_ += message.size;
    if (stamps_.empty() || stamps_.back().accepted_at != message.accepted_at) {
        stamps_.push_back({index, message.accepted_at});
    }
    if ((terms_.empty() ? Terms{} : terms_.back().terms) != message.terms) terms_.push_back({index, message.terms});
    if (!settled_.empty()) settled_.resize((size() + word_bits - 1) / word_bits);
    return true;
}

std::size_t Chunk::memory() const noexcept {
    return sizeof(Chunk) + entries_.capacity() * sizeof(Entry) + stamps_.capacity() * sizeof(Stamp) +
           terms_.capacity() * sizeof(TermsRun) + settled_.capacity() * sizeof(std::uint64_t) +
           marks_.capacity() * sizeof(MarkRun);
}

Chunk::Message Chunk::message(std::size_t index) const noexcept {
    const Entry& entry = entries_[index];
    const auto stamp = std::upper_bound(stamps_.begin(), stamps_.end(), index,
                                        [](std::size_t at, const Stamp& s) { return at < s.index; });
    const auto terms = std::upper_bound(terms_.begin(), terms_.end(), index,
                                        [](std::size_t at, const TermsRun& run) { return at < run.index; });
    return {first_ + entry.delta,
            position(index + 1) - entry.position,
            entry.redrives,
            entry.maybe_duplicate,
            std::prev(stamp)->accepted_at,
            terms == terms_.begin() ? Terms{} : std::prev(terms)->terms};
}

std::string_view Chunk::bytes(std::size_t index, std::string_view body) const noexcept {
    return body.substr(position(index), position(index + 1) - position(index));
}

bool Chunk::is_live(std::size_t index) const noexcept {
    return settled_.empty() || ((settled_[index / word_bits] >> (index % word_bits)) & 1) == 0;
}

std::size_t Chunk::next_live(std::size_t index) const noexcept {
    if (settled_.empty()) return std::min(index, size());
    while (index < size()) {
        const auto settled_here =
            static_cast<std::size_t>(std::countr_one(settled_[index / word_bits] >> (index % word_bits)));
        if (settled_here == 0) return index;
        // The shift fills with zeros from above, so a run never seems to reach past its word; the next round goes on.
        index += settled_here;
    }
    return size();
}

std::size_t Chunk::lower_bound(Offset offset) const noexcept {
    if (offset <= first_) return 0;
    const Offset delta = offset - first_;
    if (delta > entries_.back().delta) return size();
    if (entries_.back().delta + std::size_t{1} == size()) return static_cast<std::size_t>(delta);  // no holes
    const auto found = std::lower_bound(entries_.begin(), entries_.end(), delta,
                                        [](const Entry& entry, Offset wanted) { return entry.delta < wanted; });
    return static_cast<std::size_t>(found - entries_.begin());
}

std::optional<Mark> Chunk::mark(std::size_t index) const {
    if (marks_.empty()) return std::nullopt;
    const auto behind = std::upper_bound(marks_.begin(), marks_.end(), index,
                                         [](std::size_t at, const MarkRun& run) { return at < run.begin; });
    if (behind == marks_.begin() || std::prev(behind)->end <= index) return std::nullopt;
    Mark mark = std::prev(behind)->mark;
    mark.offset = offset(index);
    return mark;
}

void Chunk::settle(OffsetRange range) {
    if (range.last < range.first) return;
    const std::size_t end = range.last >= last() ? size() : lower_bound(range.last + 1);
    settle_indexes(lower_bound(range.first), end);
}

void Chunk::settle_indexes(std::size_t begin, std::size_t end) {
    if (begin >= end) return;
    if (settled_.empty()) settled_.resize((size() + word_bits - 1) / word_bits);
    while (begin < end) {
        const std::size_t base = begin - begin % word_bits;
        const std::size_t stop = std::min(end, base + word_bits);
        std::uint64_t& word = settled_[base / word_bits];
        const std::uint64_t wanted = bit_range(begin - base, stop - base);
        std::uint64_t fresh = wanted & ~word;
        word |= wanted;
        settled_count_ += static_cast<std::uint64_t>(std::popcount(fresh));
        if (fresh == wanted) {
            settled_bytes_ += position(stop) - position(begin);
        } else {
            for (; fresh != 0; fresh &= fresh - 1) {
                const std::size_t index = base + static_cast<std::size_t>(std::countr_zero(fresh));
                settled_bytes_ += position(index + 1) - position(index);
            }
        }
        begin = stop;
    }
}

std::vector<Chunk::MarkRun> Chunk::runs_of(std::span<const Mark> marks) const {
    std::vector<MarkRun> runs;
    for (std::size_t i = 0; i < marks.size(); ++i) {
        if (i + 1 < marks.size() && marks[i + 1].offset == marks[i].offset) continue;  // the last one counts
        const std::size_t index = lower_bound(marks[i].offset);
        if (index == size() || offset(index) != marks[i].offset || !is_live(index)) continue;
        const auto at = static_cast<std::uint32_t>(index);
        push_run(runs, at, at + 1, marks[i]);
    }
    return runs;
}

void Chunk::set_marks(std::vector<MarkRun> runs) {
    if (marks_.empty()) {
        marks_ = std::move(runs);
        return;
    }
    std::vector<MarkRun> merged;
    merged.reserve(marks_.size() + runs.size());
    auto fresh = runs.begin();
    for (const MarkRun& old : marks_) {
        std::uint32_t at = merged.empty() ? old.begin : std::max(old.begin, merged.back().end);
        while (at < old.end) {
            if (fresh == runs.end() || fresh->begin >= old.end) {
                push_run(merged, at, old.end, old.mark);
                break;
            }
            push_run(merged, at, fresh->begin, old.mark);
            at = std::max(at, fresh->end);
            push_run(merged, fresh->begin, fresh->end, fresh->mark);
            ++fresh;
        }
    }
    for (; fresh != runs.end(); ++fresh) push_run(merged, fresh->begin, fresh->end, fresh->mark);
    marks_ = std::move(merged);
}

void Chunk::drop_settled_marks() {
    if (settled_.empty()) return;
    for (MarkRun& run : marks_) {
        run.begin = static_cast<std::uint32_t>(std::min<std::size_t>(next_live(run.begin), run.end));
        while (run.end > run.begin && !is_live(run.end - 1)) --run.end;
    }
    std::erase_if(marks_, [](const MarkRun& run) { return run.begin == run.end; });
}

std::size_t pack(const TopicBatch& batch, std::size_t from, PackedChunk& out, Offset below) {
    Offset limit = below;
    for (const Redrive& redrive : batch.redrives) {
        if (redrive.offset > batch.appends[from].offset) limit = std::min(limit, redrive.offset);
    }
    std::size_t next = from;
    for (; next < batch.appends.size() && batch.appends[next].offset < limit; ++next) {
        const Append& append = batch.appends[next];
        if (!out.chunk.add({append.offset, static_cast<std::uint32_t>(append.envelope.size()), append.redrives,
                            append.maybe_duplicate, batch.accepted_at, append.terms})) {
            break;
        }
    }
    out.body.reserve(out.chunk.body_size());
    for (std::size_t i = from; i < next; ++i) out.body += batch.appends[i].envelope.view();
    return next;
}

PackedChunk pack_one(const Chunk::Message& message, std::string_view envelope) {
    PackedChunk packed;
    packed.chunk.add(message);
    packed.body = envelope;
    return packed;
}

bool copy_live(const Chunk& from, std::string_view body, PackedChunk& to) {
    std::vector<Mark> marks;
    for (std::size_t i = from.next_live(0); i < from.size(); i = from.next_live(i + 1)) {
        if (!to.chunk.add(from.message(i))) return false;
        to.body += from.bytes(i, body);
        if (auto mark = from.mark(i)) marks.push_back(*mark);
    }
    if (!marks.empty()) to.chunk.set_marks(to.chunk.runs_of(marks));
    return true;
}

}  // namespace posthorn::store
