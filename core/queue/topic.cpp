// A topic and its subscriptions: who gets a message, and when it is settled for its producer.
#include <algorithm>
#include <limits>

#include "envelope/binding.hpp"
#include "queue/queue.hpp"

namespace posthorn::queue {

void Queue::add_subscription(Queue& subscription, std::vector<Binding> bindings) {
    subscription.topic_ = this;
    subscribers_.push_back({&subscription, std::move(bindings)});
    next_offset_ = std::max(next_offset_, subscription.next_offset_);
    for (const Subscriber& one : subscribers_) one.queue->keep_up(next_offset_);
}

void Queue::rebind(const Queue& subscription, std::vector<Binding> bindings) {
    const auto found = std::find_if(subscribers_.begin(), subscribers_.end(),
                                    [&](const Subscriber& one) { return one.queue == &subscription; });
    if (found != subscribers_.end()) found->bindings = std::move(bindings);
}

void Queue::remove_subscription(Queue& subscription) {
    subscription.topic_ = nullptr;
    next_offset_ = std::max(next_offset_, subscription.next_offset_);  // one of that name begins behind it
    std::erase_if(subscribers_, [&](const Subscriber& one) { return one.queue == &subscription; });
    for (auto it = passed_on_.begin(); it != passed_on_.end();) {
        it = count_off(subscription, it->second) ? passed_on_.erase(it) : std::next(it);
    }
}

void Queue::describe(std::string record, Now now) {
    record_ = std::move(record);
    changed(now);
}

void Queue::vanish(Now now) {
    vanishing_ = true;
    changed(now);
}

bool Queue::find_takers(std::string_view envelope) {
    takers_.clear();
    std::optional<envelope::Labels> labels;
    for (const Subscriber& one : subscribers_) {
        if (!envelope::takes_everything(one.bindings)) {
            if (!labels) labels = envelope::read_labels(envelope);
            if (!envelope::matches(one.bindings, *labels)) continue;
        }
        takers_.push_back(one.queue);
    }
    return !takers_.empty();
}

// The same offset in all of them, though each may have moved on by itself: by what was sent back to it.
void Queue::pass_on(const envelope::Routing& routing, const Slice& envelope, bool maybe_duplicate, Producer& producer,
                    Now now) {
    const envelope::Routing plain{.producer = routing.producer, .sequence = routing.sequence};
    Offset offset = next_offset_;
    for (const Queue* taker : takers_) offset = std::max(offset, taker->next_offset_);
    for (Queue* taker : takers_) {
        taker->skip_to(offset);
        taker->take(taker->is_log_ ? plain : routing, envelope, maybe_duplicate, nullptr, now);
    }
    if (!durable_) {
        ++producer.unsettled;
        passed_on_.emplace(offset, PassedOn{&producer, routing.sequence, {takers_.begin(), takers_.end()}});
    }
    if (passed_from_ == 0) passed_from_ = offset;
    pending_bytes_ += envelope.size();
    next_offset_ = offset + 1;
    for (const Subscriber& one : subscribers_) one.queue->keep_up(next_offset_);
    in_.count(now.mono);
    changed(now);
}

// Nothing of it is under way: so it need not remember what others got as holes of its own, however many those are.
void Queue::keep_up(Offset offset) noexcept {
    if (pending_.empty() && !committing_) next_offset_ = std::max(next_offset_, offset);
}

// They are not in the store, nor under way there: a log is caught up with as soon as a commit has ended.
void Queue::catch_up(const Queue& log, const std::vector<Binding>& bindings, Now now) {
    Offset offset = log.pending_first();
    for (const Pending& pending : log.pending_) {
        const std::string_view bytes = pending.envelope.view();
        const auto routing = pending.done ? std::nullopt : envelope::read_routing(bytes);
        if (routing && envelope::is_wanted(bindings, bytes)) {
            skip_to(offset);
            take(*routing, pending.envelope, pending.maybe_duplicate, nullptr, now);
        }
        ++offset;
    }
}

// Offsets that went to others. While a batch is under way the place of every message that is not in it is counted from
// its end, so these are kept as holes.
void Queue::skip_to(Offset offset) {
    keep_up(offset);
    for (; next_offset_ < offset; ++next_offset_) pending_.push_back(Pending{.done = true});
}

void Queue::settled_by(const Queue& subscription, Offset offset) {
    const auto found = passed_on_.find(offset);
    if (found != passed_on_.end() && count_off(subscription, found->second)) passed_on_.erase(found);
}

// True: it was the last one that had not settled the message.
bool Queue::count_off(const Queue& subscription, PassedOn& message) {
    if (std::erase(message.left, &subscription) == 0 || !message.left.empty()) return false;
    count_as_settled(*message.producer, message.sequence);
    --message.producer->unsettled;
    return true;
}

// Whatever it has: so it is never what its publishers wait for.
bool Queue::always_makes_room() const noexcept {
    const bool bounded_dead = policy_.dlq_max_messages != 0 || policy_.dlq_max_bytes != 0;
    return makes_room_ && (policy_.when_full == WhenFull::drop_oldest || !bounded_dead ||
                           policy_.dlq_when_full == DlqWhenFull::drop_oldest);
}

std::uint64_t Queue::least_of_subscriptions(std::uint64_t (Queue::*free)() const) const {
    std::uint64_t least = std::numeric_limits<std::uint64_t>::max();
    for (const Subscriber& one : subscribers_) {
        if (one.queue->makes_producers_wait() && !one.queue->always_makes_room())
            least = std::min(least, (one.queue->*free)());
    }
    return least;
}

}  // namespace posthorn::queue
