// The delivery engine: one topic with one subscription. Messages come in, are leased to consumers, are settled
// (docs/design.md has the picture of a message's life; the founding design's section 4 has the rules).
//
// A plain machine: no I/O, no clock, no thread. `now` is passed in, next_deadline() is asked for. What is to be stored
// gathers until gather() takes it; what comes back is handed to committed() and loaded(). Not thread-safe.
//
// Memory: at most defaults::tracked_messages messages are tracked (ready, leased, waiting), at most
// defaults::window_bytes of bodies are kept, however long the backlog is; the rest is read on from the store.
//
// Invariant: a message is untracked and unsettled exactly if its offset is >= loaded_to_. Everything below that is
// either in entries_ or settled for good.
#pragma once

#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <memory_resource>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include <posthorn/event.hpp>
#include <posthorn/policy.hpp>

#include "envelope/bytes.hpp"
#include "envelope/envelope.hpp"
#include "envelope/identity.hpp"
#include "queue/sequence_set.hpp"
#include "store/store.hpp"

namespace posthorn::queue {

using store::Offset;
using ConsumerId = std::uint32_t;  // of a consumer's incarnation, for as long as this queue knows it; never 0

enum class Verdict { ack, nack, release, reject, undecodable };

struct Settle {
    Offset offset = 0;
    std::uint32_t token = 0;
    Verdict verdict = Verdict::ack;
    std::optional<Duration> delay;  // of a nack: instead of the policy's backoff
    std::string text;
};

struct Held {
    Offset offset = 0;
    std::uint32_t token = 0;
};

struct Delivered {
    ConsumerId consumer = 0;
    Offset offset = 0;
    std::uint32_t token = 0;
    std::uint32_t attempt = 1;
    std::uint16_t redrives = 0;
    bool maybe_duplicate = false;
    Slice envelope;
};

struct Recall {
    ConsumerId consumer = 0;
    std::uint32_t count = 0;
};

// What the queue remembers of a producer. Stable in memory while `session` or `unsettled` is not zero.
struct Producer {
    Identity id;
    std::uint64_t decided = 0;  // everything up to here: accepted, or refused as listed
    std::uint64_t stored = 0;   // and committed
    std::deque<store::Refusal> refusals;
    Identity life{};         // of a named producer: who goes on under the name
    Identity stored_life{};  // and is known to on the disk
    Wall seen{};
    std::uint32_t sessions = 0;
    std::uint64_t unsettled = 0;         // memory homes: tracked messages that point here
    bool known = false;                  // has published before, so a gap is a gap
    bool dirty = false;                  // its watermark is to be written
    std::vector<std::uint64_t> settled;  // memory homes: sequences settled since the host last asked
    SequenceSet done;                    // memory homes: and all before, for producers that come back
};

enum class Accepted { yes, duplicate, refused, gap };

// Everything that can happen to a message, counted since the host started.
struct Counters {
    std::uint64_t acked = 0, nacked = 0, released = 0, rejected = 0, redelivered = 0, expired_leases = 0;
    std::uint64_t refused_full = 0, refused_other = 0, duplicates = 0, stale = 0;
    std::uint64_t dead_rejected = 0, dead_max_attempts = 0, dead_undecodable = 0, dead_expired = 0;
};

struct Depth {
    std::uint64_t messages = 0, bytes = 0, ready = 0, waiting = 0, in_flight = 0, dead = 0;
    std::optional<Wall> oldest;
    std::size_t consumers = 0, producers = 0;
};

class Queue {
public:
    Queue(std::string name, QueuePolicy policy, bool durable, std::uint64_t seed, EventHook on_event);
    // Before anything else, for a new queue: offsets that a consumer remembers from a host that is gone for good must
    // not name anything here, so a host starts its queues somewhere else.
    void start_somewhere(std::uint64_t random);
    // Before anything else, when the store knew this queue. Then loaded() with reads of wanted_recovery() until it is
    // empty.
    void recover(const store::RecoveredTopic& topic, Now now);
    [[nodiscard]] std::optional<store::Read> wanted_recovery() const;

    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] Offset next_offset() const noexcept { return next_offset_; }
    [[nodiscard]] const QueuePolicy& policy() const noexcept { return policy_; }

