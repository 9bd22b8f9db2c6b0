// Request-reply: every request is answered once, by a replier or with the reason why by none.
#include <posthorn/request_reply.hpp>

#include <future>
#include <set>

#include "fixture.hpp"

namespace posthorn::request_reply {
namespace {

using ::testing::HasSubstr;
using work_queue::everywhere;
using work_queue::patience;
using work_queue::with_a_store;

struct Sum {
    int a = 0, b = 0;
    MSGPACK_DEFINE_MAP(a, b)
};
struct Total {
    int sum = 0;
    MSGPACK_DEFINE_MAP(sum)
};

class RequestReply : public work_queue::ConformanceOf<Requester, RequesterOptions> {
protected:
    RequestReply() { producer_options_.deadline = patience; }

    [[nodiscard]] Requester& requester() { return producer(); }
    [[nodiscard]] Replier replier(ReplierOptions options = {}) { return {workers(), "q", queue(), std::move(options)}; }
    [[nodiscard]] static Reply get(std::future<Reply>& future) {
        if (future.wait_for(patience) != std::future_status::ready) throw std::runtime_error("no answer at all");
        return future.get();
    }
    // A replier on a thread of its own.
    class Serving {
    public:
        template <typename F>
        Serving(Replier replier, F handler) : replier_(std::move(replier)) {
            thread_ = std::jthread([this, handler](const std::stop_token& stop) {
                EXPECT_EQ(replier_.run(handler, until(stop)), Status::ok);
            });
        }

