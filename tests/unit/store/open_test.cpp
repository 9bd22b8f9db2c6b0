// Opening a data folder on the real file system.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include <posthorn/status.hpp>

#include "store/database.hpp"
#include "store/schema.hpp"
#include "store/sqlite_store.hpp"
#include "store/store_view.hpp"
#include "unit/store/model.hpp"
#include "unit/temp_folder.hpp"

namespace posthorn::store {

using namespace testing;
using ::testing::HasSubstr;

namespace {

class OpenTest : public ::testing::Test {
protected:
    std::string refusal() {
        try {
            static_cast<void>(open(folder));
        } catch (const Error& error) {
            return error.what();
        }
        return "opened";
    }

    [[nodiscard]] std::string bytes_of(const std::string& name) const {
        std::ifstream file(folder / name, std::ios::binary);
        return {std::istreambuf_iterator<char>(file), {}};
    }
    // Makes the store's file by the statements and leaves its log as a killed process would.
    void make_file(const char* sql) const {
        Database file((folder / "posthorn.db").string(), "");
        file.leave_log_alone(true);
        file.execute(sql);
    }
    // Refused in these words, and the file and its log are what they were.
    void expect_refused_untouched(const std::string& words) {
        const std::string file = bytes_of("posthorn.db");
        const std::string log = bytes_of("posthorn.db-wal");
        EXPECT_THAT(refusal(), HasSubstr(words));
        EXPECT_TRUE(bytes_of("posthorn.db") == file);
        EXPECT_TRUE(bytes_of("posthorn.db-wal") == log);
        EXPECT_FALSE(std::filesystem::exists(folder / "posthorn.db-journal"));
    }

