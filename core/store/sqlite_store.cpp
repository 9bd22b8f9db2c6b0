#include "store/sqlite_store.hpp"

#include <algorithm>
#include <cerrno>
#include <exception>
#include <limits>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <system_error>
#include <utility>

#include <posthorn/status.hpp>

#include "store/backup.hpp"
#include "store/chunk_table.hpp"
#include "store/database.hpp"
#include "store/folder.hpp"
#include "store/gathering.hpp"
#include "store/ledger.hpp"
#include "store/recovery.hpp"
#include "store/replaying.hpp"
#include "store/schema.hpp"
#include "store/sharing.hpp"
#include "store/upkeep.hpp"
#include "store/wal_check.hpp"

namespace posthorn::store {

namespace {

// The log is moved into the file when it has this many pages (8 MiB). SQLite moves all of it at once, so this bounds
// what one commit may have to wait for.
constexpr std::size_t log_limit = 512;

// Of min_free; with less room than that nothing is appended, so that settlements and deletes still can be.
constexpr std::uint64_t floor_share = 8;

[[noreturn]] void refuse(const SqlError& error, const std::string& path) {
    const std::string what = "the store " + path + " cannot be opened: " + error.what() + ". ";
    switch (error.primary()) {
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
            throw Error(what + "Close the program that has it open");
        case SQLITE_FULL:
            throw Error(what + "Make room on the disk");
        case SQLITE_CANTOPEN:
        case SQLITE_PERM:
        case SQLITE_READONLY:
        case SQLITE_AUTH:
            throw Error(what + "Make the file and its folder writable for this user");
        default:
            throw Error(what + recovery_command(path));
    }
}

struct StoredBody {  // of the commit under way
    CommonBody common;
    SharedBody shared;
};

class SqliteStore final : public Store {
public:
    SqliteStore(const SqliteOptions& options, const std::string& path)
        : options_(options),
          lock_(options.vfs.empty() ? std::make_unique<FolderLock>(options.folder) : nullptr),
          log_note_(note_on_log(path, options.vfs)),
          file_(open_store_file(path, options.vfs)),
          ledger_(db_),
          chunks_(db_, plan_),
          upkeep_(db_, chunks_, ledger_.dead_chunks(), plan_) {}

    Recovery recover() override;
    Outcome run(const Job& job) override;
    [[nodiscard]] bool durable() const noexcept override { return true; }

private:
    static std::string note_on_log(const std::string& path, const std::string& vfs) {
        const auto findings = check_log(path, vfs);
        return findings ? describe(*findings, path) : std::string();
    }

    void commit(const std::vector<TopicBatch>& batches);
    std::vector<StoredBody> store_common(const std::vector<TopicBatch>& batches);
    void apply(const TopicBatch& batch, const std::vector<StoredBody>& bodies);
    void replay(const TopicBatch& batch);
    void bury(TopicRow& topic, const DeadLetter& letter);
    bool bury_shared(HeldChunk& held, std::size_t index, const DeadLetter& letter);
    void edit(TopicRow& topic, const Edit& edit);
    void send_back(TopicRow& topic, const Redrive& redrive, Wall accepted_at);
    void flush();
    ReadResult read(const Read& read);
    void gather(const TopicRow& topic, const Read& read, Gathering& gathering);
    ReadDeadResult read_dead(const ReadDead& read);
    std::optional<BackupResult> back_up(const BackupStep& step);
    void look_after(bool room);
    void checkpoint_if_due();
    void roll_back();

    [[nodiscard]] std::optional<std::uint64_t> room();  // on the disk; nothing: no disk to run out of
    [[nodiscard]] std::uint64_t free_bytes();
    void check_room(const std::vector<TopicBatch>& batches);
    void add_lost(std::vector<Damage>& damage);
    void give_up(const SqlError& error);