    // Producers -----------------------------------------------------------------------------------------------
    Producer& attach_producer(const Identity& id, Now now);
    void detach_producer(Producer& producer, Now now);
    // From here on this life goes on under the name of a named producer.
    void take_over(Producer& producer, const Identity& life, Now now);
    [[nodiscard]] const Producer* find_producer(const Identity& id) const;
    Accepted publish(Producer& producer, const envelope::Routing& routing, Slice envelope, Now now);
    // Decides a message without taking it; the refusal is repeated on resend.
    void refuse(Producer& producer, std::uint64_t sequence, std::string code, std::string text, Now now);
    void forget_refusals(Producer& producer, std::uint64_t up_to);
    // Messages and bytes that still fit; max() where only the disk bounds them.
    [[nodiscard]] std::uint64_t free_messages() const;
    [[nodiscard]] std::uint64_t free_bytes() const;
    // Bytes accepted and not yet committed.
    [[nodiscard]] std::uint64_t uncommitted_bytes() const { return pending_bytes_ + committing_bytes_; }

    // Consumers -----------------------------------------------------------------------------------------------
    // A session of this incarnation begins. `held` is what it says it has; what it may not keep is added to `lost`.
    ConsumerId attach(const Identity& incarnation, const std::string& name, std::uint32_t concurrency,
                      const std::vector<Held>& held, std::vector<Held>& lost, Now now);
    void set_window(ConsumerId id, std::uint32_t messages, std::uint64_t bytes);
    bool heard(ConsumerId id, Now now);   // renews its leases; true: it was silent and may be given work again
    void detach(ConsumerId id, Now now);  // its session is lost; leases wait out their term
    void leave(ConsumerId id, Now now);   // said bye: what it still holds is released
    void fence(ConsumerId id, Now now);   // replaced by a later one under its name: as if it had died
    [[nodiscard]] std::uint32_t in_flight(ConsumerId id) const;
    // The consumers that carry this name, other than `incarnation`.
    [[nodiscard]] std::vector<std::pair<ConsumerId, Identity>> named(const std::string& name,
                                                                     const Identity& incarnation) const;
    // False: the lease was over ("stale_delivery"); nothing was changed.
    bool settle(ConsumerId id, const Settle& settle, Now now);
    bool extend(ConsumerId id, Held held, Duration lease, Now now);
    void recalled(ConsumerId id, Now now);

    // Work ----------------------------------------------------------------------------------------------------
    // Fires what is due, then leases ready messages to consumers with room.
    void turn(Now now, std::vector<Delivered>& deliveries, std::vector<Recall>& recalls);
    void pause(bool paused) { paused_ = paused; }  // no deliveries: draining, or the store has failed
    [[nodiscard]] Mono next_deadline() const;
    [[nodiscard]] bool has_ready() const { return ready_ > 0 || loaded_to_ < next_offset_; }
    // Leases that ended while their consumer was connected, since last asked.
    std::vector<std::pair<ConsumerId, Held>> take_lost();
    // Memory homes: calls back for every producer with newly settled sequences.
    void take_settled(const std::function<void(Producer&, const std::vector<SequenceRange>&)>& give);

    // Store ---------------------------------------------------------------------------------------------------
    // `room`: there is some for new messages. Without it they stay behind, and so does what rests on them: watermarks,
    // redrives, and the marks and dead letters of messages that are not stored yet.
    [[nodiscard]] bool has_appends() const { return !pending_.empty(); }
    [[nodiscard]] std::size_t settlements() const { return settled_.size() + dead_.size(); }
    [[nodiscard]] bool has_changes(bool room = true) const;  // anything at all to write
    [[nodiscard]] std::optional<Mono> changed_since() const { return changed_since_; }
    store::TopicBatch gather(Now now, bool room = true);
    void committed();  // the last gathered batch is safe
    // The last gathered batch was not stored, for want of room: all of it is to be gathered again.
    void take_back(const store::TopicBatch& batch, Now now);
    // From here on messages have not been gathered.
    [[nodiscard]] Offset pending_first() const { return next_offset_ - pending_.size(); }
    void wanted_reads(std::vector<store::Read>& reads);  // to be run after the batch that was gathered last
    void loaded(store::ReadResult result, Now now);
    // These messages can no longer be read: reported, and not waited for.
    void lost_damaged(const store::Damage& damage);
    void reads_done(Now now);  // after the results of one round of wanted_reads()
    void reads_dropped();      // there will be no results

    // Dead letters --------------------------------------------------------------------------------------------
    // False: it is already on its way out.
    bool redrive(const store::StoredDeadLetter& letter, Now now);
    bool purge(const store::StoredDeadLetter& letter, Now now);

