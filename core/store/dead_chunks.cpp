#include "store/dead_chunks.hpp"

#include <algorithm>
#include <iterator>

#include "envelope/wire.hpp"
#include "store/chunk_format.hpp"

namespace posthorn::store {

namespace {

constexpr std::uint64_t dead_version = 1;
constexpr std::size_t run_cost = 32;  // bytes of a run in a record, without its strings; more than most take

using Letters = std::map<Offset, DeadLetter>;

bool are_alike(const DeadLetter& a, const DeadLetter& b) {
    return a.reason == b.reason && a.attempts == b.attempts && a.first_failure == b.first_failure &&
           a.last_failure == b.last_failure && a.text == b.text && a.consumer == b.consumer;
}

// The strings of the letters, each once.
class Strings {
public:
    void add(const std::string& string) {
        if (numbers_.try_emplace(string, all_.size()).second) all_.push_back(string);
    }
    [[nodiscard]] std::uint64_t number(const std::string& string) const { return numbers_.at(string); }
    [[nodiscard]] const std::vector<std::string_view>& all() const noexcept { return all_; }

private:
    std::map<std::string_view, std::uint64_t> numbers_;
    std::vector<std::string_view> all_;
};

struct LetterRun {
    const DeadLetter* letter = nullptr;  // the first
    std::uint64_t count = 0;
};

std::vector<LetterRun> runs_of(const Letters& letters) {
    std::vector<LetterRun> runs;
    for (const auto& [offset, letter] : letters) {
        if (!runs.empty() && runs.back().letter->offset + runs.back().count == offset &&
            are_alike(*runs.back().letter, letter)) {
            ++runs.back().count;
        } else {
            runs.push_back({&letter, 1});
        }
    }
    return runs;
}

// From one time to the next, whatever they are.
std::int64_t difference(Wall from, Wall to) noexcept {
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(ticks(to)) - static_cast<std::uint64_t>(ticks(from)));
}

Wall later(Wall from, std::int64_t difference) noexcept {
    return wall(
        static_cast<std::int64_t>(static_cast<std::uint64_t>(ticks(from)) + static_cast<std::uint64_t>(difference)));
}

// Sealed, and with its place in it, so that a row is known to be what it stands for.
std::string encode_letters(ChunkKey key, const Letters& letters) {
    const auto runs = runs_of(letters);
    Strings strings;
    for (const LetterRun& run : runs) {
        strings.add(run.letter->text);
        strings.add(run.letter->consumer);
    }
    std::string bytes;
    wire::Writer out(bytes);
    out.unsigned_integer(dead_version).unsigned_integer(key.first).unsigned_integer(key.second);
    out.array(static_cast<std::uint32_t>(strings.all().size()));
    for (const std::string_view string : strings.all()) out.binary(string);
    out.array(static_cast<std::uint32_t>(runs.size()));
    Offset next = key.second;
    Wall first_failure{};
    Wall last_failure{};
    for (const LetterRun& run : runs) {
        const DeadLetter& letter = *run.letter;
        out.unsigned_integer(letter.offset - next).unsigned_integer(run.count);
        out.unsigned_integer(static_cast<std::uint64_t>(letter.reason)).unsigned_integer(letter.attempts);
        out.integer(difference(first_failure, letter.first_failure));
        out.integer(difference(last_failure, letter.last_failure));
        out.unsigned_integer(strings.number(letter.text)).unsigned_integer(strings.number(letter.consumer));
        next = letter.offset + run.count;
        first_failure = letter.first_failure;
        last_failure = letter.last_failure;
    }
    seal(bytes);
    return bytes;
}

// Places in `chunk`, all of them: there are no more letters than messages, and each is one.
bool add_run(const DeadLetter& letter, std::uint64_t count, const Chunk& chunk, Letters& letters) {
    std::size_t index = chunk.lower_bound(letter.offset);
    if (count == 0 || count > chunk.size() - index) return false;
    for (std::uint64_t i = 0; i < count; ++i, ++index) {
        if (chunk.offset(index) != letter.offset + i) return false;
        DeadLetter one = letter;
        one.offset = letter.offset + i;
        letters.emplace_hint(letters.end(), one.offset, std::move(one));
    }
    return true;
}

bool decode_letters(std::string_view record, ChunkKey key, const Chunk& chunk, Letters& letters) {
    const auto content = unseal(record);
    if (!content) return false;
    wire::Reader in(*content);
    if (in.unsigned_integer() != dead_version || in.unsigned_integer() != key.first ||
        in.unsigned_integer() != key.second)
        return false;
    const std::uint32_t string_count = in.array();
    if (string_count > content->size()) return false;
    std::vector<std::string_view> strings(string_count);
    for (std::string_view& string : strings) string = in.binary();
    DeadLetter letter;
    letter.offset = key.second;
    for (std::uint32_t left = in.array(); left != 0 && in.ok(); --left) {
        const std::uint64_t gap = in.unsigned_integer();
        if (gap > chunk.last() - std::min(chunk.last(), letter.offset)) return false;
        letter.offset += gap;
        const std::uint64_t count = in.unsigned_integer();
        const std::uint64_t reason = in.unsigned_integer();
        letter.attempts = static_cast<std::uint32_t>(in.unsigned_integer());
        letter.first_failure = later(letter.first_failure, in.integer());
        letter.last_failure = later(letter.last_failure, in.integer());
        const std::uint64_t text = in.unsigned_integer();
        const std::uint64_t consumer = in.unsigned_integer();
        if (!in.ok() || reason < static_cast<std::uint64_t>(Reason::rejected) ||
            reason > static_cast<std::uint64_t>(Reason::undecodable) || text >= strings.size() ||
            consumer >= strings.size())
            return false;
        letter.reason = static_cast<Reason>(reason);
        letter.text = strings[text];
        letter.consumer = strings[consumer];
        if (!add_run(letter, count, chunk, letters)) return false;
        letter.offset += count;
    }
    return in.ok() && in.at_end() && !letters.empty();
}

std::uint64_t bytes_of(const Chunk& chunk, const Letters& letters) {
    std::uint64_t bytes = 0;
    for (const auto& [offset, letter] : letters) bytes += chunk.message(chunk.lower_bound(offset)).size;
    return bytes;
}

}  // namespace

