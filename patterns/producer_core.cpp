#include "producer_core.hpp"

#include <algorithm>
#include <bit>
#include <chrono>
#include <ctime>
#include <set>
#include <string_view>
#include <utility>

#include <boost/uuid/name_generator_sha1.hpp>
#include <boost/uuid/string_generator.hpp>

#include "random.hpp"
#include "store/memory_store.hpp"
#include "store/sqlite_store.hpp"

namespace posthorn::detail {

namespace {

constexpr transport::PeerId local_peer = 0;      // the host beside us; no link ever has this name
constexpr std::size_t arena_kept = 1024 * 1024;  // bytes reserved for the next messages, at most
constexpr std::size_t refusals_kept = defaults::refusals_remembered;
constexpr std::size_t refused_words_kept = 100'000;  // 6.4 million sequences: whether, no longer why
constexpr int exchanges_per_turn = 100;              // with the host beside us; then others have their turn
constexpr int live_exchanges_per_turn = 2;           // fewer: its subscribers have to say that they have room
constexpr std::size_t envelope_overhead = 128;       // a guess at what is not payload, for the bound on bytes
constexpr std::size_t room_part = 8;                 // of the buffer: worth waking a sender at once
constexpr Duration room_delay = 1ms;
constexpr std::size_t paced_part = 2;          // of the buffer: with more not settled by a host in memory here, paced:
constexpr std::uint64_t paced_messages = 100;  // so many in each room_delay
constexpr std::uint64_t paced_bytes = 256 * 1024;

// To a few milliseconds: for people, and cheap enough for every message.
std::uint64_t timestamp_ms() {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME_COARSE, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1000 + static_cast<std::uint64_t>(now.tv_nsec) / 1'000'000;
}

// The id of a named producer: the same in every life, as clients in other languages can make it as well
// (docs/protocol.md).
Identity identity_of(const std::string& queue, const std::string& name) {
    const boost::uuids::uuid space = boost::uuids::string_generator{}("cf01eeef-7e5f-4e76-91cb-fe1dfaa16ab5");
    const boost::uuids::uuid id = boost::uuids::name_generator_sha1{space}(queue + "/" + name);
    Identity identity;
    std::copy(id.begin(), id.end(), identity.bytes.begin());
    return identity;
}

void check(const std::string& queue, const ProducerOptions& options) {
    if (!valid_queue_name(queue)) {
        throw Error("\"" + queue.substr(0, 200) +
                    "\" is not a queue name: 1 to 200 of A-Z a-z 0-9 . _ -, not ending in .dlq");
    }
    if (options.resume && options.name.empty()) throw Error("ProducerOptions.resume needs a name to resume under");
    if (options.buffer_messages == 0) throw Error("ProducerOptions.buffer_messages is 0; give at least 1");
    if (options.buffer_bytes == 0) throw Error("ProducerOptions.buffer_bytes is 0; give at least 1");
    if (options.send_timeout < Duration::zero()) throw Error("ProducerOptions.send_timeout is negative");
    if (options.close_timeout < Duration::zero()) throw Error("ProducerOptions.close_timeout is negative");
}

void check(const Here& home, const ProducerTraits& traits) {
    validate(home.queue);
    validate(home.live);
    if (traits.live && !home.store.empty()) throw Error("a live topic keeps nothing: leave Here.store out");
    if (!home.subscriptions.empty() && !traits.topic)
        throw Error("Here.subscriptions are for a topic; a queue has none");
    if (home.retain) {
        validate(*home.retain);
        if (!traits.topic) throw Error("Here.retain is for a topic; a queue has none");
        if (home.store.empty()) throw Error("Here.retain needs a store: give Here.store, or a node's topic");
    }
    std::set<std::string_view> names;
    for (const Subscription& one : home.subscriptions) {
        if (!valid_queue_name(one.name)) {
            throw Error("\"" + one.name.substr(0, 200) +
                        "\" is not a subscription's name: 1 to 200 of A-Z a-z 0-9 . _ -, not ending in .dlq");
        }
        if (one.name == retained_name) throw Error("Here.subscriptions: " + one.name + " is kept for retained topics");
        if (!names.insert(one.name).second) throw Error("Here.subscriptions has " + one.name + " twice");
        validate(one.bindings);
        if (one.policy) validate(*one.policy);
    }
}

}  // namespace

std::shared_ptr<ProducerCore> ProducerCore::make(Context& context, std::string queue, const Home& home,
                                                 ProducerOptions options, ProducerTraits traits) {
    check(queue, options);
    if (home.is_here()) check(home.options(), traits);
    std::shared_ptr<ProducerCore> core{
        new ProducerCore(context, std::move(queue), home, std::move(options), std::move(traits))};
    core->start(home);
    return core;
}

ProducerCore::ProducerCore(Context& context, std::string queue, const Home& home, ProducerOptions options,
                           ProducerTraits traits)
    : context_(context),
      loop_(context.loop()),
      queue_(std::move(queue)),
      traits_(std::move(traits)),
      options_(std::move(options)),
      host_keeps_(home.is_here() && home.options().store.empty()),
      producer_(options_.resume ? identity_of(queue_, options_.name) : random_identity()),
      session_({.producer = producer_,
                .incarnation = options_.resume ? random_identity() : Identity{},
                .queue = queue_,
                .name = options_.name,
                .client = "posthorn",
                .strict = traits_.strict,
                .topic = traits_.topic,
                .live = traits_.live,
                .watch = traits_.watch,
                .replies = traits_.replies,
                .keeps_replies = traits_.keeps_replies,
                .needs_replier = traits_.needs_replier,
                .host_keeps = host_keeps_}),
      place_(session_.place()) {}

ProducerCore::~ProducerCore() {
    end_session();
}

void ProducerCore::start(const Home& home) {
    if (home.is_here()) {
        host::Options options;
        options.incarnation = random_identity();
        options.seed = random_number();
        options.defaults = home.options().queue;
        options.only_queue = queue_;
        if (traits_.live) options.live[queue_] = home.options().live;
        if (traits_.topic) options.topics[queue_] = home.options().subscriptions;
        if (home.options().retain) options.retained[queue_] = *home.options().retain;
        for (const Subscription& one : home.options().subscriptions) {
            if (one.policy) options.queues[queue_ + "/" + one.name] = *one.policy;
        }
        host_ = make_host(std::move(options), home.options());
        host_->set_local([this] { loop_.wake(*this); });
        session_.add_link(local_peer, "the queue here");
        if (!home.options().bind.empty()) endpoint_ = host_->bind(home.options().bind);
        if (!traits_.local_endpoint.empty()) (void)host_->bind(traits_.local_endpoint);
        loop_.add(*this);
        for (const std::string& endpoint : home.options().connect) host_->connect(endpoint);
    } else {
        loop_.add(*this);
        for (const std::string& endpoint : home.endpoints()) loop_.connect(*this, endpoint);
    }
}

std::unique_ptr<HostOnLoop> ProducerCore::make_host(host::Options options, const Here& home) {
    if (home.store.empty()) {
        return std::make_unique<HostOnLoop>(context_, std::move(options), store::make_memory_store());
    }
    const auto folder = std::filesystem::absolute(home.store);  // wherever this process may go
    auto store = store::open_sqlite_store({.folder = folder, .min_free = home.min_free, .vfs = {}});
    try {
        return std::make_unique<HostOnLoop>(context_, std::move(options), std::move(store));
    } catch (const Error& error) {
        throw Error("the store in " + folder.string() + ": " + error.what());
    }
}

// Sending ----------------------------------------------------------------------------------------------------------

template <typename Done>
bool ProducerCore::wait_until(std::condition_variable& changed, int& waiting, std::unique_lock<std::mutex>& lock,
                              Duration timeout, Done done) {
    if (done()) return true;
    if (timeout <= Duration::zero() || loop_.is_this_thread()) return false;
    ++waiting;
    const bool ok = changed.wait_for(lock, std::min<Duration>(timeout, std::chrono::hours{24 * 365}), done);
    --waiting;
    return ok;
}

bool ProducerCore::has_room(std::size_t bytes) const {
    if (is_paced() && (pace_messages_ == 0 || pace_bytes_ == 0)) return false;
    const std::uint64_t messages = session_messages_ + sizes_.size();
    if (messages >= options_.buffer_messages) return false;
    return messages == 0 || session_bytes_ + arena_.size() + bytes <= options_.buffer_bytes;
}

// What a host here holds in memory takes no room of the buffer, or a subscription that is dead would stop everybody.
// But where nothing makes a sender wait it is quicker than any consumer, and takes the loop from them as well: paced,
// it leaves those that are alive the time to keep up.
bool ProducerCore::is_paced() const {
    if (!host_keeps_) return false;
    return open_.count() > options_.buffer_messages / paced_part ||
           unsafe_bytes_ + arena_.size() > options_.buffer_bytes / paced_part;
}

// Several that are sent together follow one another: while they wait for room in their midst, others wait for them.
Status ProducerCore::await_room(std::unique_lock<std::mutex>& lock, const Message& message, Sending& sending) {
    const std::size_t estimate = message.payload.size() + envelope_overhead;
    const auto room = [&] { return place_ && (sending.begun || !batch_) && has_room(estimate); };
    const auto over = [&] { return closing_ || closed_; };
    if (!over() && !room()) {
        const auto now = std::chrono::steady_clock::now();
        if (!sending.until) sending.until = now + options_.send_timeout;
        batch_ = batch_ || sending.begun;
        if (sending.begun || is_paced()) loop_.wake(*this);
        (void)wait_until(room_, senders_, lock, *sending.until - now, [&] { return over() || room(); });
    }
    if (over()) return Status::closed;
    if (room()) return Status::ok;
    return loop_.is_this_thread() ? Status::would_block : Status::timed_out;
}

Status ProducerCore::buffer(envelope::Envelope& envelope) {
    const std::size_t before = arena_.size();
    envelope.sequence = open_.last() + 1;
    envelope.previous = open_.last();
    envelope::encode(envelope, arena_);
    const std::size_t size = arena_.size() - before;
    if (size > defaults::message_limit) {
        arena_.resize(before);
        return Status::too_large;
    }
    open_.open_next();
    sizes_.push_back(static_cast<std::uint32_t>(size));
    if (is_paced()) {
        pace_messages_ -= std::min<std::uint64_t>(pace_messages_, 1);
        pace_bytes_ -= std::min<std::uint64_t>(pace_bytes_, size);
    }
    return Status::ok;
}

Ticket ProducerCore::send(std::span<Message> messages, const std::function<void(std::uint64_t)>& taken) {
    for (const Message& message : messages) {
        if (const auto fault = envelope::invalid(message)) throw Error("send: " + *fault);
    }
    envelope::Envelope envelope;
    envelope.producer = producer_;
    envelope.timestamp_ms = timestamp_ms();
    envelope.reply_to = traits_.replies;

    Ticket ticket;
    std::unique_lock lock(mutex_);
    Sending sending;
    bool first = false;
    for (Message& message : messages) {
        ticket.status_ = await_room(lock, message, sending);
        if (ticket.status_ != Status::ok) break;
        first = first || sizes_.empty();
        envelope.message = std::move(message);
        ticket.status_ = buffer(envelope);
        if (ticket.status_ != Status::ok) break;
        if (taken) taken(open_.last());
        if (!std::exchange(sending.begun, true)) ticket.first_ = open_.last();
        ticket.last_ = open_.last();
    }
    if (sending.begun && std::exchange(batch_, false)) room_.notify_all();
    lock.unlock();

    if (first) loop_.wake(*this);  // those that follow are taken along
    if (sending.begun || messages.empty()) ticket.core_ = shared_from_this();
    return ticket;
}

// The loop ---------------------------------------------------------------------------------------------------------

void ProducerCore::on_link(transport::PeerId peer, const std::string& endpoint) {
    session_.add_link(peer, endpoint);
}

void ProducerCore::on_frame(transport::PeerId peer, Slice frame, Now now) {
    session_.receive(peer, frame, now);
}

Mono ProducerCore::turn(Now /*begin*/) {
    take_offered();
    take_cancelled();
    const Now now = loop_.now();  // not before what was offered
    session_.turn(now);
    const Mono deadline = host_ ? exchange_with_host(now) : send_frames(now);
    return std::min(deadline, publish_news(now));
}

void ProducerCore::take_offered() {
    std::string arena;
    std::vector<std::uint32_t> sizes;
    {
        const std::lock_guard lock(mutex_);
        if (sizes_.empty()) return;
        arena.swap(arena_);
        sizes.swap(sizes_);
        arena_.reserve(std::min(arena.size(), arena_kept));
        sizes_.reserve(std::min(sizes.size(), arena_kept / sizeof(sizes.front())));
        session_messages_ += sizes.size();
        session_bytes_ += arena.size();
        unsafe_bytes_ += arena.size();
    }
    const auto owner = std::make_shared<const std::string>(std::move(arena));
    std::string_view rest = *owner;
    for (const std::uint32_t size : sizes) {
        session_.offer(Slice{owner, rest.substr(0, size)});
        rest.remove_prefix(size);
    }
}

void ProducerCore::take_cancelled() {
    std::vector<std::uint64_t> cancelled;
    {
        const std::lock_guard lock(mutex_);
        cancelled.swap(cancelled_);
    }
    for (const std::uint64_t sequence : cancelled) session_.cancel(sequence);
}

Mono ProducerCore::send_frames(Now now) {
    for (protocol::OutFrame& frame : session_.take_frames()) {
        if (!loop_.send(frame.peer, std::move(frame.bytes))) session_.send_failed(frame.peer, now);
    }
    return session_.next_deadline();
}

Mono ProducerCore::exchange_with_host(Now now) {
    const int most = traits_.live ? live_exchanges_per_turn : exchanges_per_turn;
    for (int done = 0; done < most; ++done) {
        std::vector<std::string> frames;
        for (protocol::OutFrame& frame : session_.take_frames()) frames.push_back(std::move(frame.bytes));
        Mono deadline = never;
        const std::vector<std::string> replies = host_->exchange(std::move(frames), now, deadline);
        if (replies.empty()) return std::min(deadline, session_.next_deadline());
        for (const std::string& reply : replies) session_.receive(local_peer, Slice{reply}, now);
        session_.turn(now);
    }
    return Mono::min();
}

// A sender that waits is woken for a good part of the buffer, or a little later for what there is: waking it for each
// message would cost more than the message.
Mono ProducerCore::tell_senders(Mono now) {
    if (senders_ > 0 && is_paced() && (pace_messages_ == 0 || pace_bytes_ == 0)) {
        if (now < pace_at_) return pace_at_;
        pace_at_ = now + room_delay;
        pace_messages_ = paced_messages;
        pace_bytes_ = paced_bytes;
        if (has_room(0)) room_.notify_all();
    }
    if (senders_ == 0 || !has_room(0)) {
        room_since_ = never;
        return never;
    }
    if (room_since_ == never) room_since_ = now;
    const bool plenty =
        session_messages_ + sizes_.size() <= options_.buffer_messages - options_.buffer_messages / room_part &&
        session_bytes_ + arena_.size() <= options_.buffer_bytes - options_.buffer_bytes / room_part;
    if (!plenty && now < room_since_ + room_delay) return room_since_ + room_delay;
    room_since_ = never;
    room_.notify_all();
    return never;
}

Mono ProducerCore::publish_news(Now now) {
    const protocol::ProducerSession::News news = session_.take_news();
    Mono again = never;
    bool changes = false;
    {
        const std::lock_guard lock(mutex_);
        for (const protocol::SequenceRange& range : news.safe) open_.close(range.first, range.last);
        for (const protocol::Refused& refused : news.refused) remember(refused);
        if (!forwards_.empty()) {
            for (const protocol::SequenceRange& range : news.safe) take_forwards(range.first, range.last, decided_);
            for (const protocol::Refused& one : news.refused) take_forwards(one.sequence, one.sequence, decided_);
        }
        session_messages_ = session_.kept_messages();
        session_bytes_ = session_.kept_bytes();
        unsafe_bytes_ = session_.unsafe_bytes();
        held_ = session_.held();
        durable_ = session_.durable();
        changes = connected_ != session_.connected() || consumers_ != session_.consumers() ||
                  fenced_ != session_.fenced() || place_ != session_.place();
        connected_ = session_.connected();
        consumers_ = session_.consumers();
        fenced_ = session_.fenced();
        waits_for_ = session_.waits_for();
        if (!news.events.empty()) capabilities_ = session_.capabilities();
        if (!place_ && session_.place()) {
            place_ = session_.place();
            open_.start_behind(*place_);
            room_.notify_all();
        }
        if (session_.fenced() && !closed_) {
            end_waits();
            take_forwards(0, open_.last(), decided_);
        }
        if (waiting_ > 0) changed_.notify_all();
        again = tell_senders(now.mono);
    }
    for (const Event& event : news.events) context_.emit(event);
    for (Forward& forward : decided_) ack_when(std::move(forward));
    decided_.clear();
    if (traits_.observer != nullptr) {
        for (const protocol::Refused& refused : news.refused) traits_.observer->on_refused(refused);
        if (changes) traits_.observer->on_change();
    }
    return again;
}

void ProducerCore::remember(const protocol::Refused& refused) {
    open_.close(refused.sequence, refused.sequence);
    ++refused_count_;
    constexpr auto bits = protocol::SequenceBits::word_bits;
    refused_bits_[refused.sequence / bits] |= std::uint64_t{1} << (refused.sequence % bits);
    refusals_[refused.sequence] = refused.code + ": " + refused.text;
    if (refusals_.size() > refusals_kept) refusals_.erase(refusals_.begin());
    if (refused_bits_.size() > refused_words_kept) refused_bits_.erase(refused_bits_.begin());
}

// 0: none of them.
std::uint64_t ProducerCore::first_refused(std::uint64_t first, std::uint64_t last) const {
    constexpr auto bits = protocol::SequenceBits::word_bits;
    for (auto it = refused_bits_.lower_bound(first / bits); it != refused_bits_.end() && it->first <= last / bits;
         ++it) {
        std::uint64_t word = it->second;
        if (it->first == first / bits) word &= ~std::uint64_t{0} << (first % bits);
        if (word == 0) continue;
        const std::uint64_t refused = it->first * bits + static_cast<std::uint64_t>(std::countr_zero(word));
        return refused <= last ? refused : 0;
    }
    return 0;
}

bool ProducerCore::any_open(std::uint64_t first, std::uint64_t last) const {
    const std::uint64_t next = open_.next_open(first);
    return next != 0 && next <= last;
}

// Asking -----------------------------------------------------------------------------------------------------------

Status ProducerCore::wait(std::uint64_t first, std::uint64_t last, Duration timeout) {
    std::unique_lock lock(mutex_);
    (void)wait_until(changed_, waiting_, lock, timeout, [&] { return closed_ || !any_open(first, last); });
    if (any_open(first, last)) return closed_ ? Status::closed : Status::timed_out;
    return first_refused(first, last) == 0 ? Status::ok : Status::rejected;
}

Level ProducerCore::level(std::uint64_t first, std::uint64_t last) {
    const std::lock_guard lock(mutex_);
    if (first_refused(first, last) != 0) return Level::none;
    if (!any_open(first, last)) return durable_ ? Level::stored : Level::settled;
    return last <= held_ ? Level::held : Level::none;
}

std::string ProducerCore::refusal(std::uint64_t first, std::uint64_t last) {
    const std::lock_guard lock(mutex_);
    const std::uint64_t refused = first_refused(first, last);
    if (refused == 0) return {};
    const auto it = refusals_.find(refused);
    return it != refusals_.end() ? it->second : "refused: too long ago to remember why";
}

std::optional<std::uint64_t> ProducerCore::resumed_at(Duration timeout) {
    std::unique_lock lock(mutex_);
    (void)wait_until(changed_, waiting_, lock, timeout, [&] { return closed_ || place_; });
    return place_;
}

void ProducerCore::cancel(std::uint64_t sequence) {
    {
        const std::lock_guard lock(mutex_);
        if (closed_) return;
        cancelled_.push_back(sequence);
    }
    loop_.wake(*this);
}

void ProducerCore::cancel_unless_held(std::uint64_t sequence) {
    {
        const std::lock_guard lock(mutex_);
        if (sequence <= held_) return;
    }
    cancel(sequence);
}

Status ProducerCore::wait_for_consumers(std::uint32_t count, Duration timeout) {
    std::unique_lock lock(mutex_);
    const auto over = [&] { return closing_ || closed_; };
    (void)wait_until(changed_, waiting_, lock, timeout, [&] { return over() || consumers_ >= count; });
    if (over()) return Status::closed;
    return consumers_ >= count ? Status::ok : Status::timed_out;
}

Status ProducerCore::flush(Duration timeout) {
    std::unique_lock lock(mutex_);
    const std::uint64_t last = open_.last();
    const auto done = [&] {
        const std::uint64_t oldest = open_.oldest();
        return oldest == 0 || oldest > last;
    };
    (void)wait_until(changed_, waiting_, lock, timeout, [&] { return closed_ || done(); });
    if (!done()) return closed_ ? Status::closed : Status::timed_out;
    return std::exchange(refused_reported_, refused_count_) == refused_count_ ? Status::ok : Status::rejected;
}

std::uint64_t ProducerCore::unconfirmed() {
    const std::lock_guard lock(mutex_);
    return open_.count();
}

std::uint64_t ProducerCore::refused() {
    const std::lock_guard lock(mutex_);
    return refused_count_;
}

bool ProducerCore::connected() {
    const std::lock_guard lock(mutex_);
    return connected_ && !closed_;
}

bool ProducerCore::fenced() {
    const std::lock_guard lock(mutex_);
    return fenced_;
}

std::optional<std::uint32_t> ProducerCore::consumers() {
    const std::lock_guard lock(mutex_);
    return consumers_;
}

std::string ProducerCore::waits_for() {
    const std::lock_guard lock(mutex_);
    return waits_for_;
}

std::vector<std::string> ProducerCore::capabilities() {
    const std::lock_guard lock(mutex_);
    return capabilities_;
}

// Forwarding -------------------------------------------------------------------------------------------------------

void ProducerCore::take_forwards(std::uint64_t first, std::uint64_t last, std::vector<Forward>& into) {
    const auto begin = forwards_.lower_bound(first);
    auto end = begin;
    for (; end != forwards_.end() && end->first <= last; ++end) into.push_back(std::move(end->second));
    forwards_.erase(begin, end);
}

// As wait() would answer. Empty: not decided yet; it is kept until then.
std::optional<Status> ProducerCore::fate_of(Forward& forward) {
    const std::lock_guard lock(mutex_);
    const std::uint64_t first = forward.ticket.first_;
    const std::uint64_t last = forward.ticket.last_;
    if (any_open(first, last)) {
        if (closed_) return Status::closed;
        forwards_.emplace_hint(forwards_.end(), open_.next_open(first), std::move(forward));
        return std::nullopt;
    }
    return first_refused(first, last) == 0 ? Status::ok : Status::rejected;
}

void ProducerCore::ack_when(Forward forward) {
    using protocol::Verdict;
    for (;;) {
        const Ticket ticket = forward.ticket;  // keeps its producer while that has the forward
        const auto fate = ticket.core_ ? ticket.core_->fate_of(forward) : Status::ok;
        if (!fate) return;
        Settlement settlement;
        if (*fate == Status::closed) {
            settlement.verdict = Verdict::release;
        } else if (*fate == Status::rejected) {
            settlement = {.verdict = Verdict::nack, .text = cut(ticket.refusal())};
        } else if (ticket.why_not_all() != Status::ok) {
            settlement = {.verdict = Verdict::nack,
                          .text = "not sent on: " + std::string{to_string(ticket.why_not_all())}};
        } else if (!forward.rest.empty()) {
            forward.ticket = std::move(forward.rest.back());
            forward.rest.pop_back();
            continue;
        }
        forward.sink->settle_handed_over(forward.handle, std::move(settlement));
        return;
    }
}

// The end ----------------------------------------------------------------------------------------------------------

// What is not decided by now will not be, as far as anybody here can know.
void ProducerCore::end_waits() {
    closed_ = true;
    changed_.notify_all();
    room_.notify_all();
}

std::uint64_t ProducerCore::close(Duration timeout) {
    const auto until = std::chrono::steady_clock::now() + std::min<Duration>(timeout, std::chrono::hours{24 * 365});
    std::unique_lock lock(mutex_);
    if (std::exchange(closing_, true)) return open_.count();
    room_.notify_all();
    changed_.notify_all();
    (void)wait_until(changed_, waiting_, lock, timeout, [&] { return closed_ || open_.count() == 0; });
    end_waits();
    const std::uint64_t left = open_.count();
    std::vector<Forward> undecided;
    take_forwards(0, open_.last(), undecided);
    lock.unlock();
    for (Forward& forward : undecided) ack_when(std::move(forward));
    if (host_ && traits_.live) {
        host_->wait_until_fed(until - std::chrono::steady_clock::now());
        goodbye_ = std::max<Duration>(goodbye_, until - std::chrono::steady_clock::now());
    }
    end_session();
    return left;
}

void ProducerCore::close_in_destructor() noexcept {
    {
        const std::lock_guard lock(mutex_);
        if (closing_) return;
    }
    const std::uint64_t left = close(options_.close_timeout);
    if (left == 0) return;
    context_.emit({Event::Kind::left_behind, queue_,
                   "a producer was closed before these messages were safe; give close() more time, or ask flush()",
                   left});
}

void ProducerCore::end_session() {
    if (std::exchange(ended_, true)) return;
    loop_.post([this] {
        const Now now = loop_.now();
        session_.bye(now);
        (void)(host_ ? exchange_with_host(now) : send_frames(now));
    });
    // A word to the workers. What they have settled and is not stored by then is confirmed to nobody, and comes again.
    if (host_) (void)host_->drain(1s, goodbye_);
    loop_.remove(*this);
    host_.reset();
}

}  // namespace posthorn::detail
