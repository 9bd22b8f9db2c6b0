// What the queue gives to its store and takes from it.
#include <algorithm>

#include "queue/queue.hpp"

namespace posthorn::queue {

namespace {

constexpr std::size_t fetch_limit = 256;  // bodies asked for at once
// A life that ends may have delivered messages it had not stored yet; their offsets must never name others. There are
// fewer of them than bytes of publish credit.
constexpr Offset forgotten_offsets = Offset{1} << 26U;
// So much of what was stored last was given out by the last life. What is older may be of a life before, and then
// nobody knows whether it was ever stored.
constexpr Offset last_life_offsets = forgotten_offsets / 2;
static_assert(forgotten_offsets - last_life_offsets >= defaults::credit_bytes);

std::vector<store::OffsetRange> ranges(std::vector<Offset>& offsets) {
    std::vector<store::OffsetRange> out;
    for (const SequenceRange& range : to_ranges(offsets)) out.push_back({range.first, range.last});
    return out;
}

}  // namespace

bool Queue::has_track_room() const {
    return entries_.size() < defaults::tracked_messages && ready_ < defaults::window_messages &&
           window_used_ < defaults::window_bytes;
}

Queue::Entry& Queue::track(Offset offset) {
    loaded_to_ = offset + 1;
    return entries_.try_emplace(offset).first->second;
}

void Queue::keep_body(Entry& entry, Slice body) {
    entry.body = std::move(body);
    window_used_ += entry.size;
}

void Queue::drop_body(Entry& entry) {
    if (entry.body.empty()) return;
    window_used_ -= entry.size;
    entry.body.reset();
}

void Queue::write_settled(Offset offset) {
    if (offset < pending_first()) {
        settled_.push_back(offset);
        return;
    }
    Pending& pending = pending_[offset - pending_first()];
    pending_bytes_ -= pending.envelope.size();
    pending.envelope.reset();
    pending.done = true;
}

void Queue::write_mark(Offset offset) {
    (offset < pending_first() ? dirty_ : pending_dirty_).push_back(offset);
}

void Queue::write_dead(store::DeadLetter letter) {
    (letter.offset < pending_first() ? dead_ : pending_dead_).push_back(std::move(letter));
}

void Queue::write_watermark(Producer& producer) {
    if (producer.dirty) return;
    producer.dirty = true;
    dirty_producers_.push_back(&producer);
}

bool Queue::has_changes(bool room) const {
    if (!settled_.empty() || !dirty_.empty() || !dead_.empty() || !purged_.empty() || !forgotten_.empty()) return true;
    return pending_.empty() ? !dirty_producers_.empty() : room;
}

void Queue::gather_pending(store::TopicBatch& batch, Now now) {
    Offset offset = pending_first();
    batch.appends.reserve(pending_.size());
    for (Pending& pending : pending_) {
        if (pending.redrive_of != 0) {
            batch.redrives.push_back({pending.redrive_of, offset});
        } else if (!pending.done) {
            batch.appends.push_back(
                {offset, std::move(pending.envelope), pending.redrives, pending.maybe_duplicate, pending.expires_at});
        }
        ++offset;
    }
    pending_.clear();
    committing_bytes_ = std::exchange(pending_bytes_, 0);
    dirty_.insert(dirty_.end(), pending_dirty_.begin(), pending_dirty_.end());
    pending_dirty_.clear();
    std::move(pending_dead_.begin(), pending_dead_.end(), std::back_inserter(dead_));
    pending_dead_.clear();
    for (Producer* producer : dirty_producers_) {
        producer->dirty = false;
        committing_producers_.push_back({producer->id, producer->decided, producer->life});
        batch.watermarks.push_back({.producer = producer->id,
                                    .sequence = producer->decided,
                                    .refusals = {producer->refusals.begin(), producer->refusals.end()},
                                    .seen = now.wall,
                                    .life = producer->life});
    }
    dirty_producers_.clear();
}

store::TopicBatch Queue::gather(Now now, bool room) {
    store::TopicBatch batch{.topic = name_, .accepted_at = now.wall};
    gathered_from_ = pending_first();
    if (room || pending_.empty()) gather_pending(batch, now);
    batch.next_offset = pending_first();  // what is below and not stored counts as settled, in the next life as well

    batch.settled = ranges(settled_);
    settled_.clear();
    std::sort(dirty_.begin(), dirty_.end());
    for (const Offset dirty : dirty_) {
        const auto it = entries_.find(dirty);
        if (it == entries_.end()) continue;
        Entry& entry = it->second;
        entry.dirty = false;
        const auto holder = consumers_.find(entry.holder);
        batch.marks.push_back({.offset = dirty,
                               .token = entry.token,
                               .attempts = entry.attempts,
                               .deaths = entry.deaths,
                               .suspect = entry.suspect,
                               .isolate = entry.isolate,
                               .holder = holder == consumers_.end() ? Identity{} : holder->second.incarnation,
                               .due = entry.where == Where::waiting ? entry.due : Wall{},
                               .first_failure = entry.first_failure});
    }
    dirty_.clear();
    batch.dead = std::exchange(dead_, {});
    batch.purged = std::exchange(purged_, {});
    for (const store::Redrive& redrive : batch.redrives) leaving_committing_.push_back(redrive.dead);
    leaving_committing_.insert(leaving_committing_.end(), batch.purged.begin(), batch.purged.end());
    std::erase_if(forgotten_, [this](const Identity& id) { return producers_.contains(id); });  // back meanwhile
    batch.forgotten = std::exchange(forgotten_, {});
    changed_since_.reset();
    return batch;
}

void Queue::committed() {
    committing_bytes_ = 0;
    for (const Committing& one : committing_producers_) {
        const auto it = producers_.find(one.id);
        if (it == producers_.end()) continue;
        it->second.stored = std::max(it->second.stored, one.sequence);
        it->second.stored_life = one.life;
    }
    committing_producers_.clear();
    for (const Offset offset : leaving_committing_) leaving_.erase(offset);
    leaving_committing_.clear();
}

void Queue::take_back(const store::TopicBatch& batch, Now now) {
    take_back_pending(batch);
    // What has happened to these messages since is to be written with them again.
    for (const Offset offset : std::exchange(settled_, {})) write_settled(offset);
    for (const Offset offset : std::exchange(dirty_, {})) write_mark(offset);
    for (store::DeadLetter& letter : std::exchange(dead_, {})) write_dead(std::move(letter));

    for (const store::OffsetRange& range : batch.settled) {
        for (Offset offset = range.first; offset <= range.last; ++offset) write_settled(offset);
    }
    for (const store::Mark& mark : batch.marks) {
        const auto it = entries_.find(mark.offset);
        if (it != entries_.end()) touch(mark.offset, it->second, now);
    }
    for (const store::DeadLetter& letter : batch.dead) write_dead(letter);
    purged_.insert(purged_.end(), batch.purged.begin(), batch.purged.end());
    leaving_committing_.clear();
    for (const Committing& one : committing_producers_) {
        const auto it = producers_.find(one.id);
        if (it != producers_.end()) write_watermark(it->second);
    }
    committing_producers_.clear();
    forgotten_.insert(forgotten_.end(), batch.forgotten.begin(), batch.forgotten.end());
    changed(now);
}

void Queue::take_back_pending(const store::TopicBatch& batch) {
    std::vector<Pending> pending(batch.next_offset - gathered_from_, Pending{.done = true});
    for (const store::Redrive& one : batch.redrives) pending[one.offset - gathered_from_] = {.redrive_of = one.dead};
    for (const store::Append& one : batch.appends) {
        pending[one.offset - gathered_from_] = {.envelope = one.envelope,
                                                .redrives = one.redrives,
                                                .maybe_duplicate = one.maybe_duplicate,
                                                .expires_at = one.expires_at};
        const auto it = entries_.find(one.offset);
        if (it == entries_.end() || it->second.where != Where::ready || !it->second.body.empty()) continue;
        keep_body(it->second, one.envelope);  // the store cannot be asked for it
    }
    std::move(pending_.begin(), pending_.end(), std::back_inserter(pending));
    pending_ = std::move(pending);
    pending_bytes_ += std::exchange(committing_bytes_, 0);
}

void Queue::wanted_reads(std::vector<store::Read>& reads) {
    if (reading_) return;
    if (starved_) {
        // What is next in turn is fetched however full the window is: nothing leaves it before that has been delivered.
        const std::size_t limit = window_used_ < defaults::window_bytes ? fetch_limit : 1;
        const auto want = [&](Offset offset) {
            const auto it = entries_.find(offset);
            if (it != entries_.end() && it->second.where == Where::ready && it->second.body.empty()) {
                fetching_.push_back(offset);
            }
        };
        const auto some = [&](const auto& offsets) {
            std::size_t seen = 0;
            for (auto it = offsets.begin(); it != offsets.end() && seen < limit; ++it, ++seen) want(*it);
        };
        some(suspects_);
        some(returned_);
        some(fresh_);
        for (const auto& range : ranges(fetching_)) {
            reads.push_back({.topic = name_,
                             .from = range.first,
                             .to = range.last,
                             .max_messages = range.last - range.first + 1,
                             .max_bytes = defaults::window_bytes});
            reading_ = true;
        }
    }
    if (loaded_to_ < pending_first() && ready_ < defaults::window_messages / 2 && has_track_room()) {
        reads.push_back({.topic = name_,
                         .from = loaded_to_,
                         .to = pending_first() - 1,
                         .max_messages = std::min(defaults::window_messages - static_cast<std::size_t>(ready_),
                                                  defaults::tracked_messages - entries_.size()),
                         .max_bytes = defaults::window_bytes - static_cast<std::size_t>(window_used_)});
        reading_ = true;
    }
}

void Queue::load_mark(Offset offset, Entry& entry, const store::Mark& mark, Now now) {
    entry.token = mark.token;
    entry.attempts = mark.attempts;
    entry.deaths = mark.deaths;
    entry.suspect = mark.suspect;
    entry.isolate = mark.isolate;
    entry.first_failure = mark.first_failure;
    if (!mark.holder.is_zero()) {
        const ConsumerId id = consumer_of(mark.holder, now);
        Consumer& consumer = consumers_[id];
        lease(id, consumer, offset, entry, now);
        if (entry.suspect) consumer.holds_suspects = true;
    } else if (mark.due > now.wall) {
        // Clamped: a wall clock that was set back must not make a retry wait longer than any backoff could.
        const Duration wait = std::min<Duration>(mark.due - now.wall, std::chrono::hours{24 * 365});
        entry.where = Where::waiting;
        entry.since = now.mono + wait;
        entry.due = mark.due;
        waiting_.emplace(entry.since, offset);
    }
}

void Queue::load_one(store::StoredMessage& message, Now now) {
    Entry& entry = track(message.offset);
    entry.size = message.size;
    entry.redrives = message.redrives;
    entry.maybe_duplicate = message.maybe_duplicate;
    entry.accepted = message.accepted_at;
    if (!durable_) {
        if (const auto routing = envelope::read_routing(message.envelope.view())) {
            const auto producer = producers_.find(routing->producer);
            if (producer != producers_.end()) {
                entry.producer = &producer->second;
                entry.sequence = routing->sequence;
                ++producer->second.unsettled;
            }
        }
    }
    if (message.expires_at != Wall{}) {
        // Clamped: a wall clock that was set back must not make a life longer than it was at its start.
        const auto left = std::min(message.expires_at - now.wall, message.expires_at - message.accepted_at);
        entry.expires = now.mono + std::max<Duration>(left, Duration::zero());
    }
    if (message.mark) load_mark(message.offset, entry, *message.mark, now);
    if (entry.where != Where::leased) watch_expiry(message.offset, entry);
    if (entry.where != Where::ready) return;
    ++ready_;
    if (!message.envelope.empty()) keep_body(entry, std::move(message.envelope));
    if (entry.suspect) {
        suspects_.insert(message.offset);
    } else if (entry.token > 0) {
        returned_.insert(message.offset);
    } else {
        fresh_.push_back(message.offset);
    }
}

void Queue::loaded(store::ReadResult result, Now now) {
    for (store::StoredMessage& message : result.messages) {
        if (message.offset >= loaded_to_) {
            load_one(message, now);
            continue;
        }
        const auto it = entries_.find(message.offset);
        if (it == entries_.end() || it->second.where != Where::ready || !it->second.body.empty()) continue;
        keep_body(it->second, std::move(message.envelope));
    }
    for (const store::Damage& damage : result.damage) lost_damaged(damage);
    loaded_to_ = std::max(loaded_to_, result.next);
    skip_forgotten();
}

void Queue::reads_done(Now now) {
    reading_ = false;
    starved_ = false;
    for (const Offset offset : fetching_) {
        const auto it = entries_.find(offset);
        if (it == entries_.end() || it->second.where != Where::ready || !it->second.body.empty()) continue;
        lost_damaged({.topic = name_, .range = {offset, offset}, .messages = 1, .what = "not found in the store"});
        settled_.push_back(offset);
        changed(now);
    }
    fetching_.clear();
}

void Queue::reads_dropped() {
    reading_ = false;
    fetching_.clear();
}

// Reading has caught up with what is not stored yet: from here on new messages need no detour over the store.
void Queue::adopt_pending(Now now) {
    while (loaded_to_ < next_offset_ && loaded_to_ >= pending_first() && has_track_room()) {
        const Offset offset = loaded_to_;
        Pending& pending = pending_[offset - pending_first()];
        if (pending.redrive_of != 0) return;  // its bytes are still among the dead letters
        store::StoredMessage message{.offset = offset,
                                     .envelope = pending.envelope,
                                     .size = static_cast<std::uint32_t>(pending.envelope.size()),
                                     .redrives = pending.redrives,
                                     .maybe_duplicate = pending.maybe_duplicate,
                                     .accepted_at = now.wall,
                                     .expires_at = pending.expires_at,
                                     .mark = {}};
        load_one(message, now);
    }
}

void Queue::lost_damaged(const store::Damage& damage) {
    emit(Event::Kind::damaged, store::describe(damage), damage.messages);
    std::vector<Offset> gone;
    std::uint64_t tracked = 0;
    for (const auto& [offset, entry] : entries_) {
        if (offset < damage.range.first || offset > damage.range.last) continue;
        ++tracked;
        if (entry.where != Where::leased) gone.push_back(offset);  // whoever works on it may still settle it
    }
    for (const Offset offset : gone) {
        const auto it = entries_.find(offset);
        leave_line(offset, it->second);
        erase(it);
    }
    if (damage.messages > tracked) messages_ -= std::min(messages_, damage.messages - tracked);
}

void Queue::start_somewhere(std::uint64_t random) {
    constexpr unsigned dropped_bits = 40;  // 2^24 places, as far apart as the lives of one store
    next_offset_ = loaded_to_ = 1 + (random >> dropped_bits) * forgotten_offsets;
}

void Queue::recover(const store::RecoveredTopic& topic, Now now) {
    next_offset_ = topic.next_offset + forgotten_offsets;
    former_end_ = topic.next_offset;
    former_begin_ = former_end_ - std::min(former_end_, last_life_offsets);
    loaded_to_ = topic.first;
    marked_to_ = topic.marked;
    messages_ = topic.messages;
    bytes_ = topic.bytes;
    dead_count_ = topic.dead;
    dead_bytes_ = topic.dead_bytes;
    if (topic.messages > 0) recovered_oldest_ = topic.oldest;
    for (const store::Watermark& mark : topic.watermarks) {
        Producer& producer = producers_[mark.producer];
        producer.id = mark.producer;
        producer.decided = producer.stored = mark.sequence;
        producer.refusals.assign(mark.refusals.begin(), mark.refusals.end());
        producer.seen = mark.seen;
        producer.life = producer.stored_life = mark.life;
        producer.known = true;
    }
    if (!producers_.empty()) forget_at_ = now.mono + 1h;
    skip_forgotten();
}

void Queue::skip_forgotten() {
    if (loaded_to_ == former_end_) loaded_to_ += forgotten_offsets;
}

std::optional<store::Read> Queue::wanted_recovery() const {
    // Beyond the last mark there may be deliveries that were never written down: consumers come back with those.
    const bool marks = loaded_to_ <= marked_to_ && entries_.size() < defaults::tracked_messages;
    const bool unmarked = loaded_to_ < former_end_ && entries_.size() < defaults::prefetch_max;
    if (!marks && !unmarked) return std::nullopt;
    return store::Read{.topic = name_,
                       .from = loaded_to_,
                       .to = former_end_ - 1,
                       .max_messages = defaults::prefetch_max,
                       .max_bytes = std::numeric_limits<std::size_t>::max(),
                       .bodies = false};
}

bool Queue::redrive(const store::StoredDeadLetter& letter, Now now) {
    if (!leaving_.insert(letter.record.offset).second) return false;
    pending_.push_back({.envelope = {}, .redrive_of = letter.record.offset});
    ++next_offset_;
    ++messages_;
    bytes_ += letter.envelope.size();
    --dead_count_;
    dead_bytes_ -= letter.envelope.size();
    changed(now);
    return true;
}

bool Queue::purge(const store::StoredDeadLetter& letter, Now now) {
    if (!leaving_.insert(letter.record.offset).second) return false;
    purged_.push_back(letter.record.offset);
    --dead_count_;
    dead_bytes_ -= letter.envelope.size();
    changed(now);
    return true;
}

}  // namespace posthorn::queue
