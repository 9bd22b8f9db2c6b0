// The delivery engine: one topic with one subscription. Messages come in, are leased to consumers, are settled
// (docs/design.md has the picture of a message's life; the founding design's section 4 has the rules).
//
// A topic with subscriptions of their own is several of these: one keeps no messages, it only knows the producers and
// passes each message on; each subscription is another, with consumers, bounds, retries and dead letters. A message has
// the same offset in all of them.
//
// A plain machine: no I/O, no clock, no thread. `now` is passed in, next_deadline() is asked for. What is to be stored
// gathers until gather() takes it; what comes back is handed to committed() and loaded(). Not thread-safe.
//
// Memory is bounded by Limits however long the queue is; the rest is read on from the store.
//
// Invariant: every unsettled message is either in entries_ or in backlog_ (or in the block of it that is being read).
#pragma once

#include <array>
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
#include <posthorn/topic.hpp>

#include "envelope/bytes.hpp"
#include "envelope/envelope.hpp"
#include "envelope/identity.hpp"
#include "queue/backlog.hpp"
#include "queue/dedup.hpp"
#include "queue/limits.hpp"
#include "queue/rate.hpp"
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
    // Of the ack of a request: the answer, which take_answers() then has; empty: none.
    Slice reply{};
    std::string reply_to{};
};

// To a request that is settled by it.
struct Answer {
    std::string reply_to;
    Slice envelope;
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

enum class Accepted {
    yes,
    duplicate,     // a resend of what is decided
    deduplicated,  // another message with its dedup key was accepted of late: it counts as accepted and as done
    refused,
    gap,
};

// Everything that can happen to a message, counted since the host started.
struct Counters {
    std::uint64_t acked = 0, nacked = 0, released = 0, rejected = 0, redelivered = 0, expired_leases = 0;
    std::uint64_t refused_full = 0, refused_other = 0, duplicates = 0, deduplicated = 0, stale = 0;
    std::uint64_t dead_rejected = 0, dead_max_attempts = 0, dead_undecodable = 0, dead_expired = 0, dead_dropped = 0;
    std::uint64_t dead_queue_full = 0, dropped_full = 0, dropped_expired = 0;
    std::uint64_t requests_failed = 0, requests_expired = 0, repliers_lost = 0, answers_lost = 0,
                  requests_cancelled = 0;
};

struct Depth {
    std::uint64_t messages = 0, bytes = 0, ready = 0, waiting = 0, in_flight = 0, dead = 0, dead_bytes = 0;
    std::optional<Wall> oldest;
    std::size_t consumers = 0, producers = 0;
};

// How fast it is, over about the last minute.
struct Flow {
    double in = 0, out = 0;                          // messages a second accepted, acked
    std::optional<std::chrono::milliseconds> drain;  // until it is empty, if both stay so; nothing: never
};

class Queue {
public:
    Queue(std::string name, QueuePolicy policy, bool durable, std::uint64_t seed, EventHook on_event,
          const Limits& limits = {});
    // Before anything else, for a new queue: offsets that a consumer remembers from a host that is gone for good must
    // not name anything here, so a host starts its queues somewhere else.
    void start_somewhere(std::uint64_t random);
    // Before anything else, for a new subscription: like its topic.
    void start_at(Offset offset) noexcept { next_offset_ = offset; }
    // Before anything else, when the store knew this queue. Then wanted_recovery(), loaded() and reads_done() until
    // there is none.
    void recover(const store::RecoveredTopic& topic, Now now);
    [[nodiscard]] std::optional<store::Read> wanted_recovery();

    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] Offset next_offset() const noexcept { return next_offset_; }
    [[nodiscard]] const QueuePolicy& policy() const noexcept { return policy_; }

