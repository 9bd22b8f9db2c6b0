// One command and its bytes: what frames are made of.
#pragma once

#include <cstddef>
#include <string>

#include "envelope/wire.hpp"
#include "protocol/commands.hpp"

namespace posthorn::protocol::codec {

// Appends the name and the body. Fields that have their default value are left out where that default is zero.
void encode(const Command& command, std::string& out);

// Reads one name and body and appends it to `into`. Fails the reader if it is malformed or the frame holds too much.
// `entries_left`: what is left of entries_limit.
void decode(wire::Reader& reader, const Slice& owner, std::size_t& entries_left, Frame& into);

}  // namespace posthorn::protocol::codec
