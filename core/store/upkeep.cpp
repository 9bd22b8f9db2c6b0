#include "store/upkeep.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace posthorn::store {

namespace {

std::int64_t value_of(Statement& statement) {
    Query query(statement);
    return query.step() ? query.signed_at(0) : 0;
}

}  // namespace

Upkeep::Upkeep(Database& db, ChunkTable& chunks, DeadChunks& dead, UpkeepPlan& plan)
    : db_(db),
      chunks_(chunks),
      dead_(dead),
      plan_(plan),
      free_pages_(db, "PRAGMA freelist_count"),
      pages_(db, "PRAGMA page_count") {}

void Upkeep::work(bool room) {
    if (room) {
        if (const auto from = plan_.merge_due()) {
            merge(*from);
        } else {
            rewrite();
        }
        thin_out();
    }
    if (++calls_ % vacuum_every == 0) vacuum();
}

// Adds what is left of a chunk's body: to the body what any of the chunks over it has live, to each of them all of
// that. False: it cannot be read (what was damaged is set aside), or it does not fit.
bool Upkeep::add(const ChunkRow& row, std::span<const TopicId> topics, Combined& to) {
    std::vector<Chunk> parts;
    std::optional<Slice> body;
    for (const TopicId topic : topics) {
        HeldChunk* held = chunks_.at_or_behind(topic, row.first);
        if (held == nullptr || held->chunk.first() != row.first || held->body != row.body) return false;
        parts.push_back(held->chunk);
        if (!body) body = chunks_.body(*held);
        if (!body) return false;
    }
    const auto live_in = [](std::size_t index) { return [index](const Chunk& part) { return part.is_live(index); }; };
    for (std::size_t i = 0; i < parts.front().size(); ++i) {
        if (std::none_of(parts.begin(), parts.end(), live_in(i))) continue;
        if (!to.common.chunk.add(parts.front().message(i))) return false;
        to.common.body += parts.front().bytes(i, body->view());
        for (std::size_t which = 0; which < parts.size(); ++which) {
            Combined::Part& part = to.parts[which];
            part.chunk.add(parts[which].message(i));
            if (!parts[which].is_live(i)) {
                part.settled.push_back(part.chunk.size() - 1);
            } else if (auto mark = parts[which].mark(i)) {
                part.marks.push_back(*mark);
            }
        }
    }
    return true;
}

// Replaces chunks by one that has their live messages; with them those that other topics have over the same bodies.
// Returns how many of a topic; none when one of them turned out damaged (the others wait for the next time) or when
// they are too far apart for one chunk.
std::size_t Upkeep::combine(std::span<const ChunkRow> rows, std::span<const TopicId> topics) {
    Combined combined;
    combined.parts.resize(topics.size());
    for (const ChunkRow& row : rows) {
        if (!add(row, topics, combined)) return 0;
    }
    for (const TopicId topic : topics) {
        for (const ChunkRow& row : rows) {
            ChunkRow other = row;
            other.topic = topic;
            chunks_.erase(other);
        }
    }
    const bool planned = rows.size() == 1;
    std::optional<SharedBody> shared;
    if (topics.size() > 1) shared = chunks_.insert_shared(combined.common, topics.size());
    for (std::size_t which = 0; which < topics.size(); ++which) {
        auto& [chunk, settled, marks] = combined.parts[which];
        for (const std::size_t index : settled) chunk.settle_indexes(index, index + 1);
        if (!marks.empty()) chunk.set_marks(chunk.runs_of(marks));
        if (shared) {
            chunks_.insert(*shared, topics[which], std::move(chunk), planned);
        } else {
            chunks_.insert(topics[which], {std::move(chunk), std::move(combined.common.body)}, planned);
        }
    }
    return rows.size();
}

// Whether a chunk lies over the body of this one for each of these topics and none else, and each of them has it next
// to the one before.
bool Upkeep::goes_on(const ChunkRow& before, const ChunkRow& row, std::span<const TopicId> topics) {
    if (chunks_.sharers(row.body) != topics.size()) return false;
    return std::all_of(topics.begin(), topics.end(), [&](TopicId topic) {
        if (topic == row.topic) return true;
        const auto next = chunks_.rows_from(topic, before.last + 1, 1);
        return !next.empty() && next.front().first == row.first && next.front().body == row.body;
    });
}

