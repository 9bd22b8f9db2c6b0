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

// A cursor over foreign bytes. Never throws, never allocates, never reads outside. The first failure sticks:
// after it every call answers with zero or empty and ok() is false, so callers check once at the end.
class Reader {
public:
    explicit Reader(std::string_view bytes) noexcept : rest_(bytes) {}

    [[nodiscard]] bool ok() const noexcept { return ok_; }
    [[nodiscard]] bool at_end() const noexcept { return rest_.empty(); }
    [[nodiscard]] std::string_view rest() const noexcept { return rest_; }
    [[nodiscard]] Type peek() const noexcept;

    std::uint64_t unsigned_integer() noexcept;  // any msgpack integer >= 0
    std::int64_t integer() noexcept;
    bool boolean() noexcept;
    double floating() noexcept;  // float 32 or 64
    bool nil() noexcept;         // true and consumed if nil is next; false and untouched otherwise
    std::string_view string() noexcept;
    std::string_view binary() noexcept;
    std::uint32_t array() noexcept;  // number of elements that follow; fails if more than bytes remain
    std::uint32_t map() noexcept;    // number of pairs that follow; fails if more than half the bytes remain
    void skip() noexcept;            // one whole value; nesting above 32 fails
    std::string_view raw() noexcept; // one whole value, skipped and given back as its bytes
    void fail() noexcept {
        ok_ = false;
        rest_ = {};
    }

private:
    std::string_view take(std::size_t count) noexcept;
    std::uint64_t big_endian(std::size_t count) noexcept;
    bool skip_nested(int depth) noexcept;

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
    Writer& unsigned_integer(std::uint64_t value);
    Writer& floating(double value);
    Writer& string(std::string_view value);
    Writer& binary(std::string_view value);
    Writer& binary_header(std::uint32_t size);
    Writer& array(std::uint32_t elements);
    Writer& map(std::uint32_t pairs);

private:
    std::string* out_;
};

// Bytes that Writer::binary adds in front of `size` bytes of content.
[[nodiscard]] std::size_t binary_overhead(std::size_t size) noexcept;

}  // namespace posthorn::wire
