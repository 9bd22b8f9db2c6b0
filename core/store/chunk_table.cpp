#include "store/chunk_table.hpp"

#include <algorithm>
#include <utility>

namespace posthorn::store {

namespace {

ChunkRow read_row(const Query& query, TopicId topic) {
    return {
        topic, query.integer_at(0), query.integer_at(1), query.integer_at(2), query.integer_at(3), query.signed_at(4)};
}

}  // namespace

bool matches(const HeaderSummary& header, const ChunkRow& row) {
    return header.topic == row.topic && header.first == row.first && header.last == row.last &&
           header.messages == row.messages && header.body_size == row.body_size && header.body == row.body;
}

ChunkTable::ChunkTable(Database& db, UpkeepPlan& plan)
    : db_(db),
      plan_(plan),
      insert_chunk_(db,
                    "INSERT INTO chunk(topic, first, last, messages, bytes, body, header, small_body) "
                    "VALUES(?,?,?,?,?,?,?,?)"),
      insert_body_(db, "INSERT INTO body(bytes) VALUES(?)"),
      insert_shared_(db, "INSERT INTO shared_body(body, chunks, layout) VALUES(?,?,?)"),
      join_shared_(db, "UPDATE shared_body SET chunks=chunks+1 WHERE body=?"),
      release_shared_(db, "UPDATE shared_body SET chunks=chunks-1 WHERE body=?"),
      delete_shared_(db, "DELETE FROM shared_body WHERE body=?"),
      select_sharers_(db, "SELECT chunks FROM shared_body WHERE body=?"),
      select_topics_(db,
                     "SELECT chunk.topic FROM topic CROSS JOIN chunk ON chunk.topic = topic.id "
                     "WHERE chunk.first=? AND chunk.body=? ORDER BY topic.id"),
      select_layout_(db, "SELECT layout FROM shared_body WHERE body=?"),
      share_chunk_(db, "UPDATE chunk SET body=?, header=? WHERE topic=? AND first=?"),
      delete_chunk_(db, "DELETE FROM chunk WHERE topic=? AND first=?"),
      delete_body_(db, "DELETE FROM body WHERE id=?"),
      delete_state_(db, "DELETE FROM chunk_state WHERE topic=? AND first=?"),
      put_state_(db, "REPLACE INTO chunk_state(topic, first, state) VALUES(?,?,?)"),
      select_before_(db,
                     "SELECT first, last, messages, bytes, body FROM chunk WHERE topic=? AND first<=? "
                     "ORDER BY first DESC LIMIT 1"),
      select_behind_(db,
                     "SELECT first, last, messages, bytes, body FROM chunk WHERE topic=? AND first>? "
                     "ORDER BY first LIMIT 1"),
      select_rows_(db,
                   "SELECT first, last, messages, bytes, body FROM chunk WHERE topic=? AND first>=? "
                   "ORDER BY first LIMIT ?"),
      select_backwards_(db,
                        "SELECT first, messages, state FROM chunk LEFT JOIN chunk_state USING(topic, first) "
                        "WHERE topic=? ORDER BY first DESC"),
      select_header_(
          db,
          "SELECT header, state, layout FROM chunk LEFT JOIN chunk_state USING(topic, first) "
          "LEFT JOIN shared_body ON chunk.body < 0 AND shared_body.body = -chunk.body WHERE topic=? AND first=?"),
      select_body_(db, "SELECT bytes FROM body WHERE id=?"),
      select_small_body_(db, "SELECT small_body FROM chunk WHERE topic=? AND first=?"),
      insert_damaged_(db,
                      "INSERT INTO damaged(topic, first, last, messages, what, body, header, state, bytes) "
                      "SELECT topic, first, last, ?, ?, body, header, state, small_body "
                      "FROM chunk LEFT JOIN chunk_state USING(topic, first) WHERE topic=? AND first=?") {}

BodyRef ChunkTable::insert_body(std::string_view bytes) {
    Query(insert_body_).bytes(bytes).run();
    return sqlite3_last_insert_rowid(db_.handle());
}

void ChunkTable::insert(TopicId topic, PackedChunk packed, bool planned) {
    HeldChunk held;
    held.topic = topic;
    const bool inline_body = packed.body.size() <= small_body;
    if (!inline_body) held.body = insert_body(packed.body);
    held.body_crc = crc32c(packed.body);
    held.chunk = std::move(packed.chunk);
    const std::string header = encode_header(held.chunk, topic, held.body, held.body_crc, {});
    insert_row(std::move(held), header, inline_body ? &packed.body : nullptr, planned);
}

SharedBody ChunkTable::insert_shared(const PackedChunk& packed, std::size_t chunks) {
    SharedBody shared;
    shared.body = -insert_body(packed.body);
    shared.crc = crc32c(packed.body);
    shared.layout = encode_layout(packed.chunk, shared.crc);
    Query(insert_shared_).signed_integer(body_row(shared.body)).integer(chunks).bytes(shared.layout).run();
    return shared;
}

void ChunkTable::insert(const SharedBody& shared, TopicId topic, Chunk chunk, bool planned) {
    HeldChunk held;
    held.topic = topic;
    held.body = shared.body;
    held.body_crc = shared.crc;
    held.chunk = std::move(chunk);
    const std::string header = encode_header(held.chunk, topic, shared.body, shared.crc, shared.layout);
    insert_row(std::move(held), header, nullptr, planned);
}

std::optional<SharedBody> ChunkTable::share(HeldChunk& held) {
    SharedBody shared{.body = is_shared(held.body) ? held.body : -held.body, .crc = held.body_crc, .layout = {}};
    if (is_shared(held.body)) {
        Query query(select_layout_);
        if (!query.signed_integer(body_row(held.body)).step()) return std::nullopt;
        shared.layout = query.bytes_at(0);
        Query(join_shared_).signed_integer(body_row(held.body)).run();
        return shared;
    }
    shared.layout = encode_layout(held.chunk, shared.crc);
    Query(insert_shared_).signed_integer(body_row(shared.body)).integer(2).bytes(shared.layout).run();
    held.body = shared.body;
    const std::string header = encode_header(held.chunk, held.topic, held.body, held.body_crc, shared.layout);
    Query(share_chunk_).signed_integer(held.body).bytes(header).integer(held.topic).integer(held.chunk.first()).run();
    return shared;
}

void ChunkTable::insert_row(HeldChunk held, std::string_view header, const std::string* small, bool planned) {
    const Chunk& chunk = held.chunk;
    Query row(insert_chunk_);
    row.integer(held.topic).integer(chunk.first()).integer(chunk.last()).integer(chunk.size());
    row.integer(chunk.body_size()).signed_integer(held.body).bytes(header);
    if (small != nullptr) row.bytes(*small);
    row.run();
    if (planned) plan_.created(held.key(), chunk.body_size());
    HeldChunk& kept = keep(std::move(held));
    if (kept.chunk.touched()) changed(kept);
}

void ChunkTable::settle(TopicId topic, OffsetRange range) {
    Offset at = range.first;
    while (at <= range.last) {
        HeldChunk* held = covering(topic, at);
        if (held == nullptr) {
            const auto row = locate(topic, at);
            if (!row || row->first > range.last) return;
            at = row->last + 1;
            if (range.first <= row->first && row->last <= range.last) {
                erase(*row);  // whole: there is no need to know more of it
                continue;
            }
            held = load(*row);
            if (held == nullptr) continue;
        }
        at = held->chunk.last() + 1;
        held->chunk.settle(range);
        if (held->chunk.live() == 0) {
            erase(*held);
        } else {
            changed(*held);
        }
    }
}

void ChunkTable::settle_at(HeldChunk& held, std::size_t index) {
    held.chunk.settle_indexes(index, index + 1);
    if (held.chunk.live() == 0) {
        erase(held);
    } else {
        changed(held);
    }
}

void ChunkTable::set_marks(TopicId topic, std::span<const Mark> marks) {
    const auto by_offset = [](const Mark& a, const Mark& b) { return a.offset < b.offset; };
    std::vector<Mark> sorted;
    std::span<const Mark> rest = marks;
    if (!std::is_sorted(marks.begin(), marks.end(), by_offset)) {
        sorted.assign(marks.begin(), marks.end());
        std::stable_sort(sorted.begin(), sorted.end(), by_offset);
        rest = sorted;
    }
    while (!rest.empty()) {
        HeldChunk* held = at_or_behind(topic, rest.front().offset);
        if (held == nullptr) return;
        const Offset last = held->chunk.last();
        std::size_t count = 0;
        while (count < rest.size() && rest[count].offset <= last) ++count;
        auto runs = held->chunk.runs_of(rest.first(count));
        rest = rest.subspan(count);
        if (runs.empty()) continue;
        held->chunk.set_marks(std::move(runs));
        changed(*held);
    }
}

HeldChunk* ChunkTable::covering(TopicId topic, Offset offset) {
    auto found = held_.upper_bound({topic, offset});
    if (found == held_.begin()) return nullptr;
    HeldChunk& held = std::prev(found)->second;
    if (held.topic != topic || held.chunk.last() < offset) return nullptr;
    touch(held);
    return &held;
}

std::optional<ChunkRow> ChunkTable::locate(TopicId topic, Offset offset) {
    {
        Query query(select_before_);
        query.integer(topic).integer(offset);
        if (query.step()) {
            const ChunkRow row = read_row(query, topic);
            if (row.last >= offset) return row;
        }
    }
    Query query(select_behind_);
    query.integer(topic).integer(offset);
    if (!query.step()) return std::nullopt;
    return read_row(query, topic);
}

HeldChunk* ChunkTable::at_or_behind(TopicId topic, Offset offset) {
    for (;;) {
        if (HeldChunk* held = covering(topic, offset)) return held;
        const auto row = locate(topic, offset);
        if (!row) return nullptr;
        if (HeldChunk* held = load(*row)) return held;
        // It was set aside, so the next round finds another.
    }
}

std::vector<ChunkRow> ChunkTable::rows_from(TopicId topic, Offset first, std::size_t most) {
    std::vector<ChunkRow> rows;
    Query query(select_rows_);
    query.integer(topic).integer(first).integer(most);
    while (query.step()) rows.push_back(read_row(query, topic));
    return rows;
}

Offset ChunkTable::begin_of_last(TopicId topic, std::uint64_t messages) {
    flush();  // what is settled is counted by its rows
    Offset first = 0;
    std::uint64_t skipped = 0;  // of those that are unsettled in the chunk at `first`
    {
        Query query(select_backwards_);
        query.integer(topic);
        for (std::uint64_t left = messages; left != 0;) {
            if (!query.step()) return 0;
            std::uint64_t live = query.integer_at(1);
            if (!query.null_at(2)) {
                const auto state = read_state_summary(query.bytes_at(2));
                live -= state ? std::min(state->settled, live) : 0;
            }
            first = query.integer_at(0);
            skipped = live - std::min(live, left);
            left -= std::min(live, left);
        }
    }
    const HeldChunk* held = at_or_behind(topic, first);
    if (held == nullptr || held->chunk.first() != first) return first;
    std::size_t index = held->chunk.next_live(0);
    for (; skipped != 0 && index < held->chunk.size(); --skipped) index = held->chunk.next_live(index + 1);
    return index < held->chunk.size() ? held->chunk.offset(index) : held->chunk.last() + 1;
}

HeldChunk* ChunkTable::load(const ChunkRow& row) {
    if (const auto found = held_.find({row.topic, row.first}); found != held_.end()) {
        touch(found->second);
        return &found->second;
    }
    HeldChunk held;
    const char* damage = nullptr;
    {
        Query query(select_header_);
        query.integer(row.topic).integer(row.first);
        if (!query.step()) throw SqlError(SQLITE_CORRUPT, "a chunk is listed and cannot be found");
        const std::string_view header = query.bytes_at(0);
        const auto summary = read_summary(header);
        auto chunk = summary && matches(*summary, row) ? decode_header(header, query.bytes_at(2)) : std::nullopt;
        if (!chunk) {
            damage = "header damaged";
        } else {
            held.chunk = std::move(*chunk);
            held.topic = row.topic;
            held.body = row.body;
            held.body_crc = summary->body_crc;
            held.has_state = !query.null_at(1);
            if (held.has_state && !decode_state(query.bytes_at(1), held.chunk)) damage = "settlements damaged";
        }
    }
    if (damage != nullptr) {
        set_aside(row, row.messages, damage);
        return nullptr;
    }
    return &keep(std::move(held));
}

HeldChunk& ChunkTable::keep(HeldChunk held) {
    trim();
    const ChunkKey key = held.key();
    HeldChunk& kept = held_.insert_or_assign(key, std::move(held)).first->second;
    used_.push_front(key);
    kept.used = used_.begin();
    count(kept);
    return kept;
}

void ChunkTable::forget(HeldChunk& held) {
    bytes_ -= held.counted;
    used_.erase(held.used);
    held_.erase(held.key());
}

void ChunkTable::touch(HeldChunk& held) {
    used_.splice(used_.begin(), used_, held.used);
}

void ChunkTable::changed(HeldChunk& held) {
    if (!held.dirty) dirty_.push_back(held.key());
    held.dirty = true;
    count(held);
}

void ChunkTable::count(HeldChunk& held) {
    bytes_ -= held.counted;
    held.counted = sizeof(HeldChunk) + held.chunk.memory();
    bytes_ += held.counted;
}

// The newest two stay whatever their size: one may be in use while the next is loaded.
void ChunkTable::trim() {
    while (held_.size() > 2 && (held_.size() >= cached_chunks || bytes_ > cached_bytes)) {
        HeldChunk& oldest = held_.at(used_.back());
        if (oldest.dirty) write_state(oldest);
        forget(oldest);
    }
}

void ChunkTable::write_state(HeldChunk& held) {
    const std::string state = encode_state(held.chunk);
    Query(put_state_).integer(held.topic).integer(held.chunk.first()).bytes(state).run();
    held.has_state = true;
    held.dirty = false;
    count(held);
    if (!held.planned && UpkeepPlan::is_sparse(held.chunk.body_size(), held.chunk.live_bytes())) {
        held.planned = true;
        plan_.sparse(held.key());
    }
}

void ChunkTable::flush() {
    for (const ChunkKey& key : dirty_) {
        const auto found = held_.find(key);
        if (found != held_.end() && found->second.dirty) write_state(found->second);
    }
    dirty_.clear();
}

void ChunkTable::clear() noexcept {
    held_.clear();
    used_.clear();
    dirty_.clear();
    lost_.clear();
    bytes_ = 0;
    last_body_ = no_body_row;
    last_body_bytes_.reset();
}

void ChunkTable::erase_rows(ChunkKey key, BodyRef body, bool has_state) {
    Query(delete_chunk_).integer(key.first).integer(key.second).run();
    if (has_state) Query(delete_state_).integer(key.first).integer(key.second).run();
    if (body == no_body_row) return;
    if (is_shared(body)) {
        release(body);
    } else {
        erase_body(body);
    }
}

void ChunkTable::release(BodyRef body) {
    const bool last = sharers(body) == 1;
    Query(last ? delete_shared_ : release_shared_).signed_integer(body_row(body)).run();
    if (last) {
        plan_.not_thin(body);
        erase_body(body);
    } else {
        plan_.thin(body);
    }
}

void ChunkTable::erase_body(BodyRef body) {
    Query(delete_body_).signed_integer(body_row(body)).run();
    if (last_body_ == body_row(body)) {  // the row may be used again
        last_body_ = no_body_row;
        last_body_bytes_.reset();
    }
}

std::uint64_t ChunkTable::sharers(BodyRef body) {
    if (!is_shared(body)) return 1;
    Query query(select_sharers_);
    return query.signed_integer(body_row(body)).step() ? query.integer_at(0) : 0;
}

// They have the same messages in their index, so all begin where this one does.
std::vector<TopicId> ChunkTable::topics_over(const ChunkRow& row) {
    if (!is_shared(row.body)) return {row.topic};
    std::vector<TopicId> topics;
    Query query(select_topics_);
    query.integer(row.first).signed_integer(row.body);
    while (query.step()) topics.push_back(query.integer_at(0));
    return topics;
}

void ChunkTable::erase(HeldChunk& held) {
    erase_rows(held.key(), held.body, held.has_state);
    plan_.gone(held.key(), held.chunk.body_size());
    forget(held);
}

void ChunkTable::erase(const ChunkRow& row) {
    if (const auto found = held_.find({row.topic, row.first}); found != held_.end()) {
        erase(found->second);
        return;
    }
    erase_rows({row.topic, row.first}, row.body, true);
    plan_.gone({row.topic, row.first}, row.body_size);
}

void ChunkTable::erase_all(TopicId topic) {
    constexpr std::size_t at_a_time = 1000;
    for (;;) {
        const auto rows = rows_from(topic, 0, at_a_time);
        for (const ChunkRow& row : rows) erase(row);
        if (rows.size() < at_a_time) return;
    }
}

ChunkRow ChunkTable::row_of(const HeldChunk& held) {
    const Chunk& chunk = held.chunk;
    return {held.topic, chunk.first(), chunk.last(), chunk.size(), chunk.body_size(), held.body};
}

std::optional<std::string> ChunkTable::read_body(const HeldChunk& held) {
    try {
        const bool inline_body = held.body == no_body_row;
        Query query(inline_body ? select_small_body_ : select_body_);
        if (inline_body) {
            query.integer(held.topic).integer(held.chunk.first());
        } else {
            query.signed_integer(body_row(held.body));
        }
        if (!query.step()) return std::nullopt;
        const std::string_view bytes = query.bytes_at(0);
        if (bytes.size() != held.chunk.body_size() || crc32c(bytes) != held.body_crc) return std::nullopt;
        return std::string(bytes);
    } catch (const SqlError& error) {
        if (error.primary() == SQLITE_CORRUPT) return std::nullopt;  // pages of this body alone, as far as is known
        throw;
    }
}

std::optional<Slice> ChunkTable::body(HeldChunk& held) {
    if (held.body != no_body_row && last_body_ == body_row(held.body)) return last_body_bytes_;
    auto bytes = read_body(held);
    if (!bytes) {
        set_aside(row_of(held), held.chunk.live(), "body damaged");
        return std::nullopt;
    }
    if (held.body == no_body_row) return Slice(std::move(*bytes));
    last_body_ = body_row(held.body);
    last_body_bytes_ = Slice(std::move(*bytes));
    return last_body_bytes_;
}

// The body stays in its row, where it can be looked at: moving it would need room, and may not even be possible.
void ChunkTable::set_aside(const ChunkRow& row, std::uint64_t live, const std::string& what) {
    std::optional<Transaction> own;
    if (sqlite3_get_autocommit(db_.handle()) != 0) own.emplace(db_);
    Query(insert_damaged_).integer(live).text(what).integer(row.topic).integer(row.first).run();
    Query(delete_chunk_).integer(row.topic).integer(row.first).run();
    Query(delete_state_).integer(row.topic).integer(row.first).run();
    if (own) own->commit();
    plan_.gone({row.topic, row.first}, row.body_size);
    lost_.push_back({row.topic, {row.first, row.last}, live, what});
    if (const auto found = held_.find({row.topic, row.first}); found != held_.end()) forget(found->second);
}

std::vector<LostChunk> ChunkTable::take_lost() {
    return std::exchange(lost_, {});
}

}  // namespace posthorn::store
