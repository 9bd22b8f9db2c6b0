// A producer's end of the protocol: keeps every message until its host has made it safe, sends as credit allows,
// resumes after losses. No socket, thread or clock; not thread-safe.
//
// The driver calls offer(), receive() and send_failed() as things happen, then turn(), then sends what take_frames()
// gives and passes on take_news(); it calls turn() again by next_deadline(). A message is safe when it is stored (a
// durable host) or settled (a memory host).
//
// Of several links one is used at a time: the first whose host answers, and the next when that session is lost.
//
// A named producer's sequences go on where those of its former lives end. Its host tells it that place once nothing
// that is below can be lost any more.
//
// What it asks of a host: after a welcome a memory host repeats in `confirm` which messages above the hello's
// `confirmed` are settled.
#pragma once

#include <array>
#include <cstdint>
#include <map>
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
#include "protocol/sequence_bits.hpp"

namespace posthorn::protocol {

class ProducerSession {
public:
    struct Options {
        Identity producer{};     // random, new for every life of this producer; or a named one's, in all its lives
        Identity incarnation{};  // of a named one: random, new for every life. Zero: it is not named
        std::string queue{};
        std::string name{};    // for people
        std::string client{};  // for logs
        bool strict = false;   // the queue is to keep strict order
        bool topic = false;    // it is a topic
        bool live = false;     // it is a live topic
        bool watch = false;    // wants to know how many consumers there are
        // Of one that sends requests: see Hello.
        std::string replies{};
        bool keeps_replies = false;
        bool needs_replier = false;
        // Its one host is in memory and lives and dies with it: what that holds is not kept here as well.
        bool host_keeps = false;
        Timing timing{};
        std::size_t frame_limit = defaults::frame_limit;
        std::size_t message_limit = defaults::message_limit;
    };

    // What has become known since the last take_news().
    struct News {
        std::vector<SequenceRange> safe;  // stored or settled
        std::vector<Refused> refused;     // for good; each sequence once
        std::vector<Event> events;
        [[nodiscard]] bool empty() const noexcept { return safe.empty() && refused.empty() && events.empty(); }
    };

    explicit ProducerSession(Options options);

    // `label` names the link in events: the endpoint.
    void add_link(PeerId peer, std::string label);
    // Where this life's sequences begin: the first one is the next. Empty: a named producer that its host has not told
    // yet; it must not offer anything before.
    [[nodiscard]] const std::optional<std::uint64_t>& place() const noexcept { return place_; }
    // The n-th envelope ever offered must carry the n-th sequence behind place() (and no `previous`).
    void offer(Slice envelope);
    // Of a request that was offered: nobody waits for its answer any more. Said once, if there is a session.
    void cancel(std::uint64_t sequence) { cancelled_.push_back(sequence); }

    void receive(PeerId peer, const Slice& bytes, Now now);
    void send_failed(PeerId peer, Now now);
    void turn(Now now);
    // Ends the session in order, if there is one. Nothing is said afterwards.
    void bye(Now now);

    [[nodiscard]] std::vector<OutFrame> take_frames();
    [[nodiscard]] News take_news();
    [[nodiscard]] Mono next_deadline() const;

