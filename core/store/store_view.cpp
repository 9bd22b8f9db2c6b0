#include "store/store_view.hpp"

#include <limits>
#include <set>
#include <system_error>
#include <utility>

#include <posthorn/status.hpp>

#include "store/chunk_format.hpp"
#include "store/chunk_table.hpp"
#include "store/gathering.hpp"
#include "store/recovery.hpp"
#include "store/schema.hpp"
#include "store/upkeep_plan.hpp"

namespace posthorn::store {

namespace {

std::string store_file(const std::filesystem::path& folder) {
    std::error_code error;
    const auto file = folder / "posthorn.db";
    if (!std::filesystem::is_directory(folder, error))
        throw Error("there is no folder " + folder.string() + ". Give the data folder of a node");
    if (!std::filesystem::exists(file, error))
        throw Error("the folder " + folder.string() + " is not a store: it has no posthorn.db. Give a data folder");
    return file.string();
}

std::uint64_t size_of(const std::string& path) {
    std::error_code none;
    const auto bytes = std::filesystem::file_size(path, none);
    return none ? 0 : bytes;
}

constexpr Offset every_offset = std::numeric_limits<Offset>::max();

}  // namespace

template <typename Work>
auto StoreView::guarded(Work work) const {
    try {
        return work();
    } catch (const SqlError& error) {
        const bool damaged = error.primary() == SQLITE_CORRUPT || error.primary() == SQLITE_NOTADB;
        throw Error("the store " + path_ + " cannot be read: " + error.what() + ". " +
                    (damaged ? recovery_command(path_) : "Make the file readable for this user"));
    }
}

StoreView::StoreView(const std::filesystem::path& folder)
    : path_(store_file(folder)), lock_(folder, FolderLock::ForLooking{}) {
    guarded([this] {
        log_ = check_log(path_, {});
        file_bytes_ = size_of(path_);
        log_bytes_ = size_of(path_ + "-wal");
        file_.emplace(path_, Database::ForLooking{});
        format_ = check_format(*file_);
        look_at_format(*file_, format_);
        ledger_.emplace(*file_);
        ledger_->reload();
    });
}

StoreView::Contents StoreView::contents() {
    return guarded([this] {
        Contents contents;
        UpkeepPlan nobody_works_at;
        Survey found = survey(*file_, *ledger_, nobody_works_at);
        contents.chunks = found.chunks;
        contents.topics = std::move(found.topics);
        for (const BadChunk& bad : found.bad) {
            contents.damage.push_back(
                {ledger_->name_of(bad.row.topic), {bad.row.first, bad.row.last}, bad.row.messages, bad.what});
        }
        for (RecoveredTopic& topic : contents.topics) {
            if (topic.messages == 0) continue;
            const ReadResult first = read({topic.topic, topic.first, every_offset, 1, 1, false});
            if (!first.messages.empty()) topic.oldest = first.messages.front().accepted_at;
        }
        Statement select(*file_, "SELECT topic, first, last, messages, what FROM damaged ORDER BY id");
        Query rows(select);
        while (rows.step()) {
            contents.set_aside.push_back({ledger_->name_of(rows.integer_at(0)),
                                          {rows.integer_at(1), rows.integer_at(2)},
                                          rows.integer_at(3),
                                          std::string(rows.bytes_at(4))});
        }
        return contents;
    });
}

ReadResult StoreView::read(const Read& read) {
    return guarded([this, &read] {
        const TopicRow* topic = ledger_->find(read.topic);
        return topic == nullptr ? ReadResult{} : gather(topic->id, read);
    });
}

ReadResult StoreView::gather(TopicId topic, const Read& read) {
    ReadResult result;
    Gathering gathering(read, result);
    Statement select_chunks(*file_,
                            "SELECT topic, first, last, messages, bytes, chunk.body, header, state, small_body, layout "
                            "FROM chunk LEFT JOIN chunk_state USING(topic, first) "
                            "LEFT JOIN shared_body ON chunk.body < 0 AND shared_body.body = -chunk.body "
                            "WHERE topic=? AND last>=? AND first<=? ORDER BY first");
    Statement select_body(*file_, "SELECT bytes FROM body WHERE id=?");
    Query chunks(select_chunks);
    chunks.integer(topic).integer(read.from).integer(read.to);
    while (!gathering.full() && chunks.step()) {
        const ChunkRow row{chunks.integer_at(0), chunks.integer_at(1), chunks.integer_at(2),
                           chunks.integer_at(3), chunks.integer_at(4), chunks.signed_at(5)};
        const auto damaged = [&](std::uint64_t messages, const char* what) {
            result.damage.push_back({read.topic, {row.first, row.last}, messages, what});
        };
        const auto summary = read_summary(chunks.bytes_at(6));
        auto chunk =
            summary && matches(*summary, row) ? decode_header(chunks.bytes_at(6), chunks.bytes_at(9)) : std::nullopt;
        if (!chunk) {
            damaged(row.messages, "header damaged");
            continue;
        }
        if (!chunks.null_at(7) && !decode_state(chunks.bytes_at(7), *chunk)) {
            damaged(row.messages, "settlements damaged");
            continue;
        }
        Slice body;
        if (read.bodies) {
            std::string bytes;
            try {
                Query stored(select_body);
                if (row.body == no_body_row) {
                    bytes = chunks.bytes_at(8);
                } else if (stored.signed_integer(body_row(row.body)).step()) {
                    bytes = stored.bytes_at(0);
                }
            } catch (const SqlError& error) {
                if (error.primary() != SQLITE_CORRUPT) throw;  // pages of this body alone, as far as is known
            }
            if (bytes.size() != chunk->body_size() || crc32c(bytes) != summary->body_crc) {
                damaged(chunk->live(), "body damaged");
                continue;
            }
            body = Slice(std::move(bytes));
        }
        if (!gathering.take(*chunk, body)) return result;
    }
    if (!gathering.full()) gathering.finish();
    return result;
}

StoreView::DeadLetters StoreView::read_dead(const ReadDead& read) {
    return guarded([this, &read] {
        DeadLetters dead;
        DeadGathering gathering(read, dead.result);
        const TopicRow* topic = ledger_->find(read.topic);
        if (topic == nullptr) return dead;
        Offset from = read.from;
        std::set<Offset> passed;
        while (auto found = ledger_->next_dead_letter(topic->id, from, passed)) {
            const Offset offset = found->letter.record.offset;
            if (found->damaged) {
                dead.damage.push_back(Ledger::damage(read.topic, *found));
                if (found->lies) {
                    passed.insert(found->lies->chunk);
                    continue;
                }
            } else if (!gathering.fits(found->letter.size())) {
                break;
            } else {
                dead.result.letters.push_back(std::move(found->letter));
            }
            from = offset + 1;
        }
        return dead;
    });
}

}  // namespace posthorn::store
