// A consumer's end of the protocol, for all the hosts one worker works for: what it holds, which of it is begun, one
// budget of deliveries shared by the hosts that have work, settles kept until they are safe. No socket, thread or
// clock; not thread-safe.
//
// The driver calls receive() and send_failed() as things happen and begin() and settle() for its handlers, then turn(),
// then sends what take_frames() gives and passes on take_events() and take_lost(); it calls turn() again by
// next_deadline().
#pragma once

#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <posthorn/event.hpp>
#include <posthorn/policy.hpp>
#include <posthorn/time.hpp>

#include "envelope/bytes.hpp"
#include "envelope/identity.hpp"
#include "protocol/commands.hpp"
#include "protocol/host_link.hpp"

namespace posthorn::protocol {

class ConsumerSession {
public:
    struct Options {
        Identity incarnation{};  // random, new for every life of this consumer
        std::string queue{};
        std::string name{};    // for people
        std::string client{};  // for logs
        std::uint32_t concurrency = 1;
        std::uint32_t prefetch = 0;  // 0: adapts
        // Keeps strict order: begins one delivery at a time, whatever `concurrency` is, and behind one that it gives
        // back nothing of that host until the host has said that it has done so, and before that what it took back.
        bool strict = false;
        // Of a subscription: see Hello.
        std::optional<std::vector<Binding>> bindings{};
        bool temporary = false;
        bool exclusive = false;
        // Answers requests: what it holds counts as begun by those who wait for the answers, so it holds no more than
        // its handlers are at, or will have begun within some 10 ms.
        bool replier = false;
        std::optional<From> from{};
        Timing timing{};
        std::size_t frame_limit = defaults::frame_limit;
        std::size_t message_limit = defaults::message_limit;
    };

    // Names one delivery for as long as the consumer lives.
    struct Handle {
        std::uint32_t slot = 0;
        std::uint32_t life = 0;  // slots are used again
        friend bool operator==(const Handle&, const Handle&) = default;
    };

    struct Begun {
        Handle handle;
        std::uint64_t offset = 0;
        std::uint32_t token = 0;
        std::uint32_t attempt = 1;
        std::uint16_t redrives = 0;
        bool maybe_duplicate = false;
        Slice envelope;
        PeerId peer = 0;
    };

    struct Settlement {
        Verdict verdict = Verdict::ack;
        std::optional<std::uint64_t> delay_ms = std::nullopt;  // nack
        std::string text = {};                                 // nack, reject, undecodable
        Slice reply = {};                                      // ack: the answer to a request
        std::uint64_t sync = 0;  // not 0: to be made safe at once, and then told by take_synced() under this number
    };

    struct Synced {
        std::uint64_t number = 0;
        bool safe = false;  // false: it came too late, or its host is gone
    };

    explicit ConsumerSession(Options options);

    // A link to a host; hello is said at the next turn(). `label` names it in events.
    void add_host(PeerId peer, std::string label);
    // The link will never come back. What is begun for that host can no longer be settled.
    void remove_host(PeerId peer, Now now);

    // A frame from an unknown peer that asks for a hello makes it a host.
    void receive(PeerId peer, const Slice& bytes, Now now);
    void send_failed(PeerId peer, Now now);
    void turn(Now now);

    // The next delivery, which is begun now; empty: none, or its host has not been heard for half a lease.
    std::optional<Begun> begin(Mono now);
    [[nodiscard]] bool can_begin(Mono now) const;
    [[nodiscard]] std::size_t unbegun() const noexcept { return unbegun_; }
    // Once for each begun delivery. False: its lease was over.
    bool settle(Handle handle, Settlement settlement, Mono now);
    // Nobody works on it any more, and settle() follows some time later: until then the window is larger by one.
    void hand_over(Handle handle, Mono now);
    // At least so long from now on, even if the link is lost meanwhile.
    void extend(Handle handle, Duration lease, Mono now);
    [[nodiscard]] bool is_lost(Handle handle) const;
    // Of a delivery that is begun and not settled.
    [[nodiscard]] std::uint64_t offset_of(Handle handle) const { return slots_[handle.slot].offset; }

