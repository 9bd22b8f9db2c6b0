// A disk for SQLite that lives in memory and fails as told: a VFS whose power can be cut, whose process can be killed,
// that fills up, fails a sync, or lies about one. All it does follows from the calls and the seed.
//
// A file is what the process sees and what is safe: the image at the last sync, and the writes since. Its directory
// entry is safe as soon as it is made or removed. Writes do not harm the bytes beside them, as on the disks SQLite is
// built for (SQLITE_IOCAP_POWERSAFE_OVERWRITE).
//
// Not thread-safe: for one store on one thread. Must outlive every connection opened through it.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <string>

struct sqlite3_vfs;

namespace posthorn::sim {

class SimDisk {
public:
    static constexpr std::uint64_t unlimited = std::numeric_limits<std::uint64_t>::max();

    explicit SimDisk(std::uint64_t seed = 1);
    ~SimDisk();
    SimDisk(const SimDisk&) = delete;
    SimDisk& operator=(const SimDisk&) = delete;

    [[nodiscard]] const std::string& vfs() const noexcept;  // its name, for SqliteOptions

    // After so many more writes, truncations, syncs, creations and deletions the machine stands still: every later one
    // fails, without effect, until restart().
    void stop_after(std::uint64_t operations);
    [[nodiscard]] std::uint64_t operations() const noexcept;  // so far, counted like that

    // Ends every connection: whatever an old one still tries fails and changes nothing. A killed process leaves all
    // that it wrote; with `power` cut, each write since the last sync is kept, dropped, or torn at sectors.
    void restart(bool power);

    // Another disk with the same files, as they are now; for a process that has none of them open.
    [[nodiscard]] std::unique_ptr<SimDisk> copy(std::uint64_t seed) const;

    void set_capacity(std::uint64_t bytes);  // of all files; a write beyond fails with SQLITE_FULL
    void fail_next_sync();                   // with SQLITE_IOERR_FSYNC
    void lie_about_sync();                   // the planted bug: from here on a sync says ok and does nothing

    [[nodiscard]] std::uint64_t used() const;                         // bytes in all files
    [[nodiscard]] std::uint64_t size(const std::string& file) const;  // 0: there is none
    [[nodiscard]] std::string read(const std::string& file) const;    // all of it
    void flip_byte(const std::string& file, std::uint64_t offset);    // on the disk, behind SQLite's back

    struct Impl;

private:
    std::unique_ptr<Impl> impl_;
};

}  // namespace posthorn::sim
