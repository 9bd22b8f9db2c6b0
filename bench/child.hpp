// Processes of the benchmark: forked before any thread exists, each with a line to its parent.
#pragma once

#include <sys/types.h>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace bench {

// One end of a line between two processes, for short messages. Not thread-safe.
class Line {
public:
    explicit Line(int socket) noexcept : socket_(socket) {}
    ~Line();
    Line(Line&& other) noexcept;
    Line(const Line&) = delete;
    Line& operator=(const Line&) = delete;
    Line& operator=(Line&&) = delete;

    void say(std::string_view words) const;
    // The next message. Throws if the other side has ended or says nothing for two minutes.
    [[nodiscard]] std::string hear() const;
    // From now on what this process writes to standard error is said on the line.
    void take_errors() const;

private:
    int socket_;
};

// Runs `role` in a process of its own. It is killed if it is still there when this object goes.
class Child {
public:
    explicit Child(const std::function<void(const Line&)>& role);
    ~Child();
    Child(const Child&) = delete;
    Child(Child&&) = delete;
    Child& operator=(const Child&) = delete;
    Child& operator=(Child&&) = delete;

    void say(std::string_view words) const { line_.say(words); }
    // Throws what the role threw, if it did.
    [[nodiscard]] std::string hear() const;
    void terminate() const;
    // Waits for its end. Throws unless it ended with status 0.
    void join();

private:
    explicit Child(std::pair<pid_t, int> started) noexcept : pid_(started.first), line_(started.second) {}

    pid_t pid_;
    Line line_;
};

// Nanoseconds on the clock that all processes of a machine share.
[[nodiscard]] std::int64_t monotonic_ns();

}  // namespace bench
