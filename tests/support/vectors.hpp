// The vectors of tests/vectors/, and hex.
#pragma once

#include <cstddef>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace posthorn::test {

inline std::string to_hex(std::string_view bytes) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text;
    text.reserve(bytes.size() * 2);
    for (const char byte : bytes) {
        text.push_back(digits[static_cast<unsigned char>(byte) >> 4U]);
        text.push_back(digits[static_cast<unsigned char>(byte) & 0x0fU]);
    }
    return text;
}

inline std::string from_hex(std::string_view text) {
    std::string bytes;
    bytes.reserve(text.size() / 2);
    for (std::size_t at = 0; at < text.size(); at += 2)
        bytes.push_back(static_cast<char>(std::stoi(std::string{text.substr(at, 2)}, nullptr, 16)));
    return bytes;
}

// POSTHORN_VECTORS is the folder, given by the build.
inline nlohmann::json load_vectors(const std::string& file) {
    std::ifstream in(std::string{POSTHORN_VECTORS} + "/" + file);
    if (!in) throw std::runtime_error("cannot read the vectors in " + file);
    return nlohmann::json::parse(in);
}

}  // namespace posthorn::test
