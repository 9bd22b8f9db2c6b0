// The store of a memory home: same interface, gone with the process. Marks are not kept (the engine tracks whatever
// has one). A chunk that is kept alive by a quarter of its bytes or less gives the rest back.
// Single-threaded, like every store.
#pragma once

#include <memory>

#include "store/store.hpp"

namespace posthorn::store {

[[nodiscard]] std::unique_ptr<Store> make_memory_store();

}  // namespace posthorn::store