    SqliteOptions options_;
    std::unique_ptr<FolderLock> lock_;
    std::string log_note_;
    std::unique_ptr<Database> file_;
    Database& db_ = *file_;
    UpkeepPlan plan_;
    Ledger ledger_;
    ChunkTable chunks_;
    Upkeep upkeep_;
    std::vector<Damage> dead_damage_;   // dead letters that a read found damaged
    std::vector<DeadDropped> dropped_;  // by the commit under way
    std::vector<Replayed> replayed_;    // the same
    std::unique_ptr<Backup> backup_;    // under way
    std::string broken_;                // why nothing is stored any more
};

Recovery SqliteStore::recover() {
    try {
        ledger_.reload();
        Recovery recovery = read_everything(db_, ledger_, chunks_, plan_);
        if (!log_note_.empty()) recovery.notes.push_back(log_note_);
        return recovery;
    } catch (const SqlError& error) {
        refuse(error, db_.path());
    }
}

Outcome SqliteStore::run(const Job& job) {
    Outcome outcome;
    if (!broken_.empty()) {
        outcome.failure = Failure::failed;
        outcome.text = broken_;
        return outcome;
    }
    try {
        dropped_.clear();
        replayed_.clear();
        if (!job.batch.empty()) commit(job.batch);
        outcome.dropped = std::exchange(dropped_, {});
        outcome.replayed = std::exchange(replayed_, {});
        add_lost(outcome.damage);
        for (const Read& read : job.reads) outcome.reads.push_back(this->read(read));
        for (const ReadDead& read : job.dead_reads) outcome.dead_reads.push_back(read_dead(read));
        add_lost(outcome.damage);
        outcome.free_bytes = free_bytes();
        if (!job.batch.empty()) {
            look_after(outcome.free_bytes != 0);
            add_lost(outcome.damage);
        }
        if (job.backup) outcome.backup = back_up(*job.backup);
    } catch (const SqlError& error) {
        outcome = {};
        outcome.text = "the store " + db_.path() + ": " + error.what();
        if (error.primary() == SQLITE_FULL) {
            outcome.failure = Failure::full;
            outcome.free_bytes = 0;
            roll_back();
        } else {
            give_up(error);
        }
        if (!broken_.empty()) {
            outcome.failure = Failure::failed;
            outcome.text = broken_;
        }
    }
    return outcome;
}

void SqliteStore::commit(const std::vector<TopicBatch>& batches) {
    check_room(batches);
    Transaction transaction(db_);
    const std::vector<StoredBody> bodies = store_common(batches);
    for (const TopicBatch& batch : batches) apply(batch, bodies);
    for (const TopicBatch& batch : batches) {
        if (batch.replay && !batch.gone) replay(batch);
    }
    flush();
    transaction.commit();
    plan_.committed();
}

void SqliteStore::flush() {
    chunks_.flush();
    ledger_.dead_chunks().flush();
    for (const BodyRef body : ledger_.dead_chunks().take_released()) chunks_.release(body);
    for (const BodyRef body : ledger_.dead_chunks().take_thinned()) plan_.thin(body);
}

std::vector<StoredBody> SqliteStore::store_common(const std::vector<TopicBatch>& batches) {
    std::vector<StoredBody> bodies;
    const auto next_of = [this](const std::string& topic) {
        const TopicRow* row = ledger_.find(topic);
        return row == nullptr ? Offset{1} : row->next_offset;
    };
    for (CommonBody& common : common_bodies(batches, next_of)) {
        SharedBody shared = chunks_.insert_shared(common.all, common.batches.size());
        bodies.push_back({std::move(common), std::move(shared)});
    }
    return bodies;
}

void SqliteStore::apply(const TopicBatch& batch, const std::vector<StoredBody>& bodies) {
    TopicRow& topic = ledger_.topic(batch.topic);
    if (batch.next_offset > topic.next_offset) {
        topic.next_offset = batch.next_offset;
        topic.changed = true;
    }
    cut(
        batch, bodies,
        [&](const StoredBody& body, Chunk chunk) { chunks_.insert(body.shared, topic.id, std::move(chunk)); },
        [&](PackedChunk packed) { chunks_.insert(topic.id, std::move(packed)); });
    for (const OffsetRange& range : batch.settled) chunks_.settle(topic.id, range);
    chunks_.set_marks(topic.id, batch.marks);
    for (const DeadLetter& letter : batch.dead) bury(topic, letter);
    for (const Edit& one : batch.edits) edit(topic, one);
    for (const Redrive& redrive : batch.redrives) send_back(topic, redrive, batch.accepted_at);
    for (const Offset dead : batch.purged) ledger_.purge(topic, dead);
    if (batch.dead_bound) {
        DeadDropped dropped = ledger_.cut_back(topic, *batch.dead_bound);
        dropped.topic = batch.topic;
        if (dropped.messages != 0) dropped_.push_back(std::move(dropped));
    }
    for (const Watermark& watermark : batch.watermarks) ledger_.put(topic, watermark);
    for (const Identity& producer : batch.forgotten) ledger_.forget(topic, producer);
    if (!batch.dedup_keys.empty()) ledger_.put(topic, batch.dedup_keys);
    if (batch.dedup_gone != 0) ledger_.forget_dedup_keys(topic, batch.dedup_gone);
    if (batch.strict) ledger_.become_strict(topic);
    if (batch.subscription) ledger_.remember(topic, *batch.subscription);
    if (batch.gone) {
        chunks_.erase_all(topic.id);
        ledger_.remove(batch.topic);
    } else {
        ledger_.write(topic);
    }
}

void SqliteStore::replay(const TopicBatch& batch) {
    TopicRow& topic = ledger_.topic(batch.topic);
    const TopicRow* of = ledger_.find(batch.replay->of);
    Replayed& part = replayed_.emplace_back();
    if (of != nullptr) part = copy_slice(chunks_, *batch.replay, of->id, topic.id);
    part.topic = batch.topic;
    part.whole = part.whole || of == nullptr;
    if (part.whole) ledger_.remember(topic, batch.replay->subscription);
    if (part.ranges.empty() || part.ranges.back().last < topic.next_offset) return;
    topic.next_offset = part.ranges.back().last + 1;
    topic.changed = true;
    ledger_.write(topic);
}

void SqliteStore::bury(TopicRow& topic, const DeadLetter& letter) {
    HeldChunk* held = chunks_.at_or_behind(topic.id, letter.offset);
    if (held == nullptr) return;
    const std::size_t index = held->chunk.lower_bound(letter.offset);
    if (index == held->chunk.size() || held->chunk.offset(index) != letter.offset || !held->chunk.is_live(index))
        return;
    if (bury_shared(*held, index, letter)) {
        ledger_.bury(topic, held->chunk.message(index).size);
        chunks_.settle_at(*held, index);
        return;
    }
    const auto body = chunks_.body(*held);
    if (!body) return;  // damaged: set aside with its neighbours, and reported
    ledger_.bury(topic, letter, held->chunk.bytes(index, body->view()), held->chunk.message(index).redrives);
    chunks_.settle_at(*held, index);
}

// Where the message lies in a body that others have as well, its dead letter goes on lying there.
bool SqliteStore::bury_shared(HeldChunk& held, std::size_t index, const DeadLetter& letter) {
    if (!is_shared(held.body)) return false;
    DeadChunks& dead = ledger_.dead_chunks();
    const DeadChunks::State state = dead.state_of(held);
    if (state == DeadChunks::State::no_room) return false;
    if (state == DeadChunks::State::none) {
        const auto shared = chunks_.share(held);
        if (!shared) return false;
        dead.begin(held, *shared);
    }
    return dead.add(held, index, letter);
}

void SqliteStore::edit(TopicRow& topic, const Edit& edit) {
    const auto found = ledger_.dead_letter(topic, edit.dead);
    if (!found) return;
    if (found->damaged) {
        ledger_.set_dead_letter_aside(topic, *found);
        return;
    }
    ledger_.edit(topic, *found, edit.envelope.view());
}

void SqliteStore::send_back(TopicRow& topic, const Redrive& redrive, Wall accepted_at) {
    const auto found = ledger_.dead_letter(topic, redrive.dead);
    if (!found) return;
    if (found->damaged) {
        ledger_.set_dead_letter_aside(topic, *found);
        return;
    }
    chunks_.insert(topic.id, pack_one(redriven(redrive, found->letter, accepted_at), found->letter.envelope.view()));
    ledger_.purge(topic, redrive.dead);
}

ReadResult SqliteStore::read(const Read& read) {
    ReadResult result;
    Gathering gathering(read, result);
    if (const TopicRow* topic = ledger_.find(read.topic)) {
        try {
            gather(*topic, read, gathering);
        } catch (const SqlError& error) {
            // No room to set a damaged chunk aside: what was read up to there is given, the rest when there is room.
            if (error.primary() != SQLITE_FULL) throw;
        }
        add_lost(result.damage);
    } else {
        gathering.finish();
    }
    return result;
}

void SqliteStore::gather(const TopicRow& topic, const Read& read, Gathering& gathering) {
    Offset at = read.from;
    while (at <= read.to) {
        if (gathering.full()) return;
        HeldChunk* held = chunks_.at_or_behind(topic.id, at);
        if (held == nullptr || held->chunk.first() > read.to) break;
        at = held->chunk.last() + 1;
        Slice body;
        if (gathering.wants_body(held->chunk)) {
            auto bytes = chunks_.body(*held);
            if (!bytes) continue;  // set aside and reported
            body = std::move(*bytes);
        }
        if (!gathering.take(held->chunk, body)) return;
    }
    gathering.finish();
}

ReadDeadResult SqliteStore::read_dead(const ReadDead& read) {
    ReadDeadResult result;
    DeadGathering gathering(read, result);
    if (ledger_.find(read.topic) == nullptr) return result;
    TopicRow* topic = &ledger_.topic(read.topic);
    Offset from = read.from;
    std::set<Offset> passed;
    while (auto found = ledger_.next_dead_letter(topic->id, from, passed)) {
        if (found->damaged) {
            try {
                Transaction transaction(db_);
                ledger_.set_dead_letter_aside(*topic, *found);
                ledger_.write(*topic);
                transaction.commit();
                for (Damage& one : ledger_.take_damage()) dead_damage_.push_back(std::move(one));
            } catch (const SqlError& error) {
                // No room to set it aside: passed over until there is. What was committed before stays so.
                if (error.primary() != SQLITE_FULL) throw;
                ledger_.reload();
                topic = &ledger_.topic(read.topic);
                if (found->lies) passed.insert(found->lies->chunk);
            }
            if (!found->lies) from = found->letter.record.offset + 1;
            continue;
        }
        from = found->letter.record.offset + 1;
        if (!gathering.fits(found->letter.size())) break;
        result.letters.push_back(std::move(found->letter));
    }
    return result;
}

// Whatever happens to the copy is its asker's business and not the store's.
std::optional<BackupResult> SqliteStore::back_up(const BackupStep& step) {
    if (step.what == BackupStep::What::give_up) {
        backup_.reset();
        return std::nullopt;
    }
    BackupResult result{.ticket = step.ticket};
    try {
        if (step.what == BackupStep::What::begin)
            backup_ = std::make_unique<Backup>(db_, step.folder, options_.min_free);
        if (backup_ == nullptr) throw Error("no backup is under way; begin a new one");
        result.whole = backup_->step();
        result.copied = backup_->copied();
        result.total = backup_->total();
    } catch (const std::exception& error) {
        result.error = error.what();
    }
    if (result.whole || !result.error.empty()) backup_.reset();
    return result;
}

// What need not be done for the outcome and must not spoil it: it holds whatever happens here.
void SqliteStore::look_after(bool room) {
    try {
        checkpoint_if_due();
        upkeep_.work(room);
        checkpoint_if_due();
    } catch (const SqlError& error) {
        if (error.primary() == SQLITE_FULL) {
            chunks_.clear();
            ledger_.dead_chunks().clear();
        } else {
            give_up(error);
        }
    }
}

void SqliteStore::checkpoint_if_due() {
    if (db_.log_pages() >= log_limit) db_.checkpoint();
}

void SqliteStore::roll_back() {
    chunks_.clear();
    dead_damage_.clear();
    try {
        ledger_.reload();
    } catch (const SqlError& error) {
        give_up(error);
    }
}

std::optional<std::uint64_t> SqliteStore::room() {
    if (options_.vfs.empty()) {
        const auto free = free_bytes_of(options_.folder);
        if (!free) {
            throw SqlError(SQLITE_IOERR,
                           "cannot ask for the room left in its folder: " + std::generic_category().message(errno));
        }
        return free;
    }
    sqlite3_int64 answer = 0;
    const int code = sqlite3_file_control(db_.handle(), nullptr, free_space_control, &answer);
    if (code == SQLITE_NOTFOUND) return std::nullopt;
    db_.check(code);
    return static_cast<std::uint64_t>(answer);
}

std::uint64_t SqliteStore::free_bytes() {
    const auto free = room();
    if (!free) return std::numeric_limits<std::uint64_t>::max();
    return *free > options_.min_free ? *free - options_.min_free : 0;
}

void SqliteStore::check_room(const std::vector<TopicBatch>& batches) {
    const bool grows = std::any_of(batches.begin(), batches.end(), [](const auto& b) {
        return !b.appends.empty() || !b.edits.empty() || !b.dedup_keys.empty() || b.replay;
    });
    if (!grows) return;
    const std::uint64_t floor = options_.min_free / floor_share;
    const auto free = room();
    if (free && *free < floor) {
        throw SqlError(SQLITE_FULL, "less than " + std::to_string(floor) + " bytes are free on its disk");
    }
}

void SqliteStore::add_lost(std::vector<Damage>& damage) {
    for (LostChunk& lost : chunks_.take_lost()) {
        damage.push_back({ledger_.name_of(lost.topic), lost.range, lost.messages, std::move(lost.what)});
    }
    for (Damage& one : std::exchange(dead_damage_, {})) damage.push_back(std::move(one));
    for (Damage& one : ledger_.take_damage()) damage.push_back(std::move(one));
}

void SqliteStore::give_up(const SqlError& error) {
    const bool corrupt = error.primary() == SQLITE_CORRUPT || error.primary() == SQLITE_NOTADB;
    broken_ = "the store " + db_.path() + " failed: " + error.what() + ". Nothing more is stored. " +
              (corrupt ? recovery_command(db_.path()) : "Look after the disk, then start again");
    chunks_.clear();
    db_.leave_log_alone(true);
}

}  // namespace

std::unique_ptr<Store> open_sqlite_store(const SqliteOptions& options) {
    const std::string path = (options.folder / "posthorn.db").string();
    try {
        return std::make_unique<SqliteStore>(options, path);
    } catch (const SqlError& error) {
        refuse(error, path);
    }
}

}  // namespace posthorn::store
