#include "subscriber_core.hpp"

#include <algorithm>
#include <exception>
#include <utility>

#include "envelope/envelope.hpp"
#include "random.hpp"
#include "real_time.hpp"
#include "transport/endpoint.hpp"

namespace posthorn::detail {

namespace {

void check(const std::string& topic, const Home& home, const pub_sub::SubscriberOptions& options) {
    if (!valid_queue_name(topic)) {
        throw Error("\"" + topic.substr(0, 200) +
                    "\" is not a topic's name: 1 to 200 of A-Z a-z 0-9 . _ -, not ending " + "in .dlq");
    }
    validate(options.match);
    if (home.is_here())
        throw Error("a subscriber does not host its topic: give at(endpoint of the publisher or a node), or " +
                    std::string{"SubscriberOptions.bind"});
    if (home.endpoints().empty() && options.bind.empty())
        throw Error("a subscriber needs at(endpoint of the publisher or a node), or SubscriberOptions.bind");
    if (options.buffer_messages == 0) throw Error("SubscriberOptions.buffer_messages is 0; give at least 1");
    if (options.buffer_bytes == 0) throw Error("SubscriberOptions.buffer_bytes is 0; give at least 1");
}

}  // namespace

SubscriberCore::SubscriberCore(Context& context, const std::string& topic, const Home& home,
                               const pub_sub::SubscriberOptions& options)
    : context_(context),
      loop_(context.loop()),
      topic_(topic),
      session_({.incarnation = random_identity(),
                .topic = topic,
                .name = options.name,
                .client = "posthorn",
                .bindings = options.match,
                .messages = options.buffer_messages,
                .bytes = options.buffer_bytes}) {
    check(topic, home, options);
    loop_.add(*this);
    try {
        for (const std::string& endpoint : options.bind) {
            endpoints_.push_back(loop_.bind(*this, endpoint));
            if (!transport::beyond_loopback(endpoints_.back())) continue;
            context_.log(LogLevel::warning, endpoints_.back() +
                                                " can be reached from beyond this machine, and there are no keys yet: "
                                                "whoever reaches it may give this subscriber messages");
        }
        for (const std::string& endpoint : home.endpoints()) loop_.connect(*this, endpoint);
    } catch (...) {
        loop_.remove(*this);
        throw;
    }
}

SubscriberCore::~SubscriberCore() {
    close();
}

// The loop ---------------------------------------------------------------------------------------------------------

void SubscriberCore::on_link(transport::PeerId peer, const std::string& endpoint) {
    const std::lock_guard lock(mutex_);
    session_.add_host(peer, endpoint);
}

void SubscriberCore::on_frame(transport::PeerId peer, Slice frame, Now now) {
    const std::lock_guard lock(mutex_);
    session_.receive(peer, frame, now);
}

Mono SubscriberCore::turn(Now now) {
    std::vector<protocol::OutFrame> frames;
    std::vector<Event> events;
    Mono deadline = never;
    {
        const std::lock_guard lock(mutex_);
        session_.turn(now);
        frames = session_.take_frames();
        events = session_.take_events();
        deadline = session_.next_deadline();
        if (takers_waiting_ > 0 && session_.waiting() > 0) changed_.notify_all();
        show_ready();
    }
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
    for (const Event& event : events) context_.emit(event);
    return deadline;
}

// Taking -----------------------------------------------------------------------------------------------------------

void SubscriberCore::be_used(Use use) {
    if (use_ != Use::undecided && use_ != use) {
        throw Error(use == Use::receive ? "receive(): this subscriber runs a handler; use one way or the other"
                                        : "run(): this subscriber's messages are received; use one way or the other");
    }
    use_ = use;
}

std::optional<Slice> SubscriberCore::take() {
    if (closed_) return std::nullopt;
    auto envelope = session_.next();
    if (session_.has_news()) loop_.wake(*this);
    return envelope;
}

void SubscriberCore::show_ready() {
    if (ready_) ready_->show(closed_ || session_.waiting() > 0);
}

int SubscriberCore::ready_fd() {
    const std::lock_guard lock(mutex_);
    be_used(Use::receive);
    if (!ready_) {
        ready_.emplace();
        show_ready();
    }
    return ready_->fd();
}

pub_sub::Received SubscriberCore::receive(Duration timeout) {
    const auto until = posthorn::detail::real_time(timeout);
    for (;;) {
        Lock lock(mutex_);
        be_used(Use::receive);
        if (session_.waiting() == 0 && !closed_ && !loop_.is_this_thread()) {
            ++takers_waiting_;
            (void)changed_.wait_until(lock, until, [&] { return session_.waiting() > 0 || closed_; });
            --takers_waiting_;
        }
        const auto bytes = take();
        show_ready();
        if (!bytes) return pub_sub::Received{closed_ ? Status::closed : Status::timed_out};
        lock.unlock();
        auto envelope = envelope::decode(bytes->view());
        if (envelope) return pub_sub::Received{std::move(envelope->message)};
        fault("a message of " + topic_ + " cannot be read");
    }
}

Status SubscriberCore::run(const pub_sub::MessageHandler& handler, const Until& until) {
    Lock lock(mutex_);
    if (running_) throw Error("run() is under way on another thread; it runs once at a time");
    be_used(Use::handler);
    if (closed_) return Status::closed;
    running_ = true;
    stopping_ = false;
    lock.unlock();
    {
        const std::stop_callback on_stop(until.token(), [this] {
            const std::lock_guard guard(mutex_);
            stopping_ = true;
            changed_.notify_all();
        });
        lock.lock();
        for (;;) {
            ++takers_waiting_;
            changed_.wait(lock, [&] { return session_.waiting() > 0 || closed_ || stopping_; });
            --takers_waiting_;
            const auto bytes = stopping_ ? std::nullopt : take();
            if (!bytes) break;
            lock.unlock();
            const auto envelope = envelope::decode(bytes->view());
            try {
                if (!envelope) throw Error("it cannot be read");
                handler(envelope->message);
            } catch (const std::exception& error) {
                fault("a message of " + topic_ + " was not handled: " + error.what());
            } catch (...) {  // a handler may throw anything
                fault("a message of " + topic_ + " was not handled: what was thrown is no std::exception");
            }
            lock.lock();
        }
        running_ = false;
        changed_.notify_all();
        lock.unlock();  // the callback's end may wait for the callback, which wants it
    }
    return Status::ok;
}

void SubscriberCore::fault(const std::string& text) {
    std::uint64_t count = 0;
    {
        const std::lock_guard lock(mutex_);
        count = ++faults_;
    }
    if (worth_a_word(count)) context_.emit({Event::Kind::dropped, topic_, text, count});
}

// The end ----------------------------------------------------------------------------------------------------------

void SubscriberCore::close() {
    {
        const std::lock_guard lock(mutex_);
        if (std::exchange(closed_, true)) return;
        changed_.notify_all();
        show_ready();
    }
    loop_.post([this] {
        std::vector<protocol::OutFrame> frames;
        {
            const std::lock_guard lock(mutex_);
            session_.bye(loop_.now());
            frames = session_.take_frames();
        }
        for (protocol::OutFrame& frame : frames) (void)loop_.send(frame.peer, std::move(frame.bytes));
    });
    loop_.remove(*this);  // after that
}

protocol::FeedSession::Counts SubscriberCore::counts() {
    const std::lock_guard lock(mutex_);
    return session_.counts();
}

std::size_t SubscriberCore::connected() {
    const std::lock_guard lock(mutex_);
    return closed_ ? 0 : session_.connected();
}

}  // namespace posthorn::detail
