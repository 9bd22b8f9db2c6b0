#include "host_on_loop.hpp"

#include <algorithm>
#include <utility>

#include "transport/endpoint.hpp"

namespace posthorn {

namespace {

constexpr int jobs_per_turn = 64;         // of a store that runs them at once; then others on the loop have their turn
constexpr Duration greet_again = 1s;      // while nobody answers
constexpr Duration greet_failed = 100ms;  // while the link is not up
constexpr Duration greet_silent = defaults::heartbeat_idle + 1s;  // a session is never silent for so long

EventHook or_context(EventHook hook, const Context& context) {
    if (hook) return hook;
    return [&context](const Event& event) { context.emit(event); };
}

}  // namespace

HostOnLoop::HostOnLoop(Context& context, host::Options options, std::unique_ptr<store::Store> store)
    : context_(context),
      loop_(context.loop()),
      on_event_(or_context(std::move(options.on_event), context)),
      store_(std::move(store)) {
    options.on_event = on_event_;
    if (!options.log) options.log = [&context](LogLevel level, std::string_view line) { context.log(level, line); };
    host_.emplace(std::move(options), *store_, loop_.now());
    if (store_->durable()) {
        commits_ = std::make_unique<store::CommitThread>(*store_, [this] { loop_.wake(*this); });
    }
    loop_.add(*this);
}

HostOnLoop::~HostOnLoop() {
    loop_.remove(*this);
    commits_.reset();
}

std::string HostOnLoop::bind(const std::string& endpoint) {
    std::string bound = loop_.bind(*this, endpoint);
    if (transport::beyond_loopback(bound)) {
        context_.log(LogLevel::warning, bound +
                                            " can be reached from beyond this machine, and there are no keys yet: "
                                            "whoever reaches it may send and take messages");
    }
    return bound;
}

void HostOnLoop::connect(const std::string& endpoint) {
    loop_.connect(*this, endpoint);
}

void HostOnLoop::wait_until_fed(Duration timeout) {
    if (timeout <= Duration::zero() || loop_.is_this_thread()) return;
    loop_.post([this] {
        host_->ask_arrival();
        loop_.wake(*this);
    });
    std::unique_lock lock(mutex_);
    ++waiting_fed_;
    all_fed_ = false;
    (void)fed_.wait_for(lock, timeout, [this] { return all_fed_; });
    --waiting_fed_;
}

bool HostOnLoop::drain(std::chrono::milliseconds retry_after, Duration timeout) {
    loop_.post([this, retry_after] {
        host_->drain(retry_after, loop_.now());
        const std::lock_guard lock(mutex_);
        draining_ = true;
        loop_.wake(*this);
    });
    std::unique_lock lock(mutex_);
    return drained_.wait_for(lock, timeout, [this] { return idle_; });
}

void HostOnLoop::set_local(std::function<void()> frames_wait) {
    frames_wait_ = std::move(frames_wait);
}

std::vector<std::string> HostOnLoop::exchange(std::vector<std::string> frames, Now now, Mono& deadline) {
    for (std::string& frame : frames) host_->receive(0, Slice{std::move(frame)}, now);
    deadline = pump(now);
    return std::exchange(local_, {});
}

void HostOnLoop::on_frame(transport::PeerId peer, Slice frame, Now now) {
    greet_at(peer, now.mono + greet_silent);
    host_->receive(peer, frame, now);
}

void HostOnLoop::on_link(transport::PeerId peer, const std::string& /*endpoint*/) {
    outgoing_.push_back({peer});
}

void HostOnLoop::greet_at(transport::PeerId peer, Mono at) {
    for (Outgoing& link : outgoing_) {
        if (link.peer == peer) link.greet_at = at;
    }
}

void HostOnLoop::greet(Now now) {
    for (Outgoing& link : outgoing_) {
        if (now.mono < link.greet_at) continue;
        link.greet_at = now.mono + greet_again;
        host_->greet(link.peer);
    }
}

Mono HostOnLoop::turn(Now now) {
    const Mono deadline = pump(now);
    if (!local_.empty()) frames_wait_();
    return deadline;
}

Mono HostOnLoop::pump(Now now) {
    greet(now);
    host_->turn(now);
    run_jobs(now);
    send_frames(now);
    const std::lock_guard lock(mutex_);
    if (draining_ && !idle_ && host_->idle()) {
        idle_ = true;
        drained_.notify_all();
    }
    if (waiting_fed_ > 0 && host_->all_arrived()) {
        all_fed_ = true;
        fed_.notify_all();
    }
    Mono deadline = host_->next_deadline();
    for (const Outgoing& link : outgoing_) deadline = std::min(deadline, link.greet_at);
    return deadline;
}

void HostOnLoop::run_jobs(Now now) {
    if (commits_) {
        if (auto outcome = commits_->take()) {
            host_->complete(std::move(*outcome), now);
            host_->turn(now);
        }
        if (auto job = host_->take_job(now)) commits_->submit(std::move(job));
        return;
    }
    for (int done = 0; done < jobs_per_turn; ++done) {
        const auto job = host_->take_job(now);
        if (!job) return;
        host_->complete(store_->run(*job), now);
        host_->turn(now);
    }
    loop_.wake(*this);
}

void HostOnLoop::send_frames(Now now) {
    for (host::OutFrame& frame : host_->take_frames()) {
        if (frame.peer == 0) {
            local_.push_back(std::move(frame.bytes));
        } else if (!loop_.send(frame.peer, std::move(frame.bytes))) {
            // The session ends by its silence. A peer that connected resumes by itself, the others have to be asked.
            greet_at(frame.peer, now.mono + greet_failed);
        }
    }
}

}  // namespace posthorn
