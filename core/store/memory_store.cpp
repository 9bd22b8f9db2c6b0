#include "store/memory_store.hpp"

#include <map>
#include <memory>
#include <utility>

#include "store/chunk.hpp"
#include "store/gathering.hpp"
#include "store/sharing.hpp"

namespace posthorn::store {

namespace {

// Chunks smaller than this are not worth repacking for what they hold on to.
constexpr std::uint32_t repack_from = 4096;  // bytes

using SharedBytes = std::shared_ptr<const std::string>;  // shared with the slices that were read from it

std::shared_ptr<const SharedBytes> keep(std::string bytes) {
    return std::make_shared<const SharedBytes>(std::make_shared<const std::string>(std::move(bytes)));
}

struct KeptChunk {
    Chunk chunk;
    std::shared_ptr<const SharedBytes> body;  // shared with chunks of other topics
};

struct KeptBody {  // of the job under way
    CommonBody common;
    std::shared_ptr<const SharedBytes> body;
};

class Topic {
public:
    DeadDropped apply(const TopicBatch& batch, const std::vector<KeptBody>& bodies) {
        append(batch, bodies);
        for (const OffsetRange& range : batch.settled) settle(range);
        for (const DeadLetter& letter : batch.dead) bury(letter);
        for (const Edit& one : batch.edits) edit(one);
        for (const Redrive& redrive : batch.redrives) send_back(redrive, batch.accepted_at);
        for (const Offset dead : batch.purged) {
            if (const auto found = dead_.find(dead); found != dead_.end()) erase_dead(found);
        }
        return batch.dead_bound ? cut_back(*batch.dead_bound) : DeadDropped{};
    }

    [[nodiscard]] Offset next() const { return chunks_.empty() ? 1 : chunks_.rbegin()->second.chunk.last() + 1; }
    [[nodiscard]] ReadResult read(const Read& read) const;
    [[nodiscard]] ReadDeadResult read_dead(const ReadDead& read) const;

private:
    using Chunks = std::map<Offset, KeptChunk>;  // by first offset; one node per commit batch, not per message

    void append(const TopicBatch& batch, const std::vector<KeptBody>& bodies);
    void add(Chunk chunk, std::shared_ptr<const SharedBytes> body) {
        const Offset first = chunk.first();
        chunks_.emplace_hint(chunks_.end(), first, KeptChunk{std::move(chunk), std::move(body)});
    }
    void add(PackedChunk packed) { add(std::move(packed.chunk), keep(std::move(packed.body))); }
    template <class Map>
    static auto at_or_behind(Map& chunks, Offset offset) {  // the chunk that holds `offset`, else the next one
        auto found = chunks.upper_bound(offset);
        if (found != chunks.begin() && std::prev(found)->second.chunk.last() >= offset) --found;
        return found;
    }
    void settle(const OffsetRange& range);
    Chunks::iterator shrink(Chunks::iterator at);
    void bury(const DeadLetter& letter);
    std::map<Offset, StoredDeadLetter>::iterator erase_dead(std::map<Offset, StoredDeadLetter>::iterator at) {
        dead_bytes_ -= at->second.size();
        return dead_.erase(at);
    }
    void edit(const Edit& edit);
    DeadDropped cut_back(const DeadBound& bound);
    void send_back(const Redrive& redrive, Wall accepted_at);

