// Reading and writing msgpack (https://github.com/msgpack/msgpack/blob/master/spec.md) without a tree of objects.
// Why not msgpack-c here: its parser builds objects and allocates by the declared length of arrays and maps before
// the data has arrived; the host must read a few fields of foreign bytes, allocate nothing and copy nothing.
// msgpack-c does what it is best at: users' typed payloads (payload.hpp).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace posthorn::wire {

enum class Type { nil, boolean, integer, floating, string, binary, array, map, extension, end, malformed };

inline constexpr int nesting_limit = 32;

// A cursor over foreign bytes. Never throws, never allocates, never reads outside. The first failure sticks:
// after it every call answers with zero or empty and ok() is false, so callers check once at the end.
// What a host does for each message (small integers, short strings, binaries) is inline.
class Reader {
public:
    explicit Reader(std::string_view bytes) noexcept : rest_(bytes) {}

    [[nodiscard]] bool ok() const noexcept { return ok_; }
    [[nodiscard]] bool at_end() const noexcept { return rest_.empty(); }
    [[nodiscard]] std::string_view rest() const noexcept { return rest_; }
    [[nodiscard]] Type peek() const noexcept;

    std::uint64_t unsigned_integer() noexcept {  // any msgpack integer >= 0
        if (!rest_.empty() && first() < 0x80) {
            const std::uint8_t value = first();
            rest_.remove_prefix(1);
            return value;
        }
        return long_unsigned();
    }
    std::int64_t integer() noexcept;
    bool boolean() noexcept;
    double floating() noexcept;  // float 32 or 64
    bool nil() noexcept;         // true and consumed if nil is next; false and untouched otherwise
    std::string_view string() noexcept {
        if (!rest_.empty() && (first() & 0xe0) == 0xa0) {
            const std::size_t size = first() & 0x1fU;
            rest_.remove_prefix(1);
            return take(size);
        }
        return long_string();
    }
    std::string_view binary() noexcept {
        if (rest_.empty() || first() < 0xc4 || first() > 0xc6) {
            fail();
            return {};
        }
        const std::size_t width = std::size_t{1} << (first() - 0xc4U);
        rest_.remove_prefix(1);
        return take(big_endian(width));
    }
    std::uint32_t array() noexcept;   // number of elements that follow; fails if more than bytes remain
    std::uint32_t map() noexcept;     // number of pairs that follow; fails if more than half the bytes remain
    void skip() noexcept;             // one whole value; nesting above nesting_limit fails
    std::string_view raw() noexcept;  // one whole value, skipped and given back as its bytes
    void fail() noexcept {
        ok_ = false;
        rest_ = {};
    }

private:
    // Only with bytes left.
    [[nodiscard]] std::uint8_t first() const noexcept { return static_cast<std::uint8_t>(rest_.front()); }
    std::string_view take(std::uint64_t count) noexcept {
        if (count > rest_.size()) {
            fail();
            return {};
        }
        const auto taken = rest_.substr(0, static_cast<std::size_t>(count));
        rest_.remove_prefix(taken.size());
        return taken;
    }
    std::uint64_t big_endian(std::size_t width) noexcept {  // 1, 2, 4 or 8 bytes
        const std::string_view bytes = take(width);
        switch (bytes.size()) {
            case 1:
                return fold<1>(bytes);
            case 2:
                return fold<2>(bytes);
            case 4:
                return fold<4>(bytes);
            case 8:
                return fold<8>(bytes);
            default:
                return 0;  // there were fewer left
        }
    }
    // With the width known the compiler makes it one load.
    template <std::size_t width>
    static std::uint64_t fold(std::string_view bytes) noexcept {
        std::uint64_t value = 0;
        for (std::size_t at = 0; at < width; ++at) value = value << 8U | static_cast<std::uint8_t>(bytes[at]);
        return value;
    }
    std::uint64_t long_unsigned() noexcept;
    std::string_view long_string() noexcept;
    void skip_nested(int depth) noexcept;
    void skip_extension() noexcept;

    std::string_view rest_;
    bool ok_ = true;
};

// Appends msgpack to a string. Shortest forms always, so the same value always has the same bytes.
class Writer {
public:
    explicit Writer(std::string& out) noexcept : out_(&out) {}

    Writer& nil();
    Writer& boolean(bool value);
    Writer& integer(std::int64_t value);
    Writer& unsigned_integer(std::uint64_t value) {
        if (value >= 0x80) return long_unsigned(value);
        out_->push_back(static_cast<char>(value));
        return *this;
    }
    Writer& floating(double value);
    Writer& string(std::string_view value);
    Writer& binary(std::string_view value);
    Writer& binary_header(std::uint32_t size);
    Writer& array(std::uint32_t elements);
    Writer& map(std::uint32_t pairs);

private:
    void head(std::uint8_t code) { out_->push_back(static_cast<char>(code)); }
    void head(std::uint8_t code, std::uint64_t value, std::size_t width);
    Writer& long_unsigned(std::uint64_t value);

    std::string* out_;
};

// Bytes that Writer::binary adds in front of `size` bytes of content.
[[nodiscard]] std::size_t binary_overhead(std::size_t size) noexcept;

}  // namespace posthorn::wire
