// Something poll() can wait on and any thread can set: it rings until it is silenced.
#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include <posthorn/status.hpp>

namespace posthorn::transport {

class Bell {
public:
    Bell() : fd_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
        if (fd_ < 0) throw Error("cannot make an event descriptor: " + std::generic_category().message(errno));
    }
    ~Bell() { ::close(fd_); }
    Bell(const Bell&) = delete;
    Bell& operator=(const Bell&) = delete;

    [[nodiscard]] int fd() const noexcept { return fd_; }
    void ring() const noexcept { (void)::eventfd_write(fd_, 1); }  // fails only when it is ringing loudly already
    void silence() const noexcept {
        eventfd_t count = 0;
        (void)::eventfd_read(fd_, &count);
    }
    // For who uses nothing else, one call at a time: rings as long as that is so.
    void show(bool ringing) noexcept {
        if (ringing == std::exchange(shown_, ringing)) return;
        if (ringing) {
            ring();
        } else {
            silence();
        }
    }

private:
    int fd_;
    bool shown_ = false;
};

}  // namespace posthorn::transport
