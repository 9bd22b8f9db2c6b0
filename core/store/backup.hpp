// A copy of a store file into a folder of its own, made in slices while the store goes on working. What the store
// changes meanwhile through the same connection goes into the copy as well, so the copy is the store as of its last
// slice. Until then it has another name, so that nobody takes a part for the whole.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "store/database.hpp"
#include "store/folder.hpp"

namespace posthorn::store {

class Backup {
public:
    // The folder is made if it is missing. Throws posthorn::Error when it is not empty, or cannot be written.
    Backup(Database& from, const std::filesystem::path& folder, std::uint64_t min_free);
    ~Backup();  // a copy that is not whole is removed
    Backup(const Backup&) = delete;
    Backup& operator=(const Backup&) = delete;

    // Copies some more, and syncs it. True: the copy is whole, safe, and closed. Throws posthorn::Error, also when its
    // disk has less than min_free left.
    bool step();
    [[nodiscard]] std::uint64_t copied() const noexcept { return copied_; }  // bytes
    [[nodiscard]] std::uint64_t total() const noexcept { return total_; }    // as of the last step

private:
    void check(int code) const;
    void finish();
    void close() noexcept;

    std::filesystem::path folder_;
    std::uint64_t min_free_;
    std::optional<FolderLock> lock_;
    std::string part_;  // the file while it is not whole
    std::optional<Database> to_;
    sqlite3_backup* backup_ = nullptr;
    std::uint64_t page_size_ = 0;
    std::uint64_t copied_ = 0;
    std::uint64_t total_ = 0;
    bool whole_ = false;
};

}  // namespace posthorn::store