DeadChunks::DeadChunks(Database& db)
    : db_(db),
      insert_(db,
              "INSERT INTO dead_chunk(topic, first, last, letters, bytes, body, header, record) "
              "VALUES(?,?,0,0,0,?,?,x'')"),
      update_(db, "UPDATE dead_chunk SET last=?, letters=?, bytes=?, record=? WHERE topic=? AND first=?"),
      move_(db, "UPDATE dead_chunk SET body=?, header=? WHERE topic=? AND first=?"),
      delete_(db, "DELETE FROM dead_chunk WHERE topic=? AND first=?"),
      select_at_(db,
                 "SELECT first, last, letters, bytes FROM dead_chunk WHERE topic=? AND first<=? "
                 "ORDER BY first DESC LIMIT 1"),
      select_behind_(db,
                     "SELECT first, last, letters, bytes FROM dead_chunk WHERE topic=? AND first>? "
                     "ORDER BY first LIMIT 1"),
      select_(db,
              "SELECT dead_chunk.body, header, layout, record, letters, bytes FROM dead_chunk "
              "LEFT JOIN shared_body ON shared_body.body = -dead_chunk.body WHERE topic=? AND first=?"),
      select_body_(db, "SELECT bytes FROM body WHERE id=?"),
      select_over_(db, "SELECT topic, first FROM dead_chunk WHERE body=?"),
      select_use_(db,
                  "SELECT count(*), (SELECT chunks FROM shared_body WHERE body=-?1), max(bytes), "
                  "(SELECT length(bytes) FROM body WHERE id=-?1) FROM dead_chunk WHERE body=?1"),
      select_thin_(db,
                   "SELECT dead_chunk.body FROM dead_chunk JOIN body ON body.id = -dead_chunk.body "
                   "GROUP BY dead_chunk.body HAVING max(dead_chunk.bytes) * 2 <= length(body.bytes) LIMIT ?"),
      insert_damaged_(db,
                      "INSERT INTO damaged(topic, first, last, messages, what, body, header, state) "
                      "SELECT topic, first, last, letters, 'dead letters damaged', body, header, record "
                      "FROM dead_chunk WHERE topic=? AND first=?") {}

