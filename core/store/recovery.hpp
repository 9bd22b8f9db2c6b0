// What a store file holds, found by one pass over headers and settlements; bodies are not read.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "store/chunk_table.hpp"
#include "store/database.hpp"
#include "store/ledger.hpp"
#include "store/upkeep_plan.hpp"

namespace posthorn::store {

struct BadChunk {
    ChunkRow row;
    std::string what;
};

struct Survey {
    // As the ledger has them; without watermarks and dedup keys, and not the oldest's exact time.
    std::vector<RecoveredTopic> topics;
    std::vector<BadChunk> bad;
    std::uint64_t chunks = 0;  // good ones
};

// Changes nothing in the file, and tells the plan what there is to do. Throws SqlError.
[[nodiscard]] Survey survey(Database& db, const Ledger& ledger, UpkeepPlan& plan);

// For people whose store cannot be read.
[[nodiscard]] std::string recovery_command(const std::string& path);

// Sets aside what is damaged, and tells the plan what there is to do. Throws SqlError.
[[nodiscard]] Recovery read_everything(Database& db, Ledger& ledger, ChunkTable& chunks, UpkeepPlan& plan);

}  // namespace posthorn::store
