#include "queue/sequence_set.hpp"

#include <algorithm>

namespace posthorn::queue {

std::vector<SequenceRange> to_ranges(std::vector<std::uint64_t>& numbers) {
    std::sort(numbers.begin(), numbers.end());
    std::vector<SequenceRange> out;
    for (const std::uint64_t number : numbers) {
        if (!out.empty() && number <= out.back().last + 1) {
            out.back().last = number;
        } else {
            out.push_back({number, number});
        }
    }
    return out;
}

void SequenceSet::add(SequenceRange range) {
    auto next = ranges_.upper_bound(range.first);
    if (next != ranges_.begin()) {
        const auto before = std::prev(next);
        if (before->second + 1 >= range.first) {
            range.first = before->first;
            range.last = std::max(range.last, before->second);
            next = ranges_.erase(before);
        }
    }
    while (next != ranges_.end() && next->first <= range.last + 1) {
        range.last = std::max(range.last, next->second);
        next = ranges_.erase(next);
    }
    ranges_.emplace_hint(next, range.first, range.last);
}

std::vector<SequenceRange> SequenceSet::above(std::uint64_t number) const {
    std::vector<SequenceRange> out;
    auto it = ranges_.upper_bound(number);
    if (it != ranges_.begin() && std::prev(it)->second > number) out.push_back({number + 1, std::prev(it)->second});
    for (; it != ranges_.end(); ++it) out.push_back({it->first, it->second});
    return out;
}

}  // namespace posthorn::queue
