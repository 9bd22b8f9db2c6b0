// How the host speaks with its peers: hello, the commands of a session, its end.
#include <algorithm>

#include "envelope/envelope.hpp"
#include "host/access.hpp"
#include "host/host_impl.hpp"

namespace posthorn::host {

namespace {

constexpr std::size_t large_hello_limit = 64;  // at a time
constexpr std::size_t hello_bytes = 1024 * 1024;
constexpr std::size_t asked_limit = 10'000;  // peers remembered as asked for their hello
constexpr std::size_t over_limit = 1'000;    // incarnations remembered as over
constexpr std::size_t queue_limit = 10'000;  // queues one host holds
constexpr std::uint32_t concurrency_limit = 1'000;
constexpr std::uint64_t joined_slack = 64 * 1024;  // of a fragmented command beyond its message
constexpr Duration heard_lately_factor = 2s;
constexpr const char* malformed_frame = "malformed frame; only ends that speak Posthorn's protocol belong here";

queue::Verdict verdict_of(protocol::Verdict verdict) {
    switch (verdict) {
        case protocol::Verdict::ack:
            return queue::Verdict::ack;
        case protocol::Verdict::release:
            return queue::Verdict::release;
        case protocol::Verdict::reject:
            return queue::Verdict::reject;
        case protocol::Verdict::undecodable:
            return queue::Verdict::undecodable;
        case protocol::Verdict::nack:
            break;
    }
    return queue::Verdict::nack;
}

std::chrono::milliseconds bounded_ms(std::uint64_t ms) {
    constexpr std::uint64_t year = 365ULL * 24 * 3600 * 1000;
    return std::chrono::milliseconds{static_cast<std::int64_t>(std::min(ms, year))};
}

}  // namespace

Session* Host::Impl::session(PeerId peer) {
    const auto it = sessions.find(peer);
    return it == sessions.end() ? nullptr : it->second.get();
}

void Host::Impl::send(Session& session, const protocol::Command& command) {
    session.out.add(command);
    if (session.listed) return;
    session.listed = true;
    listed.push_back(&session);
}

void Host::Impl::send_outside(PeerId peer, const protocol::Command& command) {
    protocol::FrameWriter writer{defaults::frame_limit};
    writer.add(command);
    for (std::string& bytes : writer.flush()) outside.push_back({peer, std::move(bytes)});
}

void Host::Impl::drop(const std::string& cause, PeerId peer) {
    const std::uint64_t count = ++dropped[cause];
    if (worth_a_word(count)) emit(Event::Kind::dropped, "peer " + std::to_string(peer), cause, count);
}

void Host::Impl::refuse(PeerId peer, const std::string& code, const std::string& text, Now now) {
    if (options.on_event) {
        options.on_event({.kind = Event::Kind::refused,
                          .subject = "peer " + std::to_string(peer),
                          .text = code + ": " + text,
                          .count = 1,
                          .code = code});
    }
    if (Session* open = session(peer)) {
        open->out.add(protocol::Refusal{code, text});
        for (std::string& bytes : open->out.flush()) outside.push_back({peer, std::move(bytes)});
        end_session(peer, now);
    } else {
        send_outside(peer, protocol::Refusal{code, text});
    }
}

void Host::Impl::end_session(PeerId peer, Now now) {
    const auto it = sessions.find(peer);
    if (it == sessions.end()) return;
    Session& session = *it->second;
    if (session.producer != nullptr) {
        const std::uint64_t bytes = session.credit.bytes - session.received_bytes;
        session.box->granted_messages -= session.credit.messages - session.received_messages;
        session.box->granted_bytes -= bytes;
        granted_bytes -= bytes;
        --producers;
        const auto of_box = session.box->producers.find(session.producer->id);
        if (of_box != session.box->producers.end() && of_box->second == &session) session.box->producers.erase(of_box);
        session.box->queue.detach_producer(*session.producer, now);
    }
    if (session.consumer != 0) {
        const auto of_box = session.box->consumers.find(session.consumer);
        if (of_box != session.box->consumers.end() && of_box->second == &session) session.box->consumers.erase(of_box);
        session.box->queue.detach(session.consumer, now);
        left_alone(*session.box, false, now);
    }
    if (session.link != 0) {
        const auto of_box = session.box->subscribers.find(session.link);
        if (of_box != session.box->subscribers.end() && of_box->second == &session)
            session.box->subscribers.erase(of_box);
        session.box->feed->detach(session.link, now.mono);
    }
    if (session.box != nullptr) touch(*session.box);
    abandon_backup(peer);
    const auto known = by_incarnation.find(session.incarnation);
    if (known != by_incarnation.end() && known->second == peer) by_incarnation.erase(known);
    listed.erase(std::remove(listed.begin(), listed.end(), &session), listed.end());
    sessions.erase(it);
}

Duration Host::Impl::busy_interval(const Session& session) const {
    if (session.role != protocol::Role::consumer || session.link != 0) return defaults::heartbeat_busy;
    return std::min<Duration>(defaults::heartbeat_busy, session.box->queue.policy().lease / 3);
}

// While something is leased or unconfirmed signs of life come more often.
bool Host::Impl::busy(const Session& session) const {
    if (session.producer != nullptr) {
        if (session.resume_due) return true;
        return is_durable(session.box) ? session.producer->decided > session.producer->stored
                                       : session.box->queue.has_unsettled();
    }
    if (session.link != 0) return true;  // so that a link that is lost is soon seen
    if (session.consumer != 0) {
        return session.box->queue.in_flight(session.consumer) > 0 || session.settles > session.told_settles;
    }
    return backup_of == session.peer;  // so that a backup nobody waits for any more is soon given up
}

Duration Host::Impl::heartbeat(const Session& session) const {
    return busy(session) ? busy_interval(session) : defaults::heartbeat_idle;
}

// A peer that speaks often waits for us as often, whatever we think of its needs.
bool Host::Impl::heard_lately(const Session& session, Now now) const {
    return now.mono - session.heard < heard_lately_factor;
}

// Frames -----------------------------------------------------------------------------------------------------------

void Host::Impl::receive(PeerId peer, const Slice& frame, Now now) {
    auto decoded = protocol::decode_frame(frame);
    if (!decoded) {
        drop(malformed_frame, peer);
        if (session(peer) != nullptr) refuse(peer, "malformed", "a frame could not be read; say hello again", now);
        return;
    }
    if (decoded->epoch == 0) {
        outside_session(peer, *decoded, now);
        return;
    }
    Session* open = session(peer);
    if (open == nullptr) {
        drop("frame of an unknown session", peer);
        if (asked.size() >= asked_limit) asked.clear();
        if (asked.insert(peer).second) send_outside(peer, protocol::Identify{options.incarnation});
        return;
    }
    const auto verdict = open->in.accept(*decoded);
    switch (verdict) {
        case protocol::FrameReader::Verdict::other_epoch:
            drop("frame of another session", peer);
            return;
        case protocol::FrameReader::Verdict::gap:
            refuse(peer, "gap", "a frame of this session was lost; say hello again", now);
            return;
        case protocol::FrameReader::Verdict::malformed:
            drop(malformed_frame, peer);
            refuse(peer, "malformed", "a frame could not be read; say hello again", now);
            return;
        case protocol::FrameReader::Verdict::nothing:
        case protocol::FrameReader::Verdict::commands:
            break;
    }
    open->heard = now.mono;
    if (open->link != 0 && !std::exchange(open->answered, true)) touch(*open->box);
    if (open->consumer != 0 && open->box->queue.heard(open->consumer, now)) touch(*open->box);
    if (verdict == protocol::FrameReader::Verdict::nothing) return;
    if (!decoded->unknown.empty()) {
        refuse(peer, "unknown_command", "this host does not know the command " + decoded->unknown.front().name, now);
        return;
    }
    for (const protocol::Command& command : decoded->commands) {
        if (!on_command(*open, command, now)) return;  // the session is over
    }
    if (open->box != nullptr) touch(*open->box);
}

// Only a hello is said outside a session; one that lists much comes in fragments.
void Host::Impl::outside_session(PeerId peer, protocol::Frame& frame, Now now) {
    if (frame.fragment) {
        if (large_hellos.size() >= large_hello_limit && !large_hellos.contains(peer)) large_hellos.clear();
        auto& reader = large_hellos.try_emplace(peer, hello_bytes).first->second;
        const auto verdict = reader.accept(frame);
        if (verdict == protocol::FrameReader::Verdict::nothing) return;
        large_hellos.erase(peer);
        if (verdict != protocol::FrameReader::Verdict::commands) {
            drop("malformed hello", peer);
            return;
        }
    }
    if (frame.commands.size() == 1 && std::holds_alternative<protocol::Hello>(frame.commands.front())) {
        postponed.erase(peer);
        on_hello(peer, std::get<protocol::Hello>(frame.commands.front()), now);
    } else {
        drop("command outside a session", peer);
    }
}

std::optional<protocol::Refusal> Host::Impl::refusal_of(const protocol::Hello& hello) const {
    if (hello.version != protocol::version) {
        return protocol::Refusal{"bad_version", "this host speaks version " + std::to_string(protocol::version) +
                                                    " of the protocol, not " + std::to_string(hello.version) +
                                                    "; use matching releases of Posthorn"};
    }
    if (hello.role == protocol::Role::unknown) {
        return protocol::Refusal{"wrong_role", "the role in hello is none of producer, consumer, admin"};
    }
    const Verb verb = hello.role == protocol::Role::admin      ? Verb::administer
                      : hello.role == protocol::Role::producer ? Verb::publish
                                                               : Verb::consume;
    if (!may({}, verb, hello.address)) return protocol::Refusal{"forbidden", "not allowed here"};
    if (hello.role == protocol::Role::admin) return std::nullopt;
    if (failed && !hello.live) return protocol::Refusal{"store_failed", failure};
    if (hello.incarnation.is_zero())
        return protocol::Refusal{"malformed", "a hello needs 16 random bytes as incarnation"};
    if (auto no = refusal_of_address(hello)) return no;
    if (auto no = refusal_of_one_over(hello)) return no;
    const bool is_known = boxes.contains(hello.address);
    const std::string topic = topic_part(hello.address);
    const bool for_answers = boxes.contains(std::string{service_of(topic)});  // that come with the queue
    if (!is_known && !for_answers && !options.auto_create) {
        return protocol::Refusal{
            "unknown_queue",
            "there is no " + hello.address + " here and auto_create is off; add it to the node's configuration"};
    }
    if (is_known && hello.replies.empty()) return std::nullopt;
    if (is_known && boxes.contains(replies_of(hello.address) + "/" + hello.replies)) return std::nullopt;
    if (boxes.size() >= queue_limit) {
        return protocol::Refusal{
            "too_many_queues", "this host holds " + std::to_string(queue_limit) + " queues and subscriptions already"};
    }
    return std::nullopt;
}

// `bound`: it has been looked at before, and its subscription has the bindings it asked for.
void Host::Impl::on_hello(PeerId peer, const protocol::Hello& hello, Now now, bool bound) {
    end_session(peer, now);
    if (const auto no = refusal_of(hello)) {
        refuse(peer, no->code, no->text, now);
        return;
    }
    if (draining) {
        send_outside(peer,
                     protocol::Bye{static_cast<std::uint64_t>(retry_after.count()), "this host goes down for a while"});
        return;
    }
    if (!is_prepared(peer, hello, bound, now)) return;
    if (hello.role != protocol::Role::admin) {
        const auto before = by_incarnation.find(hello.incarnation);
        if (before != by_incarnation.end()) end_session(before->second, now);  // it came back on another link
        by_incarnation[hello.incarnation] = peer;
    }
    asked.erase(peer);

    auto owned = std::make_unique<Session>(peer, hello.role, options.message_limit + joined_slack);
    Session& session = *owned;
    sessions[peer] = std::move(owned);
    session.incarnation = hello.incarnation;
    session.name = hello.name;
    session.heard = session.sent = now.mono;
    session.out.start_session(++last_epoch);
    session.in.start_session(last_epoch, 1);
    sessions_at = std::min(sessions_at, now.mono);

    protocol::Welcome welcome;
    welcome.attempt = hello.attempt;
    welcome.host = options.incarnation;
    welcome.message_limit = options.message_limit;
    welcome.heartbeat_ms = static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::milliseconds>(defaults::heartbeat_busy).count());
    welcome.capabilities = {!store.durable() ? "host:memory" : options.only_queue.empty() ? "host:node" : "host:spool"};
    if (hello.role != protocol::Role::admin)
        session.box = hello.live ? &open_live(hello.address) : &open_box(hello.address);
    welcome.durable = is_durable(session.box);
    if (hello.replier && hello.role == protocol::Role::consumer) open_service(hello.address, now);
    if (hello.role == protocol::Role::producer) {
        welcome_producer(session, hello, welcome, now);
    } else if (session.box != nullptr && session.box->feed) {
        welcome_subscriber(session, hello, welcome);
    } else if (hello.role == protocol::Role::consumer) {
        welcome_consumer(session, hello, welcome, now);
    } else {
        send(session, welcome);
    }
    if (session.box == nullptr) return;
    if (hello.strict && !session.box->queue.is_topic() && !hello.live) session.box->queue.become_strict(now);
    touch(*session.box);
}

