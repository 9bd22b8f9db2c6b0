// The tables of a store file and the settings it is opened with; docs/storage.md explains both.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "store/database.hpp"

namespace posthorn::store {

inline constexpr std::int64_t format_version = 3;

// Opens the file, makes the tables of a new one, brings those of an older format up to ours. Throws SqlError, or
// posthorn::Error for a file that is not ours or newer than we are.
[[nodiscard]] std::unique_ptr<Database> open_store_file(const std::string& path, const std::string& vfs);
// The file's format. Throws posthorn::Error if the file is not ours, or of a format that is not ours to read.
[[nodiscard]] std::int64_t check_format(Database& db);
// Makes a file of an older format that is only looked at readable like one of ours, without a change to it.
void look_at_format(Database& db, std::int64_t format);

}  // namespace posthorn::store
