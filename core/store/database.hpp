// The little of SQLite's C interface that the store needs, with errors as exceptions inside this room.
// A connection belongs to one thread at a time.
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace posthorn::store {

class SqlError : public std::runtime_error {
public:
    SqlError(int code, const std::string& text) : std::runtime_error(text), code_(code) {}
    [[nodiscard]] int primary() const noexcept { return code_ & 0xFF; }

private:
    int code_;  // SQLite's extended result code
};

class Database {
public:
    // Opens or makes the file. `vfs` empty: the system's.
    Database(const std::string& path, const std::string& vfs);
    // Opens a file that nobody else has open, so that reading it, with its log, changes nothing in its folder.
    struct ForLooking {};
    Database(const std::string& path, ForLooking how);
    ~Database();
    Database(const Database&) = delete;
    Database& operator=(const Database&) = delete;

    [[nodiscard]] sqlite3* handle() const noexcept { return db_; }
    [[nodiscard]] const std::string& path() const noexcept { return path_; }

    void execute(const char* sql);                        // statements without results
    [[nodiscard]] std::int64_t integer(const char* sql);  // the first value of the first row; 0: no row
    [[nodiscard]] std::string text(const char* sql);
    void check(int code) const;  // throws SqlError unless SQLITE_OK, ROW or DONE

    // Whether the write-ahead log is left as it is when the connection ends. Otherwise it is moved into the file.
    void leave_log_alone(bool leave) noexcept;
    [[nodiscard]] std::size_t log_pages() const noexcept { return log_pages_; }  // after the last commit
    // Moves the log into the file, all of it; the next commit starts the log anew.
    void checkpoint();

private:
    void open(const std::string& name, int flags, const char* vfs);
    void close() noexcept;

    std::string path_;
    sqlite3* db_ = nullptr;
    std::size_t log_pages_ = 0;
};

class Statement {
public:
    Statement(Database& db, const char* sql);
    ~Statement();
    Statement(const Statement&) = delete;
    Statement& operator=(const Statement&) = delete;

private:
    friend class Query;
    Database& db_;
    sqlite3_stmt* statement_ = nullptr;
};

// One use of a statement: bind in order, then step. Bound bytes and those of a column are not copied: the first must
// live until the query ends, the second live until the next step.
class Query {
public:
    explicit Query(Statement& statement) noexcept : db_(statement.db_), statement_(statement.statement_) {}
    ~Query();
    Query(const Query&) = delete;
    Query& operator=(const Query&) = delete;

    Query& integer(std::uint64_t value);  // above INT64_MAX: bound as INT64_MAX
    Query& signed_integer(std::int64_t value);
    Query& bytes(std::string_view value);
    Query& text(std::string_view value);

    bool step();  // true: a row
    void run() { step(); }

    [[nodiscard]] std::uint64_t integer_at(int column) const noexcept;
    [[nodiscard]] std::int64_t signed_at(int column) const noexcept;
    [[nodiscard]] bool null_at(int column) const noexcept;
    [[nodiscard]] std::string_view bytes_at(int column) const;

private:
    Database& db_;
    sqlite3_stmt* statement_;
    int next_ = 1;
};

// Rolls back unless committed.
class Transaction {
public:
    explicit Transaction(Database& db);
    ~Transaction();
    Transaction(const Transaction&) = delete;
    Transaction& operator=(const Transaction&) = delete;
    void commit();  // durable when it returns

private:
    Database& db_;
    bool open_ = true;
};

}  // namespace posthorn::store