    [[nodiscard]] const Counters& counters() const noexcept { return counters_; }
    [[nodiscard]] Depth depth() const;
    [[nodiscard]] std::uint64_t messages() const noexcept { return messages_; }

private:
    enum class Where : std::uint8_t { ready, leased, waiting };

    struct Entry {
        Slice body;                    // only while ready, and then only within the window
        Producer* producer = nullptr;  // memory homes
        std::uint64_t sequence = 0;
        Mono since{};     // leased: delivered at; waiting: due at
        Mono extended{};  // the lease lasts at least so long
        Mono expires = never;
        Wall due{};  // waiting
        Wall accepted{};
        Wall first_failure{};
        std::uint32_t size = 0;
        std::uint32_t token = 0;
        ConsumerId holder = 0;
        std::uint16_t attempts = 0;
        std::uint16_t deaths = 0;
        std::uint16_t redrives = 0;
        Where where = Where::ready;
        bool suspect = false;
        bool isolate = false;
        bool maybe_duplicate = false;
        bool dirty = false;
    };
    using Entries = std::pmr::unordered_map<Offset, Entry>;

    struct Consumer {
        Identity incarnation;
        std::string name;
        std::uint32_t concurrency = 1;
        std::uint32_t window = 0;
        std::uint64_t window_bytes = 0;
        std::uint32_t in_flight = 0;
        std::uint64_t in_flight_bytes = 0;
        Mono lease_end{};  // of everything it holds, but for what was extended
        Mono progress{};   // last delivery or settlement
        Mono recall_after{};
        bool connected = false;
        bool silent = false;          // its lease ran out: it is given nothing until it is heard again
        bool holds_suspects = false;  // then it holds nothing else
        bool recalling = false;
        std::deque<std::pair<Held, std::uint32_t>> applied;  // settles done, as runs; to answer repeats after a resume
    };

    struct Pending {  // accepted, to be in the next batch; offsets are consecutive
        Slice envelope;
        Offset redrive_of = 0;
        std::uint16_t redrives = 0;
        bool maybe_duplicate = false;
        Wall expires_at{};  // zero: never
        bool done = false;  // acked before it was stored: leaves a hole
    };

    [[nodiscard]] bool fits(std::size_t size) const;
    // As far as the bounds go.
    [[nodiscard]] std::uint64_t used_messages() const;
    [[nodiscard]] std::uint64_t used_bytes() const;
    [[nodiscard]] bool has_track_room() const;
    Entry& track(Offset offset);
    void adopt_pending(Now now);
    void skip_forgotten();
    void load_one(store::StoredMessage& message, Now now);
    void load_mark(Offset offset, Entry& entry, const store::Mark& mark, Now now);
    ConsumerId consumer_of(const Identity& incarnation, Now now);
    // To be written with the next batch, or with the message where that is still to be written itself.
    void write_settled(Offset offset);
    void write_mark(Offset offset);
    void write_dead(store::DeadLetter letter);
    void write_watermark(Producer& producer);
    void gather_pending(store::TopicBatch& batch, Now now);
    void take_back_pending(const store::TopicBatch& batch);
    void make_ready(Offset offset, Entry& entry);
    void keep_body(Entry& entry, Slice body);
    void drop_body(Entry& entry);
    void touch(Offset offset, Entry& entry, Now now);
    void changed(Now now);
    void end_lease(Entry& entry);
    void finish(Entries::iterator it, Now now);  // settled for good: leaves entries_
    void fail(Entries::iterator it, std::optional<Duration> delay, const std::string& text, Now now);
    void dead_letter(Entries::iterator it, store::Reason reason, std::string text, Now now);
    void bury(Entries::iterator it, store::DeadLetter letter, Now now);
    void watch_expiry(Offset offset, const Entry& entry);
    void unwatch_expiry(Offset offset, const Entry& entry);
    void expire_due(Now now);
    void leave_line(Offset offset, const Entry& entry);
    void give_back(Offset offset, Entry& entry, Now now);
    void forget(std::map<ConsumerId, Consumer>::iterator it);
    void lease(ConsumerId id, Consumer& consumer, Offset offset, Entry& entry, Now now);
    void died(ConsumerId id, bool at_once, Now now);
    void sweep(Now now);
    void forget_producers(Now now);
    void erase(Entries::iterator it);  // the bookkeeping that every way out of entries_ shares
    void tell_lost(ConsumerId id, Held held);
    bool adopt_held(ConsumerId id, Consumer& consumer, const Held& held, bool unknown, Now now);
    [[nodiscard]] bool was_applied(const Consumer& consumer, Held held) const;
    void remember_applied(Consumer& consumer, Held held);
    [[nodiscard]] std::string label(const Consumer& consumer) const;
    void emit(Event::Kind kind, std::string text, std::uint64_t count = 1) const;