// Dead chunks of a topic must not overlap. Their chunks do not, while they are there.
DeadChunks::State DeadChunks::state_of(const HeldChunk& held) {
    const auto before = place_at(held.topic, held.chunk.last());
    if (!before) return State::none;
    if (before->first == held.chunk.first()) return State::there;
    const Held* dead = load({held.topic, before->first});
    return dead != nullptr && dead->chunk.last() < held.chunk.first() ? State::none : State::no_room;
}

void DeadChunks::begin(const HeldChunk& held, const SharedBody& shared) {
    const std::string header = encode_header(held.chunk, held.topic, shared.body, shared.crc, shared.layout);
    Query row(insert_);
    row.integer(held.topic).integer(held.chunk.first()).signed_integer(shared.body).bytes(header).run();
    Held dead;
    dead.chunk = held.chunk;
    dead.body = shared.body;
    dead.body_crc = shared.crc;
    keep(held.key(), std::move(dead));
}

bool DeadChunks::add(const HeldChunk& held, std::size_t index, const DeadLetter& letter) {
    Held* dead = load(held.key());
    if (dead == nullptr || dead->body != held.body || dead->chunk.offset(index) != letter.offset) return false;
    const auto behind = dead->letters.lower_bound(letter.offset);
    const DeadLetter* before = behind == dead->letters.begin() ? nullptr : &std::prev(behind)->second;
    std::size_t cost = 0;
    if (before == nullptr || before->offset + 1 != letter.offset || !are_alike(*before, letter)) {
        cost = run_cost;
        if (before == nullptr || before->text != letter.text) cost += letter.text.size();
        if (before == nullptr || before->consumer != letter.consumer) cost += letter.consumer.size();
    }
    if (dead->cost + cost > record_limit) return false;
    dead->cost += cost;
    dead->letters.insert_or_assign(behind, letter.offset, letter);
    dead->dirty = true;
    return true;
}

DeadChunks::Place DeadChunks::read_place(const Query& row) {
    return {row.integer_at(0), {row.integer_at(0), row.integer_at(1)}, row.integer_at(2), row.integer_at(3)};
}

std::optional<DeadChunks::Place> DeadChunks::place_at(TopicId topic, Offset offset) {
    Query query(select_at_);
    if (!query.integer(topic).integer(offset).step()) return std::nullopt;
    return read_place(query);
}

std::optional<DeadChunks::Place> DeadChunks::place_behind(TopicId topic, Offset offset) {
    Query query(select_behind_);
    if (!query.integer(topic).integer(offset).step()) return std::nullopt;
    return read_place(query);
}

std::optional<DeadChunks::Found> DeadChunks::first_of(TopicId topic, const Place& place, Offset from) {
    Found found{.chunk = place.first, .range = place.range, .letters = place.letters};
    const Held* dead = load({topic, place.first});
    if (dead == nullptr) {
        if (place.range.last < from) return std::nullopt;
        found.damaged = true;
        found.offset = std::max(from, place.first);
        found.bytes = place.bytes;
        return found;
    }
    const auto letter = dead->letters.lower_bound(from);
    if (letter == dead->letters.end()) return std::nullopt;
    found.offset = letter->first;
    found.bytes = dead->chunk.message(dead->chunk.lower_bound(letter->first)).size;
    return found;
}

std::optional<DeadChunks::Found> DeadChunks::next(TopicId topic, Offset from, const std::set<Offset>& passed) {
    auto place = place_at(topic, from);
    if (!place) place = place_behind(topic, from);
    for (; place; place = place_behind(topic, place->first)) {
        if (passed.contains(place->first)) continue;
        if (auto found = first_of(topic, *place, from)) return found;
    }
    return std::nullopt;
}

std::optional<DeadChunks::Found> DeadChunks::find(TopicId topic, Offset offset) {
    const auto place = place_at(topic, offset);
    if (!place) return std::nullopt;
    auto found = first_of(topic, *place, offset);
    if (found && found->offset != offset) found.reset();
    return found;
}

