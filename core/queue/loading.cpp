// What is in the store and not in memory: when it is read, and where it goes then. Messages that wait for their turn
// are read on in order, those of the highest priority first; those that wait for a time when it has come; those of a
// busy key when it has few left in memory.
#include <algorithm>
#include <chrono>
#include <limits>
#include <unordered_set>

#include "queue/queue.hpp"

namespace posthorn::queue {

namespace {

constexpr std::size_t fetch_limit = 256;   // bodies asked for at once
constexpr std::size_t blocks_at_once = 3;  // read for their turn: more than half a window
constexpr std::size_t blocks_learned_at_once = 4;
constexpr std::size_t eviction_steps = 10'000;
// A life that ends may have delivered messages it had not stored yet; their offsets must never name others. There are
// fewer of them than bytes of publish credit.
constexpr Offset forgotten_offsets = Offset{1} << 26U;
// So much of what was stored last was given out by the last life. What is older may be of a life before, and then
// nobody knows whether it was ever stored.
constexpr Offset last_life_offsets = forgotten_offsets / 2;
static_assert(forgotten_offsets - last_life_offsets >= defaults::credit_bytes);
constexpr Duration longest_retry = std::chrono::hours{24 * 365};

}  // namespace

std::size_t Queue::ready_from(unsigned priority) const {
    if (priority == 0) return ready_ - suspects_.size();
    std::size_t count = 0;
    for (; priority <= priority_limit; ++priority) count += ready_of_.at(priority);
    return count;
}

// Lower priorities take no room from higher ones.
bool Queue::has_track_room(unsigned priority) const {
    if (entries_.size() >= tracked_most() || ready_from(priority) >= limits_.ready) return false;
    return window_used_ < limits_.bytes || ready_from(priority) == 0;
}

std::size_t Queue::tracked_most() const {
    return durable_ ? limits_.tracked : std::numeric_limits<std::size_t>::max();
}

// Whether messages of this priority or above wait for their turn in the store.
bool Queue::has_turns_behind(unsigned priority) const {
    return backlog_.has_turns(priority) || (reading_.priorities >> priority) != 0;
}

// Whether messages above this priority are being read, or are about to be: those below wait for them.
bool Queue::is_higher_on_its_way(unsigned priority) const {
    if ((reading_.priorities >> (priority + 1)) != 0) return true;
    return backlog_.has_turns(priority + 1) && has_track_room(backlog_.highest().value_or(0));
}

// Whether a message whose delay is over may be in memory at once: others of its key, or in a strict queue any others,
// may be in the store, before it.
bool Queue::may_join(Offset offset, std::uint64_t key, unsigned priority) const {
    if (is_strict()) return !may_be_behind_stored(offset);
    return key == 0 || !has_turns_behind(priority);
}

// Whether something before it may wait in the store for nothing but its turn.
bool Queue::may_be_behind_stored(Offset offset) const {
    if (!reading_.taken.empty() && reading_.taken.front().second.first < offset) return true;
    const auto number = backlog_.first_of(0);
    return number && backlog_.find(*number)->first < offset;
}

bool Queue::can_read_on(unsigned priority) const {
    return has_track_room(priority) && ready_from(priority) < limits_.ready / 2;
}

bool Queue::has_ready() const {
    return ready_ > 0 || has_turns_behind(0);
}

// When it may be delivered. Clamped: a wall clock that was set back must not make anything wait longer than it would
// have at first.
Mono Queue::due_of(const store::StoredMessage& message, Now now) {
    const Wall due = message.mark ? message.mark->due : message.terms.due;
    if (due <= now.wall) return Mono::min();
    const Duration most = message.mark ? longest_retry : Duration{due - message.accepted_at};
    return now.mono + std::min<Duration>(due - now.wall, most);
}

Mono Queue::expiry_of(const store::StoredMessage& message, Now now) {
    const Wall at = message.terms.expires_at;
    if (at == Wall{}) return never;
    const auto left = std::min(at - now.wall, at - message.accepted_at);
    return now.mono + std::max<Duration>(left, Duration::zero());
}

// Of what was accepted then: clamped as well.
Mono Queue::end_of_age(Wall accepted, Now now) const {
    if (policy_.max_age == Duration::zero()) return never;
    const auto left = std::min<Duration>(accepted - now.wall + policy_.max_age, policy_.max_age);
    return now.mono + std::max(left, Duration::zero());
}

void Queue::age(Backlog::Message& place, Mono end) {
    place.ages = end < place.expires;
    place.expires = std::min(place.expires, end);
}

// What a message that is in no memory is, as the backlog sees it; `waits_for` is then decided.
Backlog::Message Queue::untracked(const store::StoredMessage& message, Mono due, Now now) const {
    Backlog::Message place{.offset = message.offset,
                           .waits_for = due > now.mono ? Backlog::For::time : Backlog::For::turn,
                           .priority = message.terms.priority,
                           .key = message.terms.key,
                           .due = due,
                           .expires = expiry_of(message, now)};
    age(place, end_of_age(message.accepted_at, now));
    return place;
}

// Whether a new message may be kept in memory; if not it stays where it is, in `place`.
bool Queue::has_memory_for(Backlog::Message& place, Now now) {
    const bool may_wait = waiting_.size() < limits_.waiting;
    if (place.waits_for == Backlog::For::time) return may_wait && place.due - now.mono <= limits_.waiting_soon;
    if (!line_has_room(place.key, false)) {
        place.waits_for = Backlog::For::key;
        return false;
    }
    return !has_turns_behind(place.priority) && has_track_room(place.priority);
}

// Whether a message that was read is to be kept in memory; if not it stays where it is, in `behind`.
bool Queue::is_wanted(const store::StoredMessage& message, Backlog::Message& behind, Now now) {
    const bool delivered = message.mark && message.mark->token > 0;
    if (message.mark && (!message.mark->holder.is_zero() || message.mark->suspect)) return true;
    if (behind.expires <= now.mono) return true;
    if (behind.waits_for == Backlog::For::time) {
        const bool in_line = delivered && (behind.key != 0 || failures_hold_up());  // those behind it have to know
        // By a wall clock that was set back it would never be due: what was read off it once has to be kept.
        const bool clock_is_wrong = message.accepted_at > now.wall;
        const bool may_wait = waiting_.size() < limits_.waiting;
        return in_line || (may_wait && (clock_is_wrong || behind.due - now.mono <= limits_.waiting_soon));
    }
    const bool reading_on = reading_.why == Why::key && behind.key == reading_.key;
    const bool was_later =
        delivered || (message.terms.due != Wall{} && may_join(message.offset, behind.key, behind.priority));
    const bool wanted = (reading_.why == Why::turn && behind.priority == reading_.priority) || reading_on ||
                        (reading_.why == Why::due && was_later);
    if (!line_has_room(behind.key, reading_on)) {
        behind.waits_for = Backlog::For::key;
        return false;
    }
    return wanted && (reading_on || has_track_room(behind.priority));
}

void Queue::place(store::StoredMessage& message, Now now) {
    if (reading_.why == Why::learn) count_keyed(message.terms.key, message.terms.priority);
    Backlog::Message behind = untracked(message, due_of(message, now), now);
    if (reading_.makes_room && makes_way(message, behind, now)) return;
    if (is_wanted(message, behind, now)) {
        track_stored(message, behind, now);
    } else {
        backlog_.add(behind);
    }
}

void Queue::track_stored(store::StoredMessage& message, const Backlog::Message& place, Now now) {
    Entry& entry = entries_.try_emplace(message.offset).first->second;
    entry.size = message.size;
    entry.redrives = message.redrives;
    entry.maybe_duplicate = message.maybe_duplicate;
    entry.accepted = message.accepted_at;
    entry.key = place.key;
    entry.priority = static_cast<std::uint8_t>(place.priority);
    entry.expires = place.expires;
    entry.ages = place.ages;
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
    if (message.mark) {
        const store::Mark& mark = *message.mark;
        entry.token = mark.token;
        entry.attempts = mark.attempts;
        entry.deaths = mark.deaths;
        entry.suspect = mark.suspect;
        entry.isolate = mark.isolate;
        entry.first_failure = mark.first_failure;
        if (!mark.holder.is_zero()) {
            const ConsumerId id = consumer_of(mark.holder, now);
            Consumer& consumer = consumers_[id];
            lease(id, consumer, message.offset, entry, now);
            if (entry.suspect) consumer.holds_suspects = true;
            return;
        }
    }
    watch_expiry(message.offset, entry);
    if (place.waits_for == Backlog::For::time) {
        const Wall due = message.mark ? message.mark->due : message.terms.due;
        wait_until(message.offset, entry, place.due, due);
        return;
    }
    make_ready(message.offset, entry);
    if (entry.shown && entry.body.empty() && !message.envelope.empty()) keep_body(entry, std::move(message.envelope));
}

void Queue::wait_until(Offset offset, Entry& entry, Mono due, Wall due_wall) {
    entry.where = Where::waiting;
    entry.since = due;
    entry.due = due_wall;
    waiting_.emplace(due, offset);
    if (entry.token > 0 && failures_hold_up()) holding_up_.insert(offset);
    if (entry.key != 0 && entry.token > 0) {
        ++lines_[entry.key].out;
        refresh_line(entry.key);
    }
}

// Its time has come.
void Queue::wake(Offset offset, Entry& entry) {
    const bool joins = entry.token == 0;
    leave_line(offset, entry);
    entry.due = {};
    if (!joins || (may_join(offset, entry.key, entry.priority) && line_has_room(entry.key, false))) {
        make_ready(offset, entry);
        return;
    }
    unwatch_expiry(offset, entry);
    if (entry.producer != nullptr) --entry.producer->unsettled;
    forget_request(offset);
    backlog_.add({.offset = offset, .priority = entry.priority, .key = entry.key, .expires = entry.expires});
    entries_.erase(offset);
}

// Messages that wait long may go back to where they are stored, once all that is known of them is stored as well.
void Queue::evict_waiting() {
    if (!durable_) return;
    auto it = waiting_.end();
    for (std::size_t steps = 0; waiting_.size() > limits_.waiting && it != waiting_.begin() && steps < eviction_steps;
         ++steps) {
        --it;
        const auto [due, offset] = *it;
        const auto found = entries_.find(offset);
        const Entry& entry = found->second;
        if (entry.dirty || entry.key != 0 || offset >= pending_first() || holding_up_.contains(offset)) continue;
        backlog_.add({.offset = offset,
                      .waits_for = Backlog::For::time,
                      .priority = entry.priority,
                      .due = due,
                      .expires = entry.expires});
        unwatch_expiry(offset, entry);
        forget_request(offset);
        entries_.erase(found);
        it = waiting_.erase(it);
    }
}

// Reading ----------------------------------------------------------------------------------------------------------

// What is to be read next, and the number of the first block of it; nothing: there is nothing, or no room.
std::optional<Offset> Queue::next_reading(Now now, Reading& next) {
    next = {};
    const auto due = next_in_backlog() > now.mono ? std::nullopt : backlog_.first_due(now.mono);
    if (due && backlog_.find(*due)->first < spared_from_) {
        next.why = Why::due;
        return due;
    }
    while (!hungry_.empty()) {
        next.why = Why::key;
        next.key = *hungry_.begin();
        hungry_.erase(hungry_.begin());
        if (const auto number = backlog_.first_with(next.key)) return number;
        const auto line = lines_.find(next.key);
        if (line == lines_.end()) continue;
        line->second.more = false;
        refresh_line(next.key);
    }
    const auto highest = backlog_.highest();
    if (!highest || !can_read_on(*highest)) return std::nullopt;
    next.why = Why::turn;
    next.priority = *highest;
    return backlog_.first_of(*highest);
}

std::optional<Offset> Queue::reading_for_room(Reading& next) const {
    next = {.why = Why::room};
    if (!makes_room_) return std::nullopt;
    const Offset oldest = oldest_in_backlog();
    const bool in_memory = !idle_.empty() && *idle_.begin() < oldest;
    return !in_memory && may_go(oldest) ? backlog_.lowest() : std::nullopt;
}

void Queue::take_block(Offset number) {
    const Backlog::Block block = backlog_.take(number);
    reading_.priorities |= block.priorities;
    reading_.taken.emplace_back(number, block);
}

void Queue::read_blocks(std::vector<store::Read>& reads, Now now) {
    if (!begin_reading(true, now)) return;
    const Offset end = pending_first() - 1;
    const bool by_turn = reading_.why == Why::turn;
    std::uint16_t priorities = 0;
    if (reading_.why == Why::due) priorities = std::numeric_limits<std::uint16_t>::max();
    if (by_turn) priorities = static_cast<std::uint16_t>(1U << reading_.priority);
    while (by_turn && reading_.taken.size() < blocks_at_once) {
        const Offset next = reading_.taken.back().first + 1;
        if (backlog_.first_of(reading_.priority) != next || backlog_.begin_of(next) > end) break;
        take_block(next);
    }
    reading_.to = std::min(backlog_.end_of(reading_.taken.back().first), end);
    reading_.known_to = next_offset_ - 1;
    store::Read read{
        .topic = name_, .from = reading_.taken.front().second.first, .to = reading_.to, .bodies = !is_log_};
    if (durable_) {
        const std::uint64_t keys = reading_.key == 0 ? 0 : std::uint64_t{1} << store::key_group(reading_.key);
        read.max_messages = limits_.ready - std::min(ready_from(reading_.priority), limits_.ready);
        read.max_bytes = limits_.bytes - std::min<std::size_t>(window_used_, limits_.bytes);
        read.select = {.priorities = priorities, .keys = keys, .now = now.wall};
    } else {  // it is in memory already, and says which producer to tell
        read.max_messages = read.max_bytes = std::numeric_limits<std::size_t>::max();
    }
    reads.push_back(std::move(read));
}

// Takes what is next out of the backlog: from pending_ at once what is not stored yet. True: a block that is, to be
// read.
bool Queue::begin_reading(bool stored, Now now) {
    for (;;) {
        Reading next;
        auto number = room_first_ ? reading_for_room(next) : next_reading(now, next);
        if (!number) number = room_first_ ? next_reading(now, next) : reading_for_room(next);
        if (!number) return false;
        const bool is_stored = backlog_.find(*number)->first < pending_first();
        if (is_stored && !stored) {
            if (next.key != 0) hungry_.insert(next.key);
            return false;
        }
        reading_ = next;
        reading_.makes_room = makes_room_;
        room_first_ = next.why != Why::room;
        take_block(*number);
        if (is_stored) return true;
        const bool taken = adopt_pending(backlog_.begin_of(*number), backlog_.end_of(*number), now);
        reading_ = {};
        if (!taken) return false;  // what it waits for is in the next commit
    }
}

// Of the part of a block that is not stored yet. False: nothing of it could be taken.
bool Queue::adopt_pending(Offset from, Offset to, Now now) {
    const std::size_t tracked = entries_.size();
    const Offset end = std::min(to, next_offset_ - 1);
    for (Offset offset = std::max(from, pending_first()); offset <= end; ++offset) {
        const Pending& pending = pending_[offset - pending_first()];
        if (pending.done || pending.dead || entries_.contains(offset)) continue;
        store::StoredMessage message{.offset = offset,
                                     .envelope = pending.envelope,
                                     .size = static_cast<std::uint32_t>(pending.envelope.size()),
                                     .redrives = pending.redrives,
                                     .maybe_duplicate = pending.maybe_duplicate,
                                     .accepted_at = now.wall,
                                     .terms = pending.terms,
                                     .mark = {}};
        if (pending.redrive_of != 0) {
            backlog_.add(untracked(message, Mono::min(), now));  // its bytes are still among the dead letters
        } else {
            place(message, now);
        }
    }
    return entries_.size() > tracked;
}

void Queue::fetch_bodies(std::vector<store::Read>& reads) {
    if (!starved_ && unanswered_.empty()) return;
    // What is next in turn is fetched however full the window is: nothing leaves it before that has been delivered.
    const std::size_t limit = window_used_ < limits_.bytes ? fetch_limit : 1;
    std::vector<Offset> wanted;
    const auto want = [&](Offset offset) {
        const auto it = entries_.find(offset);
        if (it != entries_.end() && lacks_body(it->second) && offset < pending_first()) wanted.push_back(offset);
    };
    std::size_t seen = 0;
    for (auto it = unanswered_.begin(); it != unanswered_.end() && seen < limit; ++it, ++seen) want(it->first);
    seen = 0;
    for (auto it = suspects_.begin(); it != suspects_.end() && seen < limit; ++it, ++seen) want(*it);
    seen = 0;
    for (auto it = returned_.begin(); it != returned_.end() && seen < limit; ++it, ++seen) want(it->second);
    seen = 0;
    for (auto it = fresh_.begin(); it != fresh_.end() && seen < limit; ++it, ++seen) want(*it);
    for (const SequenceRange& range : to_ranges(wanted)) {
        fetching_.emplace(range.first, range.last);
        reads.push_back({.topic = name_,
                         .from = range.first,
                         .to = range.last,
                         .max_messages = range.last - range.first + 1,
                         .max_bytes = limits_.bytes});
    }
}

void Queue::wanted_reads(std::vector<store::Read>& reads, Now now) {
    asked_to_read_ = false;
    if (reading_.why != Why::nothing || !fetching_.empty()) return;
    fetch_bodies(reads);
    read_blocks(reads, now);
}

void Queue::loaded(store::ReadResult result, Now now) {
    // Settled after this read's batch was gathered: the store did not know it yet.
    std::unordered_set<Offset> settled{settled_.begin(), settled_.end()};
    settled.insert(answered_.begin(), answered_.end());
    for (const store::DeadLetter& letter : dead_) settled.insert(letter.offset);
    for (store::StoredMessage& message : result.messages) {
        const auto it = entries_.find(message.offset);
        if (it == entries_.end()) {
            if (!settled.contains(message.offset)) place(message, now);
        } else if (it->second.where == Where::unanswered && !message.envelope.empty()) {
            answer_late(it, message.envelope, now);
        } else if (lacks_body(it->second) && !message.envelope.empty()) {
            keep_body(it->second, std::move(message.envelope));
        }
    }
    for (const store::Damage& damage : result.damage) lost_damaged(damage);
    const auto fetched = fetching_.find(result.from);
    if (fetched == fetching_.end()) return;
    const Offset last = fetched->second;
    fetching_.erase(fetched);  // a block that was read from the same offset comes behind it, and without all bodies
    for (Offset offset = result.from; offset <= last && offset < result.next; ++offset) {
        const auto it = entries_.find(offset);
        if (it != entries_.end() && lacks_body(it->second)) missing_.push_back(offset);
    }
}

void Queue::reads_done(Now now) {
    starved_ = false;
    for (const Offset offset : std::exchange(missing_, {})) {
        const auto it = entries_.find(offset);
        if (it == entries_.end() || !it->second.body.empty()) continue;
        lost_damaged({.topic = name_, .range = {offset, offset}, .messages = 1, .what = "not found in the store"});
        settled_.push_back(offset);
        changed(now);
    }
    fetching_.clear();
    if (reading_.why == Why::nothing) return;
    if (!reading_.taken.empty()) {
        const Offset block_end = backlog_.end_of(reading_.taken.back().first);
        (void)adopt_pending(reading_.to + 1, std::min(block_end, reading_.known_to), now);
    }
    const std::uint64_t key = reading_.key;
    reading_ = {};
    if (key != 0) refresh_line(key);
}

void Queue::reads_dropped() {
    for (const auto& [number, block] : reading_.taken) backlog_.put(number, block);
    if (reading_.key != 0) hungry_.insert(reading_.key);
    reading_ = {};
    fetching_.clear();
}

// Not read yet, like what is found at a start.
void Queue::replayed(const store::Replayed& part, Now now) {
    for (const store::OffsetRange& range : part.ranges) {
        backlog_.add(range, end_of_age(part.oldest, now));
        next_offset_ = std::max(next_offset_, range.last + 1);
    }
    if (messages_ == 0 && part.messages > 0) recovered_oldest_ = part.oldest;
    messages_ += part.messages;
    bytes_ += part.bytes;
}

// Recovery ---------------------------------------------------------------------------------------------------------

void Queue::start_somewhere(std::uint64_t random) {
    constexpr unsigned dropped_bits = 40;  // 2^24 places, as far apart as the lives of one store
    next_offset_ = 1 + (random >> dropped_bits) * forgotten_offsets;
}

void Queue::recover(const store::RecoveredTopic& topic, Now now) {
    next_offset_ = topic.next_offset + forgotten_offsets;
    former_end_ = topic.next_offset;
    strict_asked_ = topic.strict;
    former_begin_ = former_end_ - std::min(former_end_, last_life_offsets);
    for (const store::Span& span : topic.spans) {
        if (span.plain) {
            backlog_.add(span.range, end_of_age(topic.oldest, now));
        } else {
            learn_.push_back(span.range);
        }
    }
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
    tell_dedup(dedup_.recover(topic.dedup_keys, now));
}

// First everything that is not plain: who holds what, and what waits for what. Then as many of those next in turn as
// consumers may have been given without its being written down: they come back with those.
std::optional<store::Read> Queue::wanted_recovery() {
    store::Read read{.topic = name_,
                     .max_messages = std::numeric_limits<std::size_t>::max(),
                     .max_bytes = std::numeric_limits<std::size_t>::max(),
                     .bodies = false,
                     .select = store::Read::Select{}};
    reading_ = {};
    if (!learn_.empty()) {
        store::OffsetRange& next = learn_.front();
        reading_.why = Why::learn;
        read.from = next.first;
        read.to = reading_.to = std::min(next.last, next.first + blocks_learned_at_once * limits_.block - 1);
        next.first = read.to + 1;
        if (next.first > next.last) learn_.pop_front();
        return read;
    }
    const auto highest = backlog_.highest();
    if (!highest || ready_ >= std::min<std::size_t>(defaults::prefetch_max, limits_.ready) || !has_track_room(*highest))
        return std::nullopt;
    reading_.why = Why::turn;
    reading_.priority = *highest;
    take_block(*backlog_.first_of(*highest));
    read.from = reading_.taken.front().second.first;
    read.to = reading_.to = backlog_.end_of(reading_.taken.front().first);
    return read;
}

}  // namespace posthorn::queue
