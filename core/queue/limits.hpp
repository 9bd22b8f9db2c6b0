// How much of a queue is in memory, however long it is. Given to it, so that tests can have queues that are large for
// their memory and small for the test.
#pragma once

#include <cstddef>

#include <posthorn/policy.hpp>
#include <posthorn/time.hpp>

#include "store/store.hpp"

namespace posthorn::queue {

struct Limits {
    std::size_t tracked = defaults::tracked_messages;  // leased, waiting and ready ones; homes with a store
    std::size_t ready = defaults::window_messages;     // of each priority and those above it
    std::size_t bytes = defaults::window_bytes;        // of the bodies of those
    std::size_t waiting = 50'000;                      // that wait for a time
    Duration waiting_soon = 10s;                       // and what is due later is read when it is due
    // With one ordering key. The others of a key stay in the store, so that a key that is blocked takes no room from
    // others; when there are fewer than an eighth of it, they are read on.
    std::size_t line = 256;
    std::size_t dedup = defaults::dedup_bytes;
    store::Offset block = 4096;     // offsets the backlog speaks of together
    std::size_t replayed = 65'536;  // messages of a log that one commit looks at for a subscription, about
};

}  // namespace posthorn::queue
