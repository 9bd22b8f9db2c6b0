// Links and endpoints over the three transports.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <fstream>
#include <future>
#include <memory>
#include <random>

#include <posthorn/policy.hpp>

#include "ends.hpp"

namespace posthorn::transport {
namespace {

using test::Caller;
using test::Echo;
using test::error_of;
using testing::AllOf;
using testing::HasSubstr;

std::string noise(std::size_t size, unsigned seed) {
    std::mt19937 random(seed);
    std::string bytes(size, '\0');
    for (auto& byte : bytes) byte = static_cast<char>(random());
    return bytes;
}

class Links : public testing::TestWithParam<std::string> {
protected:
    std::string any_endpoint() {
        if (GetParam() == "tcp") return "tcp://127.0.0.1:*";
        return GetParam() == "ipc" ? folder_.ipc("socket") : "inproc://somewhere";
    }

    TempFolder folder_;
};

TEST_P(Links, CarryFramesBothWays) {
    Loop loop;
    Echo echo(loop);
    Caller caller(loop);
    loop.connect(caller, loop.bind(echo, any_endpoint()));
    caller.say("hello");
    ASSERT_TRUE(caller.wait_for_answers(1));
    EXPECT_EQ(caller.answers().front(), "hello");
}

// Below and above every size at which libzmq or we change from copying to handing on.
TEST_P(Links, KeepEveryByteOfEverySizeInOrder) {
    Loop loop;
    Echo echo(loop);
    Caller caller(loop);
    loop.connect(caller, loop.bind(echo, any_endpoint()));
    const std::vector<std::size_t> sizes{
        1, 29, 33, 34, 255, 256, 511, 512, 513, 4095, 4096, 8191, 8192, 65536, defaults::frame_limit};
    std::vector<std::string> said;
    for (unsigned round = 0; round < 5; ++round)
        for (const auto size : sizes) said.push_back(noise(size, round));
    for (const auto& text : said) caller.say(text);
    ASSERT_TRUE(caller.wait_for_answers(said.size()));
    EXPECT_TRUE(caller.answers() == said);
}

TEST_P(Links, MayBeOpenedBeforeTheirEndpointIsBound) {
    Loop loop;
    std::string endpoint = any_endpoint();
    {
        Echo first(loop);
        endpoint = loop.bind(first, endpoint);
    }
    Caller caller(loop);
    loop.connect(caller, endpoint);
    caller.say("early");
    ASSERT_TRUE(caller.wait_for_refused_sends(2));
    Echo echo(loop);
    EXPECT_EQ(loop.bind(echo, endpoint), endpoint);
    ASSERT_TRUE(caller.wait_for_answers(1));
    EXPECT_EQ(caller.answers().front(), "early");
}

TEST_P(Links, ComeBackWithTheirEndpoint) {
    Loop loop;
    Caller caller(loop);
    std::string endpoint = any_endpoint();
    for (int life = 0; life < 5; ++life) {
        Echo echo(loop);
        endpoint = loop.bind(echo, endpoint);
        if (life == 0) loop.connect(caller, endpoint);
        ASSERT_TRUE(caller.call("life " + std::to_string(life)));
    }
}

TEST_P(Links, ToTheSameEndpointAreManyPeers) {
    Loop loop;
    Echo echo(loop);
    const auto endpoint = loop.bind(echo, any_endpoint());
    std::vector<std::unique_ptr<Caller>> callers;
    for (int i = 0; i < 60; ++i) {
        callers.push_back(std::make_unique<Caller>(loop));
        loop.connect(*callers.back(), endpoint);
        for (int n = 0; n < 100; ++n) callers.back()->say(std::to_string(i) + "/" + std::to_string(n));
    }
    for (std::size_t i = 0; i < callers.size(); ++i) {
        ASSERT_TRUE(callers[i]->wait_for_answers(100));
        const auto answers = callers[i]->answers();
        for (std::size_t n = 0; n < answers.size(); ++n)
            EXPECT_EQ(answers[n], std::to_string(i) + "/" + std::to_string(n));
    }
    EXPECT_EQ(echo.peers(), 60U);
}

TEST_P(Links, OfTwoParticipantsAreApart) {
    Loop loop;
    Echo quiet(loop);
    Echo asked(loop);
    Caller caller(loop);
    const auto endpoint = loop.bind(asked, any_endpoint());
    loop.bind(quiet, "inproc://quiet");
    loop.connect(caller, endpoint);
    ASSERT_TRUE(caller.call("hello"));
    EXPECT_EQ(quiet.total(), 0U);
}

TEST_P(Links, AnEndpointInUseIsRefused) {
    Loop loop;
    Echo owner(loop);
    Echo second(loop);
    Caller caller(loop);
    const auto endpoint = loop.bind(owner, any_endpoint());
    EXPECT_THAT(error_of([&] { loop.bind(second, endpoint); }), AllOf(HasSubstr(endpoint), HasSubstr("in use")));
    loop.connect(caller, endpoint);
    EXPECT_TRUE(caller.call("the owner still has it"));
}

TEST_P(Links, AnEndpointIsFreeAsSoonAsItsOwnerIsRemoved) {
    Loop loop;
    std::string endpoint = any_endpoint();
    for (int i = 0; i < 50; ++i) {
        Echo owner(loop);
        endpoint = loop.bind(owner, endpoint);
    }
}

INSTANTIATE_TEST_SUITE_P(Transports, Links, testing::Values("tcp", "ipc", "inproc"),
                         [](const auto& test) { return test.param; });

// Sends to whoever spoke to it last until that is refused.
class Nagger : public Participant {
public:
    explicit Nagger(Loop& loop) : loop_(loop) { loop_.add(*this); }
    ~Nagger() override { loop_.remove(*this); }
    Nagger(const Nagger&) = delete;
    Nagger& operator=(const Nagger&) = delete;

