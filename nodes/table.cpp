#include "table.hpp"

#include <algorithm>

#include "json.hpp"

namespace posthorn::nodes {

namespace {

// Characters, not bytes: continuation bytes of UTF-8 take no room.
std::size_t width_of(const std::string& text) {
    return static_cast<std::size_t>(std::count_if(
        text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0U) != 0x80; }));
}

void add_row(std::string& out, const std::vector<Column>& columns, const std::vector<std::string>& cells,
             const std::vector<std::size_t>& widths) {
    for (std::size_t i = 0; i < columns.size(); ++i) {
        if (i > 0) out += "  ";
        const std::string padding(widths[i] - width_of(cells[i]), ' ');
        const bool last = i + 1 == columns.size();
        if (columns[i].align == Align::right) out += padding;
        out += cells[i];
        if (columns[i].align == Align::left && !last) out += padding;
    }
    out += '\n';
}

}  // namespace

std::string table(const std::vector<Column>& columns, const std::vector<std::vector<std::string>>& rows) {
    std::vector<std::string> heads;
    heads.reserve(columns.size());
    for (const auto& column : columns) heads.push_back(column.head);
    std::vector<std::vector<std::string>> shown{std::move(heads)};
    for (const auto& row : rows) {
        std::vector<std::string>& cells = shown.emplace_back();
        for (const auto& cell : row) cells.push_back(printable(cell));
    }
    std::vector<std::size_t> widths(columns.size(), 0);
    for (const auto& cells : shown) {
        for (std::size_t i = 0; i < columns.size(); ++i) widths[i] = std::max(widths[i], width_of(cells[i]));
    }
    std::string out;
    for (const auto& cells : shown) add_row(out, columns, cells, widths);
    return out;
}

std::string shortened(const std::string& text, std::size_t width) {
    if (width_of(text) <= width) return text;
    std::size_t end = 0;
    for (std::size_t characters = 0; end < text.size(); ++end) {
        const bool starts = (static_cast<unsigned char>(text[end]) & 0xc0U) != 0x80;
        if (starts && ++characters > width - 3) break;
    }
    return text.substr(0, end) + "...";
}

}  // namespace posthorn::nodes
