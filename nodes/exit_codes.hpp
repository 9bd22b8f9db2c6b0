// What the `posthorn` command tells the shell. Every --help lists these.
#pragma once

#include <stdexcept>

#include <posthorn/status.hpp>

namespace posthorn::nodes {

enum class Exit {
    ok = 0,
    failed = 1,             // something went wrong; the text on standard error says what and what to do
    usage = 2,              // the command line or the configuration is wrong; nothing was done
    unreachable = 3,        // no answer from the node
    unconfirmed = 4,        // send, publish: not all messages were stored
    refused = 5,            // the node said no: unknown queue, another protocol version, ...
    cannot_run = 6,         // work, subscribe, reply --exec: the command cannot be run (it ended with 126 or 127)
    failed_answer = 7,      // request: answered by an error
    no_answer_in_time = 8,  // request: not answered by its deadline, or nobody was there to do it
    replier_lost = 9,       // request: whoever worked on it is gone
};

inline constexpr const char* exit_codes_help =
    R"(Exit codes:
  0  done
  1  failed; standard error says why
  2  wrong usage or configuration; nothing was done
  3  no answer from the node
  4  send, publish: not all messages were confirmed; standard error has the number
  5  the node refused: unknown queue, another protocol version, ...
  6  work, subscribe, reply --exec: the command cannot be run (it ended with 126 or 127)
  7  request: answered by an error
  8  request: no answer in time, or nobody to give one
  9  request: the replier that worked on it was lost
)";

// An error that has an exit code of its own; any other posthorn::Error is Exit::failed.
class ExitError : public Error {
public:
    ExitError(Exit code, const std::string& text) : Error(text), code_(code) {}
    [[nodiscard]] Exit code() const noexcept { return code_; }

private:
    Exit code_;
};

}  // namespace posthorn::nodes
