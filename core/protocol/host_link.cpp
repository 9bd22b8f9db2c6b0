#include "protocol/host_link.hpp"

#include <algorithm>
#include <utility>
#include <variant>

namespace posthorn::protocol {

namespace {

constexpr Duration hello_wait_max = 5s;     // between hellos that nobody answers
constexpr Duration failed_wait_min = 10ms;  // after one that could not be sent: trying costs nothing
constexpr Duration failed_wait_max = 500ms;
constexpr Duration host_interval_max = 1min;  // whatever a host says of its own heartbeat

}  // namespace

HostLink::HostLink(PeerId peer, Timing timing, std::size_t frame_limit, std::size_t joined_limit)
    : peer_(peer),
      timing_(timing),
      frame_limit_(frame_limit),
      writer_(frame_limit),
      reader_(joined_limit),
      hello_wait_(timing.heartbeat_busy),
      failed_wait_(failed_wait_min),
      busy_interval_(timing.heartbeat_busy),
      host_interval_(timing.heartbeat_busy) {}

void HostLink::move_to(PeerId peer, Mono now) {
    peer_ = peer;
    end(now);
}

void HostLink::say_hello(Hello hello, std::uint32_t attempt, Mono now) {
    attempt_ = attempt;
    hello.attempt = attempt;
    FrameWriter outside(frame_limit_);
    outside.add(hello);
    hello_ = outside.flush();
    awaiting_ = true;
    hello_at_ = now + hello_wait_;
    hello_wait_ = std::min(hello_wait_ * 2, std::max(hello_wait_max, timing_.heartbeat_busy));
}

HostLink::Input HostLink::receive(const Slice& bytes, Now now, Frame& frame) {
    auto decoded = decode_frame(bytes);
    if (!decoded) {
        if (!open_) return Input::stale;
        end(now.mono);
        return Input::broken;
    }
    frame = std::move(*decoded);
    if (frame.epoch == 0) return outside(frame, now.mono);
    if (!open_ && frame.number == 1 && frame.epoch != reader_.epoch()) reader_.start_session(frame.epoch, 1);
    switch (reader_.accept(frame)) {
        case FrameReader::Verdict::commands:
            if (!open_) return begin(frame, now.mono);
            heard_ = now.mono;
            return Input::commands;
        case FrameReader::Verdict::nothing:
            if (open_) heard_ = now.mono;
            return Input::nothing;
        case FrameReader::Verdict::other_epoch:
            return Input::stale;
        case FrameReader::Verdict::gap:
        case FrameReader::Verdict::malformed:
            break;
    }
    if (!open_) return Input::stale;
    end(now.mono);
    return Input::broken;
}

HostLink::Input HostLink::outside(const Frame& frame, Mono now) {
    if (frame.commands.empty()) return Input::stale;
    const Command& command = frame.commands.back();
    if (std::holds_alternative<Identify>(command)) {
        end(now);
        return Input::identify;
    }
    if (std::holds_alternative<Refusal>(command) && attempt_ != 0) {
        // An open session that is refused is not resumed at once, or two ends would chase each other.
        if (open_) end(now + timing_.heartbeat_busy);
        awaiting_ = false;
        return Input::refused;
    }
    return Input::stale;
}

HostLink::Input HostLink::begin(const Frame& frame, Mono now) {
    if (frame.commands.empty()) return Input::stale;
    const auto* welcome = std::get_if<Welcome>(&frame.commands.front());
    if (welcome == nullptr || attempt_ == 0 || welcome->attempt != attempt_) return Input::stale;
    open_ = true;
    awaiting_ = false;
    writer_.start_session(frame.epoch);
    hello_wait_ = timing_.heartbeat_busy;
    failed_wait_ = failed_wait_min;
    const auto told = std::chrono::milliseconds{std::min<std::uint64_t>(
        welcome->heartbeat_ms,
        static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(host_interval_max).count()))};
    host_interval_ = std::max<Duration>(told, timing_.heartbeat_busy);
    heard_ = now;
    sent_ = now;
    busy_ = false;
    return Input::welcome;
}

bool HostLink::send_failed(Mono now) {
    if (!open_ && !awaiting_) return false;
    const bool ended = open_;
    end(now + failed_wait_);
    failed_wait_ = std::min(failed_wait_ * 2, failed_wait_max);
    return ended;
}

void HostLink::end(Mono hello_at) {
    open_ = false;
    awaiting_ = false;
    hello_.clear();
    hello_at_ = hello_at;
}

void HostLink::set_busy(bool busy, Mono now) noexcept {
    if (busy && !busy_) busy_since_ = now;
    busy_ = busy;
}

bool HostLink::keep_alive(Mono now) {
    if (!open_) return false;
    if (now >= give_up_at()) {
        end(now);
        return true;
    }
    if (now - sent_ >= own_interval()) writer_.heartbeat();
    return false;
}

Mono HostLink::give_up_at() const noexcept {
    // A host that just learns that we are busy has been free to keep the longer interval until now.
    if (busy_) return std::max(heard_, busy_since_) + timing_.missed * host_interval_;
    return heard_ + timing_.missed * timing_.heartbeat_idle;
}

void HostLink::flush(std::vector<OutFrame>& out, Mono now) {
    const auto take = [&](std::vector<std::string>& frames) {
        for (auto& bytes : frames) out.push_back({peer_, std::move(bytes)});
        frames.clear();
    };
    take(hello_);
    if (!open_) return;
    auto frames = writer_.flush();
    if (!frames.empty()) sent_ = now;
    take(frames);
}

Mono HostLink::next_deadline() const noexcept {
    return open_ ? std::min(give_up_at(), sent_ + own_interval()) : hello_at_;
}

}  // namespace posthorn::protocol