    // Topics --------------------------------------------------------------------------------------------------
    // From here on this is a topic: what it accepts goes to those of its subscriptions that want it. One that reaches
    // none is refused ("no_subscription"). Both live in the same host, and what they gather is committed together.
    void become_topic() noexcept { is_topic_ = true; }
    [[nodiscard]] bool is_topic() const noexcept { return is_topic_; }
    // From here on it only decides what is accepted: whoever is given that, it counts as settled at once, and nothing
    // of it is stored, not even who has published what.
    void become_live() noexcept { live_ = true; }
    void add_subscription(Queue& subscription, std::vector<Binding> bindings);
    void rebind(const Queue& subscription, std::vector<Binding> bindings);
    void remove_subscription(Queue& subscription);
    // From here on this is the log of a retained topic: a subscription that nobody consumes. Its messages are plain,
    // whatever keys, priorities and times they have, and none of their bodies is in memory.
    void become_log() noexcept { is_log_ = true; }
    [[nodiscard]] bool is_log() const noexcept { return is_log_; }
    // The store has put a part of a topic's log here, behind what there was.
    void replayed(const store::Replayed& part, Now now);
    // When all of the log that was gathered is here: what it has accepted since, before this is subscribed itself.
    void catch_up(const Queue& log, const std::vector<Binding>& bindings, Now now);
    // What the store is to remember of this topic or subscription; recover() gives it back.
    void describe(std::string record, Now now);
    [[nodiscard]] bool has_new_record() const noexcept { return record_.has_value(); }  // not gathered yet
    // Everything of it goes from the store with the next batch. It must not be used afterwards.
    void vanish(Now now);
    [[nodiscard]] bool is_vanishing() const noexcept { return vanishing_; }

    // Requests ------------------------------------------------------------------------------------------------
    // From here on this queue has requests (but for what nobody waits for: that is treated as in any queue). What
    // becomes of one is told to who sent it, exactly once: the consumer's answer, or one of ours. Bounds make producers
    // wait then; nothing makes room without an answer.
    void become_service();
    [[nodiscard]] bool is_service() const noexcept { return is_service_; }
    // From here on this queue has answers.
    void become_replies() noexcept { is_replies_ = true; }
    // What is delivered is to be in the store before, and who holds it: so nobody else is ever given a request, and an
    // answer that was heard stands.
    [[nodiscard]] bool stores_before_delivery() const noexcept { return durable_ && (is_replies_ || delivers_once()); }
    [[nodiscard]] bool delivers_once() const noexcept { return is_service_ && policy_.request_attempts == 1; }
    [[nodiscard]] bool holds(ConsumerId id, Held held) const;
    // False: what was delivered there is another request.
    [[nodiscard]] bool may_be_answer(Offset offset, const envelope::Request& answer) const;
    // To requests that this settles: to be entered elsewhere before anything is gathered, for the commit that has the
    // one has the other.
    [[nodiscard]] std::vector<Answer> take_answers() { return std::exchange(answers_, {}); }
    void enter_answer(Slice envelope, Now now);
    // Nobody waits for the answers to these any more. As far as they are in memory they are settled without one; who
    // works on one is told that it has lost it.
    void cancel(const Identity& producer, SequenceRange requests, Now now);
    // There was nobody to enter it for.
    void count_lost_answer() { ++counters_.answers_lost; }
    // Settlements that were made are not in the next batch: they rest on answers for which there is no room yet, or
    // whose request is still to be read.
    [[nodiscard]] bool keeps_settles_waiting() const noexcept { return !answered_.empty() || settles_unanswered_ > 0; }

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
    // Messages and bytes that still fit, or for which others make room; max() where only the disk bounds them. Of a
    // topic: in the fullest of the subscriptions that may have to make producers wait.
    [[nodiscard]] std::uint64_t free_messages() const;
    [[nodiscard]] std::uint64_t free_bytes() const;
    // When that is 0; else what does not fit is refused.
    [[nodiscard]] bool makes_producers_wait() const noexcept;
    // Bytes accepted and not yet committed. Those of a topic count once.
    [[nodiscard]] std::uint64_t uncommitted_bytes() const {
        return topic_ == nullptr && !vanishing_ ? pending_bytes_ + committing_bytes_ : 0;
    }
    [[nodiscard]] bool has_messages() const noexcept { return messages_ + dead_count_ > 0; }  // dead ones as well
    // Messages that are not settled yet, of a memory home's topic in any subscription.
    [[nodiscard]] bool has_unsettled() const noexcept { return messages_ > 0 || !passed_on_.empty(); }

