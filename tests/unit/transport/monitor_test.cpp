#include "transport/monitor.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace posthorn::transport {
namespace {

using testing::HasSubstr;
using testing::Optional;

TEST(Handshakes, WhatIsCutOffWithoutAWordWasUnfit) {
    Handshakes handshakes;
    handshakes.begun(7);
    EXPECT_THAT(handshakes.over(7), Optional(Handshake::unfit));
}

TEST(Handshakes, WhoHasShakenHandsMayLeave) {
    Handshakes handshakes;
    for (int connection : {7, 8, 7}) {
        handshakes.begun(connection);
        handshakes.succeeded();
    }
    EXPECT_EQ(handshakes.over(8), std::nullopt);
    EXPECT_EQ(handshakes.over(7), std::nullopt);
    EXPECT_EQ(handshakes.over(9), std::nullopt) << "one that was there before we looked";
}

TEST(Handshakes, WhatLibzmqSaysIsOfTheOneThatIsOverNext) {
    Handshakes handshakes;
    handshakes.begun(7);
    handshakes.begun(8);
    handshakes.failed(Handshake::unfinished);
    EXPECT_THAT(handshakes.over(8), Optional(Handshake::unfinished));
    EXPECT_THAT(handshakes.over(7), Optional(Handshake::unfit));
    handshakes.failed(Handshake::wants_keys);
    EXPECT_THAT(handshakes.over(9), Optional(Handshake::wants_keys));
}

TEST(Handshakes, AFailureShowsWhoOfThoseThatCameTogetherSucceeded) {
    Handshakes handshakes;
    handshakes.begun(7);
    handshakes.begun(8);
    handshakes.succeeded();
    handshakes.failed(Handshake::unfinished);
    EXPECT_THAT(handshakes.over(7), Optional(Handshake::unfinished));
    EXPECT_EQ(handshakes.over(8), std::nullopt);
}

TEST(Handshakes, NobodyIsBlamedWhenItIsUnclearWhoSucceeded) {
    Handshakes handshakes;
    handshakes.begun(7);
    handshakes.begun(8);
    handshakes.succeeded();
    EXPECT_EQ(handshakes.over(7), std::nullopt);
    EXPECT_EQ(handshakes.over(8), std::nullopt);
    handshakes.begun(7);
    EXPECT_THAT(handshakes.over(7), Optional(Handshake::unfit)) << "and then it is clear again";
}

TEST(Handshakes, EveryFailureIsExplainedWithTheWayOut) {
    for (const auto failed : {Handshake::unfinished, Handshake::unfit, Handshake::wants_keys}) {
        EXPECT_THAT(std::string(explain(failed, Use::bind)), HasSubstr("only Posthorn's processes belong here"));
        EXPECT_THAT(std::string(explain(failed, Use::connect)), HasSubstr("not a Posthorn process"));
        EXPECT_THAT(std::string(explain(failed, Use::connect)), HasSubstr("check the endpoint"));
    }
}

}  // namespace
}  // namespace posthorn::transport
