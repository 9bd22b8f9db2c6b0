// Damage to valid bytes, from a seed: what a broken or hostile peer might send.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>

namespace posthorn::test {

class Mutator {
public:
    explicit Mutator(std::uint64_t seed) : random_(seed) {}

    std::size_t below(std::size_t limit) { return std::uniform_int_distribution<std::size_t>(0, limit - 1)(random_); }

    // One to four changes: a byte replaced, cut out, put in or doubled; the end cut off; a declared length made huge.
    std::string operator()(std::string bytes) {
        for (std::size_t changes = 1 + below(4); changes > 0; --changes) change(bytes);
        return bytes;
    }

private:
    char any_byte() { return static_cast<char>(below(256)); }

    void change(std::string& bytes) {
        // Codes that declare the length of a bin, str, array or map of up to 4 GiB.
        static constexpr std::string_view lengths = "\xc6\xdb\xdd\xdf\xc5\xda\xdc\xde";
        if (bytes.empty()) bytes.push_back(any_byte());
        const std::size_t at = below(bytes.size());
        switch (below(6)) {
            case 0:
                bytes[at] = any_byte();
                break;
            case 1:
                bytes.erase(at, 1 + below(4));
                break;
            case 2:
                bytes.insert(at, 1 + below(4), any_byte());
                break;
            case 3:
                bytes.insert(at, bytes.substr(at, 1 + below(16)));
                break;
            case 4:
                bytes.resize(at);
                break;
            default:
                bytes[at] = lengths[below(lengths.size())];
                std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(at) + 1,
                            std::min<std::size_t>(below(5), bytes.size() - at - 1), '\xff');
                break;
        }
    }

    std::mt19937_64 random_;
};

}  // namespace posthorn::test