    // Consumers -----------------------------------------------------------------------------------------------
    // A session of this incarnation begins. `held` is what it says it has; what it may not keep is added to `lost`.
    ConsumerId attach(const Identity& incarnation, const std::string& name, std::uint32_t concurrency,
                      const std::vector<Held>& held, std::vector<Held>& lost, Now now);
    void set_window(ConsumerId id, std::uint32_t messages, std::uint64_t bytes);
    // It begins one delivery at a time, and nothing behind one that it gives back before that is settled: so a strict
    // queue may give it more than one.
    void set_keeps_order(ConsumerId id, bool keeps_order);
    // From here on the queue is strict, over restarts as well.
    void become_strict(Now now);
    [[nodiscard]] bool is_strict() const noexcept { return policy_.strict_order || strict_asked_; }
    bool heard(ConsumerId id, Now now);   // renews its leases; true: it was silent and may be given work again
    void detach(ConsumerId id, Now now);  // its session is lost; leases wait out their term
    void leave(ConsumerId id, Now now);   // said bye: what it still holds is released
    void fence(ConsumerId id, Now now);   // replaced by a later one under its name: as if it had died
    [[nodiscard]] std::uint32_t in_flight(ConsumerId id) const;
    // Any that is connected, or whose leases are not over.
    [[nodiscard]] bool has_consumers() const noexcept { return !consumers_.empty(); }
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
    // What stands there or behind stays, whatever its age and the bounds: somebody has not been given it yet.
    void spare_from(Offset offset) noexcept { spared_from_ = offset; }
    [[nodiscard]] Mono next_deadline() const;
    [[nodiscard]] bool has_ready() const;
    // Leases that ended while their consumer was connected, since last asked.
    std::vector<std::pair<ConsumerId, Held>> take_lost();
    // Memory homes: calls back for every producer with newly settled sequences.
    void take_settled(const std::function<void(Producer&, const std::vector<SequenceRange>&)>& give);

    // Store ---------------------------------------------------------------------------------------------------
    // `room`: there is some for new messages. Without it they stay behind, edits as well, and what rests on them:
    // watermarks, redrives, and the marks and dead letters of messages that are not stored yet.
    [[nodiscard]] bool has_appends() const { return !pending_.empty() || passed_from_ != 0; }
    [[nodiscard]] std::size_t settlements() const { return settled_.size() + answered_.size() + dead_.size(); }
    [[nodiscard]] bool has_changes(bool room = true) const;  // anything at all to write
    [[nodiscard]] std::optional<Mono> changed_since() const { return changed_since_; }
    store::TopicBatch gather(Now now, bool room = true);
    void committed();  // the last gathered batch is safe
    // The last gathered batch was not stored, for want of room: all of it is to be gathered again.
    void take_back(const store::TopicBatch& batch, Now now);
    // From here on messages have not been gathered.
    [[nodiscard]] Offset pending_first() const { return next_offset_ - pending_.size(); }
    void wanted_reads(std::vector<store::Read>& reads, Now now);  // to be run after the batch that was gathered last
    void loaded(store::ReadResult result, Now now);
    // These messages can no longer be read: reported, and not waited for.
    void lost_damaged(const store::Damage& damage);
    void reads_done(Now now);  // after the results of one round of wanted_reads()
    void reads_dropped();      // there will be no results

    // Dead letters --------------------------------------------------------------------------------------------
    // False: it is being edited, or is already on its way out.
    bool redrive(const store::StoredDeadLetter& letter, Now now);
    bool purge(const store::StoredDeadLetter& letter, Now now);
    // Some were deleted, to keep to the policy's bound.
    void dead_dropped(std::uint64_t messages, std::uint64_t bytes);
    // Its messages only fail: they are delivered one at a time, after pauses.
    [[nodiscard]] bool is_failing() const noexcept;
    // No more are taken: nothing is delivered until there are fewer.
    [[nodiscard]] bool dlq_blocks() const noexcept;
    enum class Edited { yes, claimed, no_room };  // no_room: in a memory home
    Edited edit(const store::StoredDeadLetter& letter, Slice envelope, Now now);

    [[nodiscard]] const Counters& counters() const noexcept { return counters_; }
    [[nodiscard]] Depth depth() const;
    [[nodiscard]] Flow flow(Now now) const;
    [[nodiscard]] std::uint64_t messages() const noexcept { return messages_; }

private:
    enum class Where : std::uint8_t { ready, leased, waiting, unanswered };

