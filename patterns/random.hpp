// Randomness for what must never be the same twice: producer ids, incarnations, seeds.
#pragma once

#include <cstdint>

#include "envelope/identity.hpp"

namespace posthorn::detail {

[[nodiscard]] Identity random_identity();  // throws Error when the system gives none
[[nodiscard]] std::uint64_t random_number();

}  // namespace posthorn::detail
