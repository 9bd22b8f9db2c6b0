// What the batches of a job that name the same share have in common, to be stored once: bodies over which each of these
// batches has a chunk of its own. Knows neither files nor topics that are stored already.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "store/chunk.hpp"
#include "store/store.hpp"

namespace posthorn::store {

struct CommonBody {
    PackedChunk all;  // every message that one of the batches has
    std::vector<const TopicBatch*> batches;

    [[nodiscard]] bool is_of(const TopicBatch& batch) const;
    // The chunk of one of its batches: over all of the body, with what it does not have settled.
    [[nodiscard]] Chunk chunk_of(const TopicBatch& batch) const;
};

// Ascending by offset for each batch. `next_of`: above all that is stored of a topic. A batch is not among those of a
// body that reaches across anything else its topic has, or will have.
[[nodiscard]] std::vector<CommonBody> common_bodies(const std::vector<TopicBatch>& batches,
                                                    const std::function<Offset(const std::string&)>& next_of);

// Cuts what a batch appends into chunks: over the common bodies that are its own, and of its own for the rest.
template <typename Body, typename OverBody, typename OfItsOwn>
void cut(const TopicBatch& batch, const std::vector<Body>& bodies, OverBody over_body, OfItsOwn of_its_own) {
    std::size_t next = 0;
    const auto own_below = [&](Offset below) {
        while (next < batch.appends.size() && batch.appends[next].offset < below) {
            PackedChunk packed;
            next = pack(batch, next, packed, below);
            of_its_own(std::move(packed));
        }
    };
    for (const Body& body : bodies) {
        const CommonBody& common = body.common;
        if (!common.is_of(batch)) continue;
        own_below(common.all.chunk.first());
        over_body(body, common.chunk_of(batch));
        while (next < batch.appends.size() && batch.appends[next].offset <= common.all.chunk.last()) ++next;
    }
    own_below(std::numeric_limits<Offset>::max());
}

}  // namespace posthorn::store
