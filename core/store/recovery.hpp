// What a store file holds, found by one pass over headers and settlements; bodies are not read.
#pragma once

#include "store/chunk_table.hpp"
#include "store/database.hpp"
#include "store/ledger.hpp"
#include "store/upkeep_plan.hpp"

namespace posthorn::store {

// Sets aside what is damaged, and tells the plan what there is to do. Throws SqlError.
[[nodiscard]] Recovery read_everything(Database& db, Ledger& ledger, ChunkTable& chunks, UpkeepPlan& plan);

}  // namespace posthorn::store
