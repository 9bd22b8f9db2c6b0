#include "worker_core.hpp"

#include <algorithm>
#include <exception>
#include <thread>
#include <utility>

#include "envelope/envelope.hpp"
#include "random.hpp"
#include "real_time.hpp"
#include "transport/endpoint.hpp"

namespace posthorn::detail {

using protocol::Verdict;

namespace {

constexpr unsigned concurrency_max = 1000;
// With quick handlers settlements go in batches: a part of the window, so that the host always has room to go on, and
// never later than this.
constexpr std::size_t quick_batch = 16;
constexpr std::size_t gather_max = 1000;
constexpr Duration gather_time = 2ms;

std::uint64_t key(Handle handle) {
    return (std::uint64_t{handle.life} << 32U) | handle.slot;
}

void check(const std::string& queue, const Home& home, const ConsumerOptions& options) {
    const auto address = parse_address(queue);
    if (!address) {
        throw Error("\"" + queue.substr(0, 200) +
                    "\" is not a name: 1 to 200 of A-Z a-z 0-9 . _ -, not ending in .dlq, or two of them as "
                    "TOPIC/SUBSCRIPTION");
    }
    if (options.bindings) validate(*options.bindings);
    if (home.is_here()) {
        throw Error("a " + options.end + " does not host its queue: give at(endpoint of the other end or a node), or " +
                    options.options + ".bind");
    }
    if (home.endpoints().empty() && options.bind.empty()) {
        throw Error("a " + options.end + " needs at(endpoint of the other end or a node), or " + options.options +
                    ".bind");
    }
    if (options.concurrency == 0 || options.concurrency > concurrency_max) {
        throw Error(options.options + ".concurrency is " + std::to_string(options.concurrency) + "; give 1 to " +
                    std::to_string(concurrency_max));
    }
    if (options.prefetch > defaults::prefetch_max) {
        throw Error(options.options + ".prefetch is " + std::to_string(options.prefetch) + "; give at most " +
                    std::to_string(defaults::prefetch_max) + ", or 0 for one that adapts");
    }
    if (options.drain_timeout < Duration::zero()) throw Error(options.options + ".drain_timeout is negative");
}

void fire(std::vector<std::stop_source>& stops) {
    for (std::stop_source& stop : stops) stop.request_stop();
}

}  // namespace

std::shared_ptr<WorkerCore> WorkerCore::make(Context& context, std::string queue, const Home& home,
                                             ConsumerOptions options) {
    check(queue, home, options);
    std::shared_ptr<WorkerCore> core{new WorkerCore(context, std::move(queue), std::move(options), random_identity())};
    core->start(home);
    return core;
}

WorkerCore::WorkerCore(Context& context, std::string queue, ConsumerOptions options, Identity incarnation)
    : context_(context),
      loop_(context.loop()),
      options_(std::move(options)),
      session_({.incarnation = incarnation,
                .queue = std::move(queue),
                .name = options_.name,
                .client = "posthorn",
                .concurrency = options_.concurrency,
                .prefetch = options_.prefetch,
                .strict = options_.strict,
                .bindings = options_.bindings,
                .temporary = options_.temporary,
                .exclusive = options_.exclusive,
                .replier = options_.replier,
                .from = options_.from}),
      last_activity_(loop_.mono()) {}

WorkerCore::~WorkerCore() {
    close();
}

void WorkerCore::start(const Home& home) {
    loop_.add(*this);
    for (const std::string& endpoint : options_.bind) {
        endpoints_.push_back(loop_.bind(*this, endpoint));
        if (transport::beyond_loopback(endpoints_.back())) {
            context_.log(LogLevel::warning, endpoints_.back() +
                                                " can be reached from beyond this machine, and there are no keys yet: "
                                                "whoever reaches it may give this " +
                                                options_.end + " messages");
        }
    }
    for (const std::string& endpoint : home.endpoints()) loop_.connect(*this, endpoint);
}

// The loop ---------------------------------------------------------------------------------------------------------

void WorkerCore::on_link(transport::PeerId peer, const std::string& endpoint) {
    const std::lock_guard lock(mutex_);
    session_.add_host(peer, endpoint);
}

void WorkerCore::on_frame(transport::PeerId peer, Slice frame, Now now) {
    const std::lock_guard lock(mutex_);
    const std::size_t before = session_.unbegun();
    session_.receive(peer, frame, now);
    if (session_.unbegun() > before) last_activity_ = now.mono;
}

Mono WorkerCore::turn(Now now) {
    std::vector<protocol::OutFrame> frames;
    std::vector<Event> events;
    std::vector<std::stop_source> stops;
    Mono deadline = never;
    std::size_t to_wake = 0;
    bool over = false;
    {
        const std::lock_guard lock(mutex_);
        const std::size_t batch = std::exchange(gathered_, 0);
        gather_ = batch < quick_batch ? 1 : std::clamp<std::size_t>(session_.window() / 4, 1, gather_max);
        session_.turn(now);
        over = session_.over() && !std::exchange(over_, session_.over());
        stops = take_lost_stops();
        if (draining_) proceed_with_drain(now, stops);
        frames = session_.take_frames();
        events = session_.take_events();
        if (session_.can_begin(now.mono)) to_wake = full() ? 0 : std::min<std::size_t>(idle_, session_.unbegun());
        tell_synced();
        show_ready(now.mono);
        deadline = session_.next_deadline();
        if (gather_ > 1) deadline = std::min(deadline, now.mono + gather_time);
        if (draining_ && !cancelled_) deadline = std::min(deadline, drain_until_);
    }
    for (; to_wake > 0; --to_wake) work_.notify_one();
    std::vector<transport::PeerId> failed;
    for (protocol::OutFrame& frame : frames) {
        if (!loop_.send(frame.peer, std::move(frame.bytes))) failed.push_back(frame.peer);
    }
    if (!failed.empty()) {
        const std::lock_guard lock(mutex_);
        for (const transport::PeerId peer : failed) session_.send_failed(peer, now);
        for (Event& event : session_.take_events()) events.push_back(std::move(event));
        deadline = std::min(deadline, session_.next_deadline());
    }
    fire(stops);
    for (const Event& event : events) context_.emit(event);
    if (over) begin_drain(options_.drain_timeout);  // after it was said why
    return deadline;
}

void WorkerCore::wake_loop() {
    if (!closed_) loop_.wake(*this);
}

// Handlers ---------------------------------------------------------------------------------------------------------

void WorkerCore::work(const Handler& handler) {
    Lock lock(mutex_);
    Mono now = loop_.mono();
    while (auto begun = next(lock, now, RealTime::max())) {
        const Handle handle = begun->handle;
        lock.unlock();
        auto settlement = this->handle(handler, std::move(*begun));
        now = loop_.mono();
        lock.lock();
        if (!settlement) continue;
        (void)settle_locked(handle, std::move(*settlement), now);
        let_go(now);
    }
    if (--handlers_ == 0) wake_loop();  // drain() goes on
}

void WorkerCore::be_used(Use use) {
    if (use_ != Use::undecided && use_ != use) {
        throw Error(use == Use::receive
                        ? "receive(): this " + options_.end + " runs a handler; use one way or the other"
                        : "run(): this " + options_.end + "'s deliveries are received; use one way or the other");
    }
    use_ = use;
}

// Handlers are bounded by their threads, and those that move deliveries out know what they do.
bool WorkerCore::full() const {
    return use_ == Use::receive && begun_ >= options_.concurrency;
}

// Time alone makes a delivery one that may not be begun (its host is silent): then receive() finds out, so that a loop
// that asks until there is nothing is never told twice.
void WorkerCore::show_ready(Mono now) {
    if (ready_) ready_->show(draining_ || (!full() && session_.can_begin(now)));
}

int WorkerCore::ready_fd() {
    const std::lock_guard lock(mutex_);
    be_used(Use::receive);
    if (!ready_) {
        ready_.emplace();
        show_ready(loop_.mono());
    }
    return ready_->fd();
}

// Empty: there was none until then, or the worker drains.
std::optional<WorkerCore::Begun> WorkerCore::next(Lock& lock, Mono now, RealTime until) {
    while (!draining_) {
        if (!full()) {
            if (auto begun = session_.begin(now)) {
                if (answer_again(*begun, now)) continue;
                ++begun_;
                return begun;
            }
        }
        if (gathered_ > 0) wake_loop();  // nothing to do, so nothing to gather with
        if (std::chrono::steady_clock::now() >= until) break;
        ++idle_;
        work_.wait_until(lock, until);
        --idle_;
        now = loop_.mono();
    }
    return std::nullopt;
}

Received WorkerCore::receive(Duration timeout) {
    Lock lock(mutex_);
    be_used(Use::receive);
    auto begun = next(lock, loop_.mono(), real_time(timeout));
    show_ready(loop_.mono());
    if (!begun) return Received{draining_ ? Status::closed : Status::timed_out};
    lock.unlock();
    return Received{Delivery{
        std::make_unique<DeliveryState>(DeliveryState{.sink = shared_from_this(), .begun = *std::move(begun)})}};
}

// What the worker settles for the handler; empty: the handler did, or has given the delivery to somebody who will.
std::optional<Settlement> WorkerCore::handle(const Handler& handler, Begun begun) {
    Delivery delivery{
        std::make_unique<DeliveryState>(DeliveryState{.sink = shared_from_this(), .begun = std::move(begun)})};
    return DeliveryAccess::run(handler, delivery);
}

Status WorkerCore::settle_locked(Handle handle, Settlement settlement, Mono now) {
    if (ended_) return Status::closed;
    if (!stops_.empty()) stops_.erase(key(handle));
    if (!settlement.reply.empty()) remember(session_.offset_of(handle), settlement.reply);
    const bool in_time = session_.settle(handle, std::move(settlement), now);
    last_activity_ = now;
    if (++gathered_ >= gather_) wake_loop();
    return in_time ? Status::ok : Status::stale;
}

// True: it was a request that was answered before.
bool WorkerCore::answer_again(const Begun& begun, Mono now) {
    if (answers_.empty()) return false;
    const auto request = envelope::read_routing(begun.envelope.view());
    if (!request) return false;
    const auto answer = answers_.find({begun.offset, request->producer, request->sequence});
    if (answer == answers_.end()) return false;
    (void)session_.settle(begun.handle, {.reply = answer->second}, now);
    wake_loop();
    return true;
}

void WorkerCore::remember(std::uint64_t offset, const Slice& answer) {
    const auto request = envelope::read_routing(answer.view());
    if (!request) return;
    const RequestId id{offset, request->producer, request->sequence};
    if (!answers_.emplace(id, answer).second) return;
    answered_.push_back(id);
    answers_bytes_ += answer.size();
    while (answered_.size() > defaults::answers_remembered || answers_bytes_ > defaults::answers_remembered_bytes) {
        const auto oldest = answers_.find(answered_.front());
        answers_bytes_ -= oldest->second.size();
        answers_.erase(oldest);
        answered_.pop_front();
    }
}

// One less in the hands of those that began it. In strict order it has held up the next one.
void WorkerCore::let_go(Mono now) {
    if (full() || options_.strict) work_.notify_one();
    --begun_;
    show_ready(now);
}

Status WorkerCore::settle(Handle handle, Settlement settlement) {
    const std::lock_guard lock(mutex_);
    const Mono now = loop_.mono();
    const Status status = settle_locked(handle, std::move(settlement), now);
    let_go(now);
    return status;
}

void WorkerCore::hand_over(Handle handle) {
    const std::lock_guard lock(mutex_);
    const Mono now = loop_.mono();
    if (!stops_.empty()) stops_.erase(key(handle));
    session_.hand_over(handle, now);
    let_go(now);
    if (++gathered_ >= gather_) wake_loop();  // the window has grown
}

void WorkerCore::settle_handed_over(Handle handle, Settlement settlement) {
    const std::lock_guard lock(mutex_);
    const Mono now = loop_.mono();
    (void)settle_locked(handle, std::move(settlement), now);
    if (!options_.strict) return;
    work_.notify_one();  // it has held up the next one
    show_ready(now);
}

Status WorkerCore::settle_and_wait(Handle handle, Settlement settlement, Duration timeout) {
    Lock lock(mutex_);
    const std::uint64_t number = settlement.sync = ++last_sync_;
    const Mono now = loop_.mono();
    const Status status = settle_locked(handle, std::move(settlement), now);
    let_go(now);
    if (status != Status::ok) return status;
    wake_loop();
    const auto entry = syncs_.emplace(number, Status::timed_out).first;
    if (!loop_.is_this_thread()) {
        (void)synced_cv_.wait_until(lock, real_time(timeout),
                                    [&] { return entry->second != Status::timed_out || ended_; });
    }
    const Status answer = entry->second == Status::timed_out && ended_ ? Status::closed : entry->second;
    syncs_.erase(entry);
    return answer;
}

void WorkerCore::tell_synced() {
    for (const auto& synced : session_.take_synced()) {
        const auto it = syncs_.find(synced.number);
        if (it != syncs_.end()) it->second = synced.safe ? Status::ok : Status::stale;
    }
    if (!syncs_.empty()) synced_cv_.notify_all();
}

void WorkerCore::extend(Handle handle, Duration lease) {
    const std::lock_guard lock(mutex_);
    session_.extend(handle, lease, loop_.mono());
    wake_loop();
}

std::stop_token WorkerCore::stop_token(Handle handle) {
    const std::lock_guard lock(mutex_);
    if (cancelled_ || closed_ || session_.is_lost(handle)) {
        std::stop_source over;
        over.request_stop();
        return over.get_token();
    }
    return stops_[key(handle)].get_token();
}

std::vector<std::stop_source> WorkerCore::take_lost_stops() {
    std::vector<std::stop_source> stops;
    for (const Handle handle : session_.take_lost()) {
        if (const auto it = stops_.find(key(handle)); it != stops_.end()) stops.push_back(it->second);
    }
    return stops;
}

std::vector<std::stop_source> WorkerCore::take_stops() {
    std::vector<std::stop_source> stops;
    for (auto& [handle, stop] : stops_) stops.push_back(stop);
    return stops;
}

// The end ----------------------------------------------------------------------------------------------------------

Status WorkerCore::run(const Handler& handler, const Until& until) {
    {
        const std::lock_guard lock(mutex_);
        if (running_) throw Error("run() is under way on another thread; it runs once at a time");
        be_used(Use::handlers);
        if (draining_ || closed_) return Status::closed;
        running_ = true;
        handlers_ = options_.concurrency;
    }
    {
        std::vector<std::jthread> threads;
        const std::stop_callback on_stop(until.token(), [this] { begin_drain(options_.drain_timeout); });
        try {
            for (unsigned i = 1; i < options_.concurrency; ++i) threads.emplace_back([&] { work(handler); });
        } catch (const std::system_error& error) {
            {
                const std::lock_guard lock(mutex_);
                handlers_ -= options_.concurrency - static_cast<unsigned>(threads.size());
                running_ = false;
            }
            begin_drain(Duration::zero());
            threads.clear();
            throw Error(std::string{"cannot start handler threads: "} + error.what() + "; lower " + options_.options +
                        ".concurrency");
        }
        work(handler);
    }
    Lock lock(mutex_);
    ended_cv_.wait(lock, [&] { return ended_; });
    running_ = false;
    ended_cv_.notify_all();
    if (over_) return Status::closed;
    return cancelled_ ? Status::timed_out : Status::ok;
}

void WorkerCore::begin_drain(Duration timeout) {
    const Mono now = loop_.mono();
    const std::lock_guard lock(mutex_);
    const Mono until = timeout > never - now ? never : now + timeout;
    drain_until_ = draining_ ? std::min(drain_until_, until) : until;
    if (!std::exchange(draining_, true)) session_.drain(now);
    show_ready(now);
    work_.notify_all();
    wake_loop();
}

// On the loop: bye once everything begun is settled and every settlement is safe, or once that has taken too long and
// no handler runs any more.
void WorkerCore::proceed_with_drain(Now now, std::vector<std::stop_source>& stops) {
    if (ended_) return;
    const bool quiet = session_.quiet();
    if (!quiet && !cancelled_ && now.mono >= drain_until_) {
        cancelled_ = true;
        const auto all = take_stops();
        stops.insert(stops.end(), all.begin(), all.end());
    }
    if (handlers_ > 0 || !(quiet || cancelled_)) return;
    session_.bye(now);
    ended_ = true;
    synced_cv_.notify_all();
    ended_cv_.notify_all();
}

Status WorkerCore::drain(Duration timeout) {
    begin_drain(timeout);
    Lock lock(mutex_);
    (void)ended_cv_.wait_until(lock, real_time(drain_until_ - loop_.mono()), [&] { return ended_; });
    return ended_ && !cancelled_ ? Status::ok : Status::timed_out;
}

void WorkerCore::close() {
    {
        const std::lock_guard lock(mutex_);
        if (closed_) return;
    }
    begin_drain(Duration::zero());
    {
        // Without handlers the loop says bye at once.
        Lock lock(mutex_);
        (void)ended_cv_.wait_for(lock, 1s, [&] { return ended_ || handlers_ > 0; });
    }
    loop_.remove(*this);
    const std::lock_guard lock(mutex_);
    closed_ = true;
    ended_ = true;
    work_.notify_all();
    synced_cv_.notify_all();
    ended_cv_.notify_all();
}

bool WorkerCore::connected() {
    const std::lock_guard lock(mutex_);
    return !closed_ && session_.connected();
}

bool WorkerCore::idle() {
    const std::lock_guard lock(mutex_);
    return session_.quiet();
}

bool WorkerCore::host_empty() {
    const std::lock_guard lock(mutex_);
    return session_.hosts_empty();
}

Duration WorkerCore::since_last_activity() {
    const std::lock_guard lock(mutex_);
    return loop_.mono() - last_activity_;
}

std::vector<std::string> WorkerCore::capabilities() {
    const std::lock_guard lock(mutex_);
    return session_.capabilities();
}

}  // namespace posthorn::detail
