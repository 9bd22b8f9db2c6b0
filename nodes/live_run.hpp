// What `posthorn subscribe --live` does: write out what comes, and say at the end what has not.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <posthorn/time.hpp>
#include <posthorn/topic.hpp>

#include "cli.hpp"
#include "exit_codes.hpp"
#include "signals.hpp"

namespace posthorn::nodes {

struct LiveOptions {
    std::string topic;
    std::vector<Binding> match;
    std::string endpoint;
    bool raw = false;         // msgpack payloads as they are
    std::uint64_t count = 0;  // messages to take; 0: no end
    std::optional<Duration> idle_exit;
};

// Until a signal, or one of the reasons to end.
Exit run_live(const Verb& verb, LiveOptions options, const Signals& signals);

}  // namespace posthorn::nodes
