// Who gets the next message. Free handlers first, one each in turn; what is left goes ahead of need, evenly, as far as
// windows allow. Suspects go apart, to a consumer that holds nothing else. In a strict queue all goes to one consumer,
// in the order of acceptance.
#include <algorithm>

#include "queue/queue.hpp"

namespace posthorn::queue {

namespace {
constexpr Duration streaming =
    10ms;  // a consumer that has settled something within this is not stuck behind a long task
}

bool Queue::has_room(const Consumer& consumer, std::size_t size) const {
    if (!consumer.connected || consumer.silent || consumer.in_flight >= consumer.window) return false;
    return consumer.in_flight == 0 || consumer.in_flight_bytes + size <= consumer.window_bytes;
}

// What is next in turn and no suspect; end() if none is in memory.
Queue::Entries::iterator Queue::next_ready() {
    auto fresh = entries_.end();
    while (!fresh_.empty()) {
        fresh = entries_.find(fresh_.front());
        if (fresh != entries_.end() && fresh->second.shown && !fresh->second.suspect) break;
        fresh = entries_.end();
        fresh_.pop_front();
    }
    auto next = fresh;
    if (!returned_.empty()) {
        const auto [behind_highest, offset] = *returned_.begin();
        const bool later = fresh != entries_.end() && behind_highest == priority_limit && fresh->first < offset;
        if (!later) next = entries_.find(offset);
    }
    if (next != entries_.end() && is_higher_on_its_way(next->second.priority)) return entries_.end();
    return next;
}

void Queue::deliver(ConsumerId id, Consumer& consumer, Offset offset, Entry& entry, Now now,
                    std::vector<Delivered>& out) {
    if (is_failing()) {
        entry.probe = true;
        ++probes_;
    }
    ++entry.token;
    if (entry.token > 1) ++counters_.redelivered;
    out.push_back({.consumer = id,
                   .offset = offset,
                   .token = entry.token,
                   .attempt = entry.attempts + 1U,
                   .redrives = entry.redrives,
                   .maybe_duplicate = entry.maybe_duplicate,
                   .envelope = entry.body});
    if (is_service_) requests_.insert_or_assign(offset, envelope::read_request(entry.body.view()));
    leave_line(offset, entry);
    if (consumer.in_flight == 0) {
        consumer.lease_end = now.mono + policy_.lease;
        consumer.progress = now.mono;
    }
    lease(id, consumer, offset, entry, now);
    touch(offset, entry, now);
}

Queue::Given Queue::deliver_next(ConsumerId id, Consumer& consumer, Now now, std::vector<Delivered>& out) {
    if (probes_ > 0 && is_failing()) return Given::none;
    const auto it = next_ready();
    if (it == entries_.end()) return Given::none;
    if (!has_room(consumer, it->second.size)) return Given::no_room;
    if (it->second.body.empty()) {
        starved_ = true;
        return Given::none;
    }
    const Offset offset = it->first;
    if (!fresh_.empty() && fresh_.front() == offset) fresh_.pop_front();
    deliver(id, consumer, offset, it->second, now, out);
    return Given::yes;
}

void Queue::dispatch(Now now, std::vector<Delivered>& out) {
    starved_ = false;
    dispatch_suspects(now, out);
    std::vector<std::pair<ConsumerId, Consumer*>> turn;
    for (auto& [id, consumer] : consumers_) {
        const bool apart = consumer.holds_suspects || (id == taker_ && !suspects_.empty());
        if (!apart && has_room(consumer, 0)) turn.emplace_back(id, &consumer);
    }
    if (turn.empty()) return;
    const auto behind = std::find_if(turn.begin(), turn.end(), [&](const auto& one) { return one.first > turn_of_; });
    std::rotate(turn.begin(), behind, turn.end());

    bool given = true;
    while (given) {
        given = false;
        for (auto& [id, consumer] : turn) {
            if (consumer->in_flight >= consumer->concurrency) continue;
            const Given one = deliver_next(id, *consumer, now, out);
            if (one == Given::none) return;
            if (one == Given::yes) {
                given = true;
                turn_of_ = id;
            }
        }
    }
    const std::uint64_t share = std::max<std::uint64_t>(1, ready_ / turn.size());
    given = true;
    while (given) {
        given = false;
        for (auto& [id, consumer] : turn) {
            for (std::uint64_t i = 0; i < share; ++i) {
                const Given one = deliver_next(id, *consumer, now, out);
                if (one == Given::none) return;
                if (one == Given::no_room) break;
                given = true;
                turn_of_ = id;
            }
        }
    }
}

// The only one of a strict queue that may be given something now; end(): nobody. A link that is gone or a silence moves
// it on only when the lease of all it held is over.
std::map<ConsumerId, Queue::Consumer>::iterator Queue::active_consumer() {
    const auto holds = [](const auto& one) { return one.second.in_flight > 0; };
    const auto holder = std::find_if(consumers_.begin(), consumers_.end(), holds);
    if (holder != consumers_.end()) {
        active_ = holder->first;
        return std::any_of(std::next(holder), consumers_.end(), holds) ? consumers_.end() : holder;
    }
    const auto is_there = [](const auto& one) { return one.second.connected && !one.second.silent; };
    auto active = consumers_.find(active_);
    if (active == consumers_.end() || !is_there(*active)) {
        active = std::find_if(consumers_.begin(), consumers_.end(), is_there);
    }
    if (active != consumers_.end()) active_ = active->first;
    return active;
}

// Of a strict queue: the first that is ready, suspects as well; end(): it is not in memory, or has to wait for one
// before it.
Queue::Entries::iterator Queue::next_in_line() {
    auto next = next_ready();
    if (!suspects_.empty() && (next == entries_.end() || *suspects_.begin() < next->first)) {
        next = entries_.find(*suspects_.begin());
    }
    if (next == entries_.end()) return next;
    const bool held_up = !holding_up_.empty() && *holding_up_.begin() < next->first;
    return held_up || (can_read_on(0) && may_be_behind_stored(next->first)) ? entries_.end() : next;
}

void Queue::dispatch_strictly(Now now, std::vector<Delivered>& out) {
    starved_ = false;
    const auto active = active_consumer();
    if (active == consumers_.end()) return;
    auto& [id, consumer] = *active;
    for (;;) {
        if (probes_ > 0 && is_failing()) return;
        const auto it = next_in_line();
        if (it == entries_.end() || !has_room(consumer, it->second.size)) return;
        const bool alone = it->second.suspect || consumer.holds_suspects || !consumer.keeps_order;
        if (alone && consumer.in_flight > 0) return;
        if (it->second.body.empty()) {
            starved_ = true;
            return;
        }
        consumer.holds_suspects = it->second.suspect;
        if (!fresh_.empty() && fresh_.front() == it->first) fresh_.pop_front();
        deliver(id, consumer, it->first, it->second, now, out);
    }
}

void Queue::dispatch_suspects(Now now, std::vector<Delivered>& out) {
    taker_ = 0;
    if (suspects_.empty()) return;
    std::uint32_t least = 0;
    for (auto& [id, consumer] : consumers_) {
        if (!consumer.connected || consumer.silent || consumer.window == 0) continue;
        if (consumer.in_flight == 0 || consumer.holds_suspects) {
            if (give_suspects(id, consumer, now, out)) continue;
            if (!suspects_.empty() && consumer.in_flight == 0) taker_ = id;  // it takes them once their bodies are here
            return;
        } else if (taker_ == 0 || consumer.in_flight < least) {
            taker_ = id;  // the first to run dry; the others go on
            least = consumer.in_flight;
        }
    }
    if (suspects_.empty()) taker_ = 0;
}

// False: nothing more can be given now, to anybody.
bool Queue::give_suspects(ConsumerId id, Consumer& consumer, Now now, std::vector<Delivered>& out) {
    while (!suspects_.empty()) {
        if (probes_ > 0 && is_failing()) return false;
        const Offset offset = *suspects_.begin();
        Entry& entry = entries_.find(offset)->second;
        if (entry.isolate ? consumer.in_flight > 0 : consumer.in_flight >= consumer.concurrency) return true;
        if (consumer.in_flight > 0 && !has_room(consumer, entry.size)) return true;
        if (entry.body.empty()) {
            starved_ = true;
            return false;
        }
        consumer.holds_suspects = true;
        const bool alone = entry.isolate;
        deliver(id, consumer, offset, entry, now, out);
        if (alone) return true;
    }
    return false;
}

// "Long tasks never wait behind long tasks": when nothing is ready and a handler is free, a consumer that sits on
// deliveries it cannot have begun is asked for them.
void Queue::want_recalls(Now now, std::vector<Recall>& recalls) {
    if (ready_ > 0 || consumers_.size() < 2) return;
    std::uint32_t free = 0;
    for (const auto& [id, consumer] : consumers_) {
        if (consumer.connected && !consumer.silent && !consumer.holds_suspects && consumer.window > 0 &&
            consumer.in_flight < consumer.concurrency) {
            free += consumer.concurrency - consumer.in_flight;
        }
        if (consumer.recalling) return;
    }
    for (auto& [id, consumer] : consumers_) {
        if (free == 0) return;
        if (!consumer.connected || consumer.holds_suspects || consumer.in_flight <= consumer.concurrency) continue;
        const Mono when = std::max(consumer.progress + streaming, consumer.recall_after);
        if (when > now.mono) {
            recall_at_ = std::min(recall_at_, when);
            continue;
        }
        const std::uint32_t count = std::min(free, consumer.in_flight - consumer.concurrency);
        consumer.recalling = true;
        free -= count;
        recalls.push_back({id, count});
    }
}

}  // namespace posthorn::queue
