#include "queue/queue.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "queue/backoff.hpp"

namespace posthorn::queue {

namespace {

constexpr std::size_t applied_runs = 4096;   // per consumer: settles remembered to answer repeats
constexpr std::size_t ended_limit = 10'000;  // consumers remembered as ended
constexpr const char* lost_with_host =
    "the replier that worked on it, or was about to, was lost while the host was away";
constexpr std::size_t reason_limit = 1024;  // bytes of a handler's text that are kept

std::string cut(std::string text) {
    if (text.size() > reason_limit) text.resize(reason_limit);
    return text;
}

Wall later(Wall wall, Duration delay) {
    return wall + std::chrono::ceil<WallClock::duration>(delay);
}

}  // namespace

Queue::Queue(std::string name, QueuePolicy policy, bool durable, std::uint64_t seed, EventHook on_event,
             const Limits& limits)
    : name_(std::move(name)),
      policy_(std::move(policy)),
      durable_(durable),
      makes_room_(policy_.when_full == WhenFull::drop_oldest || policy_.when_full == WhenFull::dead_letter),
      limits_(limits),
      random_(seed),
      on_event_(std::move(on_event)),
      dedup_(policy_.dedup_window, limits_.dedup) {
    if (!durable_) {
        if (policy_.max_messages == 0) policy_.max_messages = defaults::memory_max_messages;
        if (policy_.max_bytes == 0) policy_.max_bytes = defaults::memory_max_bytes;
        if (!dead_take_room()) {
            if (policy_.dlq_max_messages == 0) policy_.dlq_max_messages = policy_.max_messages;
            if (policy_.dlq_max_bytes == 0) policy_.dlq_max_bytes = policy_.max_bytes;
        }
    }
}

void Queue::emit(Event::Kind kind, std::string text, std::uint64_t count) const {
    if (on_event_) on_event_({.kind = kind, .subject = name_, .text = std::move(text), .count = count});
}

void Queue::changed(Now now) {
    if (!changed_since_) changed_since_ = now.mono;
}

void Queue::touch(Offset offset, Entry& entry, Now now) {
    if (!durable_ || entry.dirty) return;
    entry.dirty = true;
    write_mark(offset);
    changed(now);
}

// Producers ------------------------------------------------------------------------------------------------------

Producer& Queue::attach_producer(const Identity& id, Now now) {
    auto it = producers_.find(id);
    if (it == producers_.end()) {
        if (producers_.size() >= defaults::producers_remembered) forget_producers(now);
        it = producers_.try_emplace(id).first;
        it->second.id = id;
        if (forget_at_ == never) forget_at_ = now.mono + 1h;
    }
    it->second.seen = now.wall;
    ++it->second.sessions;
    return it->second;
}

void Queue::detach_producer(Producer& producer, Now now) {
    --producer.sessions;
    producer.seen = now.wall;
}

void Queue::take_over(Producer& producer, const Identity& life, Now now) {
    producer.life = life;
    write_watermark(producer);
    changed(now);
}

const Producer* Queue::find_producer(const Identity& id) const {
    const auto it = producers_.find(id);
    return it == producers_.end() ? nullptr : &it->second;
}

// In memory dead letters take room as well, unless messages make room by becoming such.
bool Queue::dead_take_room() const noexcept {
    return !durable_ && policy_.when_full != WhenFull::dead_letter;
}

std::uint64_t Queue::used_messages() const {
    return messages_ + (dead_take_room() ? dead_count_ : 0);
}

std::uint64_t Queue::used_bytes() const {
    return bytes_ + (dead_take_room() ? dead_bytes_ : 0);
}

// `idle`: so much of what is used is with no consumer.
std::uint64_t Queue::room_within(std::uint64_t most, std::uint64_t used, std::uint64_t idle, std::uint64_t dlq_most,
                                 std::uint64_t dead) const {
    if (most == 0) return std::numeric_limits<std::uint64_t>::max();
    std::uint64_t goes = makes_room_ ? idle : 0;
    if (policy_.when_full == WhenFull::dead_letter && policy_.dlq_when_full == DlqWhenFull::block) {
        if (dlq_blocks()) goes = 0;
        if (dlq_most != 0) goes = std::min(goes, dlq_most - std::min(dlq_most, dead));
    }
    return most - std::min(most, used - goes);
}

std::uint64_t Queue::free_messages() const {
    if (is_topic_) return least_of_subscriptions(&Queue::free_messages);
    return room_within(policy_.max_messages, used_messages(), messages_ - in_flight_, policy_.dlq_max_messages,
                       dead_count_);
}

std::uint64_t Queue::free_bytes() const {
    if (is_topic_) return least_of_subscriptions(&Queue::free_bytes);
    return room_within(policy_.max_bytes, used_bytes(), bytes_ - in_flight_bytes_, policy_.dlq_max_bytes, dead_bytes_);
}

// An empty queue takes one message, however large: else it would never be taken.
bool Queue::fits(std::size_t size) const {
    return free_messages() > 0 && (used_messages() == 0 || size <= free_bytes());
}

bool Queue::makes_producers_wait() const noexcept {
    return is_topic_ || policy_.when_full != WhenFull::reject;
}

// Who is full and has its producers refused: this queue, or a subscription that is to take the message.
const Queue* Queue::refuses(std::size_t size) const {
    const auto full = [&](const Queue* one) { return one->policy_.when_full == WhenFull::reject && !one->fits(size); };
    if (!is_topic_) return full(this) ? this : nullptr;
    const auto found = std::find_if(takers_.begin(), takers_.end(), full);
    return found == takers_.end() ? nullptr : *found;
}

Accepted Queue::publish(Producer& producer, const envelope::Routing& routing, Slice envelope, Now now) {
    if (routing.sequence <= producer.decided) {
        ++counters_.duplicates;
        return Accepted::duplicate;
    }
    if (producer.known && routing.previous > producer.decided) return Accepted::gap;
    dedup_.forget(now);
    if (!is_service_ && dedup_.knows(routing.dedup_key)) {  // it takes no room, so a full queue does not mind
        ++counters_.deduplicated;
        producer.known = true;
        producer.decided = routing.sequence;
        write_watermark(producer);
        changed(now);
        if (!durable_) count_as_settled(producer, routing.sequence);
        return Accepted::deduplicated;
    }
    if (live_) {
        producer.known = true;
        producer.decided = routing.sequence;
        in_.count(now.mono);
        count_as_settled(producer, routing.sequence);
        if (!routing.dedup_key.empty()) tell_dedup(dedup_.add(next_offset_, routing.dedup_key, now));
        ++next_offset_;
        return Accepted::yes;
    }
    if (is_topic_ && !find_takers(envelope.view())) {
        refuse(producer, routing.sequence, "no_subscription", "no subscription of " + name_ + " takes it", now);
        return Accepted::refused;
    }
    if (const Queue* full = refuses(envelope.size())) {
        refuse(producer, routing.sequence, "queue_full",
               full->name_ + " is full (max_messages or max_bytes); wait for its consumers or raise the limit", now);
        return Accepted::refused;
    }
    const bool maybe_duplicate = !producer.known && routing.previous > 0;
    producer.known = true;
    producer.decided = routing.sequence;
    write_watermark(producer);

    if (is_topic_) {
        pass_on(routing, envelope, maybe_duplicate, producer, now);
    } else {
        take(routing, std::move(envelope), maybe_duplicate, durable_ ? nullptr : &producer, now);
    }
    if (!is_service_ && !routing.dedup_key.empty()) tell_dedup(dedup_.add(next_offset_ - 1, routing.dedup_key, now));
    return Accepted::yes;
}

// `producer`: who is told that it is settled, if anybody.
void Queue::take(const envelope::Routing& routing, Slice envelope, bool maybe_duplicate, Producer* producer, Now now) {
    in_.count(now.mono);
    const std::uint64_t key = is_strict() ? 0 : store::key_of(routing.ordering_key);
    const unsigned priority = is_strict() ? 0 : priority_in_line(key, routing.priority);
    count_keyed(key, priority);
    const auto later_or_zero = [&](Duration time) { return time == Duration::zero() ? Wall{} : later(now.wall, time); };
    enqueue({.envelope = std::move(envelope),
             .maybe_duplicate = maybe_duplicate,
             .terms = {.due = later_or_zero(routing.delay),
                       .expires_at = later_or_zero(routing.ttl),
                       .key = key,
                       .priority = static_cast<std::uint8_t>(priority)}},
            routing, producer, now);
}

void Queue::count_as_settled(Producer& producer, std::uint64_t sequence) {
    if (producer.settled.empty()) settled_producers_.push_back(&producer);
    producer.settled.push_back(sequence);
}

void Queue::tell_dedup(std::size_t forgotten) {
    if (forgotten == 0) return;
    dedup_forgotten_ += forgotten;
    if (!worth_a_word(++dedup_presses_)) return;
    emit(
        Event::Kind::dedup_full,
        "more dedup keys than are remembered (64 MiB) were accepted within dedup_window: the oldest are forgotten, and "
        "messages with them would be taken again; shorten dedup_window or the keys",
        dedup_forgotten_);
}

void Queue::refuse(Producer& producer, std::uint64_t sequence, std::string code, std::string text, Now now) {
    ++(code == "queue_full" ? counters_.refused_full : counters_.refused_other);
    changed(now);
    producer.known = true;
    producer.decided = sequence;
    producer.refusals.push_back({sequence, std::move(code), std::move(text)});
    if (producer.refusals.size() > defaults::refusals_remembered) producer.refusals.pop_front();
    write_watermark(producer);
}

void Queue::forget_refusals(Producer& producer, std::uint64_t up_to) {
    while (!producer.refusals.empty() && producer.refusals.front().sequence <= up_to) producer.refusals.pop_front();
}

// Into memory where there is room for it and nothing before it in the store.
void Queue::enqueue(Pending message, const envelope::Routing& routing, Producer* producer, Now now) {
    const Offset offset = latest_ = next_offset_++;
    const std::size_t size = message.envelope.size();
    ++messages_;
    bytes_ += size;
    pending_bytes_ += size;
    changed(now);
    pending_.push_back(std::move(message));
    const store::Terms& terms = pending_.back().terms;
    const bool waits = routing.delay > Duration::zero();
    Backlog::Message place{.offset = offset,
                           .waits_for = waits ? Backlog::For::time : Backlog::For::turn,
                           .priority = terms.priority,
                           .key = terms.key,
                           .due = now.mono + routing.delay,
                           .expires = routing.ttl == Duration::zero() ? never : now.mono + routing.ttl};
    age(place, end_of_age(now.wall, now));
    if (!has_memory_for(place, now)) {
        backlog_.add(place);
        return;
    }
    Entry& entry = entries_.try_emplace(offset).first->second;
    entry.size = static_cast<std::uint32_t>(size);
    entry.accepted = now.wall;
    entry.maybe_duplicate = pending_.back().maybe_duplicate;
    entry.key = place.key;
    entry.priority = terms.priority;
    entry.expires = place.expires;
    entry.ages = place.ages;
    if (producer != nullptr) {
        entry.producer = producer;
        entry.sequence = routing.sequence;
        ++producer->unsettled;
    }
    if (is_service_) {
        const auto [known, fresh] = by_sequence_.emplace(std::pair{routing.producer, routing.sequence}, offset);
        if (fresh) asked_.emplace(offset, known);
    }
    watch_expiry(offset, entry);
    if (waits) {
        wait_until(offset, entry, place.due, terms.due);
    } else {
        make_ready(offset, entry);
    }
}

// Watermarks older than the stated time go; if there are still too many, so do the ones not seen for longest. Those of
// named producers go only then, and last: nobody but the host knows how far they came.
void Queue::forget_producers(Now now) {
    std::vector<Producer*> idle;
    for (auto& [id, producer] : producers_) {
        if (producer.sessions == 0 && producer.unsettled == 0 && producer.settled.empty() && !producer.dirty)
            idle.push_back(&producer);
    }
    const auto rank = [](const Producer* one) { return std::pair{!one->life.is_zero(), one->seen}; };
    std::sort(idle.begin(), idle.end(), [&](const Producer* a, const Producer* b) { return rank(a) < rank(b); });
    const Wall oldest = now.wall - std::chrono::duration_cast<WallClock::duration>(defaults::producer_memory);
    constexpr std::size_t keep = defaults::producers_remembered - defaults::producers_remembered / 16;
    for (Producer* producer : idle) {
        const bool kept = producer->seen >= oldest || !producer->life.is_zero();
        if (kept && producers_.size() <= keep) break;
        if (!live_) forgotten_.push_back(producer->id);
        producers_.erase(producer->id);
        changed(now);
    }
    forget_at_ = producers_.empty() ? never : now.mono + 1h;
}

// Consumers ------------------------------------------------------------------------------------------------------

ConsumerId Queue::consumer_of(const Identity& incarnation, Now now) {
    const auto [it, fresh] = by_incarnation_.try_emplace(incarnation, last_consumer_ + 1);
    if (fresh) {
        Consumer& consumer = consumers_[++last_consumer_];
        consumer.incarnation = incarnation;
        consumer.lease_end = now.mono + policy_.lease;
        consumer.progress = now.mono;
    }
    return it->second;
}

ConsumerId Queue::attach(const Identity& incarnation, const std::string& name, std::uint32_t concurrency,
                         const std::vector<Held>& held, std::vector<Held>& lost, Now now) {
    const bool known = by_incarnation_.contains(incarnation) || ended_.contains(incarnation);
    const ConsumerId id = consumer_of(incarnation, now);
    Consumer& consumer = consumers_[id];
    consumer.name = name;
    consumer.concurrency = concurrency;
    consumer.connected = true;
    consumer.silent = false;
    consumer.recalling = false;
    consumer.window = 0;
    consumer.lease_end = now.mono + policy_.lease;
    consumer.progress = now.mono;

    // With the token: it may list a delivery it has released, and hold nothing of the one that came after.
    std::set<std::pair<Offset, std::uint32_t>> kept;
    for (const Held& one : held) {
        if (adopt_held(id, consumer, one, !known, now)) {
            kept.insert({one.offset, one.token});
        } else {
            lost.push_back(one);
        }
    }
    if (consumer.in_flight == 0) return id;
    std::vector<Offset> not_listed;
    for (const auto& [offset, entry] : entries_) {
        if (entry.where == Where::leased && entry.holder == id && !kept.contains({offset, entry.token}))
            not_listed.push_back(offset);
    }
    for (const Offset offset : not_listed) {
        const auto it = entries_.find(offset);
        // It never reached this consumer; or a life before had told it that it is lost, and died before that was
        // stored.
        const bool may_be_begun = delivers_once() && !requests_.contains(offset);
        if (may_be_begun && answer(it, Fate::replier_lost, lost_with_host, false, now)) continue;
        give_back(offset, it->second, now);
    }
    return id;
}

// Whether `held` is this consumer's: still leased to it, settled by it, or delivered to it by this host's former life,
// which died before it could write that down (then the token is ahead of ours).
bool Queue::adopt_held(ConsumerId id, Consumer& consumer, const Held& held, bool unknown, Now now) {
    if (was_applied(consumer, held)) return true;
    const auto it = entries_.find(held.offset);
    if (it != entries_.end() && it->second.where == Where::unanswered) return false;
    if (it == entries_.end()) {
        if (!unknown || held.offset < former_begin_ || held.offset >= former_end_) return false;
        if (backlog_.may_hold(held.offset)) return false;
        remember_applied(consumer, held);  // settled in the host's last life, as far as can be known by this consumer
        return true;
    }
    Entry& entry = it->second;
    if (held.token <= entry.token) {
        return entry.where == Where::leased && entry.holder == id && entry.token == held.token;
    }
    if (is_strict() && in_flight_ > consumer.in_flight) return false;  // another one has the lead by now
    if (entry.where == Where::leased) {
        const Held before{held.offset, entry.token};
        if (entry.holder == id) {
            remember_applied(consumer, before);
        } else {
            tell_lost(entry.holder, before);
        }
        end_lease(entry);
    } else {
        leave_line(held.offset, entry);
    }
    entry.token = held.token;
    entry.suspect = entry.isolate = false;
    entry.deaths = 0;
    lease(id, consumer, held.offset, entry, now);
    touch(held.offset, entry, now);
    return true;
}

void Queue::lease(ConsumerId id, Consumer& consumer, Offset offset, Entry& entry, Now now) {
    unwatch_expiry(offset, entry);
    entry.where = Where::leased;
    entry.holder = id;
    if (entry.key != 0) {
        ++lines_[entry.key].out;
        refresh_line(entry.key);
    }
    entry.since = now.mono;
    entry.extended = {};
    ++in_flight_;
    in_flight_bytes_ += entry.size;
    ++consumer.in_flight;
    consumer.in_flight_bytes += entry.size;
    if (sweep_at_ == never) sweep_at_ = now.mono + policy_.lease_cap;
}

void Queue::set_window(ConsumerId id, std::uint32_t messages, std::uint64_t bytes) {
    const auto it = consumers_.find(id);
    if (it == consumers_.end()) return;
    it->second.window = messages;
    it->second.window_bytes = bytes;
}

void Queue::set_keeps_order(ConsumerId id, bool keeps_order) {
    const auto it = consumers_.find(id);
    if (it != consumers_.end()) it->second.keeps_order = keeps_order;
}

void Queue::become_strict(Now now) {
    if (strict_asked_) return;
    strict_asked_ = true;
    strict_stored_ = !durable_;
    for (const auto& [due, offset] : waiting_) {
        if (failures_hold_up() && entries_.find(offset)->second.token > 0) holding_up_.insert(offset);
    }
    changed(now);
}

bool Queue::heard(ConsumerId id, Now now) {
    const auto it = consumers_.find(id);
    if (it == consumers_.end()) return false;
    it->second.lease_end = now.mono + policy_.lease;
    return std::exchange(it->second.silent, false);
}

void Queue::detach(ConsumerId id, Now now) {
    const auto it = consumers_.find(id);
    if (it == consumers_.end()) return;
    it->second.connected = false;
    it->second.lease_end = std::max(it->second.lease_end, now.mono);
}

void Queue::forget(std::map<ConsumerId, Consumer>::iterator it) {
    if (ended_.insert(it->second.incarnation).second) ended_order_.push_back(it->second.incarnation);
    if (ended_order_.size() > ended_limit) {
        ended_.erase(ended_order_.front());
        ended_order_.pop_front();
    }
    by_incarnation_.erase(it->second.incarnation);
    consumers_.erase(it);
}

void Queue::leave(ConsumerId id, Now now) {
    const auto it = consumers_.find(id);
    if (it == consumers_.end()) return;
    if (it->second.in_flight > 0) {
        for (auto& [offset, entry] : entries_) {
            if (entry.where == Where::leased && entry.holder == id) give_back(offset, entry, now);
        }
    }
    forget(it);
}

void Queue::fence(ConsumerId id, Now now) {
    const auto it = consumers_.find(id);
    if (it == consumers_.end()) return;
    died(id, true, now);
    forget(it);
}

std::vector<std::pair<ConsumerId, Identity>> Queue::named(const std::string& name, const Identity& incarnation) const {
    std::vector<std::pair<ConsumerId, Identity>> found;
    for (const auto& [id, consumer] : consumers_) {
        if (consumer.name == name && consumer.incarnation != incarnation) found.emplace_back(id, consumer.incarnation);
    }
    return found;
}

std::string Queue::label(const Consumer& consumer) const {
    constexpr std::size_t shown = 8;  // the whole incarnation is the consumer's credential
    return consumer.name.empty() ? consumer.incarnation.hex().substr(0, shown) : consumer.name;
}

bool Queue::was_applied(const Consumer& consumer, Held held) const {
    return std::any_of(consumer.applied.begin(), consumer.applied.end(), [&](const auto& run) {
        return run.first.token == held.token && held.offset >= run.first.offset &&
               held.offset - run.first.offset < run.second;
    });
}

void Queue::remember_applied(Consumer& consumer, Held held) {
    if (!consumer.applied.empty()) {
        auto& [first, count] = consumer.applied.back();
        if (first.token == held.token && first.offset + count == held.offset) {
            ++count;
            return;
        }
    }
    consumer.applied.emplace_back(held, 1);
    if (consumer.applied.size() > applied_runs) consumer.applied.pop_front();
}

bool Queue::settle(ConsumerId id, const Settle& settle, Now now) {
    const auto found = consumers_.find(id);
    if (found == consumers_.end()) return false;
    Consumer& consumer = found->second;
    const Held held{settle.offset, settle.token};
    const auto it = entries_.find(settle.offset);
    if (it == entries_.end() || it->second.where != Where::leased || it->second.holder != id ||
        it->second.token != settle.token) {
        if (was_applied(consumer, held)) return true;  // repeated after a resume
        // It went back with one before it, and the word of that has met this one on its way.
        if (settle.verdict == Verdict::release && consumer.keeps_order) return true;
        ++counters_.stale;
        return false;
    }
    remember_applied(consumer, held);
    consumer.progress = now.mono;
    switch (settle.verdict) {
        case Verdict::ack:
            ++counters_.acked;
            out_.count(now.mono);
            count_success();
            acked(it, settle, now);
            break;
        case Verdict::nack:
            ++counters_.nacked;
            if (!fail(it, settle.delay, settle.text, now) && !settle.delay) count_failure(now);
            break;
        case Verdict::release:
            ++counters_.released;
            give_back(it->first, it->second, now);
            take_back_behind(id, settle.offset, now);
            break;
        case Verdict::reject:
            ++counters_.rejected;
            if (!dead_letter(it, store::Reason::rejected, settle.text, now)) count_failure(now);
            break;
        case Verdict::undecodable:
            if (!dead_letter(it, store::Reason::undecodable, settle.text, now)) count_failure(now);
            break;
    }
    return true;
}

void Queue::acked(Entries::iterator it, const Settle& settle, Now now) {
    if (!settle.reply.empty()) {
        end_lease(it->second);
        answer(it, settle.reply_to, settle.reply, now);
        return;
    }
    if (is_service_ && answer(it, Fate::done, {}, true, now)) return;
    finish(it, now);
}

bool Queue::extend(ConsumerId id, Held held, Duration lease, Now now) {
    const auto it = entries_.find(held.offset);
    if (it == entries_.end() || it->second.where != Where::leased || it->second.holder != id ||
        it->second.token != held.token) {
        return false;
    }
    it->second.extended = now.mono + std::min(lease, policy_.lease_cap);
    return true;
}

void Queue::recalled(ConsumerId id, Now now) {
    const auto it = consumers_.find(id);
    if (it == consumers_.end()) return;
    it->second.recalling = false;
    it->second.recall_after = now.mono + 100ms;  // it gave what it could
}

// The ways a lease ends --------------------------------------------------------------------------------------------

// What becomes of it refreshes the line of its key.
void Queue::end_lease(Entry& entry) {
    --in_flight_;
    in_flight_bytes_ -= entry.size;
    if (entry.key != 0) --lines_[entry.key].out;
    const auto it = consumers_.find(entry.holder);
    if (it != consumers_.end()) {
        Consumer& consumer = it->second;
        consumer.in_flight_bytes -= entry.size;
        if (--consumer.in_flight == 0) consumer.holds_suspects = false;
    }
    entry.holder = 0;
    entry.extended = {};
    if (std::exchange(entry.probe, false)) --probes_;
}

void Queue::erase(Entries::iterator it) {
    Entry& entry = it->second;
    drop_body(entry);
    --messages_;
    bytes_ -= entry.size;
    if (entry.producer != nullptr) {
        count_as_settled(*entry.producer, entry.sequence);
        --entry.producer->unsettled;
    }
    if (topic_ != nullptr) topic_->settled_by(*this, it->first);
    const std::uint64_t key = entry.key;
    uncount_keyed(key, entry.priority);
    forget_request(it->first);
    entries_.erase(it);
    if (key != 0) refresh_line(key);
}

void Queue::finish(Entries::iterator it, Now now) {
    const Offset offset = it->first;
    end_lease(it->second);
    write_settled(offset);
    erase(it);
    changed(now);
}

void Queue::give_back(Offset offset, Entry& entry, Now now) {
    end_lease(entry);
    watch_expiry(offset, entry);
    make_ready(offset, entry);
    touch(offset, entry, now);
}

bool Queue::fail(Entries::iterator it, std::optional<Duration> delay, const std::string& text, Now now) {
    const Offset offset = it->first;
    Entry& entry = it->second;
    entry.suspect = entry.isolate = false;  // its handler came back to say so
    entry.deaths = 0;
    ++entry.attempts;
    if (entry.first_failure == Wall{}) entry.first_failure = now.wall;
    if (entry.attempts >= policy_.max_attempts) {
        return dead_letter(it, store::Reason::max_attempts, text, now);
    }
    const ConsumerId holder = entry.holder;
    const Duration wait = std::clamp(delay.value_or(backoff_delay(policy_.backoff, entry.attempts, random_)),
                                     Duration::zero(), Duration{std::chrono::hours{24 * 365}});
    end_lease(entry);
    watch_expiry(offset, entry);
    if (wait == Duration::zero()) {
        make_ready(offset, entry);
    } else {
        wait_until(offset, entry, now.mono + wait, later(now.wall, wait));
    }
    touch(offset, entry, now);
    if (!policy_.retry_aside) take_back_behind(holder, offset, now);
    return false;
}

// A strict queue: what is behind a message that comes back is not to be begun before it. A consumer that does not keep
// order was given nothing behind it, and what it holds from before the queue was strict it may have begun.
void Queue::take_back_behind(ConsumerId id, Offset offset, Now now) {
    const auto consumer = consumers_.find(id);
    if (!is_strict() || consumer == consumers_.end() || !consumer->second.keeps_order) return;
    if (consumer->second.in_flight == 0) return;
    for (auto& [other, entry] : entries_) {
        if (other <= offset || entry.where != Where::leased || entry.holder != id) continue;
        tell_lost(id, {other, entry.token});
        give_back(other, entry, now);
    }
}

bool Queue::dead_letter(Entries::iterator it, store::Reason reason, std::string text, Now now) {
    const Fate fate = reason == store::Reason::undecodable ? Fate::undecodable : Fate::failed;
    if (is_service_ && answer(it, fate, cut(text), true, now)) return true;
    Entry& entry = it->second;
    const auto holder = consumers_.find(entry.holder);
    store::DeadLetter letter{.offset = it->first,
                             .reason = reason,
                             .text = cut(std::move(text)),
                             .attempts = entry.attempts,
                             .first_failure = entry.first_failure == Wall{} ? now.wall : entry.first_failure,
                             .last_failure = now.wall,
                             .consumer = holder == consumers_.end() ? std::string{} : label(holder->second)};
    if (reason != store::Reason::max_attempts) ++letter.attempts;  // the one that ended here
    emit(Event::Kind::dead_lettered, std::string{store::to_string(reason)} + ": " + letter.text);
    end_lease(entry);
    bury(it, std::move(letter), now);
    return false;
}

// Gives up what no consumer holds any more.
void Queue::bury(Entries::iterator it, store::DeadLetter letter, Now now) {
    switch (letter.reason) {
        case store::Reason::max_attempts:
            ++counters_.dead_max_attempts;
            break;
        case store::Reason::undecodable:
            ++counters_.dead_undecodable;
            break;
        case store::Reason::expired:
            ++counters_.dead_expired;
            break;
        case store::Reason::queue_full:
            ++counters_.dead_queue_full;
            break;
        default:
            ++counters_.dead_rejected;
            break;
    }
    ++dead_count_;
    dead_bytes_ += it->second.size;
    write_dead(std::move(letter));
    erase(it);
    changed(now);
}

// Gives up what is ready or waiting.
void Queue::give_up(Entries::iterator it, store::Reason reason, std::string text, Now now) {
    Entry& entry = it->second;
    unwatch_expiry(it->first, entry);
    leave_line(it->first, entry);
    store::DeadLetter letter{.offset = it->first,
                             .reason = reason,
                             .text = std::move(text),
                             .attempts = entry.attempts,
                             .first_failure = entry.first_failure == Wall{} ? now.wall : entry.first_failure,
                             .last_failure = now.wall,
                             .consumer = {}};
    bury(it, std::move(letter), now);
}

// What no consumer holds may expire, and may have to make room.
void Queue::watch_expiry(Offset offset, const Entry& entry) {
    if (entry.expires != never) expiring_.emplace(entry.expires, offset);
    if (makes_room_) idle_.insert(idle_.end(), offset);
}

void Queue::unwatch_expiry(Offset offset, const Entry& entry) {
    if (entry.expires != never) expiring_.erase({entry.expires, offset});
    if (makes_room_) idle_.erase(offset);
}

// Nobody may ever look through it.
void Queue::tidy_fresh() {
    if (fresh_.size() <= 2 * (ready_ + limits_.ready)) return;
    std::erase_if(fresh_, [this](Offset offset) { return !entries_.contains(offset); });
}

// Fires before anything is handed out, so nothing is delivered past its time.
void Queue::expire_due(Now now) {
    std::uint64_t buried = 0;
    const std::uint64_t dropped_before = counters_.dropped_expired;
    while (next_expiry() <= now.mono) {
        const auto it = entries_.find(expiring_.begin()->second);
        if (is_service_ && answer(it, Fate::expired, "nobody worked on it within its time", false, now)) continue;
        if (it->second.ages && policy_.when_full == WhenFull::drop_oldest) {
            drop(it, counters_.dropped_expired, now);
            continue;
        }
        ++buried;
        give_up(it, store::Reason::expired,
                it->second.ages ? "older than the queue's max_age" : "not done within its time to live", now);
    }
    if (buried > 0) emit(Event::Kind::dead_lettered, "expired: not done within their time to live", buried);
    const bool dropped = counters_.dropped_expired > dropped_before;
    if (dropped && !is_log_ && worth_a_word(++agings_)) {
        emit(Event::Kind::overflow, "messages were older than max_age: they were deleted", counters_.dropped_expired);
    }
    if (buried > 0 || dropped) tidy_fresh();
}

bool Queue::dlq_blocks() const noexcept {
    if (policy_.dlq_when_full != DlqWhenFull::block) return false;
    return (policy_.dlq_max_messages != 0 && dead_count_ >= policy_.dlq_max_messages) ||
           (policy_.dlq_max_bytes != 0 && dead_bytes_ >= policy_.dlq_max_bytes);
}

void Queue::tell_dlq() {
    if (dlq_blocks() == dlq_blocked_) return;
    dlq_blocked_ = !dlq_blocked_;
    emit(Event::Kind::dlq_full,
         dlq_blocked_ ? "as many dead letters as dlq_max_messages or dlq_max_bytes allow; nothing is delivered until "
                        "some are sent back or purged (posthorn dlq)"
                      : "there is room for dead letters again; deliveries go on",
         dead_count_);
}

void Queue::dead_dropped(std::uint64_t messages, std::uint64_t bytes) {
    dead_count_ -= std::min(dead_count_, messages);
    dead_bytes_ -= std::min(dead_bytes_, bytes);
    counters_.dead_dropped += messages;
    if (!worth_a_word(++drops_)) return;
    emit(Event::Kind::dlq_full, "the oldest dead letters were deleted, to keep to dlq_max_messages and dlq_max_bytes",
         counters_.dead_dropped);
}

// The consumer's leases are over: its link and its process may be gone. What it held becomes suspect; what it held as a
// suspect alone is charged (design, section 4: attempts charge begun work only).
void Queue::died(ConsumerId id, bool at_once, Now now) {
    Consumer& consumer = consumers_[id];
    std::vector<Offset> held;
    Mono kept = never;
    for (const auto& [offset, entry] : entries_) {
        if (entry.where != Where::leased || entry.holder != id) continue;
        if (!at_once && entry.extended > now.mono) {
            kept = std::min(kept, entry.extended);
        } else {
            held.push_back(offset);
        }
    }
    consumer.lease_end = kept;
    consumer.silent = true;
    if (held.empty()) return;
    const bool alone = consumer.holds_suspects && consumer.in_flight == 1;
    const bool suspects = consumer.holds_suspects;
    counters_.expired_leases += held.size();
    emit(Event::Kind::consumer_died,
         "consumer " + label(consumer) + " was not heard for its lease, or was replaced; what it held goes to others",
         held.size());
    for (const Offset offset : held) {
        const auto it = entries_.find(offset);
        tell_lost(id, {offset, it->second.token});
        Entry& entry = it->second;
        const bool spent =
            policy_.request_attempts == 1 || (alone && entry.attempts + entry.deaths + 1U >= policy_.max_attempts);
        if (is_service_ && spent &&
            answer(it, Fate::replier_lost, "the replier that worked on it was lost", false, now)) {
            continue;
        }
        ++entry.deaths;
        if (alone) {
            count_failure(now);
            entry.attempts = static_cast<std::uint16_t>(entry.attempts + entry.deaths);
            entry.deaths = 0;
            if (entry.first_failure == Wall{}) entry.first_failure = now.wall;
            if (entry.attempts >= policy_.max_attempts) {
                dead_letter(it, store::Reason::max_attempts, "its consumer died each time it worked on this message",
                            now);
                continue;
            }
        }
        entry.suspect = true;
        // One more shared death must leave room for the death alone that proves it.
        entry.isolate = suspects || entry.attempts + entry.deaths + 2U > policy_.max_attempts;
        give_back(offset, entry, now);
    }
}

// Leases are renewed by the session, so a handler that hangs for ever would keep its message: the cap ends that.
void Queue::sweep(Now now) {
    std::vector<Offset> over;
    for (const auto& [offset, entry] : entries_) {
        if (entry.where == Where::leased && entry.since + policy_.lease_cap <= now.mono && entry.extended <= now.mono) {
            over.push_back(offset);
        }
    }
    std::sort(over.begin(), over.end());
    for (const Offset offset : over) {
        const auto it = entries_.find(offset);
        if (it->second.where != Where::leased) continue;  // went back with one before it
        tell_lost(it->second.holder, {offset, it->second.token});
        ++counters_.expired_leases;
        if (!fail(it, std::nullopt, "held for the whole lease_cap without being settled", now)) count_failure(now);
    }
    sweep_at_ = in_flight_ == 0 ? never : now.mono + policy_.lease_cap / 4;
}

// Work -------------------------------------------------------------------------------------------------------------

void Queue::turn(Now now, std::vector<Delivered>& deliveries, std::vector<Recall>& recalls) {
    dedup_.forget(now);
    if (dedup_.is_over()) changed(now);
    while (!waiting_.empty() && waiting_.begin()->first <= now.mono) {
        const Offset offset = waiting_.begin()->second;
        wake(offset, entries_.find(offset)->second);
    }
    for (auto it = consumers_.begin(); it != consumers_.end();) {
        const auto consumer = it++;
        if (consumer->second.lease_end > now.mono) continue;
        if (consumer->second.in_flight > 0) died(consumer->first, false, now);
        if (consumer->second.in_flight == 0 && !consumer->second.connected) forget(consumer);
    }
    if (sweep_at_ <= now.mono) sweep(now);
    if (forget_at_ <= now.mono) forget_producers(now);
    recall_at_ = storm_at_ = never;
    if (reading_.why == Why::nothing && fetching_.empty()) (void)begin_reading(false, now);
    asked_to_read_ = asked_to_read_ || next_in_backlog() <= now.mono;
    expire_due(now);
    make_room(oldest_behind(), now);
    tell_overflow();
    tell_dlq();
    if (paused_ || dlq_blocks() || is_held_back(now)) return;
    if (is_strict()) {
        dispatch_strictly(now, deliveries);
        return;
    }
    dispatch(now, deliveries);
    want_recalls(now, recalls);
}

Mono Queue::next_deadline() const {
    Mono next = std::min({sweep_at_, forget_at_, recall_at_, storm_at_, dedup_.next_deadline()});
    if (!waiting_.empty()) next = std::min(next, waiting_.begin()->first);
    if (!asked_to_read_ && reading_.why == Why::nothing) next = std::min(next, next_in_backlog());
    next = std::min(next, next_expiry());
    for (const auto& [id, consumer] : consumers_) {
        if (consumer.in_flight > 0 || !consumer.connected) next = std::min(next, consumer.lease_end);
    }
    return next;
}

void Queue::tell_lost(ConsumerId id, Held held) {
    const auto it = consumers_.find(id);
    if (it != consumers_.end() && it->second.connected) lost_.emplace_back(id, held);
}

std::vector<std::pair<ConsumerId, Held>> Queue::take_lost() {
    return std::exchange(lost_, {});
}

void Queue::take_settled(const std::function<void(Producer&, const std::vector<SequenceRange>&)>& give) {
    for (Producer* producer : settled_producers_) {
        const std::vector<SequenceRange> news = to_ranges(producer->settled);
        producer->settled.clear();
        for (const SequenceRange& range : news) producer->done.add(range);
        give(*producer, news);
    }
    settled_producers_.clear();
}

std::uint32_t Queue::in_flight(ConsumerId id) const {
    const auto it = consumers_.find(id);
    return it == consumers_.end() ? 0 : it->second.in_flight;
}

Depth Queue::depth() const {
    Depth depth;
    depth.messages = messages_;
    depth.bytes = bytes_;
    depth.waiting = waiting_.size() + backlog_.later();
    depth.in_flight = in_flight_;
    depth.ready = messages_ - depth.waiting - depth.in_flight;
    depth.dead = dead_count_;
    depth.dead_bytes = dead_bytes_;
    Offset first = std::numeric_limits<Offset>::max();
    for (const auto& [offset, entry] : entries_) {
        if (offset < first) {
            first = offset;
            depth.oldest = entry.accepted;
        }
    }
    if (!depth.oldest && messages_ > 0) depth.oldest = recovered_oldest_;
    for (const auto& [id, consumer] : consumers_) depth.consumers += consumer.connected ? 1 : 0;
    for (const auto& [id, producer] : producers_) depth.producers += producer.sessions > 0 ? 1 : 0;
    return depth;
}

Flow Queue::flow(Now now) const {
    Flow flow{.in = in_.per_second(now.mono), .out = out_.per_second(now.mono), .drain = {}};
    const std::chrono::duration<double> left{static_cast<double>(messages_) / (flow.out - flow.in)};
    constexpr std::chrono::hours as_good_as_never{24 * 365 * 100};
    if (messages_ == 0) {
        flow.drain = 0ms;
    } else if (flow.out > flow.in && left < as_good_as_never) {
        flow.drain = std::chrono::ceil<std::chrono::milliseconds>(left);
    }
    return flow;
}

}  // namespace posthorn::queue
