// Planted bugs: a test is worth what it catches.
#pragma once

#include <memory>

#include "sim/world.hpp"
#include "store/store.hpp"

namespace posthorn::sim {

// The store with the bug in it. confirm_before_sync is the disk's: see SimDisk::lie_about_sync(). gap_hidden is of live
// worlds.
[[nodiscard]] std::unique_ptr<store::Store> plant(Planted bug, std::unique_ptr<store::Store> store);

}  // namespace posthorn::sim
