// What goes when a queue is full and may make room: its oldest messages that no consumer holds, wherever they stand.
// Those in memory go before anything is handed out. Those in the store have to be read first, for nothing is known of
// them; until then the queue is over its bound.
#include <algorithm>
#include <limits>

#include "queue/queue.hpp"

namespace posthorn::queue {

bool Queue::is_over() const {
    if (!makes_room_) return false;
    return (policy_.max_messages != 0 && used_messages() > policy_.max_messages) ||
           (policy_.max_bytes != 0 && used_bytes() > policy_.max_bytes);
}

// Of the oldest. The latest of all stays: what has just been accepted is not to go for its own sake.
bool Queue::may_go(Offset offset) const {
    if (offset >= spared_from_ || !is_over() || (latest_ != 0 && offset >= latest_)) return false;
    return policy_.when_full == WhenFull::drop_oldest || !dlq_blocks();
}

// Of what is in memory: when the first of it is past its time and may go.
Mono Queue::next_expiry() const {
    const bool may_expire = !expiring_.empty() && expiring_.begin()->second < spared_from_ && !expires_nothing();
    return may_expire ? expiring_.begin()->first : never;
}

// When there is something to be read for its time.
Mono Queue::next_in_backlog() const {
    return oldest_in_backlog() < spared_from_ && !expires_nothing() ? backlog_.next_time() : never;
}

// Nothing that is neither in memory nor being read stands below; max(): there is nothing.
Offset Queue::oldest_in_backlog() const {
    const auto lowest = backlog_.lowest();
    return lowest ? backlog_.find(*lowest)->first : std::numeric_limits<Offset>::max();
}

Offset Queue::oldest_behind() const {
    if (reading_.taken.empty()) return oldest_in_backlog();
    return std::min(oldest_in_backlog(), reading_.taken.front().second.first);
}

// Of what stands in memory, as long as nothing older can be elsewhere.
void Queue::make_room(Offset before, Now now) {
    while (!idle_.empty() && *idle_.begin() < before && may_go(*idle_.begin())) {
        make_way(entries_.find(*idle_.begin()), now);
    }
}

void Queue::make_way(Entries::iterator it, Now now) {
    if (policy_.when_full == WhenFull::dead_letter) {
        give_up(it, store::Reason::queue_full, "the queue was full, and this was its oldest message", now);
        return;
    }
    drop(it, counters_.dropped_full, now);
}

// Deletes what is ready or waiting.
void Queue::drop(Entries::iterator it, std::uint64_t& counter, Now now) {
    ++counter;
    unwatch_expiry(it->first, it->second);
    leave_line(it->first, it->second);
    write_settled(it->first);
    erase(it);
    changed(now);
}

// Of a message that was read; those of one reading come in their order. False: it has its place.
bool Queue::makes_way(store::StoredMessage& message, const Backlog::Message& place, Now now) {
    const Offset oldest = oldest_in_backlog();
    make_room(std::min(oldest, message.offset), now);
    if (message.offset > oldest || !may_go(message.offset)) return false;
    track_stored(message, place, now);
    const auto it = entries_.find(message.offset);
    if (it->second.where != Where::leased) make_way(it, now);
    return true;
}

void Queue::tell_overflow() {
    const bool drops = policy_.when_full == WhenFull::drop_oldest;
    const std::uint64_t gone = drops ? counters_.dropped_full : counters_.dead_queue_full;
    if (gone == made_way_) return;
    made_way_ = gone;
    tidy_fresh();
    if (is_log_ || !worth_a_word(++overflows_)) return;  // what is beyond its retention was to go
    emit(Event::Kind::overflow,
         drops ? "the queue was full (max_messages or max_bytes): its oldest messages were deleted"
               : "the queue was full (max_messages or max_bytes): its oldest messages went to the dead letters "
                 "(posthorn dlq list)",
         gone);
}

}  // namespace posthorn::queue