    struct Entry {
        Slice body;                    // only while shown, and then only within the window
        Producer* producer = nullptr;  // memory homes
        std::uint64_t key = 0;         // of its ordering key; 0: none
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
        std::uint8_t priority = 0;
        Where where = Where::ready;
        bool ages = false;   // it expires by max_age
        bool probe = false;  // leased while the queue is failing
        bool shown = false;  // ready, and no other of its key is before it
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
        bool keeps_order = false;
        std::deque<std::pair<Held, std::uint32_t>> applied;  // settles done, as runs; to answer repeats after a resume
    };

    struct Pending {  // accepted, to be in the next batch; offsets are consecutive
        Slice envelope;
        Offset redrive_of = 0;
        std::uint16_t redrives = 0;
        bool maybe_duplicate = false;
        store::Terms terms{};
        bool done = false;  // acked before it was stored: leaves a hole
        bool dead = false;  // given up before it was stored: it is, and goes to the dead letters
    };

    // topic.cpp
    struct Subscriber {
        Queue* queue = nullptr;
        std::vector<Binding> bindings;
    };
    struct PassedOn {  // memory homes: a message that some subscriptions have not settled
        Producer* producer = nullptr;
        std::uint64_t sequence = 0;
        std::vector<const Queue*> left{};
    };
    bool find_takers(std::string_view envelope);
    void pass_on(const envelope::Routing& routing, const Slice& envelope, bool maybe_duplicate, Producer& producer,
                 Now now);
    void keep_up(Offset offset) noexcept;
    void skip_to(Offset offset);
    [[nodiscard]] bool always_makes_room() const noexcept;
    void settled_by(const Queue& subscription, Offset offset);
    bool count_off(const Queue& subscription, PassedOn& message);
    [[nodiscard]] std::uint64_t least_of_subscriptions(std::uint64_t (Queue::*free)() const) const;
    [[nodiscard]] Offset unstored_first() const { return passed_from_ != 0 ? passed_from_ : pending_first(); }

    [[nodiscard]] const Queue* refuses(std::size_t size) const;
    void take(const envelope::Routing& routing, Slice envelope, bool maybe_duplicate, Producer* producer, Now now);
    [[nodiscard]] bool fits(std::size_t size) const;
    [[nodiscard]] bool dead_take_room() const noexcept;
    [[nodiscard]] std::uint64_t room_within(std::uint64_t most, std::uint64_t used, std::uint64_t idle,
                                            std::uint64_t dlq_most, std::uint64_t dead) const;
    void count_as_settled(Producer& producer, std::uint64_t sequence);
    void tell_dedup(std::size_t forgotten);
    // As far as the bounds go.
    [[nodiscard]] std::uint64_t used_messages() const;
    [[nodiscard]] std::uint64_t used_bytes() const;
    void enqueue(Pending message, const envelope::Routing& routing, Producer* producer, Now now);
    ConsumerId consumer_of(const Identity& incarnation, Now now);
    // To be written with the next batch, or with the message where that is still to be written itself.
    void write_settled(Offset offset);
    void write_mark(Offset offset);
    void write_dead(store::DeadLetter letter);
    void write_watermark(Producer& producer);
    void gather_pending(store::TopicBatch& batch, Now now);
    void take_back_pending(const store::TopicBatch& batch);
    void keep_body(Entry& entry, Slice body);
    void drop_body(Entry& entry);
    void touch(Offset offset, Entry& entry, Now now);
    void changed(Now now);
    void end_lease(Entry& entry);
    void finish(Entries::iterator it, Now now);  // settled for good: leaves entries_
    // Both true: it was a request that is answered by this, so nothing about the service is known to be wrong.
    bool fail(Entries::iterator it, std::optional<Duration> delay, const std::string& text, Now now);
    bool dead_letter(Entries::iterator it, store::Reason reason, std::string text, Now now);
    void bury(Entries::iterator it, store::DeadLetter letter, Now now);
    void give_up(Entries::iterator it, store::Reason reason, std::string text, Now now);
    void tidy_fresh();
    void watch_expiry(Offset offset, const Entry& entry);
    void unwatch_expiry(Offset offset, const Entry& entry);
    void expire_due(Now now);
    void tell_dlq();
    void give_back(Offset offset, Entry& entry, Now now);
    void acked(Entries::iterator it, const Settle& settle, Now now);
    void take_back_behind(ConsumerId id, Offset offset, Now now);
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

