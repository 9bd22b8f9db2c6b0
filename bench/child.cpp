#include "child.hpp"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace bench {

namespace {

constexpr int patience_ms = 120'000;
constexpr std::string_view failed = "failed: ";

[[noreturn]] void throw_errno(const char* what) {
    throw std::system_error(errno, std::generic_category(), what);
}

[[noreturn]] void play(const std::function<void(const Line&)>& role, int socket, pid_t parent) {
    // A benchmark that is killed leaves nobody behind.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) std::_Exit(EXIT_FAILURE);
    const Line line{socket};
    try {
        role(line);
        std::_Exit(EXIT_SUCCESS);
    } catch (const std::exception& error) {
        try {
            line.say(std::string(failed) + error.what());
        } catch (const std::exception&) {
            std::cerr << error.what() << std::endl;  // the parent is gone; at least leave the words
        }
        std::_Exit(EXIT_FAILURE);
    }
}

std::pair<pid_t, int> start(const std::function<void(const Line&)>& role) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) throw_errno("socketpair");
    const pid_t parent = ::getpid();
    const pid_t pid = ::fork();
    if (pid < 0) throw_errno("fork");
    if (pid == 0) {
        ::close(ends[0]);
        play(role, ends[1], parent);
    }
    ::close(ends[1]);
    return {pid, ends[0]};
}

}  // namespace

Line::~Line() {
    if (socket_ >= 0) ::close(socket_);
}

Line::Line(Line&& other) noexcept : socket_(std::exchange(other.socket_, -1)) {}

void Line::say(std::string_view words) const {
    if (::send(socket_, words.data(), words.size(), MSG_NOSIGNAL) < 0)
        throw_errno("a process of the benchmark is gone");
}

std::string Line::hear() const {
    pollfd wait{socket_, POLLIN, 0};
    const int ready = ::poll(&wait, 1, patience_ms);
    if (ready < 0) throw_errno("poll");
    if (ready == 0) throw std::runtime_error("a process of the benchmark has said nothing for two minutes");
    std::array<char, 4096> words{};
    const ssize_t size = ::recv(socket_, words.data(), words.size(), 0);
    if (size < 0) throw_errno("recv");
    if (size == 0) throw std::runtime_error("a process of the benchmark has ended before its time");
    return {words.data(), static_cast<std::size_t>(size)};
}

void Line::take_errors() const {
    if (::dup2(socket_, STDERR_FILENO) < 0) throw_errno("dup2");
}

Child::Child(const std::function<void(const Line&)>& role) : Child(start(role)) {}

Child::~Child() {
    if (pid_ < 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
}

std::string Child::hear() const {
    std::string words = line_.hear();
    if (words.starts_with(failed)) throw std::runtime_error(words.substr(failed.size()));
    return words;
}

void Child::terminate() const {
    ::kill(pid_, SIGTERM);
}

void Child::join() {
    int status = 0;
    if (::waitpid(std::exchange(pid_, -1), &status, 0) < 0) throw_errno("waitpid");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != EXIT_SUCCESS)
        throw std::runtime_error("a process of the benchmark did not end as it should");
}

std::int64_t monotonic_ns() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

}  // namespace bench
