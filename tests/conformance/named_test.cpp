// Named producers: the next one of a name goes on where the last one ended.
#include "fixture.hpp"

namespace posthorn::work_queue {
namespace {

using ::testing::ElementsAre;

class Named : public Conformance {
protected:
    Named() {
        producer_options_.name = "importer";
        producer_options_.resume = true;
    }
};

TEST_P(Named, TheNextGoesOnWhereTheLastOneEnded) {
    open();
    EXPECT_EQ(producer().resumed_at(patience), 0U);
    arrive({{.payload = "1"}, {.payload = "2"}});
    {
        Worker one = worker();
        EXPECT_THAT(take_all(one, 2), ElementsAre("1", "2"));
        EXPECT_EQ(one.drain(patience), Status::ok);
    }
    EXPECT_EQ(producer().flush(patience), Status::ok);
    renew_producer();
    EXPECT_EQ(producer().resumed_at(patience), stores() ? 2U : 0U) << "in memory its host has gone with it";
    arrive({{.payload = "3"}});
    renew_producer();
    EXPECT_EQ(producer().resumed_at(patience), stores() ? 3U : 0U);
    Worker one = worker();
    if (stores()) {
        EXPECT_THAT(take_all(one, 1), ElementsAre("3"));
    }
    EXPECT_TRUE(nothing_comes(one));
}

INSTANTIATE_TEST_SUITE_P(Conformance, Named, ::testing::ValuesIn(everywhere()), ::testing::PrintToStringParamName());

}  // namespace
}  // namespace posthorn::work_queue
