#include "requester_core.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include "random.hpp"

namespace posthorn::request_reply::detail {

namespace {

constexpr std::uint32_t answers_window = 1000;  // they are taken as they come
constexpr Duration deadline_max = std::chrono::hours{24 * 365};
constexpr std::size_t name_digits = 16;

void check(const std::string& service, const RequesterOptions& options) {
    if (!options.name.empty() && (!valid_queue_name(options.name) || options.name == retained_name)) {
        throw Error("RequesterOptions.name \"" + options.name.substr(0, 200) +
                    "\" is not a name: 1 to 200 of A-Z a-z 0-9 . _ -, not ending in .dlq, and not .retained");
    }
    if (!options.name.empty() && !options.earlier) {
        throw Error(
            "RequesterOptions.name needs RequesterOptions.earlier: who takes the answers to what former lives asked");
    }
    if (!valid_queue_name(replies_of(service)) || !service_of(service).empty()) {
        throw Error("\"" + service.substr(0, 200) +
                    "\" is not a service's name: 1 to 192 of A-Z a-z 0-9 . _ -, not ending in .dlq or .replies");
    }
    if (options.deadline < 1ms || options.deadline > deadline_max)
        throw Error("RequesterOptions.deadline must be between 1 ms and 365 days");
    if (options.outstanding == 0) throw Error("RequesterOptions.outstanding is 0; give at least 1");
    if (options.send_timeout < Duration::zero()) throw Error("RequesterOptions.send_timeout is negative");
    if (options.close_timeout < Duration::zero()) throw Error("RequesterOptions.close_timeout is negative");
}

Status status_of(std::string_view answer) {
    if (answer.empty()) return Status::ok;
    if (answer == envelope::status::replier_lost) return Status::replier_lost;
    return answer == envelope::status::expired ? Status::timed_out : Status::failed;
}

Status status_of_refusal(std::string_view code) {
    if (code == "no_replier") return Status::no_replier;
    return code == "too_large" ? Status::too_large : Status::rejected;
}

}  // namespace

std::unique_ptr<RequesterCore> RequesterCore::make(Context& context, const std::string& service, const Home& home,
                                                   RequesterOptions options) {
    check(service, options);
    std::unique_ptr<RequesterCore> core{new RequesterCore(context, service, std::move(options))};
    core->start(service, home);
    return core;
}

RequesterCore::RequesterCore(Context& context, const std::string& service, RequesterOptions options)
    : context_(context),
      loop_(context.loop()),
      options_(std::move(options)),
      name_(options_.name.empty() ? posthorn::detail::random_identity().hex().substr(0, name_digits) : options_.name),
      answers_({.incarnation = posthorn::detail::random_identity(),
                .queue = replies_of(service) + "/" + name_,
                .name = options_.name,
                .client = "posthorn",
                .concurrency = answers_window,
                .prefetch = answers_window,
                .temporary = options_.name.empty()}) {}

void RequesterCore::start(const std::string& service, const Home& home) {
    const bool named = !options_.name.empty();
    std::vector<std::string> endpoints = home.endpoints();
    std::string local;
    if (home.is_here()) {
        local = "inproc://posthorn-answers-" + posthorn::detail::random_identity().hex();
        endpoints = {local};
    }
    producer_ = posthorn::detail::ProducerCore::make(
        context_, service, home, {.name = options_.name, .resume = named, .send_timeout = options_.send_timeout},
        {.watch = true,
         .replies = name_,
         .keeps_replies = named,
         .needs_replier = options_.no_replier == NoReplier::at_once,
         .local_endpoint = local,
         .observer = this});
    loop_.add(*this);
    started_ = true;
    for (const std::string& endpoint : endpoints) loop_.connect(*this, endpoint);
    loop_.wake(*this);
}

RequesterCore::~RequesterCore() {
    close();
    if (started_) loop_.remove(*this);  // where a callback has closed it: waits until the loop has left it
}

// Asking -----------------------------------------------------------------------------------------------------------

std::string RequesterCore::id_of(std::uint64_t sequence) const {
    return envelope::message_id(producer_->id(), sequence, 0);
}

// Room for one more is taken then.
Status RequesterCore::await_room() {
    std::unique_lock lock(mutex_);
    const auto room = [&] { return pending_.size() + sending_ < options_.outstanding; };
    if (!closed_ && !room() && !loop_.is_this_thread()) {
        (void)room_.wait_for(lock, std::min<Duration>(options_.send_timeout, deadline_max),
                             [&] { return closed_ || room(); });
    }
    if (closed_) return Status::closed;
    if (!room()) return loop_.is_this_thread() ? Status::would_block : Status::timed_out;
    ++sending_;
    return Status::ok;
}

void RequesterCore::request(Message message, Callback callback, const RequestOptions& options) {
    if (message.ttl != Duration::zero())
        throw Error("request: a time to live is the deadline; give RequestOptions.deadline");
    if (!message.dedup_key.empty()) throw Error("request: a dedup key means nothing; each request has its answer");
    const Duration deadline = options.deadline == Duration::zero() ? options_.deadline : options.deadline;
    if (deadline < 1ms || deadline > deadline_max)
        throw Error("RequestOptions.deadline must be between 1 ms and 365 days, or 0 for the requester's");
    message.ttl = deadline;
    if (const auto fault = envelope::invalid(message)) throw Error("request: " + *fault);

    const auto entry = std::make_shared<Pending>();
    entry->callback = std::move(callback);
    Status status = await_room();
    if (status != Status::ok) {
        complete(entry, 0, status,
                 status == Status::closed ? "the requester was closed"
                                          : "there was no room for it: too many requests wait for their answers");
        return;
    }
    std::uint64_t sequence = 0;
    bool earliest = false;
    const posthorn::Ticket ticket = producer_->send({&message, 1}, [&](std::uint64_t taken) {
        const std::lock_guard lock(mutex_);
        if (closed_) return;
        sequence = taken;
        entry->deadline = loop_.mono() + deadline;
        earliest = deadlines_.empty() || entry->deadline < deadlines_.begin()->first;
        deadlines_.emplace(entry->deadline, taken);
        pending_.emplace(taken, entry);
    });
    {
        const std::lock_guard lock(mutex_);
        --sending_;
        if (sequence == 0) room_.notify_one();
    }
    if (sequence == 0) {
        status = ticket.status() == Status::ok ? Status::closed : ticket.status();
        complete(entry, 0, status,
                 status == Status::too_large
                     ? "the message is above the message limit of " + std::to_string(defaults::message_limit) + " bytes"
                 : status == Status::closed ? "the requester was closed, or a later one came under its name"
                                            : "it could not be sent: the host takes no more");
        return;
    }
    if (earliest) loop_.wake(*this);
    if (!options.cancel.stop_possible()) return;
    entry->cancel.emplace(options.cancel, [this, sequence, producer = producer_] {
        const Entry cancelled = take(sequence);
        if (!cancelled) return;
        // It is ours, so close() does not wait for this: the requester may be gone from here on.
        producer->cancel(sequence);
        cancelled->callback({.status = Status::cancelled,
                             .error = "cancelled by who asked",
                             .id = envelope::message_id(producer->id(), sequence, 0)});
    });
}

RequesterCore::Entry RequesterCore::take(std::uint64_t sequence) {
    const std::lock_guard lock(mutex_);
    auto node = pending_.extract(sequence);
    if (node.empty()) return nullptr;
    deadlines_.erase({node.mapped()->deadline, sequence});
    room_.notify_one();
    return std::move(node.mapped());
}

void RequesterCore::complete(const Entry& entry, std::uint64_t sequence, Status status, std::string error) {
    if (!entry) return;
    entry->callback(
        {.status = status, .error = std::move(error), .id = sequence == 0 ? std::string{} : id_of(sequence)});
}

void RequesterCore::complete_all(const std::string& error) {
    std::unordered_map<std::uint64_t, Entry> all;
    {
        const std::lock_guard lock(mutex_);
        all.swap(pending_);
        deadlines_.clear();
        room_.notify_all();
    }
    for (const auto& [sequence, entry] : all) complete(entry, sequence, Status::closed, error);
}

Status RequesterCore::wait_for_repliers(unsigned repliers, Duration timeout) {
    std::unique_lock lock(mutex_);
    const auto there = [&] { return repliers_ && *repliers_ >= repliers; };
    if (!loop_.is_this_thread() && timeout > Duration::zero()) {
        (void)changed_.wait_for(lock, std::min<Duration>(timeout, deadline_max), [&] { return closed_ || there(); });
    }
    if (closed_) return Status::closed;
    return there() ? Status::ok : Status::timed_out;
}

bool RequesterCore::connected() {
    const bool sends = producer_->connected();
    const std::lock_guard lock(mutex_);
    return sends && hears_ && !closed_;
}

std::size_t RequesterCore::outstanding() {
    const std::lock_guard lock(mutex_);
    return pending_.size();
}

// The loop ---------------------------------------------------------------------------------------------------------

void RequesterCore::on_link(transport::PeerId peer, const std::string& endpoint) {
    answers_.add_host(peer, endpoint);
}

void RequesterCore::on_frame(transport::PeerId peer, Slice frame, Now now) {
    answers_.receive(peer, frame, now);
}

void RequesterCore::on_change() {
    if (started_) loop_.wake(*this);
}

void RequesterCore::on_refused(const protocol::Refused& refused) {
    const Status status = status_of_refusal(refused.code);
    const bool said = refused.code == to_string(status);  // the status is the code
    complete(take(refused.sequence), refused.sequence, status,
             said ? refused.text : refused.code + ": " + refused.text);
}

Mono RequesterCore::turn(Now now) {
    take_answers(now);
    answers_.turn(now);
    const Mono deadline = send_frames(now);
    for (const Event& event : answers_.take_events()) context_.emit(event);
    (void)answers_.take_lost();
    const auto repliers = producer_->consumers();
    if (producer_->fenced()) {
        complete_all("a later requester came under the name " + options_.name);
    } else if (answers_.over()) {
        complete_all("its host has ended it for good, as the event of the kind refused says");
    }
    {
        const std::lock_guard lock(mutex_);
        hears_ = answers_.connected();
        if (repliers_ != repliers) changed_.notify_all();
        repliers_ = repliers;
    }
    return std::min(deadline, expire(now));
}

// Those to a named requester wait until it knows which are its own.
void RequesterCore::take_answers(Now now) {
    if (!producer_->resumed_at(Duration::zero())) return;
    while (const auto begun = answers_.begin(now.mono)) {
        const auto answer = envelope::decode(begun->envelope.view());
        if (answer) {
            hear(*answer);
            (void)answers_.settle(begun->handle, {}, now.mono);
        } else {
            (void)answers_.settle(begun->handle,
                                  {.verdict = protocol::Verdict::undecodable, .text = "the bytes are not a message"},
                                  now.mono);
        }
    }
}

// Late ones nobody waits for any more.
void RequesterCore::hear(const envelope::Envelope& answer) {
    if (answer.producer != producer_->id()) return;
    const Entry entry = take(answer.sequence);
    const bool former = !entry && answer.sequence <= *producer_->resumed_at(Duration::zero());
    if (!entry && !(former && options_.earlier)) return;
    if (entry && answer.status == envelope::status::expired) {  // the host was first to see it
        end_at_deadline(entry, answer.sequence);
        return;
    }
    Reply reply{.status = status_of(answer.status),
                .message = answer.message,
                .error = answer.status.empty() ? std::string{} : answer.message.payload,
                .id = id_of(answer.sequence)};
    if (answer.status == envelope::status::undecodable) reply.error = "undecodable: " + reply.error;
    (entry ? entry->callback : options_.earlier)(std::move(reply));
}

void RequesterCore::end_at_deadline(const Entry& entry, std::uint64_t sequence) {
    bool nobody = false;
    {
        const std::lock_guard lock(mutex_);
        nobody = repliers_ == 0U;
    }
    complete(entry, sequence, nobody ? Status::no_replier : Status::timed_out,
             nobody ? "nobody was there to answer it in time" : "not answered in time");
}

Mono RequesterCore::expire(Now now) {
    for (;;) {
        std::uint64_t sequence = 0;
        {
            const std::lock_guard lock(mutex_);
            if (deadlines_.empty()) return never;
            if (deadlines_.begin()->first > now.mono) return deadlines_.begin()->first;
            sequence = deadlines_.begin()->second;
        }
        producer_->cancel_unless_held(sequence);  // it would have its whole time anew where it comes to
        end_at_deadline(take(sequence), sequence);
    }
}

Mono RequesterCore::send_frames(Now now) {
    for (protocol::OutFrame& frame : answers_.take_frames()) {
        if (!loop_.send(frame.peer, std::move(frame.bytes))) answers_.send_failed(frame.peer, now);
    }
    return answers_.next_deadline();
}

// The end ----------------------------------------------------------------------------------------------------------

void RequesterCore::close() {
    {
        const std::lock_guard lock(mutex_);
        if (std::exchange(ended_, true)) return;
        closed_ = true;
        room_.notify_all();
        changed_.notify_all();
    }
    if (!producer_) return;
    if (!options_.name.empty()) (void)producer_->flush(options_.close_timeout);
    complete_all("the requester was closed");
    loop_.post([this] {
        const Now now = loop_.now();
        answers_.bye(now);
        (void)send_frames(now);
    });
    (void)producer_->close(Duration::zero());
    loop_.remove(*this);
}

}  // namespace posthorn::request_reply::detail