    TempFolder temporary;
    std::filesystem::path folder = temporary.path();
};

TEST_F(OpenTest, what_was_stored_is_there_again) {
    Model model;
    Work work(1);
    for (int life = 0; life < 3; ++life) {
        auto store = open_sqlite_store({.folder = folder / "new" / "data", .min_free = 0, .vfs = {}});
        ASSERT_EQ(recovered(*store), model);
        for (int step = 0; step < 10; ++step) {
            const Job job = work.job(model);
            const Outcome outcome = store->run(job);
            ASSERT_EQ(outcome.failure, Failure::none) << outcome.text;
            EXPECT_GT(outcome.free_bytes, 0U);
            EXPECT_NE(outcome.free_bytes, UINT64_MAX);
            play(model, job);
        }
        EXPECT_TRUE(store->durable());
    }
}

TEST_F(OpenTest, no_index_of_the_log_is_left_to_other_processes) {
    auto store = open(folder);
    ASSERT_EQ(store->run(job_of(batch_of(1, 10))).failure, Failure::none);
    store.reset();
    store = open(folder);  // a file that is there takes another path than a new one
    ASSERT_EQ(store->run(job_of(batch_of(11, 10))).failure, Failure::none);
    EXPECT_TRUE(std::filesystem::exists(folder / "posthorn.db-wal"));
    EXPECT_FALSE(std::filesystem::exists(folder / "posthorn.db-shm"));
}

TEST_F(OpenTest, a_second_process_is_refused_and_told_who_has_it) {
    const auto store = open(folder);
    std::array<int, 2> pipe{};
    ASSERT_EQ(::pipe(pipe.data()), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        const std::string text = refusal();
        const bool written = ::write(pipe[1], text.data(), text.size()) == static_cast<ssize_t>(text.size());
        ::_exit(written ? 0 : 1);
    }
    ::close(pipe[1]);
    std::string text(1000, '\0');
    const ssize_t got = ::read(pipe[0], text.data(), text.size());
    ::close(pipe[0]);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    text.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    EXPECT_THAT(text, HasSubstr(folder.string()));
    EXPECT_THAT(text, HasSubstr("in use by process " + std::to_string(::getpid())));
}

TEST_F(OpenTest, a_folder_is_free_again_after_its_store) {
    static_cast<void>(open(folder));
    EXPECT_EQ(refusal(), "opened");
}

TEST_F(OpenTest, a_new_file_has_the_pages_the_store_is_made_for) {
    static_cast<void>(open(folder));
    Database file((folder / "posthorn.db").string(), "");
    EXPECT_EQ(file.integer("PRAGMA page_size"), 16384);
    EXPECT_EQ(file.integer("PRAGMA auto_vacuum"), 2);
    EXPECT_EQ(file.text("PRAGMA journal_mode"), "wal");
}

class OldFormatTest : public OpenTest {
protected:
    void SetUp() override { make_old("/format_1.sql"); }
    void make_old(const char* name) {
        std::ifstream dump(std::string(POSTHORN_OLD_STORES) + name);
        const std::string sql{std::istreambuf_iterator<char>(dump), {}};
        ASSERT_FALSE(sql.empty());
        make_file(("PRAGMA page_size=16384; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL; " + sql).c_str());
    }
    static ReadDead all_dead() { return {"jobs", 0, 10, 0}; }
    // What it held when it was written.
    static void expect_all(const ReadResult& messages, const ReadDeadResult& dead) {
        EXPECT_EQ(messages.messages.size(), 3U);
        ASSERT_EQ(dead.letters.size(), 2U);
        EXPECT_EQ(dead.letters[0].record.text, "no such file");
        EXPECT_FALSE(dead.letters[0].original);
    }
};

TEST_F(OldFormatTest, is_looked_at_without_a_change) {
    ASSERT_GT(bytes_of("posthorn.db-wal").size(), 0U);
    const auto look = [&] {
        const std::string file = bytes_of("posthorn.db");
        const std::string log = bytes_of("posthorn.db-wal");
        {
            StoreView view(folder);
            EXPECT_EQ(view.format(), 1);
            expect_all(view.read(read_all("jobs")), view.read_dead(all_dead()).result);
            EXPECT_EQ(view.contents().topics.at(0).dead, 2U);
        }
        EXPECT_TRUE(bytes_of("posthorn.db") == file);
        EXPECT_TRUE(bytes_of("posthorn.db-wal") == log);
    };
    look();
    { Database((folder / "posthorn.db").string(), "").execute("PRAGMA user_version"); }  // moves the log into the file
    ASSERT_FALSE(std::filesystem::exists(folder / "posthorn.db-wal"));
    look();
}

TEST_F(OldFormatTest, is_brought_up_to_ours_with_all_it_holds) {
    auto store = open(folder);
    Job job;
    job.reads.push_back(read_all("jobs"));
    job.dead_reads.push_back(all_dead());
    const Outcome outcome = store->run(job);
    ASSERT_EQ(outcome.failure, Failure::none) << outcome.text;
    expect_all(outcome.reads.at(0), outcome.dead_reads.at(0));
    TopicBatch edit{.topic = "jobs"};
    edit.edits = {{outcome.dead_reads[0].letters[1].record.offset, Slice(std::string("edited"))}};
    ASSERT_EQ(store->run(job_of(edit)).failure, Failure::none);
    store = nullptr;
    store = open_sqlite_store({.folder = folder, .min_free = 0, .vfs = {}});
    EXPECT_EQ(store->recover().topics.at(0).dead_bytes, 2 * 60 + std::string("edited").size());
    EXPECT_TRUE(contents(*store, {"jobs"}).at("jobs").dead.rbegin()->second.original);
    TopicBatch keys{.topic = "jobs"};
    keys.dedup_keys = {{1000, some_time, "a key"}};
    keys.strict = true;
    keys.subscription = "settings";
    ASSERT_EQ(store->run(job_of(keys)).failure, Failure::none);
    EXPECT_EQ(store->recover().topics.at(0).dedup_keys.at(0).key, "a key");
    EXPECT_TRUE(store->recover().topics.at(0).strict);
    EXPECT_EQ(store->recover().topics.at(0).subscription, "settings");
    store = nullptr;
    Database file((folder / "posthorn.db").string(), "");
    EXPECT_EQ(file.integer("SELECT value FROM meta WHERE key='format'"), format_version);
}

TEST_F(OldFormatTest, the_dead_letters_of_format_2_stay_and_those_that_come_lie_in_shared_bodies) {
    std::filesystem::remove(folder / "posthorn.db");
    std::filesystem::remove(folder / "posthorn.db-wal");
    make_old("/format_2.sql");
    const ReadDead all{"t/a", 0, 10, 0};
    {
        StoreView view(folder);
        EXPECT_EQ(view.format(), 2);
        EXPECT_EQ(view.read_dead(all).result.letters.size(), 1U);
    }
    auto store = open(folder);
    Job job;
    TopicBatch& bury = job.batch.emplace_back();
    bury.topic = "t/a";
    bury.dead = {{213871050620930, Reason::rejected, "bad", 1, some_time, some_time, ""}};
    job.dead_reads.push_back(all);
    const Outcome outcome = store->run(job);
    ASSERT_EQ(outcome.failure, Failure::none) << outcome.text;
    ASSERT_EQ(outcome.dead_reads.at(0).letters.size(), 2U);
    EXPECT_NE(outcome.dead_reads[0].letters[0].envelope.view().find("first"), std::string::npos);
    EXPECT_NE(outcome.dead_reads[0].letters[1].envelope.view().find("second"), std::string::npos);
    store = nullptr;
    Database file((folder / "posthorn.db").string(), "");
    EXPECT_EQ(file.integer("SELECT count(*) FROM dead_letter"), 1);
    EXPECT_EQ(file.integer("SELECT count(*) FROM dead_chunk"), 1);
}

TEST_F(OpenTest, a_newer_format_is_refused_by_name_and_left_as_it_was) {
    static_cast<void>(open(folder));
    {
        Database file((folder / "posthorn.db").string(), "");
        file.execute("UPDATE meta SET value=99 WHERE key='format'");
    }
    expect_refused_untouched("format 99");
    expect_refused_untouched("newer Posthorn");
}

TEST_F(OpenTest, a_newer_format_that_only_the_log_has_is_left_there) {
    static_cast<void>(open(folder));
    make_file("UPDATE meta SET value=99 WHERE key='format'");
    ASSERT_GT(bytes_of("posthorn.db-wal").size(), 0U);
    expect_refused_untouched("format 99");
}

TEST_F(OpenTest, a_file_of_something_else_is_refused_and_left_as_it_was) {
    make_file("CREATE TABLE contacts(name TEXT)");
    expect_refused_untouched("not a Posthorn store");
}

TEST_F(OpenTest, a_log_of_something_else_is_left_as_it_was) {
    make_file("PRAGMA journal_mode=WAL; CREATE TABLE contacts(name TEXT); INSERT INTO contacts VALUES('Ada')");
    ASSERT_GT(bytes_of("posthorn.db-wal").size(), 0U);
    expect_refused_untouched("not a Posthorn store");
}

TEST_F(OpenTest, a_file_that_is_not_sqlite_names_the_way_out) {
    std::ofstream(folder / "posthorn.db") << std::string(5000, 'x');
    EXPECT_THAT(refusal(), HasSubstr((folder / "posthorn.db").string()));
    EXPECT_THAT(refusal(), HasSubstr(".dump"));
}

TEST_F(OpenTest, a_folder_that_cannot_be_made_is_named) {
    std::ofstream(folder / "file") << "x";
    try {
        static_cast<void>(open(folder / "file" / "data"));
        FAIL() << "opened";
    } catch (const Error& error) {
        EXPECT_THAT(error.what(), HasSubstr((folder / "file" / "data").string()));
    }
}

TEST(Reason, has_a_name_each) {
    for (const Reason reason :
         {Reason::rejected, Reason::max_attempts, Reason::expired, Reason::queue_full, Reason::undecodable}) {
        EXPECT_EQ(reason_from(to_string(reason)), reason);
    }
    EXPECT_FALSE(reason_from("bored"));
}

}  // namespace
}  // namespace posthorn::store
