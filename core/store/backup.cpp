#include "store/backup.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include <posthorn/status.hpp>

namespace posthorn::store {

namespace {

// What a commit may have to wait for; four megabytes are read, written and synced in some tens of milliseconds.
constexpr std::uint64_t slice_bytes = 4 * 1024 * 1024;

void sync(const std::string& path, int flags) {
    const int file = ::open(path.c_str(), flags | O_CLOEXEC);
    const bool synced = file >= 0 && ::fsync(file) == 0;
    const int error = errno;
    if (file >= 0) ::close(file);
    if (!synced) throw Error("cannot sync " + path + ": " + std::generic_category().message(error));
}

}  // namespace

Backup::Backup(Database& from, const std::filesystem::path& folder, std::uint64_t min_free)
    : folder_(folder), min_free_(min_free), part_((folder / "posthorn.db.part").string()) {
    std::error_code error;
    if (!folder.is_absolute())
        throw Error("the folder of a backup has to be an absolute path of the node's machine; it is " +
                    folder.string());
    if (std::filesystem::exists(folder, error) && !std::filesystem::is_empty(folder, error))
        throw Error(folder.string() + " is there and is not an empty folder. Give a new one");
    if (error) throw Error("cannot look into " + folder.string() + ": " + error.message());
    lock_.emplace(folder);
    try {
        to_.emplace(part_, std::string());
        // A part is thrown away if anything goes wrong, so there is nothing to roll back to; and we sync it ourselves,
        // slice by slice, lest the last one have to wait for all.
        to_->execute("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-4096;");
        page_size_ = static_cast<std::uint64_t>(from.integer("PRAGMA page_size"));
        backup_ = sqlite3_backup_init(to_->handle(), "main", from.handle(), "main");
        if (backup_ == nullptr) check(sqlite3_extended_errcode(to_->handle()));
    } catch (const SqlError& failure) {
        close();
        throw Error("cannot write the backup " + part_ + ": " + failure.what());
    }
}

Backup::~Backup() {
    close();
}

void Backup::close() noexcept {
    if (backup_ != nullptr) sqlite3_backup_finish(backup_);
    backup_ = nullptr;
    to_.reset();
    if (whole_) return;
    std::error_code gone;
    std::filesystem::remove(part_, gone);
    std::filesystem::remove(folder_ / "lock", gone);  // so that the folder can be given again
    lock_.reset();
}

void Backup::check(int code) const {
    if (code == SQLITE_OK || code == SQLITE_DONE) return;
    throw SqlError(code, sqlite3_errstr(code));
}

bool Backup::step() {
    const auto free = free_bytes_of(folder_);
    if (free && *free < min_free_)
        throw Error("the disk of the backup " + folder_.string() + " has less than min_free (" +
                    std::to_string(min_free_) + " bytes) left. Give a folder on another disk, or make room");
    try {
        const int code = sqlite3_backup_step(backup_, static_cast<int>(slice_bytes / page_size_));
        check(code);
        total_ = page_size_ * static_cast<std::uint64_t>(sqlite3_backup_pagecount(backup_));
        copied_ = total_ - page_size_ * static_cast<std::uint64_t>(sqlite3_backup_remaining(backup_));
        if (code == SQLITE_DONE) finish();
    } catch (const SqlError& failure) {
        throw Error("cannot write the backup " + part_ + ": " + failure.what());
    }
    if (!whole_) sync(part_, O_RDWR);
    return whole_;
}

void Backup::finish() {
    check(sqlite3_backup_finish(std::exchange(backup_, nullptr)));
    to_.reset();
    sync(part_, O_RDWR);
    std::filesystem::rename(part_, folder_ / "posthorn.db");
    whole_ = true;
    sync(folder_.string(), O_RDONLY | O_DIRECTORY);
    lock_.reset();
}

}  // namespace posthorn::store
