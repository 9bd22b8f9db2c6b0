#include "queue/dedup.hpp"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

namespace posthorn::queue {

namespace {

// A key with what is kept beside it: an element of the deque, a node and a bucket of the set, what malloc adds.
std::size_t cost_of(const store::DedupKey& key) {
    constexpr std::size_t beside = 128;
    return key.key.size() + beside;
}

}  // namespace

// Over lives the wall clock counts. Where it was set back no window gets longer for that, and none ends after that of a
// key that was accepted later.
std::size_t Dedup::recover(const std::vector<store::DedupKey>& keys, Now now) {
    Mono until = now.mono + window_;
    std::for_each(keys.rbegin(), keys.rend(), [&](const store::DedupKey& key) {
        const Duration age = std::max(Wall::duration::zero(), now.wall - key.accepted_at);
        until = std::min(until, now.mono + window_ - age);
        keys_.push_front({key, until});
        known_.insert(keys_.front().accepted.key);  // unless it was accepted again later: that one counts
        bytes_ += cost_of(key);
    });
    forget(now);
    return keep_to_limit();
}

void Dedup::forget(Now now) {
    while (!keys_.empty() && keys_.front().until <= now.mono) drop_oldest();
}

std::size_t Dedup::add(store::Offset offset, std::string_view key, Now now) {
    if (window_ == Duration::zero()) return 0;
    const Known& known = keys_.emplace_back(
        Known{{.offset = offset, .accepted_at = now.wall, .key = std::string{key}}, now.mono + window_});
    known_.insert(known.accepted.key);
    bytes_ += cost_of(known.accepted);
    return keep_to_limit();
}

void Dedup::drop_oldest() {
    const store::DedupKey& oldest = keys_.front().accepted;
    const auto found = known_.find(oldest.key);
    if (found->data() == oldest.key.data()) known_.erase(found);
    bytes_ -= cost_of(oldest);
    keys_.pop_front();
    gone_ = true;
}

std::size_t Dedup::keep_to_limit() {
    std::size_t dropped = 0;
    for (; bytes_ > limit_; ++dropped) drop_oldest();
    return dropped;
}

Mono Dedup::next_deadline() const {
    return keys_.empty() ? never : keys_.back().until;
}

std::vector<store::DedupKey> Dedup::from(store::Offset first) const {
    auto begin = keys_.rbegin();
    while (begin != keys_.rend() && begin->accepted.offset >= first) ++begin;
    std::vector<store::DedupKey> keys;
    std::transform(begin.base(), keys_.end(), std::back_inserter(keys), [](const Known& one) { return one.accepted; });
    return keys;
}

store::Offset Dedup::take_gone(store::Offset next_offset) {
    if (!std::exchange(gone_, false)) return 0;
    return keys_.empty() ? next_offset : keys_.front().accepted.offset;
}

}  // namespace posthorn::queue