    [[nodiscard]] bool connected() const noexcept;
    // A later producer has taken the name: this one is over, and says nothing any more.
    [[nodiscard]] bool fenced() const noexcept { return fenced_; }
    [[nodiscard]] bool durable() const noexcept { return durable_; }  // the host, as last heard
    [[nodiscard]] const std::vector<std::string>& capabilities() const noexcept { return capabilities_; }
    [[nodiscard]] const std::string& waits_for() const noexcept { return credit_.reason; }  // why there is no credit
    // How many consumers the host has for us, in a session that watches them; empty: not known.
    [[nodiscard]] std::optional<std::uint32_t> consumers() const noexcept;
    [[nodiscard]] std::uint64_t held() const noexcept { return held_; }  // all up to here decided, in the host's memory
    [[nodiscard]] std::uint64_t unsafe_messages() const noexcept { return open_.count(); }  // offered, not yet safe
    [[nodiscard]] std::uint64_t unsafe_bytes() const noexcept { return unsafe_bytes_; }
    // Of these: what is kept here.
    [[nodiscard]] std::uint64_t kept_messages() const noexcept { return kept_messages_; }
    [[nodiscard]] std::uint64_t kept_bytes() const noexcept { return kept_bytes_; }
    [[nodiscard]] std::uint64_t dropped() const noexcept { return dropped_; }  // frames of other sessions

private:
    // The envelopes of one word of SequenceBits.
    struct Bodies {
        std::array<Slice, SequenceBits::word_bits> envelopes;  // empty: left to the host
        std::array<std::uint32_t, SequenceBits::word_bits> sizes{};
        bool own = false;  // copied out of the memory they shared with neighbours that have gone
    };
    struct Link {
        HostLink host;
        std::string label;
        std::uint64_t stored = 0;  // what this host has called stored
        int hellos = 0;            // without an answer
    };

    [[nodiscard]] Link* current() { return links_.empty() ? nullptr : &links_[current_]; }
    void handle(const Frame& frame, Now now);
    void handle(const Command& command, Now now);
    void welcome(const Welcome& welcome);
    void confirm(const Confirm& confirm);
    void refuse(const std::vector<Refused>& refused);
    void begin_at(std::uint64_t place);
    void fence(const Refusal& refusal);
    void session_refused(const Refusal& refusal);
    void said_bye(const Bye& bye, Now now);
    void make_safe(std::uint64_t first, std::uint64_t last);
    void close(std::uint64_t first, std::uint64_t last);
    void let_go(Slice& envelope);
    void leave_to_host();
    void thin(std::uint64_t word, std::uint64_t open_bits);
    void lost(const std::string& why);
    void next_link();
    void say_hello(Link& link, Now now);
    void say_cancelled(HostLink& host);
    void publish(HostLink& host, Now now);
    [[nodiscard]] bool may_send() const;
    [[nodiscard]] std::uint64_t confirmed() const;  // all up to here is safe or refused
    void drop();
    void event(Event::Kind kind, std::string text, std::uint64_t count = 0, std::string code = {});

    Options options_;
    std::vector<Link> links_;
    std::size_t current_ = 0;
    std::uint32_t attempts_ = 0;
    bool fenced_ = false;
    std::optional<std::uint64_t> place_;

    SequenceBits open_;                       // neither safe nor refused
    std::map<std::uint64_t, Bodies> bodies_;  // by word
    std::uint64_t unsafe_bytes_ = 0;
    std::uint64_t left_ = 0;  // all up to here are left to the host
    std::uint64_t kept_messages_ = 0;
    std::uint64_t kept_bytes_ = 0;

    // Of the session, or the last one.
    bool durable_ = false;
    std::vector<std::string> capabilities_;
    std::uint64_t message_limit_ = 0;
    std::uint64_t held_ = 0;
    std::uint64_t stored_ = 0;
    std::uint64_t sent_ = 0;       // all up to here have been sent to this host, or need not be
    std::uint64_t published_ = 0;  // the last one the host has or was sent: what the next one follows
    Credit credit_;
    std::vector<std::uint64_t> cancelled_;       // not said yet
    std::vector<std::uint64_t> said_cancelled_;  // of requests that the host may not have
    std::uint64_t sent_messages_ = 0;
    std::uint64_t sent_bytes_ = 0;
    std::optional<std::uint32_t> consumers_;
    bool more_to_send_ = false;  // this turn's share is used up, the credit is not

    bool was_connected_ = false;
    std::string last_refusal_;
    std::uint64_t dropped_ = 0;
    std::vector<OutFrame> out_;
    News news_;
};

}  // namespace posthorn::protocol
