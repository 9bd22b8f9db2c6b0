// A set of sequence numbers as disjoint ranges: small when what is in it is nearly contiguous.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

namespace posthorn::queue {

struct SequenceRange {  // first..last, both included
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    friend bool operator==(const SequenceRange&, const SequenceRange&) = default;
};

// Sorts `numbers`; what stands in it twice counts once.
[[nodiscard]] std::vector<SequenceRange> to_ranges(std::vector<std::uint64_t>& numbers);

class SequenceSet {
public:
    void add(SequenceRange range);
    // What is in the set above `number`.
    [[nodiscard]] std::vector<SequenceRange> above(std::uint64_t number) const;

private:
    std::map<std::uint64_t, std::uint64_t> ranges_;  // first -> last
};

}  // namespace posthorn::queue
