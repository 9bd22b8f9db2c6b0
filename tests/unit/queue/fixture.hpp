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
    void make(const QueuePolicy& policy = {}, bool durable = true) {
        queue =
            std::make_unique<Queue>("q", policy, durable, 1, [this](const Event& event) { events.push_back(event); });
        producer = &queue->attach_producer(identity(1), now);
    }

    Accepted publish(std::string payload = "x", Duration ttl = {}) {
        const std::uint64_t sequence = producer->decided + 1;
        return queue->publish(*producer, {identity(1), sequence, sequence - 1, ttl},
                              Slice{envelope_bytes(identity(1), sequence, std::move(payload))}, now);
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
            if (one.expires_at != Wall{}) expiries[one.offset] = {now.wall, one.expires_at};
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
            dead.erase(redrive.dead);
        }
        for (const Offset offset : last.purged) dead.erase(offset);
        queue->committed();
        read_on();
    }
    void read_on() {
        std::vector<store::Read> reads;
        queue->wanted_reads(reads);
        for (const auto& read : reads) queue->loaded(serve(read), now);
        if (!reads.empty()) queue->reads_done(now);
    }
    store::ReadResult serve(const store::Read& read) {
        store::ReadResult result{.topic = "q", .next = read.to + 1};
        for (auto it = stored.lower_bound(read.from); it != stored.end() && it->first <= read.to; ++it) {
            if (result.messages.size() == read.max_messages) {
                result.next = it->first;
                break;
            }
            store::StoredMessage message{.offset = it->first,
                                         .envelope = read.bodies ? it->second : Slice{},
                                         .size = static_cast<std::uint32_t>(it->second.size())};
            if (const auto life = expiries.find(it->first); life != expiries.end()) {
                std::tie(message.accepted_at, message.expires_at) = life->second;
            }
            if (marks.contains(it->first)) message.mark = marks[it->first];
            result.messages.push_back(message);
        }
        return result;
    }
    // A new life on the same store.
    void restart(const QueuePolicy& policy = {}) {
        store::RecoveredTopic topic{.topic = "q", .next_offset = last.next_offset};
        topic.first = stored.empty() ? topic.next_offset : stored.begin()->first;
        topic.marked = marks.empty() ? 0 : marks.rbegin()->first;
        topic.messages = stored.size();
        topic.dead = dead.size();
        topic.watermarks.push_back({identity(1), producer->stored, {}, now.wall});
        make_recovered(policy, topic);
    }
    void make_recovered(const QueuePolicy& policy, const store::RecoveredTopic& topic) {
        queue = std::make_unique<Queue>("q", policy, true, 1, [this](const Event& event) { events.push_back(event); });
        queue->recover(topic, now);
        while (const auto read = queue->wanted_recovery()) queue->loaded(serve(*read), now);
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
    std::map<Offset, std::pair<Wall, Wall>> expiries;  // accepted, expires
    std::map<Offset, store::StoredDeadLetter> dead;
};

}  // namespace posthorn::queue
