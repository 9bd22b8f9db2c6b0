#include "envelope/wire.hpp"

#include <array>
#include <bit>
#include <limits>

namespace posthorn::wire {

namespace {

// The codes of the msgpack specification that carry their value or length behind them.
enum Code : std::uint8_t {
    code_nil = 0xc0,
    code_false = 0xc2,
    code_true = 0xc3,
    code_bin8 = 0xc4,
    code_bin16 = 0xc5,
    code_bin32 = 0xc6,
    code_ext8 = 0xc7,
    code_ext32 = 0xc9,
    code_float32 = 0xca,
    code_float64 = 0xcb,
    code_uint8 = 0xcc,
    code_uint16 = 0xcd,
    code_uint32 = 0xce,
    code_uint64 = 0xcf,
    code_int8 = 0xd0,
    code_int16 = 0xd1,
    code_int32 = 0xd2,
    code_int64 = 0xd3,
    code_fixext1 = 0xd4,
    code_fixext16 = 0xd8,
    code_str8 = 0xd9,
    code_str16 = 0xda,
    code_str32 = 0xdb,
    code_array16 = 0xdc,
    code_array32 = 0xdd,
    code_map16 = 0xde,
    code_map32 = 0xdf,
    code_negative_fixint = 0xe0,
};

// 1, 2, 4 or 8: the codes of a family stand in this order.
constexpr std::size_t width_of(std::uint8_t code, Code first) noexcept {
    return std::size_t{1} << static_cast<unsigned>(code - first);
}

Type type_of(std::uint8_t code) noexcept {
    if (code < 0x80 || code >= code_negative_fixint) return Type::integer;
    if (code < 0x90) return Type::map;
    if (code < 0xa0) return Type::array;
    if (code < code_nil) return Type::string;
    if (code == code_nil) return Type::nil;
    if (code < code_false) return Type::malformed;  // 0xc1 is never used
    if (code <= code_true) return Type::boolean;
    if (code <= code_bin32) return Type::binary;
    if (code <= code_ext32) return Type::extension;
    if (code <= code_float64) return Type::floating;
    if (code <= code_int64) return Type::integer;
    if (code <= code_fixext16) return Type::extension;
    if (code <= code_str32) return Type::string;
    if (code <= code_array32) return Type::array;
    return Type::map;
}

// Bytes of a whole value where the code alone tells them; 0: more has to be read, or no value starts so.
constexpr std::array<std::uint8_t, 256> sizes = [] {
    std::array<std::uint8_t, 256> table{};
    const auto range = [&](unsigned first, unsigned last, unsigned size) {
        for (unsigned code = first; code <= last; ++code) table[code] = static_cast<std::uint8_t>(size);
    };
    range(0x00, 0x7f, 1);
    range(code_negative_fixint, 0xff, 1);
    range(code_nil, code_nil, 1);
    range(code_false, code_true, 1);
    range(code_float32, code_float32, 1 + 4);
    range(code_float64, code_float64, 1 + 8);
    for (unsigned size = 0; size < 32; ++size) range(0xa0 + size, 0xa0 + size, 1 + size);
    for (unsigned power = 0; power < 4; ++power) {
        range(code_uint8 + power, code_uint8 + power, 1 + (1U << power));
        range(code_int8 + power, code_int8 + power, 1 + (1U << power));
    }
    for (unsigned power = 0; power < 5; ++power)
        range(code_fixext1 + power, code_fixext1 + power, 1 + 1 + (1U << power));
    return table;
}();

std::int64_t sign_extend(std::uint64_t bits, std::size_t width) noexcept {
    const auto unused = static_cast<unsigned>(64 - 8 * width);
    return static_cast<std::int64_t>(bits << unused) >> unused;
}

}  // namespace

Type Reader::peek() const noexcept {
    if (!ok_) return Type::malformed;
    if (rest_.empty()) return Type::end;
    return type_of(first());
}

std::uint64_t Reader::long_unsigned() noexcept {
    if (!rest_.empty() && first() >= code_uint8 && first() <= code_uint64) {
        const std::size_t width = width_of(first(), code_uint8);
        rest_.remove_prefix(1);
        return big_endian(width);
    }
    const std::int64_t value = integer();
    if (value >= 0) return static_cast<std::uint64_t>(value);
    fail();
    return 0;
}

std::int64_t Reader::integer() noexcept {
    const std::uint8_t code = rest_.empty() ? std::uint8_t{code_nil} : first();
    if (type_of(code) != Type::integer) {
        fail();
        return 0;
    }
    rest_.remove_prefix(1);
    if (code < 0x80 || code >= code_negative_fixint) return static_cast<std::int8_t>(code);
    if (code >= code_int8) {
        const std::size_t width = width_of(code, code_int8);
        return sign_extend(big_endian(width), width);
    }
    const std::uint64_t value = big_endian(width_of(code, code_uint8));
    if (value <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
        return static_cast<std::int64_t>(value);
    fail();
    return 0;
}

bool Reader::boolean() noexcept {
    if (peek() != Type::boolean) {
        fail();
        return false;
    }
    const bool value = first() == code_true;
    rest_.remove_prefix(1);
    return value;
}

double Reader::floating() noexcept {
    if (peek() != Type::floating) {
        fail();
        return 0;
    }
    const bool narrow = first() == code_float32;
    rest_.remove_prefix(1);
    if (narrow) return static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(big_endian(4))));
    return std::bit_cast<double>(big_endian(8));
}

bool Reader::nil() noexcept {
    if (peek() != Type::nil) return false;
    rest_.remove_prefix(1);
    return true;
}

