#include "protocol/producer_session.hpp"

#include <algorithm>
#include <bit>
#include <optional>
#include <utility>
#include <variant>

#include "envelope/envelope.hpp"

namespace posthorn::protocol {

namespace {

constexpr std::size_t cancelled_at_once = 10'000;  // far below the entries that a frame may have
constexpr std::size_t frame_bytes = 64 * 1024;     // of envelopes: small enough to be worked on while the next is made
constexpr std::size_t turn_bytes = 1024 * 1024;    // of envelopes: then others on the loop have their turn
constexpr std::uint64_t thin_after_words = 256;    // envelopes so far behind the newest are looked at ...
constexpr int thin_at = 16;                        // ... and copied when so few of a word are left
constexpr std::string_view fenced_code = "fenced";
constexpr int hellos_per_link = 2;  // without an answer, then the next endpoint is tried

// What it follows is told only where it is not the sequence before.
Slice following(const Slice& bytes, std::uint64_t previous) {
    auto decoded = envelope::decode(bytes.view());
    if (!decoded) return bytes;  // the host will say what it thinks of it
    decoded->previous = previous;
    std::string encoded;
    envelope::encode(*decoded, encoded);
    return Slice{std::move(encoded)};
}

}  // namespace

ProducerSession::ProducerSession(Options options) : options_(std::move(options)) {
    if (options_.incarnation.is_zero()) place_ = 0;
}

void ProducerSession::add_link(PeerId peer, std::string label) {
    links_.push_back({HostLink{peer, options_.timing, options_.frame_limit, options_.message_limit + command_room},
                      std::move(label)});
}

void ProducerSession::offer(Slice envelope) {
    const std::uint64_t sequence = open_.open_next();
    const std::uint64_t word = sequence / SequenceBits::word_bits;
    unsafe_bytes_ += envelope.size();
    ++kept_messages_;
    kept_bytes_ += envelope.size();
    if (bodies_.empty() || bodies_.rbegin()->first != word) {
        bodies_.emplace_hint(bodies_.end(), std::piecewise_construct, std::tuple{word}, std::tuple{});
        if (word >= thin_after_words) thin(word - thin_after_words, open_.word(word - thin_after_words));
    }
    Bodies& bodies = bodies_.rbegin()->second;
    bodies.sizes[sequence % SequenceBits::word_bits] = static_cast<std::uint32_t>(envelope.size());
    bodies.envelopes[sequence % SequenceBits::word_bits] = std::move(envelope);
}

void ProducerSession::receive(PeerId peer, const Slice& bytes, Now now) {
    if (fenced_) return;
    Link* link = current();
    if (link == nullptr || link->host.peer() != peer) {
        drop();
        return;
    }
    link->host.hear(
        bytes, now, [&] { drop(); }, [&](const Frame& frame) { handle(frame, now); },
        [&](const Refusal& refusal, bool /*was_open*/) { session_refused(refusal); },
        [&](const char* why) { lost(why); });
}

void ProducerSession::handle(const Frame& frame, Now now) {
    for (const Command& command : frame.commands) {
        handle(command, now);
        if (!connected()) return;
    }
    for (const Unknown& unknown : frame.unknown) {
        event(Event::Kind::dropped,
              "the host sent the command \"" + unknown.name + "\", which this version does not know", 1);
    }
}

void ProducerSession::handle(const Command& command, Now now) {
    if (const auto* confirmed = std::get_if<Confirm>(&command)) {
        confirm(*confirmed);
    } else if (const auto* credit = std::get_if<Credit>(&command)) {
        credit_ = *credit;
    } else if (const auto* peers = std::get_if<Peers>(&command)) {
        consumers_ = peers->consumers;
    } else if (const auto* greeting = std::get_if<Welcome>(&command)) {
        welcome(*greeting);
    } else if (const auto* refusal = std::get_if<Refusal>(&command)) {
        if (refusal->code == fenced_code) {
            fence(*refusal);
            return;
        }
        current()->host.end(now.mono + options_.timing.heartbeat_busy);
        lost("the host ended the session: " + refusal->code + ": " + refusal->text);
    } else if (const auto* bye = std::get_if<Bye>(&command)) {
        said_bye(*bye, now);
    }
}

void ProducerSession::welcome(const Welcome& welcome) {
    Link& link = *current();
    link.hellos = 0;
    last_refusal_.clear();
    durable_ = welcome.durable;
    capabilities_ = welcome.capabilities;
    message_limit_ = welcome.message_limit == 0 ? options_.message_limit : welcome.message_limit;
    credit_ = {};
    consumers_.reset();
    sent_messages_ = 0;
    sent_bytes_ = 0;
    if (durable_ && welcome.stored < link.stored) {
        event(Event::Kind::store_lost_confirmed,
              link.label + ": had called everything up to " + std::to_string(link.stored) +
                  " stored and now knows of " + std::to_string(welcome.stored) +
                  "; look at the node's log and its data folder",
              link.stored - welcome.stored);
    }
    const std::uint64_t watermark = std::min(welcome.watermark, open_.last());
    held_ = options_.host_keeps ? std::max(held_, watermark) : watermark;
    stored_ = std::min(welcome.stored, held_);
    sent_ = held_;
    published_ = held_;
    for (const std::uint64_t sequence : std::exchange(said_cancelled_, {})) {
        if (sequence > held_) cancelled_.push_back(sequence);  // it is sent again
    }
    refuse(welcome.refused);
    leave_to_host();
    link.stored = durable_ ? stored_ : 0;
    if (durable_) make_safe(1, stored_);
    event(was_connected_ ? Event::Kind::resumed : Event::Kind::connected,
          link.label + (was_connected_ ? ": the session is back, " : ": connected, ") + std::to_string(open_.count()) +
              " messages are not yet safe",
          open_.count());
    was_connected_ = true;
}

void ProducerSession::confirm(const Confirm& confirm) {
    held_ = std::max(held_, std::min(confirm.held, sent_));
    refuse(confirm.refused);
    leave_to_host();
    if (durable_) {
        stored_ = std::max(stored_, std::min(confirm.stored, sent_));
        current()->stored = stored_;
        make_safe(1, stored_);
    } else {
        for (const SequenceRange& range : confirm.settled) make_safe(range.first, std::min(range.last, sent_));
    }
    if (confirm.resume && !place_) begin_at(*confirm.resume);
}

void ProducerSession::begin_at(std::uint64_t place) {
    place_ = place;
    open_.start_behind(place);
    held_ = stored_ = sent_ = published_ = place;
    current()->stored = durable_ ? place : 0;
}

void ProducerSession::refuse(const std::vector<Refused>& refused) {
    const Refused* last = nullptr;
    std::uint64_t count = 0;
    for (const Refused& one : refused) {
        const bool former = !place_;  // a life before may have died without knowing
        if (!former && !open_.is_open(one.sequence)) continue;
        ++count;
        last = &one;
        if (former) continue;
        close(one.sequence, one.sequence);
        news_.refused.push_back(one);
    }
    if (count == 0) return;
    event(Event::Kind::refused,
          std::to_string(count) + (place_ ? " messages" : " messages that were sent under this name before") +
              " were refused: " + last->code + ": " + last->text,
          count, last->code);
}

void ProducerSession::fence(const Refusal& refusal) {
    fenced_ = true;
    const std::string& label = current()->label;
    for (Link& link : links_) link.host.end(never);
    event(Event::Kind::refused,
          label + ": " + refusal.code + ": " + refusal.text + "; nothing more is sent, and " +
              std::to_string(open_.count()) + " messages are not known to be safe",
          open_.count(), refusal.code);
}

void ProducerSession::session_refused(const Refusal& refusal) {
    if (refusal.code == fenced_code) {
        fence(refusal);
        return;
    }
    std::string text = refusal.code + ": " + refusal.text;
    if (text != last_refusal_) {  // once, however often it is tried again
        event(Event::Kind::refused, current()->label + ": the session was refused: " + text, 0, refusal.code);
        last_refusal_ = std::move(text);
    }
    next_link();
}

void ProducerSession::said_bye(const Bye& bye, Now now) {
    const std::chrono::milliseconds told{std::min<std::uint64_t>(bye.retry_after_ms, bye_wait_max.count())};
    HostLink& host = current()->host;
    if (host.open()) {
        host.add(Bye{.answer = true});
        host.flush(out_, now.mono);
    }
    host.end(now.mono + std::max(told, bye_wait_min));
    lost("the host has gone for a while" + (bye.text.empty() ? std::string{} : ": " + bye.text));
}

void ProducerSession::make_safe(std::uint64_t first, std::uint64_t last) {
    const std::uint64_t start = open_.next_open(first);
    if (start == 0 || start > last) return;
    news_.safe.push_back({start, last});
    close(start, last);
}

void ProducerSession::close(std::uint64_t first, std::uint64_t last) {
    open_.close(first, last, [this](std::uint64_t word, std::uint64_t closed, std::uint64_t left) {
        const auto it = bodies_.find(word);
        for (std::uint64_t bits = closed; bits != 0; bits &= bits - 1) {
            const auto place = static_cast<std::size_t>(std::countr_zero(bits));
            unsafe_bytes_ -= it->second.sizes[place];
            let_go(it->second.envelopes[place]);
        }
        if (left == 0) {
            bodies_.erase(it);
        } else {
            thin(word, left);
        }
    });
}

void ProducerSession::let_go(Slice& envelope) {
    if (envelope.empty()) return;
    --kept_messages_;
    kept_bytes_ -= envelope.size();
    envelope.reset();
}

void ProducerSession::leave_to_host() {
    if (!options_.host_keeps) return;
    constexpr auto bits = SequenceBits::word_bits;
    for (auto it = bodies_.lower_bound((left_ + 1) / bits); it != bodies_.end() && it->first <= held_ / bits; ++it) {
        const std::uint64_t begin = it->first * bits;
        const std::uint64_t last = std::min(begin + bits - 1, held_);
        for (std::uint64_t sequence = std::max(begin, left_ + 1); sequence <= last; ++sequence) {
            let_go(it->second.envelopes[sequence % bits]);
        }
    }
    left_ = held_;
}

// Envelopes share their memory with those that were offered at the same time. A few that stay open for long must
// not keep all of it.
void ProducerSession::thin(std::uint64_t word, std::uint64_t open_bits) {
    const std::uint64_t newest = open_.last() / SequenceBits::word_bits;
    if (word + thin_after_words > newest || std::popcount(open_bits) > thin_at) return;
    const auto it = bodies_.find(word);
    if (it == bodies_.end() || it->second.own) return;
    it->second.own = true;
    for (std::uint64_t bits = open_bits; bits != 0; bits &= bits - 1) {
        Slice& envelope = it->second.envelopes[static_cast<std::size_t>(std::countr_zero(bits))];
        if (!envelope.empty()) envelope = Slice{std::string{envelope.view()}};
    }
}

void ProducerSession::lost(const std::string& why) {
    event(Event::Kind::lost,
          current()->label + ": " + why + "; " + std::to_string(open_.count()) + " messages wait for it to come back",
          open_.count());
    next_link();
}

void ProducerSession::next_link() {
    credit_ = {};
    links_[current_].hellos = 0;
    current_ = (current_ + 1) % links_.size();
}

void ProducerSession::send_failed(PeerId peer, Now now) {
    Link* link = current();
    if (fenced_ || link == nullptr || link->host.peer() != peer) return;
    if (link->host.send_failed(now.mono)) {
        lost("the link is gone");
    } else if (link->hellos > 0) {
        next_link();
    }
}

void ProducerSession::say_hello(Link& link, Now now) {
    Hello hello;
    hello.role = Role::producer;
    hello.address = options_.queue;
    hello.name = options_.name;
    const bool named = !options_.incarnation.is_zero();
    hello.incarnation = named ? options_.incarnation : options_.producer;
    if (named) hello.producer = options_.producer;
    hello.resumed = named && place_.has_value();
    hello.confirmed = confirmed();
    hello.oldest = open_.oldest();
    hello.client = options_.client;
    hello.strict = options_.strict;
    hello.topic = options_.topic;
    hello.live = options_.live;
    hello.watch = options_.watch;
    hello.replies = options_.replies;
    hello.keeps_replies = options_.keeps_replies;
    hello.needs_replier = options_.needs_replier;
    link.host.say_hello(std::move(hello), ++attempts_, now.mono);
    ++link.hellos;
}

void ProducerSession::turn(Now now) {
    if (links_.empty() || fenced_) return;
    if (current()->host.keep_alive(now.mono)) {
        lost("nothing was heard of the host for too long");
    }
    if (links_.size() > 1 && current()->hellos >= hellos_per_link && current()->host.hello_due(now.mono)) next_link();
    Link& link = *current();
    if (link.host.hello_due(now.mono)) say_hello(link, now);
    if (link.host.open()) publish(link.host, now);
    if (link.host.open()) say_cancelled(link.host);
    const std::uint64_t oldest = open_.oldest();
    link.host.set_busy(!place_ || (oldest != 0 && oldest <= sent_), now.mono);
    link.host.flush(out_, now.mono);
}

// Those that were sent; the others wait until they are.
void ProducerSession::say_cancelled(HostLink& host) {
    if (cancelled_.empty()) return;
    std::erase_if(said_cancelled_, [this](std::uint64_t sequence) { return sequence <= held_; });
    Cancel cancel;
    std::erase_if(cancelled_, [&](std::uint64_t sequence) {
        if (sequence > sent_) return false;
        cancel.requests.push_back({sequence, sequence});
        if (sequence > held_) said_cancelled_.push_back(sequence);
        if (cancel.requests.size() == cancelled_at_once) host.add(std::exchange(cancel, {}));
        return true;
    });
    if (!cancel.requests.empty()) host.add(cancel);
}

// The last one may be larger than what is left: else one that is larger than any credit would never go.
bool ProducerSession::may_send() const {
    return sent_messages_ < credit_.messages && sent_bytes_ < credit_.bytes;
}

void ProducerSession::publish(HostLink& host, Now now) {
    Publish batch;
    std::size_t batch_bytes = 0;
    std::size_t turn_left = turn_bytes;
    std::vector<Refused> too_large;
    auto bodies = bodies_.end();
    const auto send_batch = [&] {
        if (batch.envelopes.empty()) return;
        host.add(std::exchange(batch, {}));
        host.flush(out_, now.mono);
        batch_bytes = 0;
    };

    more_to_send_ = false;
    open_.visit_open(sent_ + 1, [&](std::uint64_t sequence) {
        const std::uint64_t word = sequence / SequenceBits::word_bits;
        if (bodies == bodies_.end() || bodies->first != word) bodies = bodies_.find(word);
        Slice envelope = bodies->second.envelopes[sequence % SequenceBits::word_bits];
        if (envelope.size() > message_limit_) {
            too_large.push_back({sequence, "too_large",
                                 std::to_string(envelope.size()) + " bytes, and the host takes messages up to " +
                                     std::to_string(message_limit_)});
            sent_ = sequence;
            return true;
        }
        if (sequence != published_ + 1) envelope = following(envelope, published_);
        const std::size_t size = envelope.size();
        if (!may_send()) return false;
        if (size > turn_left) {
            more_to_send_ = turn_left < turn_bytes;
            if (more_to_send_) return false;
        }
        if (batch_bytes + size > frame_bytes) send_batch();
        turn_left -= std::min(size, turn_left);
        batch_bytes += size;
        batch.envelopes.push_back(std::move(envelope));
        sent_ = published_ = sequence;
        ++sent_messages_;
        sent_bytes_ += size;
        return true;
    });
    send_batch();
    refuse(too_large);
}

void ProducerSession::bye(Now now) {
    for (Link& link : links_) {
        if (link.host.open()) {
            link.host.add(Bye{});
            link.host.flush(out_, now.mono);
        }
        link.host.end(never);
    }
}

std::vector<OutFrame> ProducerSession::take_frames() {
    return std::exchange(out_, {});
}

ProducerSession::News ProducerSession::take_news() {
    return std::exchange(news_, {});
}

Mono ProducerSession::next_deadline() const {
    if (links_.empty() || fenced_) return never;
    const HostLink& host = links_[current_].host;
    return host.open() && more_to_send_ ? Mono::min() : host.next_deadline();
}

bool ProducerSession::connected() const noexcept {
    return !links_.empty() && links_[current_].host.open();
}

std::optional<std::uint32_t> ProducerSession::consumers() const noexcept {
    return connected() ? consumers_ : std::nullopt;
}

std::uint64_t ProducerSession::confirmed() const {
    const std::uint64_t oldest = open_.oldest();
    return oldest == 0 ? open_.last() : oldest - 1;
}

void ProducerSession::drop() {
    if (worth_a_word(++dropped_)) event(Event::Kind::dropped, "frames that are not of this session", dropped_);
}

void ProducerSession::event(Event::Kind kind, std::string text, std::uint64_t count, std::string code) {
    news_.events.push_back({kind, options_.queue, std::move(text), count, std::move(code)});
}

}  // namespace posthorn::protocol
