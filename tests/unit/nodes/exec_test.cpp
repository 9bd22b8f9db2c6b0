#include "exec.hpp"

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include <fcntl.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit/temp_folder.hpp"

namespace posthorn::nodes {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using testing::UnorderedElementsAre;

int exited(int status) {
    return status << 8;
}  // as waitpid tells it

Job job_with(std::string_view payload) {
    return {"ab-1", 1, 7, "", "", {}, payload};
}

TEST(JobEnvironment, HasTheMessageAndWhatWasThere) {
    const Job job{"ab-1", 3, 7, "encode", "video.new", {{"Lang", "en"}, {"x-retry after", "1=2"}}, ""};
    EXPECT_THAT(job_environment(job, {"PATH=/bin", "POSTHORN_NODE=tcp://x:1"}),
                UnorderedElementsAre("PATH=/bin", "POSTHORN_NODE=tcp://x:1", "POSTHORN_ID=ab-1", "POSTHORN_ATTEMPT=3",
                                     "POSTHORN_SEQUENCE=7", "POSTHORN_TYPE=encode", "POSTHORN_SUBJECT=video.new",
                                     "POSTHORN_HEADER_LANG=en", "POSTHORN_HEADER_X_RETRY_AFTER=1=2"));
}

TEST(JobEnvironment, ForgetsWhatAnOuterMessageSet) {
    const auto variables =
        job_environment(job_with(""), {"POSTHORN_ID=old", "POSTHORN_HEADER_LANG=old", "POSTHORN_ATTEMPT=9",
                                       "POSTHORN_TYPE=old", "POSTHORN_SUBJECT=old", "POSTHORN_IDLE=kept"});
    EXPECT_THAT(variables, UnorderedElementsAre("POSTHORN_ID=ab-1", "POSTHORN_ATTEMPT=1", "POSTHORN_SEQUENCE=7",
                                                "POSTHORN_TYPE=", "POSTHORN_SUBJECT=", "POSTHORN_IDLE=kept"));
}

TEST(JobEnvironment, NoHeaderSetsAnyOtherVariable) {
    const Job job{"ab-1", 1, 7, "", "", {{"PATH", "/evil"}, {"A=B\nPATH", "/evil"}, {"", "x"}, {"\xc3\xa4", "y"}}, ""};
    for (const auto& variable : job_environment(job, {})) EXPECT_THAT(variable, StartsWith("POSTHORN_"));
    EXPECT_THAT(job_environment(job, {}), Contains("POSTHORN_HEADER_A_B_PATH=/evil"));
    EXPECT_THAT(job_environment(job, {}), Contains("POSTHORN_HEADER___=y"));
    EXPECT_THAT(job_environment(job, {}), Not(Contains(StartsWith("POSTHORN_HEADER_="))));
}

TEST(JobEnvironment, OfTwoHeadersWithOneNameTheFirstCounts) {
    const Job job{"ab-1", 1, 7, "", "", {{"a-b", "first"}, {"a_b", "second"}}, ""};
    EXPECT_THAT(job_environment(job, {}), Contains("POSTHORN_HEADER_A_B=first"));
    EXPECT_THAT(job_environment(job, {}), Not(Contains("POSTHORN_HEADER_A_B=second")));
}

TEST(JobEnvironment, LeavesOutValuesWithANulByte) {
    const Job job{"ab-1", 1, 7, std::string("a\0b", 3), std::string("s\0", 2), {{"nul", std::string("c\0d", 3)}}, ""};
    EXPECT_THAT(job_environment(job, {}), ElementsAre("POSTHORN_ID=ab-1", "POSTHORN_ATTEMPT=1", "POSTHORN_SEQUENCE=7"));
}

TEST(LastLineOf, IsTheLastThatIsNotBlank) {
    LastLine last;
    EXPECT_EQ(last.text(), "");
    last.feed("first\nsec");
    EXPECT_EQ(last.text(), "sec");
    last.feed("ond \r\n");
    EXPECT_EQ(last.text(), "second");
    last.feed("\n  \n\t");
    EXPECT_EQ(last.text(), "second");
}

TEST(LastLineOf, IsCutAtOneKiB) {
    LastLine last;
    for (int i = 0; i < 100; ++i) last.feed(std::string(100'000, 'x'));
    EXPECT_EQ(last.text(), std::string(1024, 'x'));
    last.feed("\nshort\n");
    EXPECT_EQ(last.text(), "short");
}

TEST(Judge, TellsEveryEndApart) {
    EXPECT_EQ(judge(exited(0), "noise").outcome, Outcome::ack);
    EXPECT_EQ(judge(exited(65), "bad input").outcome, Outcome::reject);
    EXPECT_EQ(judge(exited(65), "bad input").text, "bad input");
    EXPECT_EQ(judge(exited(126), "").outcome, Outcome::cannot_run);
    EXPECT_EQ(judge(exited(127), "").outcome, Outcome::cannot_run);
    EXPECT_EQ(judge(exited(1), "disk full").outcome, Outcome::nack);
    EXPECT_EQ(judge(exited(1), "disk full").text, "disk full");
    EXPECT_EQ(judge(exited(3), "").text, "exit status 3");
    EXPECT_EQ(judge(SIGKILL, "").outcome, Outcome::nack);
    EXPECT_EQ(judge(SIGKILL, "").text, "killed by signal 9 (SIGKILL)");
}

class RunCommand : public testing::Test {
protected:
    void SetUp() override { std::signal(SIGPIPE, SIG_IGN); }

    std::string file(const std::string& name) const { return (folder_ / name).string(); }
    std::string content(const std::string& name) const {
        std::ostringstream text;
        text << std::ifstream{file(name)}.rdbuf();
        return text.str();
    }
    bool exists(const std::string& name) const { return std::filesystem::exists(folder_ / name); }
    // Until the command has come so far; the test's own time limit ends what never does.
    void wait_for(const std::string& name) const {
        while (!exists(name)) std::this_thread::sleep_for(std::chrono::milliseconds{5});
    }

    TempFolder temporary_;
    std::filesystem::path folder_ = temporary_.path();
};

TEST_F(RunCommand, GivesItThePayloadByteForByte) {
    std::string payload(300'000, 'x');
    payload += std::string("\0\n\xff", 3);
    EXPECT_EQ(run_command("cat > " + file("in"), job_with(payload), {}).outcome, Outcome::ack);
    EXPECT_EQ(content("in"), payload);
}

TEST_F(RunCommand, AnEmptyPayloadIsAnEmptyInput) {
    EXPECT_EQ(run_command("cat > " + file("in"), job_with(""), {}).outcome, Outcome::ack);
    EXPECT_TRUE(exists("in"));
    EXPECT_EQ(content("in"), "");
}

TEST_F(RunCommand, ACommandNeedNotReadItsInput) {
    const std::string payload(5'000'000, 'x');
    EXPECT_EQ(run_command("true", job_with(payload), {}).outcome, Outcome::ack);
    EXPECT_EQ(run_command("exec <&-; exit 65", job_with(payload), {}).outcome, Outcome::reject);
}

TEST_F(RunCommand, SetsTheVariables) {
    const Job job{"ab-7", 2, 7, "", "", {{"who's", "it's $(touch x)"}}, ""};
    const auto result =
        run_command("echo \"$POSTHORN_ID $POSTHORN_ATTEMPT $POSTHORN_HEADER_WHO_S\" >&2; exit 1", job, {});
    EXPECT_EQ(result.outcome, Outcome::nack);
    EXPECT_EQ(result.text, "ab-7 2 it's $(touch x)");
}

TEST_F(RunCommand, TellsHowItEnded) {
    EXPECT_EQ(run_command("echo one >&2; echo two >&2; exit 65", job_with(""), {}).outcome, Outcome::reject);
    EXPECT_EQ(run_command("kill -SEGV $$", job_with(""), {}).text, "killed by signal 11 (SIGSEGV)");
    EXPECT_EQ(run_command("/nonexistent/command", job_with(""), {}).outcome, Outcome::cannot_run);
    EXPECT_EQ(run_command("/dev/null", job_with(""), {}).outcome, Outcome::cannot_run);
}

TEST_F(RunCommand, KeepsTheLastOfALotOfErrors) {
    const auto result = run_command("seq 500 >&2; exit 1", job_with(""), {});
    EXPECT_EQ(result.text, "500");
}

TEST_F(RunCommand, DoesNotWaitForWhatRunsOnInTheBackground) {
    const auto result = run_command("sleep 600 & echo $! > " + file("pid") + "; exit 3", job_with(""), {});
    EXPECT_EQ(result.text, "exit status 3");
    ::kill(std::stoi(content("pid")), SIGKILL);
}

TEST_F(RunCommand, HandsDownNeitherDescriptorsNorSignalsOfOurs) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    const auto result = run_command("ls /proc/self/fd | tr '\\n' ' ' > " + file("fds") +
                                        "; grep -E 'SigBlk|SigIgn' /proc/self/status > " + file("signals"),
                                    job_with("x"), {});
    pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
    ASSERT_EQ(result.outcome, Outcome::ack);
    EXPECT_THAT(content("signals"), HasSubstr("SigBlk:\t0000000000000000"));
    EXPECT_THAT(content("signals"), Not(testing::ContainsRegex("SigIgn:.*[1-9a-f]...$")));
    // 0 to 2 and the one that ls opens; what this process was started with passes through as it would anywhere
    std::istringstream fds{content("fds")};
    int beyond = 0;
    for (int descriptor = 0; fds >> descriptor;) {
        const bool inherited = ::fcntl(descriptor, F_GETFD) == 0;
        if (descriptor > 2 && !inherited) ++beyond;
    }
    EXPECT_LE(beyond, 1) << content("fds");
}

TEST_F(RunCommand, IsEndedWithAllItHasStarted) {
    std::stop_source stop;
    std::jthread stopper{[this, &stop] {
        wait_for("begun");
        stop.request_stop();
    }};
    const auto result = run_command("(trap 'echo ended > " + file("inner") + "; exit' TERM; : > " + file("begun") +
                                        "; while :; do sleep 0.01; done) & wait",
                                    job_with(""), stop.get_token());
    EXPECT_EQ(result.outcome, Outcome::terminated);
    EXPECT_EQ(content("inner"), "ended\n");
}

TEST_F(RunCommand, DoesNotStartWhenItIsStoppedAlready) {
    std::stop_source stop;
    stop.request_stop();
    EXPECT_EQ(run_command("sleep 600", job_with(""), stop.get_token()).outcome, Outcome::terminated);
}

}  // namespace
}  // namespace posthorn::nodes
