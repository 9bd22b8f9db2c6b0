// A subscriber's end of a live topic, for all the hosts it listens to: a link with each, what has come and waits to be
// taken, and an exact account of what has not come. No socket, thread or clock; not thread-safe.
//
// The driver calls receive() and send_failed() as things happen and next() for its application, then turn(), then sends
// what take_frames() gives and passes on take_events(); it calls turn() again by next_deadline().
//
// received + missed = matched holds at any time, of what has been taken so far: a gap counts when everything in front
// of it has been taken.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include <posthorn/event.hpp>
#include <posthorn/policy.hpp>
#include <posthorn/time.hpp>
#include <posthorn/topic.hpp>

#include "envelope/bytes.hpp"
#include "envelope/identity.hpp"
#include "protocol/commands.hpp"
#include "protocol/host_link.hpp"

namespace posthorn::protocol {

class FeedSession {
public:
    struct Options {
        Identity incarnation{};  // random, new for every life of this subscriber
        std::string topic{};
        std::string name{};               // for people
        std::string client{};             // for logs
        std::vector<Binding> bindings{};  // none: everything
        // Of each host, that may wait to be taken; bytes of what the feed commands list, but one message of any size.
        std::uint32_t messages = defaults::subscriber_messages;
        std::uint64_t bytes = defaults::subscriber_bytes;
        Timing timing{};
        std::size_t frame_limit = defaults::frame_limit;
        std::size_t message_limit = defaults::message_limit;
    };

    // Over all links.
    struct Counts {
        std::uint64_t received = 0;
        std::uint64_t missed = 0;
        std::uint64_t matched = 0;
        std::uint64_t breaks = 0;  // links that were lost for good: what was published until the next one is not known
    };

    explicit FeedSession(Options options) : options_(std::move(options)) {}

    // A link to a host; hello is said at the next turn(). `label` names it in events.
    void add_host(PeerId peer, std::string label);
    // A frame from an unknown peer that asks for a hello makes it a host.
    void receive(PeerId peer, const Slice& bytes, Now now);
    void send_failed(PeerId peer, Now now);
    void turn(Now now);
    // Ends all sessions in order. Nothing is said afterwards; what waits may still be taken.
    void bye(Now now);

    // The next envelope, if one waits; it is taken thereby.
    std::optional<Slice> next();
    [[nodiscard]] std::size_t waiting() const noexcept { return waiting_.size(); }
    // Hosts are to be told that there is room again: worth a turn().
    [[nodiscard]] bool has_news() const;

    [[nodiscard]] std::vector<OutFrame> take_frames() { return std::exchange(out_, {}); }
    [[nodiscard]] std::vector<Event> take_events() { return std::exchange(events_, {}); }
    [[nodiscard]] Mono next_deadline() const;

    [[nodiscard]] const Counts& counts() const noexcept { return counts_; }
    [[nodiscard]] std::size_t connected() const;                               // hosts with a session
    [[nodiscard]] std::uint64_t dropped() const noexcept { return dropped_; }  // frames of other sessions

private:
    struct Host {
        HostLink link;
        std::string label;
        bool incoming = false;  // it came to us: a lost link does not come back, a new one may
        bool gone = false;      // its place may be used again
        Identity identity{};    // zero until it told
        Mono lost_at{};         // its last session
        bool is_final = false;  // it has said its last word: there is nothing that we do not know of
        std::string last_refusal{};

        std::uint64_t id = 0;    // of our link; 0: none yet
        std::uint64_t seen = 0;  // the last number of it that has come, as a message or as a gap
        std::uint64_t taken = 0;
        std::uint64_t gap_behind = 0;  // missed behind all that waits
        std::uint64_t gaps = 0;        // times
        std::uint64_t missed = 0;      // as it was told in events
        std::size_t waiting = 0;       // messages
        std::uint64_t waiting_bytes = 0;
        // Of the session:
        Taken told{};
        bool asked = false;  // whether everything has come
        std::uint64_t got_messages = 0;
        std::uint64_t got_bytes = 0;
    };
    struct Item {
        std::uint32_t host = 0;
        std::uint64_t link = 0;
        std::uint64_t number = 0;
        std::uint64_t gap = 0;  // missed in front of it
        Slice envelope;
    };

    [[nodiscard]] Host* find(PeerId peer);
    Host& place(PeerId peer, std::string label);
    void from_stranger(PeerId peer, const Slice& bytes, Now now);
    void handle(Host& host, Frame& frame, Now now);
    void handle(Host& host, const Command& command, Now now);
    void on_welcome(Host& host, const Welcome& welcome, Mono now);
    void on_feed(Host& host, const Feed& feed, Now now);
    void on_bye(Host& host, const Bye& bye, Now now);
    void on_refusal(Host& host, const Refusal& refusal);
    void session_over(Host& host, const std::string& why, Mono now);
    void say_hello(Host& host, Now now);
    void count_gap(Host& host);
    void count_break(Host& host, const std::string& why);
    [[nodiscard]] bool is_lost_for_good(const Host& host, Mono now) const;
    [[nodiscard]] bool make_way();
    [[nodiscard]] Taken to_tell(const Host& host) const;
    [[nodiscard]] bool is_worth_telling(const Host& host, const Taken& taken) const;
    void drop();
    void event(Event::Kind kind, std::string text, std::uint64_t count = 0, std::string code = {});

    Options options_;
    std::deque<Host> hosts_;  // places never move
    std::deque<Item> waiting_;
    Counts counts_;
    std::uint32_t attempts_ = 0;
    bool ended_ = false;
    std::uint64_t dropped_ = 0;
    std::vector<OutFrame> out_;
    std::vector<Event> events_;
};

}  // namespace posthorn::protocol
