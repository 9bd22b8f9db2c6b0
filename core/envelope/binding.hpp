// Bindings on the wire and in the store, and what they look at in a message.
#pragma once

#include <vector>

#include <posthorn/topic.hpp>

#include "envelope/envelope.hpp"
#include "envelope/wire.hpp"

namespace posthorn::envelope {

void write_bindings(wire::Writer& out, const std::vector<Binding>& bindings);
// Foreign bytes: fails the reader when they are malformed or beyond the limits.
void read_bindings(wire::Reader& in, std::vector<Binding>& bindings);

[[nodiscard]] bool takes_everything(const std::vector<Binding>& bindings) noexcept;
// Whether a subscription with these bindings gets this message, which read_routing() has read before.
[[nodiscard]] bool is_wanted(const std::vector<Binding>& bindings, std::string_view envelope);
// The same of its labels.
[[nodiscard]] bool matches(const std::vector<Binding>& bindings, const Labels& labels) noexcept;

}  // namespace posthorn::envelope
