// Requests: what becomes of one is told to who sent it. The answer carries what only the request says (who waits for
// it), so one that is settled before its bytes are here waits for them.
#include <utility>

#include "queue/queue.hpp"

namespace posthorn::queue {

void Queue::become_service() {
    if (is_service_) return;
    is_service_ = true;
    policy_.max_attempts = policy_.request_attempts;
    policy_.lease = std::min(policy_.lease, defaults::replier_lease);
    if (!makes_room_) return;
    makes_room_ = false;
    policy_.when_full = WhenFull::block;
    idle_.clear();
}

bool Queue::holds(ConsumerId id, Held held) const {
    const auto it = entries_.find(held.offset);
    return it != entries_.end() && it->second.where == Where::leased && it->second.holder == id &&
           it->second.token == held.token;
}

bool Queue::may_be_answer(Offset offset, const envelope::Request& answer) const {
    const auto known = requests_.find(offset);
    if (known == requests_.end()) return true;
    const envelope::Request& request = known->second;
    return request.producer == answer.producer && request.sequence == answer.sequence &&
           request.reply_to == answer.reply_to;
}

void Queue::enter_answer(Slice envelope, Now now) {
    take({}, std::move(envelope), false, nullptr, now);
}

// Nothing: its bytes are in the store only.
std::optional<envelope::Request> Queue::request_at(Offset offset, const Entry& entry) const {
    const auto known = requests_.find(offset);
    if (known != requests_.end()) return known->second;
    if (!entry.body.empty()) return envelope::read_request(entry.body.view());
    if (offset < pending_first()) return std::nullopt;
    const Slice& pending = pending_[offset - pending_first()].envelope;
    return pending.empty() ? std::nullopt : std::optional(envelope::read_request(pending.view()));
}

// Wherever it is.
void Queue::leave_place(Offset offset, Entry& entry) {
    if (entry.where == Where::leased) {
        end_lease(entry);
    } else {
        unwatch_expiry(offset, entry);
        leave_line(offset, entry);
    }
}

// False: nobody waits for an answer. Otherwise it is settled, or will be when its bytes have been read.
bool Queue::answer(Entries::iterator it, Fate fate, std::string text, bool settled, Now now) {
    const Offset offset = it->first;
    Entry& entry = it->second;
    const auto request = request_at(offset, entry);
    if (request && request->reply_to.empty()) return false;
    leave_place(offset, entry);
    if (request) {
        answer(it, *request, fate, std::move(text), now);
        return true;
    }
    entry.where = Where::unanswered;
    unanswered_.emplace(offset, Unanswered{fate, std::move(text), settled});
    if (settled) ++settles_unanswered_;
    if (entry.key != 0) refresh_line(entry.key);
    return true;
}

void Queue::answer(Entries::iterator it, const envelope::Request& request, Fate fate, std::string text, Now now) {
    std::string_view status;
    switch (fate) {
        case Fate::done:
            break;
        case Fate::failed:
            status = envelope::status::failed;
            ++counters_.requests_failed;
            break;
        case Fate::undecodable:
            status = envelope::status::undecodable;
            ++counters_.requests_failed;
            break;
        case Fate::replier_lost:
            status = envelope::status::replier_lost;
            ++counters_.repliers_lost;
            break;
        case Fate::expired:
            status = envelope::status::expired;
            ++counters_.requests_expired;
            break;
    }
    answer(it, request.reply_to, Slice{envelope::answer(request, status, {.payload = std::move(text)})}, now);
}

void Queue::answer(Entries::iterator it, std::string reply_to, Slice reply, Now now) {
    answers_.push_back({std::move(reply_to), std::move(reply)});
    write_answered(it->first);
    erase(it);
    changed(now);
}

void Queue::cancel(const Identity& producer, SequenceRange requests, Now now) {
    auto next = by_sequence_.lower_bound({producer, requests.first});
    while (next != by_sequence_.end() && next->first.first == producer && next->first.second <= requests.last) {
        const auto it = entries_.find((next++)->second);
        Entry& entry = it->second;
        if (entry.where == Where::unanswered) continue;  // it has been settled
        if (entry.where == Where::leased) tell_lost(entry.holder, {it->first, entry.token});
        leave_place(it->first, entry);
        ++counters_.requests_cancelled;
        write_settled(it->first);
        erase(it);
        changed(now);
    }
}

// Its bytes have come.
void Queue::answer_late(Entries::iterator it, const Slice& envelope, Now now) {
    const Offset offset = it->first;
    const auto node = unanswered_.extract(offset);
    Unanswered& how = node.mapped();
    if (how.settled) --settles_unanswered_;
    const envelope::Request request = envelope::read_request(envelope.view());
    if (!request.reply_to.empty()) {
        answer(it, request, how.fate, std::move(how.text), now);
        return;
    }
    if (how.fate == Fate::done) {
        write_settled(offset);
        erase(it);
        changed(now);
        return;
    }
    const Entry& entry = it->second;
    const auto reason = how.fate == Fate::undecodable    ? store::Reason::undecodable
                        : how.fate == Fate::expired      ? store::Reason::expired
                        : how.fate == Fate::replier_lost ? store::Reason::max_attempts
                                                         : store::Reason::rejected;
    bury(it,
         {.offset = offset,
          .reason = reason,
          .text = std::move(how.text),
          .attempts = entry.attempts,
          .first_failure = entry.first_failure == Wall{} ? now.wall : entry.first_failure,
          .last_failure = now.wall,
          .consumer = {}},
         now);
}

// Without room for the answer it stays behind.
void Queue::write_answered(Offset offset) {
    if (offset < pending_first()) {
        answered_.push_back(offset);
    } else {
        write_settled(offset);
    }
}

// There is no room for what would come of it.
bool Queue::expires_nothing() const noexcept {
    constexpr std::size_t answers_waiting = 10'000;
    return dlq_blocks() || answered_.size() >= answers_waiting;
}

// It leaves the memory.
void Queue::forget_request(Offset offset) {
    if (!is_service_) return;
    requests_.erase(offset);
    if (const auto asked = asked_.find(offset); asked != asked_.end()) {
        by_sequence_.erase(asked->second);
        asked_.erase(asked);
    }
    const auto unanswered = unanswered_.find(offset);
    if (unanswered == unanswered_.end()) return;
    if (unanswered->second.settled) --settles_unanswered_;
    unanswered_.erase(unanswered);
}

}  // namespace posthorn::queue