void Host::Impl::welcome_producer(Session& session, const protocol::Hello& hello, protocol::Welcome& welcome, Now now) {
    Box& box = *session.box;
    const bool named = !hello.producer.is_zero();
    queue::Producer& producer = box.queue.attach_producer(named ? hello.producer : hello.incarnation, now);
    const std::string later = "a later producer came under the name " + hello.name;
    if (named && producer.life != hello.incarnation) {
        if (!producer.life.is_zero()) fence(producer.life, later, now);
        box.queue.take_over(producer, hello.incarnation, now);
        box.sync = true;
    }
    const auto other = box.producers.find(producer.id);  // one that uses the id and not the name
    if (other != box.producers.end()) fence(other->second->incarnation, later, now);
    session.resume_due = named && !hello.resumed;
    session.watches = hello.watch;
    session.replies = hello.replies;
    session.needs_replier = hello.needs_replier;
    session.producer = &producer;
    box.producers[producer.id] = &session;
    ++producers;
    if (hello.confirmed > producer.decided) {
        if (producer.known || welcome.durable) {
            emit(Event::Kind::store_lost_confirmed, box.queue.name(),
                 "a producer was told that everything up to its message " + std::to_string(hello.confirmed) +
                     " is safe; this host knows of " + std::to_string(producer.decided) +
                     ": was an older copy of the store put back?",
                 hello.confirmed - producer.decided);
        }
        producer.decided = hello.confirmed;
    }
    box.queue.forget_refusals(producer, hello.confirmed);
    welcome.watermark = session.told_held = producer.decided;
    welcome.stored = session.told_stored = producer.stored;
    for (const store::Refusal& one : producer.refusals) {
        if (!welcome.durable || one.sequence <= producer.stored) {
            welcome.refused.push_back({one.sequence, one.code, one.text});
        } else {
            session.refused.push_back({one.sequence, one.code, one.text});  // told once it is remembered for good
        }
    }
    send(session, welcome);
    if (welcome.durable) return;
    protocol::Confirm settled;
    for (const auto& range : producer.done.above(hello.confirmed)) settled.settled.push_back({range.first, range.last});
    if (!settled.settled.empty()) send(session, settled);
}

