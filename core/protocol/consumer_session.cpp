#include "protocol/consumer_session.hpp"

#include <algorithm>
#include <utility>
#include <variant>

namespace posthorn::protocol {

namespace {

constexpr std::size_t hosts_max = 1000;   // that come to us by themselves
constexpr Duration measured_time = 10ms;  // of work, for the budget that adapts
constexpr Duration crowded_turn = 1s;     // how long a host is served while others wait for their turn
constexpr Duration lease_min = 100ms;     // whatever a host says

// Another hello would take the name back, or make the subscription again.
bool is_final(const Refusal& refusal) {
    return refusal.code == "fenced" || refusal.code == "removed";
}

}  // namespace

ConsumerSession::ConsumerSession(Options options)
    : options_(std::move(options)), budget_(options_.prefetch != 0 ? options_.prefetch : least_budget()) {}

// Hosts ----------------------------------------------------------------------------------------------------------

ConsumerSession::Host* ConsumerSession::find(PeerId peer) {
    const auto it = std::find_if(hosts_.begin(), hosts_.end(),
                                 [&](const Host& host) { return !host.gone && host.link.peer() == peer; });
    return it == hosts_.end() ? nullptr : &*it;
}

ConsumerSession::Host& ConsumerSession::place(PeerId peer) {
    HostLink link{peer, options_.timing, options_.frame_limit, options_.message_limit + command_room};
    const auto it = std::find_if(hosts_.begin(), hosts_.end(), [](const Host& host) { return host.gone; });
    const auto index = static_cast<std::uint32_t>(it - hosts_.begin());
    Host fresh{.link = std::move(link), .index = index, .label = {}};
    if (it == hosts_.end()) return hosts_.emplace_back(std::move(fresh));
    *it = std::move(fresh);
    return *it;
}

void ConsumerSession::add_host(PeerId peer, std::string label) {
    place(peer).label = std::move(label);
}

void ConsumerSession::remove_host(PeerId peer, Now now) {
    if (Host* host = find(peer)) remove(*host, now.mono);
}

void ConsumerSession::remove(Host& host, Mono now) {
    give_up(host, now);
    host.gone = true;
}

// What it holds of this host, and has settled there, is nobody's any more.
void ConsumerSession::give_up(Host& host, Mono now) {
    drop_unbegun(host, now);
    for (std::uint32_t index = 0; index < slots_.size(); ++index) {
        if (slots_[index].state == State::begun && slots_[index].host == host.index) lose_begun(index, now);
    }
    for (const Awaited& one : std::exchange(host.awaited, {})) synced_.push_back({one.number, false});
    if (host.unsafe_settles > 0) {
        event(Event::Kind::stale_delivery, host.label + ": has gone before it confirmed these settlements",
              host.unsafe_settles);
    }
    host.settling.clear();
    host.unconfirmed.clear();
    host.unsafe_settles = host.unsafe_bytes = 0;
}

void ConsumerSession::from_stranger(PeerId peer, const Slice& bytes, Now now) {
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
        if (known->over) return;
        if (known->link.open()) session_over(*known, "it came back on another link");
        known->link.move_to(peer, now.mono);
        return;
    }
    if (identify == nullptr) {
        drop();
        return;
    }
    const auto present = std::count_if(hosts_.begin(), hosts_.end(), [](const Host& host) { return !host.gone; });
    if (static_cast<std::size_t>(present) >= hosts_max) {
        drop();
        return;
    }
    Host& host = place(peer);
    host.incoming = true;
    host.identity = identify->host;
    host.label = "host " + (identify->host.is_zero() ? std::string{"unnamed"} : identify->host.hex().substr(0, 8));
}

void ConsumerSession::receive(PeerId peer, const Slice& bytes, Now now) {
    Host* host = find(peer);
    if (host == nullptr) {
        from_stranger(peer, bytes, now);
        return;
    }
    if (host->over) return;
    host->link.hear(
        bytes, now, [&] { drop(); }, [&](Frame& frame) { handle(*host, frame, now); },
        [&](const Refusal& refusal, bool was_open) {
            if (was_open) session_over(*host, "the host ended the session");
            on_refusal(*host, refusal, now.mono);
        },
        [&](const char* why) { session_over(*host, why); });
}

