// What is special to the ends of request-reply beside what conformance asks of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <thread>

#include <posthorn/request_reply.hpp>

#include "fixture.hpp"

namespace posthorn::request_reply {
namespace {

// The guide's Freelance: no broker, and servers of which some are dead.
TEST(RequestReplyEnds, ARequesterThatConnectsToRepliersIsServedByThoseThatLive) {
    Context context;
    std::optional<Replier> dies{std::in_place, context, "s", Home{}, ReplierOptions{.bind = {"tcp://127.0.0.1:*"}}};
    Replier lives{context, "s", Home{}, {.bind = {"tcp://127.0.0.1:*"}}};
    const std::vector<std::string> endpoints{dies->endpoints().front(), lives.endpoints().front()};
    dies.reset();
    Requester requester{context, "s", here({.connect = endpoints}), {.deadline = work_queue::patience}};
    std::jthread serving{[&](const std::stop_token& stop) {
        (void)lives.run([](const Message& request) { return request.payload + "!"; }, until(stop));
    }};
    for (int i = 0; i < 10; ++i) {
        const Reply reply = requester.request(std::to_string(i)).get();
        EXPECT_EQ(reply.status, Status::ok) << reply.error;
        EXPECT_EQ(reply.message.payload, std::to_string(i) + "!");
    }
}

}  // namespace
}  // namespace posthorn::request_reply
