#include "store/database.hpp"

#include <algorithm>
#include <filesystem>
#include <limits>
#include <system_error>

namespace posthorn::store {

namespace {

int count_log_pages(void* counter, sqlite3* /*db*/, const char* /*name*/, int pages) {
    *static_cast<std::size_t*>(counter) = static_cast<std::size_t>(pages);
    return SQLITE_OK;
}

// A path as it stands in a URI.
std::string escaped(const std::string& path) {
    std::string text;
    for (const char c : path) {
        if (c == '%' || c == '?' || c == '#') {
            text += c == '%' ? "%25" : c == '?' ? "%3f" : "%23";
        } else {
            text += c;
        }
    }
    return text;
}

}  // namespace

Database::Database(const std::string& path, const std::string& vfs) : path_(path) {
    open(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, vfs.empty() ? nullptr : vfs.c_str());
    sqlite3_wal_hook(db_, count_log_pages, &log_pages_);  // also ends SQLite's own checkpoints
}

// Without a log the file alone is all there is, and "immutable" keeps SQLite from making one. With a log, exclusive
// mode keeps the log's index in memory, the VFS without locks lets a file be "locked" that is open for reading only,
// and the log is neither moved into the file nor removed at the end.
Database::Database(const std::string& path, ForLooking /*how*/) : path_(path) {
    std::error_code nothing_there;
    if (std::filesystem::file_size(path + "-wal", nothing_there) == 0 || nothing_there) {
        open("file://" + escaped(std::filesystem::absolute(path).string()) + "?immutable=1",
             SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, nullptr);
    } else {
        open(path, SQLITE_OPEN_READONLY, "unix-none");
        leave_log_alone(true);
        execute("PRAGMA locking_mode=EXCLUSIVE");
    }
}

void Database::open(const std::string& name, int flags, const char* vfs) {
    const int code = sqlite3_open_v2(name.c_str(), &db_, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, vfs);
    if (code != SQLITE_OK) {
        const std::string what = db_ != nullptr ? sqlite3_errmsg(db_) : sqlite3_errstr(code);
        close();
        throw SqlError(code, what);
    }
}

Database::~Database() {
    close();
}

void Database::close() noexcept {
    // Fails only while statements are open; those are members of whoever owns the database and go first.
    sqlite3_close(db_);
    db_ = nullptr;
}

void Database::check(int code) const {
    if (code == SQLITE_OK || code == SQLITE_ROW || code == SQLITE_DONE) return;
    throw SqlError(code, std::string(sqlite3_errmsg(db_)) + " (SQLite code " + std::to_string(code) + ")");
}

void Database::execute(const char* sql) {
    check(sqlite3_exec(db_, sql, nullptr, nullptr, nullptr));
}

std::int64_t Database::integer(const char* sql) {
    Statement statement(*this, sql);
    Query query(statement);
    return query.step() ? query.signed_at(0) : 0;
}

std::string Database::text(const char* sql) {
    Statement statement(*this, sql);
    Query query(statement);
    return query.step() ? std::string(query.bytes_at(0)) : std::string();
}

void Database::leave_log_alone(bool leave) noexcept {
    sqlite3_db_config(db_, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, leave ? 1 : 0, nullptr);
}

void Database::checkpoint() {
    check(sqlite3_wal_checkpoint_v2(db_, nullptr, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr));
    log_pages_ = 0;
}

Transaction::Transaction(Database& db) : db_(db) {
    db_.execute("BEGIN IMMEDIATE");
}

Transaction::~Transaction() {
    // SQLite rolls back by itself after some errors; then there is nothing left to do. A rollback that fails leaves
    // nothing behind either: what was not committed is not in the file.
    if (open_ && sqlite3_get_autocommit(db_.handle()) == 0) {
        sqlite3_exec(db_.handle(), "ROLLBACK", nullptr, nullptr, nullptr);
    }
}

void Transaction::commit() {
    db_.execute("COMMIT");
    open_ = false;
}

Statement::Statement(Database& db, const char* sql) : db_(db) {
    db.check(sqlite3_prepare_v3(db.handle(), sql, -1, SQLITE_PREPARE_PERSISTENT, &statement_, nullptr));
}

Statement::~Statement() {
    sqlite3_finalize(statement_);
}

Query::~Query() {
    sqlite3_reset(statement_);  // repeats the error of the last step, which has been thrown
    sqlite3_clear_bindings(statement_);
}

Query& Query::integer(std::uint64_t value) {
    constexpr std::uint64_t most = std::numeric_limits<std::int64_t>::max();
    return signed_integer(static_cast<std::int64_t>(std::min(value, most)));
}

Query& Query::signed_integer(std::int64_t value) {
    db_.check(sqlite3_bind_int64(statement_, next_++, value));
    return *this;
}

Query& Query::bytes(std::string_view value) {
    // A null pointer would bind NULL.
    db_.check(sqlite3_bind_blob64(statement_, next_++, value.empty() ? "" : value.data(), value.size(), SQLITE_STATIC));
    return *this;
}

Query& Query::text(std::string_view value) {
    db_.check(sqlite3_bind_text64(statement_, next_++, value.empty() ? "" : value.data(), value.size(), SQLITE_STATIC,
                                  SQLITE_UTF8));
    return *this;
}

bool Query::step() {
    const int code = sqlite3_step(statement_);
    db_.check(code);
    return code == SQLITE_ROW;
}

std::uint64_t Query::integer_at(int column) const noexcept {
    return static_cast<std::uint64_t>(signed_at(column));
}

std::int64_t Query::signed_at(int column) const noexcept {
    return sqlite3_column_int64(statement_, column);
}

bool Query::null_at(int column) const noexcept {
    return sqlite3_column_type(statement_, column) == SQLITE_NULL;
}

std::string_view Query::bytes_at(int column) const {
    const auto* data = static_cast<const char*>(sqlite3_column_blob(statement_, column));
    if (data == nullptr) {
        if (sqlite3_errcode(db_.handle()) == SQLITE_NOMEM) db_.check(SQLITE_NOMEM);
        return {};
    }
    return {data, static_cast<std::size_t>(sqlite3_column_bytes(statement_, column))};
}

}  // namespace posthorn::store
