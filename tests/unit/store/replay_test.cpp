// A stretch of one topic stored in another as well: which messages, over which bodies, and after which crashes.
#include <gtest/gtest.h>

#include <memory>

#include "sim/sim_vfs.hpp"
#include "store/schema.hpp"
#include "store/sqlite_store.hpp"
#include "unit/store/model.hpp"

namespace posthorn::store {

using namespace testing;

namespace {

using Messages = std::map<Offset, ModelMessage>;

class ReplayTest : public ::testing::Test {
protected:
    sim::SimDisk disk;
    std::unique_ptr<Store> store;
    Model model;  // but for what is replayed

    void SetUp() override { static_cast<void>(open()); }

    Recovery open() {
        store.reset();
        store = open_sqlite_store({.folder = "sim", .min_free = 0, .vfs = disk.vfs()});
        return store->recover();
    }
    void run(const Job& job) {
        play(model, job);
        const Outcome outcome = store->run(job);
        ASSERT_EQ(outcome.failure, Failure::none) << outcome.text;
    }
    // Slice by slice, each in a job of its own; all of it.
    Replayed replay(Replay replay, std::vector<Damage>* damage = nullptr) {
        replay.of = "t/log";
        replay.subscription = "whole";
        Replayed all{.topic = "t/late"};
        for (slices = 1; !all.whole; ++slices) {
            Job job = job_of({.topic = "t/late", .subscription = "building", .replay = replay});
            const Outcome outcome = store->run(job);
            EXPECT_EQ(outcome.failure, Failure::none) << outcome.text;
            if (outcome.replayed.size() != 1) return all;
            if (damage != nullptr) damage->insert(damage->end(), outcome.damage.begin(), outcome.damage.end());
            const Replayed& part = outcome.replayed[0];
            EXPECT_EQ(part.topic, "t/late");
            replay.from = all.next = part.next;
            replay.last = 0;
            all.whole = part.whole;
            all.messages += part.messages;
            all.bytes += part.bytes;
            if (all.oldest == Wall{}) all.oldest = part.oldest;
            all.ranges.insert(all.ranges.end(), part.ranges.begin(), part.ranges.end());
        }
        return all;
    }
    Messages copied() { return contents(*store, {"t/late"})["t/late"].messages; }
    template <typename Wanted>
    Messages of_log(Wanted wanted) {
        Messages messages = model["t/log"].messages;
        std::erase_if(messages, [&](const auto& one) { return !wanted(one.first, one.second); });
        return messages;
    }
    void settle(const std::string& topic, Offset first, Offset last) {
        run(job_of({.topic = topic, .settled = {{first, last}}}));
    }
    std::int64_t ask(const char* sql) {
        store.reset();
        std::int64_t answer = 0;
        {
            const auto file = open_store_file("sim/posthorn.db", disk.vfs());
            answer = file->integer(sql);
        }
        static_cast<void>(open());
        return answer;
    }
    // Bodies that lie in their chunk's row, in rows of their own, in rows that are shared, one in a chunk of its own.
    void fill() {
        run(named("t/log", batch_of(1, 10, 20)));
        run(named("t/log", batch_of(11, 100, 200)));
        run(shared_job(batch_of(111, 100, 200), {"t/log", "t/other"}));
        settle("t/log", 1, 30);
        settle("t/log", 150, 159);
        Job late = named("t/log", batch_of(211, 5, 2000));
        late.batch[0].accepted_at = some_time + 1ms;
        run(late);
    }
    static Job named(const std::string& topic, TopicBatch batch) {
        batch.topic = topic;
        return job_of(std::move(batch));
    }