    // Takes no more, gives back what is not begun.
    void drain(Mono now);
    // All hosts have ended it for good: a later consumer has its name, or the subscription was removed.
    [[nodiscard]] bool over() const;
    // Nothing is held and every settle is safe.
    [[nodiscard]] bool quiet() const;
    // Ends all sessions in order. Nothing is said afterwards.
    void bye(Now now);

    [[nodiscard]] std::vector<OutFrame> take_frames();
    [[nodiscard]] std::vector<Event> take_events();
    // Begun deliveries whose leases are over.
    [[nodiscard]] std::vector<Handle> take_lost();
    [[nodiscard]] std::vector<Synced> take_synced();
    [[nodiscard]] Mono next_deadline() const;

    [[nodiscard]] bool connected() const;  // to at least one host
    [[nodiscard]] bool hosts_empty()
        const;  // there are hosts, each is connected and has said that it has nothing ready
    [[nodiscard]] std::uint32_t window() const noexcept { return budget_; }  // over all hosts
    [[nodiscard]] std::size_t held() const noexcept { return held_; }        // begun or not, unsettled
    [[nodiscard]] std::size_t unconfirmed() const;                           // settles that are not yet safe
    [[nodiscard]] std::vector<std::string> capabilities() const;
    [[nodiscard]] std::uint64_t dropped() const noexcept { return dropped_; }  // frames of other sessions

private:
    static constexpr std::uint32_t no_host = std::numeric_limits<std::uint32_t>::max();

    enum class State : std::uint8_t { free, unbegun, begun, lost };
    struct Slot {
        State state = State::free;
        std::uint32_t life = 0;
        std::uint32_t host = no_host;
        std::uint32_t token = 0;
        std::uint64_t offset = 0;
        Mono extended_to{};      // asked for by the handler
        bool stop_told = false;  // the handler was told that its lease is over
        bool handed_over = false;
        DeliverOne delivery{};  // until it is begun
    };

    // Deliveries of consecutive offsets and equal token that are acked, or one that is settled otherwise.
    struct Settling {
        std::uint64_t offset = 0;
        std::uint32_t token = 0;
        std::uint32_t count = 1;
        Settlement settlement;
    };

    // A settle that somebody waits for.
    struct Awaited {
        std::uint64_t offset = 0;
        std::uint32_t token = 0;
        std::uint64_t number = 0;
    };

    struct Host {
        HostLink link;
        std::uint32_t index = 0;
        std::string label;
        bool incoming = false;  // it came to us: a lost link does not come back, a new one may
        bool gone = false;      // removed; its place may be used again
        bool over = false;      // it has ended us for good: nothing is said to it any more
        bool was_connected = false;
        Identity identity{};  // zero until it told
        Duration lease = defaults::lease;
        Duration grace{};             // the host said that it goes away for so long; leases outlast that
        std::optional<bool> ready{};  // what it said in this session
        std::uint32_t window = 0;     // as it knows it
        std::string last_refusal{};
        std::vector<std::string> capabilities{};

        std::size_t held = 0;  // begun or not
        std::size_t unbegun_bytes = 0;
        std::deque<std::uint32_t> unbegun{};  // slots, in the order of delivery
        bool silent = false;                  // not heard for a whole lease
        Mono extended_to = never;             // while silent: when to look again

        std::vector<Settling> settling{};    // not sent in this session
        std::deque<Settling> unconfirmed{};  // sent, in order
        std::size_t unsafe_settles = 0;      // in both
        std::size_t unsafe_bytes = 0;        // of their replies
        std::uint64_t sent_settles = 0;      // of this session
        std::uint64_t safe_settles = 0;
        std::vector<Awaited> awaited{};
        bool sync = false;  // the settles not sent have some of them
        // Strict: the last one begun was given back; nothing more is begun until what was settled has been applied.
        bool barrier = false;
        std::uint64_t applied_settles = 0;  // of this session
        bool recalled = false;              // an answer to recall is due
        std::vector<ExtendOne> extends{};
        std::vector<Held> resumed{};  // what the hello of this session listed and is not lost, in order
    };