std::string_view Reader::long_string() noexcept {
    if (rest_.empty() || first() < code_str8 || first() > code_str32) {
        fail();
        return {};
    }
    const std::size_t width = width_of(first(), code_str8);
    rest_.remove_prefix(1);
    return take(big_endian(width));
}

std::uint32_t Reader::array() noexcept {
    if (peek() != Type::array) {
        fail();
        return 0;
    }
    const std::uint8_t code = first();
    rest_.remove_prefix(1);
    const std::uint64_t count = code < 0xa0 ? code & 0x0fU : big_endian(code == code_array16 ? 2 : 4);
    if (count <= rest_.size()) return static_cast<std::uint32_t>(count);
    fail();
    return 0;
}

std::uint32_t Reader::map() noexcept {
    if (peek() != Type::map) {
        fail();
        return 0;
    }
    const std::uint8_t code = first();
    rest_.remove_prefix(1);
    const std::uint64_t count = code < 0x90 ? code & 0x0fU : big_endian(code == code_map16 ? 2 : 4);
    if (count <= rest_.size() / 2) return static_cast<std::uint32_t>(count);
    fail();
    return 0;
}

void Reader::skip() noexcept {
    skip_nested(0);
}

std::string_view Reader::raw() noexcept {
    const std::string_view from = rest_;
    skip();
    return ok_ ? from.substr(0, from.size() - rest_.size()) : std::string_view{};
}

void Reader::skip_nested(int depth) noexcept {
    if (rest_.empty()) return fail();
    const std::uint8_t code = first();
    if (const std::uint8_t size = sizes[code]; size != 0) {
        take(size);
        return;
    }
    const Type type = type_of(code);
    if (type == Type::binary) {
        binary();
    } else if (type == Type::string) {
        string();
    } else if (type == Type::extension) {
        skip_extension();
    } else if ((type == Type::array || type == Type::map) && depth < nesting_limit) {
        std::uint64_t values = type == Type::map ? std::uint64_t{map()} * 2 : array();
        for (; values > 0 && ok_; --values) skip_nested(depth + 1);
    } else {
        fail();
    }
}

void Reader::skip_extension() noexcept {
    const std::size_t width = width_of(first(), code_ext8);
    rest_.remove_prefix(1);
    take(1 + big_endian(width));
}

// One code byte and a big-endian number of `width` bytes.
void Writer::head(std::uint8_t code, std::uint64_t value, std::size_t width) {
    std::array<char, 9> bytes{};
    bytes[0] = static_cast<char>(code);
    for (std::size_t at = width; at > 0; --at, value >>= 8U) bytes[at] = static_cast<char>(value & 0xffU);
    out_->append(bytes.data(), width + 1);
}

Writer& Writer::nil() {
    head(code_nil);
    return *this;
}

Writer& Writer::boolean(bool value) {
    head(value ? code_true : code_false);
    return *this;
}

Writer& Writer::integer(std::int64_t value) {
    if (value >= 0) return unsigned_integer(static_cast<std::uint64_t>(value));
    const auto bits = static_cast<std::uint64_t>(value);
    if (value >= -32) {
        head(static_cast<std::uint8_t>(bits & 0xffU));
    } else if (value >= std::numeric_limits<std::int8_t>::min()) {
        head(code_int8, bits, 1);
    } else if (value >= std::numeric_limits<std::int16_t>::min()) {
        head(code_int16, bits, 2);
    } else if (value >= std::numeric_limits<std::int32_t>::min()) {
        head(code_int32, bits, 4);
    } else {
        head(code_int64, bits, 8);
    }
    return *this;
}

Writer& Writer::long_unsigned(std::uint64_t value) {
    if (value <= 0xff) {
        head(code_uint8, value, 1);
    } else if (value <= 0xffff) {
        head(code_uint16, value, 2);
    } else if (value <= 0xffffffff) {
        head(code_uint32, value, 4);
    } else {
        head(code_uint64, value, 8);
    }
    return *this;
}

Writer& Writer::floating(double value) {
    head(code_float64, std::bit_cast<std::uint64_t>(value), 8);
    return *this;
}

Writer& Writer::string(std::string_view value) {
    if (value.size() < 32) {
        head(static_cast<std::uint8_t>(0xa0U | value.size()));
    } else if (value.size() <= 0xff) {
        head(code_str8, value.size(), 1);
    } else if (value.size() <= 0xffff) {
        head(code_str16, value.size(), 2);
    } else {
        head(code_str32, value.size(), 4);
    }
    out_->append(value);
    return *this;
}

Writer& Writer::binary(std::string_view value) {
    binary_header(static_cast<std::uint32_t>(value.size()));
    out_->append(value);
    return *this;
}

Writer& Writer::binary_header(std::uint32_t size) {
    if (size <= 0xff) {
        head(code_bin8, size, 1);
    } else if (size <= 0xffff) {
        head(code_bin16, size, 2);
    } else {
        head(code_bin32, size, 4);
    }
    return *this;
}

Writer& Writer::array(std::uint32_t elements) {
    if (elements < 16) {
        head(static_cast<std::uint8_t>(0x90U | elements));
    } else if (elements <= 0xffff) {
        head(code_array16, elements, 2);
    } else {
        head(code_array32, elements, 4);
    }
    return *this;
}

Writer& Writer::map(std::uint32_t pairs) {
    if (pairs < 16) {
        head(static_cast<std::uint8_t>(0x80U | pairs));
    } else if (pairs <= 0xffff) {
        head(code_map16, pairs, 2);
    } else {
        head(code_map32, pairs, 4);
    }
    return *this;
}

std::size_t binary_overhead(std::size_t size) noexcept {
    if (size <= 0xff) return 2;
    return size <= 0xffff ? 3 : 5;
}

}  // namespace posthorn::wire
