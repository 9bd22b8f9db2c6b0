// Looking at a store that is not in use: all of it is seen, nothing of it changes.
#include "store/store_view.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>

#include <posthorn/status.hpp>

#include "store/schema.hpp"
#include "store/sqlite_store.hpp"
#include "unit/store/model.hpp"
#include "unit/temp_folder.hpp"

namespace posthorn::store {

using namespace testing;
using ::testing::AllOf;
using ::testing::HasSubstr;

namespace {

class StoreViewTest : public ::testing::Test {
protected:
    std::string refusal() {
        try {
            StoreView view(folder);
        } catch (const Error& error) {
            return error.what();
        }
        return "opened";
    }
    // The folder as it is after a crash of its process: the log has what the file does not.
    void crash_copy(const std::filesystem::path& running) {
        for (const char* name : {"posthorn.db", "posthorn.db-wal"})
            std::filesystem::copy_file(running / name, folder / name);
    }
    std::map<std::string, std::pair<std::string, std::filesystem::file_time_type>> bytes() {
        std::map<std::string, std::pair<std::string, std::filesystem::file_time_type>> all;
        for (const auto& entry : std::filesystem::directory_iterator(folder)) {
            std::ifstream file(entry.path(), std::ios::binary);
            all[entry.path().filename().string()] = {
                std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()),
                entry.last_write_time()};
        }
        return all;
    }
    void change(const char* sql) {
        sqlite3* db = nullptr;
        ASSERT_EQ(sqlite3_open((folder / "posthorn.db").c_str(), &db), SQLITE_OK);
        EXPECT_EQ(sqlite3_exec(db, sql, nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(db);
        sqlite3_close(db);
    }
    // Everything, by reading in small pages.
    static Model seen(StoreView& view) {
        Model model;
        for (const RecoveredTopic& topic : view.contents().topics) {
            ModelTopic& to = model[topic.topic];
            Read read{topic.topic, 1, std::numeric_limits<Offset>::max(), 30, 10'000, true};
            for (std::size_t before = 1; before != 0;) {
                const ReadResult page = view.read(read);
                EXPECT_TRUE(page.damage.empty());
                for (const StoredMessage& m : page.messages)
                    to.messages[m.offset] = {
                        std::string(m.envelope.view()), m.redrives, m.maybe_duplicate, m.accepted_at, m.terms, m.mark};
                before = page.messages.size();
                read.from = page.next;
            }
            EXPECT_EQ(to.messages.size(), topic.messages);
            for (const auto& letter : view.read_dead({topic.topic, 0, 1000, 0}).result.letters) {
                ModelDead& dead = to.dead[letter.record.offset];
                dead.envelope = letter.envelope.view();
                if (letter.original) dead.original = letter.original->view();
            }
            EXPECT_EQ(to.dead.size(), topic.dead);
            if (!to.messages.empty()) {
                EXPECT_EQ(topic.oldest, to.messages.begin()->second.accepted_at);
            }
        }
        return model;
    }
    static void expect_same(const Model& model, const Model& seen) {
        ASSERT_EQ(seen.size(), model.size());
        for (const auto& [name, topic] : model) {
            EXPECT_EQ(seen.at(name).messages, topic.messages) << name;
            EXPECT_EQ(seen.at(name).dead.size(), topic.dead.size()) << name;
            for (const auto& [offset, letter] : topic.dead) {
                EXPECT_EQ(seen.at(name).dead.at(offset).envelope, letter.envelope);
                EXPECT_EQ(seen.at(name).dead.at(offset).original, letter.original);
            }
        }
    }

    TempFolder temporary{"posthorn %3f?view#"};
    std::filesystem::path folder = temporary.path();
};

TEST_F(StoreViewTest, sees_what_a_clean_stop_left_and_changes_nothing) {
    Model model;
    Work work(7);
    {
        const auto store = open(folder);
        for (int step = 0; step < 20; ++step) {
            const Job job = work.job(model);
            ASSERT_EQ(store->run(job).failure, Failure::none);
            play(model, job);
        }
    }
    const auto before = bytes();
    {
        StoreView view(folder);
        EXPECT_EQ(view.format(), format_version);
        EXPECT_FALSE(view.log());
        expect_same(model, seen(view));
    }
    EXPECT_TRUE(bytes() == before);
    EXPECT_FALSE(before.contains("posthorn.db-wal"));
}

TEST_F(StoreViewTest, sees_what_is_only_in_the_log_and_leaves_it_there) {
    Model model;
    Work work(8);
    const auto running = folder / "running";
    const auto store = open(running);
    for (int step = 0; step < 20; ++step) {
        const Job job = work.job(model);
        ASSERT_EQ(store->run(job).failure, Failure::none);
        play(model, job);
    }
    crash_copy(running);
    std::filesystem::rename(running, folder.string() + ".running");
    const auto before = bytes();
    {
        StoreView view(folder);
        ASSERT_TRUE(view.log());
        EXPECT_GT(view.log()->frames, 0U);
        expect_same(model, seen(view));
    }
    EXPECT_TRUE(bytes() == before);
    std::filesystem::remove_all(folder.string() + ".running");
}

TEST_F(StoreViewTest, a_folder_in_use_is_refused_and_several_may_look) {
    {
        const auto store = open(folder);
        EXPECT_THAT(refusal(), AllOf(HasSubstr(folder.string()),
                                     HasSubstr("in use by process " + std::to_string(::getpid()) + ". Stop")));
    }
    StoreView one(folder);
    StoreView other(folder);
    EXPECT_THROW(static_cast<void>(open(folder)), Error) << "nobody changes it meanwhile";
}

TEST_F(StoreViewTest, what_is_no_store_or_of_another_format_is_refused_by_name) {
    EXPECT_THAT(refusal(), AllOf(HasSubstr(folder.string()), HasSubstr("is not a store: it has no posthorn.db")));
    EXPECT_TRUE(std::filesystem::is_empty(folder)) << "not even a lock is made";
    std::ofstream(folder / "posthorn.db") << "this is a text, and a longer one than the head of a file of SQLite's, "
                                             "which has a hundred bytes";
    EXPECT_THAT(refusal(), AllOf(HasSubstr("posthorn.db"), HasSubstr("cannot be read: file is not a database")));
    std::filesystem::remove(folder / "posthorn.db");
    change("CREATE TABLE other(x)");
    EXPECT_THAT(refusal(), HasSubstr("is an SQLite file but not a Posthorn store"));
    std::filesystem::remove(folder / "posthorn.db");
    static_cast<void>(open(folder));
    change("UPDATE meta SET value = 99 WHERE key = 'format'");
    EXPECT_THAT(refusal(), HasSubstr("has format 99, this program reads format"));
    folder /= "not_there";
    EXPECT_THAT(refusal(), HasSubstr("there is no folder " + folder.string()));
    folder = folder.parent_path();
}

TEST_F(StoreViewTest, damage_is_said_and_left_as_it_is) {
    {
        const auto store = open(folder);
        for (Offset first = 1; first <= 201; first += 100)
            ASSERT_EQ(store->run(job_of(batch_of(first, 100, 50))).failure, Failure::none);
    }
    change(
        "UPDATE chunk SET header = zeroblob(length(header)) WHERE first = 101;"
        "UPDATE body SET bytes = zeroblob(length(bytes)) WHERE id = (SELECT body FROM chunk WHERE first = 201);"
        "INSERT INTO damaged(topic, first, last, messages, what) VALUES(1, 301, 302, 2, 'body damaged')");
    const auto before = bytes();
    StoreView view(folder);
    const auto contents = view.contents();
    ASSERT_EQ(contents.damage.size(), 1U);
    EXPECT_EQ(contents.damage[0].range, (OffsetRange{101, 200}));
    EXPECT_EQ(contents.damage[0].what, "header damaged");
    ASSERT_EQ(contents.set_aside.size(), 1U);
    EXPECT_EQ(contents.set_aside[0].topic, "q");
    EXPECT_EQ(contents.topics.at(0).messages, 200U);
    const ReadResult read = view.read(read_all());
    EXPECT_EQ(read.messages.size(), 100U);
    ASSERT_EQ(read.damage.size(), 2U);
    EXPECT_EQ(read.damage[1].what, "body damaged");
    EXPECT_EQ(read.damage[1].range, (OffsetRange{201, 300}));
    EXPECT_TRUE(bytes() == before);
}

}  // namespace
}  // namespace posthorn::store
