// A queue on a memory or a pretended durable store, with time by hand.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "envelope/envelope.hpp"
#include "queue/queue.hpp"

namespace posthorn::queue {

inline Identity identity(std::uint8_t n) {
    Identity id;
    id.bytes.fill(n);
    return id;
}

inline std::string envelope_bytes(const Identity& producer, std::uint64_t sequence, std::string payload = "x") {
    envelope::Envelope envelope;
    envelope.producer = producer;
    envelope.sequence = sequence;
    envelope.previous = sequence - 1;
    envelope.message.payload = std::move(payload);
    std::string bytes;
    envelope::encode(envelope, bytes);
    return bytes;
}

class QueueFixture : public ::testing::Test {
protected:
    void make(const QueuePolicy& policy = {}, bool durable = true, const Limits& limits = {}) {
        queue = std::make_unique<Queue>(
            "q", policy, durable, 1, [this](const Event& event) { events.push_back(event); }, limits);
        producer = &queue->attach_producer(identity(1), now);
    }

    Accepted publish(std::string payload = "x", Duration ttl = {}) {
        return publish(Message{.payload = std::move(payload), .ttl = ttl});
    }
    Accepted publish(Message message) {
        envelope::Envelope envelope;
        envelope.producer = identity(1);
        envelope.sequence = producer->decided + 1;
        envelope.previous = producer->decided;
        envelope.message = std::move(message);
        std::string bytes;
        envelope::encode(envelope, bytes);
        const Slice slice{std::move(bytes)};
        return queue->publish(*producer, envelope::read_routing(slice.view()).value(), slice, now);
    }
    void publish_many(int count) {
        for (int i = 0; i < count; ++i) ASSERT_EQ(publish(), Accepted::yes);
    }

    ConsumerId consumer(std::uint8_t n, std::uint32_t concurrency = 1, std::uint32_t window = 100,
                        const std::vector<Held>& held = {}) {
        lost.clear();
        const ConsumerId id = queue->attach(identity(n), "", concurrency, held, lost, now);
        queue->set_window(id, window, 1 << 30);
        return id;
    }

