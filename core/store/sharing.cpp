#include "store/sharing.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <string_view>
#include <utility>

namespace posthorn::store {

namespace {

using Batches = std::vector<const TopicBatch*>;

// All that they append, and where they send dead letters back to.
TopicBatch join(const Batches& batches) {
    const auto by_offset = [](const Append* a, const Append* b) { return a->offset < b->offset; };
    TopicBatch joined;
    joined.accepted_at = batches.front()->accepted_at;
    std::vector<const Append*> all;
    for (const TopicBatch* batch : batches) {
        std::vector<const Append*> own;
        for (const Append& append : batch->appends) own.push_back(&append);
        std::vector<const Append*> both;
        std::set_union(all.begin(), all.end(), own.begin(), own.end(), std::back_inserter(both), by_offset);
        all = std::move(both);
        joined.redrives.insert(joined.redrives.end(), batch->redrives.begin(), batch->redrives.end());
    }
    for (const Append* append : all) joined.appends.push_back(*append);
    return joined;
}

std::vector<Append>::const_iterator at_or_behind(const TopicBatch& batch, Offset offset) {
    return std::lower_bound(batch.appends.begin(), batch.appends.end(), offset,
                            [](const Append& append, Offset wanted) { return append.offset < wanted; });
}

bool has_some_of(const TopicBatch& batch, const Chunk& chunk) {
    const auto at = at_or_behind(batch, chunk.first());
    return at != batch.appends.end() && at->offset <= chunk.last();
}

}  // namespace

bool CommonBody::is_of(const TopicBatch& batch) const {
    return std::binary_search(batches.begin(), batches.end(), &batch, std::less<>());
}

Chunk CommonBody::chunk_of(const TopicBatch& batch) const {
    Chunk chunk;
    std::vector<std::size_t> missing;
    auto own = at_or_behind(batch, all.chunk.first());
    for (std::size_t i = 0; i < all.chunk.size(); ++i) {
        Chunk::Message message = all.chunk.message(i);
        message.accepted_at = batch.accepted_at;
        if (own != batch.appends.end() && own->offset == message.offset) {
            message.redrives = own->redrives;
            message.maybe_duplicate = own->maybe_duplicate;
            message.terms = own->terms;
            ++own;
        } else {
            missing.push_back(i);
        }
        chunk.add(message);
    }
    for (const std::size_t index : missing) chunk.settle_indexes(index, index + 1);
    return chunk;
}

std::vector<CommonBody> common_bodies(const std::vector<TopicBatch>& batches,
                                      const std::function<Offset(const std::string&)>& next_of) {
    std::map<std::string_view, Batches> groups;
    for (const TopicBatch& batch : batches) {
        if (!batch.share.empty() && !batch.appends.empty()) groups[batch.share].push_back(&batch);
    }
    std::vector<CommonBody> bodies;
    for (const auto& [share, group] : groups) {
        if (group.size() < 2) continue;
        const TopicBatch joined = join(group);
        for (std::size_t next = 0; next < joined.appends.size();) {
            CommonBody body;
            next = pack(joined, next, body.all);
            const Chunk& all = body.all.chunk;
            std::copy_if(group.begin(), group.end(), std::back_inserter(body.batches), [&](const TopicBatch* batch) {
                return has_some_of(*batch, all) && next_of(batch->topic) <= all.first() &&
                       all.last() < batch->next_offset;
            });
            if (body.batches.size() > 1) bodies.push_back(std::move(body));
        }
    }
    return bodies;
}

}  // namespace posthorn::store
