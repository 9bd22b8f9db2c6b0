// A link between a client and the host of a simulated world, as long as it is not cut.
#pragma once

#include <cstdint>
#include <deque>
#include <string>

namespace posthorn::sim {

using PeerId = std::uint64_t;

struct Link {
    PeerId at_client = 0;
    PeerId at_host = 0;  // a new one after each cut
    bool up = true;
    std::deque<std::string> to_host;
    std::deque<std::string> to_client;
};

}  // namespace posthorn::sim
