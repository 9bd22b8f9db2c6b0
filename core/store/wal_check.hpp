// Looks at the write-ahead log before SQLite does. SQLite reads the log up to the first frame that does not fit and
// says nothing of what lies behind. Frames behind that carry the log's present salt were written in its present life:
// the rest of a commit that never ended, or commits that are lost.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace posthorn::store {

struct LogFindings {
    bool header_damaged = false;
    std::uint64_t frames = 0;          // that SQLite will use: up to the last whole commit
    std::uint64_t behind = 0;          // frames behind these with the log's salt
    std::uint64_t commits_behind = 0;  // that end a commit, among these
    bool after_a_commit = false;       // some stand behind one that ends a commit

    // Every commit is synced before the next is begun, so what one unfinished commit left is at most one commit and
    // nothing behind it.
    [[nodiscard]] bool loss() const noexcept { return commits_behind > 1 || after_a_commit; }
};

// Of the log beside the store file `path`. Nothing: there is no log, or an empty one. Throws SqlError.
[[nodiscard]] std::optional<LogFindings> check_log(const std::string& path, const std::string& vfs);

// One line for the log; empty: nothing to say.
[[nodiscard]] std::string describe(const LogFindings& findings, const std::string& path);

}  // namespace posthorn::store
