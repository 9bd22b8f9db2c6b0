// The store of a node and of a spool: one SQLite file in a folder (WAL, synchronous=FULL, exclusive, 16 KiB pages),
// with a row per commit batch. docs/storage.md has the schema, the recovery table and what survives what.
// Single-threaded; not movable between threads while a job runs.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include <posthorn/policy.hpp>

#include "store/store.hpp"

namespace posthorn::store {

// A VFS of one's own may answer this sqlite3_file_control() with the bytes it has free, as an sqlite3_int64.
inline constexpr int free_space_control = 0x504801;

struct SqliteOptions {
    std::filesystem::path folder;                 // made if missing
    std::uint64_t min_free = defaults::min_free;  // bytes; free_bytes counts above it
    std::string vfs;                              // a registered SQLite VFS, which is the only one to look into the
                                                  // folder: no lock, no statvfs; empty: the system's
};

// Throws posthorn::Error when the folder cannot be made or written, is in use by another process (named by pid),
// is of a newer format, or its file cannot be read; the text names the way out.
[[nodiscard]] std::unique_ptr<Store> open_sqlite_store(const SqliteOptions& options);

}  // namespace posthorn::store
