#include "store/schema.hpp"

#include <array>
#include <string>

#include <posthorn/status.hpp>

namespace posthorn::store {

namespace {

// To change the format: raise format_version, add what is new to upgrade() and look_at_format(), describe it in
// docs/storage.md, and keep a file of the old format among the tests.
constexpr const char* tables = R"(
CREATE TABLE meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE topic(
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, next_offset INTEGER NOT NULL,
    dead INTEGER NOT NULL, dead_bytes INTEGER NOT NULL) STRICT;
CREATE TABLE chunk(
    topic INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, messages INTEGER NOT NULL,
    bytes INTEGER NOT NULL, body INTEGER NOT NULL, header BLOB NOT NULL, small_body BLOB,
    PRIMARY KEY(topic, first)) STRICT, WITHOUT ROWID;
CREATE TABLE chunk_state(
    topic INTEGER NOT NULL, first INTEGER NOT NULL, state BLOB NOT NULL,
    PRIMARY KEY(topic, first)) STRICT, WITHOUT ROWID;
CREATE TABLE body(id INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
CREATE TABLE dead_letter(
    topic INTEGER NOT NULL, "offset" INTEGER NOT NULL, reason TEXT NOT NULL, text TEXT NOT NULL,
    attempts INTEGER NOT NULL, first_failure INTEGER NOT NULL, last_failure INTEGER NOT NULL,
    consumer TEXT NOT NULL, redrives INTEGER NOT NULL, crc INTEGER NOT NULL, envelope BLOB NOT NULL,
    PRIMARY KEY(topic, "offset")) STRICT, WITHOUT ROWID;
CREATE TABLE producer(
    topic INTEGER NOT NULL, id BLOB NOT NULL, sequence INTEGER NOT NULL, seen INTEGER NOT NULL, record BLOB NOT NULL,
    PRIMARY KEY(topic, id)) STRICT, WITHOUT ROWID;
CREATE TABLE damaged(
    id INTEGER PRIMARY KEY, topic INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    messages INTEGER NOT NULL, what TEXT NOT NULL, body INTEGER, header BLOB, state BLOB, bytes BLOB) STRICT;
)";

// New in format 2: dead letters that were edited, as they were before the first edit; deduplication keys that were
// accepted, by the last offset of those of one commit; topics that keep strict order because an end has asked for it;
// what the engine remembers of a subscription; bodies that several chunks lie over.
constexpr std::array tables_of_2 = {R"(
TABLE dead_original(
    topic INTEGER NOT NULL, "offset" INTEGER NOT NULL, crc INTEGER NOT NULL, envelope BLOB NOT NULL,
    PRIMARY KEY(topic, "offset")) STRICT, WITHOUT ROWID;
)",
                                    R"(
TABLE dedup(
    topic INTEGER NOT NULL, last INTEGER NOT NULL, record BLOB NOT NULL,
    PRIMARY KEY(topic, last)) STRICT, WITHOUT ROWID;
)",
                                    R"(
TABLE strict_order(topic INTEGER PRIMARY KEY) STRICT;
)",
                                    R"(
TABLE subscription(topic INTEGER PRIMARY KEY, record BLOB NOT NULL) STRICT;
)",
                                    R"(
TABLE shared_body(body INTEGER PRIMARY KEY, chunks INTEGER NOT NULL, layout BLOB NOT NULL) STRICT;
)"};

// New in format 3: dead letters that lie in shared bodies.
constexpr const char* table_of_3 = R"(
TABLE dead_chunk(
    topic INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, letters INTEGER NOT NULL,
    bytes INTEGER NOT NULL, body INTEGER NOT NULL, header BLOB NOT NULL, record BLOB NOT NULL,
    PRIMARY KEY(topic, first)) STRICT, WITHOUT ROWID;
)";

constexpr const char* index_of_3 = "CREATE INDEX dead_chunk_body ON dead_chunk(body)";

// What a file of this format lacks; 0: it has none of it.
void add_new_tables(Database& db, std::int64_t format, const char* create) {
    if (format < 2) {
        for (const char* table : tables_of_2) db.execute((std::string(create) + table).c_str());
    }
    if (format < 3) db.execute((std::string(create) + table_of_3).c_str());
}

void set_format(Database& db) {
    db.execute(("REPLACE INTO meta(key, value) VALUES('format', " + std::to_string(format_version) + ")").c_str());
}

void create(Database& db) {
    Transaction transaction(db);
    db.execute(tables);
    add_new_tables(db, 0, "CREATE ");
    db.execute(index_of_3);
    set_format(db);
    transaction.commit();
}

void upgrade(Database& db, std::int64_t format) {
    if (format == format_version) return;
    Transaction transaction(db);
    add_new_tables(db, format, "CREATE ");
    db.execute(index_of_3);
    set_format(db);
    transaction.commit();
}

void settings(Database& db) {
    // Page size and vacuum mode take effect on a new file only.
    db.execute("PRAGMA page_size=16384; PRAGMA auto_vacuum=INCREMENTAL;");
    if (db.text("PRAGMA journal_mode=WAL") != "wal") {
        throw Error("the store " + db.path() + " cannot keep a write-ahead log in its folder");
    }
    db.execute(
        "PRAGMA synchronous=FULL; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-32768; PRAGMA mmap_size=0;"
        "PRAGMA secure_delete=OFF; PRAGMA cell_size_check=ON; PRAGMA foreign_keys=OFF;"
        "PRAGMA journal_size_limit=16777216;");
}

}  // namespace

std::int64_t check_format(Database& db) {
    if (db.integer("SELECT count(*) FROM sqlite_schema WHERE name='meta'") == 0) {
        throw Error(db.path() + " is an SQLite file but not a Posthorn store. Give another data folder");
    }
    const std::int64_t found = db.integer("SELECT value FROM meta WHERE key='format'");
    if (found >= 1 && found <= format_version) return found;
    const std::string versions =
        "format " + std::to_string(found) + ", this program reads format " + std::to_string(format_version);
    throw Error("the store " + db.path() + " has " + versions +
                (found > format_version ? ". Start a newer Posthorn on it, or give another data folder"
                                        : ". That was never released; give another data folder"));
}

void look_at_format(Database& db, std::int64_t format) {
    if (format < format_version) add_new_tables(db, format, "PRAGMA temp_store=MEMORY; CREATE TEMP ");
}

std::unique_ptr<Database> open_store_file(const std::string& path, const std::string& vfs) {
    auto db = std::make_unique<Database>(path, vfs);
    // A file that is not ours is left as it was, its log as well: looked at first, and only then changed. The locking
    // mode must come before the first access to the log, so that its index stays in our memory and nobody else reads
    // the file meanwhile.
    db->leave_log_alone(true);
    db->execute("PRAGMA locking_mode=EXCLUSIVE");
    const bool is_new = db->integer("SELECT count(*) FROM sqlite_schema") == 0;
    const std::int64_t format = is_new ? 0 : check_format(*db);
    db->leave_log_alone(false);
    settings(*db);
    if (is_new) {
        create(*db);
    } else {
        upgrade(*db, format);
    }
    return db;
}

}  // namespace posthorn::store
