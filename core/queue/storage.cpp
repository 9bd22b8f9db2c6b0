// What the queue gives to its store and takes from it.
#include <algorithm>

#include "queue/queue.hpp"

namespace posthorn::queue {

namespace {

std::vector<store::OffsetRange> ranges(std::vector<Offset>& offsets) {
    std::vector<store::OffsetRange> out;
    for (const SequenceRange& range : to_ranges(offsets)) out.push_back({range.first, range.last});
    return out;
}

}  // namespace

void Queue::keep_body(Entry& entry, Slice body) {
    if (is_log_) return;
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
    if (letter.offset < pending_first()) {
        dead_.push_back(std::move(letter));
        return;
    }
    pending_[letter.offset - pending_first()].dead = true;
    pending_dead_.push_back(std::move(letter));
}

void Queue::write_watermark(Producer& producer) {
    if (live_ || producer.dirty) return;
    producer.dirty = true;
    dirty_producers_.push_back(&producer);
}

bool Queue::has_changes(bool room) const {
    if (live_) return false;
    if (!settled_.empty() || !dirty_.empty() || !dead_.empty() || !purged_.empty() || !forgotten_.empty()) return true;
    if (dedup_.is_over() || !strict_stored_ || record_ || vanishing_) return true;
    if (room && (!edits_.empty() || !answered_.empty())) return true;
    return has_appends() ? room : !dirty_producers_.empty();
}

void Queue::gather_pending(store::TopicBatch& batch, Now now) {
    Offset offset = pending_first();
    batch.appends.reserve(pending_.size());
    for (Pending& pending : pending_) {
        if (pending.redrive_of != 0) {
            batch.redrives.push_back({pending.redrive_of, offset, pending.terms});
        } else if (!pending.done) {
            batch.appends.push_back(
                {offset, std::move(pending.envelope), pending.redrives, pending.maybe_duplicate, pending.terms});
        }
        ++offset;
    }
    if (durable_) batch.dedup_keys = dedup_.from(unstored_first());
    pending_.clear();
    passed_from_ = 0;
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
    committing_ = true;
    if (vanishing_) {
        batch.gone = true;
        return batch;
    }
    if (topic_ != nullptr) {
        batch.share = topic_->name_;
        if (!pending_.empty()) skip_to(topic_->next_offset_);  // so far it can share (see TopicBatch::share)
    }
    gathered_from_ = unstored_first();
    if (room || !has_appends()) gather_pending(batch, now);
    batch.next_offset = unstored_first();  // what is below and not stored counts as settled, in the next life as well

    if (room) answered_committing_ = std::exchange(answered_, {});
    settled_.insert(settled_.end(), answered_committing_.begin(), answered_committing_.end());
    batch.settled = ranges(settled_);
    settled_.clear();
    std::sort(dirty_.begin(), dirty_.end());
    for (const Offset dirty : dirty_) {
        const auto it = entries_.find(dirty);
        if (it == entries_.end()) continue;
        Entry& entry = it->second;
        entry.dirty = false;
        if (entry.where == Where::unanswered) continue;  // until it is settled it stays with its last consumer
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
    if (room) batch.edits = std::exchange(edits_, {});
    for (const store::Edit& edit : batch.edits) claimed_committing_.push_back(edit.dead);
    for (const store::Redrive& redrive : batch.redrives) claimed_committing_.push_back(redrive.dead);
    claimed_committing_.insert(claimed_committing_.end(), batch.purged.begin(), batch.purged.end());
    if (policy_.dlq_when_full == DlqWhenFull::drop_oldest &&
        (policy_.dlq_max_messages != 0 || policy_.dlq_max_bytes != 0)) {
        batch.dead_bound = {policy_.dlq_max_messages, policy_.dlq_max_bytes, claimed_};
        for (const Offset offset : claimed_committing_) batch.dead_bound->keep.erase(offset);
    }
    std::erase_if(forgotten_, [this](const Identity& id) { return producers_.contains(id); });  // back meanwhile
    batch.forgotten = std::exchange(forgotten_, {});
    batch.dedup_gone = dedup_.take_gone(next_offset_);
    batch.strict = !std::exchange(strict_stored_, true);
    batch.subscription = std::exchange(record_, std::nullopt);
    changed_since_.reset();
    return batch;
}

void Queue::committed() {
    committing_ = false;
    answered_committing_.clear();
    committing_bytes_ = 0;
    for (const Committing& one : committing_producers_) {
        const auto it = producers_.find(one.id);
        if (it == producers_.end()) continue;
        it->second.stored = std::max(it->second.stored, one.sequence);
        it->second.stored_life = one.life;
    }
    committing_producers_.clear();
    for (const Offset offset : claimed_committing_) claimed_.erase(offset);
    claimed_committing_.clear();
    evict_waiting();
}

void Queue::take_back(const store::TopicBatch& batch, Now now) {
    committing_ = false;
    if (vanishing_) return;
    take_back_pending(batch);
    // What has happened to these messages since is to be written with them again.
    for (const Offset offset : std::exchange(settled_, {})) write_settled(offset);
    for (const Offset offset : std::exchange(answered_, {})) write_answered(offset);
    for (const Offset offset : std::exchange(dirty_, {})) write_mark(offset);
    for (store::DeadLetter& letter : std::exchange(dead_, {})) write_dead(std::move(letter));

    const std::set<Offset> answered{answered_committing_.begin(), answered_committing_.end()};
    answered_committing_.clear();
    for (const store::OffsetRange& range : batch.settled) {
        for (Offset offset = range.first; offset <= range.last; ++offset) {
            if (answered.contains(offset)) {
                write_answered(offset);
            } else {
                write_settled(offset);
            }
        }
    }
    for (const store::Mark& mark : batch.marks) {
        const auto it = entries_.find(mark.offset);
        if (it != entries_.end()) touch(mark.offset, it->second, now);
    }
    for (const store::DeadLetter& letter : batch.dead) write_dead(letter);
    purged_.insert(purged_.end(), batch.purged.begin(), batch.purged.end());
    edits_.insert(edits_.end(), batch.edits.begin(), batch.edits.end());
    claimed_committing_.clear();
    for (const Committing& one : committing_producers_) {
        const auto it = producers_.find(one.id);
        if (it != producers_.end()) write_watermark(it->second);
    }
    committing_producers_.clear();
    forgotten_.insert(forgotten_.end(), batch.forgotten.begin(), batch.forgotten.end());
    if (batch.strict) strict_stored_ = false;
    if (batch.subscription && !record_) record_ = batch.subscription;
    if (batch.dedup_gone != 0) dedup_.untake_gone();  // the keys are gathered again with their messages
    changed(now);
}

void Queue::take_back_pending(const store::TopicBatch& batch) {
    if (is_topic_) {
        if (batch.next_offset > gathered_from_) passed_from_ = gathered_from_;
        pending_bytes_ += std::exchange(committing_bytes_, 0);
        return;
    }
    std::vector<Pending> pending(batch.next_offset - gathered_from_, Pending{.done = true});
    for (const store::Redrive& one : batch.redrives)
        pending[one.offset - gathered_from_] = {.redrive_of = one.dead, .terms = one.terms};
    for (const store::Append& one : batch.appends) {
        pending[one.offset - gathered_from_] = {.envelope = one.envelope,
                                                .redrives = one.redrives,
                                                .maybe_duplicate = one.maybe_duplicate,
                                                .terms = one.terms};
        const auto it = entries_.find(one.offset);
        if (it == entries_.end() || !it->second.shown || !it->second.body.empty()) continue;
        keep_body(it->second, one.envelope);  // the store cannot be asked for it
    }
    std::move(pending_.begin(), pending_.end(), std::back_inserter(pending));
    pending_ = std::move(pending);
    pending_bytes_ += std::exchange(committing_bytes_, 0);
}

void Queue::lost_damaged(const store::Damage& damage) {
    emit(Event::Kind::damaged, store::describe(damage), damage.messages);
    if (damage.dead) {
        dead_count_ -= std::min(dead_count_, damage.messages);
        dead_bytes_ -= std::min(dead_bytes_, damage.dead_bytes);
        return;
    }
    std::vector<Offset> gone;
    std::uint64_t tracked = 0;
    for (const auto& [offset, entry] : entries_) {
        if (offset < damage.range.first || offset > damage.range.last) continue;
        ++tracked;
        if (entry.where != Where::leased) gone.push_back(offset);  // whoever works on it may still settle it
    }
    for (const Offset offset : gone) {
        const auto it = entries_.find(offset);
        unwatch_expiry(offset, it->second);
        leave_line(offset, it->second);
        erase(it);
    }
    if (damage.messages > tracked) messages_ -= std::min(messages_, damage.messages - tracked);
}

bool Queue::redrive(const store::StoredDeadLetter& letter, Now now) {
    if (!claimed_.insert(letter.record.offset).second) return false;
    store::Terms terms;
    if (const auto routing = envelope::read_routing(letter.envelope.view()); routing && !is_strict()) {
        terms.key = store::key_of(routing->ordering_key);
        terms.priority = static_cast<std::uint8_t>(priority_in_line(terms.key, routing->priority));
    }
    count_keyed(terms.key, terms.priority);
    backlog_.add(
        {.offset = next_offset_, .priority = terms.priority, .key = terms.key, .expires = end_of_age(now.wall, now)});
    pending_.push_back({.envelope = {}, .redrive_of = letter.record.offset, .terms = terms});
    latest_ = next_offset_++;
    ++messages_;
    bytes_ += letter.envelope.size();
    --dead_count_;
    dead_bytes_ -= letter.size();
    changed(now);
    return true;
}

bool Queue::purge(const store::StoredDeadLetter& letter, Now now) {
    if (!claimed_.insert(letter.record.offset).second) return false;
    purged_.push_back(letter.record.offset);
    --dead_count_;
    dead_bytes_ -= letter.size();
    changed(now);
    return true;
}

Queue::Edited Queue::edit(const store::StoredDeadLetter& letter, Slice envelope, Now now) {
    if (claimed_.contains(letter.record.offset)) return Edited::claimed;
    const std::uint64_t gone = letter.original ? letter.envelope.size() : 0;  // else that is the original from now on
    const std::uint64_t most = dead_take_room() ? policy_.max_bytes : policy_.dlq_max_bytes;
    const std::uint64_t used = dead_take_room() ? used_bytes() : dead_bytes_;  // no message makes room for an edit
    if (!durable_ && envelope.size() > gone && used + envelope.size() - gone > most) return Edited::no_room;
    claimed_.insert(letter.record.offset);
    dead_bytes_ += envelope.size();
    dead_bytes_ -= gone;
    edits_.push_back({letter.record.offset, std::move(envelope)});
    changed(now);
    return Edited::yes;
}

}  // namespace posthorn::queue