    // requests.cpp
    enum class Fate : std::uint8_t { done, failed, undecodable, replier_lost, expired };
    struct Unanswered {  // it is settled as soon as it is known whom to answer
        Fate fate = Fate::done;
        std::string text;
        bool settled = false;  // by a consumer, who is not told that this is safe before
    };
    [[nodiscard]] std::optional<envelope::Request> request_at(Offset offset, const Entry& entry) const;
    bool answer(Entries::iterator it, Fate fate, std::string text, bool settled, Now now);
    void answer(Entries::iterator it, const envelope::Request& request, Fate fate, std::string text, Now now);
    void answer(Entries::iterator it, std::string reply_to, Slice reply, Now now);
    void answer_late(Entries::iterator it, const Slice& envelope, Now now);
    void write_answered(Offset offset);
    [[nodiscard]] bool expires_nothing() const noexcept;
    void leave_place(Offset offset, Entry& entry);
    void forget_request(Offset offset);

    // storm.cpp
    void count_failure(Now now);
    void count_success();
    [[nodiscard]] bool is_held_back(Now now);

    // lines.cpp
    struct Line {                  // of an ordering key
        std::set<Offset> members;  // ready
        Offset shown = 0;          // the one of them that may be delivered; 0: none
        std::uint32_t out = 0;     // leased, or waiting for the next attempt: none may be delivered
        bool more = false;         // there are others in the store, behind all members
    };
    void make_ready(Offset offset, Entry& entry);
    void show(Offset offset, Entry& entry);
    void hide(Offset offset, Entry& entry);
    void leave_line(Offset offset, Entry& entry);
    void refresh_line(std::uint64_t key);
    bool line_has_room(std::uint64_t key, bool reading_on);
    [[nodiscard]] unsigned priority_in_line(std::uint64_t key, unsigned priority) const;
    void count_keyed(std::uint64_t key, unsigned priority);
    void uncount_keyed(std::uint64_t key, unsigned priority);

    // overflow.cpp
    [[nodiscard]] bool is_over() const;
    [[nodiscard]] Mono next_expiry() const;
    [[nodiscard]] Mono next_in_backlog() const;
    [[nodiscard]] bool may_go(Offset offset) const;
    [[nodiscard]] Offset oldest_in_backlog() const;
    [[nodiscard]] Offset oldest_behind() const;
    void make_room(Offset before, Now now);
    void make_way(Entries::iterator it, Now now);
    void drop(Entries::iterator it, std::uint64_t& counter, Now now);
    bool makes_way(store::StoredMessage& message, const Backlog::Message& place, Now now);
    void tell_overflow();

    // loading.cpp
    enum class Why {
        nothing,
        turn,   // messages of one priority, for their turn
        due,    // for a time that has come
        key,    // messages of one key, which has few left in memory
        room,   // the oldest, to make room
        learn,  // after a restart
    };
    struct Reading {
        Why why = Why::nothing;
        unsigned priority = 0;
        std::uint64_t key = 0;
        std::vector<std::pair<Offset, Backlog::Block>> taken;  // out of backlog_, by number
        std::uint16_t priorities = 0;                          // of those
        Offset to = 0;                                         // what is read
        Offset known_to = 0;                                   // what there was then; behind `to` it was not stored
        bool makes_room = false;                               // as it is placed, where the queue is over its bound
    };
    [[nodiscard]] std::size_t ready_from(unsigned priority) const;
    [[nodiscard]] std::size_t tracked_most() const;
    [[nodiscard]] bool has_track_room(unsigned priority) const;
    [[nodiscard]] bool has_turns_behind(unsigned priority) const;
    [[nodiscard]] static Mono due_of(const store::StoredMessage& message, Now now);
    [[nodiscard]] static Mono expiry_of(const store::StoredMessage& message, Now now);
    [[nodiscard]] Mono end_of_age(Wall accepted, Now now) const;
    static void age(Backlog::Message& place, Mono end);
    [[nodiscard]] Backlog::Message untracked(const store::StoredMessage& message, Mono due, Now now) const;
    bool has_memory_for(Backlog::Message& place, Now now);
    bool is_wanted(const store::StoredMessage& message, Backlog::Message& behind, Now now);
    void place(store::StoredMessage& message, Now now);
    void track_stored(store::StoredMessage& message, const Backlog::Message& place, Now now);
    void wait_until(Offset offset, Entry& entry, Mono due, Wall due_wall);
    [[nodiscard]] bool may_join(Offset offset, std::uint64_t key, unsigned priority) const;
    [[nodiscard]] bool may_be_behind_stored(Offset offset) const;
    [[nodiscard]] bool can_read_on(unsigned priority) const;
    void wake(Offset offset, Entry& entry);
    void evict_waiting();
    [[nodiscard]] bool is_higher_on_its_way(unsigned priority) const;
    std::optional<Offset> next_reading(Now now, Reading& next);
    std::optional<Offset> reading_for_room(Reading& next) const;
    void take_block(Offset number);
    bool begin_reading(bool stored, Now now);
    bool adopt_pending(Offset from, Offset to, Now now);
    [[nodiscard]] static bool lacks_body(const Entry& entry) {
        return (entry.shown && entry.body.empty()) || entry.where == Where::unanswered;
    }
    void fetch_bodies(std::vector<store::Read>& reads);
    void read_blocks(std::vector<store::Read>& reads, Now now);

