#include "envelope/envelope.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "envelope/wire.hpp"
#include "support/mutate.hpp"
#include "support/vectors.hpp"

namespace posthorn::envelope {
namespace {

using nlohmann::json;
using test::from_hex;
using test::to_hex;
using testing::HasSubstr;

Envelope from_json(const json& fields) {
    Envelope envelope;
    const auto text = [&](const char* key) { return fields.value(key, std::string{}); };
    const auto number = [&](const char* key) { return fields.value(key, std::uint64_t{0}); };
    EXPECT_TRUE(Identity::from_bytes(from_hex(text("producer")), envelope.producer));
    envelope.sequence = number("sequence");
    envelope.previous = fields.contains("previous") ? number("previous") : envelope.sequence - 1;
    envelope.timestamp_ms = number("timestamp");
    envelope.message.ordering_key = text("ordering_key");
    envelope.message.priority = static_cast<std::uint8_t>(number("priority"));
    envelope.message.delay = std::chrono::milliseconds{number("delay")};
    envelope.message.ttl = std::chrono::milliseconds{number("ttl")};
    envelope.reply_to = text("reply_to");
    envelope.status = text("status");
    envelope.message.dedup_key = text("dedup_key");
    Message& message = envelope.message;
    message.subject = text("subject");
    message.type = text("type");
    message.correlation_id = text("correlation_id");
    message.content_type = text("content_type");
    message.traceparent = text("traceparent");
    if (fields.contains("headers")) message.headers = fields["headers"].get<decltype(message.headers)>();
    message.payload = from_hex(text("payload"));
    return envelope;
}

void expect_same(const Envelope& got, const Envelope& want) {
    EXPECT_EQ(got.producer, want.producer);
    EXPECT_EQ(got.sequence, want.sequence);
    EXPECT_EQ(got.previous, want.previous);
    EXPECT_EQ(got.timestamp_ms, want.timestamp_ms);
    EXPECT_EQ(got.message.ordering_key, want.message.ordering_key);
    EXPECT_EQ(got.message.priority, want.message.priority);
    EXPECT_EQ(got.message.delay, want.message.delay);
    EXPECT_EQ(got.message.ttl, want.message.ttl);
    EXPECT_EQ(got.reply_to, want.reply_to);
    EXPECT_EQ(got.status, want.status);
    EXPECT_EQ(got.message.dedup_key, want.message.dedup_key);
    EXPECT_EQ(got.message.subject, want.message.subject);
    EXPECT_EQ(got.message.type, want.message.type);
    EXPECT_EQ(got.message.correlation_id, want.message.correlation_id);
    EXPECT_EQ(got.message.content_type, want.message.content_type);
    EXPECT_EQ(got.message.traceparent, want.message.traceparent);
    EXPECT_EQ(got.message.headers, want.message.headers);
    EXPECT_EQ(got.message.payload, want.message.payload);
}

std::string encoded(const Envelope& envelope) {
    std::string out;
    encode(envelope, out);
    return out;
}

Envelope valid() {
    Envelope envelope;
    envelope.producer.bytes.fill(7);
    envelope.sequence = 9;
    envelope.previous = 8;
    return envelope;
}

TEST(EnvelopeVectors, GoodOnesReadAndWriteAsTheySay) {
    const json vectors = test::load_vectors("envelopes.json");
    ASSERT_FALSE(vectors["good"].empty());
    for (const json& vector : vectors["good"]) {
        SCOPED_TRACE(vector["name"].get<std::string>());
        const std::string hex = vector["hex"];
        const std::string bytes = from_hex(hex);
        const Envelope expected = from_json(vector["envelope"]);

        const auto read = decode(bytes);
        ASSERT_TRUE(read);
        expect_same(*read, expected);
        const auto routing = read_routing(bytes);
        ASSERT_TRUE(routing);
        EXPECT_EQ(routing->producer, expected.producer);
        EXPECT_EQ(routing->sequence, expected.sequence);
        EXPECT_EQ(routing->previous, expected.previous);
        EXPECT_EQ(to_hex(encoded(expected)), vector.value("canonical", hex));
        EXPECT_EQ(invalid(expected), std::nullopt);
    }
}

TEST(EnvelopeVectors, BadOnesAreRefused) {
    const json vectors = test::load_vectors("envelopes.json");
    ASSERT_FALSE(vectors["bad"].empty());
    for (const json& vector : vectors["bad"])
        EXPECT_FALSE(decode(from_hex(vector["hex"].get<std::string>()))) << vector["name"];
}

TEST(EnvelopeVectors, CutAnywhereTheyAreRefused) {
    const json vectors = test::load_vectors("envelopes.json");
    for (const json& vector : vectors["good"]) {
        const std::string bytes = from_hex(vector["hex"].get<std::string>());
        for (std::size_t size = 0; size < bytes.size(); ++size) {
            const std::string_view cut = std::string_view{bytes}.substr(0, size);
            EXPECT_FALSE(decode(cut)) << vector["name"] << " cut at " << size;
            EXPECT_FALSE(read_routing(cut)) << vector["name"] << " cut at " << size;
        }
    }
}

TEST(EnvelopeRouting, RefusesDamageInFieldsItDoesNotGiveBack) {
    Envelope envelope = valid();
    envelope.message.subject = "a";
    const std::string bytes = encoded(envelope);
    ASSERT_TRUE(read_routing(bytes));
    std::string unused_code = bytes;
    unused_code[bytes.size() - 2] = '\xc1';
    EXPECT_FALSE(read_routing(unused_code));
    std::string descending = bytes;
    descending[bytes.size() - 3] = '\x02';  // the key of the subject
    EXPECT_FALSE(read_routing(descending));
}

std::size_t size_of(const Envelope& envelope) {
    const Message& message = envelope.message;
    std::size_t size = message.payload.size() + message.subject.size() + message.type.size() +
                       message.content_type.size() + message.correlation_id.size() + message.traceparent.size() +
                       envelope.message.ordering_key.size() + envelope.reply_to.size() +
                       envelope.message.dedup_key.size() + envelope.status.size();
    for (const auto& [key, value] : message.headers) size += key.size() + value.size();
    return size;
}

TEST(EnvelopeDamage, GivesAnAnswerThatIsNoLargerThanTheBytes) {
    const json vectors = test::load_vectors("envelopes.json");
    test::Mutator mutate(2);
    std::size_t survived = 0;
    for (int round = 0; round < 40'000; ++round) {
        const json& vector = vectors["good"][mutate.below(vectors["good"].size())];
        const std::string bytes = mutate(from_hex(vector["hex"].get_ref<const std::string&>()));
        const auto read = decode(bytes);
        if (!read) continue;
        ++survived;
        ASSERT_LE(size_of(*read), bytes.size());
        ASSERT_TRUE(read_routing(bytes)) << to_hex(bytes);
        ASSERT_EQ(invalid(*read), std::nullopt) << to_hex(bytes);
        const auto again = decode(encoded(*read));
        ASSERT_TRUE(again) << to_hex(bytes);
        expect_same(*again, *read);
    }
    EXPECT_GT(survived, 1000U);
}

TEST(EnvelopeLimits, AreNamedToTheSenderAndRefusedByTheReader) {
    const std::string long_text(text_limit + 1, 'x');
    const auto fault = [](const Envelope& envelope) {
        EXPECT_FALSE(decode(encoded(envelope)));
        return invalid(envelope).value_or("");
    };
    const auto with = [&](auto&& change) {
        Envelope envelope = valid();
        change(envelope);
        return fault(envelope);
    };
    EXPECT_THAT(with([&](Envelope& e) { e.message.subject = long_text; }), HasSubstr("subject is longer than 1 KiB"));
    EXPECT_THAT(with([&](Envelope& e) { e.message.type = long_text; }), HasSubstr("type"));
    EXPECT_THAT(with([&](Envelope& e) { e.message.content_type = long_text; }), HasSubstr("content type"));
    EXPECT_THAT(with([&](Envelope& e) { e.message.correlation_id = long_text; }), HasSubstr("correlation id"));
    EXPECT_THAT(with([&](Envelope& e) { e.message.traceparent = long_text; }), HasSubstr("traceparent"));
    EXPECT_THAT(with([&](Envelope& e) { e.message.ordering_key = long_text; }), HasSubstr("ordering key"));
    EXPECT_THAT(with([&](Envelope& e) { e.reply_to = long_text; }), HasSubstr("reply-to"));
    EXPECT_THAT(with([&](Envelope& e) { e.message.dedup_key = long_text; }), HasSubstr("dedup key"));
    EXPECT_THAT(with([&](Envelope& e) { e.message.headers[long_text] = ""; }), HasSubstr("header key"));
    EXPECT_THAT(with([&](Envelope& e) { e.message.headers["k"] = std::string(headers_limit, 'v'); }),
                HasSubstr("headers are longer than 64 KiB"));
    EXPECT_THAT(with([&](Envelope& e) { e.message.priority = priority_limit + 1; }), HasSubstr("priority"));
    EXPECT_THAT(with([&](Envelope& e) { e.sequence = 0; }), HasSubstr("sequence"));
    EXPECT_THAT(with([&](Envelope& e) { e.previous = e.sequence; }), HasSubstr("previous"));
}

TEST(EnvelopeLimits, ThemselvesAreAllowed) {
    Envelope envelope = valid();
    envelope.message.subject = std::string(text_limit, 's');
    envelope.message.headers["k"] = std::string(headers_limit - 1, 'v');
    envelope.message.priority = priority_limit;
    envelope.message.payload = std::string(1024 * 1024, 'p');
    EXPECT_EQ(invalid(envelope), std::nullopt);
    const auto read = decode(encoded(envelope));
    ASSERT_TRUE(read);
    expect_same(*read, envelope);
}

TEST(EnvelopeEncode, AppendsBehindWhatIsThere) {
    std::string out = "before";
    encode(valid(), out);
    EXPECT_EQ(out, "before" + encoded(valid()));
}

class ChangeTest : public ::testing::Test {
protected:
    static std::string bytes_of(const Envelope& envelope) {
        std::string bytes;
        encode(envelope, bytes);
        return bytes;
    }
    static std::string fault(const Envelope& envelope, const Change& change) {
        const Changed result = changed(bytes_of(envelope), change);
        EXPECT_TRUE(result.bytes.empty());
        return result.fault;
    }

