#include "lines.hpp"

#include <array>
#include <cerrno>
#include <cstring>

#include <poll.h>
#include <unistd.h>

#include <posthorn/status.hpp>

namespace posthorn::nodes {

LineReader::Filled LineReader::fill() {
    constexpr std::size_t read_size = 64 * 1024;
    for (;;) {
        std::array<pollfd, 2> waits{{{descriptor_, POLLIN, 0}, {stop_, POLLIN, 0}}};  // a negative one is ignored
        if (::poll(waits.data(), waits.size(), -1) < 0 && errno != EINTR)
            throw Error{std::string{"poll: "} + std::strerror(errno)};
        if (waits[1].revents != 0) return Filled::stopped;
        if (waits[0].revents == 0) continue;
        read_.resize(read_size);
        const auto count = ::read(descriptor_, read_.data(), read_.size());
        if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (count < 0) throw Error{std::string{"cannot read standard input: "} + std::strerror(errno)};
        read_.resize(static_cast<std::size_t>(count));
        used_ = 0;
        return count == 0 ? Filled::end : Filled::data;
    }
}

LineReader::Result LineReader::next() {
    line_.clear();
    bool begun = false;
    bool too_long = false;
    for (;;) {
        if (used_ == read_.size()) {
            const Filled filled = fill();
            if (filled == Filled::stopped) return Result::stopped;
            if (filled == Filled::end && !begun) return Result::end;
            if (filled == Filled::end) return too_long ? Result::too_long : Result::line;
        }
        begun = true;
        const auto newline = read_.find('\n', used_);
        const bool complete = newline != std::string::npos;
        const std::size_t end = complete ? newline : read_.size();
        if (line_.size() + (end - used_) > limit_) too_long = true;
        if (too_long) {
            line_.clear();
        } else {
            line_.append(read_, used_, end - used_);
        }
        used_ = complete ? end + 1 : end;
        if (complete) return too_long ? Result::too_long : Result::line;
    }
}

bool write_all(int descriptor, std::string_view bytes) noexcept {
    while (!bytes.empty()) {
        const auto count = ::write(descriptor, bytes.data(), bytes.size());
        if (count >= 0) {
            bytes.remove_prefix(static_cast<std::size_t>(count));
        } else if (errno == EAGAIN) {
            pollfd wait{descriptor, POLLOUT, 0};
            ::poll(&wait, 1, -1);
        } else if (errno != EINTR) {
            return false;
        }
    }
    return true;
}

}  // namespace posthorn::nodes