void ConsumerSession::handle(Host& host, Frame& frame, Now now) {
    for (Command& command : frame.commands) {
        handle(host, command, now);
        if (!host.link.open()) return;
    }
    for (const Unknown& unknown : frame.unknown) {
        event(Event::Kind::dropped,
              host.label + ": sent the command \"" + unknown.name + "\", which this version does not know", 1);
    }
}

void ConsumerSession::handle(Host& host, Command& command, Now now) {
    if (auto* deliver = std::get_if<Deliver>(&command)) {
        on_deliver(host, *deliver, now);
    } else if (const auto* settled = std::get_if<Settled>(&command)) {
        on_settled(host, *settled);
    } else if (const auto* recall = std::get_if<Recall>(&command)) {
        release_unbegun(host, recall->count, now.mono);
        host.recalled = true;
    } else if (const auto* state = std::get_if<protocol::State>(&command)) {
        host.ready = state->ready;
    } else if (auto* lost = std::get_if<Lost>(&command)) {
        on_lost(host, std::move(lost->items), now.mono);
    } else if (auto* welcome = std::get_if<Welcome>(&command)) {
        on_welcome(host, *welcome, now);
    } else if (const auto* bye = std::get_if<Bye>(&command)) {
        on_bye(host, *bye, now);
    } else if (const auto* refusal = std::get_if<Refusal>(&command)) {
        host.link.end(now.mono + options_.timing.heartbeat_busy);
        session_over(host, "the host ended the session");
        on_refusal(host, *refusal, now.mono);
    }
}

void ConsumerSession::on_welcome(Host& host, Welcome& welcome, Now now) {
    using std::chrono::milliseconds;
    const auto cap = static_cast<std::uint64_t>(std::chrono::duration_cast<milliseconds>(defaults::lease_cap).count());
    host.lease = std::max<Duration>(milliseconds{std::min(welcome.lease_ms, cap)}, lease_min);
    host.link.set_busy_interval(std::min(options_.timing.heartbeat_busy, host.lease / 4));
    host.identity = welcome.host;
    if (Host* const other = other_way_to(host, hosts_)) {
        host.link.end(now.mono + other_way_wait);
        other->link.end(now.mono);
        session_over(*other, "another way to it, " + host.label + ", had taken its session over");
        event(Event::Kind::refused, host.label + ": is another way to " + other->label +
                                        ", and is used when that one is lost; it is enough to give one");
        return;
    }
    host.capabilities = std::move(welcome.capabilities);
    host.last_refusal.clear();
    host.grace = Duration::zero();
    host.silent = false;
    repeat_settles(host, welcome.lost);
    on_lost(host, std::move(welcome.lost), now.mono);
    for (const Slot& slot : slots_) {
        if (slot.state != State::begun || slot.host != host.index || slot.extended_to <= now.mono) continue;
        const auto left = std::chrono::ceil<milliseconds>(slot.extended_to - now.mono);
        host.extends.push_back({slot.offset, slot.token, static_cast<std::uint64_t>(left.count())});
    }
    event(host.was_connected ? Event::Kind::resumed : Event::Kind::connected,
          host.label + (host.was_connected ? ": the session is back, " : ": connected, ") + std::to_string(host.held) +
              " deliveries are held",
          host.held);
    host.was_connected = true;
}

void ConsumerSession::on_bye(Host& host, const Bye& bye, Now now) {
    const std::chrono::milliseconds told{std::min<std::uint64_t>(bye.retry_after_ms, bye_wait_max.count())};
    host.grace = told;
    if (host.link.open()) {
        host.link.add(Bye{.answer = true});
        host.link.flush(out_, now.mono);
    }
    host.link.end(now.mono + std::max(told, bye_wait_min));
    session_over(host, "the host has gone for a while" + (bye.text.empty() ? std::string{} : ": " + bye.text));
}

void ConsumerSession::on_refusal(Host& host, const Refusal& refusal, Mono now) {
    if (is_final(refusal)) {
        host.over = true;
        host.link.end(never);
        give_up(host, now);
    }
    std::string text = refusal.code + ": " + refusal.text;
    if (text == host.last_refusal) return;  // once, however often it is tried again
    event(Event::Kind::refused, host.label + ": the session was refused: " + text, 0, refusal.code);
    host.last_refusal = std::move(text);
}

