// Where a host keeps its topics. One job at a time: a batch to commit, then reads. A store owns no thread; whoever
// runs jobs on one thread and submits the next when the last is done has group commit: what gathers meanwhile is
// the next batch (design, section 6).
//
// The engine speaks of offsets and never of chunks. A store may keep messages by commit batch ("chunk") and
// settlements as bitmaps over them, merge and split those, and never tells.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <posthorn/time.hpp>

#include "envelope/bytes.hpp"
#include "envelope/identity.hpp"

namespace posthorn::store {

using Offset = std::uint64_t;  // a message's place in its topic, from 1, never reused

struct OffsetRange {  // first..last, both included
    Offset first = 0;
    Offset last = 0;
    friend bool operator==(const OffsetRange&, const OffsetRange&) = default;
};

// When, and before or behind which others, a message may be delivered: as much of it as a host has to know of messages
// it does not hold in memory.
struct Terms {
    Wall due{};             // not before; zero: at once
    Wall expires_at{};      // zero: never
    std::uint64_t key = 0;  // a hash of its ordering key; 0: none
    std::uint8_t priority = 0;
    friend bool operator==(const Terms&, const Terms&) = default;
};

// A message as it enters the store.
struct Append {
    Offset offset = 0;
    Slice envelope;
    std::uint16_t redrives = 0;
    bool maybe_duplicate = false;
    Terms terms{};
};

// What is remembered of a message that is neither untouched nor settled. Stored beside its chunk.
struct Mark {
    Offset offset = 0;
    std::uint32_t token = 0;     // deliveries so far, released ones included; names the latest lease
    std::uint16_t attempts = 0;  // charged
    std::uint16_t deaths = 0;    // consumers that died holding it, not yet charged
    bool suspect = false;        // to be delivered apart from healthy messages
    bool isolate = false;        // a suspect to be delivered alone
    Identity holder;             // incarnation of the consumer that holds it; zero: nobody
    Wall due{};                  // not before; zero: at once
    Wall first_failure{};        // zero: never failed
    friend bool operator==(const Mark&, const Mark&) = default;
};

enum class Reason : std::uint8_t { rejected = 1, max_attempts = 2, expired = 3, queue_full = 4, undecodable = 5 };
[[nodiscard]] std::string_view to_string(Reason reason) noexcept;
[[nodiscard]] std::optional<Reason> reason_from(std::string_view text) noexcept;

// Why and how a message was given up. Leaves the topic and enters the dead letters in one commit.
struct DeadLetter {
    Offset offset = 0;  // where it stood; also its id among the topic's dead letters
    Reason reason = Reason::rejected;
    std::string text;  // the handler's words, at most 1 KiB
    std::uint32_t attempts = 0;
    Wall first_failure{};
    Wall last_failure{};
    std::string consumer;  // name or incarnation of the last one
};

struct StoredDeadLetter {
    DeadLetter record;
    Slice envelope;
    std::uint16_t redrives = 0;
    std::optional<Slice> original{};  // the envelope as it was before the first edit

