#include "row.hpp"

#include <posthorn/status.hpp>

#include "envelope/wire.hpp"
#include "json.hpp"

namespace posthorn::nodes {

Row::Row(std::string bytes) : bytes_(std::move(bytes)) {
    wire::Reader in{bytes_};
    const std::uint32_t count = in.map();
    for (std::uint32_t i = 0; i < count && in.ok(); ++i) {
        std::string key{in.string()};
        const std::size_t at = bytes_.size() - in.rest().size();
        const std::size_t size = in.raw().size();
        fields_.emplace_back(std::move(key), std::pair{at, size});
    }
    if (!in.ok() || !in.at_end()) throw Error{"the node's answer cannot be read; use matching releases of Posthorn"};
}

std::string_view Row::find(std::string_view key) const {
    for (const auto& [name, place] : fields_) {
        if (name == key) return std::string_view{bytes_}.substr(place.first, place.second);
    }
    return {};
}

std::string Row::text(std::string_view key) const {
    wire::Reader in{find(key)};
    return std::string{in.peek() == wire::Type::binary ? in.binary() : in.string()};
}

std::uint64_t Row::number(std::string_view key) const {
    return wire::Reader{find(key)}.unsigned_integer();
}

double Row::real(std::string_view key) const {
    return wire::Reader{find(key)}.floating();
}

std::optional<std::uint64_t> Row::maybe_number(std::string_view key) const {
    wire::Reader in{find(key)};
    if (in.nil()) return std::nullopt;
    return in.unsigned_integer();
}

std::map<std::string, std::string> Row::texts(std::string_view key) const {
    std::map<std::string, std::string> result;
    wire::Reader in{find(key)};
    for (std::uint32_t left = in.map(); left > 0 && in.ok(); --left) {
        std::string name{in.string()};
        std::string value{in.string()};
        if (in.ok()) result.insert_or_assign(std::move(name), std::move(value));
    }
    return result;
}

bool Row::flag(std::string_view key) const {
    return wire::Reader{find(key)}.boolean();
}

std::optional<Row> Row::row(std::string_view key) const {
    const std::string_view bytes = find(key);
    if (wire::Reader{bytes}.peek() != wire::Type::map) return std::nullopt;
    return Row{std::string{bytes}};
}

std::string Row::json() const {
    // Only nesting beyond what a host ever writes has no JSON.
    return msgpack_to_json(bytes_).value_or("null");
}

}  // namespace posthorn::nodes