std::optional<StoredDeadLetter> DeadChunks::read(TopicId topic, const Found& found) {
    const Held* dead = load({topic, found.chunk});
    if (dead == nullptr) return std::nullopt;
    const std::string* body = body_of(*dead);
    if (body == nullptr) return std::nullopt;
    const std::size_t index = dead->chunk.lower_bound(found.offset);
    return StoredDeadLetter{.record = dead->letters.at(found.offset),
                            .envelope = Slice(std::string(dead->chunk.bytes(index, *body))),
                            .redrives = dead->chunk.message(index).redrives};
}

DeadChunks::Found DeadChunks::whole(TopicId topic, const Found& found) {
    Found all = found;
    all.damaged = true;
    if (const Held* dead = load({topic, found.chunk})) {
        all.range = {dead->letters.begin()->first, dead->letters.rbegin()->first};
        all.letters = dead->letters.size();
        all.bytes = bytes_of(dead->chunk, dead->letters);
    }
    return all;
}

bool DeadChunks::erase(TopicId topic, Offset offset) {
    const auto place = place_at(topic, offset);
    if (!place) return false;
    const Key key{topic, place->first};
    Held* dead = load(key);
    if (dead == nullptr || dead->letters.erase(offset) == 0) return false;
    if (!dead->letters.empty()) {
        dead->dirty = true;
        thinned_.push_back(dead->body);
        return true;
    }
    released_.push_back(dead->body);
    forget_body(dead->body);
    held_.erase(key);
    Query(delete_).integer(topic).integer(place->first).run();
    return true;
}

void DeadChunks::erase_all(TopicId topic) {
    while (const auto place = place_behind(topic, 0)) {
        {
            Query query(select_);
            if (query.integer(topic).integer(place->first).step()) {
                released_.push_back(query.signed_at(0));
                forget_body(query.signed_at(0));
            }
        }
        Query(delete_).integer(topic).integer(place->first).run();
        held_.erase({topic, place->first});
    }
}

// The body stays, as one that a chunk over it was set aside of.
void DeadChunks::set_aside(TopicId topic, const Found& damaged) {
    const auto held = held_.find({topic, damaged.chunk});
    if (held != held_.end() && held->second.dirty) write(held->first, held->second);
    Query(insert_damaged_).integer(topic).integer(damaged.chunk).run();
    Query(delete_).integer(topic).integer(damaged.chunk).run();
    held_.erase({topic, damaged.chunk});
}

std::vector<DeadChunks::Key> DeadChunks::over(BodyRef body) {
    std::vector<Key> keys;
    Query query(select_over_);
    query.signed_integer(body);
    while (query.step()) keys.emplace_back(query.integer_at(0), query.integer_at(1));
    return keys;
}

bool DeadChunks::may_be_thin(BodyRef body) {
    Query query(select_use_);
    if (!query.signed_integer(body).step()) return false;
    const std::uint64_t chunks = query.integer_at(0);
    return chunks != 0 && chunks == query.integer_at(1) && query.integer_at(2) * 2 <= query.integer_at(3);
}

std::optional<DeadChunks::Needed> DeadChunks::needed(BodyRef body) {
    const auto keys = over(body);
    std::map<Offset, Chunk::Message> messages;
    std::uint64_t bytes = 0;
    for (const Key& key : keys) {
        const Held* dead = load(key);
        if (dead == nullptr) return std::nullopt;  // it will be found when it is read
        for (const auto& [offset, letter] : dead->letters) {
            const Chunk::Message message = dead->chunk.message(dead->chunk.lower_bound(offset));
            if (messages.emplace(offset, message).second) bytes += message.size;
        }
        if (bytes * 2 > dead->chunk.body_size()) return std::nullopt;
    }
    const Held* any = load(keys.front());
    const std::string* old = any == nullptr ? nullptr : body_of(*any);
    if (old == nullptr) return std::nullopt;
    Needed needed{.packed = {}, .chunks = keys.size()};
    for (auto& [offset, message] : messages) {
        needed.packed.body += any->chunk.bytes(any->chunk.lower_bound(offset), *old);
        message.terms = {};
        needed.packed.chunk.add(message);
    }
    return needed;
}