    // dispatch.cpp
    [[nodiscard]] bool failures_hold_up() const noexcept { return is_strict() && !policy_.retry_aside; }
    std::map<ConsumerId, Consumer>::iterator active_consumer();
    Entries::iterator next_in_line();
    void dispatch_strictly(Now now, std::vector<Delivered>& out);
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
    bool is_service_ = false;
    bool is_replies_ = false;
    std::unordered_map<Offset, envelope::Request> requests_;  // that were delivered in this life
    using BySequence = std::map<std::pair<Identity, std::uint64_t>, Offset>;
    BySequence by_sequence_;                                  // requests of entries_ that came in this life
    std::unordered_map<Offset, BySequence::iterator> asked_;  // the same
    std::map<Offset, Unanswered> unanswered_;
    std::size_t settles_unanswered_ = 0;
    std::vector<Answer> answers_;
    bool is_topic_ = false;
    bool live_ = false;
    bool is_log_ = false;
    std::vector<Subscriber> subscribers_;  // of a topic
    std::vector<Queue*> takers_;           // of the message at hand
    std::unordered_map<Offset, PassedOn> passed_on_;
    Offset passed_from_ = 0;             // the first message passed on since the last batch; 0: none
    Queue* topic_ = nullptr;             // of a subscription
    std::optional<std::string> record_;  // to be stored
    bool vanishing_ = false;
    QueuePolicy policy_;
    bool durable_;
    bool makes_room_;  // when it is full
    Limits limits_;
    std::mt19937_64 random_;
    EventHook on_event_;

    std::pmr::unsynchronized_pool_resource pool_;
    Entries entries_{&pool_};
    // What is shown stands in one of these:
    std::deque<Offset> fresh_;  // the most of it: for the first time, of priority 0, without a key; ascending; may name
                                // entries that are shown no more
    std::set<std::pair<unsigned, Offset>> returned_;  // by falling priority (priority_limit - it)
    std::set<Offset> suspects_;                       // to be delivered apart
    std::set<std::pair<Mono, Offset>> waiting_;
    std::set<Offset> holding_up_;                 // strict queues: those of waiting_ that hold up what is behind them
    std::set<std::pair<Mono, Offset>> expiring_;  // ready or waiting, and not for ever
    std::set<Offset> idle_;                       // ready or waiting; only where the oldest make room
    std::uint64_t ready_ = 0;                     // shown
    std::array<std::uint64_t, Backlog::priorities> ready_of_{};  // without suspects
    std::unordered_map<std::uint64_t, Line> lines_;
    std::set<std::uint64_t> hungry_;  // keys with few in memory and more in the store
    std::unordered_map<std::uint32_t, std::array<std::uint32_t, Backlog::priorities>> unsettled_keyed_;  // by bucket
    std::uint64_t in_flight_ = 0;
    std::uint64_t in_flight_bytes_ = 0;
    std::uint64_t window_used_ = 0;  // bytes of bodies in entries_
    bool paused_ = false;
    Offset spared_from_ = std::numeric_limits<Offset>::max();
    bool starved_ = false;  // the next ready message's body has to be fetched

