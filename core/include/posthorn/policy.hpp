// Where a queue lives (home), how its host treats it (queue policy), and every default in one place.
// Plain values. Constructors of the ends validate them and throw posthorn::Error naming the field.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <posthorn/time.hpp>
#include <posthorn/topic.hpp>

namespace posthorn {

namespace defaults {
// Wire
inline constexpr std::size_t frame_limit = 256 * 1024;  // bytes; one wire message; bounds a reader's memory per read
inline constexpr std::size_t message_limit = 16 * 1024 * 1024;  // bytes; larger things belong in object storage
inline constexpr Duration heartbeat_busy = 1s;                  // while something is leased or unconfirmed
inline constexpr Duration heartbeat_idle = 10s;                 // otherwise: a sign of life is nearly free
inline constexpr int heartbeats_missed = 5;                     // a peer silent for so many is given up
// Queue
inline constexpr Duration lease = 30s;  // SQS's visibility timeout; renewed while the session lives
inline constexpr Duration lease_cap = std::chrono::hours{12};  // a handler that hangs for ever gives its message back
inline constexpr std::uint32_t max_attempts = 5;
inline constexpr std::uint32_t request_attempts = 1;  // nobody knows whether a service may run a request twice
inline constexpr Duration replier_lease = 5s;  // at most: a lost replier is known well before the default deadline
inline constexpr Duration reply_memory = std::chrono::hours{24};  // answers wait so long for a named requester
inline constexpr Duration reply_grace = 1min;       // and for another one beyond the deadline of its last request
inline constexpr std::uint32_t storm_after = 1000;  // far more than bad luck; a healthy queue acks something before
inline constexpr Duration storm_pause_min = 100ms;  // doubled with each failure
inline constexpr Duration storm_pause_max = 10s;    // so soon at the latest it is seen that things work again
inline constexpr Duration backoff_min = 1s;
inline constexpr Duration backoff_max = 10min;
inline constexpr Duration dedup_window = 5min;                 // as SQS has it
inline constexpr std::uint64_t memory_max_messages = 100'000;  // per queue, home in memory
inline constexpr std::uint64_t memory_max_bytes = 256 * 1024 * 1024;
inline constexpr std::uint64_t min_free = 256 * 1024 * 1024;   // bytes of disk kept for settlements and deletes
inline constexpr std::size_t credit_bytes = 32 * 1024 * 1024;  // bytes granted to producers and not yet safe, per host
inline constexpr std::size_t tracked_messages = 200'000;  // per queue: leased, waiting and ready ones held in memory
inline constexpr std::size_t window_messages = 20'000;    // per queue: ready messages kept in memory with bodies
inline constexpr std::size_t window_bytes = 16 * 1024 * 1024;  // per queue: bytes of such bodies
inline constexpr std::size_t producers_remembered = 50'000;    // per queue: watermarks kept for dedup
inline constexpr std::size_t dedup_bytes = 64 * 1024 * 1024;   // per queue: dedup keys kept, with 128 bytes beside each
inline constexpr Duration producer_memory = std::chrono::hours{24 * 7};  // how long a silent one's watermark is kept
inline constexpr std::size_t refusals_remembered = 10'000;  // per producer: repeated on resend, beside the watermark
inline constexpr Duration settle_delay = 50ms;  // settlements alone wait this long for company before a sync
// Live topics
inline constexpr std::uint64_t live_max_messages = 100'000;           // kept for one subscriber
inline constexpr std::uint64_t live_max_bytes = 64 * 1024 * 1024;     // of them
inline constexpr std::uint64_t live_total_bytes = 256 * 1024 * 1024;  // of a topic, for all its subscribers
inline constexpr std::uint64_t live_value_bytes = 16 * 1024 * 1024;   // of last values
inline constexpr Duration live_link_memory = 10min;  // a subscriber that is away for no longer goes on where it was
inline constexpr Duration live_link_wait = 1min;     // the same where publishers wait for it
inline constexpr std::uint32_t subscriber_messages = 10'000;  // of one publisher, that wait at a live subscriber
inline constexpr std::uint64_t subscriber_bytes = 8 * 1024 * 1024;
// Ends
inline constexpr Duration send_timeout = 10s;  // send() waits at most so long for room
inline constexpr Duration close_timeout = 5s;
inline constexpr Duration request_deadline = 10s;            // of a request, for its answer
inline constexpr std::size_t requests_outstanding = 10'000;  // of one requester
inline constexpr std::size_t answers_remembered = 10'000;    // by one replier, for requests that come again
inline constexpr std::size_t answers_remembered_bytes = 16 * 1024 * 1024;
inline constexpr std::size_t producer_buffer_messages = 100'000;  // kept until confirmed
inline constexpr std::size_t producer_buffer_bytes = 64 * 1024 * 1024;
inline constexpr std::uint32_t prefetch_max = 10'000;            // unsettled deliveries at one consumer
inline constexpr std::size_t consumer_bytes = 32 * 1024 * 1024;  // bytes of them
inline constexpr std::uint16_t port = 5757;
}  // namespace defaults

// How long a failed message waits before its next attempt. attempt n is the one that just failed, from 1.
struct Backoff {
    enum class Kind { exponential, fixed, list };
    Kind kind = Kind::exponential;         // exponential: full jitter between 0 and min * 2^(n-1), at most max
    Duration min = defaults::backoff_min;  // fixed: the wait
    Duration max = defaults::backoff_max;
    std::vector<Duration> list{};  // list: the n-th wait; the last one repeats
    bool operator==(const Backoff&) const = default;
};

enum class WhenFull {
    block,   // no credit: producers wait; each may go beyond max_bytes by its last message
    reject,  // refused to the producer, with the reason queue_full; exact, but an empty queue takes any one message
    // The oldest messages that no consumer holds make room, but never the latest of all. Where the oldest are not in
    // memory the bound may be exceeded for as long as it takes to store and to read. What consumers hold is never
    // touched: where nothing else is left, producers wait.
    drop_oldest,  // deleted for good
    dead_letter,  // dead-lettered with the reason queue_full; where those are full and block, producers wait as well
    // block; in a subscription of a topic dead_letter, so that one that is slow or dead holds up none of the others. In
    // memory its oldest dead letters are deleted then when there are too many of them (dlq_when_full).
    automatic,
};

enum class DlqWhenFull {
    block,        // nothing is delivered until an operator makes room (default); what is with workers may go beyond
    drop_oldest,  // the oldest dead letters are deleted for good; exact
};

// Belongs to the host of the queue, so it is given where the home is given and nowhere else.
struct QueuePolicy {
    std::uint32_t max_attempts = defaults::max_attempts;  // 1 or more
    // Of a queue that has repliers (request_reply.hpp), instead of max_attempts: how often a request may be begun. 1:
    // one that may have been begun is never begun again, its requester is told replier_lost. More is for services
    // that may run a request twice. 1 or more.
    std::uint32_t request_attempts = defaults::request_attempts;
    Backoff backoff{};
    // After so many failures with no ack between them the queue is slow until the next ack: one delivery at a time,
    // after a pause. A nack with a delay of its own and a release are no failures, nor is what answers a request. 0: it
    // never is.
    std::uint32_t storm_after = defaults::storm_after;
    Duration lease = defaults::lease;  // 1 s to lease_cap
    Duration lease_cap = defaults::lease_cap;
    std::uint64_t max_messages = 0;  // 0: the home's default (memory 100,000; with a store: by disk)
    std::uint64_t max_bytes = 0;     // 0: the home's default (memory 256 MiB; with a store: by disk)
    WhenFull when_full = WhenFull::automatic;
    // A time to live that the queue gives to every message, from its acceptance or redrive on; 0: none. To 365 days.
    // What is older and with no consumer is dead-lettered as expired, or with drop_oldest deleted.
    Duration max_age{};
    // Of dead letters; 0: as many as fit. In memory they count against the bounds above, but with dead_letter: then
    // these hold, and 0 is as much as the queue itself may have.
    std::uint64_t dlq_max_messages = 0;
    std::uint64_t dlq_max_bytes = 0;  // with the originals of those that were edited
    DlqWhenFull dlq_when_full = DlqWhenFull::block;
    // A message whose dedup_key was accepted so short ago is not taken again; 0: they are not looked at. To 365 days.
    Duration dedup_window = defaults::dedup_window;
    // One consumer at a time, in the order of acceptance, over failures as well; other consumers stand by. Keys and
    // priorities mean nothing then. A queue also becomes strict, and stays so, when an end asks for it: see
    // point_to_point.hpp.
    bool strict_order = false;
    // Of a strict queue: a failed message waits for its next attempt outside the line, and those behind it go on.
    bool retry_aside = false;
    bool operator==(const QueuePolicy&) const = default;
};

// Of a live topic (pub_sub.hpp): what is kept for a subscriber until it has taken it. Belongs to the host of the topic.
// Memory: total_bytes and last_value_bytes, and some 320 KiB for each different filter.
struct LivePolicy {
    std::uint64_t max_messages = defaults::live_max_messages;  // for one subscriber; 1 or more
    std::uint64_t max_bytes = defaults::live_max_bytes;        // of them, 1 or more; but one message of any size
    // drop_oldest: it misses them, and is told how many. block: publishers wait until every subscriber has room, for
    // one that is away as well, until it is forgotten (1 min). There are no others.
    WhenFull when_full = WhenFull::drop_oldest;
    // Of all subscribers together: those with the same filter share what is kept for them. Where it is not enough, the
    // filter with most gives way.
    std::uint64_t total_bytes = defaults::live_total_bytes;
    // A new subscriber first gets the last message of each subject that it wants; of so many subjects at most, those
    // that were published last. 0: none.
    std::uint64_t last_values = 0;
    std::uint64_t last_value_bytes = defaults::live_value_bytes;  // of these
    bool operator==(const LivePolicy&) const = default;
};

// A subscription that is there from the start of its host: a service that never came misses nothing.
struct Subscription {
    std::string name{};                   // as a queue's
    std::vector<Binding> bindings{};      // none: every message
    std::optional<QueuePolicy> policy{};  // none: as the topic's others have it
};

// How much of what was published a retained topic keeps for those that come later, whoever else has got it. What is
// older goes, and what is more, the oldest first, but never the latest of all. 0: no such bound; without any, it is the
// disk.
struct Retention {
    Duration age{};           // from acceptance on, to 365 days
    std::uint64_t bytes = 0;  // of envelopes
    std::uint64_t messages = 0;
    bool operator==(const Retention&) const = default;
};

// Options of here(): the queue or topic lives in this process.
struct Here {
    std::string bind{};                  // "tcp://127.0.0.1:5555", "tcp://127.0.0.1:*", "ipc:///path", "inproc://name"
    std::vector<std::string> connect{};  // endpoints of consumers that bind, for producers that come and go
    // A folder on a disk of this machine, made if missing: the queue survives this process, and whoever is given the
    // folder next goes on with it, another producer of the queue or `posthorn node --data FOLDER`. One process at a
    // time. Empty: in memory.
    std::filesystem::path store{};
    std::uint64_t min_free = defaults::min_free;  // bytes of its disk; with less free nothing more is taken
    QueuePolicy queue{};                          // of a topic: of each of its subscriptions
    std::vector<Subscription> subscriptions{};    // of a topic
    LivePolicy live{};                            // of a live topic, which has no other policy and no store
    // Of a topic with a store: it is retained. What it keeps goes when it is opened without this.
    std::optional<Retention> retain{};
};

// Where a queue lives. `here({...})`: in this process; `at(endpoint)`: at a host elsewhere.
class Home {
public:
    static Home here(Here options);
    static Home at(std::vector<std::string> endpoints);
    // "here:ENDPOINT", "here:ENDPOINT?store=FOLDER", "at:ENDPOINT[,ENDPOINT...]" or just an endpoint (at). Throws
    // Error.
    static Home parse(std::string_view text);

    [[nodiscard]] bool is_here() const noexcept { return here_; }
    [[nodiscard]] const Here& options() const noexcept { return options_; }
    [[nodiscard]] const std::vector<std::string>& endpoints() const noexcept { return endpoints_; }

private:
    bool here_ = false;
    Here options_;
    std::vector<std::string> endpoints_;
};

inline Home here(Here options) {
    return Home::here(std::move(options));
}
inline Home at(std::string endpoint) {
    return Home::at({std::move(endpoint)});
}
inline Home at(std::vector<std::string> endpoints) {
    return Home::at(std::move(endpoints));
}

// Queue names: [A-Za-z0-9._-]{1,200}, not ending in the reserved ".dlq".
[[nodiscard]] bool valid_queue_name(std::string_view name) noexcept;
// Where the answers to the requests of a queue go: a topic of this name, with a subscription for each requester.
[[nodiscard]] std::string replies_of(std::string_view queue);
// The queue of such a topic; empty: it is no name of one.
[[nodiscard]] std::string_view service_of(std::string_view topic) noexcept;
// Throws Error naming the field that is out of its range.
void validate(const QueuePolicy& policy);
void validate(const LivePolicy& policy);
void validate(const Retention& retention);

}  // namespace posthorn