void Host::Impl::welcome_consumer(Session& session, const protocol::Hello& hello, protocol::Welcome& welcome, Now now) {
    Box& box = *session.box;
    if (!hello.name.empty()) fence_consumers(box, hello.name, hello.incarnation, now);
    std::vector<queue::Held> held;
    held.reserve(hello.held.size());
    for (const protocol::Held& one : hello.held) held.push_back({one.offset, one.token});
    std::vector<queue::Held> lost;
    const std::uint32_t concurrency = std::clamp<std::uint32_t>(hello.concurrency, 1, concurrency_limit);
    session.consumer = box.queue.attach(hello.incarnation, hello.name, concurrency, held, lost, now);
    box.queue.set_window(session.consumer, hello.window_messages, hello.window_bytes);
    session.keeps_order = hello.strict;
    box.queue.set_keeps_order(session.consumer, hello.strict);
    box.consumers[session.consumer] = &session;
    box.alone_until = never;
    session.exclusive = hello.exclusive;
    for (const queue::Held& one : lost) welcome.lost.push_back({one.offset, one.token, false});
    welcome.lease_ms = static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::milliseconds>(box.queue.policy().lease).count());
    welcome.heartbeat_ms = static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::milliseconds>(busy_interval(session)).count());
    send(session, welcome);
}

