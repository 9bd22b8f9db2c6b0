#include "sim/sim_vfs.hpp"

#include <sqlite3.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <random>
#include <stdexcept>
#include <vector>

#include "store/sqlite_store.hpp"

namespace posthorn::sim {

namespace {

constexpr std::size_t sector = 512;
constexpr int longest_path = 512;

struct Change {  // a write, or a truncation if `bytes` is empty
    std::uint64_t offset = 0;
    std::string bytes;
};

void put(std::string& image, const Change& change) {
    if (change.bytes.empty()) {
        image.resize(std::min<std::size_t>(image.size(), change.offset));
        return;
    }
    if (image.size() < change.offset + change.bytes.size()) image.resize(change.offset + change.bytes.size());
    image.replace(change.offset, change.bytes.size(), change.bytes);
}

// Some of the sectors that a write reaches into.
void put_torn(std::string& image, const Change& change, std::mt19937_64& rng) {
    std::size_t at = 0;
    while (at < change.bytes.size()) {
        const std::size_t in_sector = sector - (change.offset + at) % sector;
        const std::size_t count = std::min(in_sector, change.bytes.size() - at);
        if ((rng() & 1) != 0) put(image, {change.offset + at, change.bytes.substr(at, count)});
        at += count;
    }
}

struct File {
    std::string seen;  // by the process
    std::string safe;  // at the last sync
    std::vector<Change> unsynced;

    void change(Change change) {
        put(seen, change);
        unsynced.push_back(std::move(change));
    }
    void sync() {
        for (const Change& change : unsynced) put(safe, change);
        unsynced.clear();
    }
    void lose_power(std::mt19937_64& rng) {
        for (const Change& change : unsynced) {
            switch (rng() % 3) {
                case 0:
                    put(safe, change);
                    break;
                case 1:
                    break;
                default:
                    put_torn(safe, change, rng);
                    break;
            }
        }
        seen = safe;
        unsynced.clear();
    }
};

}  // namespace

struct SimDisk::Impl {
    explicit Impl(std::uint64_t seed) : random(seed) {}

