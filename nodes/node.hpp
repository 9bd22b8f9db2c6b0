// The node: a process that is only a host, with its store on a disk.
#pragma once

#include <string>

#include <posthorn/event.hpp>

#include "config.hpp"
#include "exit_codes.hpp"
#include "host/host.hpp"

namespace posthorn::nodes {

[[nodiscard]] host::Options host_options(const NodeConfig& config);

// Serves until SIGINT or SIGTERM, then drains. Throws posthorn::Error when it cannot start.
Exit serve(const NodeConfig& config);

}  // namespace posthorn::nodes
