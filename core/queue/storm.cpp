// The storm guard: a queue whose messages only fail would burn through all of them, and through whatever its handlers
// call. It tries one at a time instead, and less and less often, until one is acked.
#include <algorithm>

#include "queue/queue.hpp"

namespace posthorn::queue {

bool Queue::is_failing() const noexcept {
    return policy_.storm_after != 0 && failures_ >= policy_.storm_after;
}

void Queue::count_failure(Now now) {
    ++failures_;
    if (!is_failing()) return;
    if (failures_ == policy_.storm_after) {
        storm_pause_ = defaults::storm_pause_min;
        emit(Event::Kind::storm,
             "so many failures and no ack between them: from now on one message at a time is handed out, after pauses "
             "of up to 10 s, until one is acked; see what the handlers say (posthorn dlq list)",
             failures_);
    } else if (now.mono >= storm_until_) {  // else it was handed out before
        storm_pause_ = std::min<Duration>(2 * storm_pause_, defaults::storm_pause_max);
    }
    storm_until_ = now.mono + storm_pause_;
}

void Queue::count_success() {
    const bool failing = is_failing();
    const std::uint64_t failures = std::exchange(failures_, 0);
    if (failing) emit(Event::Kind::storm, "a message was acked: all are handed out again", failures);
}

bool Queue::is_held_back(Now now) {
    if (!is_failing()) return false;
    if (storm_until_ > now.mono) storm_at_ = storm_until_;
    return probes_ > 0 || storm_until_ > now.mono;
}

}  // namespace posthorn::queue
