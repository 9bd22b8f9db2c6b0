#include "protocol/feed_session.hpp"

#include <algorithm>
#include <utility>
#include <variant>

#include "envelope/wire.hpp"

namespace posthorn::protocol {

namespace {

constexpr std::size_t incoming_max = 1000;       // that come to us by themselves
constexpr std::uint64_t part_worth_telling = 4;  // of the room

std::uint64_t less(std::uint64_t a, std::uint64_t b) {
    return a > b ? a - b : 0;
}

std::uint64_t cost_of(const Slice& envelope) {  // as the host reckons
    return envelope.size() + wire::binary_overhead(envelope.size());
}

}  // namespace

// Hosts ------------------------------------------------------------------------------------------------------------

FeedSession::Host* FeedSession::find(PeerId peer) {
    const auto it = std::find_if(hosts_.begin(), hosts_.end(),
                                 [&](const Host& host) { return !host.gone && host.link.peer() == peer; });
    return it == hosts_.end() ? nullptr : &*it;
}

FeedSession::Host& FeedSession::place(PeerId peer, std::string label) {
    Host fresh{.link = {peer, options_.timing, options_.frame_limit, options_.message_limit + command_room},
               .label = std::move(label)};
    const auto it = std::find_if(hosts_.begin(), hosts_.end(), [](const Host& host) { return host.gone; });
    if (it == hosts_.end()) return hosts_.emplace_back(std::move(fresh));
    return *it = std::move(fresh);
}

void FeedSession::add_host(PeerId peer, std::string label) {
    place(peer, std::move(label));
}

void FeedSession::from_stranger(PeerId peer, const Slice& bytes, Now now) {
    const auto frame = ended_ ? std::nullopt : decode_frame(bytes);
    if (!frame) {
        drop();
        return;
    }
    const Identify* identify = nullptr;
    if (frame->epoch == 0 && !frame->commands.empty()) identify = std::get_if<Identify>(&frame->commands.front());
    const auto known = std::find_if(hosts_.begin(), hosts_.end(), [&](const Host& host) {
        if (host.gone || !host.incoming) return false;
        if (identify == nullptr) return host.link.is_session(frame->epoch);
        return !host.identity.is_zero() && host.identity == identify->host;
    });
    if (known != hosts_.end()) {  // the link was made anew below us
        if (known->link.open()) session_over(*known, "it came back on another link", now.mono);
        known->link.move_to(peer, now.mono);
        return;
    }
    if (identify == nullptr) {
        drop();
        return;
    }
    const auto present = std::count_if(hosts_.begin(), hosts_.end(), [](const Host& host) { return !host.gone; });
    if (static_cast<std::size_t>(present) >= incoming_max && !make_way()) {
        if (worth_a_word(++dropped_))
            event(Event::Kind::dropped, "publishers beyond the " + std::to_string(incoming_max) + " that may be here",
                  dropped_);
        return;
    }
    const bool named = !identify->host.is_zero();
    Host& host = place(peer, "host " + (named ? identify->host.hex().substr(0, 8) : std::string{"unnamed"}));
    host.incoming = true;
    host.identity = identify->host;
    host.lost_at = now.mono;
}

// Of those that are gone and whose messages have all been taken the first one lost is forgotten.
bool FeedSession::make_way() {
    Host* first = nullptr;
    for (Host& host : hosts_) {
        const bool may_go = !host.gone && host.incoming && !host.link.open() && host.waiting == 0;
        if (may_go && (first == nullptr || host.lost_at < first->lost_at)) first = &host;
    }
    if (first == nullptr) return false;
    if (first->id != 0 && !first->is_final) count_break(*first, "it has been away, and there are too many others");
    first->gone = true;
    return true;
}

void FeedSession::receive(PeerId peer, const Slice& bytes, Now now) {
    Host* host = find(peer);
    if (host == nullptr) {
        from_stranger(peer, bytes, now);
        return;
    }
    host->link.hear(
        bytes, now, [&] { drop(); }, [&](Frame& frame) { handle(*host, frame, now); },
        [&](const Refusal& refusal, bool was_open) {
            if (was_open) session_over(*host, "the host ended the session", now.mono);
            on_refusal(*host, refusal);
        },
        [&](const char* why) { session_over(*host, why, now.mono); });
}

void FeedSession::handle(Host& host, Frame& frame, Now now) {
    for (const Command& command : frame.commands) {
        handle(host, command, now);
        if (!host.link.open()) return;
    }
    for (const Unknown& unknown : frame.unknown) {
        event(Event::Kind::dropped,
              host.label + ": sent the command \"" + unknown.name + "\", which this version does not know", 1);
    }
}

void FeedSession::handle(Host& host, const Command& command, Now now) {
    if (const auto* feed = std::get_if<Feed>(&command)) {
        on_feed(host, *feed, now);
    } else if (const auto* welcome = std::get_if<Welcome>(&command)) {
        on_welcome(host, *welcome, now.mono);
        if (!host.link.open()) return;
        host.link.add(Taken{host.taken, host.told.messages, host.told.bytes});  // for which the host waits
        host.told.count = host.taken;
    } else if (const auto* bye = std::get_if<Bye>(&command)) {
        on_bye(host, *bye, now);
    } else if (const auto* refusal = std::get_if<Refusal>(&command)) {
        host.link.end(now.mono + options_.timing.heartbeat_busy);
        session_over(host, "the host ended the session", now.mono);
        on_refusal(host, *refusal);
    }
}

void FeedSession::on_welcome(Host& host, const Welcome& welcome, Mono now) {
    host.identity = welcome.host;
    host.last_refusal.clear();
    if (Host* const other = other_way_to(host, hosts_)) {
        host.link.end(now + other_way_wait);
        other->link.end(now);
        session_over(*other, "another way to it, " + host.label + ", had taken its session over", now);
        event(Event::Kind::refused, host.label + ": is another way to " + other->label +
                                        ", and is used when that one is lost; it is enough to give one");
        return;
    }
    host.is_final = host.asked = false;
    const bool had_one = host.id != 0;
    if (host.id == welcome.link) {
        event(Event::Kind::resumed,
              host.label + ": the session is back, nothing is lost but what will be called missed");
        return;
    }
    if (had_one) {
        count_break(host,
                    "it does not know this subscriber any more (it has started again, or we were away for too long)");
    }
    host.id = welcome.link;
    // What waits of the former link is still taken, with the gap behind it.
    host.seen = host.taken = 0;
    event(Event::Kind::connected, host.label + ": connected");
}

void FeedSession::count_break(Host& host, const std::string& why) {
    host.id = 0;
    ++counts_.breaks;
    event(Event::Kind::missed,
          host.label + ": " + why + "; what was published until now and has not come is missed, nobody knows how much");
}

// In the sequence of the link. What the host says twice is dropped; what it leaves out is missed.
void FeedSession::on_feed(Host& host, const Feed& feed, Now now) {
    const bool beyond =
        feed.count > 0 && (host.got_messages + feed.count > host.told.messages || host.got_bytes >= host.told.bytes);
    if (beyond || feed.first <= host.seen) {
        host.link.end(now.mono + options_.timing.heartbeat_busy);
        session_over(host, beyond ? "it sent more than there was room for" : "it sent what had come before", now.mono);
        return;
    }
    if (feed.count == 0) host.asked = true;
    const std::uint64_t gap = feed.first - host.seen - 1;
    if (gap > 0) {
        host.missed += gap;
        host.gap_behind += gap;
        if (worth_a_word(++host.gaps)) {
            event(Event::Kind::missed,
                  host.label + ": messages of " + options_.topic +
                      " did not come: this subscriber was slower than they were, or away; make it quicker, or let the "
                      "host keep more for it (max_messages, max_bytes) or wait (when_full = block)",
                  host.missed);
        }
    }
    host.seen = feed.first - 1;
    host.got_messages += feed.count;
    host.got_bytes += feed.list.size();
    const auto index = static_cast<std::uint32_t>(
        std::find_if(hosts_.begin(), hosts_.end(), [&](const Host& one) { return &one == &host; }) - hosts_.begin());
    for (Slice& envelope : envelopes_of(feed)) {
        ++host.waiting;
        host.waiting_bytes += cost_of(envelope);
        waiting_.push_back({index, host.id, ++host.seen, std::exchange(host.gap_behind, 0), std::move(envelope)});
    }
    if (host.waiting == 0) count_gap(host);
}

// The one behind all that has been taken.
void FeedSession::count_gap(Host& host) {
    counts_.missed += host.gap_behind;
    counts_.matched += std::exchange(host.gap_behind, 0);
    host.taken = host.seen;
}

std::optional<Slice> FeedSession::next() {
    if (waiting_.empty()) return std::nullopt;
    Item item = std::move(waiting_.front());
    waiting_.pop_front();
    Host& host = hosts_[item.host];
    ++counts_.received;
    counts_.missed += item.gap;
    counts_.matched += item.gap + 1;
    if (item.link == host.id) host.taken = item.number;
    --host.waiting;
    host.waiting_bytes -= cost_of(item.envelope);
    if (host.waiting == 0) count_gap(host);
    return std::move(item.envelope);
}

void FeedSession::on_bye(Host& host, const Bye& bye, Now now) {
    const std::chrono::milliseconds told{std::min<std::uint64_t>(bye.retry_after_ms, bye_wait_max.count())};
    host.link.add(Bye{.answer = true});
    host.link.flush(out_, now.mono);
    host.link.end(now.mono + std::max(told, bye_wait_min));
    host.is_final = true;
    session_over(host, "the host has gone for a while" + (bye.text.empty() ? std::string{} : ": " + bye.text),
                 now.mono);
}

void FeedSession::on_refusal(Host& host, const Refusal& refusal) {
    std::string text = refusal.code + ": " + refusal.text;
    if (text == host.last_refusal) return;  // once, however often it is tried again
    event(Event::Kind::refused, host.label + ": the session was refused: " + text, 0, refusal.code);
    host.last_refusal = std::move(text);
}

void FeedSession::session_over(Host& host, const std::string& why, Mono now) {
    host.lost_at = now;
    event(Event::Kind::lost, host.label + ": " + why);
}

void FeedSession::send_failed(PeerId peer, Now now) {
    Host* host = find(peer);
    if (host != nullptr && host->link.send_failed(now.mono)) session_over(*host, "the link is gone", now.mono);
}

// Life -------------------------------------------------------------------------------------------------------------

void FeedSession::say_hello(Host& host, Now now) {
    Hello hello;
    hello.role = Role::consumer;
    hello.address = options_.topic;
    hello.name = options_.name;
    hello.incarnation = options_.incarnation;
    hello.client = options_.client;
    hello.live = true;
    hello.bindings = options_.bindings;
    hello.link = host.id;
    hello.received = host.seen;
    host.got_messages = host.got_bytes = 0;
    host.told = to_tell(host);
    hello.window_messages = static_cast<std::uint32_t>(host.told.messages);
    hello.window_bytes = host.told.bytes;
    host.link.say_hello(std::move(hello), ++attempts_, now.mono);
}

Taken FeedSession::to_tell(const Host& host) const {
    return {.count = host.taken,
            .messages = host.got_messages + less(options_.messages, host.waiting),
            .bytes = host.got_bytes + less(options_.bytes, host.waiting_bytes),
            .received = host.seen};
}

bool FeedSession::is_worth_telling(const Host& host, const Taken& taken) const {
    if (host.asked) return true;
    const std::uint64_t messages = less(taken.messages, host.told.messages);
    const std::uint64_t bytes = less(taken.bytes, host.told.bytes);
    if (host.waiting == 0) return taken.count > host.told.count || messages > 0 || bytes > 0;
    return messages > options_.messages / part_worth_telling || bytes > options_.bytes / part_worth_telling;
}

bool FeedSession::has_news() const {
    return std::any_of(hosts_.begin(), hosts_.end(), [&](const Host& host) {
        return !host.gone && host.link.open() && is_worth_telling(host, to_tell(host));
    });
}

void FeedSession::turn(Now now) {
    if (ended_) return;
    for (Host& host : hosts_) {
        if (host.gone) continue;
        // Always: a link that is lost is seen soon, before more is published than is kept.
        host.link.set_busy(true, now.mono);
        if (host.link.keep_alive(now.mono)) session_over(host, "nothing was heard of it for too long", now.mono);
        if (is_lost_for_good(host, now.mono)) {
            if (host.id != 0 && !host.is_final) count_break(host, "it has been away for too long");
            if (host.incoming && host.waiting == 0) {
                host.gone = true;
                continue;
            }
        }
        if (host.link.hello_due(now.mono)) {
            if (other_way_to(host, hosts_) != nullptr) {
                host.link.end(now.mono + other_way_wait);
            } else {
                say_hello(host, now);
            }
        }
        if (host.link.open()) {
            const Taken taken = to_tell(host);
            if (is_worth_telling(host, taken)) {
                host.told = {taken.count, std::max(taken.messages, host.told.messages),
                             std::max(taken.bytes, host.told.bytes), taken.received};
                host.link.add(host.told);
                host.asked = false;
            }
        }
        host.link.flush(out_, now.mono);
    }
}

bool FeedSession::is_lost_for_good(const Host& host, Mono now) const {
    if (host.link.open()) return false;
    return (host.incoming && host.is_final) || now - host.lost_at > defaults::live_link_memory;
}

void FeedSession::bye(Now now) {
    if (std::exchange(ended_, true)) return;
    for (Host& host : hosts_) {
        if (host.gone) continue;
        if (host.link.open()) {
            host.link.add(Bye{});
            host.link.flush(out_, now.mono);
        }
        host.link.end(never);
    }
}

Mono FeedSession::next_deadline() const {
    Mono next = never;
    if (ended_) return next;
    for (const Host& host : hosts_) {
        if (!host.gone) next = std::min(next, host.link.next_deadline());
    }
    return next;
}

std::size_t FeedSession::connected() const {
    return static_cast<std::size_t>(
        std::count_if(hosts_.begin(), hosts_.end(), [](const Host& host) { return !host.gone && host.link.open(); }));
}

void FeedSession::drop() {
    if (worth_a_word(++dropped_)) event(Event::Kind::dropped, "frames that are not of this session", dropped_);
}

void FeedSession::event(Event::Kind kind, std::string text, std::uint64_t count, std::string code) {
    events_.push_back({kind, options_.topic, std::move(text), count, std::move(code)});
}

}  // namespace posthorn::protocol