    [[nodiscard]] std::size_t size() const noexcept { return envelope.size() + (original ? original->size() : 0); }
};

// A publish that was refused: remembered so that a resend gets the same answer.
struct Refusal {
    std::uint64_t sequence = 0;
    std::string code;
    std::string text;
    friend bool operator==(const Refusal&, const Refusal&) = default;
};

// Everything up to `sequence` of this producer has been decided: accepted, or refused as listed.
struct Watermark {
    Identity producer;
    std::uint64_t sequence = 0;
    std::vector<Refusal> refusals;  // ascending
    Wall seen{};
    Identity life{};  // of a named producer: who goes on under the name; zero: it has none
};

// A deduplication key, accepted with the message at `offset`.
struct DedupKey {
    Offset offset = 0;
    Wall accepted_at{};
    std::string key;
};

// A dead letter gets another envelope. What it had before the first of these is kept beside it.
struct Edit {
    Offset dead = 0;
    Slice envelope;
};

// A dead letter goes back: stored again at `offset` with one more redrive and no end to its life, and its record goes.
struct Redrive {
    Offset dead = 0;
    Offset offset = 0;
    Terms terms{};
};

// What a topic's dead letters are cut back to, oldest first.
struct DeadBound {
    std::uint64_t max_messages = 0;  // 0: any number
    std::uint64_t max_bytes = 0;     // 0: any size
    std::set<Offset> keep;           // not these
};

// A stretch of what another topic holds, to be stored here too: at the same offsets, as plain messages without marks,
// settled by each topic for itself. It is looked at when all batches of the job have been applied, so what they brought
// is in it. The store may stop wherever it has done enough for one commit, and says so (Replayed). The batch's topic
// has nothing at `from` or behind. For durable stores only.
struct Replay {
    std::string of{};
    Offset from = 1;
    std::uint64_t last = 0;  // not 0: from where its last so many messages begin, whatever `from` says
    Wall since{};            // only what was accepted then or later
    std::function<bool(std::string_view envelope)> wants{};  // only these, none: all; called by whoever runs the job
    std::size_t max_messages = std::numeric_limits<std::size_t>::max();  // to be looked at, about
    Offset at_least = 0;                                                 // looked at up to there, however much it is
    std::string subscription{};  // to be remembered of the topic, opaque, in the commit that reaches the end
};

// All that changes in one topic in one commit. The parts take effect in the order of the members.
struct TopicBatch {
    std::string topic;  // created when new
    // Batches of a job that name the same one, not empty: the same offset is the same envelope in each, and it may be
    // stored once. So it is in batches whose next_offset is above all that they append together; lower ones store
    // alone.
    std::string share{};
    Wall accepted_at{};           // the host's stamp on everything appended here
    Offset next_offset = 1;       // after this batch
    std::vector<Append> appends;  // ascending offsets; what is missing between them was settled before it was stored
    std::vector<OffsetRange> settled;  // of earlier batches, ascending, disjoint
    std::vector<Mark> marks;           // replaces what was known of that message
    std::vector<DeadLetter> dead;      // of this or earlier batches
    std::vector<Edit> edits;
    std::vector<Redrive> redrives;
    std::vector<Offset> purged;                 // dead letters that go for good
    std::optional<DeadBound> dead_bound;        // of what is dead then
    std::vector<Watermark> watermarks;          // replace
    std::vector<Identity> forgotten;            // watermarks that go
    std::vector<DedupKey> dedup_keys;           // ascending offsets; of messages that are not stored any more as well
    Offset dedup_gone = 0;                      // those below go; some may stay as long as others of their batch do
    bool strict = false;                        // from here on it keeps strict order, for good
    std::optional<std::string> subscription{};  // to be remembered of it, opaque; empty: nothing any more
    bool gone = false;                          // the topic goes, with everything that was stored of it
    std::optional<Replay> replay{};

    [[nodiscard]] bool empty() const noexcept {
        return appends.empty() && settled.empty() && marks.empty() && dead.empty() && edits.empty() &&
               redrives.empty() && purged.empty() && watermarks.empty() && forgotten.empty() && dedup_keys.empty() &&
               dedup_gone == 0 && !strict && !subscription && !gone && !replay;
    }
};

struct Read {
    std::string topic;
    Offset from = 1;  // unsettled messages from here on ...
    Offset to = 0;    // ... up to and including here
    std::size_t max_messages = 0;
    std::size_t max_bytes = 0;  // of envelopes; one message is always given
    bool bodies = true;         // false: marks and sizes only

    // With it every unsettled message of the range is given, and max_messages and max_bytes bound those that have their
    // bodies: the first ones that may be delivered.
    struct Select {
        std::uint16_t priorities = 0;  // a bit for each: those, and ...
        std::uint64_t keys = 0;        // ... those with a key for whose key_group() there is a bit
        Wall now{};                    // of either, those that are due
    };
    std::optional<Select> select{};
};

// What stands for an ordering key in `Terms`. Two keys that share it are taken for one.
[[nodiscard]] std::uint64_t key_of(std::string_view ordering_key) noexcept;
// Keys are told apart by groups where a set of them has to be small.
[[nodiscard]] constexpr unsigned key_group(std::uint64_t key) noexcept {
    return static_cast<unsigned>(key >> 58U);
}

struct StoredMessage {
    Offset offset = 0;
    Slice envelope;          // empty when not asked for
    std::uint32_t size = 0;  // bytes of the envelope
    std::uint16_t redrives = 0;
    bool maybe_duplicate = false;
    Wall accepted_at{};
    Terms terms{};
    std::optional<Mark> mark;
};

// Messages that can no longer be read. They are set aside; the rest is served.
struct Damage {
    std::string topic;
    OffsetRange range;
    std::uint64_t messages = 0;  // unsettled ones among them
    std::string what;
    bool dead = false;             // they are dead letters, ...
    std::uint64_t dead_bytes = 0;  // ... of so many bytes
};
[[nodiscard]] std::string describe(const Damage& damage);  // for people

struct ReadResult {
    std::string topic;
    Offset from = 0;  // as asked
    std::vector<StoredMessage> messages;
    Offset next = 0;             // everything unsettled below is in `messages`; read on from here
    std::vector<Damage> damage;  // found on the way
};

// Dead letters of a topic, ascending by offset, from `from` on; at most `max` and about 1 MiB.
struct ReadDead {
    std::string topic;
    Offset from = 0;
    std::size_t max = 1000;
    std::uint64_t ticket = 0;  // given back, so that the asker knows its answer
};

struct ReadDeadResult {
    std::string topic;
    std::uint64_t ticket = 0;
    std::vector<StoredDeadLetter> letters;
    bool more = false;
};

// A copy of the whole store, made in slices, one a job. One copy at a time.
struct BackupStep {
    enum class What { begin, go_on, give_up };
    What what = What::go_on;
    std::string folder;        // begin: absolute, on the store's machine; missing or empty
    std::uint64_t ticket = 0;  // given back, so that the asker knows its answer
};

struct BackupResult {
    std::uint64_t ticket = 0;
    std::uint64_t copied = 0;  // bytes
    std::uint64_t total = 0;   // as of now
    bool whole = false;        // done, and safe on its disk: everything committed so far is in it
    std::string error;         // the copy was given up: why, and what to do; the store is none the worse
};

struct Job {
    std::vector<TopicBatch> batch;  // one transaction; durable when run() returns
    std::vector<Read> reads;        // after the commit
    std::vector<ReadDead> dead_reads;
    std::optional<BackupStep> backup;  // last