    int slices = 0;
};

TEST_F(ReplayTest, the_copy_has_what_is_unsettled_there_and_each_settles_for_itself) {
    fill();
    const Replayed all = replay({});
    const Messages wanted = of_log([](auto, auto&) { return true; });
    EXPECT_EQ(copied(), wanted);
    EXPECT_EQ(all.messages, wanted.size());
    EXPECT_EQ(all.oldest, some_time);
    EXPECT_EQ(all.ranges, (std::vector<OffsetRange>{{31, 215}}));
    EXPECT_EQ(ask("SELECT count(*) FROM body"), 3) << "none was copied";
    EXPECT_EQ(ask("SELECT sum(chunks) FROM shared_body"), 7);
    settle("t/log", 31, 200);
    EXPECT_EQ(copied(), wanted);
    settle("t/late", 1, 300);
    settle("t/other", 1, 300);
    EXPECT_EQ(contents(*store, {"t/log"})["t/log"].messages, model["t/log"].messages);
    settle("t/log", 1, 300);
    EXPECT_EQ(ask("SELECT count(*) FROM body"), 0);
    EXPECT_EQ(ask("SELECT count(*) FROM shared_body"), 0);
}

TEST_F(ReplayTest, begins_at_a_place_at_a_time_or_so_many_before_the_end) {
    fill();
    const auto check = [&](const Replay& asked, auto wanted) {
        const Messages messages = of_log(wanted);
        EXPECT_EQ(replay(asked).messages, messages.size());
        EXPECT_EQ(copied(), messages);
        ASSERT_EQ(store->run(job_of({.topic = "t/late", .gone = true})).failure, Failure::none);
    };
    check({.from = 50}, [](Offset offset, auto&) { return offset >= 50; });
    check({.from = 1000}, [](auto, auto&) { return false; });
    check({.last = 1}, [](Offset offset, auto&) { return offset == 215; });
    check({.last = 70}, [](Offset offset, auto&) { return offset >= 136; });  // ten of those are settled
    check({.last = 1000}, [](auto, auto&) { return true; });
    check({.since = some_time + 1ms}, [](Offset offset, auto&) { return offset > 210; });
    const auto odd = [](std::string_view envelope) { return (envelope.at(envelope.find('.') - 1) - '0') % 2 == 1; };
    check({.wants = odd}, [](Offset offset, auto&) { return offset % 2 == 1; });
}

TEST_F(ReplayTest, comes_in_slices_and_knows_the_end_of_its_own_job) {
    for (Offset first = 1; first <= 901; first += 100) run(named("t/log", batch_of(first, 100, 200)));
    EXPECT_EQ(replay({.max_messages = 250}).messages, 1000U);
    EXPECT_EQ(slices - 1, 4);
    EXPECT_EQ(copied(), model["t/log"].messages);

    Job job = named("t/log", batch_of(1001, 10));
    job.batch.insert(job.batch.begin(), {.topic = "t/later", .replay = Replay{.of = "t/log", .from = 1001}});
    const Outcome outcome = store->run(job);
    ASSERT_EQ(outcome.replayed.size(), 1U);
    EXPECT_EQ(outcome.replayed[0].messages, 10U);
    EXPECT_TRUE(outcome.replayed[0].whole);
}

// What has been merged between two slices reaches back to what the copy has.
TEST_F(ReplayTest, upkeep_may_merge_what_is_left) {
    for (Offset offset = 1; offset <= 320; ++offset) run(named("t/log", batch_of(offset, 1, 300)));
    Replay asked{.of = "t/log", .max_messages = 100};
    Outcome outcome = store->run(job_of({.topic = "t/late", .replay = asked}));
    ASSERT_EQ(outcome.replayed.at(0).next, 101U);
    for (Offset offset = 321; offset <= 400; ++offset) run(named("t/log", batch_of(offset, 1, 300)));
    ASSERT_GT(ask("SELECT count(*) FROM chunk JOIN topic ON id=topic WHERE name='t/log' AND first<101 AND last>100"),
              0);
    EXPECT_EQ(replay({.from = 101}).messages, 300U);
    EXPECT_EQ(copied(), model["t/log"].messages);
}

TEST_F(ReplayTest, what_is_damaged_there_is_left_out_and_reported) {
    fill();
    store.reset();
    const std::string bytes = disk.read("sim/posthorn.db");
    for (std::size_t at = bytes.find("120."); at != std::string::npos; at = bytes.find("120.", at + 1))
        disk.flip_byte("sim/posthorn.db", at);
    static_cast<void>(open());
    std::vector<Damage> damage;
    replay({.wants = [](std::string_view) { return true; }}, &damage);
    ASSERT_EQ(damage.size(), 1U);
    EXPECT_EQ(damage[0].topic, "t/log");
    EXPECT_EQ(damage[0].messages, 90U);
    EXPECT_EQ(copied(), of_log([](Offset offset, auto&) { return offset <= 110 || offset > 210; }));
}

// Whatever slices were committed, the copy is the log up to some message, and is called whole when that is the last.
TEST_F(ReplayTest, a_crash_leaves_whole_slices) {
    fill();
    for (Offset first = 216; first <= 1000; first += 5)
        run(named("t/log", batch_of(first, 5, first % 3 == 0 ? 20 : 300)));
    const Messages log = model["t/log"].messages;
    int crashes = 0;
    for (std::uint64_t round = 1; round <= 16 && !HasFailure(); ++round) {
        SCOPED_TRACE(round);
        disk.stop_after(5 + round * 7 % 150);
        Replay asked{.of = "t/log", .max_messages = 50, .subscription = "whole"};
        Offset confirmed = 0;
        for (bool whole = false; !whole;) {
            const Outcome outcome =
                store->run(job_of({.topic = "t/late", .subscription = "building", .replay = asked}));
            if (outcome.failure != Failure::none) {
                ++crashes;
                break;
            }
            asked.from = outcome.replayed.at(0).next;
            if (!outcome.replayed[0].ranges.empty()) confirmed = outcome.replayed[0].ranges.back().last;
            whole = outcome.replayed[0].whole;
        }
        store.reset();
        disk.restart(round % 2 == 0);
        static_cast<void>(open());
        const Model found = recovered(*store);
        EXPECT_EQ(found.at("t/log").messages, log);
        if (found.contains("t/late")) {
            const ModelTopic& late = found.at("t/late");
            const Offset last = late.messages.empty() ? 0 : late.messages.rbegin()->first;
            EXPECT_GE(last, confirmed);
            EXPECT_EQ(late.messages, Messages(log.begin(), log.upper_bound(last)));
            if (late.subscription == "whole") {
                EXPECT_EQ(late.messages, log);
            } else {
                EXPECT_EQ(late.subscription, "building");
            }
        } else {
            EXPECT_EQ(confirmed, 0U);
        }
        store.reset();
        disk.restart(false);
        static_cast<void>(open());
        ASSERT_EQ(store->run(job_of({.topic = "t/late", .gone = true})).failure, Failure::none);
    }
    EXPECT_GT(crashes, 5);
}

}  // namespace
}  // namespace posthorn::store
