#include "host/host.hpp"

#include <algorithm>
#include <limits>

#include <posthorn/status.hpp>

#include "host/host_impl.hpp"

namespace posthorn::host {

namespace {

std::string who(const Session& session) {
    const char* const role = session.role == protocol::Role::producer   ? "producer "
                             : session.role == protocol::Role::consumer ? "consumer "
                                                                        : "operator ";
    return role + (session.name.empty() ? session.incarnation.hex().substr(0, 8) : session.name);
}

constexpr std::size_t deliver_bytes = 64 * 1024;   // of envelopes in one deliver command: a frame well below its limit
constexpr std::uint64_t credit_messages = 10'000;  // granted at once to one producer
constexpr std::uint64_t credit_share = 8 * 1024 * 1024;  // bytes granted at once to one producer
constexpr std::size_t settle_batch = 2048;               // settlements that are worth a commit of their own
constexpr Duration look_again = 1s;                      // at a full disk
constexpr Duration session_check = 250ms;
constexpr Duration feed_farewell = 10s;  // all that is on its way to subscribers is before their answers
constexpr Duration farewell =
    500ms;  // for the answers to the bye; those of ends that know none are not waited for longer

std::uint64_t less(std::uint64_t a, std::uint64_t b) {
    return a > b ? a - b : 0;
}

}  // namespace

Host::Impl::Impl(Options given, store::Store& on, Now now)
    : options(std::move(given)), store(on), last_epoch(std::hash<Identity>{}(options.incarnation) >> 8U << 8U) {
    const store::Recovery recovery = store.recover();
    for (const std::string& note : recovery.notes) {
        if (options.log) options.log(LogLevel::info, note);
    }
    for (const store::Damage& damage : recovery.damage) {
        emit(Event::Kind::damaged, damage.topic, store::describe(damage), damage.messages);
    }
    check_queues(recovery);
    store::Job opening;
    std::set<std::string, std::less<>> services;
    for (const store::RecoveredTopic& topic : recovery.topics) {
        services.emplace(service_of(topic_part(topic.topic)));
    }
    for (const store::RecoveredTopic& topic : recovery.topics) {
        Box& box = make_box(topic.topic);
        if (services.contains(topic.topic)) box.queue.become_service();
        box.queue.recover(topic, now);
        while (const auto read = box.queue.wanted_recovery()) {
            store::Job reading;
            reading.reads.push_back(*read);
            store::Outcome outcome = store.run(reading);
            if (outcome.failure != store::Failure::none) throw Error(outcome.text);
            for (store::ReadResult& result : outcome.reads) box.queue.loaded(std::move(result), now);
            box.queue.reads_done(now);
        }
        opening.batch.push_back({.topic = topic.topic, .next_offset = box.queue.next_offset()});
        touch(box);
    }
    restore_topics(recovery, now);
    restore_live();
    for (const auto& [name, policy] : options.queues) {  // operators see them before their first use
        if (name.find('/') == std::string::npos && service_of(name).empty()) open_box(name);
    }
    if (opening.empty()) return;
    // Where this life's offsets begin has to be safe before the first of them is given away: else the next life, if
    // this one stores nothing, would begin there again.
    opened = false;
    job = std::make_shared<const store::Job>(std::move(opening));
    look_again_at = now.mono;
}

// Messages of other queues would lie here and nobody would ever be told.
void Host::Impl::check_queues(const store::Recovery& recovery) const {
    if (options.only_queue.empty()) return;
    std::string others;
    for (const store::RecoveredTopic& topic : recovery.topics) {
        const std::string name = topic_part(topic.topic);
        if (name == options.only_queue || service_of(name) == options.only_queue || topic.messages + topic.dead == 0)
            continue;
        others += (others.empty() ? "" : ", ") + topic.topic;
    }
    if (others.empty()) return;
    throw Error("it holds messages of other queues (" + others + "), and only " + options.only_queue +
                " would be served; let `posthorn node --data` serve them all, or give another folder");
}

void Host::Impl::emit(Event::Kind kind, std::string subject, std::string text, std::uint64_t count) const {
    if (options.on_event) {
        options.on_event({.kind = kind, .subject = std::move(subject), .text = std::move(text), .count = count});
    }
}

Box* Host::Impl::find_box(const std::string& name) {
    const auto it = boxes.find(name);
    return it == boxes.end() ? nullptr : it->second.get();
}

QueuePolicy Host::Impl::policy_of(const std::string& name) const {
    const auto slash = name.find('/');
    if (is_log(name)) {
        const auto found = options.retained.find(topic_part(name));
        const Retention bounds = found == options.retained.end() ? Retention{} : found->second;
        return {.max_messages = bounds.messages,
                .max_bytes = bounds.bytes,
                .when_full = WhenFull::drop_oldest,
                .max_age = bounds.age};
    }
    auto found = options.queues.find(name);
    if (found == options.queues.end()) found = options.queues.find(topic_part(name));
    if (!service_of(topic_part(name)).empty()) {
        QueuePolicy policy = found == options.queues.end() ? QueuePolicy{} : found->second;
        policy.max_attempts = std::numeric_limits<std::uint32_t>::max();  // its consumer is the only one there is
        policy.when_full = WhenFull::drop_oldest;
        policy.dlq_when_full = DlqWhenFull::drop_oldest;
        if (policy.max_age == Duration::zero()) policy.max_age = defaults::reply_memory;
        return policy;
    }
    QueuePolicy policy = found == options.queues.end() ? options.defaults : found->second;
    if (policy.when_full != WhenFull::automatic) return policy;
    const bool subscription = slash != std::string::npos;
    policy.when_full = subscription ? WhenFull::dead_letter : WhenFull::block;
    if (subscription && !store.durable()) policy.dlq_when_full = DlqWhenFull::drop_oldest;  // memory is small
    return policy;
}

Box& Host::Impl::make_box(const std::string& name) {
    const std::uint64_t seed = options.seed ^ std::hash<std::string>{}(name);
    auto box = std::make_unique<Box>(name, policy_of(name), store.durable(), seed, options.on_event, options.limits);
    if (is_log(name)) box->queue.become_log();
    if (!service_of(topic_part(name)).empty()) box->queue.become_replies();
    return *boxes.emplace(name, std::move(box)).first->second;
}

Box& Host::Impl::open_box(const std::string& name) {
    if (Box* known = find_box(name)) return *known;
    Box& box = make_box(name);
    box.queue.start_somewhere(std::hash<Identity>{}(options.incarnation));
    return box;
}

void Host::Impl::touch(Box& box) {
    if (box.touched) return;
    box.touched = true;
    touched.push_back(&box);
}

void Host::Impl::touch_all() {
    for (auto& [name, box] : boxes) touch(*box);
}

// Queues -----------------------------------------------------------------------------------------------------------

void Host::Impl::turn(Now now) {
    last_turn = now.mono;
    if (now.mono >= sessions_at) check_sessions(now);
    if (now.mono >= boxes_at) {
        boxes_at = never;
        for (auto& [name, box] : boxes) {
            const Mono deadline = deadline_of(*box);
            if (deadline <= now.mono) {
                touch(*box);
            } else {
                boxes_at = std::min(boxes_at, deadline);
            }
        }
    }
    std::vector<Box*> topics;  // what happens to a subscription is news for its publishers
    for (const Box* box : touched) {
        if (box->topic != nullptr) topics.push_back(box->topic);
    }
    for (Box* topic : topics) touch(*topic);
    std::stable_partition(touched.begin(), touched.end(), [](const Box* box) { return !box->queue.is_topic(); });
    for (Box* box : touched) {  // before any credit is given
        uncommitted_bytes -= std::exchange(box->uncommitted_bytes, box->queue.uncommitted_bytes());
        uncommitted_bytes += box->uncommitted_bytes;
    }
    if (out_of_credit && uncommitted_bytes + granted_bytes < options.credit_bytes) {
        out_of_credit = false;
        touch_all();
    }
    while (!touched.empty()) {  // what answers a request is in the same job as what settles it
        for (Box* box : std::exchange(touched, {})) {
            box->touched = false;
            turn_box(*box, now);
            boxes_at = std::min(boxes_at, deadline_of(*box));
            if (!box->unsaved && !box->feed) {  // take_job() finds out whether there is something to write or to read
                box->unsaved = true;
                unsaved.push_back(box);
            }
        }
    }
}

Mono Host::Impl::deadline_of(const Box& box) const {
    const Mono deadline = std::min(box.queue.next_deadline(), box.alone_until);
    return box.feed ? std::min({deadline, box.feed->next_deadline(), box.gap_at}) : deadline;
}

void Host::Impl::turn_box(Box& box, Now now) {
    if (box.feed) {
        turn_live(box, now);
        return;
    }
    std::vector<queue::Delivered> deliveries;
    std::vector<queue::Recall> recalls;
    if (box.alone_until <= now.mono) remove_subscription(box, now);
    const bool no_room = disk_full && box.queue.is_service();  // for the answers
    box.queue.pause(draining || failed || !opened || no_room);
    box.queue.turn(now, deliveries, recalls);
    give_answers(box, now);
    if (box.queue.stores_before_delivery()) {
        if (!deliveries.empty()) box.sync = true;
        std::move(deliveries.begin(), deliveries.end(), std::back_inserter(box.undelivered));
    } else {
        for (queue::Delivered& one : deliveries) hand_out(box, std::move(one));
    }
    for (const queue::Recall& recall : recalls) {
        const auto to = box.consumers.find(recall.consumer);
        if (to != box.consumers.end()) send(*to->second, protocol::Recall{recall.count});
    }
    std::map<queue::ConsumerId, protocol::Lost> lost;
    for (const auto& [consumer, held] : box.queue.take_lost()) {
        lost[consumer].items.push_back({held.offset, held.token, false});
    }
    for (const auto& [consumer, items] : lost) {  // before the settles that made them so are confirmed
        const auto to = box.consumers.find(consumer);
        if (to != box.consumers.end()) send(*to->second, items);
    }
    tell_settled(box);
    for (auto& [id, session] : box.consumers) tell_consumer(*session, box);
    for (auto& [id, session] : box.producers) {
        tell_producer(*session);
        grant(*session, box);
    }
    tell_peers(box);
}

void Host::Impl::tell_settled(Box& box) {
    box.queue.take_settled([&](queue::Producer& producer, const std::vector<queue::SequenceRange>& news) {
        const auto to = box.producers.find(producer.id);
        if (to == box.producers.end()) return;  // it asks again when it comes back
        protocol::Confirm confirm;
        for (const auto& range : news) confirm.settled.push_back({range.first, range.last});
        send(*to->second, confirm);
    });
}

void Host::Impl::tell_peers(Box& box) {
    std::size_t consumers = box.consumers.size() + box.subscribers.size();
    for (const Box* subscription : box.subscriptions) consumers += subscription->consumers.size();
    const auto told = static_cast<std::uint32_t>(consumers);
    for (auto& [id, session] : box.producers) {
        if (!session->watches || session->told_consumers == told) continue;
        session->told_consumers = told;
        send(*session, protocol::Peers{told});
    }
}

void Host::Impl::hand_out(Box& box, queue::Delivered delivered) {
    const auto to = box.consumers.find(delivered.consumer);
    if (to == box.consumers.end()) return;  // a queue delivers to connected consumers only
    Session& session = *to->second;
    session.delivery_bytes += delivered.envelope.size();
    session.deliveries.items.push_back({delivered.offset, delivered.token, delivered.attempt, delivered.redrives,
                                        delivered.maybe_duplicate, std::move(delivered.envelope)});
    if (session.delivery_bytes >= deliver_bytes) flush_deliveries(session);
}

void Host::Impl::flush_deliveries(Session& session) {
    if (session.deliveries.items.empty()) return;
    send(session, session.deliveries);
    session.deliveries.items.clear();
    session.delivery_bytes = 0;
}

void Host::Impl::tell_consumer(Session& session, Box& box) {
    flush_deliveries(session);
    // Repeats of what is safe already change nothing that a commit could make safe.
    const bool stored = !box.in_job && !has_changes(box) && !box.queue.keeps_settles_waiting() &&
                        session.settled_below <= box.queue.pending_first();
    if (!store.durable() || stored) session.safe_settles = session.settles;
    const std::uint64_t safe = session.safe_settles;
    const bool passed = session.barrier > std::max(safe, session.told_applied);
    if (safe > session.told_settles || !session.stale.empty() || passed) {
        session.told_settles = std::max(safe, session.told_settles);
        const std::uint64_t applied = passed ? session.barrier : 0;
        session.told_applied = std::max(session.told_applied, applied);
        send(session, protocol::Settled{session.told_settles, std::exchange(session.stale, {}), applied});
    }
    const bool ready = box.queue.has_ready();
    if (session.told_ready != ready) {
        session.told_ready = ready;
        send(session, protocol::State{ready});
    }
}

void Host::Impl::tell_producer(Session& session) {
    protocol::Confirm confirm;
    const queue::Producer& producer = *session.producer;
    if (producer.decided > session.told_held) confirm.held = session.told_held = producer.decided;
    const bool durable = is_durable(session.box);
    if (durable && producer.stored > session.told_stored) confirm.stored = session.told_stored = producer.stored;
    // A refusal is final only when it is remembered: in a store that is when its watermark is.
    const std::uint64_t final = durable ? producer.stored : producer.decided;
    auto known = session.refused.begin();
    for (; known != session.refused.end() && known->sequence <= final; ++known) confirm.refused.push_back(*known);
    session.refused.erase(session.refused.begin(), known);
    // It builds on its place, so neither the messages up to there nor its hold on the name may be lost again: the
    // commit that has the one has the other.
    const bool safe = !durable || producer.stored_life == session.incarnation;
    if (session.resume_due && safe) {
        session.resume_due = false;
        confirm.resume = producer.decided;
    }
    const bool news = confirm.held != 0 || confirm.stored != 0 || !confirm.refused.empty() || confirm.resume;
    if (news) send(session, confirm);
}

std::string Host::Impl::blocked_reason() const {
    if (failed) return "store_failed";
    if (draining) return "draining";
    if (disk_full) return "disk_full";
    if (!opened) return "starting";
    return {};
}

// Publish credit: everything granted and not yet used fits into what is free, so a bound is a bound; but for the last
// message of each producer, which may be larger than what is left of its bytes. Half of the room is shared out at most,
// so that who comes later finds some.
void Host::Impl::grant(Session& session, Box& box) {
    protocol::Credit credit = session.credit;
    credit.reason = blocked_reason();
    if (box.feed && !draining) credit.reason.clear();  // whatever the disk is like
    if (credit.reason.empty()) {
        const bool blocks = box.feed ? box.feed->blocks() : box.queue.makes_producers_wait();
        const std::uint64_t room_messages = box.feed ? box.feed->free_messages() : box.queue.free_messages();
        const std::uint64_t room_bytes = box.feed ? box.feed->free_bytes() : box.queue.free_bytes();
        const std::uint64_t no_bound = std::numeric_limits<std::uint64_t>::max();
        const std::uint64_t free_messages = blocks ? less(room_messages, box.granted_messages) : no_bound;
        std::uint64_t free_bytes = less(options.credit_bytes, uncommitted_bytes + granted_bytes);
        if (free_bytes == 0) out_of_credit = true;
        if (blocks) free_bytes = std::min(free_bytes, less(room_bytes, box.granted_bytes));

        const std::uint64_t open_messages = less(credit.messages, session.received_messages);
        const std::uint64_t open_bytes = less(credit.bytes, session.received_bytes);
        const std::uint64_t room = std::max<std::uint64_t>(1, free_messages / (2 * box.producers.size()));
        const std::uint64_t want_messages = std::min(credit_messages, room);
        const std::uint64_t want_bytes =  // a single one lets a message of any size go
            std::clamp<std::uint64_t>(free_bytes / (2 * std::max<std::uint64_t>(1, producers)), 1, credit_share);
        if (open_messages <= want_messages / 2 && free_messages > 0 && (!blocks || room_bytes > 0)) {
            const std::uint64_t more = std::min(less(want_messages, open_messages), free_messages);
            credit.messages += more;
            box.granted_messages += more;
        }
        if (open_bytes <= want_bytes / 2) {
            const std::uint64_t more = std::min(less(want_bytes, open_bytes), free_bytes);
            credit.bytes += more;
            box.granted_bytes += more;
            granted_bytes += more;
        }
        const bool full = blocks && room_bytes == 0;
        if (credit.messages == session.received_messages || full) credit.reason = "queue_full";
    }
    if (credit.messages == session.credit.messages && credit.bytes == session.credit.bytes &&
        credit.reason == session.credit.reason) {
        return;
    }
    session.credit = credit;
    send(session, credit);
}

void Host::Impl::check_sessions(Now now) {
    std::vector<PeerId> silent;
    for (auto& [peer, session] : sessions) {
        const bool is_busy = busy(*session);
        if (is_busy && session->busy_since == never) session->busy_since = now.mono;
        if (!is_busy) session->busy_since = never;
        const Duration interval = heartbeat(*session);
        Mono since = session->heard;
        if (is_busy) since = std::max(since, session->busy_since);
        if (now.mono - since > interval * defaults::heartbeats_missed) {
            silent.push_back(peer);
        } else if (now.mono - session->sent >=
                   (is_busy || heard_lately(*session, now) ? busy_interval(*session) : interval)) {
            session->out.heartbeat();
            if (!session->listed) {
                session->listed = true;
                listed.push_back(session.get());
            }
        }
    }
    for (const PeerId peer : silent) {
        Session& session = *sessions[peer];
        emit(Event::Kind::lost, session.box != nullptr ? session.box->queue.name() : "",
             who(session) + " was not heard for too long" +
                 (session.link != 0       ? "; what is published is kept for it for a while, as far as there is room"
                  : session.consumer != 0 ? "; what it holds stays leased to it until its lease is over"
                                          : ""));
        end_session(peer, now);
    }
    sessions_at = sessions.empty() ? never : now.mono + session_check;
}

Mono Host::Impl::next_deadline() const {
    Mono next = std::min(boxes_at, sessions_at);
    if (last_turn < farewell_until) next = std::min(next, farewell_until);
    if (job_running || failed) return next;
    next = std::min(next, look_again_at);
    if (!opened || disk_room == Room::none) return next;
    for (const Box* box : unsaved) {
        const auto since = box->queue.changed_since();
        if (since && has_changes(*box)) next = std::min(next, *since + defaults::settle_delay);
    }
    return next;
}

// Store ------------------------------------------------------------------------------------------------------------

bool Host::Impl::has_changes(const Box& box) const {
    return box.queue.has_changes(disk_room == Room::plenty) || is_to_replay(box);
}

bool Host::Impl::is_to_replay(const Box& box) const {
    return box.replay && disk_room == Room::plenty && !disk_full && !draining;
}

// Messages are stored at once, with whatever gathered while the last commit was under way. Settlements alone wait a
// little for company (defaults::settle_delay), so that an idle queue does not sync for each of them, unless somebody
// waits for one, or asks for dead letters: who has seen them counted finds them.
bool Host::Impl::job_is_due(Now now) const {
    if (!dead_reads.empty()) return true;
    if (std::any_of(unstored.begin(), unstored.end(), [this](const Question& one) { return may_be_stored(one); })) {
        return true;
    }
    std::size_t settlements = 0;
    for (const Box* box : unsaved) {
        if (!has_changes(*box)) continue;
        if ((disk_room == Room::plenty && box->queue.has_appends()) || is_to_replay(*box)) return true;
        if (!store.durable() || draining || box->sync) return true;
        settlements += box->queue.settlements();
        const auto since = box->queue.changed_since();
        if (since && now.mono - *since >= defaults::settle_delay) return true;
    }
    return settlements >= settle_batch;
}

std::shared_ptr<const store::Job> Host::Impl::take_job(Now now) {
    if (job_running || failed) return nullptr;
    if (now.mono >= look_again_at) disk_room = Room::plenty;
    if (disk_room == Room::none) return nullptr;
    if (!opened) {
        job_running = true;
        return job;
    }
    const bool due = job_is_due(now);
    store::Job next;
    next.dead_reads = std::exchange(dead_reads, {});
    next.backup = std::exchange(backup, std::nullopt);
    std::vector<Box*> still_unsaved;
    for (Box* box : unsaved) {
        if (due || !box->queue.has_changes()) box->sync = false;
        if (due && has_changes(*box)) {
            next.batch.push_back(box->queue.gather(now, disk_room == Room::plenty));
            const bool in_turn = replaying == nullptr || replaying == box;
            if (in_turn && is_to_replay(*box)) next.batch.back().replay = next_slice(*box);
            box->record_in_job = next.batch.back().subscription.has_value();
            box->gone_from_store = next.batch.back().gone;
            job_boxes.push_back(box);
            box->in_job = true;
            take_along(*box);
            for (auto& [id, session] : box->consumers) {
                // They are told of their settles in order: one that rests on a message left behind holds up the others.
                const bool all =
                    session->settled_below <= box->queue.pending_first() && !box->queue.keeps_settles_waiting();
                session->gathered_settles = all ? session->settles : session->safe_settles;
            }
        }
        box->queue.wanted_reads(next.reads, now);
        box->unsaved = box->queue.has_changes() || box->replay;
        if (box->unsaved) still_unsaved.push_back(box);
    }
    unsaved = std::move(still_unsaved);
    if (next.empty() && (!disk_full || now.mono < look_again_at)) return nullptr;  // an empty job asks how much is free
    if (due) gather_questions();
    job = std::make_shared<const store::Job>(std::move(next));
    job_running = true;
    return job;
}

void Host::Impl::complete(store::Outcome outcome, Now now) {
    job_running = false;
    if (outcome.failure == store::Failure::failed) {
        store_failed(outcome.text);
        return;
    }
    if (outcome.failure == store::Failure::full) {
        look_again_at = now.mono + look_again;
        disk_room = opened && disk_room == Room::plenty ? Room::settlements : Room::none;
        set_disk_full(true, outcome.text);
        if (opened) take_back(now);
        give_up_replay(now);
        return;
    }
    set_disk_full(disk_room != Room::plenty || outcome.free_bytes == 0, "free space is down to min_free");
    if (disk_room == Room::plenty) look_again_at = disk_full ? now.mono + look_again : never;
    job.reset();
    if (!std::exchange(opened, true)) touch_all();
    for (Box* box : std::exchange(job_boxes, {})) {
        box->in_job = false;
        box->queue.committed();
        if (std::exchange(box->record_in_job, false)) box->recorded = !box->queue.has_new_record() && !box->replay;
        for (auto& [id, session] : box->consumers) {
            session->safe_settles = std::max(session->safe_settles, session->gathered_settles);
        }
        for (queue::Delivered& one : std::exchange(box->delivering, {})) {
            if (box->queue.holds(one.consumer, {one.offset, one.token})) hand_out(*box, std::move(one));
        }
        touch(*box);
    }
    for (const store::Replayed& part : outcome.replayed) replayed(part, now);
    for (const store::DeadDropped& one : outcome.dropped) {
        find_box(one.topic)->queue.dead_dropped(one.messages, one.bytes);
    }
    forget_removed();
    answer_stored();
    for (const store::Damage& damage : outcome.damage) {
        if (Box* box = find_box(damage.topic)) box->queue.lost_damaged(damage);
    }
    std::vector<Box*> read;  // the reads of one are neighbours; in their order, so that a seed replays
    for (store::ReadResult& result : outcome.reads) {
        Box* box = find_box(result.topic);
        if (box == nullptr) continue;
        box->queue.loaded(std::move(result), now);
        if (read.empty() || read.back() != box) read.push_back(box);
    }
    for (Box* box : read) {
        box->queue.reads_done(now);
        touch(*box);
    }
    for (store::ReadDeadResult& result : outcome.dead_reads) answer(result, now);
    if (outcome.backup) answer(*outcome.backup);
    give_up_replay(now);
    look_at_postponed(now);
}

// Nothing of the job was stored or read. What is left of it when new messages have to wait is the next one.
void Host::Impl::take_back(Now now) {
    const std::shared_ptr<const store::Job> failed_job = std::exchange(job, nullptr);
    for (const store::TopicBatch& batch : failed_job->batch) find_box(batch.topic)->queue.take_back(batch, now);
    for (Box* box : std::exchange(job_boxes, {})) {
        box->in_job = box->record_in_job = box->gone_from_store = false;
        box->undelivered.insert(box->undelivered.begin(), box->delivering.begin(), box->delivering.end());
        box->delivering.clear();
        touch(*box);
    }
    for (const store::Read& read : failed_job->reads) {
        Box* box = find_box(read.topic);
        box->queue.reads_dropped();
        touch(*box);
    }
    dead_reads.insert(dead_reads.begin(), failed_job->dead_reads.begin(), failed_job->dead_reads.end());
    if (failed_job->backup && !backup) backup = failed_job->backup;
    std::move(unstored.begin(), unstored.end(), std::back_inserter(storing));
    unstored = std::exchange(storing, {});
}

void Host::Impl::store_failed(const std::string& text) {
    failed = true;
    failure = text;
    look_again_at = never;
    emit(Event::Kind::store_failed, "",
         text + "; nothing is accepted or delivered any more: mend the disk and start again");
    touch_all();
}

void Host::Impl::set_disk_full(bool full, const std::string& text) {
    if (disk_full == full) return;
    disk_full = full;
    emit(Event::Kind::store_failed, "",
         full ? "disk full: " + text + "; publishing stops, settling goes on"
              : "there is room on the disk again; publishing goes on");
    touch_all();
}

// Host -------------------------------------------------------------------------------------------------------------

Host::Host(Options options, store::Store& store, Now now)
    : impl_(std::make_unique<Impl>(std::move(options), store, now)) {}
Host::~Host() = default;

void Host::receive(PeerId peer, const Slice& frame, Now now) {
    impl_->receive(peer, frame, now);
}
void Host::greet(PeerId peer) {
    impl_->send_outside(peer, protocol::Identify{impl_->options.incarnation});
}
void Host::turn(Now now) {
    impl_->turn(now);
}
std::shared_ptr<const store::Job> Host::take_job(Now now) {
    return impl_->take_job(now);
}
void Host::complete(store::Outcome outcome, Now now) {
    impl_->complete(std::move(outcome), now);
}
Mono Host::next_deadline() const {
    return impl_->next_deadline();
}

std::vector<OutFrame> Host::take_frames() {
    std::vector<OutFrame> frames = std::exchange(impl_->outside, {});
    for (Session* session : impl_->listed) {
        session->listed = false;
        session->sent = impl_->last_turn;
        for (std::string& bytes : session->out.flush()) frames.push_back({session->peer, std::move(bytes)});
    }
    impl_->listed.clear();
    return frames;
}

void Host::drain(std::chrono::milliseconds retry_after, Now now) {
    impl_->draining = true;
    impl_->retry_after = retry_after;
    const bool feeds = std::any_of(impl_->sessions.begin(), impl_->sessions.end(),
                                   [](const auto& one) { return one.second->link != 0; });
    impl_->farewell_until = now.mono + (feeds ? feed_farewell : farewell);
    for (const auto& [peer, session] : impl_->sessions) {
        if (session->link != 0) impl_->end_feed(*session, *session->box);
        impl_->send(*session,
                    protocol::Bye{static_cast<std::uint64_t>(retry_after.count()), "this host goes down for a while"});
    }
    impl_->touch_all();
}

bool Host::Impl::has_ends() const {
    return std::any_of(sessions.begin(), sessions.end(),
                       [](const auto& one) { return one.second->role != protocol::Role::admin; });
}

bool Host::idle() const {
    if (impl_->failed) return true;  // nothing can be stored any more
    if (impl_->job != nullptr) return false;
    if (impl_->draining && impl_->last_turn < impl_->farewell_until && impl_->has_ends()) return false;
    return std::none_of(impl_->boxes.begin(), impl_->boxes.end(), [this](const auto& box) {
        return box.second->queue.has_changes() || impl_->is_to_replay(*box.second);
    });
}

std::uint64_t Host::unsettled() const {
    std::uint64_t messages = 0;
    for (const auto& [name, box] : impl_->boxes) messages += box->queue.is_log() ? 0 : box->queue.messages();
    return messages;
}

}  // namespace posthorn::host
