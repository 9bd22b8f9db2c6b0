// One slice of a Replay: chunks of one topic, copied to another over the bodies that they lie over.
#pragma once

#include "store/chunk_table.hpp"
#include "store/store.hpp"

namespace posthorn::store {

// Within a transaction; the name of the topic is left to the caller. Throws SqlError.
[[nodiscard]] Replayed copy_slice(ChunkTable& chunks, const Replay& replay, TopicId from, TopicId to);

}  // namespace posthorn::store
