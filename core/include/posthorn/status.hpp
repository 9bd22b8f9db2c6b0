// What a hot call answers. Values, not exceptions: would_block and timed_out are ordinary answers
// (the idea of Aeron's Publication::offer). Exceptions are kept for construction and misuse.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace posthorn {

enum class Status {
    ok,           // done, at the level that was asked for
    would_block,  // no room now, and this thread may not wait
    timed_out,    // not done within the time given; it may still be done later
    no_peer,      // nobody has ever answered at the other end
    too_large,    // above the message limit of this end or of the host
    closed,       // this end was closed
    rejected,     // the host refused the message for good; the ticket tells why
    stale,        // too late: the lease was over, the message may run again
    // Of requests:
    failed,        // the replier says so: an exception, or an answer that is an error
    replier_lost,  // whoever worked on it is gone; it may be done in part or whole, and is not tried again
    no_replier,    // nobody was there to answer it
    cancelled,     // by who asked
};

[[nodiscard]] std::string_view to_string(Status status) noexcept;

// Thrown by constructors and for misuse. The text says what happened, to what, and what to do next.
class Error : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

}  // namespace posthorn
