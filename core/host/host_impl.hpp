// Inside the host. host.cpp drives queues and store, sessions.cpp speaks with peers, admin.cpp answers operators.
#pragma once

#include <deque>
#include <set>
#include <unordered_map>

#include "feed/feed.hpp"
#include "host/host.hpp"
#include "protocol/commands.hpp"
#include "queue/queue.hpp"

namespace posthorn::host {

// "orders" of "orders" and of "orders/billing".
[[nodiscard]] inline std::string topic_part(std::string_view address) {
    return std::string{address.substr(0, address.find('/'))};
}

struct Box;

// The subscription that keeps what a retained topic retains. Nobody consumes it.
[[nodiscard]] bool is_log(std::string_view address);

// One peer's session. Ends when the peer says bye, is silent for too long, breaks the protocol, or comes back.
struct Session {
    Session(PeerId of, protocol::Role as, std::uint64_t joined_limit)
        : peer(of), role(as), out(defaults::frame_limit), in(joined_limit) {}

    PeerId peer;
    protocol::Role role;
    std::string principal;  // empty until there are keys
    protocol::FrameWriter out;
    protocol::FrameReader in;
    Identity incarnation;
    std::string name;  // as it calls itself
    Mono heard{};
    Mono sent{};
    Mono busy_since = never;
    bool listed = false;  // has something for take_frames()
    Box* box = nullptr;

    // of a producer
    queue::Producer* producer = nullptr;
    std::uint64_t told_held = 0;
    std::uint64_t told_stored = 0;
    protocol::Credit credit;              // as granted
    std::uint64_t received_messages = 0;  // of that
    std::uint64_t received_bytes = 0;
    std::vector<protocol::Refused> refused;
    bool resume_due = false;  // a named one is to be told its place
    bool watches = false;     // is told how many consumers there are
    std::optional<std::uint32_t> told_consumers;
    std::string replies;         // the part NAME of where the answers to its requests go
    bool needs_replier = false;  // its requests are refused while there is none

    // of a consumer
    queue::ConsumerId consumer = 0;
    std::uint64_t settles = 0;           // received
    std::uint64_t gathered_settles = 0;  // as the job under way makes safe
    std::uint64_t safe_settles = 0;
    std::uint64_t told_settles = 0;
    bool exclusive = false;  // is the only one of its subscription
    bool keeps_order = false;
    std::uint64_t barrier = 0;        // keeps order: the last of its settles that gave something back
    std::uint64_t told_applied = 0;   // as far as it knows what has become of its settles, safe or not
    store::Offset settled_below = 0;  // all its settles are of messages below
    std::vector<protocol::Held> stale;
    std::optional<bool> told_ready;
    protocol::Deliver deliveries;  // gathering
    std::size_t delivery_bytes = 0;

    // of a consumer of a live topic
    bool answered = false;  // the welcome: nothing is fed before
    feed::LinkId link = 0;
    protocol::Taken granted;  // by it
    std::uint64_t fed_messages = 0;
    std::uint64_t fed_bytes = 0;
    std::uint64_t asked_arrival = 0;  // of everything in front of this number
    Mono gap_at{};                    // when it may be told of a gap that it has no room to see otherwise
};

// A queue, a topic or a subscription, and who is connected to it.
struct Box {
    Box(const std::string& name, const QueuePolicy& policy, bool durable, std::uint64_t seed, const EventHook& on_event,
        const queue::Limits& limits)
        : queue(name, policy, durable, seed, on_event, limits) {}

    queue::Queue queue;
    std::unordered_map<queue::ConsumerId, Session*> consumers;
    std::unordered_map<Identity, Session*> producers;  // walked in an order that does not hang on addresses
    std::uint64_t granted_messages = 0;                // to all producers, not yet received
    std::uint64_t granted_bytes = 0;
    std::uint64_t uncommitted_bytes = 0;  // as counted in Impl::uncommitted_bytes
    bool in_job = false;                  // part of it is being stored
    bool touched = false;
    bool sync = false;     // somebody waits for what is not stored yet
    bool unsaved = false;  // listed in Impl::unsaved
    // Of one that stores before it delivers: what is leased and is still to be stored, and what is being stored.
    std::vector<queue::Delivered> undelivered;
    std::vector<queue::Delivered> delivering;

    std::unique_ptr<feed::Feed> feed;  // of a live topic
    std::map<feed::LinkId, Session*> subscribers;
    Mono gap_at = never;  // the first of theirs that is due

    // of a topic
    std::vector<Box*> subscriptions;  // its log among them
    Box* log = nullptr;               // where it is retained
    // of a subscription
    Box* topic = nullptr;
    std::vector<Binding> bindings;
    bool temporary = false;    // goes with its last consumer
    Mono alone_until = never;  // which is gone, and may come back until then
    Mono answers_until{};      // of a reply queue: the latest deadline of the requests that are answered here
    bool removing = false;
    // It is given what its topic retains, slice by slice: what is still to come. Then it joins the others.
    std::optional<store::Replay> replay{};
    // of both
    bool recorded = false;         // what it is has been stored
    bool record_in_job = false;    // or is being stored
    bool gone_from_store = false;  // or is being removed from there
};

// An operator's question that waits for the store.
struct Question {
    PeerId peer = 0;
    std::uint64_t epoch = 0;
    protocol::AdminRequest request;
    protocol::AdminResult result;
    std::string topic;
};

// What the next job may hold. A job that finds the disk full is taken back and makes it less, until look_again_at.
enum class Room {
    plenty,
    settlements,  // new messages wait; settlements go on, so that a full node drains
    none,         // the disk refused even those
};

struct Host::Impl {
    Impl(Options given, store::Store& on, Now now);

