// Queues that are full and whose oldest messages make room.
#include "fixture.hpp"

namespace posthorn::work_queue {
namespace {

using ::testing::ElementsAre;

class Overflow : public Conformance {
protected:
    void open_bounded(WhenFull when_full, std::uint64_t messages = 3) {
        QueuePolicy bounded = policy();
        bounded.max_messages = messages;
        bounded.when_full = when_full;
        open(bounded);
    }
    // One after another: each is in the queue before the next is sent.
    void arrive_in_turn(int first, int last) {
        for (int i = first; i <= last; ++i) arrive({{.payload = std::to_string(i)}});
    }
};
class OverflowOverLives : public Overflow {};

TEST_P(Overflow, TheOldestAreDeletedAndNobodyIsRefused) {
    open_bounded(WhenFull::drop_oldest);
    const Ticket oldest = send({.payload = "0"});
    arrive_in_turn(1, 5);
    EXPECT_TRUE(event(Event::Kind::overflow));
    EXPECT_EQ(oldest.wait(patience), Status::ok) << "in memory it is settled, else it was stored";
    Worker one = worker();
    EXPECT_THAT(take_all(one, 3), ElementsAre("3", "4", "5"));
    EXPECT_TRUE(nothing_comes(one));
}

TEST_P(Overflow, TheOldestAreDeadLettered) {
    open_bounded(WhenFull::dead_letter);
    const Ticket oldest = send({.payload = "0"});
    arrive_in_turn(1, 4);  // in memory there is room for as many dead letters as messages, and with those it pauses
    EXPECT_TRUE(event(Event::Kind::overflow));
    EXPECT_EQ(oldest.wait(patience), Status::ok);
    Worker one = worker();
    EXPECT_THAT(take_all(one, 3), ElementsAre("2", "3", "4"));
    EXPECT_TRUE(nothing_comes(one));
}

TEST_P(Overflow, WhatWorkersHoldIsNotTouched) {
    open_bounded(WhenFull::drop_oldest);
    arrive_in_turn(1, 2);
    Worker one = worker({.prefetch = 1});
    Delivery held = take(one);
    arrive_in_turn(3, 9);
    EXPECT_EQ(held.message().payload, "1");
    EXPECT_EQ(held.ack(), Status::ok);
    EXPECT_THAT(take_all(one, 2), ElementsAre("8", "9"));
    EXPECT_TRUE(nothing_comes(one));
}

TEST_P(Overflow, WhereAllIsHeldProducersWait) {
    open_bounded(WhenFull::drop_oldest, 1);
    arrive_in_turn(1, 1);
    Worker one = worker({.prefetch = 1});
    Delivery held = take(one);
    const Ticket next = producer().send(std::vector<Message>{{.payload = "2"}, {.payload = "3"}, {.payload = "4"}});
    EXPECT_EQ(next.wait(50ms), Status::timed_out);
    EXPECT_LT(next.level(), Level::held) << "not all of them are there";
    EXPECT_EQ(held.ack(), Status::ok);
    while (take_all(one, 1).front() != "4") continue;
}

TEST_P(OverflowOverLives, WhatHasGoneDoesNotComeBack) {
    open_bounded(WhenFull::drop_oldest);
    arrive_in_turn(1, 6);
    ASSERT_EQ(producer().flush(patience), Status::ok);
    restart();
    Worker one = worker();
    EXPECT_THAT(take_all(one, 3), ElementsAre("4", "5", "6"));
    EXPECT_TRUE(nothing_comes(one));
}

class MaxAge : public Conformance {
protected:
    void open_aging(WhenFull when_full) {
        QueuePolicy aging = policy();
        aging.max_age = 1h;
        aging.when_full = when_full;
        open(aging);
    }
};
class MaxAgeOverLives : public MaxAge {};

TEST_P(MaxAge, WhatIsOlderIsDeadLettered) {
    open_aging(WhenFull::block);
    arrive({{.payload = "old"}});
    clock_.advance(30min);
    arrive({{.payload = "young"}, {.payload = "brief", .ttl = 1min}});
    clock_.advance(30min);
    EXPECT_TRUE(dead_letter_of("expired"));
    Worker one = worker();
    EXPECT_THAT(take_all(one, 1), ElementsAre("young"));
    EXPECT_TRUE(nothing_comes(one));
}

TEST_P(MaxAge, WhatIsOlderIsDeletedByDropOldest) {
    open_aging(WhenFull::drop_oldest);
    const Ticket old = send({.payload = "old"});
    arrive({{.payload = "as old"}});
    clock_.advance(30min);
    arrive({{.payload = "young"}});
    clock_.advance(30min);
    EXPECT_TRUE(event(Event::Kind::overflow));
    EXPECT_EQ(old.wait(patience), Status::ok);
    Worker one = worker();
    EXPECT_THAT(take_all(one, 1), ElementsAre("young"));
    EXPECT_TRUE(nothing_comes(one));
}

TEST_P(MaxAgeOverLives, RunsOn) {
    open_aging(WhenFull::block);
    arrive({{.payload = "old"}});
    ASSERT_EQ(producer().flush(patience), Status::ok);
    clock_.advance(30min);
    restart();
    arrive({{.payload = "young"}});
    clock_.advance(30min);
    EXPECT_TRUE(dead_letter_of("expired"));
    Worker one = worker();
    EXPECT_THAT(take_all(one, 1), ElementsAre("young"));
    EXPECT_TRUE(nothing_comes(one));
}

INSTANTIATE_TEST_SUITE_P(Conformance, MaxAge, ::testing::ValuesIn(everywhere()), ::testing::PrintToStringParamName());
INSTANTIATE_TEST_SUITE_P(Conformance, MaxAgeOverLives, ::testing::ValuesIn(with_a_store()),
                         ::testing::PrintToStringParamName());
INSTANTIATE_TEST_SUITE_P(Conformance, Overflow, ::testing::ValuesIn(everywhere()), ::testing::PrintToStringParamName());
INSTANTIATE_TEST_SUITE_P(Conformance, OverflowOverLives, ::testing::ValuesIn(with_a_store()),
                         ::testing::PrintToStringParamName());

}  // namespace
}  // namespace posthorn::work_queue
