// Whoever may come to a port, or answer at one: none of them may end the process, disturb the others or stay unnamed.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

#include <charconv>
#include <future>
#include <memory>
#include <random>

#include <posthorn/policy.hpp>

#include "ends.hpp"

namespace posthorn::transport {
namespace {

using test::Caller;
using test::Echo;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

std::uint16_t port_of(const std::string& endpoint) {
    const auto text = std::string_view(endpoint).substr(endpoint.rfind(':') + 1);
    std::uint16_t port = 0;
    std::from_chars(text.data(), text.data() + text.size(), port);
    return port;
}

sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    return address;
}

// A plain TCP connection.
class RawTcp {
public:
    explicit RawTcp(const std::string& endpoint) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
        const auto address = loopback(port_of(endpoint));
        const timeval longest{std::chrono::seconds(test::patience).count(), 0};
        ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &longest, sizeof longest);
        if (::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
            throw std::runtime_error("cannot connect to " + endpoint);
    }
    ~RawTcp() { ::close(fd_); }
    RawTcp(const RawTcp&) = delete;
    RawTcp& operator=(const RawTcp&) = delete;

    // False: the other side has closed.
    bool send(std::string_view bytes) const {
        return ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
    }
    // Reads until there are so many bytes or the other side closes.
    [[nodiscard]] std::string read(std::size_t count) const {
        std::string bytes(count, '\0');
        std::size_t have = 0;
        while (have < count) {
            const auto got = ::recv(fd_, bytes.data() + have, count - have, 0);
            if (got <= 0) break;
            have += static_cast<std::size_t>(got);
        }
        bytes.resize(have);
        return bytes;
    }
    // As a DEALER, up to the point where frames may follow.
    [[nodiscard]] bool shake_hands() const;
    [[nodiscard]] bool wait_for_close() const {
        pollfd waiting{fd_, POLLIN, 0};
        const auto end = std::chrono::steady_clock::now() + test::patience;
        std::string bytes(4096, '\0');
        while (std::chrono::steady_clock::now() < end) {
            if (::poll(&waiting, 1, 1000) <= 0) continue;
            if (::recv(fd_, bytes.data(), bytes.size(), 0) <= 0) return true;
        }
        return false;
    }
    // What is under way is thrown away and the other side learns of it as an error.
    void reset() const {
        const linger none{1, 0};
        ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    }

private:
    int fd_;
};

constexpr std::size_t greeting_size = 64;

std::string zmtp_greeting(const std::string& mechanism = "NULL") {
    std::string greeting(greeting_size, '\0');
    greeting[0] = '\xff';
    greeting[9] = '\x7f';
    greeting[10] = 3;
    greeting[11] = 1;
    greeting.replace(12, mechanism.size(), mechanism);
    return greeting;
}

std::string zmtp_ready(const std::string& socket_type) {
    std::string body = "\x05READY";
    body += "\x0bSocket-Type";
    body += std::string(3, '\0') + static_cast<char>(socket_type.size()) + socket_type;
    return std::string("\x04") + static_cast<char>(body.size()) + body;
}

bool RawTcp::shake_hands() const {
    if (!send(zmtp_greeting() + zmtp_ready("DEALER"))) return false;
    const auto theirs = read(greeting_size + 2);
    if (theirs.size() != greeting_size + 2) return false;
    const auto ready_size = static_cast<unsigned char>(theirs.back());
    return read(ready_size).size() == ready_size;
}

// A ZeroMQ socket that is not ours.
class Foreign {
public:
    Foreign(int type, const std::string& endpoint) : context_(zmq_ctx_new()), socket_(zmq_socket(context_, type)) {
        const int none = 0;
        zmq_setsockopt(socket_, ZMQ_LINGER, &none, sizeof none);
        zmq_setsockopt(socket_, ZMQ_SNDTIMEO, &none, sizeof none);
        if (type == ZMQ_SUB) zmq_setsockopt(socket_, ZMQ_SUBSCRIBE, "", 0);
        if (zmq_connect(socket_, endpoint.c_str()) != 0) throw std::runtime_error("cannot connect to " + endpoint);
    }
    ~Foreign() {
        zmq_close(socket_);
        zmq_ctx_term(context_);
    }
    Foreign(const Foreign&) = delete;
    Foreign& operator=(const Foreign&) = delete;

