// Every field of a message arrives, and the bounds of a policy hold.
#include "fixture.hpp"

namespace posthorn::work_queue {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Fields : public Conformance {};
class FieldsOverLives : public Conformance {
protected:
    [[nodiscard]] static Message whole() {
        return {.payload = "p",
                .type = "job",
                .content_type = "text/plain",
                .headers = {{"k", "v"}},
                .subject = "a.b",
                .correlation_id = "c",
                .traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                .priority = 3,
                .ordering_key = "o",
                .dedup_key = "d"};
    }
    static void expect_whole(const Message& got) {
        const Message sent = whole();
        EXPECT_EQ(got.payload, sent.payload);
        EXPECT_EQ(got.type, sent.type);
        EXPECT_EQ(got.content_type, sent.content_type);
        EXPECT_EQ(got.headers, sent.headers);
        EXPECT_EQ(got.subject, sent.subject);
        EXPECT_EQ(got.correlation_id, sent.correlation_id);
        EXPECT_EQ(got.traceparent, sent.traceparent);
        EXPECT_EQ(got.priority, sent.priority);
        EXPECT_EQ(got.ordering_key, sent.ordering_key);
    }
};
class Strictness : public Conformance {};
class Bounds : public Conformance {
protected:
    void reject_one(Worker& worker) { EXPECT_EQ(take(worker).reject("no good"), Status::ok); }
    // The queue delivers no more than it has when one is dead.
    void expect_blocked_by_one() {
        arrive({{.payload = "1"}});
        Worker one = worker();
        reject_one(one);
        EXPECT_TRUE(event(Event::Kind::dlq_full));
        arrive({{.payload = "2"}});
        EXPECT_TRUE(nothing_comes(one));
    }
};

TEST_P(FieldsOverLives, ArriveAsTheyWereSent) {
    open();
    ASSERT_EQ(send(whole()).wait(patience), Status::ok);
    {
        Worker one = worker();
        Delivery delivery = take(one);
        expect_whole(delivery.message());
        EXPECT_EQ(delivery.release(), Status::ok);
        EXPECT_EQ(one.drain(patience), Status::ok);
    }
    restart();
    Worker one = worker();
    Delivery delivery = take(one);
    expect_whole(delivery.message());
    EXPECT_EQ(delivery.ack_sync(patience), Status::ok);
}

TEST_P(Fields, ADedupKeyIsTakenOnceWithinTheWindow) {
    QueuePolicy short_window = policy();
    short_window.dedup_window = 1h;
    open(short_window);
    arrive({{.payload = "once", .dedup_key = "d"}});
    clock_.advance(30min);  // longer than the default
    arrive({{.payload = "again", .dedup_key = "d"}});
    clock_.advance(30min);
    arrive({{.payload = "later", .dedup_key = "d"}});
    Worker one = worker();
    EXPECT_THAT(take_all(one, 2), ElementsAre("once", "later"));
    EXPECT_TRUE(nothing_comes(one));
}

TEST_P(Strictness, MayBeThePolicysAlone) {
    QueuePolicy strict = policy();
    strict.strict_order = true;
    open(strict);
    arrive({{.payload = "1"}, {.payload = "2"}});
    Worker one = worker();
    EXPECT_EQ(take(one).nack(1h, "not now"), Status::ok);
    EXPECT_TRUE(nothing_comes(one)) << "the one that failed holds up the other";
    clock_.advance(1h);
    EXPECT_THAT(take_all(one, 2), ElementsAre("1", "2"));
}

TEST_P(Bounds, OfBytesRefuseWhatGoesBeyond) {
    QueuePolicy small = policy();
    small.max_bytes = 10'000;
    small.when_full = WhenFull::reject;
    open(small);
    const Ticket kept = send({.payload = std::string(6'000, 'x')});
    const Ticket refused = send({.payload = std::string(6'000, 'x')});
    EXPECT_EQ(refused.wait(patience), Status::rejected);
    EXPECT_THAT(refused.refusal(), HasSubstr("queue_full"));
    Worker one = worker();
    EXPECT_EQ(take(one).ack(), Status::ok);
    EXPECT_EQ(kept.wait(patience), Status::ok);
}

TEST_P(Bounds, OfDeadLettersBlock) {
    QueuePolicy bounded = policy();
    bounded.dlq_max_messages = 1;
    open(bounded);
    expect_blocked_by_one();
}

TEST_P(Bounds, OfTheirBytesBlock) {
    QueuePolicy bounded = policy();
    bounded.dlq_max_bytes = 1;
    open(bounded);
    expect_blocked_by_one();
}

TEST_P(Bounds, OfDeadLettersMayDropTheOldest) {
    QueuePolicy bounded = policy();
    bounded.dlq_max_messages = 1;
    bounded.dlq_when_full = DlqWhenFull::drop_oldest;
    open(bounded);
    arrive(std::vector<Message>(3));
    Worker one = worker();
    for (int i = 0; i < 3; ++i) reject_one(one);
    EXPECT_TRUE(event(Event::Kind::dlq_full));
    EXPECT_EQ(producer().flush(patience), Status::ok);
}

INSTANTIATE_TEST_SUITE_P(Conformance, Fields, ::testing::ValuesIn(everywhere()), ::testing::PrintToStringParamName());
INSTANTIATE_TEST_SUITE_P(Conformance, FieldsOverLives, ::testing::ValuesIn(with_a_store()),
                         ::testing::PrintToStringParamName());
INSTANTIATE_TEST_SUITE_P(Conformance, Strictness, ::testing::ValuesIn(everywhere()),
                         ::testing::PrintToStringParamName());
INSTANTIATE_TEST_SUITE_P(Conformance, Bounds, ::testing::ValuesIn(everywhere()), ::testing::PrintToStringParamName());

}  // namespace
}  // namespace posthorn::work_queue
