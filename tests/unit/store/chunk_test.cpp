#include "store/chunk.hpp"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "store/chunk_format.hpp"
#include "store/sharing.hpp"
#include "unit/store/model.hpp"

namespace posthorn::store {

using namespace testing;

namespace {

Terms some_terms(std::mt19937_64& random) {
    const auto time = [&] { return random() % 2 == 0 ? Wall{} : some_time + std::chrono::milliseconds{random() % 3}; };
    return {time(), time(), random() % 2 == 0 ? 0 : random(), static_cast<std::uint8_t>(random() % 10)};
}

// With holes, sizes that differ and repeat, redrives, several stamps.
PackedChunk some_chunk(std::mt19937_64& random, std::size_t messages) {
    PackedChunk packed;
    Offset offset = 1 + random() % 1000;
    for (std::size_t i = 0; i < messages; ++i) {
        const std::string body(random() % 3 == 0 ? random() % 100 : 64, static_cast<char>(random() & 0xFF));
        const bool added = packed.chunk.add({offset, static_cast<std::uint32_t>(body.size()),
                                             static_cast<std::uint16_t>(random() % 10 == 0 ? random() % 100 : 0),
                                             random() % 20 == 0, some_time + std::chrono::milliseconds{i / 50},
                                             random() % 10 == 0 ? some_terms(random) : Terms{}});
        EXPECT_TRUE(added);
        packed.body += body;
        offset += random() % 10 == 0 ? 1 + random() % 5 : 1;
    }
    return packed;
}

void touch(std::mt19937_64& random, Chunk& chunk) {
    for (int i = 0; i < 5; ++i) {
        const Offset from = chunk.first() + random() % (chunk.last() - chunk.first() + 1);
        chunk.settle({from, from + random() % 50});
    }
    std::vector<Mark> marks;
    for (std::size_t i = random() % 10; i < chunk.size(); i += 1 + random() % 5) {
        Mark mark;
        mark.offset = chunk.offset(i);
        mark.token = static_cast<std::uint32_t>(random() % 3);
        mark.holder = identity(static_cast<std::uint8_t>(random() % 3));
        mark.due = some_time;
        mark.suspect = random() % 2 == 0;
        marks.push_back(mark);
    }
    chunk.set_marks(chunk.runs_of(marks));
}

void expect_same(const Chunk& a, const Chunk& b) {
    ASSERT_EQ(a.size(), b.size());
    EXPECT_EQ(a.live(), b.live());
    EXPECT_EQ(a.live_bytes(), b.live_bytes());
    EXPECT_EQ(a.body_size(), b.body_size());
    for (std::size_t i = 0; i < a.size(); ++i) {
        const Chunk::Message x = a.message(i);
        const Chunk::Message y = b.message(i);
        ASSERT_EQ(x.offset, y.offset);
        ASSERT_EQ(x.size, y.size);
        ASSERT_EQ(x.redrives, y.redrives);
        ASSERT_EQ(x.maybe_duplicate, y.maybe_duplicate);
        ASSERT_EQ(x.accepted_at, y.accepted_at);
        ASSERT_EQ(x.terms, y.terms);
        ASSERT_EQ(a.is_live(i), b.is_live(i));
        if (a.is_live(i)) {
            ASSERT_EQ(a.mark(i), b.mark(i)) << i;
        }
    }
}

TEST(Chunk, crc32c_is_the_one_of_rfc_3720) {
    EXPECT_EQ(crc32c("123456789"), 0xE3069283U);
    EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAU);
}

TEST(Chunk, settling_counts_each_message_once) {
    std::mt19937_64 random(1);
    for (int round = 0; round < 50; ++round) {
        Chunk chunk = some_chunk(random, 1 + random() % 300).chunk;
        std::set<Offset> live;
        for (std::size_t i = 0; i < chunk.size(); ++i) live.insert(chunk.offset(i));
        while (!live.empty()) {
            const Offset from = chunk.first() + random() % (chunk.last() - chunk.first() + 1);
            const Offset to = from + random() % 100;
            live.erase(live.lower_bound(from), live.upper_bound(to));
            chunk.settle({from, to});
            ASSERT_EQ(chunk.live(), live.size());
            std::uint64_t bytes = 0;
            std::size_t next = chunk.next_live(0);
            for (const Offset offset : live) {
                ASSERT_LT(next, chunk.size());
                ASSERT_EQ(chunk.offset(next), offset);
                bytes += chunk.message(next).size;
                next = chunk.next_live(next + 1);
            }
            ASSERT_EQ(next, chunk.size());
            ASSERT_EQ(chunk.live_bytes(), bytes);
        }
    }
}

TEST(Chunk, later_marks_replace_earlier_ones) {
    std::mt19937_64 random(2);
    for (int round = 0; round < 200; ++round) {
        Chunk chunk = some_chunk(random, 60).chunk;
        std::vector<std::optional<Mark>> wanted(chunk.size());
        for (int step = 0; step < 6; ++step) {
            std::vector<Mark> marks;
            std::size_t index = random() % chunk.size();
            for (std::size_t left = random() % 40; left != 0 && index < chunk.size(); --left) {
                Mark mark;
                mark.offset = chunk.offset(index);
                mark.token = static_cast<std::uint32_t>(random() % 2);
                marks.push_back(mark);
                wanted[index] = mark;
                index += random() % 4 == 0 ? 3 : 1;
            }
            chunk.set_marks(chunk.runs_of(marks));
            for (std::size_t i = 0; i < chunk.size(); ++i) ASSERT_EQ(chunk.mark(i), wanted[i]) << i;
        }
    }
}

TEST(Chunk, equal_marks_of_neighbours_are_one_run) {
    PackedChunk packed;
    ASSERT_EQ(pack(batch_of(1, 1000), 0, packed), 1000U);
    std::vector<Mark> marks(1000);
    for (std::size_t i = 0; i < marks.size(); ++i) {
        marks[i].offset = i + 1;
        marks[i].token = 1;
        marks[i].holder = identity(9);
    }
    packed.chunk.set_marks(packed.chunk.runs_of(marks));
    EXPECT_EQ(packed.chunk.marks().size(), 1U);
    EXPECT_LT(encode_state(packed.chunk).size(), 64U);
    EXPECT_LT(encode_header(packed.chunk, 1, 1, 0).size(), 64U);  // so are equal sizes
}

TEST(Chunk, a_batch_is_cut_at_the_limits_of_a_chunk) {
    PackedChunk packed;
    EXPECT_EQ(pack(batch_of(1, 5000, 10), 0, packed), Chunk::max_messages);
    PackedChunk large;
    EXPECT_EQ(pack(batch_of(1, 10, 300'000), 0, large), 3U);
    PackedChunk huge;
    EXPECT_EQ(pack(batch_of(1, 2, 5'000'000), 0, huge), 1U);
}

TEST(Chunk, what_is_written_reads_the_same) {
    std::mt19937_64 random(3);
    for (int round = 0; round < 200; ++round) {
        PackedChunk packed = some_chunk(random, 1 + random() % 500);
        Chunk& chunk = packed.chunk;
        if (round % 4 != 0) touch(random, chunk);
        const std::string header = encode_header(chunk, 3, 17, crc32c(packed.body));
        const std::string state = encode_state(chunk);
        const auto summary = read_summary(header);
        ASSERT_TRUE(summary);
        EXPECT_EQ(summary->topic, 3U);
        EXPECT_EQ(summary->body, 17U);
        EXPECT_EQ(summary->first, chunk.first());
        EXPECT_EQ(summary->last, chunk.last());
        EXPECT_EQ(summary->messages, chunk.size());
        EXPECT_EQ(summary->body_crc, crc32c(packed.body));
        auto decoded = decode_header(header);
        ASSERT_TRUE(decoded);
        ASSERT_TRUE(decode_state(state, *decoded));
        expect_same(chunk, *decoded);
        const auto state_summary = read_state_summary(state);
        ASSERT_TRUE(state_summary);
        EXPECT_EQ(state_summary->settled, chunk.size() - chunk.live());
        EXPECT_EQ(state_summary->settled_bytes, chunk.body_size() - chunk.live_bytes());
    }
}

TEST(Chunk, a_changed_bit_is_seen) {
    std::mt19937_64 random(4);
    PackedChunk packed = some_chunk(random, 100);
    touch(random, packed.chunk);
    const std::string header = encode_header(packed.chunk, 1, 1, 0);
    const std::string state = encode_state(packed.chunk);
    for (std::size_t bit = 0; bit < header.size() * 8; ++bit) {
        std::string changed = header;
        changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << (bit % 8)));
        ASSERT_FALSE(read_summary(changed));
        ASSERT_FALSE(decode_header(changed));
    }
    for (std::size_t bit = 0; bit < state.size() * 8; ++bit) {
        std::string changed = state;
        changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << (bit % 8)));
        Chunk chunk = *decode_header(header);
        ASSERT_FALSE(decode_state(changed, chunk));
    }
}