    bool send(const std::string& bytes, int flags = 0) const {
        return zmq_send(socket_, bytes.data(), bytes.size(), flags) >= 0;
    }

private:
    void* context_;
    void* socket_;
};

class Strangers : public testing::Test {
protected:
    Strangers() {
        endpoint_ = host_.bind(echo_, "tcp://127.0.0.1:*");
        clients_.connect(caller_, endpoint_);
    }
    // Both the one who was there before and a newcomer are served as ever.
    void expect_undisturbed() {
        EXPECT_TRUE(caller_.call("the old one"));
        Caller newcomer(clients_);
        clients_.connect(newcomer, endpoint_);
        EXPECT_TRUE(newcomer.call("the new one"));
    }

    // Bytes for which the handshake fails at our side.
    void expect_cut_off(const std::string& bytes, std::string_view words) {
        ASSERT_TRUE(caller_.call("before"));  // a handshake at the same time would leave open which one failed
        const RawTcp stranger(endpoint_);
        stranger.send(bytes);
        EXPECT_TRUE(stranger.wait_for_close());
        EXPECT_TRUE(echo_.strangers.wait_for(words)) << words;
    }

    Loop host_;
    Loop clients_;
    Echo echo_{host_};
    Caller caller_{clients_};
    std::string endpoint_;
};

TEST_F(Strangers, RandomBytes) {
    ASSERT_TRUE(caller_.call("before"));
    std::mt19937 random(7);
    for (int i = 0; i < 300; ++i) {
        const RawTcp stranger(endpoint_);
        std::string bytes = i % 3 == 0   ? std::string()
                            : i % 3 == 1 ? zmtp_greeting()
                                         : zmtp_greeting() + zmtp_ready("DEALER");
        for (auto n = random() % 500; n > 0; --n) bytes += static_cast<char>(random());
        stranger.send(bytes);
        if (i % 2 == 0) stranger.reset();
    }
    expect_undisturbed();
}

TEST_F(Strangers, HttpAndSilence) {
    const RawTcp browser(endpoint_);
    browser.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    const RawTcp silent(endpoint_);
    EXPECT_TRUE(silent.wait_for_close());  // cut off when it does not shake hands
    EXPECT_TRUE(echo_.strangers.wait_for("before the handshake was over"));
    expect_undisturbed();
    ASSERT_THAT(echo_.strangers.events(), SizeIs(1)) << "the other one is folded";
    const auto event = echo_.strangers.events().front();
    EXPECT_EQ(event.kind, Event::Kind::dropped);
    EXPECT_EQ(event.subject, endpoint_);
}

TEST_F(Strangers, WhomOurSideCutsOffIsNamedByCause) {
    expect_cut_off(zmtp_greeting() + zmtp_ready("PUB"), "socket of another type");
    expect_cut_off(zmtp_greeting("CURVE"), "wants keys");
    expect_undisturbed();
    EXPECT_THAT(echo_.strangers.events(), SizeIs(2));
}

// The start of a TLS hello, which is read as a routing id, and then a message of an impossible length. libzmq alone
// says nothing of it.
TEST_F(Strangers, TlsIsNamed) {
    expect_cut_off("\x16\x03\x01\x02" + std::string(100, '\0'), "does not speak ZeroMQ");
    expect_undisturbed();
}

TEST_F(Strangers, PeersThatLeaveAreNone) {
    ASSERT_TRUE(caller_.call("hello"));
    for (int i = 0; i < 20; ++i) {
        std::vector<std::unique_ptr<Caller>> callers;
        for (int n = 0; n < 5; ++n) {
            callers.push_back(std::make_unique<Caller>(clients_));
            clients_.connect(*callers.back(), endpoint_);
        }
        for (const auto& caller : callers) {
            ASSERT_TRUE(caller->call("hello"));
            EXPECT_THAT(caller->strangers.events(), IsEmpty());
        }
    }
    // What happens is told in order: if one of them had been taken for a stranger, that would have come before.
    expect_cut_off(zmtp_greeting("CURVE"), "wants keys");
    EXPECT_THAT(echo_.strangers.events(), SizeIs(1));
}