// A named producer that has been told its place never takes the name over again, whatever this host remembers of those
// it has fenced: it has numbered messages of its own from there, and those of a later life have the same numbers.
std::optional<protocol::Refusal> Host::Impl::refusal_of_one_over(const protocol::Hello& hello) const {
    const auto ended =
        std::find_if(over.begin(), over.end(), [&](const auto& one) { return one.first == hello.incarnation; });
    if (ended != over.end()) return ended->second;
    if (hello.role != protocol::Role::producer || !hello.resumed) return std::nullopt;
    const auto box = boxes.find(hello.address);
    if (box == boxes.end()) return std::nullopt;
    const queue::Producer* known = box->second->queue.find_producer(hello.producer);
    if (known == nullptr || known->life.is_zero() || known->life == hello.incarnation) return std::nullopt;
    return protocol::Refusal{"fenced", "a later one came under the name " + hello.name + "; give each its own name"};
}

// For good: it does not come again, and is not taken if it does.
void Host::Impl::end_for_good(const Identity& incarnation, const protocol::Refusal& why, Now now) {
    over.emplace_back(incarnation, why);
    if (over.size() > over_limit) over.pop_front();
    const auto peer = by_incarnation.find(incarnation);
    if (peer != by_incarnation.end()) refuse(peer->second, why.code, why.text, now);
}

