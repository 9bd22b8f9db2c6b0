// What the sessions of producers and consumers have in common, for one host: the hello that is repeated until it is
// welcomed, epoch and numbers of the frames, signs of life in both directions. No socket, thread or clock.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <posthorn/policy.hpp>
#include <posthorn/time.hpp>

#include "envelope/bytes.hpp"
#include "protocol/commands.hpp"

namespace posthorn::protocol {

using PeerId = std::uint64_t;  // one link, as the transport names it

struct OutFrame {
    PeerId peer = 0;
    std::string bytes;
};

// Of a frame from a host, beside what a message may hold.
inline constexpr std::size_t command_room = 64 * 1024;
// How long a host may ask to be left alone when it says bye.
inline constexpr std::chrono::milliseconds bye_wait_min{10};
inline constexpr std::chrono::milliseconds bye_wait_max{60'000};

struct Timing {
    Duration heartbeat_busy = defaults::heartbeat_busy;
    Duration heartbeat_idle = defaults::heartbeat_idle;
    int missed = defaults::heartbeats_missed;  // a host silent for so many of the interval that applies is given up
};

class HostLink {
public:
    enum class Input {
        nothing,   // a sign of life, or a part of what is still to come
        stale,     // not of this session; ignored
        welcome,   // a session has begun; the welcome is the first of `frame.commands`, others may follow
        commands,  // of the session
        identify,  // the host does not know us; the session, if there was one, is over
        refused,   // the hello or the session was refused, with the Refusal that is the last of `frame.commands`
        broken,    // a frame was lost or cannot be read: the session is over
    };

    // `joined_limit`: bytes of the largest command a host may send us, fragments joined.
    HostLink(PeerId peer, Timing timing, std::size_t frame_limit, std::size_t joined_limit);

    [[nodiscard]] PeerId peer() const noexcept { return peer_; }
    [[nodiscard]] bool open() const noexcept { return open_; }
    [[nodiscard]] bool is_session(std::uint64_t epoch) const noexcept { return open_ && reader_.epoch() == epoch; }
    [[nodiscard]] Mono heard() const noexcept { return heard_; }

    // Another link to the same host; hello is due on it at once.
    void move_to(PeerId peer, Mono now);

    [[nodiscard]] bool hello_due(Mono now) const noexcept { return !open_ && now >= hello_at_; }
    // `hello.attempt` is filled in: only the answer to the latest hello counts.
    void say_hello(Hello hello, std::uint32_t attempt, Mono now);

    Input receive(const Slice& bytes, Now now, Frame& frame);
    // The same, handed on as what it is: ignored(), commands(frame) of a session, which may have begun with them,
    // refused(refusal, was_open), over(why).
    template <typename Ignored, typename Commands, typename Refused, typename Over>
    void hear(const Slice& bytes, Now now, Ignored ignored, Commands commands, Refused refused, Over over) {
        Frame frame;
        const bool was_open = open_;
        switch (receive(bytes, now, frame)) {
            case Input::nothing:
                break;
            case Input::stale:
                ignored();
                break;
            case Input::welcome:
            case Input::commands:
                commands(frame);
                break;
            case Input::identify:
                if (was_open) over("the host does not know this session any more");
                break;
            case Input::refused:
                refused(std::get<Refusal>(frame.commands.back()), was_open);
                break;
            case Input::broken:
                over("a frame was lost or cannot be read");
                break;
        }
    }
    void add(const Command& command) { writer_.add(command); }
    // A frame could not be sent. True: that ended a session.
    bool send_failed(Mono now);
    // The session is over; hello is due at `hello_at`.
    void end(Mono hello_at);

    // Something is unconfirmed or leased: signs of life come more often, both ways.
    void set_busy(bool busy, Mono now) noexcept;
    // True: the host has been silent for too long, and the session is over.
    [[nodiscard]] bool keep_alive(Mono now);
    void set_busy_interval(Duration interval) noexcept { busy_interval_ = interval; }

    // Everything gathered since the last call.
    void flush(std::vector<OutFrame>& out, Mono now);
    [[nodiscard]] Mono next_deadline() const noexcept;

private:
    [[nodiscard]] Duration own_interval() const noexcept { return busy_ ? busy_interval_ : timing_.heartbeat_idle; }
    [[nodiscard]] Mono give_up_at() const noexcept;
    Input outside(const Frame& frame, Mono now);
    Input begin(const Frame& frame, Mono now);

    PeerId peer_;
    Timing timing_;
    std::size_t frame_limit_;
    FrameWriter writer_;
    FrameReader reader_;
    std::vector<std::string> hello_;  // waits for flush()

    bool open_ = false;
    bool awaiting_ = false;      // a hello was said and nothing has come of it yet
    std::uint32_t attempt_ = 0;  // of the latest hello; 0: none was said
    Mono hello_at_{};            // when the next one is due
    Duration hello_wait_;        // and how long the one after that waits; grows while nobody answers
    Duration failed_wait_;       // the same while hellos cannot even be sent

    bool busy_ = false;
    Mono busy_since_{};
    Duration busy_interval_;  // ours
    Duration host_interval_;  // the host's, when busy
    Mono heard_{};
    Mono sent_{};
};

// Before another way to a host that has a session is tried, should the first be lost.
inline constexpr Duration other_way_wait = 5s;

// One of `hosts` that is the same as `host`, by another endpoint, and has a session. A host has one session with an
// end: a hello on the other link takes it over. So of two ways one is used.
template <typename Host, typename Hosts>
[[nodiscard]] Host* other_way_to(const Host& host, Hosts& hosts) {
    if (host.identity.is_zero()) return nullptr;
    for (Host& one : hosts) {
        if (&one != &host && !one.gone && one.link.open() && one.identity == host.identity) return &one;
    }
    return nullptr;
}

}  // namespace posthorn::protocol
