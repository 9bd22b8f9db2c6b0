#include "sim/model.hpp"

#include <algorithm>
#include <utility>

namespace posthorn::sim {

void Totals::add(const Totals& other) {
    steps += other.steps;
    messages += other.messages;
    deliveries += other.deliveries;
    settled += other.settled;
    fed += other.fed;
    missed_live += other.missed_live;
    breaks += other.breaks;
    crashes += other.crashes;
    power_cuts += other.power_cuts;
    consumer_deaths += other.consumer_deaths;
    cuts += other.cuts;
    lost_frames += other.lost_frames;
    repeated_frames += other.repeated_frames;
    resends += other.resends;
    redeliveries += other.redeliveries;
    dead_letters += other.dead_letters;
    redriven += other.redriven;
    edited += other.edited;
    disk_full += other.disk_full;
    drained_full += other.drained_full;
    refused += other.refused;
    stale += other.stale;
    expired += other.expired;
    keyed += other.keyed;
    delayed += other.delayed;
    prioritised += other.prioritised;
    resumed += other.resumed;
    fenced += other.fenced;
    deduplicated += other.deduplicated;
    in_strict_order += other.in_strict_order;
    dropped += other.dropped;
    displaced += other.displaced;
    storms += other.storms;
    fanned_out += other.fanned_out;
    to_subscriptions += other.to_subscriptions;
    subscriptions_made += other.subscriptions_made;
    subscriptions_gone += other.subscriptions_gone;
    rebound += other.rebound;
    refused_for_want += other.refused_for_want;
    replayed += other.replayed;
    copies += other.copies;
}

namespace {

// Of subjects whose words are single letters.
bool fits(const std::string& pattern, const std::string& subject) {
    if (pattern == "#") return true;
    return std::equal(pattern.begin(), pattern.end(), subject.begin(), subject.end(),
                      [](char wanted, char is) { return wanted == '*' || wanted == is; });
}

bool fits(const std::vector<Binding>& bindings, const Message& message) {
    return bindings.empty() || std::any_of(bindings.begin(), bindings.end(),
                                           [&](const Binding& one) { return fits(one.subject, message.subject); });
}

}  // namespace

void Model::bind(std::vector<Binding> bindings) {
    bindings_.push_back(std::move(bindings));
}

void Model::welcome() {
    welcome_ = true;
}

void Model::begin_with_the_first() {
    with_the_first_ = welcome_ = true;
    for (auto& [message, record] : records_) record.due = true;
}

void Model::begin_with_what_is_kept() {
    with_what_is_kept_ = true;
}

void Model::leave() {
    welcome_ = false;
    waiting_.clear();
    earliest_.clear();
    for (auto& [message, record] : records_) record.due = false;
}

Totals Model::gone() {
    leave();
    offsets_.clear();
    first_handed_out_.clear();
    deaths = 0;
    for (auto& [message, record] : records_) {
        record.edited = record.ack_confirmed = record.dead_lettered = false;
        record.begun = record.acked = record.nacked = record.handed_out = 0;
        record.deaths_before = 0;
        record.first_handed_out.reset();
    }
    if (with_the_first_) begin_with_the_first();
    return std::exchange(totals, {});
}

bool Model::may_take(std::uint64_t message) const {
    return bindings_.empty() || std::any_of(bindings_.begin(), bindings_.end(),
                                            [&](const auto& one) { return fits(one, records_.at(message).message); });
}

bool Model::must_take(std::uint64_t message) const {
    return must_take(records_.at(message));
}

// What is kept is the latest: what comes from there has all behind it that came in after it.
bool Model::is_due(const Record& record) const {
    if (record.due) return true;
    const auto earliest = earliest_.find(record.producer);
    return earliest != earliest_.end() && record.sequence >= earliest->second;
}

bool Model::must_take(const Record& record) const {
    return is_due(record) &&
           std::all_of(bindings_.begin(), bindings_.end(), [&](const auto& one) { return fits(one, record.message); });
}

std::optional<std::uint64_t> Model::find(int producer, std::uint64_t sequence) const {
    const auto it = by_sequence_.find({producer, sequence});
    return it == by_sequence_.end() ? std::nullopt : std::optional{it->second};
}

void Model::publish(std::uint64_t number, Kind kind, int producer, std::uint64_t sequence, Message message, Now now) {
    by_sequence_[{producer, sequence}] = number;
    if (!message.ordering_key.empty()) lines_[{producer, message.ordering_key}].push_back(number);
    if (!message.dedup_key.empty()) dedup_keys_[message.dedup_key].push_back(number);
    Record& record = records_[number];
    record = {.kind = kind,
              .producer = producer,
              .sequence = sequence,
              .due = bindings_.empty() || welcome_,
              .gone = replaced_.contains(producer),
              .deaths_before = deaths,
              .message = std::move(message),
              .published = now.wall};
}

void Model::confirmed(int producer, std::uint64_t first, std::uint64_t last, Now now) {
    for (std::uint64_t sequence = first; sequence <= last; ++sequence) {
        const auto it = by_sequence_.find({producer, sequence});
        if (it == by_sequence_.end()) {
            violation("a message was confirmed that was never sent: " + std::to_string(sequence));
            return;
        }
        Record& record = records_[it->second];
        if (record.refused) continue;  // a range runs over what was refused within it
        if (record.gone) violation("message " + std::to_string(it->second) + " was confirmed and is another one");
        record.confirmed = true;
        if (record.confirmed_at) continue;
        record.confirmed_at = now;
        const Message& message = record.message;
        const bool plain = message.ordering_key.empty() && message.dedup_key.empty() && message.delay == message.ttl &&
                           message.ttl == Duration::zero();
        const bool stays = !makes_room() && policy_.max_age == Duration::zero();
        if (plain && stays && record.handed_out == 0 && must_take(record))
            waiting_.insert({message.priority, it->second});
    }
}

void Model::refused(int producer, std::uint64_t sequence) {
    const auto it = by_sequence_.find({producer, sequence});
    if (it == by_sequence_.end()) {
        violation("a message was refused that was never sent: " + std::to_string(sequence));
        return;
    }
    Record& record = records_[it->second];
    if (record.confirmed) violation("message " + std::to_string(it->second) + " was confirmed and then refused");
    record.refused = true;
}

void Model::producer_died(int producer) {
    for (auto& [message, record] : records_) {
        if (record.producer == producer && !record.confirmed && !record.refused) record.orphan = true;
    }
}

void Model::resumed(int producer, std::uint64_t place, Now now) {
    if (place < place_) {
        violation("a named producer was sent back from " + std::to_string(place_) + " to " + std::to_string(place));
    }
    for (auto& [message, record] : records_) {
        if (record.producer != named_ || record.refused) continue;
        if (record.sequence <= place) {
            record.confirmed = true;  // nobody will send it again
            if (!record.confirmed_at) record.confirmed_at = now;
            continue;
        }
        record.gone = true;
        if (record.confirmed) violation("message " + std::to_string(message) + ", confirmed, is to be sent again");
    }
    if (named_ != 0) replaced_.insert(named_);
    named_ = producer;
    place_ = place;
}

void Model::refused_before(std::uint64_t sequence) {
    const auto it = by_sequence_.find({named_, sequence});
    if (it != by_sequence_.end()) records_[it->second].refused = true;
}

void Model::begun(std::uint64_t message, std::uint64_t offset, std::uint32_t attempt, bool redriven) {
    const auto it = records_.find(message);
    if (it == records_.end()) {
        violation("a message was delivered that was never sent");
        return;
    }
    Record& record = it->second;
    const std::string name = "message " + std::to_string(message);
    ++totals.deliveries;
    if (record.begun++ > 0) ++totals.redeliveries;
    if (record.refused) violation(name + " was refused and then delivered");
    if (!may_take(message)) violation(name + " on " + record.message.subject + " was delivered and is not for it");
    if (attempt < 1 || attempt - 1 > record.nacked + (deaths - record.deaths_before)) {
        violation(name + " came as attempt " + std::to_string(attempt) + " after " + std::to_string(record.nacked) +
                  " failures and " + std::to_string(deaths - record.deaths_before) + " deaths");
    }
    if (with_what_is_kept_ && welcome_) {
        std::uint64_t& earliest = earliest_.try_emplace(record.producer, record.sequence).first->second;
        earliest = std::min(earliest, record.sequence);
    }
    if (redriven) return;                 // it stands where it was put back
    constexpr unsigned lives_apart = 26;  // bits: each life of a host starts so far behind the last
    auto& offsets = offsets_[{offset >> lives_apart, record.producer}];
    offsets[record.sequence] = offset;
    const auto here = offsets.find(record.sequence);
    const auto compare = [&](const auto& other) {
        if ((other.first < record.sequence) == (other.second < offset)) return;
        violation(name + ", number " + std::to_string(record.sequence) + " of producer " +
                  std::to_string(record.producer) + ", stands at " + std::to_string(offset) + "; number " +
                  std::to_string(other.first) + " at " + std::to_string(other.second));
    };
    if (here != offsets.begin()) compare(*std::prev(here));
    if (std::next(here) != offsets.end()) compare(*std::next(here));
}

void Model::edited(std::uint64_t message) {
    ++totals.edited;
    records_.at(message).edited = true;
}

void Model::sent_back(std::uint64_t message, bool edited) {
    const auto it = records_.find(message);
    if (it != records_.end() && it->second.edited && !edited) {
        violation("message " + std::to_string(message) + " is again what it was before an edit that was confirmed");
    }
}

void Model::handed_out(std::uint64_t message, std::uint32_t token, Now now) {
    Record& record = records_.at(message);
    const Message& sent = record.message;
    const std::string name = "message " + std::to_string(message);
    waiting_.erase({sent.priority, message});
    // One that was given out before, to a consumer that has not heard of anything since, may still be begun.
    if (record.ack_confirmed) violation(name + " was delivered again after its ack was confirmed");
    if (record.gone) violation(name + " was delivered, and its number again");
    if (record.handed_out++ == 0 && token == 1) first_handed_out_.push_back(message);
    if (!record.first_handed_out) {
        check_dedup(message, record, now);
        record.first_handed_out = now.wall;
    }
    // It was accepted not before it was sent, and not after it was confirmed.
    if (now.wall < record.published + std::chrono::duration_cast<WallClock::duration>(sent.delay)) {
        violation(name + " was delivered before its delay was over");
    }
    if (sent.delay > Duration::zero()) ++totals.delayed;
    const Duration life = life_of(sent);
    if (life != Duration::zero() && record.confirmed_at && now.mono >= record.confirmed_at->mono + life) {
        violation(name + " was delivered after its time to live");
    }
    if (!sent.ordering_key.empty()) check_line(message, record);
}

// Whatever is before it in the line of its key has been done, if it is known to have been accepted and cannot have been
// given up.
void Model::check_line(std::uint64_t message, const Record& record) {
    ++totals.keyed;
    if (makes_room() || policy_.max_age != Duration::zero()) return;  // any of them may have gone
    for (const std::uint64_t other : lines_.at({record.producer, record.message.ordering_key})) {
        if (other >= message) return;
        const Record& before = records_.at(other);
        const bool certain = must_take(before) && before.confirmed &&
                             (before.kind == Kind::healthy || before.kind == Kind::released) &&
                             before.message.delay == before.message.ttl && before.message.ttl == Duration::zero() &&
                             before.message.dedup_key.empty();
        if (certain && before.acked == 0 && before.handed_out < 2) {
            violation("message " + std::to_string(message) + " was delivered before " + std::to_string(other) +
                      " of the same key was done");
        }
    }
}

// No other one with its key had come in, and was known to be safe, before this one was sent, and this one came in
// within the window of that one. When either was accepted is not known: not before it was sent, not after it was handed
// out.
void Model::check_dedup(std::uint64_t message, const Record& record, Now now) {
    if (record.message.dedup_key.empty()) return;
    for (const std::uint64_t other : dedup_keys_.at(record.message.dedup_key)) {
        if (other >= message) return;
        const Record& before = records_.at(other);
        if (!before.first_handed_out || !before.confirmed_at || before.confirmed_at->wall > record.published) continue;
        if (now.wall >= before.published + policy_.dedup_window) continue;
        violation("message " + std::to_string(message) + " was delivered, and " + std::to_string(other) +
                  " had its dedup key and was confirmed within the window before");
    }
}

// Another one with its key was taken, and may have been within the window before it. That one may have been for another
// subscription only.
bool Model::may_be_deduplicated(const Record& record) const {
    if (record.message.dedup_key.empty() || !record.confirmed_at) return false;
    const std::vector<std::uint64_t>& same = dedup_keys_.at(record.message.dedup_key);
    return std::any_of(same.begin(), same.end(), [&](std::uint64_t other) {
        const Record& before = records_.at(other);
        const bool taken = bindings_.empty() ? before.acked > 0 || before.dead_lettered : !before.refused;
        const bool over = before.confirmed_at && record.published >= before.confirmed_at->wall + policy_.dedup_window;
        return taken && before.published <= record.confirmed_at->wall && !over;
    });
}

// Nothing was handed out for the first time while something of a higher priority was to be.
void Model::turn_over(Now now) {
    for (const std::uint64_t message : std::exchange(first_handed_out_, {})) {
        const unsigned priority = records_.at(message).message.priority;
        if (priority > 0) ++totals.prioritised;
        for (auto it = waiting_.rbegin(); it != waiting_.rend() && it->first > priority; ++it) {
            if (records_.at(it->second).confirmed_at->mono >= now.mono) continue;
            violation("message " + std::to_string(message) + " of priority " + std::to_string(priority) +
                      " was delivered before " + std::to_string(it->second) + " of " + std::to_string(it->first));
        }
    }
}

void Model::ack_confirmed(std::uint64_t message) {
    ++totals.settled;
    records_.at(message).ack_confirmed = true;
}

void Model::dead_letter(std::uint64_t message, const std::string& reason, std::uint32_t attempts,
                        std::uint32_t max_attempts, Wall at) {
    const auto it = records_.find(message);
    if (it == records_.end()) {
        violation("a dead letter that was never sent");
        return;
    }
    Record& record = it->second;
    const std::string name = "dead letter " + std::to_string(message);
    if (record.dead_lettered) violation(name + " is there twice");
    record.dead_lettered = true;
    ++totals.dead_letters;
    if (reason == "rejected") {
        if (record.kind != Kind::rejected) violation(name + " was never rejected");
    } else if (reason == "max_attempts") {
        if (attempts < max_attempts) violation(name + " has spent " + std::to_string(attempts) + " attempts only");
        if (attempts > record.nacked + (deaths - record.deaths_before)) {
            violation(name + " was charged " + std::to_string(attempts) + " attempts; it failed " +
                      std::to_string(record.nacked) + " times and had " +
                      std::to_string(deaths - record.deaths_before) + " deaths");
        }
    } else if (reason == "expired") {
        ++totals.expired;
        const Duration life = life_of(record.message);
        if (life == Duration::zero()) violation(name + " has no time to live");
        if (at < record.published + life) violation(name + " expired before its time");
    } else if (reason == "queue_full" && policy_.when_full == WhenFull::dead_letter) {
        ++totals.displaced;
        check_displaced(message, record, at);
    } else {
        violation(name + " has the reason " + reason);
    }
}

bool Model::makes_room() const {
    return policy_.when_full == WhenFull::drop_oldest || policy_.when_full == WhenFull::dead_letter;
}

Duration Model::life_of(const Message& message) const {
    if (message.ttl == Duration::zero() || policy_.max_age == Duration::zero()) {
        return std::max(message.ttl, policy_.max_age);
    }
    return std::min(message.ttl, policy_.max_age);
}

// The oldest go first: no earlier one of its producer was still to be handed out for the first time.
void Model::check_displaced(std::uint64_t message, const Record& record, Wall at) {
    for (const auto& [other, before] : records_) {
        if (before.producer != record.producer || before.sequence >= record.sequence) continue;
        if (!before.first_handed_out || *before.first_handed_out <= at) continue;
        violation("message " + std::to_string(message) + " made room and " + std::to_string(other) +
                  ", before it, was handed out later");
    }
}

void Model::at_the_end(bool forgot) {
    std::uint64_t gone = 0;
    std::uint64_t may_be_gone = 0;
    for (const auto& [message, record] : records_) {
        if (!record.refused && !record.ack_confirmed && !record.dead_lettered) ++may_be_gone;
        if (record.refused || record.acked > 0 || record.dead_lettered || !must_take(record)) continue;
        if (record.orphan && !record.confirmed) continue;  // nobody was told that it is safe
        if (record.gone) continue;
        if (may_be_deduplicated(record)) {
            ++totals.deduplicated;
            continue;
        }
        if (policy_.when_full == WhenFull::drop_oldest) {
            if (record.message.dedup_key.empty()) ++gone;  // else one with its key may be what has gone
            continue;
        }
        violation("message " + std::to_string(message) +
                  (record.confirmed ? ", confirmed, is lost" : " never came through") + " (begun " +
                  std::to_string(record.begun) + ", kind " + static_cast<char>(record.kind) + ")");
    }
    const auto counted = std::to_string(totals.dropped) + " messages were dropped, it is said; ";
    if (gone > totals.dropped) violation(counted + std::to_string(gone) + " are gone");
    if (!forgot && totals.dropped > may_be_gone) violation(counted + std::to_string(may_be_gone) + " may be gone");
}

}  // namespace posthorn::sim
