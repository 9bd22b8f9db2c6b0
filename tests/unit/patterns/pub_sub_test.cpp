// The ends of a live topic: what is refused when they are made, several publishers, subscribers that bind.
#include <posthorn/pub_sub.hpp>

#include <poll.h>

#include "fixture.hpp"

namespace posthorn::pub_sub {
namespace {

using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;
using work_queue::patience;

struct Tick {
    int number = 0;
    MSGPACK_DEFINE_MAP(number)
};

class PubSubEnds : public ::testing::Test {
protected:
    template <typename Make>
    static void says(Make make, const std::string& words) {
        EXPECT_THAT(work_queue::fault_of(make), HasSubstr(words));
    }

    work_queue::Events events_;
    Context context_{events_.hook()};
};

TEST_F(PubSubEnds, SayWhatIsWrong) {
    const Home home = here({.bind = "inproc://t"});
    says([&] { Publisher(context_, "a/b", home); }, "not a queue name");
    says([&] { Publisher(context_, "t", here({.bind = "inproc://t", .store = "./s"})); }, "keeps nothing");
    says([&] { Publisher(context_, "t", here({.bind = "inproc://t", .live = {.max_messages = 0}})); }, "max_messages");
    says([&] { Publisher(context_, "t", here({.bind = "inproc://t", .live = {.when_full = WhenFull::reject}})); },
         "drop_oldest or block");
    says([&] { Subscriber(context_, "t", home); }, "give at(");
    says([&] { Subscriber(context_, "t", Home{}); }, "at(");
    says([&] { Subscriber(context_, "t/s", at("inproc://t")); }, "not a topic's name");
    says([&] { Subscriber(context_, "t", at("inproc://t"), {.buffer_messages = 0}); }, "buffer_messages is 0");
    says([&] { Subscriber(context_, "t", at("inproc://t"), {.match = {{.subject = std::string(300, 'a')}}}); }, "255");
}

TEST_F(PubSubEnds, ManyPublishersConnectToASubscriberThatBinds) {
    Subscriber subscriber{context_, "t", Home{}, {.bind = {"tcp://127.0.0.1:*"}}};
    const Home home = here({.connect = {subscriber.endpoints().at(0)}});
    Publisher one{context_, "t", home};
    Publisher other{context_, "t", home};
    for (Publisher* publisher : {&one, &other}) {
        ASSERT_EQ(publisher->wait_for_subscribers(1, patience), Status::ok);
        publisher->send(publisher == &one ? "one" : "other");
    }
    std::vector<std::string> seen;
    while (seen.size() < 2) seen.push_back(subscriber.receive(patience)->payload);
    EXPECT_THAT(seen, UnorderedElementsAre("one", "other"));
    EXPECT_EQ(subscriber.connected(), 2U);
    EXPECT_EQ(subscriber.matched(), 2U);
}

TEST_F(PubSubEnds, ATypedHandlerGoesOnBehindWhatIsNotOfItsType) {
    Publisher publisher{context_, "t", here({.bind = "inproc://t"})};
    Subscriber subscriber{context_, "t", at("inproc://t")};
    ASSERT_EQ(publisher.wait_for_subscribers(1, patience), Status::ok);
    publisher.send("no msgpack");
    publisher.send(Tick{7});
    std::stop_source stop;
    int seen = 0;
    const auto handler = [&](const Tick& tick) {
        seen = tick.number;
        stop.request_stop();
    };
    EXPECT_EQ(subscriber.run(handler, until(stop.get_token())), Status::ok);
    EXPECT_EQ(seen, 7);
    EXPECT_TRUE(events_.wait(Event::Kind::dropped));
    EXPECT_EQ(subscriber.received(), 2U);
}

TEST_F(PubSubEnds, ADescriptorSaysWhenThereIsAMessage) {
    Publisher publisher{context_, "t", here({.bind = "inproc://t"})};
    Subscriber subscriber{context_, "t", at("inproc://t")};
    pollfd ready{subscriber.ready_fd(), POLLIN, 0};
    ASSERT_EQ(publisher.wait_for_subscribers(1, patience), Status::ok);
    EXPECT_EQ(::poll(&ready, 1, 0), 0);
    publisher.send("x");
    ASSERT_EQ(::poll(&ready, 1, static_cast<int>(patience / 1ms)), 1);
    EXPECT_EQ(subscriber.receive(0ms)->payload, "x");
    EXPECT_EQ(::poll(&ready, 1, 0), 0);
    subscriber.close();
    EXPECT_EQ(::poll(&ready, 1, 0), 1);
    EXPECT_EQ(subscriber.receive(patience).status(), Status::closed);
    EXPECT_THROW((void)subscriber.run([](const Message&) {}), Error) << "one way or the other";
}

TEST_F(PubSubEnds, CloseEndsARunningOne) {
    Publisher publisher{context_, "t", here({.bind = "inproc://t"})};
    Subscriber subscriber{context_, "t", at("inproc://t")};
    ASSERT_EQ(publisher.wait_for_subscribers(1, patience), Status::ok);
    publisher.send("x");
    EXPECT_EQ(subscriber.run([&](const Message&) { subscriber.close(); }, until(std::stop_token{})), Status::ok);
    EXPECT_EQ(subscriber.run([](const Message&) {}, until(std::stop_token{})), Status::closed);
}

}  // namespace
}  // namespace posthorn::pub_sub
