#include "store/recovery.hpp"

#include <algorithm>
#include <string>
#include <unordered_map>
#include <utility>

#include "store/chunk_format.hpp"

namespace posthorn::store {

namespace {

class Scan {
public:
    Scan(Database& db, UpkeepPlan& plan) : db_(db), plan_(plan) {}

    RecoveredTopic& topic(TopicId id) { return topics_[id]; }
    [[nodiscard]] std::vector<BadChunk>& bad() noexcept { return bad_; }
    [[nodiscard]] std::uint64_t chunks() const noexcept { return chunks_; }

    void run() {
        Statement statement(db_,
                            "SELECT topic, first, last, messages, bytes, chunk.body, header, state, layout "
                            "FROM chunk LEFT JOIN chunk_state USING(topic, first) "
                            "LEFT JOIN shared_body ON chunk.body < 0 AND shared_body.body = -chunk.body "
                            "ORDER BY topic, first");
        Query query(statement);
        while (query.step()) look_at(query);
    }

private:
    void look_at(const Query& query) {
        const ChunkRow row{query.integer_at(0), query.integer_at(1), query.integer_at(2),
                           query.integer_at(3), query.integer_at(4), query.signed_at(5)};
        if (topics_.find(row.topic) == topics_.end()) {
            bad_.push_back({row, "of an unknown topic"});
            return;
        }
        const auto header = read_summary(query.bytes_at(6));
        if (!header || !matches(*header, row) || !is_complete(*header, query.bytes_at(8))) {
            bad_.push_back({row, "header damaged"});
            return;
        }
        StateSummary state;
        state.messages = row.messages;
        state.first_live = row.first;
        if (!query.null_at(7)) {
            const auto found = read_state_summary(query.bytes_at(7));
            if (!found || found->messages != row.messages || found->settled >= row.messages ||
                found->settled_bytes > row.body_size) {
                bad_.push_back({row, "settlements damaged"});
                return;
            }
            state = *found;
        }
        add(row, *header, state);
    }

    void add(const ChunkRow& row, const HeaderSummary& header, const StateSummary& state) {
        ++chunks_;
        RecoveredTopic& topic = topics_.at(row.topic);
        const std::uint64_t live_bytes = row.body_size - state.settled_bytes;
        if (topic.messages == 0) {
            topic.first = state.first_live;
            topic.oldest = header.accepted_at;
        }
        topic.messages += row.messages - state.settled;
        topic.bytes += live_bytes;
        add_span(topic.spans, {{state.first_live, row.last}, !header.special && state.last_marked == 0});
        topic.next_offset = std::max(topic.next_offset, row.last + 1);
        plan_.created({row.topic, row.first}, row.body_size);
        if (UpkeepPlan::is_sparse(row.body_size, live_bytes)) plan_.sparse({row.topic, row.first});
    }

    // Neighbours that are alike become one.
    static void add_span(std::vector<Span>& spans, const Span& span) {
        if (!spans.empty() && are_near(spans.back().range, span.range) && spans.back().plain == span.plain) {
            spans.back().range.last = span.range.last;
        } else {
            spans.push_back(span);
        }
    }

    Database& db_;
    UpkeepPlan& plan_;
    std::unordered_map<TopicId, RecoveredTopic> topics_;
    std::vector<BadChunk> bad_;
    std::uint64_t chunks_ = 0;
};

void set_aside(Database& db, ChunkTable& chunks, const std::vector<BadChunk>& bad, const Ledger& ledger,
               Recovery& recovery) {
    if (bad.empty()) return;
    Transaction transaction(db);
    for (const BadChunk& one : bad) chunks.set_aside(one.row, one.row.messages, one.what);
    transaction.commit();
    for (LostChunk& lost : chunks.take_lost()) {
        recovery.damage.push_back({ledger.name_of(lost.topic), lost.range, lost.messages, std::move(lost.what)});
    }
}

// The first chunk of a topic may begin with settled messages, or be made of many by a merge: only its index knows.
void find_oldest(TopicId id, ChunkTable& chunks, RecoveredTopic& topic) {
    if (topic.messages == 0) {
        topic.first = topic.next_offset;
        return;
    }
    const HeldChunk* held = chunks.at_or_behind(id, topic.first);
    if (held == nullptr) return;
    const std::size_t index = held->chunk.next_live(0);
    if (index < held->chunk.size()) topic.oldest = held->chunk.message(index).accepted_at;
}

}  // namespace

// Not .recover: the sqlite3 shell of Debian is built without what that needs.
std::string recovery_command(const std::string& path) {
    return "To save what can be read, with the node stopped: sqlite3 '" + path +
           "' .dump | sed 's/^ROLLBACK.*/COMMIT;/' | sqlite3 -cmd 'PRAGMA page_size=16384; PRAGMA auto_vacuum=2' '" +
           path + ".recovered', then put that file in the place of the other and remove '" + path + "-wal'";
}

Survey survey(Database& db, const Ledger& ledger, UpkeepPlan& plan) {
    Scan scan(db, plan);
    for (const auto& [name, row] : ledger.topics()) {
        RecoveredTopic& topic = scan.topic(row.id);
        topic.topic = name;
        topic.next_offset = row.next_offset;
        topic.dead = row.dead;
        topic.dead_bytes = row.dead_bytes;
        topic.strict = row.strict;
    }
    scan.run();
    Survey survey;
    survey.bad = std::move(scan.bad());
    survey.chunks = scan.chunks();
    for (const auto& [name, row] : ledger.topics()) survey.topics.push_back(std::move(scan.topic(row.id)));
    return survey;
}

Recovery read_everything(Database& db, Ledger& ledger, ChunkTable& chunks, UpkeepPlan& plan) {
    Recovery recovery;
    Survey found = survey(db, ledger, plan);
    set_aside(db, chunks, found.bad, ledger, recovery);
    recovery.topics = std::move(found.topics);
    for (const BodyRef body : ledger.dead_chunks().look_for_thin(UpkeepPlan::thin_kept)) plan.thin(body);
    std::size_t forgotten = 0;
    std::size_t damaged_keys = 0;
    std::size_t damaged_subscriptions = 0;
    std::uint64_t messages = 0;
    std::uint64_t dead = 0;
    for (RecoveredTopic& topic : recovery.topics) {
        const TopicId id = ledger.find(topic.topic)->id;
        topic.watermarks = ledger.watermarks(id, forgotten);
        topic.dedup_keys = ledger.dedup_keys(id, damaged_keys);
        topic.subscription = ledger.subscription(id, damaged_subscriptions);
        find_oldest(id, chunks, topic);
        messages += topic.messages;
        dead += topic.dead;
    }
    recovery.notes.push_back("found " + std::to_string(recovery.topics.size()) + " topics, " +
                             std::to_string(messages) + " messages in " + std::to_string(found.chunks) + " chunks, " +
                             std::to_string(dead) + " dead letters in " + db.path());
    if (forgotten != 0) {
        recovery.notes.push_back(std::to_string(forgotten) +
                                 " producers' watermarks are damaged and left out: what these producers send again "
                                 "may come twice");
    }
    if (damaged_keys != 0) {
        recovery.notes.push_back("the dedup keys of " + std::to_string(damaged_keys) +
                                 " commits are damaged and left out: messages with one of them may be taken again");
    }
    if (damaged_subscriptions != 0) {
        recovery.notes.push_back("what was remembered of " + std::to_string(damaged_subscriptions) +
                                 " subscriptions is damaged and left out: give these their settings again");
    }
    return recovery;
}

}  // namespace posthorn::store
