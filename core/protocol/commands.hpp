// The commands of a session and their bytes. docs/protocol.md is the specification; this is its only implementation.
//
// A frame is one wire message, a msgpack array:  [epoch, number, more, name, body, name, body, ...]
//   epoch   uint   the session's; 0 outside a session (hello, identify, a refusal of a hello)
//   number  uint   counts the frames of one direction in this session, from 1; 0 outside a session
//   more    bool   true: this is a fragment, and the rest of the array is one bin; the fragments' bins joined, up to
//                  and including that of the first frame with more == false and a single bin, are the
//                  name/body pairs of one large frame
//   name    str    the command; body: a map with string keys, unknown keys are skipped
// Outside a session only a hello may be too large for one frame: its fragments are numbered from 1.
// A frame without commands is a heartbeat. A gap in the numbers means a frame was lost: the receiver ends the session
// and both sides resume by a new hello; a number seen before is dropped. So within a session frames arrive
// exactly once and in order, whatever the link does.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <posthorn/time.hpp>
#include <posthorn/topic.hpp>

#include "envelope/bytes.hpp"
#include "envelope/envelope.hpp"
#include "envelope/identity.hpp"
#include "envelope/wire.hpp"

namespace posthorn::protocol {

inline constexpr std::uint32_t version = 1;
inline constexpr std::string_view magic = "posthorn";

// What a frame (or the joined fragments of a large one) may hold; beyond it is malformed. Small commands grow a
// hundredfold in memory, so bytes alone are not a bound.
inline constexpr std::size_t commands_limit = 1024;
inline constexpr std::size_t entries_limit = 256 * 1024;  // of all lists together
inline constexpr std::size_t text_limit = 4096;           // bytes of a "text" that are read, the rest is cut off

enum class Role { producer, consumer, admin, unknown };  // unknown: only ever decoded, to be refused
enum class Verdict : std::uint8_t { ack = 0, nack = 1, release = 2, reject = 3, undecodable = 4 };

struct Held {
    std::uint64_t offset = 0;
    std::uint32_t token = 0;
    bool begun = false;
};

struct SequenceRange {
    std::uint64_t first = 0, last = 0;  // both included
    friend bool operator==(const SequenceRange&, const SequenceRange&) = default;
};

struct Refused {  // of one message
    std::uint64_t sequence = 0;
    std::string code, text;
};

// peer -> host ---------------------------------------------------------------------------------------------------

struct Hello {                                  // "hello"
    std::uint32_t version = protocol::version;  // "version"; beside "protocol": "posthorn", without which it reads 0
    Role role = Role::producer;                 // "role": "producer" | "consumer" | "admin"
    std::string address;                        // "address": QUEUE, TOPIC or TOPIC/SUBSCRIPTION; empty for admin
    std::string name;                           // "name": for people; grants nothing
    Identity incarnation;                       // "incarnation": bin 16; a producer's is its producer id ...
    Identity producer;                          // ... unless a named one has another: "producer": bin 16, the name's
    bool resumed = false;                       // named producer "resumed": this life has been told its place
    std::uint32_t attempt = 0;                  // "attempt": counts this end's hellos; echoed in welcome
    std::uint64_t confirmed = 0;                // producer "confirmed": all up to here is decided, as far as it knows
    std::uint64_t oldest = 0;                   // producer "oldest": first sequence it still holds; 0: none
    std::vector<Held> held;             // consumer "held": [[offset, token, begun], ...], unconfirmed settles included
    std::uint32_t concurrency = 1;      // consumer "concurrency"
    std::uint32_t window_messages = 0;  // consumer "window": [messages, bytes]
    std::uint64_t window_bytes = 0;
    std::string client;   // "client": for logs
    bool strict = false;  // "strict": the queue keeps strict order from now on, and so does this consumer
    bool topic = false;   // producer "topic": the address is a topic's, not a queue's
    bool live = false;    // "live": the topic is a live one, which keeps nothing
    bool watch = false;   // producer "watch": is to be told of the consumers there are
    // producer "replies": where the answers to its requests go, the part NAME of the address QUEUE.replies/NAME
    std::string replies{};
    bool keeps_replies = false;  // producer "keeps_replies": what waits there stays when nobody is there
    bool needs_replier = false;  // producer "needs_replier": without a consumer its requests are to be refused
    bool replier = false;        // consumer "replier": answers requests
    // consumer "bindings" [[subject, any, {header: value}], ...]: what the subscription is to get from now on; nothing:
    // as it is, and everything if it is new
    std::optional<std::vector<Binding>> bindings{};
    bool temporary = false;  // consumer "temporary": a subscription that is new goes with its last consumer
    bool exclusive = false;  // consumer "exclusive": no other consumer beside this one
    // consumer of a live topic "link", "received": the link it had with this host, and the last number it has of it
    std::uint64_t link = 0;
    std::uint64_t received = 0;
    // consumer "from" ["sequence" | "time" | "last", n]: where a subscription that is new begins; nothing: now
    std::optional<From> from{};
};

struct Publish {  // "publish" {"m": [bin, ...]}: envelopes in sequence order
    std::vector<Slice> envelopes;
};

struct Cancel {  // "cancel" {"m": [[first, last], ...]}: nobody waits for the answers to these requests any more
    std::vector<SequenceRange> requests;
};

struct Window {  // "window" {"messages", "bytes"}: how much this consumer may hold unsettled of this host's
    std::uint32_t messages = 0;
    std::uint64_t bytes = 0;
};

// "taken" {"count", "messages", "bytes", "received"}: of a link all up to `count` are taken or missed, and up to
// `received`, where that is more, have come; and what may be fed in this session altogether, cumulative.
struct Taken {
    std::uint64_t count = 0;
    std::uint64_t messages = 0;
    std::uint64_t bytes = 0;
    std::uint64_t received = 0;
};

struct AckRun {  // deliveries of consecutive offsets with the same token
    std::uint64_t offset = 0;
    std::uint32_t token = 0;
    std::uint32_t count = 0;
};

struct SettleOne {
    std::uint64_t offset = 0;
    std::uint32_t token = 0;
    Verdict verdict = Verdict::nack;
    std::optional<std::uint64_t> delay_ms;  // nack: instead of the queue's backoff
    std::string text;                       // nack, reject, undecodable: why
    Slice reply{};                          // ack: the answer, an envelope; empty: none
};

// "settle" {"acks": [[offset, token, count], ...],
//           "others": [[offset, token, verdict, delay|nil, text, reply|nil], ...], "sync"}
struct Settle {
    std::vector<AckRun> acks;
    std::vector<SettleOne> others;  // counted after the acks of the same command
    bool sync = false;              // "sync": somebody waits for them to be safe
};

struct ExtendOne {
    std::uint64_t offset = 0;
    std::uint32_t token = 0;
    std::uint64_t ms = 0;
};

struct Extend {  // "extend" {"m": [[offset, token, ms], ...]}
    std::vector<ExtendOne> items;
};

struct Recalled {};  // "recalled" {}: the answer to recall, after the releases it led to

struct HeaderField {
    std::string name;
    std::optional<std::string> value;  // nothing: of a filter, whatever it is; of a change, it goes
};

// "admin" {"id", "verb", "address", "reason", "ids", "from", "dry_run", "max", "folder", "type",
//          "headers": [[name, value|nil], ...], "older_than", "newer_than", "text",
//          "change": {"payload", "type", "headers": [[name, value|nil], ...]}}
struct AdminRequest {
    std::uint64_t id = 0;
    std::string verb;  // "queues" | "dlq_list" | "dlq_show" | "dlq_redrive" | "dlq_purge" | "dlq_edit" | "backup"
                       // | "unsubscribe"
    std::string address;
    std::string reason;            // filter; empty: any
    std::vector<std::string> ids;  // filter by message id; empty: any
    std::uint64_t from = 0;        // cursor from the last result
    bool dry_run = false;
    std::uint32_t max = 1000;
    std::string folder{};  // of a backup, on the host's machine
    // More filters of dead letters; empty, 0: any.
    std::string type{};
    std::vector<HeaderField> headers{};  // all of them
    std::uint64_t older_than_ms = 0;     // since the last failure
    std::uint64_t newer_than_ms = 0;
    std::string text{};         // a part of the reason's text
    envelope::Change change{};  // of an edit
};

// both ways -------------------------------------------------------------------------------------------------------

struct Bye {  // "bye" {"retry_after", "text", "answer"}: this side ends the session in order
    std::uint64_t retry_after_ms = 0;
    std::string text;
    bool answer = false;  // to the host's bye: all that came before it was read
};

// host -> peer ----------------------------------------------------------------------------------------------------

struct Welcome {  // "welcome"; the frame carries the new epoch and the number 1
    std::uint32_t version = protocol::version;
    std::uint32_t attempt = 0;        // "attempt": of the hello that is answered; any other is ignored
    Identity host;                    // "host": the host's incarnation
    bool durable = false;             // "durable": confirms mean stored; else settled
    std::uint64_t message_limit = 0;  // "message_limit": bytes of an envelope
    std::uint64_t heartbeat_ms = 0;   // "heartbeat": the host's busy interval
    std::uint64_t lease_ms = 0;       // consumer "lease"
    std::uint64_t watermark = 0;      // producer "watermark": everything up to here is decided
    std::uint64_t stored = 0;         // producer "stored": and on disk
    std::vector<Refused> refused;     // producer "refused": those above its `confirmed`
    std::vector<Held> lost;           // consumer "lost": listed as held, but no longer its own
    std::uint64_t link = 0;           // consumer of a live topic "link": the one it had, or a new one
    // "capabilities": order, bounds and dedup hold per host: ["host:memory"|"host:spool"|"host:node"]
    std::vector<std::string> capabilities;
};

struct Identify {  // "identify" {"host"}: I do not know your session; say hello (sent once per unknown peer)
    // "host": bin 16, the host's incarnation, so that a consumer that binds knows one it already works for
    Identity host;
};

struct Refusal {  // "refused" {"code", "text"}: of a hello or a command; the session is over if there was one
    std::string code, text;
};

// "confirm" {"held", "stored", "settled": [[first, last], ...], "refused": [[sequence, code, text], ...], "resume"}
struct Confirm {
    std::uint64_t held = 0;    // all up to here decided, in the host's memory; 0: no news
    std::uint64_t stored = 0;  // all up to here on disk; 0: no news
    std::vector<SequenceRange> settled;
    std::vector<Refused> refused;
    std::optional<std::uint64_t> resume{};  // a named producer's place: its former lives' messages end here
};

struct Credit {  // "credit" {"messages", "bytes", "reason"}: what may be sent in this session altogether, cumulative
    std::uint64_t messages = 0;
    std::uint64_t bytes = 0;  // of envelopes
    std::string reason;  // why there is no more: "queue_full", "disk_full", "store_failed", "draining"; empty: there is
};

struct Peers {  // "peers" {"consumers"}: that have a session with the queue or any subscription of the topic now
    std::uint32_t consumers = 0;
};

struct DeliverOne {
    std::uint64_t offset = 0;
    std::uint32_t token = 0;
    std::uint32_t attempt = 1;
    std::uint16_t redrives = 0;
    bool maybe_duplicate = false;
    Slice envelope;
};

struct Deliver {  // "deliver" {"m": [[offset, token, attempt, redrives, maybe_duplicate, bin], ...]}
    std::vector<DeliverOne> items;
};

// "feed" {"first", "m": [bin, ...]}: the messages of a link numbered from `first` on. What is between the last one and
// `first` is missed; without messages it says no more than that.
struct Feed {
    std::uint64_t first = 0;
    std::uint32_t count = 0;
    Slice list{};  // the bins, one behind the other: a host has made them once for all links, and owns them
};
[[nodiscard]] std::vector<Slice> envelopes_of(const Feed& feed);

struct Settled {                // "settled" {"count", "stale": [[offset, token], ...], "applied"}
    std::uint64_t count = 0;    // settles of this session that are safe now, cumulative
    std::vector<Held> stale;    // settles among them that came too late ("stale_delivery")
    std::uint64_t applied = 0;  // strict order: what has become of so many is decided, but not yet safe; 0: no news
};

struct Recall {  // "recall" {"count"}: give back up to so many unbegun deliveries, latest first
    std::uint32_t count = 0;
};

struct State {  // "state" {"ready"}: whether this host has messages for this consumer
    bool ready = false;
};

struct Lost {  // "lost" {"m": [[offset, token], ...]}: leases that are over
    std::vector<Held> items;
};

struct AdminResult {  // "result" {"id", "rows": [map, ...], "next", "error"}
    std::uint64_t id = 0;
    std::vector<std::string> rows;  // each one encoded msgpack map
    std::uint64_t next = 0;         // cursor; 0: that was all
    std::string error;
};

using Command =
    std::variant<Hello, Publish, Cancel, Window, Taken, Settle, Extend, Recalled, AdminRequest, Bye, Welcome, Identify,
                 Refusal, Confirm, Credit, Peers, Deliver, Feed, Settled, Recall, State, Lost, AdminResult>;

struct Unknown {
    std::string name;
};

// One decoded frame. Reserved names ("moved") decode as unknown.
struct Frame {
    std::uint64_t epoch = 0;
    std::uint64_t number = 0;
    bool more = false;
    std::optional<Slice> fragment;  // set for fragments, the last one included
    std::vector<Command> commands;
    std::vector<Unknown> unknown;
};

// Never throws; empty: malformed. Envelopes and fragments are parts of `bytes`, not copies.
[[nodiscard]] std::optional<Frame> decode_frame(const Slice& bytes);
// The name/body pairs of a joined fragmented frame.
[[nodiscard]] bool decode_commands(const Slice& pairs, Frame& into);

// Builds the frames of one direction of one session: commands gather, flush() cuts frames of at most `limit` bytes (64
// or more).
// What does not fit one frame goes in fragments, in order with the rest.
class FrameWriter {
public:
    explicit FrameWriter(std::size_t limit) : limit_(limit) {}