    // An operation that changes the disk: may it happen?
    bool happens(std::uint64_t of_life) {
        if (of_life != life || left == 0) return false;
        --left;
        ++operations;
        return true;
    }
    [[nodiscard]] std::uint64_t used() const {
        std::uint64_t bytes = 0;
        for (const auto& entry : files) bytes += entry.second->seen.size();
        return bytes;
    }
    std::map<std::string, std::shared_ptr<File>> files;
    std::mt19937_64 random;
    std::uint64_t life = 1;
    std::uint64_t left = SimDisk::unlimited;
    std::uint64_t operations = 0;
    std::uint64_t capacity = SimDisk::unlimited;
    bool sync_fails = false;
    bool lies = false;
    std::string name;
    sqlite3_vfs vfs{};
};

namespace {

using Disk = SimDisk::Impl;

// SQLite gives the memory, so this is made and ended by hand.
struct Handle {
    sqlite3_file base;
    Disk* disk;
    std::shared_ptr<File>* file;
    std::uint64_t life;
};

Handle& handle_of(sqlite3_file* file) {
    return *reinterpret_cast<Handle*>(file);
}
Disk& disk_of(sqlite3_vfs* vfs) {
    return *static_cast<Disk*>(vfs->pAppData);
}

int close_file(sqlite3_file* file) {
    delete handle_of(file).file;
    handle_of(file).file = nullptr;
    return SQLITE_OK;
}

int read_file(sqlite3_file* file, void* to, int size, sqlite3_int64 offset) {
    const Handle& handle = handle_of(file);
    if (handle.life != handle.disk->life) return SQLITE_IOERR_READ;
    const std::string& bytes = (*handle.file)->seen;
    const auto at = std::min(bytes.size(), static_cast<std::size_t>(offset));
    const auto wanted = static_cast<std::size_t>(size);
    const std::size_t there = std::min(wanted, bytes.size() - at);
    std::memset(to, 0, wanted);
    std::memcpy(to, bytes.data() + at, there);
    return there == wanted ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
}

int write_file(sqlite3_file* file, const void* from, int size, sqlite3_int64 offset) {
    const Handle& handle = handle_of(file);
    if (!handle.disk->happens(handle.life)) return SQLITE_IOERR_WRITE;
    File& target = **handle.file;
    const std::uint64_t end = static_cast<std::uint64_t>(offset) + static_cast<std::uint64_t>(size);
    const std::uint64_t growth = end > target.seen.size() ? end - target.seen.size() : 0;
    if (growth != 0 && handle.disk->used() + growth > handle.disk->capacity) return SQLITE_FULL;
    target.change({static_cast<std::uint64_t>(offset),
                   std::string(static_cast<const char*>(from), static_cast<std::size_t>(size))});
    return SQLITE_OK;
}

int truncate_file(sqlite3_file* file, sqlite3_int64 size) {
    const Handle& handle = handle_of(file);
    if (!handle.disk->happens(handle.life)) return SQLITE_IOERR_TRUNCATE;
    (*handle.file)->change({static_cast<std::uint64_t>(size), {}});
    return SQLITE_OK;
}

int sync_file(sqlite3_file* file, int /*flags*/) {
    const Handle& handle = handle_of(file);
    Disk& disk = *handle.disk;
    if (!disk.happens(handle.life)) return SQLITE_IOERR_FSYNC;
    if (disk.sync_fails) {
        disk.sync_fails = false;
        return SQLITE_IOERR_FSYNC;
    }
    if (!disk.lies) (*handle.file)->sync();
    return SQLITE_OK;
}

int file_size(sqlite3_file* file, sqlite3_int64* size) {
    const Handle& handle = handle_of(file);
    if (handle.life != handle.disk->life) return SQLITE_IOERR_FSTAT;
    *size = static_cast<sqlite3_int64>((*handle.file)->seen.size());
    return SQLITE_OK;
}

// One process, one connection: nobody to lock out.
int lock_file(sqlite3_file* /*file*/, int /*level*/) {
    return SQLITE_OK;
}
int check_lock(sqlite3_file* /*file*/, int* locked) {
    *locked = 0;
    return SQLITE_OK;
}

int control_file(sqlite3_file* file, int operation, void* argument) {
    const Disk& disk = *handle_of(file).disk;
    if (operation != store::free_space_control || disk.capacity == SimDisk::unlimited) {
        return SQLITE_NOTFOUND;
    }
    const std::uint64_t used = disk.used();
    *static_cast<sqlite3_int64*>(argument) = static_cast<sqlite3_int64>(disk.capacity - std::min(used, disk.capacity));
    return SQLITE_OK;
}

int sector_size(sqlite3_file* /*file*/) {
    return sector;
}
int characteristics(sqlite3_file* /*file*/) {
    return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

const sqlite3_io_methods& methods() {
    static const sqlite3_io_methods table = [] {
        sqlite3_io_methods m{};
        m.iVersion = 1;  // no shared memory: only exclusive locking can use a log here
        m.xClose = close_file;
        m.xRead = read_file;
        m.xWrite = write_file;
        m.xTruncate = truncate_file;
        m.xSync = sync_file;
        m.xFileSize = file_size;
        m.xLock = lock_file;
        m.xUnlock = lock_file;
        m.xCheckReservedLock = check_lock;
        m.xFileControl = control_file;
        m.xSectorSize = sector_size;
        m.xDeviceCharacteristics = characteristics;
        return m;
    }();
    return table;
}

int open_file(sqlite3_vfs* vfs, const char* name, sqlite3_file* file, int flags, int* out_flags) {
    Handle& handle = handle_of(file);
    handle.base.pMethods = nullptr;
    Disk& disk = disk_of(vfs);
    const std::string path = name != nullptr ? name : "";
    std::shared_ptr<File> target;
    if (path.empty()) {
        target = std::make_shared<File>();  // a temporary file without a name
    } else if (const auto found = disk.files.find(path); found != disk.files.end()) {
        target = found->second;
    } else if ((flags & SQLITE_OPEN_CREATE) != 0 && disk.happens(disk.life)) {
        target = std::make_shared<File>();
        disk.files[path] = target;
    } else {
        return SQLITE_CANTOPEN;
    }
    handle.disk = &disk;
    handle.life = disk.life;
    handle.file = new std::shared_ptr<File>(std::move(target));
    handle.base.pMethods = &methods();
    if (out_flags != nullptr) *out_flags = flags;
    return SQLITE_OK;
}

int delete_file(sqlite3_vfs* vfs, const char* name, int /*sync_folder*/) {
    Disk& disk = disk_of(vfs);
    const auto found = disk.files.find(name);
    if (found == disk.files.end()) return SQLITE_IOERR_DELETE_NOENT;
    if (!disk.happens(disk.life)) return SQLITE_IOERR_DELETE;
    disk.files.erase(found);
    return SQLITE_OK;
}

int access_file(sqlite3_vfs* vfs, const char* name, int /*flags*/, int* result) {
    *result = disk_of(vfs).files.contains(name) ? 1 : 0;
    return SQLITE_OK;
}

int full_path(sqlite3_vfs* /*vfs*/, const char* name, int size, char* out) {
    if (std::strlen(name) >= static_cast<std::size_t>(size)) return SQLITE_CANTOPEN;
    std::strcpy(out, name);
    return SQLITE_OK;
}

int randomness(sqlite3_vfs* vfs, int size, char* out) {
    std::generate_n(out, size, [&] { return static_cast<char>(disk_of(vfs).random() & 0xFF); });
    return size;
}

int sleep_for(sqlite3_vfs* /*vfs*/, int microseconds) {
    return microseconds;
}

int current_time(sqlite3_vfs* /*vfs*/, sqlite3_int64* milliseconds) {
    *milliseconds = 0;
    return SQLITE_OK;
}

int current_day(sqlite3_vfs* /*vfs*/, double* days) {
    *days = 0;
    return SQLITE_OK;
}

int last_error(sqlite3_vfs* /*vfs*/, int /*size*/, char* /*out*/) {
    return 0;
}

}  // namespace

SimDisk::SimDisk(std::uint64_t seed) : impl_(std::make_unique<Impl>(seed)) {
    static std::atomic<std::uint64_t> made{0};
    impl_->name = "posthorn-sim-" + std::to_string(++made);
    sqlite3_vfs& vfs = impl_->vfs;
    vfs.iVersion = 2;
    vfs.szOsFile = sizeof(Handle);
    vfs.mxPathname = longest_path;
    vfs.zName = impl_->name.c_str();
    vfs.pAppData = impl_.get();
    vfs.xOpen = open_file;
    vfs.xDelete = delete_file;
    vfs.xAccess = access_file;
    vfs.xFullPathname = full_path;
    vfs.xRandomness = randomness;
    vfs.xSleep = sleep_for;
    vfs.xCurrentTime = current_day;
    vfs.xCurrentTimeInt64 = current_time;
    vfs.xGetLastError = last_error;
    if (sqlite3_vfs_register(&vfs, 0) != SQLITE_OK) throw std::runtime_error("cannot register " + impl_->name);
}

SimDisk::~SimDisk() {
    sqlite3_vfs_unregister(&impl_->vfs);
}

const std::string& SimDisk::vfs() const noexcept {
    return impl_->name;
}

void SimDisk::stop_after(std::uint64_t operations) {
    impl_->left = operations;
}
std::uint64_t SimDisk::operations() const noexcept {
    return impl_->operations;
}

void SimDisk::restart(bool power) {
    ++impl_->life;
    impl_->left = unlimited;
    impl_->sync_fails = false;
    if (!power) return;
    for (auto& entry : impl_->files) entry.second->lose_power(impl_->random);
}

std::unique_ptr<SimDisk> SimDisk::copy(std::uint64_t seed) const {
    auto other = std::make_unique<SimDisk>(seed);
    for (const auto& [name, file] : impl_->files) other->impl_->files.emplace(name, std::make_shared<File>(*file));
    return other;
}

void SimDisk::set_capacity(std::uint64_t bytes) {
    impl_->capacity = bytes;
}
void SimDisk::fail_next_sync() {
    impl_->sync_fails = true;
}
void SimDisk::lie_about_sync() {
    impl_->lies = true;
}
std::uint64_t SimDisk::used() const {
    return impl_->used();
}

std::uint64_t SimDisk::size(const std::string& file) const {
    const auto found = impl_->files.find(file);
    return found == impl_->files.end() ? 0 : found->second->seen.size();
}

std::string SimDisk::read(const std::string& file) const {
    return impl_->files.at(file)->seen;
}

void SimDisk::flip_byte(const std::string& file, std::uint64_t offset) {
    File& target = *impl_->files.at(file);
    target.seen.at(offset) = static_cast<char>(target.seen.at(offset) ^ 0xFF);
    if (offset < target.safe.size()) target.safe[offset] = static_cast<char>(target.safe[offset] ^ 0xFF);
}

}  // namespace posthorn::sim
