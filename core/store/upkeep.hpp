// Keeps a store file small and its chunks few, in bounded pieces between commits: merges small neighbours, rewrites
// chunks that little is left of, cuts down bodies that few dead letters lie in, gives freed pages back to the system.
#pragma once

#include "store/chunk_table.hpp"
#include "store/database.hpp"
#include "store/dead_chunks.hpp"
#include "store/upkeep_plan.hpp"

namespace posthorn::store {

class Upkeep {
public:
    static constexpr std::size_t rewrites = 8;          // chunks in one piece
    static constexpr std::size_t thinned = 8;           // bodies in one piece
    static constexpr std::size_t merged_chunks = 4096;  // of all topics, in one piece
    static constexpr std::size_t merged_families = 16;  // times in one piece that it is asked who has a body
    static constexpr std::uint64_t vacuum_every = 16;   // commits
    static constexpr std::int64_t vacuum_pages = 256;   // in one piece: 4 MiB
    static constexpr std::int64_t vacuum_keep = 1024;   // free pages that are left for what comes next: 16 MiB

    Upkeep(Database& db, ChunkTable& chunks, DeadChunks& dead, UpkeepPlan& plan);

    // One piece, if one is due, in a transaction of its own. `room`: merging and rewriting may take some.
    // Throws SqlError; then nothing was changed, and the chunk table and the dead chunks must be cleared.
    void work(bool room);

private:
    void merge(ChunkKey from);
    void rewrite();
    void thin_out();
    void vacuum();
    struct Combined {
        PackedChunk common;
        struct Part {  // of a topic
            Chunk chunk;
            std::vector<std::size_t> settled;
            std::vector<Mark> marks;
        };
        std::vector<Part> parts;
    };
    bool add(const ChunkRow& row, std::span<const TopicId> topics, Combined& to);
    std::size_t combine(std::span<const ChunkRow> rows, std::span<const TopicId> topics);
    bool goes_on(const ChunkRow& before, const ChunkRow& row, std::span<const TopicId> topics);

    Database& db_;
    ChunkTable& chunks_;
    DeadChunks& dead_;
    UpkeepPlan& plan_;
    std::uint64_t calls_ = 0;
    Statement free_pages_;
    Statement pages_;
};

}  // namespace posthorn::store
