#include "lines.hpp"

#include <array>
#include <cerrno>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace posthorn::nodes {
namespace {

using testing::ElementsAre;

class Lines : public testing::Test {
protected:
    void SetUp() override { ASSERT_EQ(::pipe2(pipe_.data(), O_CLOEXEC), 0); }
    void TearDown() override {
        ::close(pipe_[0]);
        if (pipe_[1] >= 0) ::close(pipe_[1]);
    }
    void close_writer() {
        ::close(pipe_[1]);
        pipe_[1] = -1;
    }
    // All lines of `input`, "<too long>" for those that are.
    std::vector<std::string> lines_of(const std::string& input, std::size_t limit) {
        std::jthread writer{[&] {
            EXPECT_TRUE(write_all(pipe_[1], input));
            close_writer();
        }};
        LineReader reader{pipe_[0], limit, -1};
        std::vector<std::string> lines;
        for (auto result = reader.next(); result != LineReader::Result::end; result = reader.next())
            lines.push_back(result == LineReader::Result::line ? reader.line() : "<too long>");
        return lines;
    }

    std::array<int, 2> pipe_{-1, -1};
};

TEST_F(Lines, AreExactBytes) {
    EXPECT_THAT(lines_of(std::string("a\n\nb\r\n\0c\n", 9), 100), ElementsAre("a", "", "b\r", std::string("\0c", 2)));
}

TEST_F(Lines, TheLastNeedsNoNewline) {
    EXPECT_THAT(lines_of("a\nb", 100), ElementsAre("a", "b"));
}

TEST_F(Lines, NothingIsNoLine) {
    EXPECT_THAT(lines_of("", 100), ElementsAre());
}

TEST_F(Lines, MayBeLongerThanARead) {
    const std::string one(1'000'000, 'x');
    EXPECT_THAT(lines_of(one + "\ny\n", one.size()), ElementsAre(one, "y"));
}

TEST_F(Lines, TooLongOnesAreSkippedWhole) {
    const std::string one(1'000'000, 'x');
    EXPECT_THAT(lines_of("a\n" + one + "\n" + "123456\n12345\n" + one, 5),
                ElementsAre("a", "<too long>", "<too long>", "12345", "<too long>"));
}

TEST_F(Lines, TheWaitCanBeStopped) {
    const int stop = ::eventfd(0, EFD_CLOEXEC);
    LineReader reader{pipe_[0], 100, stop};
    ::eventfd_write(stop, 1);
    EXPECT_EQ(reader.next(), LineReader::Result::stopped);
    ::close(stop);
}

TEST_F(Lines, WritingToAClosedPipeIsAnError) {
    std::signal(SIGPIPE, SIG_IGN);
    ::close(pipe_[0]);
    EXPECT_FALSE(write_all(pipe_[1], "x"));
    EXPECT_EQ(errno, EPIPE);
    std::signal(SIGPIPE, SIG_DFL);
    pipe_[0] = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
}

TEST_F(Lines, WritingWaitsWhereTheDescriptorDoesNot) {
    ASSERT_EQ(::fcntl(pipe_[1], F_SETFL, O_NONBLOCK), 0);
    const std::string input(1'000'000, 'y');  // far more than the pipe holds
    EXPECT_THAT(lines_of(input, input.size()), ElementsAre(input));
}

}  // namespace
}  // namespace posthorn::nodes