// Two at once under one name: the later replaces the earlier.
void Host::Impl::fence(const Identity& earlier, const std::string& text, Now now) {
    end_for_good(earlier, {"fenced", text + "; give each its own name"}, now);
}

// Their leases end at once.
void Host::Impl::fence_consumers(Box& box, const std::string& name, const Identity& incarnation, Now now) {
    for (const auto& [id, earlier] : box.queue.named(name, incarnation)) {
        fence(earlier, "a later consumer came under the name " + name, now);
        box.queue.fence(id, now);
    }
}

// False: the session is over.
bool Host::Impl::on_command(Session& session, const protocol::Command& command, Now now) {
    using namespace protocol;
    const PeerId peer = session.peer;
    const bool producer = session.role == Role::producer;
    const bool consumer = session.role == Role::consumer;
    if (const auto* publish = std::get_if<Publish>(&command); publish != nullptr && producer) {
        return on_publish(session, *publish, now);
    }
    if (const auto* cancel = std::get_if<Cancel>(&command); cancel != nullptr && producer) {
        for (const SequenceRange& range : cancel->requests) {
            session.box->queue.cancel(session.producer->id, {range.first, range.last}, now);
        }
        return true;
    }
    if (const auto* bye = std::get_if<Bye>(&command)) {
        Box* const box = session.box;
        const bool leaves = consumer && !bye->answer;
        const bool subscribed = session.link != 0;
        if (leaves && subscribed) box->feed->leave(session.link);
        if (leaves && !subscribed) box->queue.leave(session.consumer, now);
        end_session(peer, now);
        if (leaves && !subscribed) left_alone(*box, true, now);
        return false;
    }
    if (const auto* request = std::get_if<AdminRequest>(&command); request != nullptr && session.role == Role::admin) {
        on_admin(session, *request, now);
        return true;
    }
    if (const auto* taken = std::get_if<Taken>(&command); taken != nullptr && session.link != 0) {
        on_taken(session, *taken);
        return true;
    }
    if (consumer && session.link == 0) {
        if (const auto* settle = std::get_if<Settle>(&command)) {
            return on_settle(session, *settle, now);
        }
        if (const auto* window = std::get_if<Window>(&command)) {
            session.box->queue.set_window(session.consumer, window->messages, window->bytes);
            return true;
        }
        if (const auto* extend = std::get_if<Extend>(&command)) {
            for (const ExtendOne& one : extend->items) {
                if (!session.box->queue.extend(session.consumer, {one.offset, one.token}, bounded_ms(one.ms), now)) {
                    session.stale.push_back({one.offset, one.token, false});
                }
            }
            return true;
        }
        if (std::get_if<Recalled>(&command) != nullptr) {
            session.box->queue.recalled(session.consumer, now);
            return true;
        }
    }
    refuse(peer, "wrong_role", "this command does not fit the role that was given in hello", now);
    return false;
}