void ConsumerSession::session_over(Host& host, const std::string& why) {
    host.ready.reset();
    host.window = 0;
    host.recalled = false;
    host.extends.clear();
    event(Event::Kind::lost,
          host.label + ": " + why + "; " + std::to_string(host.held) + " deliveries keep their lease", host.held);
}

void ConsumerSession::send_failed(PeerId peer, Now now) {
    Host* host = find(peer);
    if (host == nullptr || host->over) return;
    if (host->link.send_failed(now.mono)) session_over(*host, "the link is gone");
    const bool nothing_left = host->held == 0 && host->unsafe_settles == 0;
    const bool given_up = host->silent && host->extended_to == never;
    if (host->incoming && (nothing_left || given_up)) remove(*host, now.mono);
}

// The budget -----------------------------------------------------------------------------------------------------

// What waits for others only does not keep those that work from their next delivery; unless the user has set the bound.
std::uint32_t ConsumerSession::budget() const {
    if (options_.prefetch != 0) return budget_;
    const std::size_t all = budget_ + handed_over_;
    return std::max(budget_, static_cast<std::uint32_t>(std::min<std::size_t>(all, defaults::prefetch_max)));
}

void ConsumerSession::measure(Mono now) {
    if (options_.prefetch != 0) return;
    const Duration worked = worked_ + (working() ? now - working_since_ : Duration::zero());
    if (worked < measured_time) return;
    const auto rate =
        finished_ * static_cast<std::uint64_t>(measured_time.count()) / static_cast<std::uint64_t>(worked.count());
    const std::uint64_t least = least_budget();
    const auto target = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(least + rate, std::max<std::uint64_t>(defaults::prefetch_max, least)));
    // A little less is not worth a word to the hosts.
    if (target > budget_ || target < budget_ - budget_ / 4) budget_ = target;
    finished_ = 0;
    worked_ = Duration::zero();
    working_since_ = now;
    if (options_.replier) release_excess(now);
}

// Handlers got slower: what they will not begin soon is nobody's before it is begun.
void ConsumerSession::release_excess(Mono now) {
    const std::size_t may_hold = budget();
    for (Host& host : hosts_) {
        if (held_ <= may_hold) return;
        if (!host.gone) release_unbegun(host, held_ - may_hold, now);
    }
}

void ConsumerSession::share_budget(Mono now) {
    std::uint32_t open = 0;
    std::uint32_t ready = 0;
    for (const Host& host : hosts_) {
        if (host.gone || !host.link.open()) continue;
        ++open;
        if (host.ready.value_or(false)) ++ready;
    }
    next_turn_ = never;
    if (open == 0) return;
    // Idle hosts only share when nobody is ready: one that gets work says so and has its share then.
    const std::uint32_t sharing = ready > 0 ? ready : open;
    const std::uint32_t all = draining_ ? 0 : budget();
    const bool crowded = sharing > all && all > 0;
    // With more hosts than deliveries they take turns, or the last ones would never be served.
    const auto turns = now.time_since_epoch() / crowded_turn;
    const std::uint32_t turn = crowded ? static_cast<std::uint32_t>(turns % sharing) : 0;
    if (crowded) next_turn_ = Mono{} + (turns + 1) * crowded_turn;
    std::uint32_t place = 0;
    for (Host& host : hosts_) {
        if (host.gone || !host.link.open()) continue;
        std::uint32_t window = 0;
        if (ready == 0 || host.ready.value_or(false)) {
            const std::uint32_t rank = (place++ + sharing - turn) % sharing;
            window = all / sharing + (rank < all % sharing ? 1 : 0);
        }
        if (window == host.window) continue;
        host.window = window;
        const std::uint64_t bytes = window == 0 ? 0 : defaults::consumer_bytes * std::uint64_t{window} / all;
        host.link.add(Window{window, bytes});
    }
}

// Life -----------------------------------------------------------------------------------------------------------

