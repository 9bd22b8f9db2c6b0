#include "transport/endpoint.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "ends.hpp"

namespace posthorn::transport {
namespace {

using test::error_of;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(Endpoint, KnowsItsScheme) {
    EXPECT_EQ(check_endpoint("tcp://127.0.0.1:5757", Use::connect), Scheme::tcp);
    EXPECT_EQ(check_endpoint("tcp://[::1]:5757", Use::connect), Scheme::tcp);
    EXPECT_EQ(check_endpoint("tcp://*:*", Use::bind), Scheme::tcp);
    EXPECT_EQ(check_endpoint("ipc:///run/posthorn", Use::bind), Scheme::ipc);
    EXPECT_EQ(check_endpoint("inproc://here", Use::bind), Scheme::inproc);
}

TEST(Endpoint, RefusesWhatIsNoneAndNamesItAndTheForms) {
    for (const auto* wrong :
         {"", "localhost:5757", "tcp:/127.0.0.1:1", "pgm://239.0.0.1:1", "http://host:80", "TCP://a:1"})
        for (const auto use : {Use::bind, Use::connect})
            EXPECT_THAT(error_of([&] { check_endpoint(wrong, use); }),
                        AllOf(HasSubstr(wrong), HasSubstr("tcp://HOST:PORT")));
    for (const auto* wrong : {"tcp://", "tcp://:5757", "ipc://", "inproc://"})
        EXPECT_THAT(error_of([&] { check_endpoint(wrong, Use::bind); }), AllOf(HasSubstr(wrong), HasSubstr("missing")));
}

TEST(Endpoint, RefusesPortsThatAreNone) {
    for (const auto* wrong : {"tcp://host", "tcp://host:", "tcp://host:0", "tcp://host:65536", "tcp://host:-1",
                              "tcp://host:1x", "tcp://host:99999999999999999999"})
        EXPECT_THAT(error_of([&] { check_endpoint(wrong, Use::bind); }), AllOf(HasSubstr(wrong), HasSubstr("65535")));
    EXPECT_THAT(error_of([] { check_endpoint("tcp://host:*", Use::connect); }), HasSubstr("65535"));
    EXPECT_THAT(error_of([] { check_endpoint("tcp://*:5757", Use::connect); }), HasSubstr("name the host"));
}

TEST(Endpoint, SaysWhatIsReachableFromElsewhere) {
    for (const auto* far : {"tcp://*:5757", "tcp://0.0.0.0:5757", "tcp://[::]:5757", "tcp://192.168.1.2:1",
                            "tcp://eth0:1", "tcp://example.org:1", "whatever"})
        EXPECT_TRUE(beyond_loopback(far)) << far;
    for (const auto* near : {"tcp://127.0.0.1:5757", "tcp://127.1.2.3:*", "tcp://localhost:1", "tcp://[::1]:1",
                             "tcp://lo:1", "ipc:///run/posthorn", "inproc://here"})
        EXPECT_FALSE(beyond_loopback(near)) << near;
}

TEST(Endpoint, ErrorsNameTheEndpointAndTheWayOut) {
    const std::string text = endpoint_error("tcp://*:80", Use::bind, EADDRINUSE).what();
    EXPECT_EQ(text, "cannot bind tcp://*:80: the address is in use; stop the process that has it or choose another");
    EXPECT_THAT(endpoint_error("tcp://a:1", Use::connect, EIO).what(),
                AllOf(HasSubstr("tcp://a:1"), HasSubstr("nput/output")));
}

TEST(Endpoint, PathsThatAreFreeAreFree) {
    const TempFolder folder;
    EXPECT_THAT(error_of([&] { check_path_free(folder.ipc("nothing-there")); }), IsEmpty());
    EXPECT_THAT(error_of([] { check_path_free("ipc://*"); }), IsEmpty());
    EXPECT_THAT(error_of([] { check_path_free("ipc://@abstract"); }), IsEmpty());
}

}  // namespace
}  // namespace posthorn::transport