    private:
        Replier replier_;
        std::jthread thread_;
    };
};
class RequestReplyOverLives : public RequestReply {};

TEST_P(RequestReply, ManyAreAnsweredByAllRepliers) {
    open();
    const auto add = [](const Sum& sum) { return Total{sum.a + sum.b}; };
    const Serving one{replier({.concurrency = 2}), add};
    const Serving other{replier(), add};
    ASSERT_EQ(requester().wait_for_repliers(2, patience), Status::ok);
    std::vector<std::future<Reply>> futures;
    futures.reserve(300);
    for (int i = 0; i < 300; ++i) futures.push_back(requester().request(Sum{i, 1}));
    std::set<std::string> ids;
    for (int i = 0; i < 300; ++i) {
        const Reply reply = get(futures[static_cast<std::size_t>(i)]);
        ASSERT_EQ(reply.status, Status::ok) << reply.error;
        EXPECT_EQ(reply.as<Total>().value_or(Total{}).sum, i + 1);
        ids.insert(reply.id);
    }
    EXPECT_EQ(ids.size(), 300U);
    EXPECT_EQ(requester().outstanding(), 0U);

    std::promise<Reply> called;
    requester().request(Message{.payload = "no sum", .correlation_id = "c"},
                        [&](Reply reply) { called.set_value(std::move(reply)); });
    auto future = called.get_future();
    const Reply undecodable = get(future);
    EXPECT_EQ(undecodable.status, Status::failed);
    EXPECT_THAT(undecodable.error, HasSubstr("undecodable"));
    EXPECT_EQ(undecodable.message.correlation_id, "c");
}

TEST_P(RequestReply, WhatGoesWrongIsAnAnswer) {
    open();
    const Serving serving{replier(), [](const Message& asked, Delivery& delivery) -> std::string {
                              EXPECT_EQ(delivery.attempt(), 1U);
                              if (asked.payload == "throw") throw std::runtime_error("broken");
                              if (asked.payload == "nack") delivery.nack("by hand");
                              if (asked.payload == "ack") delivery.ack();
                              return asked.payload;
                          }};
    auto thrown = requester().request("throw");
    auto nacked = requester().request("nack");
    auto acked = requester().request("ack");
    auto echoed = requester().request("echo");
    const Reply failure = get(thrown);
    EXPECT_EQ(failure.status, Status::failed);
    EXPECT_EQ(failure.error, "broken");
    const Reply by_hand = get(nacked);
    EXPECT_EQ(by_hand.status, Status::failed);
    EXPECT_EQ(by_hand.error, "by hand");
    const Reply nothing = get(acked);
    EXPECT_EQ(nothing.status, Status::ok);
    EXPECT_EQ(nothing.message.payload, "");
    EXPECT_EQ(get(echoed).message.payload, "echo");
}

TEST_P(RequestReply, TheyMayBeAnsweredLaterAndInAnyOrder) {
    open();
    Replier replies = replier({.concurrency = 2});
    auto first = requester().request("1");
    auto second = requester().request("2");
    Delivery one = take(replies);
    Delivery two = take(replies);
    EXPECT_EQ(two.reply({.payload = "second"}), Status::ok);
    EXPECT_EQ(get(second).message.payload, "second");
    EXPECT_EQ(first.wait_for(0s), std::future_status::timeout);
    EXPECT_EQ(one.fail("first"), Status::ok);
    EXPECT_EQ(get(first).error, "first");
    EXPECT_THROW((void)one.reply({}), Error) << "once";
}

TEST_P(RequestReply, TheDeadlineSaysWhetherAnybodyWasThere) {
    open();
    ASSERT_EQ(requester().wait_for_repliers(0, patience), Status::ok);
    auto alone = requester().request("anybody?", {.deadline = 50ms});
    EXPECT_EQ(get(alone).status, Status::no_replier);
    Replier replies = replier();
    ASSERT_EQ(requester().wait_for_repliers(1, patience), Status::ok);
    auto ignored = requester().request("now?", {.deadline = 50ms});
    EXPECT_EQ(get(ignored).status, Status::timed_out);
    auto answered = requester().request("again?");
    for (;;) {  // it may have been given the others before they were over
        Delivery delivery = take(replies);
        const std::string asked = delivery.message().payload;
        EXPECT_EQ(delivery.reply({.payload = "in time"}), Status::ok);
        if (asked == "again?") break;
    }
    EXPECT_EQ(get(answered).message.payload, "in time");
}

TEST_P(RequestReply, ALateAnswerIsNobodys) {
    open();
    Replier replies = replier();
    std::stop_source stop;
    auto cancelled = requester().request("1", {.cancel = stop.get_token()});
    Delivery delivery = take(replies);
    stop.request_stop();
    EXPECT_EQ(get(cancelled).status, Status::cancelled);
    const Status late = delivery.reply({.payload = "late"});
    EXPECT_TRUE(late == Status::ok || late == Status::stale) << "as it has heard of it or not";
    auto next = requester().request("2");
    EXPECT_EQ(take(replies).reply({.payload = "in time"}), Status::ok);
    EXPECT_EQ(get(next).message.payload, "in time");
}

TEST_P(RequestReply, WithoutAReplierTheyAreRefusedAtOnceIfThatIsAsked) {
    producer_options_.no_replier = NoReplier::at_once;
    open();
    auto future = requester().request("anybody?");
    const Reply reply = get(future);
    EXPECT_EQ(reply.status, Status::no_replier);
    EXPECT_THAT(reply.error, HasSubstr("nobody is there"));
}

TEST_P(RequestReply, WhoAsksMayChangeTheirMindOrGo) {
    open();
    std::stop_source stop;
    auto cancelled = requester().request("1", {.cancel = stop.get_token()});
    auto left = requester().request("2");
    stop.request_stop();
    EXPECT_EQ(get(cancelled).status, Status::cancelled);
    auto at_once = requester().request("3", {.cancel = stop.get_token()});
    EXPECT_EQ(get(at_once).status, Status::cancelled);
    requester().close();
    EXPECT_EQ(get(left).status, Status::closed);
    auto after = requester().request("4");
    EXPECT_EQ(get(after).status, Status::closed);
}

TEST_P(RequestReply, WhoIsAtACancelledOneIsTold) {
    open();
    std::stop_source stop;
    Replier works = replier();
    auto cancelled = requester().request("1", {.cancel = stop.get_token()});
    Delivery delivery = take(works);
    std::promise<void> told;
    const std::stop_callback on_stop{delivery.stop_token(), [&] { told.set_value(); }};
    stop.request_stop();
    EXPECT_EQ(get(cancelled).status, Status::cancelled);
    EXPECT_EQ(told.get_future().wait_for(patience), std::future_status::ready);
}

TEST_P(RequestReply, WhatALostReplierWorkedOnIsAnsweredAndNotBegunAgain) {
    open();
    Replier dies = replier({.name = "one"});
    auto future = requester().request("1");
    const Delivery begun = take(dies);
    Replier next = replier({.name = "one"});  // as if it had died
    EXPECT_EQ(get(future).status, Status::replier_lost);
    EXPECT_TRUE(nothing_comes(next));
}

TEST_P(RequestReply, AReplierThatEndsGivesBackWhatItHasNotBegun) {
    open();
    std::optional<Replier> ends{replier()};
    auto begun = requester().request("1");
    std::optional<Delivery> delivery{take(*ends)};
    auto waits = requester().request("2");
    ends.reset();
    const Reply reply = get(begun);
    EXPECT_EQ(reply.status, Status::failed);
    EXPECT_THAT(reply.error, HasSubstr("ended"));
    EXPECT_EQ(delivery->reply({}), Status::closed);
    Replier next = replier();
    EXPECT_EQ(take(next).reply({.payload = "2"}), Status::ok);
    EXPECT_EQ(get(waits).message.payload, "2");
}

TEST_P(RequestReplyOverLives, ANamedRequesterPicksUpItsAnswersLater) {
    std::mutex mutex;
    std::condition_variable came;
    std::vector<Reply> earlier;
    producer_options_.name = "web";
    producer_options_.earlier = [&](Reply reply) {
        const std::lock_guard lock(mutex);
        earlier.push_back(std::move(reply));
        came.notify_all();
    };
    open();
    auto future = requester().request("1", {.deadline = 1h});
    ASSERT_EQ(requester().wait_for_repliers(0, patience), Status::ok);
    requester().close();
    const std::string id = get(future).id;
    renew_producer();
    restart();
    Replier replies = replier();
    EXPECT_EQ(requester().resumed_at(patience), 1U);
    auto own = requester().request("2");
    EXPECT_EQ(take(replies).reply({.payload = "former"}), Status::ok);
    EXPECT_EQ(take(replies).reply({.payload = "own"}), Status::ok);
    EXPECT_EQ(get(own).message.payload, "own");
    std::unique_lock lock(mutex);
    ASSERT_TRUE(came.wait_for(lock, patience, [&] { return !earlier.empty(); }));
    EXPECT_EQ(earlier[0].message.payload, "former");
    EXPECT_EQ(earlier[0].id, id);
    EXPECT_EQ(earlier[0].status, Status::ok);
}

INSTANTIATE_TEST_SUITE_P(Conformance, RequestReply, ::testing::ValuesIn(everywhere()),
                         ::testing::PrintToStringParamName());
INSTANTIATE_TEST_SUITE_P(Conformance, RequestReplyOverLives, ::testing::ValuesIn(with_a_store()),
                         ::testing::PrintToStringParamName());

}  // namespace
}  // namespace posthorn::request_reply
