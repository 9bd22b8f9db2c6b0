// Worlds of requests: a tenth of the number of the others. POSTHORN_SIM_SEED=n runs that one alone.
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>

#include "sim/requests.hpp"

namespace posthorn::sim {
namespace {

std::string first_fault(std::uint64_t seed, RequestBug bug, RequestTotals& totals) {
    RequestWorld world{seed, bug};
    world.run();
    totals.add(world.totals());
    if (std::getenv("POSTHORN_SIM_SEED") != nullptr && bug == RequestBug::none) std::cout << world.log();
    return world.violations().empty() ? std::string{} : world.violations().front();
}

TEST(RequestWorlds, EveryRequestIsAnsweredOnceAndNoneIsBegunTwice) {
    const char* const one = std::getenv("POSTHORN_SIM_SEED");
    const char* const most = std::getenv("POSTHORN_SIM_SEEDS");
    const std::uint64_t first = one != nullptr ? std::strtoull(one, nullptr, 10) : 1;
    const std::uint64_t last =
        one != nullptr ? first : (most != nullptr ? std::strtoull(most, nullptr, 10) : 1000) / 10;
    RequestTotals totals;
    for (std::uint64_t seed = first; seed <= last; ++seed)
        ASSERT_EQ(first_fault(seed, RequestBug::none, totals), "") << "replay with POSTHORN_SIM_SEED=" << seed;
    std::cout << "requests " << totals.requests << ", begun " << totals.begun << ", answers " << totals.answered
              << ", of them repeated " << totals.repeated << ", ok " << totals.ok << ", failed " << totals.failed
              << ", replier lost " << totals.lost << ", expired " << totals.expired << ", crashes " << totals.crashes
              << ", power cuts " << totals.power_cuts << ", deaths of requesters " << totals.requester_deaths
              << ", of repliers " << totals.replier_deaths << ", disk full " << totals.disk_full << "\n";
    if (one != nullptr || last < 30) return;
    for (const std::uint64_t count : {totals.ok, totals.failed, totals.lost, totals.expired, totals.repeated,
                                      totals.crashes, totals.power_cuts, totals.disk_full})
        EXPECT_GT(count, 0U);
}

class PlantedRequestBug : public ::testing::TestWithParam<RequestBug> {};

TEST_P(PlantedRequestBug, IsCaught) {
    constexpr std::uint64_t tries = 50;
    RequestTotals totals;
    std::string violation;
    std::uint64_t seed = 1;
    while (seed <= tries && violation.empty()) violation = first_fault(seed++, GetParam(), totals);
    EXPECT_NE(violation, "") << "not seen in " << tries << " worlds";
    std::cout << "caught in world " << seed - 1 << ": " << violation << "\n";
}

INSTANTIATE_TEST_SUITE_P(RequestWorlds, PlantedRequestBug,
                         ::testing::Values(RequestBug::answers_forgotten, RequestBug::ends_forgotten,
                                           RequestBug::holders_forgotten));

}  // namespace
}  // namespace posthorn::sim