    // dispatch.cpp
    void dispatch(Now now, std::vector<Delivered>& out);
    void dispatch_suspects(Now now, std::vector<Delivered>& out);
    bool give_suspects(ConsumerId id, Consumer& consumer, Now now, std::vector<Delivered>& out);
    Entries::iterator next_ready();
    enum class Given { yes, no_room, none };
    Given deliver_next(ConsumerId id, Consumer& consumer, Now now, std::vector<Delivered>& out);
    void deliver(ConsumerId id, Consumer& consumer, Offset offset, Entry& entry, Now now, std::vector<Delivered>& out);
    [[nodiscard]] bool has_room(const Consumer& consumer, std::size_t size) const;
    void want_recalls(Now now, std::vector<Recall>& recalls);

    std::string name_;
    QueuePolicy policy_;
    bool durable_;
    std::mt19937_64 random_;
    EventHook on_event_;

    std::pmr::unsynchronized_pool_resource pool_;
    Entries entries_{&pool_};
    std::deque<Offset> fresh_;   // ready for the first time, ascending; may name entries that are ready no more
    std::set<Offset> returned_;  // ready again
    std::set<Offset> suspects_;  // ready, to be delivered apart
    std::set<std::pair<Mono, Offset>> waiting_;
    std::set<std::pair<Mono, Offset>> expiring_;  // ready or waiting, and not for ever
    std::uint64_t ready_ = 0;
    std::uint64_t in_flight_ = 0;
    std::uint64_t window_used_ = 0;  // bytes of bodies in entries_
    bool paused_ = false;
    bool starved_ = false;  // the next ready message's body has to be fetched

    std::map<ConsumerId, Consumer> consumers_;
    std::unordered_map<Identity, ConsumerId> by_incarnation_;
    ConsumerId last_consumer_ = 0;
    std::unordered_set<Identity> ended_;  // consumers whose leases this life has ended: what they settle late is stale
    std::deque<Identity> ended_order_;
    ConsumerId turn_of_ = 0;  // dispatch starts behind this one
    ConsumerId taker_ = 0;    // runs dry so that it can take suspects
    Mono recall_at_ = never;
    Mono sweep_at_ = never;
    Mono forget_at_ = never;
    std::vector<std::pair<ConsumerId, Held>> lost_;

    std::unordered_map<Identity, Producer> producers_;
    std::vector<Producer*> settled_producers_;
    std::vector<Identity> forgotten_;

    Offset next_offset_ = 1;
    Offset loaded_to_ = 1;     // see the invariant above
    Offset former_begin_ = 0;  // recovery: from here on it was the last life
    Offset former_end_ = 0;    // recovery: stored by former lives: all below
    Offset marked_to_ = 0;     // recovery: marks up to here are to be loaded before anybody is served

    // What needs room in the store: new messages, and what rests on them.
    std::vector<Pending> pending_;  // offsets next_offset_ - size .. next_offset_ - 1
    std::uint64_t pending_bytes_ = 0;
    std::vector<Offset> pending_dirty_;
    std::vector<store::DeadLetter> pending_dead_;
    std::vector<Producer*> dirty_producers_;

    Offset gathered_from_ = 1;  // the first of the messages gathered last
    std::uint64_t committing_bytes_ = 0;
    struct Committing {
        Identity id;
        std::uint64_t sequence = 0;
        Identity life;
    };
    std::vector<Committing> committing_producers_;
    std::vector<Offset> settled_;
    std::vector<Offset> dirty_;
    std::vector<store::DeadLetter> dead_;
    std::vector<Offset> purged_;
    std::set<Offset> leaving_;  // dead letters on their way out, until committed
    std::vector<Offset> leaving_committing_;
    std::optional<Mono> changed_since_;
    bool reading_ = false;
    std::vector<Offset> fetching_;  // bodies asked for in this round

    std::uint64_t messages_ = 0;  // unsettled
    std::uint64_t bytes_ = 0;
    std::uint64_t dead_count_ = 0;
    std::uint64_t dead_bytes_ = 0;
    std::optional<Wall> recovered_oldest_;
    Counters counters_;
};

}  // namespace posthorn::queue