void ConsumerSession::turn(Now now) {
    measure(now.mono);
    for (Host& host : hosts_) {
        if (host.gone) continue;
        host.link.set_busy(host.held > 0 || host.unsafe_settles > 0, now.mono);
        if (host.link.keep_alive(now.mono)) {
            session_over(host, "nothing was heard of it for too long");
        }
        check_lease(host, now.mono);
        if (!host.gone && host.link.hello_due(now.mono)) {
            if (other_way_to(host, hosts_) != nullptr) {
                host.link.end(now.mono + other_way_wait);
            } else {
                say_hello(host, now);
            }
        }
    }
    share_budget(now.mono);
    for (Host& host : hosts_) {
        if (host.gone) continue;
        if (host.link.open()) send_settles(host);
        host.link.flush(out_, now.mono);
    }
}

void ConsumerSession::drain(Mono now) {
    draining_ = true;
    for (Host& host : hosts_) release_unbegun(host, host.unbegun.size(), now);
}

bool ConsumerSession::over() const {
    const auto lasts = [](const Host& host) { return !host.gone && !host.over; };
    const auto ended = [](const Host& host) { return !host.gone && host.over; };
    return std::any_of(hosts_.begin(), hosts_.end(), ended) && std::none_of(hosts_.begin(), hosts_.end(), lasts);
}

bool ConsumerSession::quiet() const {
    return held_ == 0 && unconfirmed() == 0;
}

void ConsumerSession::bye(Now now) {
    if (options_.replier) give_up_begun(now.mono);
    ended_ = true;
    for (Host& host : hosts_) {
        if (host.gone) continue;
        if (host.link.open()) {
            send_settles(host);
            host.link.add(Bye{});
            host.link.flush(out_, now.mono);
        }
        host.link.end(never);
    }
}

// What a bye gives back counts as not begun, and goes to others.
void ConsumerSession::give_up_begun(Mono now) {
    for (std::uint32_t index = 0; index < slots_.size(); ++index) {
        const Slot& slot = slots_[index];
        if (slot.state != State::begun) continue;
        (void)settle({index, slot.life}, {.verdict = Verdict::nack, .text = "the replier ended before it had answered"},
                     now);
    }
}

std::vector<OutFrame> ConsumerSession::take_frames() {
    return std::exchange(out_, {});
}
std::vector<Event> ConsumerSession::take_events() {
    return std::exchange(events_, {});
}
std::vector<ConsumerSession::Handle> ConsumerSession::take_lost() {
    return std::exchange(lost_, {});
}
std::vector<ConsumerSession::Synced> ConsumerSession::take_synced() {
    return std::exchange(synced_, {});
}

Mono ConsumerSession::next_deadline() const {
    Mono next = never;
    for (const Host& host : hosts_) {
        if (host.gone) continue;
        next = std::min(next, host.link.next_deadline());
        if (host.held > 0)
            next = std::min(next, host.silent ? host.extended_to : host.link.heard() + host.lease + host.grace);
    }
    // A budget that has grown shrinks again when handlers get slower.
    if (options_.prefetch == 0 && working() && budget_ > least_budget()) {
        next = std::min(next, working_since_ + std::max(measured_time - worked_, Duration::zero()));
    }
    next = std::min(next, next_turn_);
    return next;
}

bool ConsumerSession::connected() const {
    return std::any_of(hosts_.begin(), hosts_.end(), [](const Host& host) { return !host.gone && host.link.open(); });
}

bool ConsumerSession::hosts_empty() const {
    return connected() && std::all_of(hosts_.begin(), hosts_.end(), [](const Host& host) {
               return host.gone || (host.link.open() && host.ready.has_value() && !*host.ready);
           });
}

std::size_t ConsumerSession::unconfirmed() const {
    std::size_t count = 0;
    for (const Host& host : hosts_) count += host.gone ? 0 : host.unsafe_settles;
    return count;
}

std::vector<std::string> ConsumerSession::capabilities() const {
    std::vector<std::string> all;
    for (const Host& host : hosts_) {
        if (host.gone) continue;
        for (const std::string& one : host.capabilities) {
            if (std::find(all.begin(), all.end(), one) == all.end()) all.push_back(one);
        }
    }
    return all;
}

void ConsumerSession::drop() {
    if (worth_a_word(++dropped_)) event(Event::Kind::dropped, "frames that are not of this session", dropped_);
}

void ConsumerSession::event(Event::Kind kind, std::string text, std::uint64_t count, std::string code) {
    events_.push_back({kind, options_.queue, std::move(text), count, std::move(code)});
}

}  // namespace posthorn::protocol
