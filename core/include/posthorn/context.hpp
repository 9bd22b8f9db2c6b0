// The one object that owns Posthorn's I/O thread and sockets. Make one per process, before the ends that use it, and
// let it go after them. Thread-safe.
#pragma once

#include <memory>
#include <string_view>

#include <posthorn/event.hpp>

namespace posthorn {

namespace transport {
class Clock;
class Loop;
}  // namespace transport

struct ContextOptions {
    EventHook on_event{};  // events of every end made with this context
    LogHook log{};
    std::shared_ptr<transport::Clock> clock{};  // a test's (posthorn/testing.hpp); empty: the system's
};

class Context {
public:
    explicit Context(ContextOptions options = {});
    ~Context();
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;

    // For the ends, not for users.
    [[nodiscard]] transport::Loop& loop() noexcept;
    void emit(const Event& event) const;  // to the event hook, and as a line to the log
    void log(LogLevel level, std::string_view line) const;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace posthorn
