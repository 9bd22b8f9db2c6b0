// What a read brings together: the limits of Read and ReadDead, the same for every store.
#pragma once

#include "store/chunk.hpp"
#include "store/store.hpp"

namespace posthorn::store {

class Gathering {
public:
    Gathering(const Read& read, ReadResult& result);

    [[nodiscard]] bool full() const noexcept;
    [[nodiscard]] bool wants_body(const Chunk& chunk) const;
    // Takes what is asked for of a chunk; chunks come in ascending order. `body` may be empty unless it is wanted.
    // False: the limits are reached.
    bool take(const Chunk& chunk, const Slice& body);
    void finish();  // there are no more chunks up to `to`

private:
    [[nodiscard]] bool spent() const noexcept;
    [[nodiscard]] bool selected(const Chunk& chunk, std::size_t index) const;

    const Read& read_;
    ReadResult& result_;
    std::size_t given_ = 0;
    std::size_t bytes_ = 0;
};

class DeadGathering {
public:
    DeadGathering(const ReadDead& read, ReadDeadResult& result);
    bool fits(std::size_t envelope_bytes);  // counts it if so; else says that there is more

private:
    const ReadDead& read_;
    ReadDeadResult& result_;
    std::size_t count_ = 0;
    std::size_t bytes_ = 0;
};

[[nodiscard]] bool exceeds(const DeadBound& bound, std::uint64_t messages, std::uint64_t bytes) noexcept;

// What a dead letter is when it stands in its topic again.
[[nodiscard]] Chunk::Message redriven(const Redrive& redrive, const StoredDeadLetter& letter, Wall accepted_at);

}  // namespace posthorn::store
