#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "protocol/codec.hpp"
#include "protocol/commands.hpp"
#include "support/mutate.hpp"
#include "support/vectors.hpp"

namespace posthorn::protocol {
namespace {

using nlohmann::json;
using test::from_hex;
using test::to_hex;
using testing::IsEmpty;
using testing::SizeIs;
using Read = FrameReader::Verdict;

constexpr std::uint64_t some_epoch = 0x00b7c4e2915f3a01;
constexpr std::size_t frame_limit = 256 * 1024;
constexpr std::size_t joined_limit = 32 * 1024 * 1024;

Frame decoded(const std::string& bytes) {
    auto frame = decode_frame(Slice(bytes));
    EXPECT_TRUE(frame) << to_hex(bytes.substr(0, 100));
    return frame ? std::move(*frame) : Frame{};
}

std::string pairs_of(const std::vector<Command>& commands) {
    std::string pairs;
    for (const Command& command : commands) codec::encode(command, pairs);
    return pairs;
}

// What a reader in the same session makes of the frames; every one of them has to be in order.
std::vector<Command> received(const std::vector<std::string>& frames, FrameReader& reader) {
    std::vector<Command> commands;
    for (const std::string& bytes : frames) {
        Frame frame = decoded(bytes);
        const Read verdict = reader.accept(frame);
        EXPECT_TRUE(verdict == Read::commands || verdict == Read::nothing);
        if (verdict == Read::commands)
            for (Command& command : frame.commands) commands.push_back(std::move(command));
    }
    return commands;
}

FrameWriter writer_in_session(std::size_t limit = frame_limit) {
    FrameWriter writer(limit);
    writer.start_session(some_epoch);
    return writer;
}

FrameReader reader_in_session(std::size_t limit = joined_limit) {
    FrameReader reader(limit);
    reader.start_session(some_epoch, 1);
    return reader;
}

TEST(FrameWriter, GathersCommandsIntoOneFrame) {
    FrameWriter writer = writer_in_session();
    EXPECT_TRUE(writer.empty());
    EXPECT_THAT(writer.flush(), IsEmpty());
    writer.add(State{true});
    writer.add(Recall{3});
    EXPECT_FALSE(writer.empty());
    const auto frames = writer.flush();
    EXPECT_TRUE(writer.empty());
    ASSERT_THAT(frames, SizeIs(1));
    const Frame frame = decoded(frames.front());
    EXPECT_EQ(frame.epoch, some_epoch);
    EXPECT_EQ(frame.number, 1U);
    EXPECT_EQ(pairs_of(frame.commands), pairs_of({State{true}, Recall{3}}));
}

TEST(FrameWriter, CountsItsFramesFromOneInEverySession) {
    FrameWriter writer = writer_in_session();
    for (std::uint64_t number = 1; number <= 3; ++number) {
        writer.add(State{true});
        EXPECT_EQ(decoded(writer.flush().front()).number, number);
    }
    writer.add(Recall{1});
    writer.start_session(some_epoch + 1);
    EXPECT_TRUE(writer.empty());
    EXPECT_EQ(writer.epoch(), some_epoch + 1);
    writer.add(State{false});
    const Frame frame = decoded(writer.flush().front());
    EXPECT_EQ(frame.epoch, some_epoch + 1);
    EXPECT_EQ(frame.number, 1U);
    EXPECT_EQ(pairs_of(frame.commands), pairs_of({State{false}}));
}

TEST(FrameWriter, OutsideASessionNumbersAreZero) {
    FrameWriter writer(frame_limit);
    for (int round = 0; round < 2; ++round) {
        writer.add(Identify{});
        const Frame frame = decoded(writer.flush().front());
        EXPECT_EQ(frame.epoch, 0U);
        EXPECT_EQ(frame.number, 0U);
    }
}

TEST(FrameWriter, AHeartbeatIsAFrameOnlyWhenThereIsNothingElse) {
    FrameWriter writer = writer_in_session();
    writer.heartbeat();
    EXPECT_FALSE(writer.empty());
    auto frames = writer.flush();
    ASSERT_THAT(frames, SizeIs(1));
    EXPECT_THAT(decoded(frames.front()).commands, IsEmpty());
    EXPECT_THAT(writer.flush(), IsEmpty());

    writer.heartbeat();
    writer.add(State{true});
    frames = writer.flush();
    ASSERT_THAT(frames, SizeIs(1));
    EXPECT_THAT(decoded(frames.front()).commands, SizeIs(1));
}

TEST(FrameWriter, ManyCommandsFillFramesUpToTheLimit) {
    constexpr std::size_t limit = 300;
    FrameWriter writer = writer_in_session(limit);
    std::vector<Command> commands;
    for (std::uint32_t count = 1; count <= 500; ++count) commands.emplace_back(Recall{count * 1000});
    for (const Command& command : commands) writer.add(command);
    const auto frames = writer.flush();
    for (std::size_t at = 0; at < frames.size(); ++at) {
        EXPECT_LE(frames[at].size(), limit);
        if (at + 1 == frames.size()) break;
        EXPECT_GT(frames[at].size(), limit - 50);
    }
    FrameReader reader = reader_in_session();
    EXPECT_EQ(pairs_of(received(frames, reader)), pairs_of(commands));
}

TEST(FrameWriter, KeepsToTheNumberOfCommandsAReaderTakes) {
    FrameWriter writer = writer_in_session();
    const std::vector<Command> commands(2 * commands_limit + 1, Recalled{});
    for (const Command& command : commands) writer.add(command);
    const auto frames = writer.flush();
    EXPECT_THAT(frames, SizeIs(3));
    FrameReader reader = reader_in_session();
    EXPECT_THAT(received(frames, reader), SizeIs(commands.size()));
}

TEST(Fragments, MatchTheVector) {
    const json vectors = test::load_vectors("frames.json")["fragments"];
    const Bye bye{5000, vectors["joined"][1]["text"].get<std::string>()};
    FrameWriter writer = writer_in_session(vectors["limit"].get<std::size_t>());
    writer.add(bye);
    const auto frames = writer.flush();
    ASSERT_EQ(frames.size(), vectors["frames"].size());
    for (std::size_t at = 0; at < frames.size(); ++at)
        EXPECT_EQ(to_hex(frames[at]), vectors["frames"][at]["hex"].get<std::string>());
    FrameReader reader = reader_in_session();
    EXPECT_EQ(pairs_of(received(frames, reader)), pairs_of({bye}));
}

TEST(Fragments, StandInOrderWithTheCommandsAroundThem) {
    FrameWriter writer = writer_in_session();
    const std::vector<Command> commands{State{true}, Publish{{Slice(std::string(1'000'000, 'x'))}}, Recall{7},
                                        Publish{{Slice(std::string(600'000, 'y'))}}, State{false}};
    for (const Command& command : commands) writer.add(command);
    const auto frames = writer.flush();
    for (const std::string& frame : frames) EXPECT_LE(frame.size(), frame_limit);
    EXPECT_THAT(frames, SizeIs(1 + 4 + 1 + 3 + 1));
    FrameReader reader = reader_in_session();
    EXPECT_EQ(pairs_of(received(frames, reader)), pairs_of(commands));
}

TEST(Fragments, CommandsOfEverySizeAroundTheLimitArrive) {
    constexpr std::size_t limit = 200;
    FrameWriter writer = writer_in_session(limit);
    FrameReader reader = reader_in_session();
    for (std::size_t size = 0; size < 3 * limit; ++size) {
        const std::vector<Command> commands{State{true}, Bye{size, std::string(size, 'x')}, Recall{1}};
        for (const Command& command : commands) writer.add(command);
        const auto frames = writer.flush();
        for (const std::string& frame : frames) EXPECT_LE(frame.size(), limit);
        EXPECT_EQ(pairs_of(received(frames, reader)), pairs_of(commands)) << size;
    }
}

TEST(Fragments, OfALargeHelloAreCountedFromOneOutsideASession) {
    FrameWriter writer(frame_limit);
    FrameReader reader(joined_limit);
    Hello hello;
    hello.role = Role::consumer;
    for (std::uint64_t offset = 0; offset < 60'000; ++offset) hello.held.push_back({offset, 1, false});
    for (int round = 0; round < 2; ++round) {
        writer.add(hello);
        const auto frames = writer.flush();
        EXPECT_GT(frames.size(), 1U);
        EXPECT_EQ(decoded(frames.front()).epoch, 0U);
        EXPECT_EQ(decoded(frames.front()).number, 1U);
        const auto commands = received(frames, reader);
        ASSERT_THAT(commands, SizeIs(1));
        EXPECT_THAT(std::get<Hello>(commands.front()).held, SizeIs(60'000));
    }
    writer.add(Identify{});
    EXPECT_THAT(received(writer.flush(), reader), SizeIs(1));
}

TEST(FrameReader, AFragmentLostOutsideASessionSpoilsOnlyThatHello) {
    FrameWriter writer(64);
    FrameReader reader(joined_limit);
    Hello hello;
    hello.client = std::string(200, 'c');
    writer.add(hello);
    const auto frames = writer.flush();
    ASSERT_GT(frames.size(), 3U);
    Frame first = decoded(frames[0]);
    EXPECT_EQ(reader.accept(first), Read::nothing);
    Frame third = decoded(frames[2]);
    EXPECT_EQ(reader.accept(third), Read::gap);
    const auto commands = received(frames, reader);
    ASSERT_THAT(commands, SizeIs(1));
    EXPECT_EQ(std::get<Hello>(commands.front()).client, hello.client);
}

std::vector<std::string> numbered_frames(std::size_t count) {
    FrameWriter writer = writer_in_session();
    std::vector<std::string> frames;
    for (std::size_t at = 0; at < count; ++at) {
        writer.add(State{true});
        frames.push_back(writer.flush().front());
    }
    return frames;
}

Read verdict_on(FrameReader& reader, const std::string& bytes) {
    Frame frame = decoded(bytes);
    return reader.accept(frame);
}

TEST(FrameReader, TakesFramesInOrderAndDropsRepeats) {
    const auto frames = numbered_frames(3);
    FrameReader reader = reader_in_session();
    EXPECT_EQ(verdict_on(reader, frames[0]), Read::commands);
    EXPECT_EQ(verdict_on(reader, frames[0]), Read::nothing);
    EXPECT_EQ(verdict_on(reader, frames[1]), Read::commands);
    EXPECT_EQ(verdict_on(reader, frames[0]), Read::nothing);
    EXPECT_EQ(verdict_on(reader, frames[2]), Read::commands);
}

TEST(FrameReader, SeesAGapAndAnotherEpoch) {
    const auto frames = numbered_frames(3);
    FrameReader reader = reader_in_session();
    EXPECT_EQ(verdict_on(reader, frames[0]), Read::commands);
    EXPECT_EQ(verdict_on(reader, frames[2]), Read::gap);
    reader.start_session(some_epoch + 1, 1);
    EXPECT_EQ(verdict_on(reader, frames[0]), Read::other_epoch);
    EXPECT_EQ(reader.epoch(), some_epoch + 1);
    reader.start_session(some_epoch, 2);  // the welcome was number 1
    EXPECT_EQ(verdict_on(reader, frames[1]), Read::commands);
}

TEST(FrameReader, AHeartbeatIsNothingAndCounts) {
    FrameWriter writer = writer_in_session();
    FrameReader reader = reader_in_session();
    writer.heartbeat();
    EXPECT_EQ(verdict_on(reader, writer.flush().front()), Read::nothing);
    writer.add(State{true});
    EXPECT_EQ(verdict_on(reader, writer.flush().front()), Read::commands);
}

TEST(FrameReader, AnUnknownCommandIsSomethingToAnswer) {
    const json vectors = test::load_vectors("frames.json");
    for (const json& vector : vectors["tolerated"]) {
        if (vector["name"] != "unknown command") continue;
        FrameReader reader = reader_in_session();
        Frame frame = decoded(from_hex(vector["hex"].get<std::string>()));
        EXPECT_EQ(reader.accept(frame), Read::commands);
        ASSERT_THAT(frame.unknown, SizeIs(1));
        EXPECT_EQ(frame.unknown.front().name, "moved");
        return;
    }
    FAIL() << "the vector is gone";
}

// Frames of one session with bodies that no writer would make.
class RawFrames {
public:
    std::string fragment(std::string_view part, bool more) {
        std::string bytes;
        wire::Writer(bytes)
            .array(4)
            .unsigned_integer(some_epoch)
            .unsigned_integer(++number_)
            .boolean(more)
            .binary(part);
        return bytes;
    }
    std::string command() {
        std::string bytes;
        wire::Writer(bytes).array(5).unsigned_integer(some_epoch).unsigned_integer(++number_).boolean(false);
        codec::encode(State{true}, bytes);
        return bytes;
    }
    std::string heartbeat() {
        std::string bytes;
        wire::Writer(bytes).array(3).unsigned_integer(some_epoch).unsigned_integer(++number_).boolean(false);
        return bytes;
    }

private:
    std::uint64_t number_ = 0;
};

TEST(FrameReader, JoinsNoMoreThanItsLimit) {
    const std::string part(1000, 'x');
    FrameReader reader = reader_in_session(2500);
    RawFrames frames;
    EXPECT_EQ(verdict_on(reader, frames.fragment(part, true)), Read::nothing);
    EXPECT_EQ(verdict_on(reader, frames.fragment(part, true)), Read::nothing);
    EXPECT_EQ(verdict_on(reader, frames.fragment(part, true)), Read::malformed);
}

TEST(FrameReader, FragmentsThatJoinToNonsenseAreMalformed) {
    FrameReader reader = reader_in_session();
    RawFrames frames;
    EXPECT_EQ(verdict_on(reader, frames.fragment("\xc1\xc1", true)), Read::nothing);
    EXPECT_EQ(verdict_on(reader, frames.fragment("\xc1", false)), Read::malformed);
}

TEST(FrameReader, NoCommandComesBetweenFragmentsButAHeartbeatMay) {
    const std::string pairs = pairs_of({Bye{1, "because"}});
    FrameReader reader = reader_in_session();
    RawFrames frames;
    EXPECT_EQ(verdict_on(reader, frames.fragment(pairs.substr(0, 5), true)), Read::nothing);
    EXPECT_EQ(verdict_on(reader, frames.heartbeat()), Read::nothing);
    Frame last = decoded(frames.fragment(pairs.substr(5), false));
    EXPECT_EQ(reader.accept(last), Read::commands);
    EXPECT_EQ(pairs_of(last.commands), pairs);

    EXPECT_EQ(verdict_on(reader, frames.fragment(pairs.substr(0, 5), true)), Read::nothing);
    EXPECT_EQ(verdict_on(reader, frames.command()), Read::malformed);
}

TEST(FrameReader, ANewSessionForgetsFragmentsOfTheOld) {
    const std::string pairs = pairs_of({State{true}});
    FrameReader reader = reader_in_session();
    RawFrames old_frames;
    EXPECT_EQ(verdict_on(reader, old_frames.fragment("half", true)), Read::nothing);
    reader.start_session(some_epoch, 1);
    RawFrames frames;
    EXPECT_EQ(verdict_on(reader, frames.fragment(pairs, false)), Read::commands);
}

std::vector<std::string> all_valid_frames() {
    const json vectors = test::load_vectors("frames.json");
    std::vector<std::string> frames;
    for (const char* group : {"producer_session", "consumer_session", "commands", "tolerated"})
        for (const json& vector : vectors[group]) frames.push_back(from_hex(vector["hex"].get<std::string>()));
    for (const json& vector : vectors["fragments"]["frames"])
        frames.push_back(from_hex(vector["hex"].get<std::string>()));
    return frames;
}

TEST(FrameDamage, CutAnywhereAFrameIsMalformed) {
    for (const std::string& bytes : all_valid_frames())
        for (std::size_t size = 0; size < bytes.size(); ++size)
            EXPECT_FALSE(decode_frame(Slice(bytes.substr(0, size)))) << to_hex(bytes) << " cut at " << size;
}

std::size_t entries_of(const Command& command) {
    struct Count {
        std::size_t operator()(const Hello& c) const { return c.held.size(); }
        std::size_t operator()(const Publish& c) const { return c.envelopes.size(); }
        std::size_t operator()(const Settle& c) const { return c.acks.size() + c.others.size(); }
        std::size_t operator()(const Extend& c) const { return c.items.size(); }
        std::size_t operator()(const AdminRequest& c) const { return c.ids.size(); }
        std::size_t operator()(const Welcome& c) const {
            return c.refused.size() + c.lost.size() + c.capabilities.size();
        }
        std::size_t operator()(const Confirm& c) const { return c.settled.size() + c.refused.size(); }
        std::size_t operator()(const Deliver& c) const { return c.items.size(); }
        std::size_t operator()(const Feed& c) const { return c.count; }
        std::size_t operator()(const Taken&) const { return 0; }
        std::size_t operator()(const Settled& c) const { return c.stale.size(); }
        std::size_t operator()(const Lost& c) const { return c.items.size(); }
        std::size_t operator()(const AdminResult& c) const { return c.rows.size(); }
        std::size_t operator()(const Window&) const { return 0; }
        std::size_t operator()(const Recalled&) const { return 0; }
        std::size_t operator()(const Bye&) const { return 0; }
        std::size_t operator()(const Identify&) const { return 0; }
        std::size_t operator()(const Refusal&) const { return 0; }
        std::size_t operator()(const Credit&) const { return 0; }
        std::size_t operator()(const Recall&) const { return 0; }
        std::size_t operator()(const State&) const { return 0; }
        std::size_t operator()(const Peers&) const { return 0; }
        std::size_t operator()(const Cancel& cancel) const { return cancel.requests.size(); }
    };
    return std::visit(Count{}, command);
}

TEST(FrameDamage, GivesAnAnswerNoLargerThanTheBytesAndWhatIsReadCanBeWritten) {
    const auto valid = all_valid_frames();
    test::Mutator mutate(3);
    std::size_t survived = 0;
    for (int round = 0; round < 40'000; ++round) {
        const std::string bytes = mutate(valid[mutate.below(valid.size())]);
        const auto frame = decode_frame(Slice(bytes));
        if (!frame) continue;
        ++survived;
        std::size_t entries = frame->commands.size() + frame->unknown.size();
        for (const Command& command : frame->commands) entries += entries_of(command);
        ASSERT_LE(entries, bytes.size()) << to_hex(bytes);
        const std::string pairs = pairs_of(frame->commands);
        Frame again;
        ASSERT_TRUE(decode_commands(Slice(pairs), again)) << to_hex(bytes);
        ASSERT_EQ(pairs_of(again.commands), pairs) << to_hex(bytes);
    }
    EXPECT_GT(survived, 1000U);
}

// A link that loses and repeats: the reader takes a prefix of what was sent or ends the session.
TEST(FrameDamage, AReaderNeverTakesAFrameTwiceOrOutOfOrder) {
    const auto valid = numbered_frames(20);
    test::Mutator mutate(4);
    std::size_t ended = 0;
    for (int round = 0; round < 2'000; ++round) {
        FrameReader reader = reader_in_session();
        std::uint64_t taken = 0;
        for (std::size_t at = 0; at < valid.size(); ++at) {
            const std::size_t fate = mutate.below(20);
            if (fate == 0) continue;
            Frame frame = decoded(valid[fate == 1 ? mutate.below(at + 1) : at]);
            const Read verdict = reader.accept(frame);
            if (verdict == Read::gap) {
                ++ended;
                break;
            }
            if (verdict == Read::nothing) continue;
            ASSERT_EQ(verdict, Read::commands);
            ASSERT_EQ(frame.number, taken + 1);
            taken = frame.number;
        }
    }
    EXPECT_GT(ended, 500U);
}

}  // namespace
}  // namespace posthorn::protocol