    std::map<ConsumerId, Consumer> consumers_;
    std::unordered_map<Identity, ConsumerId> by_incarnation_;
    ConsumerId last_consumer_ = 0;
    std::unordered_set<Identity> ended_;  // consumers whose leases this life has ended: what they settle late is stale
    std::deque<Identity> ended_order_;
    ConsumerId turn_of_ = 0;  // dispatch starts behind this one
    ConsumerId taker_ = 0;    // runs dry so that it can take suspects
    ConsumerId active_ = 0;   // strict queues: the one that was given something last
    bool strict_asked_ = false;
    bool strict_stored_ = true;  // or nothing to store
    Mono recall_at_ = never;
    Mono sweep_at_ = never;
    Mono forget_at_ = never;
    std::vector<std::pair<ConsumerId, Held>> lost_;

    std::unordered_map<Identity, Producer> producers_;
    std::vector<Producer*> settled_producers_;
    std::vector<Identity> forgotten_;

    Offset next_offset_ = 1;
    Offset latest_ = 0;        // that was accepted in this life
    Offset former_begin_ = 0;  // recovery: from here on it was the last life
    Offset former_end_ = 0;    // recovery: stored by former lives: all below

    // What needs room in the store: edits of dead letters, new messages, and what rests on them.
    std::vector<store::Edit> edits_;
    std::vector<Pending> pending_;  // offsets next_offset_ - size .. next_offset_ - 1
    std::uint64_t pending_bytes_ = 0;
    std::vector<Offset> pending_dirty_;
    std::vector<store::DeadLetter> pending_dead_;
    std::vector<Producer*> dirty_producers_;

    Offset gathered_from_ = 1;  // the first of the messages gathered last
    bool committing_ = false;   // and they are not committed yet
    std::uint64_t committing_bytes_ = 0;
    struct Committing {
        Identity id;
        std::uint64_t sequence = 0;
        Identity life;
    };
    std::vector<Committing> committing_producers_;
    std::vector<Offset> settled_;
    std::vector<Offset> answered_;  // settled as well, and in need of room for the answers
    std::vector<Offset> answered_committing_;
    std::vector<Offset> dirty_;
    std::vector<store::DeadLetter> dead_;
    std::vector<Offset> purged_;
    std::set<Offset> claimed_;  // dead letters that are changed or on their way out, until committed
    std::vector<Offset> claimed_committing_;
    std::optional<Mono> changed_since_;
    Backlog backlog_{limits_.block};
    std::deque<store::OffsetRange> learn_;  // recovery: still to be read
    Reading reading_;
    bool room_first_ = true;      // readings for room and others take turns
    bool asked_to_read_ = false;  // what is due in the backlog waits for wanted_reads()
    // Bodies asked for in this round: the messages first to last, by the first; and those that were not found.
    std::map<Offset, Offset> fetching_;
    std::vector<Offset> missing_;

    std::uint64_t messages_ = 0;  // unsettled
    std::uint64_t bytes_ = 0;
    std::uint64_t dead_count_ = 0;
    std::uint64_t dead_bytes_ = 0;
    std::uint64_t failures_ = 0;   // since the last ack
    Duration storm_pause_{};       // while it is failing: after each failure
    Mono storm_until_{};           // and how long that is
    Mono storm_at_ = never;        // it holds up what is ready
    std::uint64_t probes_ = 0;     // in flight
    bool dlq_blocked_ = false;     // as it was told
    std::uint64_t drops_ = 0;      // commits that deleted dead letters
    std::uint64_t made_way_ = 0;   // messages, as they were counted last
    std::uint64_t overflows_ = 0;  // times
    std::uint64_t agings_ = 0;     // times
    Dedup dedup_;
    std::uint64_t dedup_forgotten_ = 0;  // keys, before their time
    std::uint64_t dedup_presses_ = 0;    // times
    std::optional<Wall> recovered_oldest_;
    Counters counters_;
    Rate in_;
    Rate out_;
};

}  // namespace posthorn::queue