    void start_session(std::uint64_t epoch);  // numbers from 1; what had gathered is dropped
    void add(const Command& command);         // any but publish and deliver may be of any size
    [[nodiscard]] std::uint64_t epoch() const noexcept { return epoch_; }
    [[nodiscard]] bool empty() const noexcept { return ready_.empty() && pairs_.empty() && !heartbeat_; }
    void heartbeat();  // an empty frame, unless something else has gathered
    std::vector<std::string> flush();

private:
    void seal(std::string_view pairs, std::uint32_t count);  // what has gathered becomes a frame
    void cut(std::string_view pairs);                        // one large command becomes fragments

    std::size_t limit_;
    std::uint64_t epoch_ = 0;
    std::uint64_t number_ = 0;
    std::string pairs_;        // encoded name/body pairs of the frame that gathers
    std::uint32_t count_ = 0;  // pairs in it
    bool heartbeat_ = false;
    std::vector<std::string> ready_;
};

// The receiving direction of one session: checks epoch and number, joins fragments. Before start_session() it takes
// what comes outside of one (epoch 0).
class FrameReader {
public:
    enum class Verdict {
        commands,     // `frame.commands` are to be handled
        nothing,      // a heartbeat, a repeat, or a fragment; still a sign of life
        other_epoch,  // not of this session: drop and count
        gap,          // a frame is missing: end the session and resume
        malformed,
    };
    explicit FrameReader(std::size_t joined_limit) : limit_(joined_limit) {}

    void start_session(std::uint64_t epoch, std::uint64_t next_number);
    Verdict accept(Frame& frame);
    [[nodiscard]] std::uint64_t epoch() const noexcept { return epoch_; }

private:
    std::size_t limit_;
    std::uint64_t epoch_ = 0;
    std::uint64_t next_ = 1;
    std::string joined_;
};

}  // namespace posthorn::protocol
