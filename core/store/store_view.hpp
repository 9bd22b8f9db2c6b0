// A look at the store in a folder that no process is using. Nothing in the folder changes: what the next start would
// do, as merging the log and setting damaged chunks aside, is only said.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "store/database.hpp"
#include "store/folder.hpp"
#include "store/ledger.hpp"
#include "store/store.hpp"
#include "store/wal_check.hpp"

namespace posthorn::store {

class StoreView {
public:
    // Throws posthorn::Error naming the folder when there is no store in it, it is in use, or of another format.
    explicit StoreView(const std::filesystem::path& folder);

    struct Contents {
        std::vector<RecoveredTopic> topics;  // without watermarks and dedup keys
        std::vector<Damage> damage;          // that the next start would set aside
        std::vector<Damage> set_aside;       // by earlier ones
        std::uint64_t chunks = 0;
    };
    [[nodiscard]] Contents contents();  // from headers and settlements

    // As a store answers them. Damaged bodies and dead letters are reported each time they are met.
    [[nodiscard]] ReadResult read(const Read& read);
    struct DeadLetters {
        ReadDeadResult result;
        std::vector<Damage> damage;
    };
    [[nodiscard]] DeadLetters read_dead(const ReadDead& read);

    [[nodiscard]] bool has(const std::string& topic) const { return ledger_->find(topic) != nullptr; }
    [[nodiscard]] std::int64_t format() const noexcept { return format_; }
    [[nodiscard]] std::uint64_t file_bytes() const noexcept { return file_bytes_; }
    [[nodiscard]] std::uint64_t log_bytes() const noexcept { return log_bytes_; }
    [[nodiscard]] const std::optional<LogFindings>& log() const noexcept {
        return log_;
    }  // nothing: all is in the file
    [[nodiscard]] std::string log_note() const { return log_ ? describe(*log_, path_) : std::string(); }

private:
    template <typename Work>
    auto guarded(Work work) const;  // SQLite's errors become posthorn::Error
    ReadResult gather(TopicId topic, const Read& read);

    std::string path_;
    FolderLock lock_;
    std::optional<LogFindings> log_;
    std::uint64_t file_bytes_ = 0;
    std::uint64_t log_bytes_ = 0;
    std::int64_t format_ = 0;
    std::optional<Database> file_;
    std::optional<Ledger> ledger_;
};

}  // namespace posthorn::store
