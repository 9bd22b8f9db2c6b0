// Columns for people: the first row is the head; numbers stand right, text left.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace posthorn::nodes {

enum class Align { left, right };

struct Column {
    std::string head;
    Align align = Align::left;
};

// Every row has a cell per column. Cells are shown as printable text, the last column is never padded.
[[nodiscard]] std::string table(const std::vector<Column>& columns, const std::vector<std::vector<std::string>>& rows);

// At most `width` characters, "..." where something is missing.
[[nodiscard]] std::string shortened(const std::string& text, std::size_t width);

}  // namespace posthorn::nodes
