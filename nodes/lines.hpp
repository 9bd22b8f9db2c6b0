// Reading lines of exact bytes, and writing them, on file descriptors: bounded memory, no surprises from signals.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace posthorn::nodes {

// Lines of a descriptor: what stands between newlines, NUL bytes and carriage returns included. A last line without
// newline counts. Holds at most one line and one read.
class LineReader {
public:
    enum class Result {
        line,      // line() is the next one
        too_long,  // it was longer than the limit and has been skipped
        end,
        stopped,  // `stop` became readable first
    };

    // `stop`: a descriptor that interrupts the wait, -1: none.
    LineReader(int descriptor, std::size_t limit, int stop) : descriptor_(descriptor), limit_(limit), stop_(stop) {}

    Result next();  // throws Error when reading fails
    [[nodiscard]] const std::string& line() const noexcept { return line_; }

private:
    enum class Filled { data, end, stopped };
    Filled fill();

    int descriptor_;
    std::size_t limit_;
    int stop_;
    std::string line_;
    std::string read_;      // what the last read gave
    std::size_t used_ = 0;  // of it
};

// All of `bytes`, or false with errno set. Waits where the descriptor is a non-blocking one.
[[nodiscard]] bool write_all(int descriptor, std::string_view bytes) noexcept;

}  // namespace posthorn::nodes
