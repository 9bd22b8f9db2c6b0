// The folder a store file lies in: made, locked against other processes, asked for room.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace posthorn::store {

// Held by one process at a time, and only as long as it lives. Throws posthorn::Error naming the folder and, if it is
// in use, the process.
class FolderLock {
public:
    explicit FolderLock(const std::filesystem::path& folder);  // makes the folder if it is missing
    // Keeps others out while one looks; several may look. Changes nothing, so others who are refused are not told who.
    struct ForLooking {};
    FolderLock(const std::filesystem::path& folder, ForLooking how);
    ~FolderLock();
    FolderLock(const FolderLock&) = delete;
    FolderLock& operator=(const FolderLock&) = delete;

private:
    int file_ = -1;
};

// Bytes that an ordinary user may still write there. Nothing: it cannot be told, `errno` has the reason.
[[nodiscard]] std::optional<std::uint64_t> free_bytes_of(const std::filesystem::path& folder);

}  // namespace posthorn::store