// A CRC keeps accidents out, not intent: what is behind a right one must not hurt either.
TEST(Chunk, foreign_bytes_with_a_right_crc_do_no_harm) {
    std::mt19937_64 random(5);
    std::size_t accepted = 0;
    for (int round = 0; round < 20'000; ++round) {
        PackedChunk packed = some_chunk(random, 1 + random() % 20);
        touch(random, packed.chunk);
        std::string header = encode_header(packed.chunk, 1, 1, 0);
        std::string state = encode_state(packed.chunk);
        for (std::string* bytes : {&header, &state}) {
            bytes->resize(bytes->size() - 4);
            for (std::uint64_t left = random() % 4; left != 0; --left) {
                (*bytes)[random() % bytes->size()] = static_cast<char>(random() & 0xFF);
            }
            if (random() % 10 == 0) bytes->resize(random() % bytes->size());
            seal(*bytes);
        }
        static_cast<void>(read_state_summary(state));
        auto chunk = decode_header(header);
        if (!chunk) continue;
        ++accepted;
        ASSERT_LE(chunk->size(), Chunk::max_messages);
        if (decode_state(state, *chunk)) {
            ASSERT_LE(chunk->live(), chunk->size());
            ASSERT_LE(chunk->live_bytes(), chunk->body_size());
        }
    }
    EXPECT_GT(accepted, 1000U);
}