    // host.cpp
    void turn(Now now);
    void turn_box(Box& box, Now now);
    void grant(Session& session, Box& box);
    void tell_producer(Session& session);
    void tell_peers(Box& box);
    void tell_settled(Box& box);
    // Whether it is on a disk: a live topic never is.
    [[nodiscard]] bool is_durable(const Box* box) const { return store.durable() && (box == nullptr || !box->feed); }
    [[nodiscard]] Mono deadline_of(const Box& box) const;
    void tell_consumer(Session& session, Box& box);
    void flush_deliveries(Session& session);
    void check_sessions(Now now);
    void touch(Box& box);
    void touch_all();
    [[nodiscard]] bool has_changes(const Box& box) const;   // that the next job may hold
    [[nodiscard]] bool is_to_replay(const Box& box) const;  // with the next job
    [[nodiscard]] bool job_is_due(Now now) const;
    std::shared_ptr<const store::Job> take_job(Now now);
    void complete(store::Outcome outcome, Now now);
    void take_back(Now now);
    void store_failed(const std::string& text);
    void set_disk_full(bool full, const std::string& text);
    [[nodiscard]] Mono next_deadline() const;
    [[nodiscard]] bool has_ends() const;  // of sessions
    [[nodiscard]] std::string blocked_reason() const;
    [[nodiscard]] Box* find_box(const std::string& name);
    [[nodiscard]] QueuePolicy policy_of(const std::string& name) const;
    Box& make_box(const std::string& name);
    Box& open_box(const std::string& name);  // found or new
    void check_queues(const store::Recovery& recovery) const;
    void emit(Event::Kind kind, std::string subject, std::string text, std::uint64_t count = 1) const;

    // topics.cpp
    Box& open_topic(const std::string& name, Now now);
    // `from`: where it begins if it is new; its topic is retained then.
    Box& open_subscription(const std::string& address, bool temporary, std::vector<Binding> bindings,
                           const std::optional<From>& from, Now now);
    void open_log(Box& topic, Now now);
    store::Replay next_slice(Box& box);
    void end_replay();
    void give_up_replay(Now now);
    void replayed(const store::Replayed& part, Now now);
    static void join(Box& topic, Box& box);
    void describe(Box& box, Now now);
    void rebind(Box& box, std::vector<Binding> bindings, Now now);
    void restore_topics(const store::Recovery& recovery, Now now);
    void drop_log(Box& box, Now now);
    void declare_topics(Now now);
    [[nodiscard]] std::optional<protocol::Refusal> refusal_of_address(const protocol::Hello& hello) const;
    bool is_prepared(PeerId peer, const protocol::Hello& hello, bool bound, Now now);
    void look_at_postponed(Now now);
    void left_alone(Box& box, bool in_order, Now now);
    void remove_subscription(Box& box, Now now);
    void forget_removed();

    // requests.cpp
    [[nodiscard]] static bool has_answers(const Box& box);  // is a reply queue
    [[nodiscard]] Box* reply_queue(const Box& service, const std::string& name);
    [[nodiscard]] std::optional<protocol::Refusal> refusal_of_requests(const protocol::Hello& hello,
                                                                       const Address& address) const;
    void open_service(const std::string& name, Now now);
    Box& open_reply_queue(const protocol::Hello& hello, Now now);
    [[nodiscard]] Mono kept_until(const Box& box, Now now) const;
    void expect_answer(Box& replies, Duration ttl, Now now) const;
    [[nodiscard]] bool is_answer(const Session& session, const protocol::SettleOne& one, queue::Settle& settle) const;
    void give_answers(Box& service, Now now);
    void hand_out(Box& box, queue::Delivered delivered);
    static void take_along(Box& box);
    // live.cpp
    Box& open_live(const std::string& name);
    void restore_live();
    [[nodiscard]] std::optional<protocol::Refusal> refusal_of_live(const protocol::Hello& hello,
                                                                   const Box* known) const;
    void welcome_subscriber(Session& session, const protocol::Hello& hello, protocol::Welcome& welcome);
    void on_taken(Session& session, const protocol::Taken& taken);
    void turn_live(Box& box, Now now);
    void feed_link(Session& session, Box& box);
    void end_feed(Session& session, Box& box);