// Told by libzmq's thread, on which all links depend: it must not wait for a loop that is busy for a while.
TEST_F(Strangers, AFloodIsCountedFoldedAndHoldsNobodyUp) {
    ASSERT_TRUE(caller_.call("before"));
    constexpr int flood = 1000;
    std::promise<void> go;
    auto released = go.get_future();
    host_.post([&] { released.wait(); });
    for (int i = 0; i < flood; ++i) {
        const RawTcp stranger(endpoint_);
        stranger.send("junk");
        if (i % 2 == 0) stranger.reset();
    }
    const RawTcp peer(endpoint_);
    EXPECT_TRUE(peer.shake_hands());
    go.set_value();
    EXPECT_TRUE(echo_.strangers.wait_for("before the handshake was over", flood));
    EXPECT_THAT(echo_.strangers.events(), SizeIs(4)) << "the 1st, 10th, 100th and 1000th";
    expect_undisturbed();
}

TEST_F(Strangers, OtherSocketTypes) {
    const Foreign subscriber(ZMQ_SUB, endpoint_);
    const Foreign pusher(ZMQ_PUSH, endpoint_);
    const Foreign pair(ZMQ_PAIR, endpoint_);
    for (int i = 0; i < 100; ++i) {
        pusher.send("in the wrong place");
        pair.send("here too");
    }
    expect_undisturbed();
    EXPECT_EQ(echo_.peers(), 2U) << "the two that are ours";
}

TEST_F(Strangers, MessagesOfSeveralPartsCountAsEmptyFrames) {
    const Foreign requester(ZMQ_REQ, endpoint_);  // sends an empty part before its message
    ASSERT_TRUE(requester.send("a request"));
    ASSERT_TRUE(echo_.wait_for_empty(1));
    const Foreign dealer(ZMQ_DEALER, endpoint_);
    for (int i = 0; i < 50; ++i) ASSERT_TRUE(dealer.send("part", ZMQ_SNDMORE));
    ASSERT_TRUE(dealer.send("last part"));
    ASSERT_TRUE(echo_.wait_for_empty(2));
    expect_undisturbed();
}

TEST_F(Strangers, OversizedFramesCutTheirSenderOff) {
    ASSERT_TRUE(caller_.call("before"));
    const RawTcp stranger(endpoint_);
    ASSERT_TRUE(stranger.shake_hands());
    std::string header("\x02\0\0\0\0\0\0\0\0", 9);  // a long frame
    header[6] = 0x10;                               // of 1 MiB
    ASSERT_TRUE(stranger.send(header));
    EXPECT_TRUE(stranger.wait_for_close());
    EXPECT_EQ(echo_.peers(), 1U) << "nothing came of it";
    expect_undisturbed();
}

// libzmq 4.3.4 aborts the process for this when a receive pipe is bounded and full: a burst, heartbeats in it, a reset.
TEST_F(Strangers, ABurstWithHeartbeatsAndAReset) {
    std::string burst;
    for (int i = 0; i < 2000; ++i) burst += std::string("\0\x01x", 3) + std::string("\x04\x07\x04PING\0\0", 9);
    std::promise<void> go;
    auto released = go.get_future();
    host_.post([&] { released.wait(); });  // a loop that is busy for a while
    for (int i = 0; i < 50; ++i) {
        const RawTcp stranger(endpoint_);
        ASSERT_TRUE(stranger.shake_hands());
        stranger.send(burst);
        stranger.reset();
    }
    go.set_value();
    test::settle(host_);
    expect_undisturbed();
}

TEST_F(Strangers, WithARoutingIdThatIsTaken) {
    void* context = zmq_ctx_new();
    std::vector<void*> twins;
    for (int i = 0; i < 2; ++i) {
        void* twin = twins.emplace_back(zmq_socket(context, ZMQ_DEALER));
        const int none = 0;
        zmq_setsockopt(twin, ZMQ_LINGER, &none, sizeof none);
        zmq_setsockopt(twin, ZMQ_ROUTING_ID, "twin", 4);
        ASSERT_EQ(zmq_connect(twin, endpoint_.c_str()), 0);
        ASSERT_EQ(zmq_send(twin, "hello", 5, 0), 5);
        if (i > 0) break;
        ASSERT_TRUE(echo_.wait_for_frames(1));  // the first one has the id now
    }
    expect_undisturbed();
    // The first one has kept its link.
    const auto before = echo_.total();
    ASSERT_EQ(zmq_send(twins[0], "again", 5, 0), 5);
    EXPECT_TRUE(echo_.wait_for_frames(before + 1));
    for (void* twin : twins) zmq_close(twin);
    zmq_ctx_term(context);
}