TEST(Chunk, copying_what_is_live_keeps_all_of_it) {
    std::mt19937_64 random(6);
    for (int round = 0; round < 50; ++round) {
        PackedChunk from = some_chunk(random, 200);
        touch(random, from.chunk);
        if (from.chunk.live() == 0) continue;
        PackedChunk to;
        ASSERT_TRUE(copy_live(from.chunk, from.body, to));
        EXPECT_EQ(to.chunk.live(), from.chunk.live());
        EXPECT_EQ(to.body.size(), from.chunk.live_bytes());
        std::size_t at = from.chunk.next_live(0);
        for (std::size_t i = 0; i < to.chunk.size(); ++i, at = from.chunk.next_live(at + 1)) {
            ASSERT_EQ(to.chunk.offset(i), from.chunk.offset(at));
            ASSERT_EQ(to.chunk.bytes(i, to.body), from.chunk.bytes(at, from.body));
            ASSERT_EQ(to.chunk.message(i).accepted_at, from.chunk.message(at).accepted_at);
            ASSERT_EQ(to.chunk.mark(i), from.chunk.mark(at));
        }
    }
}

// First and last offset of each common body, and how many batches it is of.
using Cuts = std::vector<std::tuple<Offset, Offset, std::size_t>>;
Cuts cuts_of(const Job& job, Offset next = 1) {
    Cuts cuts;
    for (const CommonBody& body : common_bodies(job.batch, [=](const std::string&) { return next; }))
        cuts.emplace_back(body.all.chunk.first(), body.all.chunk.last(), body.batches.size());
    return cuts;
}

TEST(Sharing, bodies_are_of_all_that_any_batch_has) {
    Job job = shared_job(batch_of(1, 10, 100), {"t/a", "t/b", "t/c"});
    std::erase_if(job.batch[0].appends, [](const Append& append) { return append.offset > 4; });
    std::erase_if(job.batch[1].appends, [](const Append& append) { return append.offset < 4; });
    job.batch[2].appends.clear();
    EXPECT_EQ(cuts_of(job), (Cuts{{1, 10, 2}}));
    const auto bodies = common_bodies(job.batch, [](const std::string&) { return Offset{1}; });
    const Chunk chunk = bodies.at(0).chunk_of(job.batch[1]);
    EXPECT_EQ(chunk.size(), 10U);
    EXPECT_EQ(chunk.live(), 7U);
    EXPECT_EQ(chunk.next_live(0), 3U);
    EXPECT_FALSE(bodies[0].is_of(job.batch[2]));
    job.batch[1].share = "another";
    EXPECT_EQ(cuts_of(job), Cuts{});
}

TEST(Sharing, bodies_have_the_limits_of_a_chunk_and_end_before_what_is_sent_back) {
    Job job = shared_job(batch_of(1, 5000, 100), {"t/a", "t/b"});
    EXPECT_EQ(cuts_of(job), (Cuts{{1, 4096, 2}, {4097, 5000, 2}}));
    for (TopicBatch& batch : job.batch)
        std::erase_if(batch.appends, [](const Append& one) { return one.offset == 50; });
    job.batch[1].redrives = {{7, 50}};
    EXPECT_EQ(cuts_of(job), (Cuts{{1, 49, 2}, {51, 4146, 2}, {4147, 5000, 2}}));
}

TEST(Sharing, what_is_behind_what_a_topic_has_is_not_shared) {
    EXPECT_EQ(cuts_of(shared_job(batch_of(1, 10, 100), {"t/a", "t/b"}), 1), (Cuts{{1, 10, 2}}));
    EXPECT_EQ(cuts_of(shared_job(batch_of(1, 10, 100), {"t/a", "t/b"}), 2), Cuts{});
}

}  // namespace
}  // namespace posthorn::store