    // sessions.cpp
    void receive(PeerId peer, const Slice& frame, Now now);
    void outside_session(PeerId peer, protocol::Frame& frame, Now now);
    void on_hello(PeerId peer, const protocol::Hello& hello, Now now, bool bound = false);
    [[nodiscard]] std::optional<protocol::Refusal> refusal_of(const protocol::Hello& hello) const;
    void welcome_producer(Session& session, const protocol::Hello& hello, protocol::Welcome& welcome, Now now);
    void welcome_consumer(Session& session, const protocol::Hello& hello, protocol::Welcome& welcome, Now now);
    [[nodiscard]] std::optional<protocol::Refusal> refusal_of_one_over(const protocol::Hello& hello) const;
    void end_for_good(const Identity& incarnation, const protocol::Refusal& why, Now now);
    void fence(const Identity& earlier, const std::string& text, Now now);
    void fence_consumers(Box& box, const std::string& name, const Identity& incarnation, Now now);
    bool on_command(Session& session, const protocol::Command& command, Now now);
    bool on_publish(Session& session, const protocol::Publish& publish, Now now);
    bool on_settle(Session& session, const protocol::Settle& settle, Now now);
    void settle_one(Session& session, const queue::Settle& settle, Now now);
    void send(Session& session, const protocol::Command& command);
    void send_outside(PeerId peer, const protocol::Command& command);
    void refuse(PeerId peer, const std::string& code, const std::string& text, Now now);
    void end_session(PeerId peer, Now now);
    [[nodiscard]] Duration heartbeat(const Session& session) const;
    [[nodiscard]] Duration busy_interval(const Session& session) const;
    [[nodiscard]] bool heard_lately(const Session& session, Now now) const;
    void drop(const std::string& cause, PeerId peer);
    [[nodiscard]] bool busy(const Session& session) const;
    Session* session(PeerId peer);

    // admin.cpp
    void on_admin(Session& session, const protocol::AdminRequest& request, Now now);
    void list_queues(Session& session, const protocol::AdminRequest& request, Now now);
    void back_up(Question question);
    void unsubscribe(Question question, Now now);
    void abandon_backup(PeerId peer);
    void answer(const store::BackupResult& backup_result);
    void answer(store::ReadDeadResult& read, Now now);
    [[nodiscard]] std::string fault_of_edit(const protocol::AdminRequest& request) const;
    std::string edit(Box& box, const store::StoredDeadLetter& letter, const envelope::Change& change, Now now);
    bool change(Box& box, const store::StoredDeadLetter& letter, Question& question, Now now);
    [[nodiscard]] bool may_be_stored(const Question& question) const;
    void gather_questions();
    void answer_stored();
    void reply(const Question& question);

    Options options;
    store::Store& store;
    std::uint64_t last_epoch;

    std::map<std::string, std::unique_ptr<Box>> boxes;
    std::unordered_map<PeerId, std::unique_ptr<Session>> sessions;
    std::unordered_map<Identity, PeerId> by_incarnation;  // of producers and consumers
    std::set<PeerId> asked;                               // unknown peers that were asked for their hello
    std::unordered_map<PeerId, protocol::FrameReader> large_hellos;
    struct Postponed {
        protocol::Hello hello;
        bool bound = false;
    };
    std::map<PeerId, Postponed> postponed;                    // until what they ask for is stored
    std::deque<std::pair<Identity, protocol::Refusal>> over;  // incarnations that are, and why
    std::vector<Session*> listed;                             // have frames to send
    std::vector<OutFrame> outside;                            // frames to peers without a session

    std::vector<Box*> touched;
    std::vector<Box*> unsaved;       // have something for the store, or want to read
    Box* replaying = nullptr;        // is given what its topic retains; one at a time
    store::Offset replayed_end = 0;  // what had been published at its last slice
    Mono last_turn{};
    Mono boxes_at = never;     // the earliest deadline of a queue
    Mono sessions_at = never;  // when sessions are looked at next

    std::shared_ptr<const store::Job> job;  // under way, or the opening one that is to be run
    bool job_running = false;
    Room disk_room = Room::plenty;
    Mono look_again_at = never;  // at a full disk
    std::vector<Box*> job_boxes;
    std::uint64_t uncommitted_bytes = 0;  // in all queues, as of this turn
    std::uint64_t granted_bytes = 0;      // to all producers, not yet received
    bool out_of_credit = false;           // somebody was given none, because of what others have
    std::uint64_t producers = 0;          // sessions of them
    bool opened = true;                   // false until the first commit of a life on an old store
    bool failed = false;
    std::string failure;
    bool disk_full = false;
    bool asks_arrival = false;  // of subscribers
    bool draining = false;
    Mono farewell_until = never;  // draining: how long sessions are kept for their ends to read the bye
    std::chrono::milliseconds retry_after{};

    std::map<std::uint64_t, Question> questions;  // by ticket
    std::vector<store::ReadDead> dead_reads;      // for the next job
    std::optional<store::BackupStep> backup;      // for the next job
    std::optional<PeerId> backup_of;              // who asked for the backup under way
    std::vector<Question> unstored;               // answered once a job with what they asked for has been stored
    std::vector<Question> storing;
    std::uint64_t last_ticket = 0;

    std::map<std::string, std::uint64_t> dropped;  // by cause
    std::uint64_t answers_lost = 0;
};

}  // namespace posthorn::host