void Upkeep::merge(ChunkKey from) {
    const auto rows = chunks_.rows_from(from.first, from.second, UpkeepPlan::merge_rows);
    Transaction transaction(db_);
    std::size_t left = 0;         // small ones that stay as they are
    std::size_t begin = 0;        // of the neighbours that go together
    std::vector<TopicId> topics;  // that have all of them; none: they do not go
    std::uint64_t bytes = 0;
    std::uint64_t messages = 0;
    std::size_t families = 0;
    std::size_t chunks = 0;
    const auto close = [&](std::size_t end) {
        const std::size_t count = end - begin;
        left += count - (count > 1 ? combine(std::span(rows).subspan(begin, count), topics) : 0);
        begin = end;
    };
    std::size_t i = 0;
    for (; i < rows.size(); ++i) {
        const ChunkRow& row = rows[i];
        const bool is_small = row.body_size <= UpkeepPlan::small_bytes;
        const bool fits = bytes + row.body_size <= UpkeepPlan::merged_bytes &&
                          messages + row.messages <= Chunk::max_messages && chunks + topics.size() <= merged_chunks;
        if (!is_small || topics.empty() || !fits || !goes_on(rows[i - 1], row, topics)) {
            close(i);
            if (families == merged_families || chunks > merged_chunks / 2) break;
            bytes = messages = 0;
            topics.clear();
            if (!is_small) {
                begin = i + 1;
                continue;
            }
            if (is_shared(row.body)) ++families;
            topics = chunks_.topics_over(row);
            if (topics.size() != chunks_.sharers(row.body)) topics.clear();  // dead letters lie in it
        }
        bytes += row.body_size;
        messages += row.messages;
        chunks += topics.size();
    }
    close(i);
    chunks_.flush();
    transaction.commit();
    std::optional<Offset> next;
    if (i < rows.size()) {
        next = rows[i].first;
    } else if (rows.size() == UpkeepPlan::merge_rows) {
        next = rows.back().last + 1;
    }
    plan_.merged(from.first, left, next);
}

void Upkeep::rewrite() {
    std::optional<Transaction> transaction;
    std::size_t done = 0;
    for (std::size_t looked = 0; looked < UpkeepPlan::merge_rows && done < rewrites; ++looked) {
        const auto key = plan_.take_sparse();
        if (!key) break;
        if (!transaction) transaction.emplace(db_);
        const auto rows = chunks_.rows_from(key->first, key->second, 1);
        if (rows.empty() || rows.front().first != key->second) continue;  // gone
        HeldChunk* held = chunks_.at_or_behind(key->first, key->second);
        if (held == nullptr || held->key() != *key) continue;
        const std::uint64_t bytes = held->chunk.body_size();
        const std::uint64_t live = held->chunk.live_bytes();
        if (!UpkeepPlan::is_sparse(bytes, live)) continue;
        if (!UpkeepPlan::is_worth_copying(bytes, live, chunks_.sharers(held->body))) {
            held->planned = false;  // until it is touched again
            continue;
        }
        combine(rows, std::span(&key->first, 1));
        ++done;
    }
    if (!transaction) return;
    chunks_.flush();
    transaction->commit();
}

// Of a body that only dead letters lie in: keeps what any of them needs, once for all of them.
void Upkeep::thin_out() {
    std::optional<Transaction> transaction;
    std::size_t done = 0;
    for (std::size_t looked = 0; looked < UpkeepPlan::merge_rows && done < thinned; ++looked) {
        const auto body = plan_.take_thin();
        if (!body) break;
        if (!dead_.may_be_thin(*body)) continue;
        ++done;
        const auto needed = dead_.needed(*body);
        if (!needed) continue;
        if (!transaction) transaction.emplace(db_);
        const SharedBody kept = chunks_.insert_shared(needed->packed, needed->chunks);
        dead_.move(*body, kept, needed->packed.chunk);
        for (std::uint64_t left = needed->chunks; left != 0; --left) chunks_.release(*body);
    }
    if (transaction) transaction->commit();
}

void Upkeep::vacuum() {
    const std::int64_t free = value_of(free_pages_);
    if (free <= vacuum_keep || free * 4 <= value_of(pages_)) return;
    db_.execute(("PRAGMA incremental_vacuum(" + std::to_string(vacuum_pages) + ")").c_str());
}

}  // namespace posthorn::store
