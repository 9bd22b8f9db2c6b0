// Which of a rising run of sequences are still open: a bit each, in words that go when all of theirs are closed. So
// closing out of order is cheap, and one that stays open for hours costs a word and not all that came after it.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <map>

namespace posthorn::protocol {

class SequenceBits {
public:
    static constexpr std::uint64_t word_bits = 64;

    // Before anything else: the next sequence is the one behind `last`.
    void start_behind(std::uint64_t last) noexcept { last_ = last; }

    // The next sequence, from 1, becomes open.
    std::uint64_t open_next() {
        const std::uint64_t sequence = ++last_;
        const std::uint64_t word = sequence / word_bits;
        if (words_.empty() || words_.rbegin()->first != word) words_.emplace_hint(words_.end(), word, 0);
        words_.rbegin()->second |= bit(sequence);
        ++count_;
        return sequence;
    }

    // Closes what is open within first..last. `closed(word, bits, left)` is called for each word touched: the bits
    // that were open and are not any more, and those that still are.
    template <typename Closed>
    void close(std::uint64_t first, std::uint64_t last, Closed closed) {
        last = std::min(last, last_);
        if (first > last) return;
        auto it = words_.lower_bound(first / word_bits);
        while (it != words_.end() && it->first <= last / word_bits) {
            std::uint64_t mask = ~std::uint64_t{0};
            if (it->first == first / word_bits) mask &= ~std::uint64_t{0} << (first % word_bits);
            if (it->first == last / word_bits) mask &= ~std::uint64_t{0} >> (word_bits - 1 - last % word_bits);
            const std::uint64_t bits = it->second & mask;
            it->second &= ~mask;
            if (bits != 0) {
                count_ -= static_cast<std::uint64_t>(std::popcount(bits));
                closed(it->first, bits, it->second);
            }
            it = it->second == 0 ? words_.erase(it) : std::next(it);
        }
    }
    void close(std::uint64_t first, std::uint64_t last) {
        close(first, last, [](std::uint64_t, std::uint64_t, std::uint64_t) {});
    }

    [[nodiscard]] bool is_open(std::uint64_t sequence) const {
        const auto it = words_.find(sequence / word_bits);
        return it != words_.end() && (it->second & bit(sequence)) != 0;
    }
    // The first open one from `sequence` on; 0: none.
    [[nodiscard]] std::uint64_t next_open(std::uint64_t sequence) const {
        auto it = words_.lower_bound(sequence / word_bits);
        if (it != words_.end() && it->first == sequence / word_bits) {
            const std::uint64_t bits = it->second & (~std::uint64_t{0} << (sequence % word_bits));
            if (bits != 0) return first_of(it->first, bits);
            ++it;
        }
        return it == words_.end() ? 0 : first_of(it->first, it->second);
    }
    // Calls `visit` for what is open from `sequence` on, in order, for as long as it answers true.
    template <typename Visit>
    void visit_open(std::uint64_t sequence, Visit visit) const {
        const std::uint64_t start = sequence / word_bits;
        for (auto it = words_.lower_bound(start); it != words_.end(); ++it) {
            std::uint64_t bits = it->second;
            if (it->first == start) bits &= ~std::uint64_t{0} << (sequence % word_bits);
            for (; bits != 0; bits &= bits - 1) {
                if (!visit(first_of(it->first, bits))) return;
            }
        }
    }
    // The open ones of one word.
    [[nodiscard]] std::uint64_t word(std::uint64_t number) const {
        const auto it = words_.find(number);
        return it == words_.end() ? 0 : it->second;
    }
    [[nodiscard]] std::uint64_t oldest() const { return next_open(0); }
    [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
    [[nodiscard]] std::uint64_t last() const noexcept { return last_; }  // ever opened

private:
    static std::uint64_t bit(std::uint64_t sequence) noexcept { return std::uint64_t{1} << (sequence % word_bits); }
    static std::uint64_t first_of(std::uint64_t word, std::uint64_t bits) noexcept {
        return word * word_bits + static_cast<std::uint64_t>(std::countr_zero(bits));
    }

    std::map<std::uint64_t, std::uint64_t> words_;  // none is zero
    std::uint64_t count_ = 0;
    std::uint64_t last_ = 0;
};

}  // namespace posthorn::protocol
