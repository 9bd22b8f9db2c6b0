// Which deduplication keys were accepted within the window, and what of that a store is to be told. Keys are kept as
// they are: by a hash of them two different messages could be taken for one, and one of them would be lost.
#pragma once

#include <cstddef>
#include <deque>
#include <string_view>
#include <unordered_set>
#include <vector>

#include <posthorn/time.hpp>

#include "store/store.hpp"

namespace posthorn::queue {

class Dedup {
public:
    Dedup(Duration window, std::size_t limit) : window_(window), limit_(limit) {}

    // As the store has them. Returns how many had to go before their time, for want of room.
    std::size_t recover(const std::vector<store::DedupKey>& keys, Now now);
    void forget(Now now);  // those whose window is over; to be called before knows()
    [[nodiscard]] bool knows(std::string_view key) const { return known_.contains(key); }
    // Accepted with the message at `offset`, behind all others. Returns as recover() does.
    std::size_t add(store::Offset offset, std::string_view key, Now now);
    [[nodiscard]] Mono next_deadline() const;  // when the last of them is over

    // Those of messages from `first` on.
    [[nodiscard]] std::vector<store::DedupKey> from(store::Offset first) const;
    // What a store may forget: keys of messages below this; 0: nothing since last asked.
    [[nodiscard]] store::Offset take_gone(store::Offset next_offset);
    void untake_gone() { gone_ = true; }
    // Nothing is left, and a store may not know. Only then is forgetting worth a commit of its own.
    [[nodiscard]] bool is_over() const { return gone_ && keys_.empty(); }

private:
    struct Known {
        store::DedupKey accepted;
        Mono until{};  // ascending
    };
    void drop_oldest();
    std::size_t keep_to_limit();

    Duration window_;
    std::size_t limit_;
    std::size_t bytes_ = 0;
    std::deque<Known> keys_;                      // ascending by offset
    std::unordered_set<std::string_view> known_;  // parts of keys_
    bool gone_ = false;
};

}  // namespace posthorn::queue
