#include "json.hpp"

#include <array>
#include <cmath>

#include <nlohmann/json.hpp>

#include "envelope/wire.hpp"

namespace posthorn::nodes {

namespace {

constexpr int depth_limit = 64;  // as for typed payloads

// The length of the UTF-8 character at the start of `text`; 0: none.
std::size_t utf8_length(std::string_view text) noexcept {
    const auto byte = [&text](std::size_t at) { return static_cast<unsigned char>(text[at]); };
    const unsigned lead = byte(0);
    if (lead < 0x80) return 1;
    const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || text.size() < length) return 0;
    for (std::size_t i = 1; i < length; ++i) {
        if ((byte(i) & 0xc0U) != 0x80) return 0;
    }
    const unsigned second = byte(1);
    const bool overlong = (lead == 0xe0 && second < 0xa0) || (lead == 0xf0 && second < 0x90);
    const bool surrogate = lead == 0xed && second >= 0xa0;
    const bool beyond = lead == 0xf4 && second >= 0x90;
    return overlong || surrogate || beyond ? 0 : length;
}

std::string json_float(double value) {
    return std::isfinite(value) ? nlohmann::json(value).dump() : "null";
}

void write_integer(wire::Reader& in, std::string& out) {
    const auto lead = static_cast<unsigned char>(in.rest().front());
    const bool is_signed = lead >= 0xe0 || (lead >= 0xd0 && lead <= 0xd3);
    out += is_signed ? std::to_string(in.integer()) : std::to_string(in.unsigned_integer());
}

// fixext 1 to 16: 0xd4 to 0xd8, the type behind it; ext 8, 16, 32: 0xc7 to 0xc9, a length of 1, 2, 4 bytes first.
void write_extension(wire::Reader& in, std::string& out) {
    const std::string_view value = in.raw();
    if (!in.ok()) return;
    const auto lead = static_cast<unsigned char>(value.front());
    const std::size_t type_at = lead >= 0xd4 ? 1 : 1 + (std::size_t{1} << (lead - 0xc7U));
    const auto type = static_cast<signed char>(value[type_at]);
    out += R"({"type":)" + std::to_string(type) + R"(,"data":")" + base64(value.substr(type_at + 1)) + "\"}";
}

void write_value(wire::Reader& in, std::string& out, int depth);

void write_key(wire::Reader& in, std::string& out, int depth) {
    const wire::Type type = in.peek();
    if (type == wire::Type::string) {
        out += json_string(in.string());
    } else if (type == wire::Type::array || type == wire::Type::map || type == wire::Type::extension) {
        out += json_string(base64(in.raw()));  // JSON within JSON keys would grow with every level
    } else {
        std::string key;
        write_value(in, key, depth);
        out += json_string(key);
    }
}

void write_array(wire::Reader& in, std::string& out, int depth) {
    const std::uint32_t count = in.array();
    out += '[';
    for (std::uint32_t i = 0; i < count && in.ok(); ++i) {
        if (i > 0) out += ',';
        write_value(in, out, depth + 1);
    }
    out += ']';
}

void write_map(wire::Reader& in, std::string& out, int depth) {
    const std::uint32_t count = in.map();
    out += '{';
    for (std::uint32_t i = 0; i < count && in.ok(); ++i) {
        if (i > 0) out += ',';
        write_key(in, out, depth + 1);
        out += ':';
        write_value(in, out, depth + 1);
    }
    out += '}';
}

void write_value(wire::Reader& in, std::string& out, int depth) {
    if (depth > depth_limit) {
        in.fail();
        return;
    }
    switch (in.peek()) {
        case wire::Type::nil:
            in.nil();
            out += "null";
            return;
        case wire::Type::boolean:
            out += in.boolean() ? "true" : "false";
            return;
        case wire::Type::integer:
            write_integer(in, out);
            return;
        case wire::Type::floating:
            out += json_float(in.floating());
            return;
        case wire::Type::string:
            out += json_string(in.string());
            return;
        case wire::Type::binary:
            out += '"' + base64(in.binary()) + '"';
            return;
        case wire::Type::array:
            write_array(in, out, depth);
            return;
        case wire::Type::map:
            write_map(in, out, depth);
            return;
        case wire::Type::extension:
            write_extension(in, out);
            return;
        case wire::Type::end:
        case wire::Type::malformed:
            in.fail();
            return;
    }
}

}  // namespace

std::string json_string(std::string_view text) {
    return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::optional<std::string> msgpack_to_json(std::string_view bytes) {
    wire::Reader in{bytes};
    std::string out;
    write_value(in, out, 0);
    if (!in.ok() || !in.at_end()) return std::nullopt;
    return out;
}

std::string base64(std::string_view bytes) {
    constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    out.reserve((bytes.size() + 2) / 3 * 4);
    for (std::size_t at = 0; at < bytes.size(); at += 3) {
        std::uint32_t group = 0;
        for (std::size_t i = 0; i < 3; ++i)
            group = (group << 8U) | (at + i < bytes.size() ? static_cast<unsigned char>(bytes[at + i]) : 0U);
        for (std::size_t i = 0; i < 4; ++i)
            out += at + i > bytes.size() ? '=' : digits[(group >> (18U - 6U * i)) & 63U];
    }
    return out;
}

bool is_utf8(std::string_view bytes) noexcept {
    while (!bytes.empty()) {
        const auto length = utf8_length(bytes);
        if (length == 0) return false;
        bytes.remove_prefix(length);
    }
    return true;
}

std::string printable(std::string_view text) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string out;
    while (!text.empty()) {
        const auto length = utf8_length(text);
        const auto byte = static_cast<unsigned char>(text.front());
        // C0, DEL, and C1, which UTF-8 writes as c2 80 to c2 9f
        const bool control =
            byte < 0x20 || byte == 0x7f || (length == 2 && byte == 0xc2 && static_cast<unsigned char>(text[1]) < 0xa0);
        if (length == 0 || control) {
            out += "\\x";
            out += digits[byte >> 4U];
            out += digits[byte & 15U];
            text.remove_prefix(1);
        } else {
            out += text.substr(0, length);
            text.remove_prefix(length);
        }
    }
    return out;
}

JsonObject& JsonObject::text(std::string_view key, std::string_view value) {
    return raw(key, json_string(value));
}
JsonObject& JsonObject::number(std::string_view key, std::uint64_t value) {
    return raw(key, std::to_string(value));
}
JsonObject& JsonObject::flag(std::string_view key, bool value) {
    return raw(key, value ? "true" : "false");
}

JsonObject& JsonObject::raw(std::string_view key, std::string_view json) {
    if (!members_.empty()) members_ += ',';
    members_ += json_string(key);
    members_ += ':';
    members_ += json;
    return *this;
}

}  // namespace posthorn::nodes