bool Host::Impl::on_publish(Session& session, const protocol::Publish& publish, Now now) {
    const PeerId peer = session.peer;
    Box& box = *session.box;
    // It has no credit and is told why; what it sent before it knew, it resends.
    if (draining || (failed && !box.feed)) return true;
    for (Box* subscription : box.subscriptions) touch(*subscription);  // however this ends
    Box* const replies = reply_queue(box, session.replies);
    for (const Slice& bytes : publish.envelopes) {
        const auto routing = envelope::read_routing(bytes.view());
        if (!routing || routing->producer != session.producer->id || routing->sequence == 0) {
            drop("malformed envelope", peer);
            refuse(peer, "malformed", "an envelope could not be read, or is of another producer", now);
            return false;
        }
        if (session.received_messages >= session.credit.messages || session.received_bytes >= session.credit.bytes) {
            refuse(peer, "no_credit", "more was sent than this host gave credit for", now);
            return false;
        }
        ++session.received_messages;
        --box.granted_messages;
        session.received_bytes += bytes.size();
        if (session.received_bytes > session.credit.bytes) {  // the last one may go beyond
            const std::uint64_t beyond = session.received_bytes - session.credit.bytes;
            session.credit.bytes += beyond;
            box.granted_bytes += beyond;
            granted_bytes += beyond;
        }
        box.granted_bytes -= bytes.size();
        granted_bytes -= bytes.size();

        queue::Accepted accepted = queue::Accepted::refused;
        if (bytes.size() > options.message_limit && routing->sequence > session.producer->decided) {
            box.queue.refuse(*session.producer, routing->sequence, "too_large",
                             "the message has " + std::to_string(bytes.size()) + " bytes, this host takes at most " +
                                 std::to_string(options.message_limit),
                             now);
        } else if (session.needs_replier && box.consumers.empty() && routing->sequence > session.producer->decided) {
            box.queue.refuse(*session.producer, routing->sequence, "no_replier",
                             "nobody is there to answer requests to " + box.queue.name(), now);
        } else {
            accepted = box.queue.publish(*session.producer, *routing, bytes, now);
            if (replies != nullptr) expect_answer(*replies, routing->ttl, now);
        }
        if (accepted == queue::Accepted::gap) {
            refuse(peer, "gap",
                   "message " + std::to_string(routing->sequence) + " follows " + std::to_string(routing->previous) +
                       ", which never came; say hello again",
                   now);
            return false;
        }
        if (accepted == queue::Accepted::yes && box.feed) box.feed->publish(bytes);
        if (accepted == queue::Accepted::refused) {
            const store::Refusal& why = session.producer->refusals.back();
            session.refused.push_back({why.sequence, why.code, why.text});
        }
    }
    if (box.feed) box.feed->keep_bounds();
    return true;
}

void Host::Impl::settle_one(Session& session, const queue::Settle& settle, Now now) {
    ++session.settles;
    const bool gives_back = settle.verdict == queue::Verdict::nack || settle.verdict == queue::Verdict::release;
    if (session.keeps_order && gives_back) session.barrier = session.settles;
    if (session.box->queue.settle(session.consumer, settle, now)) {
        session.settled_below = std::max(session.settled_below, settle.offset + 1);
        return;
    }
    session.stale.push_back({settle.offset, settle.token, false});
}

// False: the session is over.
bool Host::Impl::on_settle(Session& session, const protocol::Settle& settle, Now now) {
    for (const protocol::AckRun& run : settle.acks) {
        // A run cannot be longer than what was ever delivered to it; a longer one is not worth walking.
        const std::uint32_t count = std::min(run.count, 2 * defaults::prefetch_max);
        for (std::uint32_t i = 0; i < count; ++i) {
            settle_one(session, {.offset = run.offset + i, .token = run.token, .verdict = queue::Verdict::ack}, now);
        }
    }
    for (const protocol::SettleOne& one : settle.others) {
        queue::Settle single{
            .offset = one.offset, .token = one.token, .verdict = verdict_of(one.verdict), .text = one.text};
        if (one.delay_ms) single.delay = bounded_ms(*one.delay_ms);
        if (!one.reply.empty() && !is_answer(session, one, single)) {
            refuse(session.peer, "malformed", "an answer could not be read, or is of another request", now);
            return false;
        }
        settle_one(session, single, now);
    }
    if (settle.sync) session.box->sync = true;
    return true;
}

}  // namespace posthorn::host