    Chunks chunks_;
    std::map<Offset, StoredDeadLetter> dead_;
    std::uint64_t dead_bytes_ = 0;
};

void Topic::append(const TopicBatch& batch, const std::vector<KeptBody>& bodies) {
    cut(
        batch, bodies, [&](const KeptBody& body, Chunk chunk) { add(std::move(chunk), body.body); },
        [&](PackedChunk packed) { add(std::move(packed)); });
}

void Topic::settle(const OffsetRange& range) {
    auto at = at_or_behind(chunks_, range.first);
    while (at != chunks_.end() && at->first <= range.last) {
        Chunk& chunk = at->second.chunk;
        if (range.first <= chunk.first() && chunk.last() <= range.last) {
            at = chunks_.erase(at);
        } else {
            chunk.settle(range);
            at = shrink(at);
        }
    }
}

// After a settlement: drops a chunk that is done, repacks one that holds on to much for little. Returns the next one.
Topic::Chunks::iterator Topic::shrink(Chunks::iterator at) {
    KeptChunk& kept = at->second;
    if (kept.chunk.live() == 0) return chunks_.erase(at);
    // Whoever else has the body keeps it, so that a copy may be for nothing: all of theirs are to be small together.
    const std::uint64_t copies = kept.chunk.live_bytes() * static_cast<std::uint64_t>(kept.body.use_count());
    if (kept.chunk.body_size() < repack_from || copies * 4 > kept.chunk.body_size()) return std::next(at);
    PackedChunk packed;
    if (!copy_live(kept.chunk, **kept.body, packed)) return std::next(at);  // cannot be: a part of a chunk fits a chunk
    auto node = chunks_.extract(at++);
    node.key() = packed.chunk.first();
    node.mapped() = {std::move(packed.chunk), keep(std::move(packed.body))};
    chunks_.insert(at, std::move(node));
    return at;
}

void Topic::bury(const DeadLetter& letter) {
    const auto at = at_or_behind(chunks_, letter.offset);
    if (at == chunks_.end()) return;
    Chunk& chunk = at->second.chunk;
    const std::size_t index = chunk.lower_bound(letter.offset);
    if (index == chunk.size() || chunk.offset(index) != letter.offset || !chunk.is_live(index)) return;
    Slice envelope(std::string(chunk.bytes(index, **at->second.body)));
    const auto [dead, fresh] =
        dead_.try_emplace(letter.offset, StoredDeadLetter{letter, std::move(envelope), chunk.message(index).redrives});
    if (fresh) dead_bytes_ += dead->second.size();
    chunk.settle({letter.offset, letter.offset});
    shrink(at);
}

void Topic::edit(const Edit& edit) {
    const auto found = dead_.find(edit.dead);
    if (found == dead_.end()) return;
    StoredDeadLetter& letter = found->second;
    dead_bytes_ -= letter.size();
    if (!letter.original) letter.original = std::move(letter.envelope);
    letter.envelope = edit.envelope;
    dead_bytes_ += letter.size();
}

DeadDropped Topic::cut_back(const DeadBound& bound) {
    DeadDropped dropped;
    for (auto at = dead_.begin(); at != dead_.end() && exceeds(bound, dead_.size(), dead_bytes_);) {
        if (bound.keep.contains(at->first)) {
            ++at;
            continue;
        }
        ++dropped.messages;
        dropped.bytes += at->second.size();
        at = erase_dead(at);
    }
    return dropped;
}

void Topic::send_back(const Redrive& redrive, Wall accepted_at) {
    const auto found = dead_.find(redrive.dead);
    if (found == dead_.end()) return;
    const StoredDeadLetter& letter = found->second;
    add(pack_one(redriven(redrive, letter, accepted_at), letter.envelope.view()));
    erase_dead(found);
}

ReadResult Topic::read(const Read& read) const {
    ReadResult result;
    result.topic = read.topic;
    Gathering gathering(read, result);
    for (auto at = at_or_behind(chunks_, read.from); at != chunks_.end() && at->first <= read.to; ++at) {
        const SharedBytes& body = *at->second.body;
        if (!gathering.take(at->second.chunk, Slice(body, *body))) return result;
    }
    gathering.finish();
    return result;
}

ReadDeadResult Topic::read_dead(const ReadDead& read) const {
    ReadDeadResult result;
    DeadGathering gathering(read, result);
    for (auto at = dead_.lower_bound(read.from); at != dead_.end(); ++at) {
        if (!gathering.fits(at->second.size())) break;
        result.letters.push_back(at->second);
    }
    return result;
}

class MemoryStore final : public Store {
public:
    // A new one is empty, and what marks and watermarks are for is a restart: they end here.
    Recovery recover() override { return {}; }

    Outcome run(const Job& job) override {
        Outcome outcome;
        std::vector<KeptBody> bodies;
        for (CommonBody& common : common_bodies(job.batch, [this](const auto& name) { return topic(name).next(); })) {
            auto body = keep(std::move(common.all.body));
            bodies.push_back({std::move(common), std::move(body)});
        }
        for (const TopicBatch& batch : job.batch) {
            DeadDropped dropped = topics_[batch.topic].apply(batch, bodies);
            dropped.topic = batch.topic;
            if (dropped.messages != 0) outcome.dropped.push_back(std::move(dropped));
            if (batch.gone) topics_.erase(batch.topic);
        }
        for (const Read& read : job.reads) outcome.reads.push_back(topic(read.topic).read(read));
        for (const ReadDead& read : job.dead_reads) outcome.dead_reads.push_back(topic(read.topic).read_dead(read));
        return outcome;
    }

    [[nodiscard]] bool durable() const noexcept override { return false; }

private:
    [[nodiscard]] const Topic& topic(const std::string& name) const {
        static const Topic none;
        const auto found = topics_.find(name);
        return found == topics_.end() ? none : found->second;
    }

    std::map<std::string, Topic> topics_;
};

}  // namespace

std::unique_ptr<Store> make_memory_store() {
    return std::make_unique<MemoryStore>();
}

}  // namespace posthorn::store