    void on_frame(PeerId peer, Slice /*frame*/, Now /*now*/) override { peer_ = peer; }
    Mono turn(Now now) override {
        if (peer_ == 0) return never;
        if (loop_.send(peer_, "still there?")) return now.mono + 5ms;
        peer_ = 0;
        gone.set_value();
        return never;
    }
    std::promise<void> gone;

private:
    Loop& loop_;
    PeerId peer_ = 0;
};

TEST(Link, OfAPeerThatWentAwayRefusesFrames) {
    Loop host;
    Nagger nagger(host);
    const auto endpoint = host.bind(nagger, "tcp://127.0.0.1:*");
    {
        Loop client;
        Caller caller(client);
        client.connect(caller, endpoint);
        caller.say("hello");
        ASSERT_TRUE(caller.wait_for_answers(3));
    }
    EXPECT_EQ(nagger.gone.get_future().wait_for(test::patience), std::future_status::ready);
}

// Says much at once, as soon as its link is up.
class Leaver : public Participant {
public:
    explicit Leaver(Loop& loop) : loop_(loop) { loop_.add(*this); }
    ~Leaver() override { loop_.remove(*this); }
    Leaver(const Leaver&) = delete;
    Leaver& operator=(const Leaver&) = delete;

    void on_frame(PeerId /*peer*/, Slice /*frame*/, Now /*now*/) override {}
    void on_link(PeerId peer, const std::string& /*endpoint*/) override { peer_ = peer; }
    Mono turn(Now now) override {
        if (said_ > 0) return never;
        const std::string text(defaults::frame_limit, 'x');
        if (!loop_.send(peer_, text)) return now.mono + std::chrono::milliseconds(10);
        for (said_ = 1; said_ < frames; ++said_) loop_.send(peer_, text);
        done.set_value();
        return never;
    }
    static constexpr unsigned frames = 100;
    std::promise<void> done;

private:
    Loop& loop_;
    PeerId peer_ = 0;
    unsigned said_ = 0;
};

TEST(Link, CarriesTheLastWordsOfWhoLeaves) {
    Loop loop;
    Caller listener(loop);
    {
        Loop other;
        Leaver leaver(other);
        other.connect(leaver, loop.bind(listener, "tcp://127.0.0.1:*"));
        ASSERT_EQ(leaver.done.get_future().wait_for(test::patience), std::future_status::ready);
    }
    EXPECT_TRUE(listener.wait_for_answers(Leaver::frames)) << listener.answers().size();
}

// Hears the first frame, and the others only after whoever said them has gone and can be told nothing any more.
class LateListener : public Participant {
public:
    explicit LateListener(Loop& loop) : loop_(loop) { loop_.add(*this); }
    ~LateListener() override { loop_.remove(*this); }
    LateListener(const LateListener&) = delete;
    LateListener& operator=(const LateListener&) = delete;

