// Messages with one ordering key are worked on one at a time, in their order.
#include <algorithm>
#include <atomic>
#include <latch>
#include <map>

#include "fixture.hpp"

namespace posthorn::work_queue {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

class Keys : public Conformance {
protected:
    [[nodiscard]] static Message of(std::string key, std::string payload, std::uint8_t priority = 0) {
        return {.payload = std::move(payload), .priority = priority, .ordering_key = std::move(key)};
    }
    [[nodiscard]] static std::string payload_of(const Delivery& delivery) { return delivery.message().payload; }
};
class KeysOverLives : public Keys {};

TEST_P(Keys, OneMessageOfAKeyAtATimeWhileOtherKeysGoOn) {
    open();
    constexpr int each = 50;
    const std::vector<std::string> keys{"a", "b", "c"};
    std::vector<Message> messages;
    messages.reserve(static_cast<std::size_t>(each) * 3);
    for (const std::string& key : keys) {
        for (int i = 0; i < each; ++i) messages.push_back(of(key, std::to_string(i)));
    }
    arrive(messages);
    std::latch all_keys{3};  // the first of each is there before any goes on
    std::map<std::string, std::atomic<int>> active;
    for (const std::string& key : keys) active[key] = 0;
    Log<std::pair<std::string, int>> begun;
    {
        const auto runs = running({.concurrency = 6}, [&](Delivery& delivery) {
            const Message& message = delivery.message();
            EXPECT_EQ(++active.at(message.ordering_key), 1) << message.ordering_key;
            begun.add({message.ordering_key, std::stoi(message.payload)});
            if (message.payload == "0") all_keys.arrive_and_wait();
            --active.at(message.ordering_key);
        });
        (void)begun.wait(keys.size() * each);
    }
    std::map<std::string, int> next;
    for (const auto& [key, number] : begun.now()) EXPECT_EQ(number, next[key]++) << key;
    EXPECT_THAT(next, ElementsAre(Pair("a", each), Pair("b", each), Pair("c", each)));
}

TEST_P(Keys, AFailedOneHoldsUpItsKeyAndNobodyElse) {
    open();
    arrive({of("a", "a1"), of("a", "a2"), of("b", "b1"), of("b", "b2"), of("", "none")});
    Worker one = worker({.concurrency = 10});
    Delivery a = take(one);
    Delivery b = take(one);
    Delivery none = take(one);
    EXPECT_EQ(payload_of(a) + payload_of(b) + payload_of(none), "a1b1none");
    EXPECT_EQ(a.nack(1h, "not now"), Status::ok);
    EXPECT_EQ(none.ack(), Status::ok);
    EXPECT_EQ(b.ack(), Status::ok);
    EXPECT_THAT(take_all(one, 1), ElementsAre("b2"));
    EXPECT_TRUE(nothing_comes(one)) << "a1 waits, and a2 behind it";
    clock_.advance(1h);
    Delivery again = take(one);
    EXPECT_EQ(payload_of(again), "a1");
    EXPECT_EQ(again.attempt(), 2U);
    EXPECT_TRUE(nothing_comes(one)) << "it is out";
    EXPECT_EQ(again.ack(), Status::ok);
    EXPECT_THAT(take_all(one, 1), ElementsAre("a2"));
}

TEST_P(Keys, ADeadLetterIsOutOfTheLine) {
    open();
    arrive({of("a", "a1"), of("a", "a2")});
    Worker one = worker();
    EXPECT_EQ(take(one).reject("no good"), Status::ok);
    EXPECT_THAT(take_all(one, 1), ElementsAre("a2"));
    EXPECT_TRUE(dead_letter_of("rejected"));
}

TEST_P(Keys, TheirOrderBeatsPriority) {
    open();
    arrive({of("a", "first", 1), of("a", "second", 9), of("", "other", 5)});
    Worker one = worker();
    EXPECT_THAT(take_all(one, 3), ElementsAre("other", "first", "second"));
}

TEST_P(Keys, WhatAWorkerLeavesUnsettledComesFirst) {
    open();
    arrive({of("a", "a1"), of("a", "a2"), of("b", "b1"), of("a", "a3")});
    std::vector<Delivery> left;  // outlives its worker: what is dropped while that lives is nacked
    {
        Worker first = worker({.concurrency = 2});
        left.push_back(take(first));
        left.push_back(take(first));
        EXPECT_EQ(payload_of(left[0]) + payload_of(left[1]), "a1b1");
    }
    Worker second = worker({.prefetch = 1});
    Delivery again = take(second);
    EXPECT_EQ(payload_of(again), "a1");
    EXPECT_EQ(again.attempt(), 1U) << "given back, not failed";
    EXPECT_EQ(again.ack(), Status::ok);
    EXPECT_THAT(take_all(second, 3), ElementsAre("a2", "b1", "a3"));
}

TEST_P(Keys, ALeaseThatIsOverFreesTheKeyForTheSameMessage) {
    QueuePolicy short_leases = policy();
    short_leases.lease = short_leases.lease_cap = 1min;
    open(short_leases);
    arrive({of("a", "a1"), of("a", "a2")});
    Worker hangs = worker({.concurrency = 2});
    Delivery hung = take(hangs);
    clock_.advance(2min);
    Delivery again = take(hangs);
    EXPECT_EQ(payload_of(again), "a1");
    EXPECT_NE(hung.ack(), Status::ok) << "too late";
    EXPECT_EQ(again.ack(), Status::ok);
    EXPECT_THAT(take_all(hangs, 1), ElementsAre("a2"));
}

// More of each than the queue keeps in memory, with priorities that pull them apart.
std::vector<Message> long_lines(int each) {
    std::vector<Message> messages;
    messages.reserve(static_cast<std::size_t>(each) * 3);
    for (int i = 0; i < each; ++i) {
        for (const char* key : {"a", "b", "c"}) {
            messages.push_back({.payload = std::to_string(i),
                                .priority = static_cast<std::uint8_t>((i * 7) % (priority_limit + 1)),
                                .ordering_key = key});
        }
    }
    return messages;
}

TEST_P(Keys, LongLinesKeepTheirOrderThoughSomeFail) {
    open();
    constexpr int each = 1000;
    arrive(long_lines(each));
    Log<std::pair<std::string, int>> done;
    const auto runs = running({.concurrency = 4}, [&](Delivery& delivery) {
        const int number = std::stoi(delivery.message().payload);
        if (number % 100 == 0 && delivery.attempt() == 1) throw std::runtime_error("once more");
        done.add({delivery.message().ordering_key, number});
    });
    std::map<std::string, int> next;
    for (const auto& [key, number] : done.wait(3U * each)) ASSERT_EQ(number, next[key]++) << key;
    EXPECT_THAT(next, ElementsAre(Pair("a", each), Pair("b", each), Pair("c", each)));
}

TEST_P(KeysOverLives, LongLinesKeepTheirOrderOverARestart) {
    open();
    constexpr int each = 1000;
    arrive(long_lines(each));
    ASSERT_EQ(producer().flush(patience), Status::ok);
    Log<std::pair<std::string, int>> handled;
    Log<std::string> last;
    const auto runs = running({.concurrency = 4}, [&](Delivery& delivery) {
        const Message& message = delivery.message();
        handled.add({message.ordering_key, std::stoi(message.payload)});
        if (message.payload == std::to_string(each - 1)) last.add(message.ordering_key);
    });
    (void)handled.wait(300);
    restart();
    for (const char* key : {"a", "b", "c"}) {
        EXPECT_TRUE(last.wait_for([key](const std::string& one) { return one == key; })) << key;
    }
    // What was not yet known to be done may come again, and nothing is left out.
    std::map<std::string, int> next;
    for (const auto& [key, number] : handled.now()) {
        ASSERT_LE(number, next[key]) << key;
        next[key] = std::max(next[key], number + 1);
    }
}

TEST_P(KeysOverLives, WhatIsOutHoldsUpItsKeyOverARestart) {
    open();
    arrive({of("a", "a1"), of("b", "b1"), of("a", "a2")});
    ASSERT_EQ(producer().flush(patience), Status::ok);
    Worker holds = worker({.concurrency = 2});
    Delivery out = take(holds);
    ASSERT_EQ(payload_of(out), "a1");
    EXPECT_EQ(take(holds).ack_sync(patience), Status::ok) << "and what it holds is on the disk with that";
    restart();
    Worker other = worker();
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (!other.host_empty()) {  // there is nothing to wait on
        ASSERT_LT(std::chrono::steady_clock::now(), deadline);
        std::this_thread::yield();
    }
    EXPECT_TRUE(nothing_comes(other));
    EXPECT_EQ(out.ack_sync(patience), Status::ok) << "its worker lives";
    EXPECT_EQ(holds.drain(patience), Status::ok);
    EXPECT_THAT(take_all(other, 1), ElementsAre("a2"));
}

INSTANTIATE_TEST_SUITE_P(Conformance, Keys, ::testing::ValuesIn(everywhere()), ::testing::PrintToStringParamName());
INSTANTIATE_TEST_SUITE_P(Conformance, KeysOverLives, ::testing::ValuesIn(with_a_store()),
                         ::testing::PrintToStringParamName());

}  // namespace
}  // namespace posthorn::work_queue