    [[nodiscard]] bool empty() const noexcept {
        return batch.empty() && reads.empty() && dead_reads.empty() && !backup;
    }
};

struct DeadDropped {
    std::string topic;
    std::uint64_t messages = 0;
    std::uint64_t bytes = 0;
};

// What a batch's Replay has come to.
struct Replayed {
    std::string topic;                // the batch's
    Offset next = 1;                  // go on from here
    bool whole = false;               // the other topic has nothing there or behind
    std::vector<OffsetRange> ranges;  // ascending; what was copied is in one of them
    std::uint64_t messages = 0;
    std::uint64_t bytes = 0;  // of their envelopes
    Wall oldest{};            // when the first was accepted; zero: there is none
};

enum class Failure {
    none,
    full,    // no room on the disk; nothing of the batch was stored, nothing read; run it later, or with less in it
    failed,  // a write or sync failed: nothing more may be stored by this process
};

struct Outcome {
    Failure failure = Failure::none;  // of the batch
    std::string text;                 // what happened, to which file, and what to do
    std::vector<ReadResult> reads;
    std::vector<ReadDeadResult> dead_reads;
    std::vector<DeadDropped> dropped;  // by the batch, for want of room within a bound
    std::vector<Replayed> replayed;
    std::optional<BackupResult> backup;     // of a step that was not to give up
    std::vector<Damage> damage;             // found by the commit or among dead letters; reads carry their own
    std::uint64_t free_bytes = UINT64_MAX;  // left for messages after the job; UINT64_MAX: not bounded by a disk
};

// Messages that were stored together.
struct Span {
    OffsetRange range;
    bool plain = false;  // all of them are ready, of priority 0, without a key, and for ever
};

struct RecoveredTopic {
    std::string topic;
    Offset next_offset = 1;
    Offset first = 1;            // nothing unsettled below
    std::vector<Span> spans;     // ascending; everything unsettled is in one of them
    std::uint64_t messages = 0;  // unsettled
    std::uint64_t bytes = 0;     // of their envelopes
    std::uint64_t dead = 0;
    std::uint64_t dead_bytes = 0;  // of their envelopes, with the originals of those that were edited
    Wall oldest{};                 // when the first unsettled one was accepted; zero: none
    std::vector<Watermark> watermarks;
    std::vector<DedupKey> dedup_keys;  // ascending offsets
    bool strict = false;               // a batch said so
    std::string subscription{};        // as a batch said; empty: nothing
};

struct Recovery {
    std::vector<RecoveredTopic> topics;
    std::vector<Damage> damage;
    std::vector<std::string> notes;  // what was found, for the log: one line each
};

class Store {
public:
    virtual ~Store() = default;
    Store() = default;
    Store(const Store&) = delete;
    Store& operator=(const Store&) = delete;

    // Once, before the first job. Reads headers and settlements, not bodies.
    virtual Recovery recover() = 0;
    virtual Outcome run(const Job& job) = 0;
    // Whether a commit survives the process. False: it is memory, and run() costs nothing worth a thread.
    [[nodiscard]] virtual bool durable() const noexcept = 0;
};

}  // namespace posthorn::store
