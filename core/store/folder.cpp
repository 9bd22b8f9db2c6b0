#include "store/folder.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <system_error>

#include <posthorn/status.hpp>

namespace posthorn::store {

namespace {

std::string reason(int error) {
    return std::generic_category().message(error);
}

// The entry of a new folder is not safe before its parent is.
void sync_folder(const std::filesystem::path& folder) {
    const int file = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file < 0) return;  // one may be allowed to use a folder and not to list it
    const bool synced = ::fsync(file) == 0 || errno == EINVAL || errno == EROFS;
    const int error = errno;
    ::close(file);
    if (!synced) throw Error("cannot sync the folder " + folder.string() + ": " + reason(error));
}

void make_folder(const std::filesystem::path& folder) {
    std::error_code error;
    if (std::filesystem::create_directories(folder, error)) {
        sync_folder(std::filesystem::absolute(folder).lexically_normal().parent_path());
    }
    if (error) {
        throw Error("cannot make the data folder " + folder.string() + ": " + error.message() +
                    ". Give another folder, or make it writable for this user");
    }
}

std::string holder_of(int file) {
    std::array<char, 32> text{};
    const ssize_t got = ::pread(file, text.data(), text.size(), 0);
    std::string pid(text.data(), got > 0 ? static_cast<std::size_t>(got) : 0);
    if (const auto end = pid.find_first_not_of("0123456789"); end != std::string::npos) pid.resize(end);
    return pid.empty() ? "another process" : "process " + pid;
}

std::string in_use(const std::filesystem::path& folder, int file) {
    return "the data folder " + folder.string() + " is in use by " + holder_of(file) + ". ";
}

}  // namespace

FolderLock::FolderLock(const std::filesystem::path& folder) {
    make_folder(folder);
    const std::filesystem::path path = folder / "lock";
    file_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (file_ < 0) {
        throw Error("cannot write to the data folder " + folder.string() + ": " + reason(errno) +
                    ". Give another folder, or make it writable for this user");
    }
    std::string problem;
    if (::flock(file_, LOCK_EX | LOCK_NB) != 0) {
        problem = errno == EWOULDBLOCK ? in_use(folder, file_) + "Stop that process, or give another folder"
                                       : "cannot lock " + path.string() + ": " + reason(errno);
    } else {
        const std::string pid = std::to_string(::getpid()) + "\n";
        const bool written = ::ftruncate(file_, 0) == 0 && ::pwrite(file_, pid.data(), pid.size(), 0) >= 0;
        // On a full disk the lock holds all the same; only its name for others is missing.
        if (!written && errno != ENOSPC) problem = "cannot write " + path.string() + ": " + reason(errno);
    }
    if (problem.empty()) return;
    ::close(file_);
    throw Error(problem);
}

FolderLock::FolderLock(const std::filesystem::path& folder, ForLooking /*how*/) {
    const std::filesystem::path path = folder / "lock";
    file_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file_ < 0 && errno == ENOENT) return;  // no process ever had this folder
    std::string problem;
    if (file_ < 0) {
        problem = "cannot read " + path.string() + ": " + reason(errno);
    } else if (::flock(file_, LOCK_SH | LOCK_NB) != 0) {
        problem = errno == EWOULDBLOCK ? in_use(folder, file_) + "Stop that process first, or look at a backup"
                                       : "cannot lock " + path.string() + ": " + reason(errno);
    }
    if (problem.empty()) return;
    if (file_ >= 0) ::close(file_);
    throw Error(problem);
}

FolderLock::~FolderLock() {
    if (file_ >= 0) ::close(file_);
}

std::optional<std::uint64_t> free_bytes_of(const std::filesystem::path& folder) {
    struct statvfs room {};
    if (::statvfs(folder.c_str(), &room) != 0) return std::nullopt;
    return std::uint64_t{room.f_bavail} * room.f_frsize;
}

}  // namespace posthorn::store
