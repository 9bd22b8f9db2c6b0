#include "unit/store/model.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <set>

#include "store/sqlite_store.hpp"

namespace posthorn::store::testing {

namespace {

constexpr std::size_t unlimited = std::numeric_limits<std::size_t>::max();

// Some offset that is there, or just any.
template <class Map>
Offset some_key(const Map& map, std::uint64_t any) {
    if (map.empty()) return 1;
    const auto at = map.lower_bound(map.begin()->first + any % (map.rbegin()->first - map.begin()->first + 1));
    return at->first;
}

}  // namespace

void cut_back(ModelTopic& topic, const DeadBound& bound) {
    std::uint64_t bytes = 0;
    for (const auto& [offset, letter] : topic.dead) bytes += letter.size();
    for (auto at = topic.dead.begin(); at != topic.dead.end();) {
        const bool too_many = bound.max_messages != 0 && topic.dead.size() > bound.max_messages;
        const bool too_large = bound.max_bytes != 0 && bytes > bound.max_bytes;
        if ((!too_many && !too_large) || bound.keep.contains(at->first)) {
            ++at;
        } else {
            bytes -= at->second.size();
            at = topic.dead.erase(at);
        }
    }
}

void play(Model& model, const TopicBatch& batch) {
    ModelTopic& topic = model[batch.topic];
    topic.next_offset = std::max(topic.next_offset, batch.next_offset);
    for (const Append& append : batch.appends) {
        topic.messages[append.offset] = {std::string(append.envelope.view()),
                                         append.redrives,
                                         append.maybe_duplicate,
                                         batch.accepted_at,
                                         append.terms,
                                         std::nullopt};
    }
    for (const OffsetRange& range : batch.settled) {
        topic.messages.erase(topic.messages.lower_bound(range.first), topic.messages.upper_bound(range.last));
    }
    for (const Mark& mark : batch.marks) {
        const auto found = topic.messages.find(mark.offset);
        if (found != topic.messages.end()) found->second.mark = mark;
    }
    for (const DeadLetter& dead : batch.dead) {
        const auto found = topic.messages.find(dead.offset);
        if (found == topic.messages.end()) continue;
        topic.dead[dead.offset] = {dead.reason,       dead.text,     dead.attempts,          dead.first_failure,
                                   dead.last_failure, dead.consumer, found->second.envelope, found->second.redrives,
                                   std::nullopt};
        topic.messages.erase(found);
    }
    for (const Edit& edit : batch.edits) {
        const auto found = topic.dead.find(edit.dead);
        if (found == topic.dead.end()) continue;
        if (!found->second.original) found->second.original = found->second.envelope;
        found->second.envelope = edit.envelope.view();
    }
    for (const Redrive& redrive : batch.redrives) {
        const auto found = topic.dead.find(redrive.dead);
        if (found == topic.dead.end()) continue;
        topic.messages[redrive.offset] = {found->second.envelope,
                                          static_cast<std::uint16_t>(found->second.redrives + 1),
                                          false,
                                          batch.accepted_at,
                                          redrive.terms,
                                          std::nullopt};
        topic.dead.erase(found);
    }
    for (const Offset dead : batch.purged) topic.dead.erase(dead);
    if (batch.dead_bound) cut_back(topic, *batch.dead_bound);
    for (const Watermark& mark : batch.watermarks)
        topic.watermarks[mark.producer] = {mark.sequence, mark.refusals, mark.life};
    for (const Identity& producer : batch.forgotten) topic.watermarks.erase(producer);
    for (const DedupKey& key : batch.dedup_keys)
        topic.dedup_keys[key.offset] = {key.accepted_at, key.key, batch.dedup_keys.back().offset};
    std::erase_if(topic.dedup_keys, [&](const auto& one) { return one.second.last < batch.dedup_gone; });
    topic.subscription = batch.subscription.value_or(topic.subscription);
    if (batch.gone) model.erase(batch.topic);
}

void play(Model& model, const Job& job) {
    for (const TopicBatch& batch : job.batch) play(model, batch);
}

bool is_selected(const ModelMessage& message, const Read::Select& select, bool marks) {
    const Terms& terms = message.terms;
    if ((marks && message.mark ? message.mark->due : terms.due) > select.now) return false;
    if ((select.priorities & (1U << terms.priority)) != 0) return true;
    return terms.key != 0 && (select.keys & (std::uint64_t{1} << key_group(terms.key))) != 0;
}

ReadResult expected(const Model& model, const Read& read, bool marks) {
    ReadResult result;
    result.topic = read.topic;
    result.next = read.from;
    std::size_t given = 0;
    std::size_t bytes = 0;
    const auto topic = model.find(read.topic);
    if (topic != model.end()) {
        const auto& messages = topic->second.messages;
        for (auto at = messages.lower_bound(read.from); at != messages.end() && at->first <= read.to; ++at) {
            const auto& [offset, message] = *at;
            const bool fits =
                given < read.max_messages &&
                (given == 0 || (bytes < read.max_bytes && bytes + message.envelope.size() <= read.max_bytes));
            if (!fits && !read.select) return result;
            const bool body = fits && (!read.select || is_selected(message, *read.select, marks));
            if (body) {
                ++given;
                bytes += message.envelope.size();
            }
            result.messages.push_back({offset, read.bodies && body ? Slice(message.envelope) : Slice(),
                                       static_cast<std::uint32_t>(message.envelope.size()), message.redrives,
                                       message.maybe_duplicate, message.accepted_at, message.terms, message.mark});
            result.next = offset + 1;
        }
    }
    if (read.to >= read.from) result.next = read.to + 1;
    return result;
}

Model contents(Store& store, const std::vector<std::string>& topics) {
    Model model;
    for (const std::string& name : topics) {
        ModelTopic& topic = model[name];
        Job job;
        job.reads.push_back(read_all(name));
        Outcome outcome = store.run(job);
        EXPECT_EQ(outcome.failure, Failure::none) << outcome.text;
        for (const StoredMessage& message : outcome.reads.at(0).messages) {
            topic.messages[message.offset] = {std::string(message.envelope.view()),
                                              message.redrives,
                                              message.maybe_duplicate,
                                              message.accepted_at,
                                              message.terms,
                                              message.mark};
        }
        bool more = true;
        for (Offset from = 0; more;) {
            Job dead;
            dead.dead_reads.push_back({name, from, 3, 7});
            outcome = store.run(dead);
            const ReadDeadResult& result = outcome.dead_reads.at(0);
            EXPECT_EQ(result.ticket, 7U);
            for (const StoredDeadLetter& letter : result.letters) {
                const DeadLetter& record = letter.record;
                topic.dead[record.offset] = {record.reason,
                                             record.text,
                                             record.attempts,
                                             record.first_failure,
                                             record.last_failure,
                                             record.consumer,
                                             std::string(letter.envelope.view()),
                                             letter.redrives,
                                             {}};
                if (letter.original) topic.dead[record.offset].original = letter.original->view();
                from = record.offset + 1;
            }
            more = result.more;
        }
    }
    return model;
}

std::unique_ptr<Store> open(const std::filesystem::path& folder) {
    auto store = open_sqlite_store({.folder = folder, .min_free = 0, .vfs = {}});
    static_cast<void>(store->recover());
    return store;
}

Model recovered(Store& store) {
    const Recovery recovery = store.recover();
    std::vector<std::string> names;
    for (const RecoveredTopic& topic : recovery.topics) names.push_back(topic.topic);
    Model model = contents(store, names);
    for (const RecoveredTopic& topic : recovery.topics) {
        ModelTopic& read = model[topic.topic];
        read.next_offset = topic.next_offset;
        read.subscription = topic.subscription;
        for (const Watermark& mark : topic.watermarks) {
            read.watermarks[mark.producer] = {mark.sequence, mark.refusals, mark.life};
            EXPECT_EQ(mark.seen, some_time);
        }
        for (const DedupKey& key : topic.dedup_keys) read.dedup_keys[key.offset] = {key.accepted_at, key.key};
        std::uint64_t bytes = 0;
        for (const auto& [offset, message] : read.messages) {
            bytes += message.envelope.size();
            const auto span = std::find_if(topic.spans.begin(), topic.spans.end(),
                                           [at = offset](const Span& one) { return one.range.last >= at; });
            const bool special = message.mark || message.terms != Terms{};
            EXPECT_TRUE(span != topic.spans.end() && span->range.first <= offset && !(span->plain && special))
                << offset;
        }
        std::uint64_t dead_bytes = 0;
        for (const auto& [offset, letter] : read.dead) dead_bytes += letter.size();
        EXPECT_EQ(topic.messages, read.messages.size());
        EXPECT_EQ(topic.bytes, bytes);
        EXPECT_EQ(topic.dead, read.dead.size());
        EXPECT_EQ(topic.dead_bytes, dead_bytes);
        EXPECT_EQ(topic.first, read.messages.empty() ? topic.next_offset : read.messages.begin()->first);
        EXPECT_EQ(topic.oldest, read.messages.empty() ? Wall{} : read.messages.begin()->second.accepted_at);
    }
    return model;
}

Model without_memory_of_lives(Model model) {
    for (auto& [name, topic] : model) {
        topic.next_offset = 1;
        topic.watermarks.clear();
        topic.dedup_keys.clear();
        topic.subscription.clear();
        for (auto& [offset, message] : topic.messages) message.mark.reset();
    }
    return model;
}

Identity identity(std::uint8_t number) {
    Identity id;
    id.bytes.fill(number);
    return id;
}

Append message(Offset offset, std::string envelope) {
    return {offset, Slice(std::move(envelope)), 0, false};
}

TopicBatch batch_of(Offset first, std::size_t count, std::size_t size) {
    TopicBatch batch;
    batch.topic = "q";
    batch.accepted_at = some_time;
    for (Offset offset = first; offset < first + count; ++offset) {
        std::string envelope = std::to_string(offset);
        envelope.resize(size, '.');
        batch.appends.push_back(message(offset, std::move(envelope)));
    }
    batch.next_offset = first + count;
    return batch;
}

Job job_of(TopicBatch batch) {
    Job job;
    job.batch.push_back(std::move(batch));
    return job;
}

Job shared_job(const TopicBatch& batch, const std::vector<std::string>& topics) {
    Job job;
    for (const std::string& topic : topics) {
        TopicBatch& one = job.batch.emplace_back(batch);
        one.topic = topic;
        one.share = "all";
    }
    return job;
}

Read read_all(const std::string& topic) {
    return {topic, 0, std::numeric_limits<Offset>::max() / 2, unlimited, unlimited, true};
}

std::string Work::bytes() {
    const std::uint64_t kind = pick(100);
    std::string bytes(kind == 0 ? pick(200'000) : kind < 10 ? pick(5000) : pick(300), '\0');
    for (std::size_t i = 0; i < bytes.size(); i += 7) bytes[i] = static_cast<char>(random_() & 0xFF);
    return bytes;
}

void Work::add_messages(TopicBatch& batch) {
    const bool uniform = pick(2) == 0;
    const bool special = pick(3) == 0;
    const std::string same = bytes().substr(0, 200);
    const std::uint64_t kind = pick(20);
    for (std::uint64_t left = kind == 0 ? pick(5000) : kind < 5 ? 0 : pick(40); left != 0; --left) {
        if (pick(10) == 0) batch.next_offset += pick(5);  // settled before it was stored
        Append append = message(batch.next_offset++, uniform || kind == 0 ? same : bytes());
        append.maybe_duplicate = pick(10) == 0;
        append.redrives = static_cast<std::uint16_t>(pick(10) == 0 ? pick(5) : 0);
        if (special && pick(4) == 0) append.terms = terms();
        batch.appends.push_back(std::move(append));
    }
}

Terms Work::terms() {
    Terms terms;
    if (pick(3) == 0) terms.due = some_time + std::chrono::milliseconds{1 + pick(100'000)};
    if (pick(3) == 0) terms.expires_at = some_time + std::chrono::milliseconds{1 + pick(3)};
    if (pick(3) == 0) terms.key = random_();
    if (pick(2) == 0) terms.priority = static_cast<std::uint8_t>(pick(10));
    return terms;
}

void Work::settle(TopicBatch& batch, const ModelTopic& topic) {
    if (topic.messages.empty()) return;
    const Offset highest = topic.messages.rbegin()->first;
    Offset at = pick(3) == 0 ? some_key(topic.messages, random_()) : topic.messages.begin()->first;
    for (std::uint64_t left = pick(6); left != 0 && at <= highest; --left) {
        const Offset last = std::min(highest, at + (pick(10) == 0 ? pick(3000) : pick(30)));
        batch.settled.push_back({at, last});
        at = last + 2 + pick(20);
    }
}

void Work::mark(TopicBatch& batch, const ModelTopic& topic) {
    if (topic.messages.empty()) return;
    for (std::uint64_t groups = pick(4); groups != 0; --groups) {
        Mark mark;
        mark.token = static_cast<std::uint32_t>(pick(5));
        mark.attempts = static_cast<std::uint16_t>(pick(3));
        mark.deaths = static_cast<std::uint16_t>(pick(2));
        mark.suspect = pick(4) == 0;
        mark.isolate = pick(8) == 0;
        mark.holder = pick(3) == 0 ? Identity{} : identity(static_cast<std::uint8_t>(pick(5)));
        if (pick(3) == 0) mark.due = some_time + std::chrono::milliseconds{pick(100'000)};
        if (mark.attempts != 0) mark.first_failure = some_time;
        mark.offset = some_key(topic.messages, random_());
        for (std::uint64_t run = 1 + pick(20); run != 0; --run, ++mark.offset) batch.marks.push_back(mark);
    }
}

void Work::bury(TopicBatch& batch, const ModelTopic& topic) {
    std::set<Offset> chosen;
    for (std::uint64_t left = pick(3); left != 0 && !topic.messages.empty(); --left) {
        chosen.insert(some_key(topic.messages, random_()));
    }
    if (pick(10) == 0 && !batch.appends.empty()) chosen.insert(batch.appends[pick(batch.appends.size())].offset);
    for (const Offset offset : chosen) {
        batch.dead.push_back({offset, static_cast<Reason>(1 + pick(5)), bytes().substr(0, 100),
                              static_cast<std::uint32_t>(pick(6)), some_time, some_time + 5ms, "consumer"});
    }
    if (pick(6) != 0 || topic.messages.empty()) return;
    auto next = topic.messages.find(some_key(topic.messages, random_()));
    DeadLetter like{0, Reason::queue_full, "the same for all", 0, {}, some_time, ""};
    for (std::uint64_t run = pick(200); run != 0 && next != topic.messages.end(); --run, ++next) {
        like.offset = next->first;
        if (pick(10) == 0) like.last_failure += 1ms;
        if (chosen.insert(like.offset).second) batch.dead.push_back(like);
    }
}

void Work::look_after_dead(TopicBatch& batch, const ModelTopic& topic) {
    std::set<Offset> chosen;
    for (std::uint64_t left = pick(4); left != 0 && !topic.dead.empty(); --left) {
        chosen.insert(some_key(topic.dead, random_()));
    }
    for (const Offset dead : chosen) {
        const std::uint64_t fate = pick(4);
        if (fate < 2) batch.edits.push_back({dead, Slice(bytes())});
        if (fate == 0) continue;
        if (pick(3) == 0) {
            batch.purged.push_back(dead);
        } else {
            batch.redrives.push_back({dead, batch.next_offset++, pick(3) == 0 ? terms() : Terms{}});
            if (pick(2) == 0 && batch.share.empty()) batch.appends.push_back(message(batch.next_offset++, bytes()));
        }
    }
}

void Work::remember(TopicBatch& batch, const ModelTopic& topic) {
    for (std::uint64_t left = pick(3); left != 0; --left) {
        Watermark mark{identity(static_cast<std::uint8_t>(pick(6))), pick(1000), {}, some_time};
        for (std::uint64_t sequence = 1; sequence <= pick(4); ++sequence) {
            mark.refusals.push_back({sequence, "queue_full", "no room"});
        }
        if (pick(3) == 0) mark.life = identity(static_cast<std::uint8_t>(100 + pick(6)));
        batch.watermarks.push_back(std::move(mark));
    }
    if (pick(10) == 0 && !topic.watermarks.empty()) batch.forgotten.push_back(topic.watermarks.begin()->first);
}

// Of messages of this batch, stored or not.
void Work::deduplicate(TopicBatch& batch, const ModelTopic& topic) {
    if (pick(2) == 0) {
        for (Offset offset = topic.next_offset; offset < batch.next_offset; offset += 1 + pick(20))
            batch.dedup_keys.push_back({offset, some_time + std::chrono::milliseconds{pick(1000)}, bytes()});
    }
    if (pick(4) != 0 || topic.dedup_keys.empty()) return;
    batch.dedup_gone = pick(2) == 0 ? batch.next_offset : some_key(topic.dedup_keys, random_());
    if (pick(4) != 0 && !batch.dedup_keys.empty())
        batch.dedup_gone = std::min(batch.dedup_gone, batch.dedup_keys.front().offset);
}

// Some of what the batches of a share have in common, or all, if the topic has not come further yet.
void Work::take_of(const TopicBatch& common, TopicBatch& batch) {
    batch.share = common.share;
    const bool all = pick(2) == 0;
    for (Append append : common.appends) {
        if (append.offset < batch.next_offset || (!all && pick(3) == 0)) continue;
        if (!all && pick(20) == 0) append.terms = terms();
        if (!all && pick(20) == 0) append.maybe_duplicate = true;
        batch.appends.push_back(std::move(append));
    }
    batch.next_offset = std::max(batch.next_offset, common.next_offset);
}

TopicBatch Work::batch(const std::string& name, const ModelTopic& topic, const TopicBatch* common) {
    TopicBatch batch;
    batch.topic = name;
    batch.accepted_at = some_time + std::chrono::milliseconds{pick(3)};
    batch.next_offset = topic.next_offset;
    if (common != nullptr) {
        take_of(*common, batch);
    } else {
        add_messages(batch);
    }
    settle(batch, topic);
    mark(batch, topic);
    bury(batch, topic);
    look_after_dead(batch, topic);
    remember(batch, topic);
    deduplicate(batch, topic);
    if (pick(5) == 0) batch.dead_bound = {pick(20), pick(3) * pick(1000), {some_key(topic.dead, random_())}};
    if (pick(10) == 0) batch.subscription = pick(3) == 0 ? std::string() : bytes();
    batch.gone = pick(50) == 0;
    return batch;
}

Job Work::job(const Model& model) {
    static const ModelTopic none;
    Job job;
    std::set<std::string> names;
    for (std::uint64_t left = 1 + pick(2); left != 0; --left)
        names.insert(std::string(1, static_cast<char>('a' + pick(3))));
    const auto topic = [&](const std::string& name) -> const ModelTopic& {
        const auto found = model.find(name);
        return found == model.end() ? none : found->second;
    };
    if (pick(3) != 0) {
        for (const std::string& name : names) job.batch.push_back(batch(name, topic(name), nullptr));
        return job;
    }
    names = {"a", "b", "c"};
    TopicBatch common;
    common.share = "all";
    common.next_offset = topic("a").next_offset;
    const bool behind_all = pick(2) == 0;
    for (const std::string& name : names) {
        const Offset next = topic(name).next_offset;
        common.next_offset = behind_all ? std::max(common.next_offset, next) : std::min(common.next_offset, next);
    }
    add_messages(common);
    for (const std::string& name : names) job.batch.push_back(batch(name, topic(name), &common));
    return job;
}

Read Work::read(const Model& model) {
    Read read;
    read.topic = std::string(1, static_cast<char>('a' + pick(3)));
    const auto found = model.find(read.topic);
    const Offset next = found == model.end() ? 1 : found->second.next_offset;
    read.from = pick(next + 1);
    read.to = pick(4) == 0 ? next + 10 : read.from + pick(next + 1);
    read.max_messages = 1 + pick(500);
    read.max_bytes = pick(100'000);
    read.bodies = pick(3) != 0;
    if (pick(3) == 0) {
        read.select = {.priorities = static_cast<std::uint16_t>(pick(1024)),
                       .keys = pick(2) == 0 ? 0 : random_(),
                       .now = some_time + std::chrono::milliseconds{pick(100'000)}};
    }
    return read;
}

}  // namespace posthorn::store::testing
