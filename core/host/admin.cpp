// What operators ask: listings, and dead letters that are shown, sent back or purged. Rows are msgpack maps, described
// in docs/protocol.md.
#include <algorithm>
#include <array>

#include "envelope/envelope.hpp"
#include "envelope/wire.hpp"
#include "host/host_impl.hpp"

namespace posthorn::host {

namespace {

constexpr std::uint64_t page_bytes = 1024 * 1024;  // of rows in one result
constexpr std::uint32_t page_rows = 10'000;
constexpr std::size_t edits_waiting = 8;  // each may be as large as a message
constexpr std::array dead_letter_verbs = {"dlq_list", "dlq_show", "dlq_redrive", "dlq_purge", "dlq_edit"};

// A map of known size, written field by field.
class Row {
public:
    explicit Row(std::uint32_t fields) { wire::Writer{bytes_}.map(fields); }
    Row& add(std::string_view key, std::uint64_t value) {
        wire::Writer{bytes_}.string(key).unsigned_integer(value);
        return *this;
    }
    Row& add(std::string_view key, std::string_view value) {
        wire::Writer{bytes_}.string(key).string(value);
        return *this;
    }
    Row& real(std::string_view key, double value) {
        wire::Writer{bytes_}.string(key).floating(value);
        return *this;
    }
    Row& maybe(std::string_view key, std::optional<std::chrono::milliseconds> value) {
        return value ? add(key, static_cast<std::uint64_t>(value->count())) : nil(key);
    }
    Row& binary(std::string_view key, std::string_view value) {
        wire::Writer{bytes_}.string(key).binary(value);
        return *this;
    }
    Row& flag(std::string_view key, bool value) {
        wire::Writer{bytes_}.string(key).boolean(value);
        return *this;
    }
    Row& nil(std::string_view key) {
        wire::Writer{bytes_}.string(key).nil();
        return *this;
    }
    Row& row(std::string_view key, const Row& value) {
        wire::Writer{bytes_}.string(key);
        bytes_ += value.bytes_;
        return *this;
    }
    Row& map(std::string_view key, const std::map<std::string, std::string>& values) {
        wire::Writer writer{bytes_};
        writer.string(key).map(static_cast<std::uint32_t>(values.size()));
        for (const auto& [name, value] : values) writer.string(name).string(value);
        return *this;
    }
    [[nodiscard]] std::string take() { return std::move(bytes_); }

private:
    std::string bytes_;
};

std::uint64_t ms(Wall wall) {
    return static_cast<std::uint64_t>(std::max<std::int64_t>(0, wall.time_since_epoch().count()));
}

Message message_of(const Slice& bytes) {
    auto envelope = envelope::decode(bytes.view());
    return envelope ? std::move(envelope->message) : Message{};
}

Row original_row(const Slice& original) {
    constexpr std::uint32_t fields = 4;
    const Message message = message_of(original);
    Row row{fields};
    row.binary("payload", message.payload)
        .add("type", message.type)
        .map("headers", message.headers)
        .add("size", original.size());
    return row;
}

std::string letter_row(const store::StoredDeadLetter& letter, const std::string& id, bool whole) {
    constexpr std::uint32_t short_fields = 11;
    constexpr std::uint32_t whole_fields = 20;
    const auto envelope = envelope::decode(letter.envelope.view());
    const Message message = envelope ? envelope->message : Message{};
    Row row{whole ? whole_fields : short_fields};
    row.add("id", id)
        .add("reason", store::to_string(letter.record.reason))
        .add("text", letter.record.text)
        .add("attempts", letter.record.attempts)
        .add("first_failure", ms(letter.record.first_failure))
        .add("last_failure", ms(letter.record.last_failure))
        .add("consumer", letter.record.consumer)
        .add("type", message.type)
        .add("size", letter.envelope.size())
        .add("redrives", letter.redrives)
        .flag("edited", letter.original.has_value());
    if (whole) {
        row.binary("payload", message.payload)
            .add("content_type", message.content_type)
            .map("headers", message.headers)
            .add("subject", message.subject)
            .add("correlation_id", message.correlation_id)
            .add("traceparent", message.traceparent)
            .add("ttl", static_cast<std::uint64_t>(message.ttl / 1ms))
            .add("timestamp", envelope ? envelope->timestamp_ms : 0);
        if (letter.original) {
            row.row("original", original_row(*letter.original));
        } else {
            row.nil("original");
        }
    }
    return row.take();
}

std::string id_of(const store::StoredDeadLetter& letter) {
    const auto routing = envelope::read_routing(letter.envelope.view());
    if (!routing) return "offset-" + std::to_string(letter.record.offset);
    return envelope::message_id(routing->producer, routing->sequence, letter.redrives);
}

bool matches(const protocol::HeaderField& filter, const std::map<std::string, std::string>& headers) {
    const auto found = headers.find(filter.name);
    return found != headers.end() && (!filter.value || *filter.value == found->second);
}

bool matches(const protocol::AdminRequest& request, const store::StoredDeadLetter& letter, const std::string& id,
             Wall now) {
    const store::DeadLetter& record = letter.record;
    if (!request.reason.empty() && request.reason != store::to_string(record.reason)) return false;
    if (!request.ids.empty() && std::find(request.ids.begin(), request.ids.end(), id) == request.ids.end())
        return false;
    const std::uint64_t age = ms(now) - std::min(ms(now), ms(record.last_failure));
    if (age < request.older_than_ms || (request.newer_than_ms != 0 && age >= request.newer_than_ms)) return false;
    if (record.text.find(request.text) == std::string::npos) return false;
    if (request.type.empty() && request.headers.empty()) return true;
    const auto envelope = envelope::decode(letter.envelope.view());
    if (!envelope || (!request.type.empty() && request.type != envelope->message.type)) return false;
    return std::all_of(request.headers.begin(), request.headers.end(),
                       [&](const auto& header) { return matches(header, envelope->message.headers); });
}

const char* kind_of(const Box& box) {
    if (box.feed) return "live";
    if (box.topic != nullptr) return "subscription";
    return box.queue.is_topic() ? "topic" : "queue";
}

std::string count_row(std::uint64_t matched, std::uint64_t done) {
    return Row{2}.add("matched", matched).add("done", done).take();
}

}  // namespace

void Host::Impl::on_admin(Session& session, const protocol::AdminRequest& request, Now now) {
    Question question{
        .peer = session.peer, .epoch = session.out.epoch(), .request = request, .result = {}, .topic = request.address};
    question.result.id = request.id;
    if (request.verb == "queues") {
        list_queues(session, request, now);
        return;
    }
    if (request.verb == "backup") {
        back_up(std::move(question));
        return;
    }
    if (request.verb == "unsubscribe") {
        unsubscribe(std::move(question), now);
        return;
    }
    if (std::find(dead_letter_verbs.begin(), dead_letter_verbs.end(), request.verb) == dead_letter_verbs.end()) {
        question.result.error = "this host does not know the verb " + request.verb;
    } else if (!request.reason.empty() && !store::reason_from(request.reason)) {
        question.result.error = "there is no reason " + request.reason +
                                "; there are rejected, max_attempts, expired, queue_full, undecodable";
    } else if (find_box(request.address) == nullptr) {
        question.result.error = "there is no queue " + request.address + " here; there is: ";
        std::string names;
        for (const auto& [name, box] : boxes) names += (names.empty() ? "" : ", ") + name;
        question.result.error += names.empty() ? "none yet" : names;
    } else if (failed) {
        question.result.error = "the store has failed: " + failure;
    } else if (request.verb == "dlq_edit") {
        question.result.error = fault_of_edit(request);
    }
    if (!question.result.error.empty()) {
        reply(question);
        return;
    }
    dead_reads.push_back({.topic = request.address,
                          .from = request.from,
                          .max = std::min(std::max(request.max, 1U), page_rows),
                          .ticket = ++last_ticket});
    questions.emplace(last_ticket, std::move(question));
}

std::string Host::Impl::fault_of_edit(const protocol::AdminRequest& request) const {
    if (request.ids.size() != 1) return "an edit is of one dead letter: give its id";
    if (request.change.empty()) return "say what to change: the payload, the type or headers";
    const auto is_edit = [](const Question& one) { return one.request.verb == "dlq_edit"; };
    auto waiting = std::count_if(unstored.begin(), unstored.end(), is_edit) +
                   std::count_if(storing.begin(), storing.end(), is_edit);
    waiting += std::count_if(questions.begin(), questions.end(), [&](const auto& one) { return is_edit(one.second); });
    if (static_cast<std::size_t>(waiting) < edits_waiting) return {};
    return "other edits still wait to be stored; ask again when they are";
}

// Empty: done, as soon as it is stored. Or why not.
std::string Host::Impl::edit(Box& box, const store::StoredDeadLetter& letter, const envelope::Change& change, Now now) {
    const std::string what = "the dead letter cannot be edited: ";
    envelope::Changed changed = envelope::changed(letter.envelope.view(), change);
    if (!changed.fault.empty()) return what + changed.fault;
    if (changed.bytes.size() > options.message_limit) {
        return what + "it would have " + std::to_string(changed.bytes.size()) +
               " bytes; this host takes messages up to " + std::to_string(options.message_limit);
    }
    switch (box.queue.edit(letter, Slice{std::move(changed.bytes)}, now)) {
        case queue::Queue::Edited::claimed:
            return what + "it is being edited, sent back or deleted by somebody else; look at it again";
        case queue::Queue::Edited::no_room:
            return what + "queue " + box.queue.name() +
                   " is full, and dead letters count; send some back or purge them first";
        case queue::Queue::Edited::yes:
            break;
    }
    return {};
}

bool Host::Impl::change(Box& box, const store::StoredDeadLetter& letter, Question& question, Now now) {
    const protocol::AdminRequest& request = question.request;
    if (request.verb == "dlq_redrive") return box.queue.redrive(letter, now);
    if (request.verb == "dlq_purge") return box.queue.purge(letter, now);
    question.result.error = edit(box, letter, request.change, now);
    return question.result.error.empty();
}

void Host::Impl::list_queues(Session& session, const protocol::AdminRequest& request, Now now) {
    constexpr std::uint32_t fields = 45;
    protocol::AdminResult result{.id = request.id, .rows = {}, .next = 0, .error = {}};
    std::uint64_t index = 0;
    std::uint64_t bytes = 0;
    for (const auto& [name, box] : boxes) {
        if (!request.address.empty() && name != request.address) continue;
        if (index++ < request.from) continue;
        if (bytes > page_bytes) {
            result.next = index - 1;
            break;
        }
        const queue::Depth depth = box->queue.depth();
        const queue::Flow flow = box->queue.flow(now);
        const queue::Counters& counters = box->queue.counters();
        const std::uint64_t oldest = depth.oldest ? ms(now.wall) - std::min(ms(now.wall), ms(*depth.oldest)) : 0;
        std::string state = blocked_reason();
        if (state.empty() && box->queue.dlq_blocks()) state = "dlq_full";
        if (state.empty() && box->queue.is_failing()) state = "failing";
        const feed::Counters fed = box->feed ? box->feed->counters() : feed::Counters{};
        const bool full = box->feed ? box->feed->free_messages() == 0 || box->feed->free_bytes() == 0
                                    : box->queue.free_messages() == 0 || box->queue.free_bytes() == 0;
        if (state.empty()) state = full ? "queue_full" : "ok";
        result.rows.push_back(Row{fields}
                                  .add("name", name)
                                  .add("ready", depth.ready)
                                  .add("waiting", depth.waiting)
                                  .add("in_flight", depth.in_flight)
                                  .add("dead", depth.dead)
                                  .add("dead_bytes", depth.dead_bytes)
                                  .real("in_rate", flow.in)
                                  .real("out_rate", flow.out)
                                  .maybe("drain_ms", flow.drain)
                                  .add("oldest_ms", oldest)
                                  .add("consumers", depth.consumers + box->subscribers.size())
                                  .add("producers", depth.producers)
                                  .add("bytes", box->feed ? box->feed->bytes() : depth.bytes)
                                  .add("acked", counters.acked)
                                  .add("nacked", counters.nacked)
                                  .add("released", counters.released)
                                  .add("rejected", counters.rejected)
                                  .add("redelivered", counters.redelivered)
                                  .add("expired_leases", counters.expired_leases)
                                  .add("refused_full", counters.refused_full)
                                  .add("refused_other", counters.refused_other)
                                  .add("duplicates", counters.duplicates)
                                  .add("deduplicated", counters.deduplicated)
                                  .add("stale", counters.stale)
                                  .add("dead_rejected", counters.dead_rejected)
                                  .add("dead_max_attempts", counters.dead_max_attempts)
                                  .add("dead_undecodable", counters.dead_undecodable)
                                  .add("dead_expired", counters.dead_expired)
                                  .add("dead_queue_full", counters.dead_queue_full)
                                  .add("dead_dropped", counters.dead_dropped)
                                  .add("dropped_full", counters.dropped_full)
                                  .add("dropped_expired", counters.dropped_expired)
                                  .add("requests_failed", counters.requests_failed)
                                  .add("requests_expired", counters.requests_expired)
                                  .add("repliers_lost", counters.repliers_lost)
                                  .add("answers_lost", counters.answers_lost)
                                  .add("requests_cancelled", counters.requests_cancelled)
                                  .add("state", state)
                                  .add("store", is_durable(box.get()) ? "disk" : "memory")
                                  .add("kind", kind_of(*box))
                                  .add("links", box->feed ? box->feed->links() : 0)
                                  .add("matched", fed.matched)
                                  .add("missed_full", fed.missed_full)
                                  .add("missed_gone", fed.missed_gone)
                                  .flag("strict", box->queue.is_strict())
                                  .take());
        bytes += result.rows.back().size();
    }
    send(session, result);
}

void Host::Impl::unsubscribe(Question question, Now now) {
    Box* const box = find_box(question.topic);
    if (box == nullptr || box->topic == nullptr || box->removing) {
        question.result.error = "there is no subscription " + question.topic + " here; posthorn queues lists them";
    } else if (is_log(question.topic)) {
        question.result.error = question.topic + " is what " + box->topic->queue.name() +
                                " retains; it goes when the topic's retain_... settings do, at the next start";
    } else if (failed) {
        question.result.error = "the store has failed: " + failure;
    }
    if (!question.result.error.empty()) {
        reply(question);
        return;
    }
    const queue::Depth depth = box->queue.depth();
    question.result.rows.push_back(Row{2}.add("messages", depth.messages).add("dead", depth.dead).take());
    remove_subscription(*box, now);
    unstored.push_back(std::move(question));
}

// Each request is a slice: who asks no more stops it, and nothing has to be remembered about how fast they listen.
void Host::Impl::back_up(Question question) {
    const protocol::AdminRequest& request = question.request;
    const bool begins = request.from == 0;
    std::string& error = question.result.error;
    if (!store.durable()) {
        error = "this host keeps its queues in memory; there is nothing to back up";
    } else if (failed) {
        error = "the store has failed: " + failure;
    } else if (begins && request.folder.empty()) {
        error = "say into which folder";
    } else if (begins && backup_of) {
        error = "another backup is under way; wait until it is done";
    } else if (!begins && backup_of != question.peer) {
        error = "no backup of yours is under way; begin a new one";
    } else if (backup) {
        error = "a slice is still under way; ask again";
    }
    if (!error.empty()) {
        reply(question);
        return;
    }
    using What = store::BackupStep::What;
    backup = {.what = begins ? What::begin : What::go_on, .folder = request.folder, .ticket = ++last_ticket};
    backup_of = question.peer;
    questions.emplace(last_ticket, std::move(question));
}

void Host::Impl::abandon_backup(PeerId peer) {
    if (backup_of != peer) return;
    if (backup) questions.erase(backup->ticket);
    backup = {.what = store::BackupStep::What::give_up};
    backup_of.reset();
}

void Host::Impl::answer(const store::BackupResult& backup_result) {
    const auto found = questions.find(backup_result.ticket);
    if (found == questions.end()) return;
    Question question = std::move(found->second);
    questions.erase(found);
    if (backup_result.whole || !backup_result.error.empty()) {
        if (backup_of == question.peer) backup_of.reset();
    } else {
        question.result.next = backup_result.copied + 1;
    }
    question.result.error = backup_result.error;
    if (backup_result.error.empty())
        question.result.rows.push_back(
            Row{2}.add("copied", backup_result.copied).add("total", backup_result.total).take());
    if (options.log && backup_result.whole)
        options.log(LogLevel::info, "backed up " + std::to_string(backup_result.total) + " bytes");
    reply(question);
}

void Host::Impl::answer(store::ReadDeadResult& read, Now now) {
    const auto found = questions.find(read.ticket);
    if (found == questions.end()) return;
    Question question = std::move(found->second);
    questions.erase(found);
    const protocol::AdminRequest& request = question.request;
    Box* box = find_box(question.topic);
    if (box == nullptr || box->removing) {
        question.result.error = "the subscription " + question.topic + " was removed";
        reply(question);
        return;
    }
    const bool list = request.verb == "dlq_list" || request.verb == "dlq_show";
    std::uint64_t matched = 0;
    std::uint64_t done = 0;
    std::uint64_t last = request.from;
    bool more = read.more;
    for (const store::StoredDeadLetter& letter : read.letters) {
        last = letter.record.offset;
        const std::string id = id_of(letter);
        if (!matches(request, letter, id, now.wall)) continue;
        ++matched;
        if (list) {
            question.result.rows.push_back(letter_row(letter, id, request.verb == "dlq_show"));
        } else if (!request.dry_run && change(*box, letter, question, now)) {
            ++done;
        }
        if (request.verb == "dlq_edit") {  // of one
            more = false;
            break;
        }
    }
    if (more) question.result.next = last + 1;
    if (!list && question.result.error.empty()) question.result.rows.push_back(count_row(matched, done));
    if (done > 0) {
        touch(*box);
        unstored.push_back(std::move(question));  // done is said once it is stored
    } else {
        reply(question);
    }
}

bool Host::Impl::may_be_stored(const Question& question) const {
    return disk_room == Room::plenty || question.request.verb == "dlq_purge" || question.request.verb == "unsubscribe";
}

void Host::Impl::gather_questions() {
    const auto rest = std::partition(unstored.begin(), unstored.end(),
                                     [this](const Question& question) { return may_be_stored(question); });
    storing.assign(std::make_move_iterator(unstored.begin()), std::make_move_iterator(rest));
    unstored.erase(unstored.begin(), rest);
}

void Host::Impl::answer_stored() {
    for (const Question& question : storing) reply(question);
    storing.clear();
}

void Host::Impl::reply(const Question& question) {
    Session* asker = session(question.peer);
    if (asker == nullptr || asker->out.epoch() != question.epoch) return;  // it hung up
    send(*asker, question.result);
}

}  // namespace posthorn::host
