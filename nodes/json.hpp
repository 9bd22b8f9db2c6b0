// Text for people and for programs out of foreign values: JSON of msgpack, base64, and printable text.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace posthorn::nodes {

// With its quotes. Bytes that are not UTF-8 become U+FFFD.
[[nodiscard]] std::string json_string(std::string_view text);

// One msgpack value as JSON on one line. Bytes (bin) become base64, extensions {"type":t,"data":base64}, and what JSON
// has no number for becomes null. Of keys that are no strings, simple ones become their JSON and others the base64 of
// their msgpack. Written while it is read: a few bytes that declare millions of elements cost nothing. Empty: not one
// whole msgpack value, or nested too deeply.
[[nodiscard]] std::optional<std::string> msgpack_to_json(std::string_view bytes);

[[nodiscard]] std::string base64(std::string_view bytes);

[[nodiscard]] bool is_utf8(std::string_view bytes) noexcept;

// For terminals: control characters and what is not UTF-8 become \xNN, so foreign text cannot move the cursor.
[[nodiscard]] std::string printable(std::string_view text);

// Builds one JSON object member by member.
class JsonObject {
public:
    JsonObject& text(std::string_view key, std::string_view value);
    JsonObject& number(std::string_view key, std::uint64_t value);
    JsonObject& flag(std::string_view key, bool value);
    JsonObject& raw(std::string_view key, std::string_view json);  // `json` as it is
    [[nodiscard]] std::string done() const { return "{" + members_ + "}"; }

private:
    std::string members_;
};

}  // namespace posthorn::nodes
