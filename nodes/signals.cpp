#include "signals.hpp"

#include <cerrno>
#include <cstring>
#include <string>

#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <posthorn/status.hpp>

namespace posthorn::nodes {

namespace {

sigset_t ours() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    return set;
}

}  // namespace

Signals::Signals() {
    const sigset_t set = ours();
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
    descriptor_ = ::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (descriptor_ < 0) throw Error{std::string{"signalfd: "} + std::strerror(errno)};
}

Signals::~Signals() {
    ::close(descriptor_);
}

void Signals::wait() const {
    while (!take()) {
        pollfd wait{descriptor_, POLLIN, 0};
        ::poll(&wait, 1, -1);
    }
}

bool Signals::take() const {
    signalfd_siginfo info{};
    return ::read(descriptor_, &info, sizeof info) == static_cast<ssize_t>(sizeof info);
}

void Signals::give_back() const noexcept {
    const sigset_t set = ours();
    pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

}  // namespace posthorn::nodes
