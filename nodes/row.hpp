// One row of an admin result: a msgpack map with string keys, as the host wrote it (docs/protocol.md lists them).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace posthorn::nodes {

class Row {
public:
    explicit Row(std::string bytes);  // throws Error unless it is a map with string keys

    // What the row does not have, or has as something else, is empty or 0: an older host knows less.
    [[nodiscard]] std::string text(std::string_view key) const;  // str or bin
    [[nodiscard]] std::uint64_t number(std::string_view key) const;
    [[nodiscard]] double real(std::string_view key) const;
    // Nothing: nil.
    [[nodiscard]] std::optional<std::uint64_t> maybe_number(std::string_view key) const;
    [[nodiscard]] std::map<std::string, std::string> texts(std::string_view key) const;  // map of str to str
    [[nodiscard]] bool flag(std::string_view key) const;
    [[nodiscard]] std::optional<Row> row(std::string_view key) const;  // nothing: nil
    [[nodiscard]] std::string json() const;

private:
    [[nodiscard]] std::string_view find(std::string_view key) const;  // as msgpack; empty: not there

    std::string bytes_;
    std::vector<std::pair<std::string, std::pair<std::size_t, std::size_t>>> fields_;  // place and size in bytes_
};

}  // namespace posthorn::nodes
