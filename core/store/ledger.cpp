#include "store/ledger.hpp"

#include <algorithm>
#include <utility>

#include "envelope/wire.hpp"
#include "store/chunk_format.hpp"
#include "store/gathering.hpp"

namespace posthorn::store {

namespace {

std::string select_dead(const char* which) {
    return std::string(
               "SELECT \"offset\", reason, text, attempts, first_failure, last_failure, consumer, redrives, "
               "dead_letter.crc, dead_letter.envelope, dead_original.crc, dead_original.envelope "
               "FROM dead_letter LEFT JOIN dead_original USING(topic, \"offset\") ") +
           which;
}

// The whole watermark, sealed: a wrong one would make us call a new message a duplicate.
std::string encode(const Watermark& watermark) {
    std::string bytes;
    wire::Writer out(bytes);
    out.binary(watermark.producer.view()).unsigned_integer(watermark.sequence).integer(ticks(watermark.seen));
    out.array(static_cast<std::uint32_t>(watermark.refusals.size()));
    for (const Refusal& refusal : watermark.refusals) {
        out.unsigned_integer(refusal.sequence).string(refusal.code).string(refusal.text);
    }
    if (!watermark.life.is_zero()) out.binary(watermark.life.view());
    seal(bytes);
    return bytes;
}

std::optional<Watermark> decode(std::string_view record) {
    const auto content = unseal(record);
    if (!content) return std::nullopt;
    wire::Reader in(*content);
    Watermark watermark;
    if (!Identity::from_bytes(in.binary(), watermark.producer)) return std::nullopt;
    watermark.sequence = in.unsigned_integer();
    watermark.seen = wall(in.integer());
    for (std::uint32_t left = in.array(); left != 0 && in.ok(); --left) {
        Refusal& refusal = watermark.refusals.emplace_back();
        refusal.sequence = in.unsigned_integer();
        refusal.code = in.string();
        refusal.text = in.string();
    }
    if (in.ok() && !in.at_end() && !Identity::from_bytes(in.binary(), watermark.life)) return std::nullopt;
    if (!in.ok() || !in.at_end()) return std::nullopt;
    return watermark;
}

// A wrong one would make us lose a message. The topic is in it so that a row is known to be what it stands for.
std::string encode(TopicId topic, const std::vector<DedupKey>& keys) {
    std::string bytes;
    wire::Writer out(bytes);
    out.unsigned_integer(topic).array(static_cast<std::uint32_t>(keys.size()));
    for (const DedupKey& key : keys) {
        out.unsigned_integer(key.offset).integer(ticks(key.accepted_at)).string(key.key);
    }
    seal(bytes);
    return bytes;
}

// Adds what is in a row. False, and nothing added: it is damaged.
bool decode(std::string_view record, TopicId topic, Offset last, std::vector<DedupKey>& keys) {
    const auto content = unseal(record);
    if (!content) return false;
    const std::size_t before = keys.size();
    wire::Reader in(*content);
    const bool ours = in.unsigned_integer() == topic;
    for (std::uint32_t left = in.array(); left != 0 && in.ok(); --left) {
        DedupKey& key = keys.emplace_back();
        key.offset = in.unsigned_integer();
        key.accepted_at = wall(in.integer());
        key.key = in.string();
    }
    if (ours && in.ok() && in.at_end() && keys.size() > before && keys.back().offset == last) return true;
    keys.resize(before);
    return false;
}

// The topic is in it as above.
std::string encode(TopicId topic, const std::string& subscription) {
    std::string bytes;
    wire::Writer out(bytes);
    out.unsigned_integer(topic).binary(subscription);
    seal(bytes);
    return bytes;
}

std::optional<std::string> decode_subscription(std::string_view record, TopicId topic) {
    const auto content = unseal(record);
    if (!content) return std::nullopt;
    wire::Reader in(*content);
    const bool ours = in.unsigned_integer() == topic;
    std::string subscription(in.binary());
    if (!ours || !in.ok() || !in.at_end()) return std::nullopt;
    return subscription;
}

}  // namespace

Ledger::Ledger(Database& db)
    : db_(db),
      dead_chunks_(db),
      select_topics_(db,
                     "SELECT name, id, next_offset, dead, dead_bytes, strict_order.topic IS NOT NULL "
                     "FROM topic LEFT JOIN strict_order ON strict_order.topic = id"),
      // What was set aside keeps the number of its topic, which no other may get when that one has gone.
      insert_topic_(
          db,
          "INSERT INTO topic(id, name, next_offset, dead, dead_bytes) VALUES(1 + max("
          "ifnull((SELECT max(id) FROM topic), 0), ifnull((SELECT max(topic) FROM damaged), 0)), ?, 1, 0, 0)"),
      update_topic_(db, "UPDATE topic SET next_offset=?, dead=?, dead_bytes=? WHERE id=?"),
      insert_strict_(db, "INSERT INTO strict_order(topic) VALUES(?)"),
      put_subscription_(db, "REPLACE INTO subscription(topic, record) VALUES(?,?)"),
      delete_subscription_(db, "DELETE FROM subscription WHERE topic=?"),
      select_subscription_(db, "SELECT record FROM subscription WHERE topic=?"),
      insert_dead_(db,
                   "REPLACE INTO dead_letter(topic, \"offset\", reason, text, attempts, first_failure, last_failure, "
                   "consumer, redrives, crc, envelope) VALUES(?,?,?,?,?,?,?,?,?,?,?)"),
      select_dead_(db, select_dead(R"(WHERE topic=? AND "offset"=?)").c_str()),
      select_dead_from_(db, select_dead(R"(WHERE topic=? AND "offset">=? ORDER BY "offset" LIMIT 1)").c_str()),
      keep_original_(db,
                     "INSERT OR IGNORE INTO dead_original(topic, \"offset\", crc, envelope) "
                     "SELECT topic, \"offset\", crc, envelope FROM dead_letter WHERE topic=? AND \"offset\"=?"),
      update_dead_(db, "UPDATE dead_letter SET crc=?, envelope=? WHERE topic=? AND \"offset\"=?"),
      select_dead_size_(db,
                        "SELECT \"offset\", length(dead_letter.envelope), ifnull(length(dead_original.envelope), 0) "
                        "FROM dead_letter LEFT JOIN dead_original USING(topic, \"offset\") "
                        "WHERE topic=? AND \"offset\">=? ORDER BY \"offset\" LIMIT 1"),
      delete_dead_(db, "DELETE FROM dead_letter WHERE topic=? AND \"offset\"=?"),
      delete_original_(db, "DELETE FROM dead_original WHERE topic=? AND \"offset\"=?"),
      insert_damaged_(db,
                      "INSERT INTO damaged(topic, first, last, messages, what, header, bytes) "
                      "SELECT topic, \"offset\", \"offset\", 1, 'dead letter damaged', dead_letter.envelope, "
                      "dead_original.envelope FROM dead_letter LEFT JOIN dead_original USING(topic, \"offset\") "
                      "WHERE topic=? AND \"offset\"=?"),
      put_producer_(db, "REPLACE INTO producer(topic, id, sequence, seen, record) VALUES(?,?,?,?,?)"),
      delete_producer_(db, "DELETE FROM producer WHERE topic=? AND id=?"),
      select_producers_(db, "SELECT id, record FROM producer WHERE topic=? ORDER BY id"),
      put_dedup_(db, "REPLACE INTO dedup(topic, last, record) VALUES(?,?,?)"),
      delete_dedup_(db, "DELETE FROM dedup WHERE topic=? AND last<?"),
      select_dedup_(db, "SELECT last, record FROM dedup WHERE topic=? ORDER BY last") {}

void Ledger::reload() {
    topics_.clear();
    dead_chunks_.clear();
    damage_.clear();
    Query query(select_topics_);
    while (query.step()) {
        topics_[std::string(query.bytes_at(0))] = {query.integer_at(1), query.integer_at(2),      query.integer_at(3),
                                                   query.integer_at(4), query.integer_at(5) != 0, false};
    }
}

const TopicRow* Ledger::find(const std::string& topic) const {
    const auto found = topics_.find(topic);
    return found == topics_.end() ? nullptr : &found->second;
}

std::string Ledger::name_of(TopicId id) const {
    for (const auto& [name, topic] : topics_) {
        if (topic.id == id) return name;
    }
    return "topic " + std::to_string(id);  // only if the file has lost the topic's own row
}

TopicRow& Ledger::topic(const std::string& name) {
    const auto found = topics_.find(name);
    if (found != topics_.end()) return found->second;
    Query(insert_topic_).text(name).run();
    TopicRow& topic = topics_[name];
    topic.id = static_cast<TopicId>(sqlite3_last_insert_rowid(db_.handle()));
    return topic;
}

void Ledger::write(TopicRow& topic) {
    if (!topic.changed) return;
    Query(update_topic_)
        .integer(topic.next_offset)
        .integer(topic.dead)
        .integer(topic.dead_bytes)
        .integer(topic.id)
        .run();
    topic.changed = false;
}

void Ledger::become_strict(TopicRow& topic) {
    if (topic.strict) return;
    Query(insert_strict_).integer(topic.id).run();
    topic.strict = true;
}

void Ledger::remember(const TopicRow& topic, const std::string& subscription) {
    if (subscription.empty()) {
        Query(delete_subscription_).integer(topic.id).run();
        return;
    }
    const std::string record = encode(topic.id, subscription);
    Query(put_subscription_).integer(topic.id).bytes(record).run();
}

void Ledger::remove(const std::string& name) {
    const TopicId id = topics_.at(name).id;
    // Rare, so these are not kept prepared.
    for (const char* rows :
         {"dead_letter WHERE topic", "dead_original WHERE topic", "producer WHERE topic", "dedup WHERE topic",
          "strict_order WHERE topic", "subscription WHERE topic", "topic WHERE id"}) {
        Statement statement(db_, ("DELETE FROM " + std::string(rows) + "=?").c_str());
        Query(statement).integer(id).run();
    }
    dead_chunks_.erase_all(id);
    topics_.erase(name);
}

void Ledger::insert_dead(const TopicRow& topic, const DeadLetter& letter, std::string_view envelope,
                         std::uint16_t redrives) {
    Query row(insert_dead_);
    row.integer(topic.id).integer(letter.offset).text(to_string(letter.reason)).text(letter.text);
    row.integer(letter.attempts).signed_integer(ticks(letter.first_failure)).signed_integer(ticks(letter.last_failure));
    row.text(letter.consumer).integer(redrives).integer(crc32c(envelope)).bytes(envelope).run();
}

void Ledger::bury(TopicRow& topic, const DeadLetter& letter, std::string_view envelope, std::uint16_t redrives) {
    insert_dead(topic, letter, envelope, redrives);
    bury(topic, envelope.size());
}

void Ledger::bury(TopicRow& topic, std::uint64_t envelope_bytes) {
    ++topic.dead;
    topic.dead_bytes += envelope_bytes;
    topic.changed = true;
}

void Ledger::edit(TopicRow& topic, const Found& found, std::string_view envelope) {
    const StoredDeadLetter& letter = found.letter;
    const Offset dead = letter.record.offset;
    if (found.lies) {
        insert_dead(topic, letter.record, letter.envelope.view(), letter.redrives);
        dead_chunks_.erase(topic.id, dead);
    }
    Query(keep_original_).integer(topic.id).integer(dead).run();
    Query(update_dead_).integer(crc32c(envelope)).bytes(envelope).integer(topic.id).integer(dead).run();
    topic.dead_bytes += envelope.size();
    if (letter.original) topic.dead_bytes -= letter.envelope.size();  // else that is the original now
    topic.changed = true;
}

// By its size alone: what goes is not read.
void Ledger::purge(TopicRow& topic, Offset dead) {
    const auto lies = oldest_dead(topic, dead);
    if (lies && lies->offset == dead) drop(topic, *lies);
}

void Ledger::drop(TopicRow& topic, const DeadChunks::Found& lies) {
    if (!dead_chunks_.erase(topic.id, lies.offset)) {
        Query(delete_dead_).integer(topic.id).integer(lies.offset).run();
        Query(delete_original_).integer(topic.id).integer(lies.offset).run();
    }
    --topic.dead;
    topic.dead_bytes -= lies.bytes;
    topic.changed = true;
}

DeadDropped Ledger::cut_back(TopicRow& topic, const DeadBound& bound) {
    DeadDropped dropped;
    for (Offset from = 0; exceeds(bound, topic.dead, topic.dead_bytes);) {
        const auto oldest = oldest_dead(topic, from);
        if (!oldest || !exceeds(bound, topic.dead, topic.dead_bytes)) break;  // something may have been set aside
        if (!bound.keep.contains(oldest->offset)) {
            drop(topic, *oldest);
            ++dropped.messages;
            dropped.bytes += oldest->bytes;
        }
        from = oldest->offset + 1;
    }
    return dropped;
}

// The first at `from` or behind, by its place and size. A damaged dead chunk on the way is set aside: it has to count
// no more.
std::optional<DeadChunks::Found> Ledger::oldest_dead(TopicRow& topic, Offset from) {
    auto shared = dead_chunks_.next(topic.id, from, {});
    for (; shared && shared->damaged; shared = dead_chunks_.next(topic.id, from, {})) {
        set_dead_letter_aside(topic, {.letter = {}, .damaged = true, .lies = shared});
    }
    Query row(select_dead_size_);
    if (!row.integer(topic.id).integer(from).step()) return shared;
    if (shared && shared->offset < row.integer_at(0)) return shared;
    return DeadChunks::Found{.offset = row.integer_at(0), .bytes = row.integer_at(1) + row.integer_at(2)};
}

Ledger::Found Ledger::read_dead_letter(const Query& row) {
    Found found;
    DeadLetter& record = found.letter.record;
    record.offset = row.integer_at(0);
    const auto reason = reason_from(row.bytes_at(1));
    record.reason = reason.value_or(Reason::rejected);
    record.text = row.bytes_at(2);
    record.attempts = static_cast<std::uint32_t>(row.integer_at(3));
    record.first_failure = wall(row.signed_at(4));
    record.last_failure = wall(row.signed_at(5));
    record.consumer = row.bytes_at(6);
    found.letter.redrives = static_cast<std::uint16_t>(row.integer_at(7));
    const std::string_view envelope = row.bytes_at(9);
    found.damaged = !reason || crc32c(envelope) != row.integer_at(8);
    found.letter.envelope = Slice(std::string(envelope));
    if (!row.null_at(10)) {
        const std::string_view original = row.bytes_at(11);
        found.damaged = found.damaged || crc32c(original) != row.integer_at(10);
        found.letter.original = Slice(std::string(original));
    }
    return found;
}

std::optional<Ledger::Found> Ledger::dead_letter(const TopicRow& topic, Offset dead) {
    {
        Query query(select_dead_);
        query.integer(topic.id).integer(dead);
        if (query.step()) return read_dead_letter(query);
    }
    const auto lies = dead_chunks_.find(topic.id, dead);
    if (!lies) return std::nullopt;
    return read_dead_letter(topic.id, *lies);
}

std::optional<Ledger::Found> Ledger::next_dead_letter(TopicId topic, Offset from, const std::set<Offset>& passed) {
    const auto lies = dead_chunks_.next(topic, from, passed);
    Query query(select_dead_from_);
    query.integer(topic).integer(from);
    const bool has_row = query.step();
    if (has_row && (!lies || query.integer_at(0) < lies->offset)) return read_dead_letter(query);
    if (!lies) return std::nullopt;
    return read_dead_letter(topic, *lies);
}

Ledger::Found Ledger::read_dead_letter(TopicId topic, const DeadChunks::Found& lies) {
    Found found{.letter = {}, .damaged = lies.damaged, .lies = lies};
    found.letter.record.offset = lies.offset;
    if (lies.damaged) return found;
    if (auto letter = dead_chunks_.read(topic, lies)) {
        found.letter = std::move(*letter);
    } else {
        found.damaged = true;
        found.lies = dead_chunks_.whole(topic, lies);
    }
    return found;
}

Damage Ledger::damage(const std::string& topic, const Found& found) {
    const Offset offset = found.letter.record.offset;
    Damage damage{topic, {offset, offset}, 1, "dead letter damaged"};
    damage.dead = true;
    damage.dead_bytes = found.letter.size();
    if (found.lies) {
        damage.range = found.lies->range;
        damage.messages = found.lies->letters;
        damage.what = "dead letters damaged";
        damage.dead_bytes = found.lies->bytes;
    }
    return damage;
}

void Ledger::set_dead_letter_aside(TopicRow& topic, const Found& found) {
    const Damage lost = damage(name_of(topic.id), found);
    if (found.lies) {
        dead_chunks_.set_aside(topic.id, *found.lies);
    } else {
        Query(insert_damaged_).integer(topic.id).integer(lost.range.first).run();
        Query(delete_dead_).integer(topic.id).integer(lost.range.first).run();
        Query(delete_original_).integer(topic.id).integer(lost.range.first).run();
    }
    topic.dead -= std::min(topic.dead, lost.messages);
    topic.dead_bytes -= std::min(topic.dead_bytes, lost.dead_bytes);
    topic.changed = true;
    damage_.push_back(lost);
}

void Ledger::put(const TopicRow& topic, const Watermark& watermark) {
    const std::string record = encode(watermark);
    Query row(put_producer_);
    row.integer(topic.id).bytes(watermark.producer.view()).integer(watermark.sequence);
    row.signed_integer(ticks(watermark.seen)).bytes(record).run();
}

void Ledger::forget(const TopicRow& topic, const Identity& producer) {
    Query(delete_producer_).integer(topic.id).bytes(producer.view()).run();
}

std::vector<Watermark> Ledger::watermarks(TopicId topic, std::size_t& damaged) {
    std::vector<Watermark> watermarks;
    Query query(select_producers_);
    query.integer(topic);
    while (query.step()) {
        auto watermark = decode(query.bytes_at(1));
        if (watermark && watermark->producer.view() == query.bytes_at(0)) {
            watermarks.push_back(std::move(*watermark));
        } else {
            ++damaged;
        }
    }
    return watermarks;
}

void Ledger::put(const TopicRow& topic, const std::vector<DedupKey>& keys) {
    const std::string record = encode(topic.id, keys);
    Query(put_dedup_).integer(topic.id).integer(keys.back().offset).bytes(record).run();
}

void Ledger::forget_dedup_keys(const TopicRow& topic, Offset below) {
    Query(delete_dedup_).integer(topic.id).integer(below).run();
}

std::vector<DedupKey> Ledger::dedup_keys(TopicId topic, std::size_t& damaged) {
    std::vector<DedupKey> keys;
    Query query(select_dedup_);
    query.integer(topic);
    while (query.step()) {
        if (!decode(query.bytes_at(1), topic, query.integer_at(0), keys)) ++damaged;
    }
    return keys;
}

std::string Ledger::subscription(TopicId topic, std::size_t& damaged) {
    Query query(select_subscription_);
    if (!query.integer(topic).step()) return {};
    auto subscription = decode_subscription(query.bytes_at(0), topic);
    if (!subscription) ++damaged;
    return subscription.value_or(std::string());
}

}  // namespace posthorn::store
