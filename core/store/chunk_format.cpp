#include "store/chunk_format.hpp"

#include <isa-l/crc.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <unordered_map>

#include <posthorn/message.hpp>

#include "envelope/wire.hpp"

namespace posthorn::store {

namespace {

constexpr std::size_t crc_size = 4;

// The index is a list of runs; a run is one integer, or up to three: size << 2 | repeated << 1 | special,
// then the number of further messages if repeated, then gap and flags if special.
constexpr std::uint64_t repeated_bit = 2;
constexpr std::uint64_t special_bit = 1;

// A state lists settled ranges while these are few, else it holds the bitmap.
constexpr std::size_t messages_per_range = 32;

enum SettledForm : std::uint64_t { as_ranges = 0, as_bitmap = 1 };

struct IndexRun {
    std::uint64_t size = 0;
    std::uint64_t gap = 0;    // offsets left out in front of each message
    std::uint64_t flags = 0;  // redrives << 1 | maybe_duplicate
    friend bool operator==(const IndexRun&, const IndexRun&) = default;
};

void write_run(wire::Writer& out, const IndexRun& run, std::uint64_t length) {
    const bool repeated = length > 1;
    const bool special = run.gap != 0 || run.flags != 0;
    out.unsigned_integer(run.size << 2 | (repeated ? repeated_bit : 0) | (special ? special_bit : 0));
    if (repeated) out.unsigned_integer(length - 1);
    if (special) out.unsigned_integer(run.gap).unsigned_integer(run.flags);
}

void write_index(wire::Writer& out, const Chunk& chunk) {
    IndexRun run;
    std::uint64_t length = 0;
    Offset expected = chunk.first();
    for (std::size_t i = 0; i < chunk.size(); ++i) {
        const Chunk::Message message = chunk.message(i);
        const IndexRun next{message.size, message.offset - expected,
                            std::uint64_t{message.redrives} << 1 | (message.maybe_duplicate ? 1U : 0U)};
        expected = message.offset + 1;
        if (length != 0 && next == run) {
            ++length;
            continue;
        }
        if (length != 0) write_run(out, run, length);
        run = next;
        length = 1;
    }
    write_run(out, run, length);
}

// When messages were accepted: from message `first` on, `second`.
using Stamps = std::vector<std::pair<std::size_t, Wall>>;

void write_stamps(wire::Writer& out, const Chunk& chunk) {
    Stamps stamps;
    for (std::size_t i = 0; i < chunk.size(); ++i) {
        const Wall at = chunk.message(i).accepted_at;
        if (stamps.empty() || stamps.back().second != at) stamps.emplace_back(i, at);
    }
    out.array(static_cast<std::uint32_t>(stamps.size()));
    for (const auto& [index, at] : stamps) out.unsigned_integer(index).integer(ticks(at));
}

// Where a list of runs goes on: it begins with message 0, and indexes ascend.
bool goes_on(std::uint64_t index, std::size_t runs, std::size_t last) {
    return runs == 0 ? index == 0 : index > last;
}

std::optional<Stamps> read_stamps(wire::Reader& in) {
    const std::uint32_t count = in.array();
    if (!in.ok() || count == 0 || count > Chunk::max_messages) return std::nullopt;
    Stamps stamps;
    for (std::uint32_t i = 0; i < count; ++i) {
        const std::uint64_t index = in.unsigned_integer();
        const Wall at = wall(in.integer());
        if (!in.ok() || !goes_on(index, stamps.size(), stamps.empty() ? 0 : stamps.back().first)) return std::nullopt;
        stamps.emplace_back(index, at);
    }
    return stamps;
}

// The terms of messages: from message `first` on, `second`.
using TermsRuns = std::vector<std::pair<std::size_t, Terms>>;

TermsRuns terms_of(const Chunk& chunk) {
    TermsRuns runs;
    for (std::size_t i = 0; i < chunk.size(); ++i) {
        const Terms terms = chunk.message(i).terms;
        if (runs.empty() || runs.back().second != terms) runs.emplace_back(i, terms);
    }
    return runs;
}

// What is in front of the header: the highest priority and whether there are keys, the least of the times.
struct Extremes {
    std::uint64_t priority_and_keys = 0;
    Wall due{};
    Wall expires_at{};
    [[nodiscard]] bool special() const { return priority_and_keys != 0 || due != Wall{} || expires_at != Wall{}; }
};

constexpr std::uint64_t keys_bit = 16;

void take_least(Wall& least, Wall at) {
    if (at != Wall{} && (least == Wall{} || at < least)) least = at;
}

Extremes extremes_of(const TermsRuns& runs) {
    Extremes extremes;
    std::uint64_t priority = 0;
    bool keys = false;
    for (const auto& [index, terms] : runs) {
        priority = std::max<std::uint64_t>(priority, terms.priority);
        keys = keys || terms.key != 0;
        take_least(extremes.due, terms.due);
        take_least(extremes.expires_at, terms.expires_at);
    }
    extremes.priority_and_keys = priority + (keys ? keys_bit : 0);
    return extremes;
}

void write_terms(wire::Writer& out, const TermsRuns& runs) {
    out.array(static_cast<std::uint32_t>(runs.size()));
    for (const auto& [index, terms] : runs) {
        out.unsigned_integer(index).unsigned_integer(terms.priority);
        out.integer(ticks(terms.due)).integer(ticks(terms.expires_at)).unsigned_integer(terms.key);
    }
}

std::optional<TermsRuns> read_terms(wire::Reader& in) {
    const std::uint32_t count = in.array();
    if (!in.ok() || count == 0 || count > Chunk::max_messages) return std::nullopt;
    TermsRuns runs;
    for (std::uint32_t i = 0; i < count; ++i) {
        const std::uint64_t index = in.unsigned_integer();
        const std::uint64_t priority = in.unsigned_integer();
        Terms terms{.due = wall(in.integer()), .expires_at = wall(in.integer()), .key = in.unsigned_integer()};
        if (!in.ok() || priority > priority_limit) return std::nullopt;
        if (!goes_on(index, runs.size(), runs.empty() ? 0 : runs.back().first)) return std::nullopt;
        terms.priority = static_cast<std::uint8_t>(priority);
        runs.emplace_back(index, terms);
    }
    return runs;
}

// What lies where: stamps, terms if there are any, index.
void write_layout(wire::Writer& out, const Chunk& chunk, const TermsRuns& terms) {
    write_stamps(out, chunk);
    if (extremes_of(terms).special()) write_terms(out, terms);
    write_index(out, chunk);
}

bool read_layout(wire::Reader& in, const HeaderSummary& summary, Chunk& chunk) {
    const auto stamps = read_stamps(in);
    const auto runs = summary.special ? read_terms(in) : TermsRuns{{0, Terms{}}};
    if (!stamps || !runs) return false;
    auto stamp = stamps->begin();
    auto terms = runs->begin();
    Offset offset = summary.first;
    while (in.ok() && chunk.size() < summary.messages) {
        const std::uint64_t token = in.unsigned_integer();
        std::uint64_t length = 1;
        if ((token & repeated_bit) != 0) length += in.unsigned_integer();
        IndexRun run{token >> 2, 0, 0};
        if ((token & special_bit) != 0) {
            run.gap = in.unsigned_integer();
            run.flags = in.unsigned_integer();
        }
        if (!in.ok() || length == 0 || length > summary.messages - chunk.size() || run.size > summary.body_size ||
            run.gap > std::numeric_limits<std::uint32_t>::max() ||
            run.flags >> 1 > std::numeric_limits<std::uint16_t>::max()) {
            return false;
        }
        for (; length != 0; --length) {
            if (std::next(stamp) != stamps->end() && std::next(stamp)->first == chunk.size()) ++stamp;
            if (std::next(terms) != runs->end() && std::next(terms)->first == chunk.size()) ++terms;
            offset += run.gap;
            if (!chunk.add({offset, static_cast<std::uint32_t>(run.size), static_cast<std::uint16_t>(run.flags >> 1),
                            (run.flags & 1) != 0, stamp->second, terms->second})) {
                return false;
            }
            ++offset;
        }
    }
    return in.ok() && in.at_end() && chunk.first() == summary.first && chunk.last() == summary.last &&
           chunk.body_size() == summary.body_size;
}

std::optional<HeaderSummary> read_front(wire::Reader& in) noexcept {
    HeaderSummary summary;
    const std::uint64_t version = in.unsigned_integer();
    if (version != chunk_version && version != layout_elsewhere) return std::nullopt;
    summary.needs_layout = version == layout_elsewhere;
    const Extremes extremes{
        .priority_and_keys = in.unsigned_integer(), .due = wall(in.integer()), .expires_at = wall(in.integer())};
    summary.special = extremes.special();
    summary.topic = in.unsigned_integer();
    summary.body = in.integer();
    summary.first = in.unsigned_integer();
    summary.last = in.unsigned_integer();
    summary.messages = in.unsigned_integer();
    const std::uint64_t body_size = in.unsigned_integer();
    const std::uint64_t body_crc = in.unsigned_integer();
    summary.accepted_at = wall(in.integer());
    if (!in.ok() || summary.messages == 0 || summary.messages > Chunk::max_messages || summary.last < summary.first ||
        body_size > std::numeric_limits<std::uint32_t>::max() || body_crc > std::numeric_limits<std::uint32_t>::max()) {
        return std::nullopt;
    }
    summary.body_size = static_cast<std::uint32_t>(body_size);
    summary.body_crc = static_cast<std::uint32_t>(body_crc);
    return summary;
}

// Behind its front; nothing: it is damaged or another body's.
std::optional<wire::Reader> layout_for(const HeaderSummary& header, std::string_view layout) noexcept {
    const auto content = unseal(layout);
    if (!content) return std::nullopt;
    wire::Reader in(*content);
    if (in.unsigned_integer() != chunk_version || in.unsigned_integer() != header.body_crc) return std::nullopt;
    return in;
}

std::optional<StateSummary> read_state_front(wire::Reader& in) noexcept {
    StateSummary summary;
    if (in.unsigned_integer() != chunk_version) return std::nullopt;
    summary.messages = in.unsigned_integer();
    summary.settled = in.unsigned_integer();
    summary.settled_bytes = in.unsigned_integer();
    summary.first_live = in.unsigned_integer();
    summary.last_marked = in.unsigned_integer();
    if (!in.ok()) return std::nullopt;
    return summary;
}

// Ranges of settled indexes, begin..end-1.
std::vector<std::pair<std::size_t, std::size_t>> settled_ranges(const Chunk& chunk) {
    std::vector<std::pair<std::size_t, std::size_t>> ranges;
    std::size_t at = 0;
    while (at < chunk.size()) {
        const std::size_t live = chunk.next_live(at);
        if (live != at) ranges.emplace_back(at, live);
        at = live;
        while (at < chunk.size() && chunk.is_live(at)) ++at;
    }
    return ranges;
}

void write_settled(wire::Writer& out, const Chunk& chunk) {
    const auto ranges = settled_ranges(chunk);
    if (ranges.size() > chunk.size() / messages_per_range) {
        std::string bits;
        for (const std::uint64_t word : chunk.settled_bitmap()) {
            for (unsigned shift = 0; shift < 64; shift += 8) bits += static_cast<char>(word >> shift & 0xFF);
        }
        out.unsigned_integer(as_bitmap).binary(bits);
        return;
    }
    out.unsigned_integer(as_ranges).array(static_cast<std::uint32_t>(ranges.size()));
    for (const auto& [begin, end] : ranges) out.unsigned_integer(begin).unsigned_integer(end);
}

bool read_settled_bitmap(std::string_view bits, Chunk& chunk) {
    if (bits.size() < (chunk.size() + 7) / 8) return false;
    for (std::size_t i = 0; i < chunk.size(); ++i) {
        if ((static_cast<unsigned char>(bits[i / 8]) >> (i % 8) & 1) != 0) chunk.settle_indexes(i, i + 1);
    }
    return true;
}

bool read_settled(wire::Reader& in, Chunk& chunk) {
    const std::uint64_t form = in.unsigned_integer();
    if (form == as_bitmap) return read_settled_bitmap(in.binary(), chunk);
    if (form != as_ranges) return false;
    for (std::uint32_t left = in.array(); left != 0; --left) {
        const std::uint64_t begin = in.unsigned_integer();
        const std::uint64_t end = in.unsigned_integer();
        if (!in.ok() || end > chunk.size()) return false;
        chunk.settle_indexes(begin, end);
    }
    return in.ok();
}

constexpr std::uint64_t suspect_flag = 1;
constexpr std::uint64_t isolate_flag = 2;

void write_marks(wire::Writer& out, const Chunk& chunk) {
    std::vector<Identity> holders;
    std::unordered_map<Identity, std::size_t> place;
    for (const Chunk::MarkRun& run : chunk.marks()) {
        if (place.emplace(run.mark.holder, holders.size()).second) holders.push_back(run.mark.holder);
    }
    out.array(static_cast<std::uint32_t>(holders.size()));
    for (const Identity& holder : holders) out.binary(holder.view());
    out.array(static_cast<std::uint32_t>(chunk.marks().size()));
    for (const Chunk::MarkRun& run : chunk.marks()) {
        const Mark& mark = run.mark;
        out.unsigned_integer(run.begin).unsigned_integer(run.end);
        out.unsigned_integer(mark.token).unsigned_integer(mark.attempts).unsigned_integer(mark.deaths);
        out.unsigned_integer((mark.suspect ? suspect_flag : 0) | (mark.isolate ? isolate_flag : 0));
        out.unsigned_integer(place.at(mark.holder)).integer(ticks(mark.due)).integer(ticks(mark.first_failure));
    }
}

bool read_marks(wire::Reader& in, Chunk& chunk) {
    std::vector<Identity> holders;
    for (std::uint32_t left = in.array(); left != 0; --left) {
        if (!Identity::from_bytes(in.binary(), holders.emplace_back())) return false;
    }
    std::vector<Chunk::MarkRun> runs;
    for (std::uint32_t left = in.array(); left != 0; --left) {
        Chunk::MarkRun run;
        const std::uint64_t begin = in.unsigned_integer();
        const std::uint64_t end = in.unsigned_integer();
        run.mark.token = static_cast<std::uint32_t>(in.unsigned_integer());
        run.mark.attempts = static_cast<std::uint16_t>(in.unsigned_integer());
        run.mark.deaths = static_cast<std::uint16_t>(in.unsigned_integer());
        const std::uint64_t flags = in.unsigned_integer();
        const std::uint64_t holder = in.unsigned_integer();
        run.mark.due = wall(in.integer());
        run.mark.first_failure = wall(in.integer());
        if (!in.ok() || begin >= end || end > chunk.size() || holder >= holders.size() ||
            (!runs.empty() && begin < runs.back().end)) {
            return false;
        }
        run.begin = static_cast<std::uint32_t>(begin);
        run.end = static_cast<std::uint32_t>(end);
        run.mark.suspect = (flags & suspect_flag) != 0;
        run.mark.isolate = (flags & isolate_flag) != 0;
        run.mark.holder = holders[holder];
        runs.push_back(run);
    }
    chunk.set_marks(std::move(runs));
    return in.ok();
}

}  // namespace

std::uint32_t crc32c(std::string_view bytes) noexcept {
    // ISA-L takes an int and an unsigned char* it does not write to.
    constexpr std::size_t most = std::size_t{1} << 30;
    std::uint32_t crc = ~std::uint32_t{0};
    while (!bytes.empty()) {
        const std::string_view part = bytes.substr(0, most);
        auto* data = reinterpret_cast<unsigned char*>(const_cast<char*>(part.data()));  // NOLINT(*-const-cast): ISA-L
        crc = crc32_iscsi(data, static_cast<int>(part.size()), crc);
        bytes.remove_prefix(part.size());
    }
    return ~crc;
}

void seal(std::string& bytes) {
    const std::uint32_t crc = crc32c(bytes);
    for (unsigned shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(crc >> shift & 0xFF);
}

std::optional<std::string_view> unseal(std::string_view bytes) noexcept {
    if (bytes.size() < crc_size) return std::nullopt;
    std::uint32_t stored = 0;
    for (std::size_t i = 0; i < crc_size; ++i) {
        const auto byte = static_cast<unsigned char>(bytes[bytes.size() - crc_size + i]);
        stored |= static_cast<std::uint32_t>(byte) << (8 * i);
    }
    bytes.remove_suffix(crc_size);
    if (crc32c(bytes) != stored) return std::nullopt;
    return bytes;
}

// The CRC of the body ties it to its body, and so to the headers that name the same.
std::string encode_layout(const Chunk& chunk, std::uint32_t body_crc) {
    std::string bytes;
    wire::Writer out(bytes);
    out.unsigned_integer(chunk_version).unsigned_integer(body_crc);
    write_layout(out, chunk, terms_of(chunk));
    seal(bytes);
    return bytes;
}

std::string encode_header(const Chunk& chunk, std::uint64_t topic, std::int64_t body, std::uint32_t body_crc,
                          std::string_view layout) {
    const bool has_layout = layout.empty() || layout != encode_layout(chunk, body_crc);
    std::string bytes;
    wire::Writer out(bytes);
    out.unsigned_integer(has_layout ? chunk_version : layout_elsewhere);
    const TermsRuns terms = terms_of(chunk);
    const Extremes extremes = extremes_of(terms);
    out.unsigned_integer(extremes.priority_and_keys);
    out.integer(ticks(extremes.due)).integer(ticks(extremes.expires_at));
    out.unsigned_integer(topic).integer(body);
    out.unsigned_integer(chunk.first()).unsigned_integer(chunk.last()).unsigned_integer(chunk.size());
    out.unsigned_integer(chunk.body_size()).unsigned_integer(body_crc);
    out.integer(ticks(chunk.message(0).accepted_at));
    if (has_layout) write_layout(out, chunk, terms);
    seal(bytes);
    return bytes;
}

std::optional<HeaderSummary> read_summary(std::string_view header) noexcept {
    const auto content = unseal(header);
    if (!content) return std::nullopt;
    wire::Reader in(*content);
    return read_front(in);
}

bool is_complete(const HeaderSummary& header, std::string_view layout) noexcept {
    return !header.needs_layout || layout_for(header, layout);
}

std::optional<Chunk> decode_header(std::string_view header, std::string_view layout) {
    const auto content = unseal(header);
    if (!content) return std::nullopt;
    wire::Reader in(*content);
    const auto summary = read_front(in);
    if (!summary) return std::nullopt;
    Chunk chunk;
    if (!summary->needs_layout)
        return read_layout(in, *summary, chunk) ? std::optional(std::move(chunk)) : std::nullopt;
    auto elsewhere = layout_for(*summary, layout);
    if (!elsewhere || !in.at_end() || !read_layout(*elsewhere, *summary, chunk)) return std::nullopt;
    return chunk;
}

std::string encode_state(Chunk& chunk) {
    chunk.drop_settled_marks();
    const std::size_t first_live = chunk.next_live(0);
    std::string bytes;
    wire::Writer out(bytes);
    out.unsigned_integer(chunk_version);
    out.unsigned_integer(chunk.size()).unsigned_integer(chunk.size() - chunk.live());
    out.unsigned_integer(chunk.body_size() - chunk.live_bytes());
    out.unsigned_integer(first_live < chunk.size() ? chunk.offset(first_live) : chunk.last() + 1);
    out.unsigned_integer(chunk.marks().empty() ? 0 : chunk.offset(chunk.marks().back().end - 1));
    write_settled(out, chunk);
    write_marks(out, chunk);
    seal(bytes);
    return bytes;
}

std::optional<StateSummary> read_state_summary(std::string_view state) noexcept {
    const auto content = unseal(state);
    if (!content) return std::nullopt;
    wire::Reader in(*content);
    return read_state_front(in);
}

bool decode_state(std::string_view state, Chunk& chunk) {
    const auto content = unseal(state);
    if (!content) return false;
    wire::Reader in(*content);
    const auto summary = read_state_front(in);
    if (!summary || summary->messages != chunk.size()) return false;
    return read_settled(in, chunk) && read_marks(in, chunk) && in.at_end() &&
           chunk.size() - chunk.live() == summary->settled;
}

}  // namespace posthorn::store