// Listens at a port of its own until it goes, or at the one it is given.
class RawListener {
public:
    explicit RawListener(std::uint16_t port = 0) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
        const int yes = 1;
        ::setsockopt(fd_, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        auto address = loopback(port);
        socklen_t size = sizeof address;
        if (::bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || ::listen(fd_, 5) != 0 ||
            ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size) != 0)
            throw std::runtime_error("cannot listen at port " + std::to_string(port));
        endpoint_ = "tcp://127.0.0.1:" + std::to_string(ntohs(address.sin_port));
    }
    ~RawListener() { ::close(fd_); }
    RawListener(const RawListener&) = delete;
    RawListener& operator=(const RawListener&) = delete;

    [[nodiscard]] const std::string& endpoint() const { return endpoint_; }
    // Says this to the next one who comes, waits until that one has read it if he is to close, and closes.
    void answer(std::string_view bytes, bool wait_for_close) const {
        const int connection = ::accept(fd_, nullptr, nullptr);
        ASSERT_GE(connection, 0);
        EXPECT_EQ(::send(connection, bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
        std::string rest(4096, '\0');
        while (wait_for_close && ::recv(connection, rest.data(), rest.size(), 0) > 0) {
        }
        ::close(connection);
    }

private:
    int fd_;
    std::string endpoint_;
};

// Somebody else was at our host's port when we came; libzmq alone would never try again.
TEST(Link, FindsItsHostWhereJunkAnsweredBefore) {
    Loop loop;
    Caller caller(loop);
    std::string endpoint;
    {
        const RawListener listener;
        endpoint = listener.endpoint();
        loop.connect(caller, endpoint);
        listener.answer(zmtp_greeting() + zmtp_ready("PUB"), true);
    }
    Echo echo(loop);
    loop.bind(echo, endpoint);
    EXPECT_TRUE(caller.call("hello"));
    ASSERT_THAT(caller.strangers.events(), SizeIs(1));
    const auto event = caller.strangers.events().front();
    EXPECT_EQ(event.subject, endpoint);
    EXPECT_THAT(event.text, AllOf(HasSubstr("not a Posthorn process"), HasSubstr("socket of another type")));
}

TEST(Link, NamesWhatAnswersInsteadOfItsHostOnceUntilTheHostDoes) {
    constexpr std::string_view http = "HTTP/1.1 400 Bad Request\r\n\r\n";
    Loop loop;
    Caller caller(loop);
    std::string endpoint;
    {
        const RawListener listener;
        endpoint = listener.endpoint();
        loop.connect(caller, endpoint);
        for (int i = 0; i < 3; ++i) listener.answer(http, false);
    }
    {
        Echo echo(loop);
        loop.bind(echo, endpoint);
        ASSERT_TRUE(caller.call("hello"));
    }
    EXPECT_THAT(caller.strangers.events(), SizeIs(1));
    const RawListener again(port_of(endpoint));
    again.answer("", false);       // so the link is down
    caller.say("anybody there?");  // and this is how one notices
    EXPECT_TRUE(caller.strangers.wait_for_events(2));
    loop.remove(caller);
    EXPECT_THAT(caller.strangers.events(), SizeIs(2));
}

TEST(Link, WhereNobodyListensThereIsNoStranger) {
    Loop loop;
    Caller caller(loop);
    const std::string endpoint = RawListener().endpoint();
    loop.connect(caller, endpoint);
    caller.say("hello?");
    ASSERT_TRUE(caller.wait_for_refused_sends(20));
    Echo echo(loop);
    loop.bind(echo, endpoint);
    ASSERT_TRUE(caller.wait_for_answers(1));
    EXPECT_THAT(caller.strangers.events(), IsEmpty());
    EXPECT_THAT(echo.strangers.events(), IsEmpty());
}

}  // namespace
}  // namespace posthorn::transport
