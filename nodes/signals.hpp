// SIGINT and SIGTERM as something to wait for. Make one before any other thread, so that all of them leave these two
// signals to it. SIGPIPE is ignored from then on: a write to a closed pipe is an error value, not a death.
#pragma once

#include <csignal>

namespace posthorn::nodes {

class Signals {
public:
    Signals();
    ~Signals();
    Signals(const Signals&) = delete;
    Signals& operator=(const Signals&) = delete;

    [[nodiscard]] int descriptor() const noexcept { return descriptor_; }  // readable when one has come
    void wait() const;                                                     // until one comes, and takes it
    [[nodiscard]] bool take() const;                                       // takes one that has come; false: none has
    void give_back() const noexcept;  // from now on, on this thread, they do what they would without us

private:
    int descriptor_ = -1;
};

}  // namespace posthorn::nodes
