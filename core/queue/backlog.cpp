#include "queue/backlog.hpp"

#include <algorithm>
#include <bit>

namespace posthorn::queue {

namespace {

std::uint64_t group_of(std::uint64_t key) {
    return key == 0 ? 0 : std::uint64_t{1} << store::key_group(key);
}

}  // namespace

void Backlog::index(Offset number, const Block& before, const Block& now) {
    for (unsigned left = before.priorities ^ now.priorities; left != 0; left &= left - 1) {
        const auto priority = static_cast<unsigned>(std::countr_zero(left));
        auto& blocks = by_priority_.at(priority);
        if ((now.priorities >> priority & 1U) != 0) {
            blocks.insert(number);
        } else {
            blocks.erase(number);
        }
        const unsigned bit = 1U << priority;
        all_ = static_cast<std::uint16_t>(blocks.empty() ? all_ & ~bit : all_ | bit);
    }
    if (before.next != now.next) {
        if (before.next != never) times_.erase({before.next, number});
        if (now.next != never) times_.emplace(now.next, number);
    }
    later_ += now.later;
    later_ -= before.later;
}

// Most of what comes belongs to the last block.
Backlog::Block& Backlog::block(Offset number) {
    if (!blocks_.empty() && blocks_.rbegin()->first == number) return blocks_.rbegin()->second;
    return blocks_.try_emplace(number, Block{.first = end_of(number)}).first->second;
}

template <typename Change>
void Backlog::change(Offset number, Change change) {
    Block& block = this->block(number);
    const Block before = block;
    change(block);
    index(number, before, block);
}

void Backlog::add(const Message& message) {
    change(number_of(message.offset), [&](Block& block) {
        block.first = std::min(block.first, message.offset);
        block.next = std::min(block.next, message.expires);
        if (message.waits_for == For::time) {
            block.next = std::min(block.next, message.due);
            ++block.later;
            return;
        }
        block.keys |= group_of(message.key);
        if (message.waits_for == For::turn) {
            block.priorities = static_cast<std::uint16_t>(block.priorities | 1U << message.priority);
        }
    });
}

void Backlog::add(store::OffsetRange range, Mono expires) {
    for (Offset number = number_of(range.first); number <= number_of(range.last); ++number) {
        add(Message{.offset = std::max(range.first, begin_of(number)), .expires = expires});
    }
}

std::optional<unsigned> Backlog::highest() const {
    if (all_ == 0) return std::nullopt;
    return static_cast<unsigned>(std::bit_width(all_)) - 1U;
}

bool Backlog::may_hold(Offset offset) const {
    const Block* block = find(number_of(offset));
    return block != nullptr && block->first <= offset;
}

std::optional<Backlog::Offset> Backlog::lowest() const {
    if (blocks_.empty()) return std::nullopt;
    return blocks_.begin()->first;
}

std::optional<Backlog::Offset> Backlog::first_of(unsigned priority) const {
    const auto& blocks = by_priority_.at(priority);
    if (blocks.empty()) return std::nullopt;
    return *blocks.begin();
}

std::optional<Backlog::Offset> Backlog::first_with(std::uint64_t key) const {
    const auto it = std::find_if(blocks_.begin(), blocks_.end(),
                                 [&](const auto& one) { return (one.second.keys & group_of(key)) != 0; });
    if (it == blocks_.end()) return std::nullopt;
    return it->first;
}

std::optional<Backlog::Offset> Backlog::first_due(Mono now) const {
    if (next_time() > now) return std::nullopt;
    return times_.begin()->second;
}

const Backlog::Block* Backlog::find(Offset number) const {
    const auto it = blocks_.find(number);
    return it == blocks_.end() ? nullptr : &it->second;
}

Backlog::Block Backlog::take(Offset number) {
    const auto it = blocks_.find(number);
    const Block block = it->second;
    index(number, block, {});
    blocks_.erase(it);
    return block;
}

void Backlog::put(Offset number, const Block& block) {
    change(number, [&](Block& into) {
        into.first = std::min(into.first, block.first);
        into.priorities |= block.priorities;
        into.keys |= block.keys;
        into.next = std::min(into.next, block.next);
        into.later += block.later;
    });
}

}  // namespace posthorn::queue