    [[nodiscard]] Host* find(PeerId peer);
    Host& place(PeerId peer);
    void from_stranger(PeerId peer, const Slice& bytes, Now now);
    void handle(Host& host, Frame& frame, Now now);
    void handle(Host& host, Command& command, Now now);
    void on_welcome(Host& host, Welcome& welcome, Now now);
    void on_deliver(Host& host, Deliver& deliver, Now now);
    void on_settled(Host& host, const Settled& settled);
    void on_lost(Host& host, std::vector<Held> items, Mono now);
    void on_refusal(Host& host, const Refusal& refusal, Mono now);
    void give_up(Host& host, Mono now);
    void on_bye(Host& host, const Bye& bye, Now now);
    void session_over(Host& host, const std::string& why);
    void remove(Host& host, Mono now);

    [[nodiscard]] bool may_begin(const Host& host, Mono now) const;
    [[nodiscard]] static bool is_held_up(const Host& host) {
        return host.barrier && (!host.settling.empty() || host.applied_settles < host.sent_settles);
    }
    [[nodiscard]] bool waits_for_the_last() const noexcept { return options_.strict && begun_ > 0; }
    [[nodiscard]] Slot* slot_of(Handle handle);
    std::uint32_t take_slot(Host& host, DeliverOne delivery, Mono now);
    void let_go(std::uint32_t index, Mono now);  // unsettled no longer
    void free_slot(std::uint32_t index);
    void lose_begun(std::uint32_t index, Mono now);
    void release_unbegun(Host& host, std::size_t count, Mono now);
    void release_excess(Mono now);
    void give_up_begun(Mono now);
    void drop_unbegun(Host& host, Mono now);
    void check_lease(Host& host, Mono now);

    void queue_settle(Host& host, std::uint64_t offset, std::uint32_t token, Settlement settlement);
    void tell_synced(Host& host, std::uint64_t offset, std::uint32_t token, std::uint32_t count, bool safe);
    void repeat_settles(Host& host, std::vector<Held> lost);
    void tell_stale(const std::string& where, std::uint64_t count);
    void send_settles(Host& host);
    void say_hello(Host& host, Now now);

    [[nodiscard]] std::uint32_t least_budget() const noexcept {
        return options_.concurrency + (options_.replier ? 0 : 1);
    }
    [[nodiscard]] std::uint32_t budget() const;
    [[nodiscard]] bool working() const noexcept { return held_ > handed_over_; }
    void measure(Mono now);
    void share_budget(Mono now);
    void drop();
    void event(Event::Kind kind, std::string text, std::uint64_t count = 0, std::string code = {});

    Options options_;
    std::deque<Host> hosts_;     // places never move
    std::size_t next_host_ = 0;  // begin() takes turns
    std::uint32_t attempts_ = 0;
    std::vector<Slot> slots_;
    std::vector<std::uint32_t> free_slots_;
    Mono next_turn_ = never;  // more hosts are ready than the budget has deliveries: when the next ones are served
    std::size_t held_ = 0;
    std::size_t handed_over_ = 0;  // of those
    std::size_t unbegun_ = 0;
    std::size_t begun_ = 0;  // and not settled, lost or not
    bool draining_ = false;
    bool ended_ = false;

    // The adaptive budget: how many handlers finished while there was work.
    std::uint32_t budget_ = 0;
    std::uint64_t finished_ = 0;
    Duration worked_{};
    Mono working_since_{};

    std::uint64_t dropped_ = 0;
    std::vector<OutFrame> out_;
    std::vector<Event> events_;
    std::vector<Handle> lost_;
    std::vector<Synced> synced_;
};

}  // namespace posthorn::protocol
