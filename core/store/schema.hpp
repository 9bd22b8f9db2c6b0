// The tables of a store file and the settings it is opened with; docs/storage.md explains both.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "store/database.hpp"

namespace posthorn::store {

inline constexpr std::int64_t format_version = 1;

// Opens the file, makes the tables of a new one, checks the format of one that is there. Throws SqlError, or
// posthorn::Error for a file that is not ours or newer than we are.
[[nodiscard]] std::unique_ptr<Database> open_store_file(const std::string& path, const std::string& vfs);
// Throws posthorn::Error if the file is not ours, or of a format that is not ours to read.
void check_format(Database& db);

}  // namespace posthorn::store
