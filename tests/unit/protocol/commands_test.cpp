// Every command against its vector, written here once more as the struct it stands for.
#include "protocol/commands.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "envelope/envelope.hpp"
#include "protocol/codec.hpp"
#include "support/vectors.hpp"

namespace posthorn::protocol {
namespace {

using nlohmann::json;
using test::from_hex;
using test::to_hex;
using testing::ElementsAre;

constexpr std::uint64_t largest = std::numeric_limits<std::uint64_t>::max();
constexpr std::uint64_t mebi = 1024 * 1024;

// Sixteen bytes that count up from `first`.
Identity identity(std::uint8_t first) {
    Identity id;
    std::iota(id.bytes.begin(), id.bytes.end(), first);
    return id;
}

const Identity producer = identity(0x00);
const Identity worker = identity(0xa0);
const Identity host = identity(0xf0);

Slice envelope_of(std::uint64_t sequence, std::string payload, std::uint64_t skipped = 0, std::string subject = {}) {
    envelope::Envelope envelope;
    envelope.producer = producer;
    envelope.sequence = sequence;
    envelope.previous = sequence - 1 - skipped;
    envelope.message.payload = std::move(payload);
    envelope.message.subject = std::move(subject);
    std::string bytes;
    envelope::encode(envelope, bytes);
    return Slice(std::move(bytes));
}

Welcome welcome(std::uint32_t attempt, bool durable) {
    Welcome welcome;
    welcome.attempt = attempt;
    welcome.host = host;
    welcome.durable = durable;
    welcome.message_limit = 16 * mebi;
    welcome.heartbeat_ms = 1000;
    welcome.capabilities = {durable ? "host:node" : "host:memory"};
    return welcome;
}

Hello hello(Role role, std::uint32_t attempt) {
    Hello hello;
    hello.role = role;
    hello.incarnation = role == Role::consumer ? worker : producer;
    hello.attempt = attempt;
    if (role != Role::admin) hello.address = "encode";
    if (role == Role::consumer) {
        hello.name = "worker-1";
        hello.client = "example 1.0";
        hello.concurrency = 4;
        hello.window_bytes = 32 * mebi;
    }
    return hello;
}

using Expected = std::map<std::string, std::vector<Command>>;

void add_producer_session(Expected& expected) {
    Hello first = hello(Role::producer, 1);
    first.name = "web-1";
    first.oldest = 1;
    first.client = "example 1.0";
    expected["producer_session/identify"] = {Identify{host}};
    expected["producer_session/hello of a producer"] = {first};
    expected["producer_session/welcome of a producer"] = {welcome(1, true), Credit{1000, 32 * mebi, ""}};
    expected["producer_session/publish"] = {Publish{{envelope_of(1, "one"), envelope_of(2, "two")}}};
    expected["producer_session/held"] = {Confirm{2, 0, {}, {}}};
    expected["producer_session/stored"] = {Confirm{0, 2, {}, {}}, Credit{1002, 33554500, ""}};
    expected["producer_session/bye of a producer"] = {Bye{}};
}

void add_consumer_session(Expected& expected) {
    Hello first = hello(Role::consumer, 1);
    first.window_messages = 5;
    Welcome answer = welcome(1, true);
    answer.lease_ms = 30000;
    const DeliverOne one{1, 1, 1, 0, false, envelope_of(1, "one")};
    const DeliverOne two{2, 1, 1, 0, false, envelope_of(2, "two")};
    const DeliverOne two_again{2, 2, 2, 0, false, envelope_of(2, "two")};
    expected["consumer_session/hello of a consumer"] = {first};
    expected["consumer_session/welcome of a consumer"] = {answer, State{true}};
    expected["consumer_session/deliver"] = {Deliver{{one, two}}};
    expected["consumer_session/ack one, nack the other"] = {
        Settle{{{1, 1, 1}}, {{2, 1, Verdict::nack, std::nullopt, "no such codec"}}}};
    expected["consumer_session/both are safe"] = {Settled{2, {}}};
    expected["consumer_session/the second attempt"] = {Deliver{{two_again}}};
    expected["consumer_session/ack"] = {Settle{{{2, 2, 1}}, {}}};
    expected["consumer_session/safe too, and no more"] = {Settled{3, {}}, State{false}};
    expected["consumer_session/bye of a consumer"] = {Bye{}};
}

void add_hellos_and_welcomes(Expected& expected) {
    Hello resuming = hello(Role::producer, 3);
    resuming.confirmed = 70000;
    resuming.oldest = 70001;
    Hello holding = hello(Role::consumer, 2);
    holding.held = {{41, 3, true}, {42, 3, false}, {std::uint64_t{1} << 40U, 0xffffffff, false}};
    holding.window_messages = 100;
    Welcome to_producer = welcome(3, true);
    to_producer.watermark = 70100;
    to_producer.stored = 70090;
    to_producer.refused = {{70050, "queue_full", "encode is full"}};
    Welcome to_consumer = welcome(2, false);
    to_consumer.lease_ms = 30000;
    to_consumer.lost = {{41, 3, false}};
    Hello named = hello(Role::producer, 1);
    named.name = "importer";
    named.incarnation = worker;
    named.producer = producer;
    Hello named_again = named;
    named_again.attempt = 2;
    named_again.confirmed = 70000;
    named_again.resumed = true;
    expected["commands/hello of a named producer"] = {named};
    expected["commands/hello of a named producer that knows its place"] = {named_again};
    expected["commands/confirm that tells a named producer its place"] = {Confirm{.resume = 0}};
    expected["commands/hello that resumes a producer"] = {resuming};
    expected["commands/hello that resumes a consumer"] = {holding};
    Hello strict = holding;
    strict.strict = true;
    expected["commands/hello that resumes a consumer that keeps strict order"] = {strict};
    Hello publishes = resuming;
    publishes.address = "orders";
    publishes.topic = true;
    expected["commands/hello of a publisher to a topic"] = {publishes};
    Hello watches = publishes;
    watches.watch = true;
    expected["commands/hello of a publisher that watches its consumers"] = {watches};
    Hello requests = resuming;
    requests.watch = requests.keeps_replies = requests.needs_replier = true;
    requests.replies = "web-1";
    expected["commands/hello of a requester"] = {requests};
    Hello replies = holding;
    replies.replier = true;
    expected["commands/hello of a replier"] = {replies};
    Hello subscribes = holding;
    subscribes.address = "orders/billing";
    subscribes.bindings = {{.subject = "order.*"}, {.headers = {{"region", "eu"}, {"urgent", "yes"}}, .any = true}};
    subscribes.temporary = subscribes.exclusive = true;
    subscribes.from = From{From::What::time, 1'700'000'000'000};
    expected["commands/hello of a subscriber"] = {subscribes};
    Hello live = watches;
    live.topic = false;
    live.live = true;
    expected["commands/hello of a publisher to a live topic"] = {live};
    Hello listens = hello(Role::consumer, 2);
    listens.address = "prices";
    listens.name.clear();
    listens.client.clear();
    listens.live = true;
    listens.window_messages = 10'000;
    listens.window_bytes = 8 * mebi;
    listens.bindings = {{.subject = "price.*"}};
    listens.link = 51726398118640128;
    listens.received = 70;
    expected["commands/hello of a subscriber to a live topic"] = {listens};
    Welcome to_listener = welcome(2, false);
    to_listener.link = listens.link;
    to_listener.capabilities = {"host:node"};
    expected["commands/welcome of a subscriber to a live topic"] = {to_listener};
    expected["commands/hello of an admin"] = {hello(Role::admin, 1)};
    expected["commands/refused"] = {Refusal{"bad_version", "this host speaks version 1"}};
    expected["commands/welcome that knows the producer"] = {to_producer};
    expected["commands/welcome that knows the consumer"] = {to_consumer};
}

void add_commands(Expected& expected) {
    const std::string payload("\x00\xff", 2);
    expected["commands/heartbeat"] = {};
    expected["commands/heartbeat with large numbers"] = {};
    expected["commands/publish"] = {Publish{{envelope_of(5, payload, 1, "a.b")}}};
    expected["commands/confirm"] = {
        Confirm{9, 7, {{1, 3}, {5, 5}}, {{4, "queue_full", "encode is full"}, {8, "too_large", "limit 16 MiB"}}}};
    expected["commands/credit"] = {Credit{2000, 64 * mebi, ""}};
    expected["commands/no credit"] = {Credit{2000, 64 * mebi, "queue_full"}};
    expected["commands/window"] = {Window{400, 32 * mebi}};
    expected["commands/deliver"] = {Deliver{{{std::uint64_t{1} << 33U, 7, 2, 1, true, envelope_of(1, payload)}}}};
    expected["commands/settle with every verdict"] = {
        Settle{{{100, 1, 20}, {130, 2, 1}},
               {{140, 1, Verdict::ack, std::nullopt, ""},
                {141, 1, Verdict::nack, std::nullopt, "timeout"},
                {142, 1, Verdict::nack, 5000, "later"},
                {143, 1, Verdict::release, std::nullopt, ""},
                {144, 1, Verdict::reject, std::nullopt, "never valid"},
                {145, 1, Verdict::undecodable, std::nullopt, "not an EncodeJob"}}}};
    const std::string answer =
        envelope::answer({.producer = producer, .sequence = 7, .reply_to = "web-1"}, {}, {.payload = "42"});
    expected["commands/settle with an answer"] = {
        Settle{{},
               {{140, 1, Verdict::ack, std::nullopt, "", Slice{std::string{answer}}},
                {141, 1, Verdict::nack, std::nullopt, "timeout"}}}};
    expected["commands/settle that somebody waits for"] = {Settle{{{100, 1, 1}}, {}, true}};
    expected["commands/settled that tells a strict consumer what is decided"] = {Settled{27, {}, 29}};
    expected["commands/settled"] = {Settled{27, {{143, 1, false}, {144, 1, false}}}};
    expected["commands/extend"] = {Extend{{{100, 1, 60000}, {130, 2, 3600000}}}};
    expected["commands/recall"] = {Recall{3}};
    expected["commands/recalled"] = {
        Settle{{}, {{102, 1, Verdict::release, std::nullopt, ""}, {101, 1, Verdict::release, std::nullopt, ""}}},
        Recalled{}};
    expected["commands/state"] = {State{true}};
    expected["commands/peers"] = {Peers{3}};
    expected["commands/cancel"] = {Cancel{{{70001, 70001}, {70005, 70009}}}};
    std::string list;
    for (int i = 0; i < 2; ++i) wire::Writer(list).binary(envelope_of(1, payload).view());
    expected["commands/feed"] = {Feed{.first = 73, .count = 2, .list = Slice{list}}};
    expected["commands/feed that says what was missed"] = {Feed{.first = 80}};
    expected["commands/taken"] = {Taken{79, 12'000, 8'400'000}};
    expected["commands/lost"] = {Lost{{{100, 1, false}, {130, 2, false}}}};
    expected["commands/bye that comes back"] = {Bye{5000, "restart"}};
}

void add_admin(Expected& expected) {
    AdminRequest redrive;
    redrive.id = 1;
    redrive.verb = "dlq_redrive";
    redrive.address = "encode";
    redrive.reason = "max_attempts";
    redrive.ids = {producer.hex() + "-17", producer.hex() + "-18-r1"};
    redrive.from = 9;
    redrive.dry_run = true;
    redrive.max = 50;
    AdminRequest queues;
    queues.id = 2;
    queues.verb = "queues";
    const auto row = [](const char* name, std::uint64_t ready) {
        std::string bytes;
        wire::Writer(bytes).map(2).string("name").string(name).string("ready").unsigned_integer(ready);
        return bytes;
    };
    expected["commands/admin"] = {redrive};
    AdminRequest backup;
    backup.id = 3;
    backup.verb = "backup";
    backup.folder = "/backup/monday";
    AdminRequest purge;
    purge.id = 4;
    purge.verb = "dlq_purge";
    purge.address = "encode";
    purge.type = "EncodeJob";
    purge.headers = {{"lang", "en"}, {"trace", std::nullopt}};
    purge.older_than_ms = 60'000;
    purge.newer_than_ms = 3'600'000;
    purge.text = "no such file";
    expected["commands/admin that filters dead letters"] = {purge};
    AdminRequest edit;
    edit.id = 5;
    edit.verb = "dlq_edit";
    edit.address = "encode";
    edit.ids = {producer.hex() + "-17"};
    edit.change.payload = "cat.mov";
    edit.change.type = "";
    edit.change.headers = {{"lang", "en"}, {"trace", std::nullopt}};
    expected["commands/admin that edits a dead letter"] = {edit};
    expected["commands/admin that asks for queues"] = {queues};
    expected["commands/admin that asks for a backup"] = {backup};
    expected["commands/result"] = {AdminResult{2, {row("encode", 12), row("mail", 0)}, 3, ""}};
    expected["commands/result with an error"] = {AdminResult{1, {}, 0, "no such queue: encode"}};
}

Expected everything() {
    Expected expected;
    add_producer_session(expected);
    add_consumer_session(expected);
    add_hellos_and_welcomes(expected);
    add_commands(expected);
    add_admin(expected);
    return expected;
}

std::string encoded(const std::vector<Command>& commands) {
    std::string pairs;
    for (const Command& command : commands) codec::encode(command, pairs);
    return pairs;
}

std::string_view behind_the_head(std::string_view frame) {
    wire::Reader reader(frame);
    reader.array();
    reader.unsigned_integer();
    reader.unsigned_integer();
    reader.boolean();
    return reader.rest();
}

TEST(CommandVectors, EveryOneReadsAndWritesAsItSays) {
    const json vectors = test::load_vectors("frames.json");
    const Expected expected = everything();
    std::set<std::size_t> kinds;
    std::size_t checked = 0;
    for (const char* group : {"producer_session", "consumer_session", "commands"}) {
        for (const json& vector : vectors[group]) {
            const std::string name = std::string{group} + "/" + vector["name"].get<std::string>();
            SCOPED_TRACE(name);
            ASSERT_TRUE(expected.contains(name));
            const std::vector<Command>& commands = expected.at(name);
            const Slice bytes(from_hex(vector["hex"].get<std::string>()));
            const std::string pairs = to_hex(behind_the_head(bytes.view()));
            EXPECT_EQ(to_hex(encoded(commands)), pairs);

            const auto frame = decode_frame(bytes);
            ASSERT_TRUE(frame);
            EXPECT_EQ(frame->epoch, vector["frame"][0].get<std::uint64_t>());
            EXPECT_EQ(frame->number, vector["frame"][1].get<std::uint64_t>());
            EXPECT_FALSE(frame->more);
            EXPECT_TRUE(frame->unknown.empty());
            EXPECT_EQ(to_hex(encoded(frame->commands)), pairs);
            for (const Command& command : frame->commands) kinds.insert(command.index());
            ++checked;
        }
    }
    EXPECT_EQ(checked, expected.size());
    EXPECT_EQ(kinds.size(), std::variant_size_v<Command>) << "a command has no vector";
}

TEST(CommandVectors, WhatLaterVersionsAddIsSkipped) {
    const json vectors = test::load_vectors("frames.json");
    ASSERT_FALSE(vectors["tolerated"].empty());
    for (const json& vector : vectors["tolerated"]) {
        SCOPED_TRACE(vector["name"].get<std::string>());
        const auto frame = decode_frame(Slice(from_hex(vector["hex"].get<std::string>())));
        ASSERT_TRUE(frame);
        const std::string same = from_hex(vector["reads_as"].get<std::string>());
        EXPECT_EQ(to_hex(encoded(frame->commands)), to_hex(behind_the_head(same)));
    }
}

TEST(CommandVectors, BadOnesAreMalformed) {
    const json vectors = test::load_vectors("frames.json");
    ASSERT_FALSE(vectors["bad"].empty());
    for (const json& vector : vectors["bad"])
        EXPECT_FALSE(decode_frame(Slice(from_hex(vector["hex"].get<std::string>())))) << vector["name"];
}

// A frame made of parts, for what the writer would never write.
template <class Write>
std::optional<Frame> frame_of(std::uint32_t elements, Write&& write) {
    std::string bytes;
    wire::Writer writer(bytes);
    writer.array(elements).unsigned_integer(1).unsigned_integer(1).boolean(false);
    write(writer);
    return decode_frame(Slice(std::move(bytes)));
}

TEST(CommandDecode, AnUnknownCommandKeepsItsNameUpToALimit) {
    const auto frame = frame_of(7, [](wire::Writer& w) {
        w.string("moved").map(1).string("endpoint").string("tcp://elsewhere:1");
        w.string(std::string(500, 'n')).nil();
    });
    ASSERT_TRUE(frame);
    ASSERT_EQ(frame->unknown.size(), 2U);
    EXPECT_EQ(frame->unknown[0].name, "moved");
    EXPECT_EQ(frame->unknown[1].name, std::string(64, 'n'));
    EXPECT_TRUE(frame->commands.empty());
}

TEST(CommandDecode, MissingKeysTakeTheDefaults) {
    const auto frame = frame_of(7, [](wire::Writer& w) { w.string("admin").map(0).string("hello").map(0); });
    ASSERT_TRUE(frame);
    ASSERT_EQ(frame->commands.size(), 2U);
    EXPECT_EQ(std::get<AdminRequest>(frame->commands[0]).max, 1000U);
    const auto& hello = std::get<Hello>(frame->commands[1]);
    EXPECT_EQ(hello.concurrency, 1U);
    EXPECT_TRUE(hello.incarnation.is_zero());
}

TEST(CommandDecode, AHelloMayHaveMoreFieldsThanASmallMap) {
    Hello full = hello(Role::consumer, 1);
    full.producer = host;
    full.resumed = full.strict = full.topic = full.watch = full.temporary = full.exclusive = true;
    full.confirmed = full.oldest = 7;
    full.held = {{41, 3, true}};
    full.bindings.emplace();
    full.keeps_replies = full.needs_replier = full.replier = true;
    full.replies = "web-1";
    const std::string pairs = encoded({full});
    Frame read;
    ASSERT_TRUE(decode_commands(Slice{std::string{pairs}}, read));
    ASSERT_EQ(read.commands.size(), 1U);
    EXPECT_TRUE(std::get<Hello>(read.commands.front()).exclusive) << "the last one";
    EXPECT_EQ(to_hex(encoded(read.commands)), to_hex(pairs));
}

TEST(CommandDecode, AHelloOfAnotherProtocolOrRoleCanBeToldAndRefused) {
    const auto hello_with = [](const char* protocol, const char* role) {
        const auto frame = frame_of(5, [&](wire::Writer& w) {
            w.string("hello").map(3).string("protocol").string(protocol);
            w.string("version").unsigned_integer(2).string("role").string(role);
        });
        return frame ? std::get<Hello>(frame->commands.front()) : Hello{};
    };
    EXPECT_EQ(hello_with("posthorn", "producer").version, 2U);
    EXPECT_EQ(hello_with("amqp", "producer").version, 0U);
    EXPECT_EQ(hello_with("posthorn", "admin").role, Role::admin);
    EXPECT_EQ(hello_with("posthorn", "subscriber").role, Role::unknown);
}

TEST(CommandDecode, TheLastOfARepeatedKeyCounts) {
    const auto frame = frame_of(5, [](wire::Writer& w) {
        w.string("lost").map(2);
        w.string("m")
            .array(2)
            .array(2)
            .unsigned_integer(1)
            .unsigned_integer(1)
            .array(2)
            .unsigned_integer(2)
            .unsigned_integer(1);
        w.string("m").array(1).array(2).unsigned_integer(3).unsigned_integer(1);
    });
    ASSERT_TRUE(frame);
    const auto& items = std::get<Lost>(frame->commands.front()).items;
    ASSERT_EQ(items.size(), 1U);
    EXPECT_EQ(items.front().offset, 3U);
}

TEST(CommandDecode, TextIsCutAtALimitBetweenCharacters) {
    const auto text_read = [](const std::string& text) {
        const auto frame = frame_of(5, [&](wire::Writer& w) { w.string("bye").map(1).string("text").string(text); });
        return frame ? std::get<Bye>(frame->commands.front()).text : "malformed";
    };
    const std::string fitting(text_limit, 'a');
    EXPECT_EQ(text_read(fitting), fitting);
    EXPECT_EQ(text_read(fitting + "b"), fitting);
    // The euro sign is three bytes; it does not fit whole, so it goes whole.
    const std::string near(text_limit - 2, 'a');
    EXPECT_EQ(text_read(near + "\xe2\x82\xac" + "tail"), near);
    const std::string exact(text_limit - 3, 'a');
    EXPECT_EQ(text_read(exact + "\xe2\x82\xac" + "tail"), exact + "\xe2\x82\xac");
    // Not UTF-8 at all: cut all the same.
    EXPECT_LE(text_read(std::string(text_limit * 2, '\x80')).size(), text_limit);
}

TEST(CommandDecode, AFrameHoldsAsManyCommandsAsTheLimitSays) {
    const auto with = [](std::uint32_t commands) {
        return frame_of(3 + 2 * commands, [&](wire::Writer& w) {
            for (std::uint32_t left = commands; left > 0; --left) w.string(left % 2 == 0 ? "identify" : "later").map(0);
        });
    };
    constexpr auto limit = static_cast<std::uint32_t>(commands_limit);
    EXPECT_TRUE(with(limit));
    EXPECT_FALSE(with(limit + 1));
}

TEST(CommandDecode, AllListsOfAFrameShareOneLimit) {
    const auto with = [](std::uint32_t first, std::uint32_t second) {
        return frame_of(7, [&](wire::Writer& w) {
            for (const std::uint32_t entries : {first, second}) {
                w.string("publish").map(1).string("m").array(entries);
                for (std::uint32_t left = entries; left > 0; --left) w.binary("");
            }
        });
    };
    constexpr auto limit = static_cast<std::uint32_t>(entries_limit);
    EXPECT_TRUE(with(limit - 1, 1));
    EXPECT_FALSE(with(limit, 1));
}

TEST(CommandDecode, ACountTheBytesCannotHoldIsRefusedBeforeItIsReserved) {
    const auto frame = frame_of(5, [](wire::Writer& w) {
        w.string("deliver").map(1).string("m").array(10);
        for (int left = 60; left > 0; --left) w.nil();  // enough for ten elements, not for ten deliveries
    });
    EXPECT_FALSE(frame);
}

TEST(CommandDecode, EnvelopesArePartsOfTheFrame) {
    std::string bytes;
    wire::Writer(bytes).array(5).unsigned_integer(1).unsigned_integer(1).boolean(false);
    codec::encode(Publish{{envelope_of(1, "one"), Slice(std::string{})}}, bytes);
    const Slice frame(std::move(bytes));
    const auto decoded = decode_frame(frame);
    ASSERT_TRUE(decoded);
    const auto& envelopes = std::get<Publish>(decoded->commands.front()).envelopes;
    ASSERT_EQ(envelopes.size(), 2U);
    EXPECT_EQ(envelopes[0].view(), envelope_of(1, "one").view());
    EXPECT_GE(envelopes[0].view().data(), frame.view().data());
    EXPECT_LE(envelopes[0].view().data() + envelopes[0].size(), frame.view().data() + frame.size());
    EXPECT_TRUE(envelopes[1].empty());
}

TEST(CommandDecode, IntegersKeepAllTheirBits) {
    const std::string pairs = encoded({Confirm{largest, largest - 1, {{largest, largest}}, {}}});
    Frame frame;
    ASSERT_TRUE(decode_commands(Slice(pairs), frame));
    const Confirm& confirm = std::get<Confirm>(frame.commands.front());
    EXPECT_EQ(confirm.held, largest);
    EXPECT_EQ(confirm.stored, largest - 1);
    EXPECT_THAT(confirm.settled, ElementsAre(SequenceRange{largest, largest}));
}

}  // namespace
}  // namespace posthorn::protocol
