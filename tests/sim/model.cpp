#include "sim/model.hpp"

namespace posthorn::sim {

void Totals::add(const Totals& other) {
    steps += other.steps;
    messages += other.messages;
    deliveries += other.deliveries;
    settled += other.settled;
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
    disk_full += other.disk_full;
    drained_full += other.drained_full;
    refused += other.refused;
    stale += other.stale;
    expired += other.expired;
    resumed += other.resumed;
    fenced += other.fenced;
}

void Model::violation(std::string what) {
    violations_.push_back(std::move(what));
}

std::uint64_t Model::publish(Kind kind, int producer, std::uint64_t sequence, Duration ttl, Now now) {
    const std::uint64_t message = ++totals.messages;
    records_[message] = {.kind = kind,
                         .producer = producer,
                         .sequence = sequence,
                         .gone = replaced_.contains(producer),
                         .deaths_before = deaths,
                         .ttl = ttl,
                         .published = now.wall};
    by_sequence_[{producer, sequence}] = message;
    return message;
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
        if (!record.confirmed_at) record.confirmed_at = now.mono;
    }
}

void Model::refused(int producer, std::uint64_t sequence) {
    ++totals.refused;
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
            if (!record.confirmed_at) record.confirmed_at = now.mono;
            continue;
        }
        record.gone = true;
        if (record.confirmed) violation("message " + std::to_string(message) + ", confirmed, is to be sent again");
    }
    if (named_ != 0) {
        replaced_.insert(named_);
        ++totals.resumed;
    }
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
    if (record.ack_confirmed && !redriven) violation(name + " was delivered again after its ack was confirmed");
    if (record.refused) violation(name + " was refused and then delivered");
    if (attempt < 1 || attempt - 1 > record.nacked + (deaths - record.deaths_before)) {
        violation(name + " came as attempt " + std::to_string(attempt) + " after " + std::to_string(record.nacked) +
                  " failures and " + std::to_string(deaths - record.deaths_before) + " deaths");
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

void Model::handed_out(std::uint64_t message, Now now) {
    const Record& record = records_.at(message);
    if (record.gone) violation("message " + std::to_string(message) + " was delivered, and its number again");
    if (record.ttl == Duration::zero() || !record.confirmed_at) return;  // accepted at the latest when it was confirmed
    if (now.mono >= *record.confirmed_at + record.ttl) {
        violation("message " + std::to_string(message) + " was delivered after its time to live");
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
        if (record.ttl == Duration::zero()) violation(name + " has no time to live");
        if (at < record.published + record.ttl) violation(name + " expired before its time");
    } else {
        violation(name + " has the reason " + reason);
    }
}

void Model::at_the_end() {
    for (const auto& [message, record] : records_) {
        if (record.refused || record.acked > 0 || record.dead_lettered) continue;
        if (record.orphan && !record.confirmed) continue;  // nobody was told that it is safe
        if (record.gone) continue;
        violation("message " + std::to_string(message) +
                  (record.confirmed ? ", confirmed, is lost" : " never came through") + " (begun " +
                  std::to_string(record.begun) + ", kind " + static_cast<char>(record.kind) + ")");
    }
}

}  // namespace posthorn::sim