    Envelope sent = [] {
        Envelope envelope;
        envelope.producer.bytes.fill(7);
        envelope.sequence = 9;
        envelope.previous = 4;
        envelope.timestamp_ms = 1000;
        envelope.reply_to = "answers";
        envelope.message = {.payload = "old", .type = "A", .headers = {{"lang", "en"}, {"size", "1"}}, .subject = "s"};
        envelope.message.ttl = 5s;
        return envelope;
    }();
};

TEST_F(ChangeTest, WhatIsNotNamedStays) {
    const Changed result = changed(bytes_of(sent), {.payload = "new", .headers = {{"lang", "de"}, {"size", {}}}});
    EXPECT_EQ(result.fault, "");
    const auto got = decode(result.bytes);
    ASSERT_TRUE(got);
    Envelope want = sent;
    want.message.payload = "new";
    want.message.headers = {{"lang", "de"}};
    expect_same(*got, want);
    EXPECT_EQ(result.bytes, bytes_of(want));
}

TEST_F(ChangeTest, WhatBecomesEmptyGoes) {
    const Changed result =
        changed(bytes_of(sent), {.payload = "", .type = "", .headers = {{"lang", {}}, {"size", {}}}});
    Envelope want = sent;
    want.message.payload = want.message.type = "";
    want.message.headers.clear();
    EXPECT_EQ(result.bytes, bytes_of(want));
}

TEST_F(ChangeTest, FieldsOfLaterVersionsStay) {
    std::string bytes;
    wire::Writer writer(bytes);
    writer.map(5).unsigned_integer(0).unsigned_integer(1).unsigned_integer(1).binary(sent.producer.view());
    writer.unsigned_integer(2).unsigned_integer(9).unsigned_integer(20).string("later").unsigned_integer(1000).nil();
    const Changed result = changed(bytes, {.payload = "new"});
    std::string want;
    wire::Writer more(want);
    more.map(6).unsigned_integer(0).unsigned_integer(1).unsigned_integer(1).binary(sent.producer.view());
    more.unsigned_integer(2).unsigned_integer(9).unsigned_integer(20).string("later");
    more.unsigned_integer(31).binary("new").unsigned_integer(1000).nil();
    EXPECT_EQ(to_hex(result.bytes), to_hex(want));
}

TEST_F(ChangeTest, WhatWouldNotBeAnEnvelopeIsRefusedByName) {
    EXPECT_THAT(fault(sent, {.type = std::string(text_limit + 1, 'x')}), HasSubstr("type is longer than 1 KiB"));
    EXPECT_THAT(fault(sent, {.headers = {{std::string(text_limit + 1, 'x'), ""}}}), HasSubstr("header key"));
    EXPECT_THAT(fault(sent, {.headers = {{"x", std::string(headers_limit, 'x')}}}), HasSubstr("64 KiB"));
    sent.message.content_type = msgpack_content_type;
    EXPECT_THAT(fault(sent, {.payload = "{\"path\":1}"}), HasSubstr("is not one msgpack value"));
    EXPECT_EQ(changed(bytes_of(sent), {.payload = "\x81\xa1p\x01"}).fault, "");
    EXPECT_EQ(changed(bytes_of(sent), {.type = "B"}).fault, "") << "an old payload is as it was";
    EXPECT_THAT(changed("\xc1", {.payload = "x"}).fault, HasSubstr("cannot be read"));
}

TEST(Answer, RepeatsWhatTellsTheRequesterWhichOneItIs) {
    Envelope request = valid();
    request.reply_to = "web-1";
    request.message.correlation_id = "c-1";
    request.message.ordering_key = "cat";
    const Request read = read_request(encoded(request));
    EXPECT_EQ(read.reply_to, "web-1");
    Envelope want{.producer = request.producer, .sequence = request.sequence, .previous = request.sequence - 1};
    want.reply_to = "web-1";
    want.status = status::failed;
    want.message.correlation_id = "c-1";
    want.message.payload = "no such cat";
    const auto got = decode(answer(
        read, status::failed, {.payload = "no such cat", .correlation_id = "mine", .delay = 1s, .dedup_key = "k"}));
    ASSERT_TRUE(got);
    expect_same(*got, want);
}

TEST(MessageId, NamesProducerSequenceAndRedrives) {
    Identity producer;
    producer.bytes.front() = 0xab;
    producer.bytes.back() = 0x01;
    EXPECT_EQ(producer.hex(), "ab000000000000000000000000000001");
    EXPECT_EQ(message_id(producer, 17, 0), "ab000000000000000000000000000001-17");
    EXPECT_EQ(message_id(producer, 17, 2), "ab000000000000000000000000000001-17-r2");
}

TEST(Envelope, TimeToLiveIsRoutedRoundedUpAndBounded) {
    Envelope envelope;
    envelope.producer.bytes.fill(1);
    envelope.sequence = 1;
    const auto routed = [&] {
        std::string bytes;
        encode(envelope, bytes);
        return read_routing(bytes).value().ttl;
    };
    EXPECT_EQ(routed(), 0s);
    envelope.message.ttl = 1500us;
    EXPECT_EQ(routed(), 2ms);
    envelope.message.ttl = duration_limit;
    EXPECT_EQ(routed(), duration_limit);
    EXPECT_EQ(invalid(envelope), std::nullopt);
    envelope.message.ttl += 1ms;
    EXPECT_EQ(routed(), duration_limit);
    EXPECT_THAT(invalid(envelope).value_or(""), HasSubstr("ttl"));
    envelope.message.ttl = -1ns;
    EXPECT_THAT(invalid(envelope).value_or(""), HasSubstr("ttl"));
}

}  // namespace
}  // namespace posthorn::envelope
