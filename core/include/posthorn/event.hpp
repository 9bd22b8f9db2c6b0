// What happened that nobody asked about: connections, losses, refusals, damage. Nothing is dropped without one.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace posthorn {

struct Event {
    enum class Kind {
        connected,             // first session with this peer or host
        lost,                  // the peer has not been heard for too long; leases and unconfirmed messages wait
        resumed,               // and is back; nothing was lost in between
        refused,               // a session or a message was refused; code says why, text the way out
        dropped,               // input was ignored: foreign, malformed, of another session, too large; counted by cause
        stale_delivery,        // settlements came after their leases were over; each is told: messages may run again
        dead_lettered,         // a message was given up
        store_lost_confirmed,  // the host knows less than it had confirmed
        damaged,               // stored messages cannot be read; text has queue and sequence range
        store_failed,          // the disk is full or a sync failed; text has the way out
        left_behind,           // an end was closed with messages that are not safe
        consumer_died,         // a consumer's lease ended with deliveries unsettled
        dedup_full,            // dedup keys are forgotten before their window is over: there are too many
        dlq_full,              // a queue's dead letters reach their bound: the oldest go, or deliveries pause
        overflow,              // a queue was full, or messages too old: the oldest were deleted, or dead-lettered
        storm,                 // a queue's messages only fail: it is slow until one is acked; or it is no more
        missed,                // live messages did not reach this subscriber; count says how many so far, 0: not known
    };
    Kind kind = Kind::dropped;
    std::string subject{};    // queue, endpoint or peer it is about
    std::string text{};       // one line for people
    std::uint64_t count = 0;  // of messages or frames, where that makes sense
    std::string code{};       // of a refusal: "queue_full", "unknown_queue", ... (docs/protocol.md lists them)
};

[[nodiscard]] std::string_view to_string(Event::Kind kind) noexcept;

// What happens again and again for one cause is folded: there is an event for the 1st, 10th, 100th ... time.
[[nodiscard]] constexpr bool worth_a_word(std::uint64_t count) noexcept {
    while (count >= 10 && count % 10 == 0) count /= 10;
    return count == 1;
}

// Called on a thread of Posthorn's: must be quick, must not throw, must not call back into the object it came from.
using EventHook = std::function<void(const Event&)>;

enum class LogLevel { debug, info, warning, error };
// Log lines of the library; the default is silence. Same rules as for EventHook.
using LogHook = std::function<void(LogLevel, std::string_view line)>;

}  // namespace posthorn