    void on_frame(PeerId peer, Slice /*frame*/, Now /*now*/) override {
        if (heard_.empty()) {
            gone.get_future().wait();
            while (loop_.send(peer, "are you there?")) std::this_thread::yield();
        }
        heard_.push_back(peer);
        if (heard_.size() == Leaver::frames) all.set_value(heard_);
    }
    Mono turn(Now /*now*/) override { return never; }
    std::promise<void> gone;
    std::promise<std::vector<PeerId>> all;

private:
    Loop& loop_;
    std::vector<PeerId> heard_;
};

// Over ipc: tcp answers "are you there?" with a reset, and what was still in the listener's kernel goes with it.
TEST(Link, LastWordsAreOfWhoSaidThemThoughHeIsGone) {
    Loop loop;
    LateListener listener(loop);
    const auto endpoint = loop.bind(listener, "ipc://*");
    {
        Loop other;
        Leaver leaver(other);
        other.connect(leaver, endpoint);
        ASSERT_EQ(leaver.done.get_future().wait_for(test::patience), std::future_status::ready);
    }
    listener.gone.set_value();
    auto heard = listener.all.get_future();
    ASSERT_EQ(heard.wait_for(test::patience), std::future_status::ready);
    EXPECT_THAT(heard.get(), testing::Each(1U));
}

TEST(Link, ToAPeerThatNeverWasIsRefused) {
    Loop loop;
    std::promise<bool> sent;
    loop.post([&] { sent.set_value(loop.send(12345, "hello")); });
    EXPECT_FALSE(sent.get_future().get());
}

// So few descriptors that some links find none, and neither do some of the connections that come in.
TEST(Link, BeyondTheDescriptorsIsRefusedAndDisturbsNobody) {
    Loop loop;
    Echo echo(loop);
    Caller caller(loop);
    const auto endpoint = loop.bind(echo, "tcp://127.0.0.1:*");
    loop.connect(caller, endpoint);
    ASSERT_TRUE(caller.call("before"));

    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
    const rlimit few{100, before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
    std::vector<std::unique_ptr<Caller>> crowd;
    // Links that come up let go of their monitors: there is room again until all of it is taken by links.
    for (int refused = 0; refused < 20;) {
        ASSERT_LT(crowd.size(), 200U);
        auto newcomer = std::make_unique<Caller>(loop);
        const auto error = error_of([&] { loop.connect(*newcomer, endpoint); });
        if (error.empty()) {
            crowd.push_back(std::move(newcomer));
            refused = 0;
            continue;
        }
        EXPECT_THAT(error, AllOf(HasSubstr(endpoint), HasSubstr("too many sockets")));
        ++refused;
        ASSERT_TRUE(caller.call("while the others come up"));
    }
    EXPECT_THAT(error_of([&] { loop.bind(echo, "tcp://127.0.0.1:*"); }), HasSubstr("too many sockets"));
    EXPECT_TRUE(caller.call("while there are none"));
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
    for (const auto& each : crowd) EXPECT_TRUE(each->call("after"));
}

TEST(Bind, NamesWhatIsWrong) {
    Loop loop;
    Echo echo(loop);
    const TempFolder folder;
    const auto error = [&](const std::string& endpoint) { return error_of([&] { loop.bind(echo, endpoint); }); };
    EXPECT_THAT(error("tcp://no-such-interface:*"), AllOf(HasSubstr("no-such-interface"), HasSubstr("no interface")));
    EXPECT_THAT(error("tcp://192.0.2.1:*"), AllOf(HasSubstr("192.0.2.1"), HasSubstr("no interface")));
    EXPECT_THAT(error("tcp://127.0.0.1:http"), HasSubstr("65535"));
    EXPECT_THAT(error(folder.ipc("missing/socket")),
                AllOf(HasSubstr("missing/socket"), HasSubstr("folder does not exist")));
    EXPECT_THAT(error(folder.ipc(std::string(120, 'x'))), HasSubstr("too long"));
    EXPECT_THAT(error("udp://127.0.0.1:5555"), HasSubstr("tcp://HOST:PORT"));
}

TEST(Bind, TakesWildcards) {
    Loop loop;
    Echo echo(loop);
    EXPECT_THAT(loop.bind(echo, "tcp://127.0.0.1:*"), testing::MatchesRegex("tcp://127.0.0.1:[0-9]+"));
    EXPECT_THAT(loop.bind(echo, "tcp://lo:*"), testing::MatchesRegex("tcp://127.0.0.1:[0-9]+"));
    EXPECT_THAT(loop.bind(echo, "ipc://*"), testing::StartsWith("ipc://"));
}

TEST(Bind, TakesOverTheSocketOfADeadProcess) {
    Loop loop;
    Echo echo(loop);
    Caller caller(loop);
    const TempFolder folder;
    const auto path = (folder.path() / "socket").string();
    const int dead = ::socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(dead, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ::close(dead);  // its path stays, as after a kill
    loop.bind(echo, folder.ipc("socket"));
    loop.connect(caller, folder.ipc("socket"));
    EXPECT_TRUE(caller.call("hello"));
}

TEST(Bind, LeavesAPathToTheProcessThatListensThere) {
    Loop theirs;
    Loop ours;
    Echo owner(theirs);
    Echo second(ours);
    Caller caller(ours);
    const TempFolder folder;
    theirs.bind(owner, folder.ipc("socket"));
    EXPECT_THAT(error_of([&] { ours.bind(second, folder.ipc("socket")); }), HasSubstr("in use"));
    ours.connect(caller, folder.ipc("socket"));
    EXPECT_TRUE(caller.call("hello"));
    EXPECT_GE(owner.total(), 1U);
}

TEST(Bind, LeavesAFileThatIsNoSocketAlone) {
    Loop loop;
    Echo echo(loop);
    const TempFolder folder;
    std::ofstream(folder.path() / "notes") << "keep me";
    EXPECT_THAT(error_of([&] { loop.bind(echo, folder.ipc("notes")); }), HasSubstr("not a socket"));
    std::string kept;
    std::getline(std::ifstream(folder.path() / "notes"), kept);
    EXPECT_EQ(kept, "keep me");
}

}  // namespace
}  // namespace posthorn::transport
