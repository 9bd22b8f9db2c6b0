// What is in the store and not in memory: for every block of neighbouring offsets, what is worth reading in it. Some
// 150 bytes a block, so a backlog of a billion messages takes under 40 MB, and one that is worked off in order takes
// what its few blocks take.
//
// A summary may promise too much, for nobody tells it when messages go; reading a block and adding what stays behind
// anew sets it right. It never promises too little.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include <posthorn/message.hpp>
#include <posthorn/time.hpp>

#include "store/store.hpp"

namespace posthorn::queue {

class Backlog {
public:
    using Offset = store::Offset;
    static constexpr unsigned priorities = priority_limit + 1U;

    // What a message waits for.
    enum class For {
        turn,  // nothing but its turn
        key,   // its ordering key
        time,  // `due`
    };
    struct Message {
        Offset offset = 0;
        For waits_for = For::turn;
        unsigned priority = 0;
        std::uint64_t key = 0;  // 0: none
        Mono due = never;
        Mono expires = never;
        bool ages = false;  // it expires by the queue's max_age
    };
    struct Block {
        Offset first = 0;              // nothing below is in the backlog
        std::uint16_t priorities = 0;  // of those that wait for their turn
        std::uint64_t keys = 0;        // groups of the keys of those that wait for their turn or their key
        Mono next = never;             // the first time at which one is due or expires
        std::uint32_t later = 0;       // messages that wait for their time
    };

    explicit Backlog(Offset block) : offsets_(block) {}

    void add(const Message& message);
    void add(store::OffsetRange range, Mono expires);  // of priority 0, without keys; none expires before

    // At `priority` or above something may wait for its turn.
    [[nodiscard]] bool has_turns(unsigned priority = 0) const { return (all_ >> priority) != 0; }
    [[nodiscard]] std::optional<unsigned> highest() const;
    [[nodiscard]] Mono next_time() const { return times_.empty() ? never : times_.begin()->first; }
    [[nodiscard]] std::uint64_t later() const noexcept { return later_; }
    [[nodiscard]] bool may_hold(Offset offset) const;
    [[nodiscard]] std::optional<Offset> lowest() const;  // the number of the first block of all

    // The number of the first block in which there may be ...; empty: there is none.
    [[nodiscard]] std::optional<Offset> first_of(unsigned priority) const;
    [[nodiscard]] std::optional<Offset> first_with(std::uint64_t key) const;
    [[nodiscard]] std::optional<Offset> first_due(Mono now) const;

    [[nodiscard]] Offset number_of(Offset offset) const { return offset / offsets_; }
    [[nodiscard]] Offset begin_of(Offset number) const { return number * offsets_; }
    [[nodiscard]] Offset end_of(Offset number) const { return begin_of(number) + offsets_ - 1; }

    [[nodiscard]] const Block* find(Offset number) const;
    // Whoever reads a block takes it out, and adds what stays behind.
    Block take(Offset number);
    void put(Offset number, const Block& block);  // as it was, joined with what was added meanwhile

private:
    using Blocks = std::map<Offset, Block>;
    void index(Offset number, const Block& before, const Block& now);
    Block& block(Offset number);  // found or new
    template <typename Change>
    void change(Offset number, Change change);

    Offset offsets_;  // of a block
    Blocks blocks_;   // by number
    std::array<std::set<Offset>, priorities> by_priority_;
    std::set<std::pair<Mono, Offset>> times_;
    std::uint16_t all_ = 0;  // priorities that have blocks
    std::uint64_t later_ = 0;
};

}  // namespace posthorn::queue
