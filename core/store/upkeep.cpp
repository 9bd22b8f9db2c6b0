#include "store/upkeep.hpp"

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

// Replaces chunks by one that has their live messages. Returns how many; none when one of them turned out damaged (it
// is set aside, the others wait for the next time) or when they are too far apart for one chunk.
std::size_t Upkeep::combine(std::span<const ChunkRow> rows) {
    PackedChunk packed;
    for (const ChunkRow& row : rows) {
        HeldChunk* held = chunks_.at_or_behind(row.topic, row.first);
        if (held == nullptr || held->chunk.first() != row.first) return 0;
        const auto body = chunks_.body(*held);
        if (!body || !copy_live(held->chunk, body->view(), packed)) return 0;
    }
    const TopicId topic = rows.front().topic;
    for (const ChunkRow& row : rows) chunks_.erase(row);
    chunks_.insert(topic, std::move(packed), rows.size() == 1);
    return rows.size();
}

void Upkeep::merge(ChunkKey from) {
    const auto rows = chunks_.rows_from(from.first, from.second, UpkeepPlan::merge_rows);
    Transaction transaction(db_);
    std::size_t left = 0;   // small ones that stay as they are
    std::size_t begin = 0;  // of the neighbours that go together
    std::uint64_t bytes = 0;
    std::uint64_t messages = 0;
    const auto close = [&](std::size_t end) {
        const std::size_t count = end - begin;
        left += count - (count > 1 ? combine(std::span(rows).subspan(begin, count)) : 0);
        bytes = messages = 0;
        begin = end;
    };
    for (std::size_t i = 0; i < rows.size(); ++i) {
        const ChunkRow& row = rows[i];
        const bool is_small = row.body_size <= UpkeepPlan::small_bytes;
        const bool goes = is_small && chunks_.sharers(row.body) == 1;  // else it would only be copied
        if (!goes || bytes + row.body_size > UpkeepPlan::merged_bytes ||
            messages + row.messages > Chunk::max_messages) {
            close(i);
        }
        if (!goes) {
            begin = i + 1;
            if (is_small) ++left;
            continue;
        }
        bytes += row.body_size;
        messages += row.messages;
    }
    close(rows.size());
    chunks_.flush();
    transaction.commit();
    const bool more = rows.size() == UpkeepPlan::merge_rows;
    plan_.merged(from.first, left, more ? std::optional(rows.back().last + 1) : std::nullopt);
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
        combine(rows);
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
