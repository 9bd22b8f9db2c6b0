#include "store/wal_check.hpp"

#include <sqlite3.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "store/database.hpp"

// The layout is SQLite's, fixed for good: https://www.sqlite.org/fileformat2.html#walformat

namespace posthorn::store {

namespace {

constexpr std::size_t header_size = 32;
constexpr std::size_t frame_header_size = 24;
constexpr std::uint32_t magic_little = 0x377f0682;  // checksums over little-endian words
constexpr std::uint32_t magic_big = 0x377f0683;
constexpr std::uint32_t largest_page = 65'536;

using Bytes = std::vector<unsigned char>;

std::uint32_t big(const unsigned char* at) {
    return std::uint32_t{at[0]} << 24 | std::uint32_t{at[1]} << 16 | std::uint32_t{at[2]} << 8 | at[3];
}
std::uint32_t little(const unsigned char* at) {
    return std::uint32_t{at[3]} << 24 | std::uint32_t{at[2]} << 16 | std::uint32_t{at[1]} << 8 | at[0];
}

struct Checksum {
    bool big_endian = false;
    std::uint32_t first = 0;
    std::uint32_t second = 0;

    void add(const unsigned char* at, std::size_t size) {  // size: a multiple of 8
        for (const unsigned char* end = at + size; at != end; at += 8) {
            first += (big_endian ? big(at) : little(at)) + second;
            second += (big_endian ? big(at + 4) : little(at + 4)) + first;
        }
    }
    [[nodiscard]] bool stands_at(const unsigned char* at) const { return big(at) == first && big(at + 4) == second; }
};

// A file through a VFS, for reading.
class LogFile {
public:
    LogFile(sqlite3_vfs& vfs, std::string path) : memory_(std::size_t(vfs.szOsFile)), path_(std::move(path)) {
        path_.append(2, '\0');  // where a VFS looks for parameters there are none
        int flags = 0;
        check(vfs.xOpen(&vfs, path_.c_str(), file(), SQLITE_OPEN_READONLY | SQLITE_OPEN_WAL, &flags));
    }
    ~LogFile() {
        if (file()->pMethods != nullptr) file()->pMethods->xClose(file());
    }
    LogFile(const LogFile&) = delete;
    LogFile& operator=(const LogFile&) = delete;

    std::uint64_t size() {
        sqlite3_int64 bytes = 0;
        check(file()->pMethods->xFileSize(file(), &bytes));
        return static_cast<std::uint64_t>(bytes);
    }
    void read(std::uint64_t offset, unsigned char* to, std::size_t size) {
        check(file()->pMethods->xRead(file(), to, static_cast<int>(size), static_cast<sqlite3_int64>(offset)));
    }

private:
    sqlite3_file* file() { return reinterpret_cast<sqlite3_file*>(memory_.data()); }
    void check(int code) const {
        if (code != SQLITE_OK) throw SqlError(code, std::string("cannot read the log: ") + sqlite3_errstr(code));
    }

    struct alignas(std::max_align_t) Unit {
        std::array<unsigned char, alignof(std::max_align_t)> bytes;
    };
    struct Memory {  // zeroed, aligned for whatever the VFS keeps in it
        explicit Memory(std::size_t size) : units(size / sizeof(Unit) + 1) {}
        Unit* data() { return units.data(); }
        std::vector<Unit> units;
    } memory_;
    std::string path_;
};

struct Header {
    std::size_t page_size = 0;
    std::array<unsigned char, 8> salt{};
    Checksum checksum;
};

std::optional<Header> read_header(LogFile& log) {
    std::array<unsigned char, header_size> bytes{};
    log.read(0, bytes.data(), bytes.size());
    const std::uint32_t magic = big(bytes.data());
    const std::uint32_t page_size = big(&bytes[8]);
    Header header;
    header.checksum.big_endian = magic == magic_big;
    header.checksum.add(bytes.data(), 24);
    const bool page_fits = page_size >= 512 && page_size <= largest_page && (page_size & (page_size - 1)) == 0;
    if ((magic != magic_little && magic != magic_big) || !page_fits || !header.checksum.stands_at(&bytes[24])) {
        return std::nullopt;
    }
    header.page_size = page_size;
    std::copy_n(&bytes[16], header.salt.size(), header.salt.begin());
    return header;
}

LogFindings scan(LogFile& log, const Header& header, std::uint64_t count) {
    LogFindings findings;
    Checksum checksum = header.checksum;
    bool whole = true;  // so far
    bool commit_seen_behind = false;
    Bytes frame(frame_header_size + header.page_size);
    for (std::uint64_t i = 0; i < count; ++i) {
        log.read(header_size + i * frame.size(), frame.data(), frame.size());
        const bool salted = std::equal(header.salt.begin(), header.salt.end(), &frame[8]);
        const bool ends_commit = big(&frame[4]) != 0;
        if (whole) {
            checksum.add(frame.data(), 8);
            checksum.add(&frame[frame_header_size], header.page_size);
            whole = salted && big(frame.data()) != 0 && checksum.stands_at(&frame[16]);
            if (whole && ends_commit) {
                findings.frames = i + 1;
                findings.behind = 0;
                continue;
            }
        }
        if (!salted) continue;
        ++findings.behind;
        if (commit_seen_behind) findings.after_a_commit = true;
        if (ends_commit) {
            ++findings.commits_behind;
            commit_seen_behind = true;
        }
    }
    return findings;
}

}  // namespace

std::optional<LogFindings> check_log(const std::string& path, const std::string& vfs_name) {
    sqlite3_vfs* vfs = sqlite3_vfs_find(vfs_name.empty() ? nullptr : vfs_name.c_str());
    if (vfs == nullptr) throw SqlError(SQLITE_ERROR, "there is no VFS named " + vfs_name);
    const std::string log_path = path + "-wal";
    int there = 0;
    if (vfs->xAccess(vfs, log_path.c_str(), SQLITE_ACCESS_EXISTS, &there) != SQLITE_OK || there == 0) {
        return std::nullopt;
    }
    LogFile log(*vfs, log_path);
    const std::uint64_t size = log.size();
    if (size <= header_size) return std::nullopt;
    const auto header = read_header(log);
    if (!header) {
        LogFindings findings;
        findings.header_damaged = true;
        return findings;
    }
    return scan(log, *header, (size - header_size) / (frame_header_size + header->page_size));
}

std::string describe(const LogFindings& findings, const std::string& path) {
    const std::string log = "the log " + path + "-wal ";
    if (findings.header_damaged) {
        return log +
               "has no valid header and is not read: nothing is lost if power failed while it was being begun "
               "anew; else what was committed since the last checkpoint is";
    }
    if (findings.loss()) {
        return log + "is damaged behind frame " + std::to_string(findings.frames) + ": " +
               std::to_string(findings.commits_behind) + " later commits, confirmed ones among them, are LOST";
    }
    if (findings.behind != 0) {
        return log + "ends in an unfinished commit (" + std::to_string(findings.behind) +
               " frames), which is undone; nothing in it was confirmed";
    }
    return {};
}

}  // namespace posthorn::store
