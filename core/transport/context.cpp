#include <posthorn/context.hpp>

#include <string>
#include <utility>

#include "transport/loop.hpp"

namespace posthorn {
namespace {

LogLevel level_of(Event::Kind kind) {
    switch (kind) {
        case Event::Kind::connected:
        case Event::Kind::resumed:
            return LogLevel::info;
        case Event::Kind::damaged:
        case Event::Kind::store_failed:
        case Event::Kind::store_lost_confirmed:
            return LogLevel::error;
        default:
            return LogLevel::warning;
    }
}

std::string line_of(const Event& event) {
    std::string line(to_string(event.kind));
    if (!event.subject.empty()) line += ": " + event.subject;
    if (!event.text.empty()) line += ": " + event.text;
    if (event.count != 0) line += " (" + std::to_string(event.count) + ")";
    return line;
}

}  // namespace

struct Context::Impl {
    explicit Impl(ContextOptions given) : options(std::move(given)), loop(options.clock) {}
    ContextOptions options;  // outlives the loop: what lives there may emit until the end
    transport::Loop loop;
};

Context::Context(ContextOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}

Context::~Context() = default;

transport::Loop& Context::loop() noexcept {
    return impl_->loop;
}

void Context::emit(const Event& event) const {
    if (impl_->options.on_event) impl_->options.on_event(event);
    if (impl_->options.log) impl_->options.log(level_of(event.kind), line_of(event));
}

void Context::log(LogLevel level, std::string_view line) const {
    if (impl_->options.log) impl_->options.log(level, line);
}

}  // namespace posthorn
