// What a consumer holds, and what it has settled.
#include <algorithm>
#include <utility>

#include "protocol/consumer_session.hpp"

namespace posthorn::protocol {

namespace {

constexpr std::size_t unsafe_settles_max = 50'000;          // per host: then nothing is begun until some are safe
constexpr std::size_t unsafe_bytes_max = 64 * 1024 * 1024;  // and of their replies
constexpr std::size_t reply_bytes = 64 * 1024;              // in one command: a frame well below its limit
constexpr std::uint32_t run_max = defaults::prefetch_max;  // deliveries in one run of acks; hosts read up to twice that

bool before(const Held& a, const Held& b) {
    return std::pair{a.offset, a.token} < std::pair{b.offset, b.token};
}

bool contains(const std::vector<Held>& sorted, std::uint64_t offset, std::uint32_t token) {
    const Held one{offset, token, false};
    return std::binary_search(sorted.begin(), sorted.end(), one, before);
}

bool is_plain_ack(const ConsumerSession::Settlement& settlement) {
    return settlement.verdict == Verdict::ack && settlement.reply.empty();
}

bool gives_back(const ConsumerSession::Settlement& settlement) {
    return settlement.verdict == Verdict::nack || settlement.verdict == Verdict::release;
}

}  // namespace

// Deliveries -----------------------------------------------------------------------------------------------------

void ConsumerSession::on_deliver(Host& host, Deliver& deliver, Now now) {
    const std::size_t messages_max = 2 * std::size_t{std::max(defaults::prefetch_max, options_.prefetch)};
    const std::size_t bytes_max = 2 * (defaults::consumer_bytes + options_.message_limit);
    for (DeliverOne& one : deliver.items) {
        if (contains(host.resumed, one.offset, one.token)) continue;
        if (draining_) {
            queue_settle(host, one.offset, one.token, {.verdict = Verdict::release});
            continue;
        }
        if (host.held >= messages_max || host.unbegun_bytes >= bytes_max) {
            host.link.end(now.mono + options_.timing.heartbeat_busy);
            session_over(host, "it delivers far more than it was asked for");
            return;
        }
        host.unbegun.push_back(take_slot(host, std::move(one), now.mono));
    }
}

std::uint32_t ConsumerSession::take_slot(Host& host, DeliverOne delivery, Mono now) {
    if (free_slots_.empty()) {
        free_slots_.push_back(static_cast<std::uint32_t>(slots_.size()));
        slots_.emplace_back();
    }
    const std::uint32_t index = free_slots_.back();
    free_slots_.pop_back();
    Slot& slot = slots_[index];
    slot.state = State::unbegun;
    slot.host = host.index;
    slot.offset = delivery.offset;
    slot.token = delivery.token;
    slot.extended_to = Mono{};
    slot.stop_told = slot.handed_over = false;
    slot.delivery = std::move(delivery);
    host.unbegun_bytes += slot.delivery.envelope.size();
    ++host.held;
    ++unbegun_;
    if (!working()) working_since_ = now;
    ++held_;
    return index;
}

// The delivery is begun, or let go: what is counted for those that are not.
void ConsumerSession::let_go(std::uint32_t index, Mono now) {
    Slot& slot = slots_[index];
    Host& host = hosts_[slot.host];
    if (slot.state == State::unbegun) {
        host.unbegun_bytes -= slot.delivery.envelope.size();
        --unbegun_;
    }
    --host.held;
    --held_;
    if (slot.handed_over) {
        --handed_over_;
    } else if (!working()) {
        worked_ += now - working_since_;
    }
}

void ConsumerSession::hand_over(Handle handle, Mono now) {
    Slot* slot = slot_of(handle);
    if (slot == nullptr || slot->state == State::lost) return;
    slot->handed_over = true;
    ++handed_over_;
    ++finished_;
    if (!working()) worked_ += now - working_since_;
}

void ConsumerSession::free_slot(std::uint32_t index) {
    Slot& slot = slots_[index];
    if (slot.state != State::unbegun) --begun_;
    slot.state = State::free;
    slot.host = no_host;
    ++slot.life;
    slot.delivery.envelope.reset();
    free_slots_.push_back(index);
}

bool ConsumerSession::may_begin(const Host& host, Mono now) const {
    return !host.gone && !host.unbegun.empty() && now < host.link.heard() + host.lease / 2 &&
           host.unsafe_settles < unsafe_settles_max && host.unsafe_bytes < unsafe_bytes_max && !is_held_up(host);
}

bool ConsumerSession::can_begin(Mono now) const {
    return unbegun_ > 0 && !waits_for_the_last() &&
           std::any_of(hosts_.begin(), hosts_.end(), [&](const Host& host) { return may_begin(host, now); });
}

std::optional<ConsumerSession::Begun> ConsumerSession::begin(Mono now) {
    if (unbegun_ == 0 || ended_ || waits_for_the_last()) return std::nullopt;
    for (std::size_t tried = 0; tried < hosts_.size(); ++tried) {
        Host& host = hosts_[next_host_ % hosts_.size()];
        ++next_host_;
        if (!may_begin(host, now)) continue;
        const std::uint32_t index = host.unbegun.front();
        host.unbegun.pop_front();
        Slot& slot = slots_[index];
        slot.state = State::begun;
        ++begun_;
        host.barrier = false;
        host.unbegun_bytes -= slot.delivery.envelope.size();
        --unbegun_;
        DeliverOne& one = slot.delivery;
        return Begun{.handle = {index, slot.life},
                     .offset = slot.offset,
                     .token = slot.token,
                     .attempt = one.attempt,
                     .redrives = one.redrives,
                     .maybe_duplicate = one.maybe_duplicate,
                     .envelope = std::exchange(one.envelope, {}),
                     .peer = host.link.peer()};
    }
    return std::nullopt;
}

ConsumerSession::Slot* ConsumerSession::slot_of(Handle handle) {
    if (handle.slot >= slots_.size()) return nullptr;
    Slot& slot = slots_[handle.slot];
    return slot.life == handle.life && slot.state >= State::begun ? &slot : nullptr;
}

bool ConsumerSession::settle(Handle handle, Settlement settlement, Mono now) {
    Slot* slot = slot_of(handle);
    if (slot == nullptr) return false;
    if (!slot->handed_over) ++finished_;
    const bool in_time = slot->state != State::lost;
    if (!in_time) {
        tell_stale({}, 1);
    } else {
        Host& host = hosts_[slot->host];
        if (settlement.sync != 0) {
            host.awaited.push_back({slot->offset, slot->token, settlement.sync});
            host.sync = true;
        }
        if (options_.strict && gives_back(settlement)) host.barrier = true;
        queue_settle(host, slot->offset, slot->token, std::move(settlement));
        let_go(handle.slot, now);
    }
    free_slot(handle.slot);
    return in_time;
}

void ConsumerSession::extend(Handle handle, Duration lease, Mono now) {
    Slot* slot = slot_of(handle);
    if (slot == nullptr || slot->state == State::lost) return;
    const Duration span = std::clamp<Duration>(lease, Duration::zero(), defaults::lease_cap);
    slot->extended_to = now + span;
    Host& host = hosts_[slot->host];
    if (!host.link.open()) return;  // said after the welcome
    const auto ms = std::chrono::ceil<std::chrono::milliseconds>(span).count();
    host.extends.push_back({slot->offset, slot->token, static_cast<std::uint64_t>(ms)});
}

bool ConsumerSession::is_lost(Handle handle) const {
    if (handle.slot >= slots_.size()) return true;
    const Slot& slot = slots_[handle.slot];
    return slot.life != handle.life || slot.state == State::lost || slot.stop_told;
}

void ConsumerSession::on_lost(Host& host, std::vector<Held> items, Mono now) {
    if (items.empty()) return;
    std::sort(items.begin(), items.end(), before);
    std::erase_if(host.unbegun, [&](std::uint32_t index) {
        if (!contains(items, slots_[index].offset, slots_[index].token)) return false;
        let_go(index, now);
        free_slot(index);
        return true;
    });
    for (std::uint32_t index = 0; index < slots_.size(); ++index) {
        const Slot& slot = slots_[index];
        if (slot.state != State::begun || slot.host != host.index || !contains(items, slot.offset, slot.token))
            continue;
        lose_begun(index, now);
    }
}

void ConsumerSession::lose_begun(std::uint32_t index, Mono now) {
    Slot& slot = slots_[index];
    let_go(index, now);
    if (!slot.stop_told) lost_.push_back({index, slot.life});
    slot.stop_told = true;
    slot.state = State::lost;
    slot.host = no_host;
}

void ConsumerSession::release_unbegun(Host& host, std::size_t count, Mono now) {
    for (; count > 0 && !host.unbegun.empty(); --count) {
        const std::uint32_t index = host.unbegun.back();
        host.unbegun.pop_back();
        queue_settle(host, slots_[index].offset, slots_[index].token, {.verdict = Verdict::release});
        let_go(index, now);
        free_slot(index);
    }
}

void ConsumerSession::drop_unbegun(Host& host, Mono now) {
    for (const std::uint32_t index : host.unbegun) {
        let_go(index, now);
        free_slot(index);
    }
    host.unbegun.clear();
}

// A host that was not heard for a whole lease has given what we hold to others, unless it is down itself. So nothing
// of it is begun and handlers are told; what they still settle is offered to the host, who knows, and may have heard us
// all the time: one that came by itself is kept as long as the link stands, or it would be told that we hold nothing,
// and give us again what we are at.
void ConsumerSession::check_lease(Host& host, Mono now) {
    const Mono over = host.link.heard() + host.lease + host.grace;
    if (host.held == 0 || now < over || (host.silent && now < host.extended_to)) return;
    drop_unbegun(host, now);
    // The host may have heard us all the time, or has a hello of ours on its way that lists what we just dropped: only
    // a new one tells it what we hold now.
    const bool was_open = host.link.open();
    host.link.end(now);
    if (was_open) session_over(host, "not heard for a whole lease");
    std::uint64_t told = 0;
    host.extended_to = never;
    for (std::uint32_t index = 0; index < slots_.size(); ++index) {
        Slot& slot = slots_[index];
        if (slot.state != State::begun || slot.host != host.index || slot.stop_told) continue;
        if (slot.extended_to > now) {
            host.extended_to = std::min(host.extended_to, slot.extended_to);
            continue;
        }
        slot.stop_told = true;
        lost_.push_back({index, slot.life});
        ++told;
    }
    if (!host.silent || told > 0) {
        event(Event::Kind::lost,
              host.label + ": not heard for a whole lease; " + std::to_string(told) +
                  " running handlers were told to stop",
              told);
    }
    host.silent = true;
}

// Settlements ----------------------------------------------------------------------------------------------------

void ConsumerSession::queue_settle(Host& host, std::uint64_t offset, std::uint32_t token, Settlement settlement) {
    ++host.unsafe_settles;
    host.unsafe_bytes += settlement.reply.size();
    if (is_plain_ack(settlement) && !host.settling.empty()) {
        Settling& last = host.settling.back();
        if (is_plain_ack(last.settlement) && last.token == token && last.offset + last.count == offset &&
            last.count < run_max) {
            ++last.count;
            return;
        }
    }
    host.settling.push_back({offset, token, 1, std::move(settlement)});
}

void ConsumerSession::tell_synced(Host& host, std::uint64_t offset, std::uint32_t token, std::uint32_t count,
                                  bool safe) {
    std::erase_if(host.awaited, [&](const Awaited& one) {
        if (one.token != token || one.offset < offset || one.offset - offset >= count) return false;
        synced_.push_back({one.number, safe});
        return true;
    });
}

// A new session: what was not confirmed in the last one is said again, but for what the host has called lost.
void ConsumerSession::repeat_settles(Host& host, std::vector<Held> lost) {
    std::sort(lost.begin(), lost.end(), before);
    // What is lost may be given out anew, and a host of a new life may count it as it was counted before.
    std::erase_if(host.resumed, [&](const Held& one) { return contains(lost, one.offset, one.token); });
    std::vector<Settling> again(std::make_move_iterator(host.unconfirmed.begin()),
                                std::make_move_iterator(host.unconfirmed.end()));
    again.insert(again.end(), std::make_move_iterator(host.settling.begin()),
                 std::make_move_iterator(host.settling.end()));
    host.unconfirmed.clear();
    host.settling.clear();
    host.unsafe_settles = 0;
    host.unsafe_bytes = 0;
    host.sent_settles = 0;
    host.safe_settles = 0;
    std::uint64_t stale = 0;
    for (Settling& one : again) {
        for (std::uint32_t i = 0; i < one.count; ++i) {
            if (contains(lost, one.offset + i, one.token)) {
                ++stale;
                tell_synced(host, one.offset + i, one.token, 1, false);
            } else {
                queue_settle(host, one.offset + i, one.token,
                             one.count == 1 ? std::move(one.settlement) : Settlement{});
            }
        }
    }
    host.applied_settles = 0;
    host.barrier = options_.strict && std::any_of(host.settling.begin(), host.settling.end(),
                                                  [](const Settling& one) { return gives_back(one.settlement); });
    host.sync = !host.awaited.empty();
    if (stale > 0) tell_stale(host.label + ": ", stale);
}

void ConsumerSession::send_settles(Host& host) {
    if (!host.extends.empty()) host.link.add(Extend{std::exchange(host.extends, {})});
    if (!host.settling.empty()) {
        // Acks come first in the command and so in the count; sorted they make longer runs.
        const auto others = std::stable_partition(host.settling.begin(), host.settling.end(),
                                                  [](const Settling& one) { return is_plain_ack(one.settlement); });
        std::sort(host.settling.begin(), others,
                  [](const Settling& a, const Settling& b) { return a.offset < b.offset; });
        Settle settle;
        settle.sync = std::exchange(host.sync, false);
        std::size_t bytes = 0;
        for (auto it = host.settling.begin(); it != host.settling.end(); ++it) {
            host.sent_settles += it->count;
            if (it >= others) {
                const Settlement& settlement = it->settlement;
                if (bytes > 0 && bytes + settlement.reply.size() > reply_bytes) {
                    host.link.add(std::exchange(settle, {}));
                    bytes = 0;
                }
                bytes += settlement.reply.size();
                settle.others.push_back({it->offset, it->token, settlement.verdict, settlement.delay_ms,
                                         settlement.text, settlement.reply});
            } else if (!settle.acks.empty() && settle.acks.back().token == it->token &&
                       settle.acks.back().offset + settle.acks.back().count == it->offset &&
                       settle.acks.back().count + it->count <= run_max) {
                settle.acks.back().count += it->count;
                host.unconfirmed.back().count += it->count;
                continue;
            } else {
                settle.acks.push_back({it->offset, it->token, it->count});
            }
            host.unconfirmed.push_back(std::move(*it));
        }
        host.settling.clear();
        host.link.add(std::move(settle));
    }
    if (std::exchange(host.recalled, false)) host.link.add(Recalled{});
}

void ConsumerSession::on_settled(Host& host, const Settled& settled) {
    for (const Held& one : settled.stale) tell_synced(host, one.offset, one.token, 1, false);
    host.applied_settles = std::max({host.applied_settles, settled.applied, settled.count});
    const std::uint64_t safe = std::min(settled.count, host.sent_settles);
    while (host.safe_settles < safe) {
        Settling& first = host.unconfirmed.front();
        const auto part = static_cast<std::uint32_t>(std::min<std::uint64_t>(first.count, safe - host.safe_settles));
        tell_synced(host, first.offset, first.token, part, true);
        host.safe_settles += part;
        host.unsafe_settles -= part;
        host.unsafe_bytes -= first.settlement.reply.size();
        first.offset += part;
        first.count -= part;
        if (first.count == 0) host.unconfirmed.pop_front();
    }
    if (!settled.stale.empty()) tell_stale(host.label + ": ", settled.stale.size());
}

void ConsumerSession::tell_stale(const std::string& where, std::uint64_t count) {
    event(
        Event::Kind::stale_delivery,
        where + (options_.replier ? "answers came after their leases were over, and are nobody's: these requests were "
                                    "answered without them, or went to another replier"
                                  : "settlements came after their leases were over; these messages may run again"),
        count);
}

void ConsumerSession::say_hello(Host& host, Now now) {
    Hello hello;
    hello.role = Role::consumer;
    hello.address = options_.queue;
    hello.name = options_.name;
    hello.incarnation = options_.incarnation;
    hello.concurrency = options_.concurrency;
    hello.client = options_.client;
    hello.strict = options_.strict;
    hello.bindings = options_.bindings;
    hello.temporary = options_.temporary;
    hello.exclusive = options_.exclusive;
    hello.replier = options_.replier;
    hello.from = options_.from;
    for (const Slot& slot : slots_) {
        if (slot.host != host.index || (slot.state != State::unbegun && slot.state != State::begun)) continue;
        hello.held.push_back({slot.offset, slot.token, slot.state == State::begun});
    }
    const auto list = [&](const Settling& one) {
        for (std::uint32_t i = 0; i < one.count; ++i) hello.held.push_back({one.offset + i, one.token, true});
    };
    std::for_each(host.unconfirmed.begin(), host.unconfirmed.end(), list);
    std::for_each(host.settling.begin(), host.settling.end(), list);
    std::sort(hello.held.begin(), hello.held.end(), before);
    host.resumed = hello.held;
    host.window = !draining_ && !connected() ? budget() : 0;  // with other hosts: after the welcome
    hello.window_messages = host.window;
    hello.window_bytes = host.window == 0 ? 0 : defaults::consumer_bytes;
    host.link.say_hello(std::move(hello), ++attempts_, now.mono);
}

}  // namespace posthorn::protocol