    std::vector<Delivered> turn() {
        std::vector<Delivered> deliveries;
        recalls.clear();
        queue->turn(now, deliveries, recalls);
        return deliveries;
    }
    std::vector<Offset> offsets(const std::vector<Delivered>& deliveries) {
        std::vector<Offset> out;
        out.reserve(deliveries.size());
        for (const auto& one : deliveries) out.push_back(one.offset);
        return out;
    }
    bool settle(const Delivered& delivery, Verdict verdict, std::optional<Duration> delay = {}, std::string text = {}) {
        return queue->settle(delivery.consumer, {delivery.offset, delivery.token, verdict, delay, std::move(text)},
                             now);
    }
    void pass(Duration time) {
        now.mono += time;
        now.wall += std::chrono::duration_cast<WallClock::duration>(time);
    }
    // The store, as far as a queue can see it: commits what has gathered, reads what is wanted.
    void commit(bool room = true) {
        last = queue->gather(now, room);
        for (const auto& one : last.appends) {
            stored[one.offset] = one.envelope;
            terms[one.offset] = {now.wall, one.terms};
        }
        for (const auto& range : last.settled) {
            for (Offset offset = range.first; offset <= range.last; ++offset) {
                stored.erase(offset);
                marks.erase(offset);
            }
        }
        for (const auto& mark : last.marks) marks[mark.offset] = mark;
        for (const auto& letter : last.dead) {
            dead[letter.offset] = {letter, stored.at(letter.offset), 0};
            stored.erase(letter.offset);
            marks.erase(letter.offset);
        }
        for (const auto& edit : last.edits) {
            auto& letter = dead.at(edit.dead);
            if (!letter.original) letter.original = letter.envelope;
            letter.envelope = edit.envelope;
        }
        for (const auto& redrive : last.redrives) {
            stored[redrive.offset] = dead.at(redrive.dead).envelope;
            terms[redrive.offset] = {now.wall, redrive.terms};
            dead.erase(redrive.dead);
        }
        for (const Offset offset : last.purged) dead.erase(offset);
        if (!last.dedup_keys.empty()) dedup[last.dedup_keys.back().offset] = last.dedup_keys;
        dedup.erase(dedup.begin(), dedup.lower_bound(last.dedup_gone));
        strict = strict || last.strict;
        queue->committed();
        read_on();
    }
    void read_on() {
        std::vector<store::Read> reads;
        queue->wanted_reads(reads, now);
        for (const auto& read : reads) queue->loaded(serve(read), now);
        if (!reads.empty()) queue->reads_done(now);
    }
    static bool is_selected(const store::StoredMessage& message, const store::Read& read) {
        if (!read.select) return true;
        if ((message.mark ? message.mark->due : message.terms.due) > read.select->now) return false;
        const std::uint64_t key = message.terms.key;
        return (read.select->priorities >> message.terms.priority & 1U) != 0 ||
               (key != 0 && (read.select->keys >> store::key_group(key) & 1U) != 0);
    }
    store::ReadResult serve(const store::Read& read) {
        store::ReadResult result{.topic = "q", .from = read.from, .next = read.to + 1};
        std::size_t given = 0;
        for (auto it = stored.lower_bound(read.from); it != stored.end() && it->first <= read.to; ++it) {
            if (given == read.max_messages && !read.select) {
                result.next = it->first;
                break;
            }
            store::StoredMessage message{.offset = it->first, .size = static_cast<std::uint32_t>(it->second.size())};
            std::tie(message.accepted_at, message.terms) = terms.at(it->first);
            if (marks.contains(it->first)) message.mark = marks[it->first];
            if (given < read.max_messages && is_selected(message, read)) {
                ++given;
                if (read.bodies) message.envelope = it->second;
            }
            result.messages.push_back(message);
        }
        return result;
    }
    // A new life on the same store.
    void restart(const QueuePolicy& policy = {}, const Limits& limits = {}) {
        store::RecoveredTopic topic{.topic = "q", .next_offset = last.next_offset};
        for (const auto& [offset, envelope] : stored) {
            const bool plain = terms.at(offset).second == store::Terms{} && !marks.contains(offset);
            constexpr Offset far = 1 << 16;  // of another life
            if (!topic.spans.empty() && topic.spans.back().plain == plain &&
                offset - topic.spans.back().range.last < far) {
                topic.spans.back().range.last = offset;
            } else {
                topic.spans.push_back({{offset, offset}, plain});
            }
        }
        topic.messages = stored.size();
        for (const auto& [offset, envelope] : stored) topic.bytes += envelope.size();
        if (!stored.empty()) topic.oldest = terms.at(stored.begin()->first).first;
        topic.dead = dead.size();
        topic.strict = strict;
        topic.watermarks.push_back({identity(1), producer->stored, {}, now.wall});
        for (const auto& [offset, keys] : dedup)
            topic.dedup_keys.insert(topic.dedup_keys.end(), keys.begin(), keys.end());
        make_recovered(policy, topic, limits);
    }
    void make_recovered(const QueuePolicy& policy, const store::RecoveredTopic& topic, const Limits& limits = {}) {
        queue = std::make_unique<Queue>(
            "q", policy, true, 1, [this](const Event& event) { events.push_back(event); }, limits);
        queue->recover(topic, now);
        while (const auto read = queue->wanted_recovery()) {
            queue->loaded(serve(*read), now);
            queue->reads_done(now);
        }
        producer = &queue->attach_producer(identity(1), now);
    }

    Now now{Mono{1h}, Wall{std::chrono::hours{24 * 365 * 50}}};
    std::vector<Event> events;
    std::unique_ptr<Queue> queue;
    Producer* producer = nullptr;
    std::vector<Held> lost;
    std::vector<Recall> recalls;
    store::TopicBatch last;
    std::map<Offset, Slice> stored;
    std::map<Offset, store::Mark> marks;
    std::map<Offset, std::pair<Wall, store::Terms>> terms;  // and when it was accepted
    std::map<Offset, store::StoredDeadLetter> dead;
    std::map<Offset, std::vector<store::DedupKey>> dedup;  // by the last offset of a commit's
    bool strict = false;
};

}  // namespace posthorn::queue