void DeadChunks::move(BodyRef from, const SharedBody& to, const Chunk& layout) {
    for (const Key& key : over(from)) {
        Held* dead = load(key);
        if (dead == nullptr) throw SqlError(SQLITE_CORRUPT, "dead letters are listed and cannot be found");
        Chunk chunk;
        for (std::size_t i = 0; i < layout.size(); ++i) {
            Chunk::Message message = layout.message(i);
            message.redrives = dead->chunk.message(dead->chunk.lower_bound(message.offset)).redrives;
            chunk.add(message);
        }
        const std::string header = encode_header(chunk, key.first, to.body, to.crc, to.layout);
        Query(move_).signed_integer(to.body).bytes(header).integer(key.first).integer(key.second).run();
        dead->chunk = std::move(chunk);
        dead->body = to.body;
        dead->body_crc = to.crc;
    }
    forget_body(from);
}

std::vector<BodyRef> DeadChunks::look_for_thin(std::size_t most) {
    std::vector<BodyRef> bodies;
    Query query(select_thin_);
    query.integer(most);
    while (query.step()) bodies.push_back(query.signed_at(0));
    return bodies;
}

// Nothing: there is none, or it is damaged.
DeadChunks::Held* DeadChunks::load(Key key) {
    if (const auto found = held_.find(key); found != held_.end()) {
        found->second.used = ++uses_;
        return &found->second;
    }
    Held held;
    {
        Query query(select_);
        if (!query.integer(key.first).integer(key.second).step()) return nullptr;
        const std::string_view header = query.bytes_at(1);
        const auto summary = read_summary(header);
        held.body = query.signed_at(0);
        if (!summary || summary->topic != key.first || summary->body != held.body) return nullptr;
        auto chunk = decode_header(header, query.bytes_at(2));
        if (!chunk || !decode_letters(query.bytes_at(3), key, *chunk, held.letters)) return nullptr;
        held.chunk = std::move(*chunk);
        held.body_crc = summary->body_crc;
        held.cost = query.bytes_at(3).size();
        if (held.letters.size() != query.integer_at(4) || bytes_of(held.chunk, held.letters) != query.integer_at(5))
            return nullptr;
    }
    return &keep(key, std::move(held));
}

DeadChunks::Held& DeadChunks::keep(Key key, Held held) {
    trim();
    held.used = ++uses_;
    return held_.insert_or_assign(key, std::move(held)).first->second;
}

void DeadChunks::trim() {
    while (held_.size() >= held_chunks) {
        const auto oldest = std::min_element(
            held_.begin(), held_.end(), [](const auto& a, const auto& b) { return a.second.used < b.second.used; });
        if (oldest->second.dirty) write(oldest->first, oldest->second);
        held_.erase(oldest);
    }
}

void DeadChunks::write(Key key, Held& held) {
    const std::string record = encode_letters(key, held.letters);
    Query row(update_);
    row.integer(held.letters.rbegin()->first).integer(held.letters.size()).integer(bytes_of(held.chunk, held.letters));
    row.bytes(record).integer(key.first).integer(key.second).run();
    held.cost = record.size();
    held.dirty = false;
}

void DeadChunks::flush() {
    for (auto& [key, held] : held_) {
        if (held.dirty) write(key, held);
    }
}

void DeadChunks::clear() noexcept {
    held_.clear();
    released_.clear();
    thinned_.clear();
    forget_body(last_body_);
}

// Its row may be used again.
void DeadChunks::forget_body(BodyRef body) noexcept {
    if (last_body_ != body) return;
    last_body_ = no_body_row;
    last_body_bytes_ = {};
}

const std::string* DeadChunks::body_of(const Held& held) {
    if (last_body_ == held.body) return &last_body_bytes_;
    try {
        Query query(select_body_);
        if (!query.signed_integer(body_row(held.body)).step()) return nullptr;
        const std::string_view bytes = query.bytes_at(0);
        if (bytes.size() != held.chunk.body_size() || crc32c(bytes) != held.body_crc) return nullptr;
        last_body_bytes_ = bytes;
        last_body_ = held.body;
        return &last_body_bytes_;
    } catch (const SqlError& error) {
        if (error.primary() == SQLITE_CORRUPT) return nullptr;  // pages of this body alone, as far as is known
        throw;
    }
}

}  // namespace posthorn::store
