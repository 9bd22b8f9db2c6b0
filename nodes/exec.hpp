// Runs the command of `posthorn work --exec`, `subscribe --exec` or `reply --exec` for one message and says what its
// end means.
#pragma once

#include <map>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

namespace posthorn::nodes {

struct Job {
    std::string id;
    unsigned attempt = 1;
    std::uint64_t sequence = 0;
    std::string type;
    std::string subject;
    std::map<std::string, std::string> headers;
    std::string_view payload;
    bool answers = false;  // what it writes to standard output is the answer
};

// The environment of the command: `inherited` ("NAME=value") without what an outer message has set, and the job's
// POSTHORN_ID, POSTHORN_ATTEMPT, POSTHORN_SEQUENCE, POSTHORN_TYPE, POSTHORN_SUBJECT and POSTHORN_HEADER_<NAME>, nothing
// else. <NAME> is the header's in upper case, with an underscore for all but A-Z, 0-9 and underscore; of two headers
// with one name so, the first in byte order counts. A value with a NUL byte cannot stand in an environment: its
// variable is not set.
[[nodiscard]] std::vector<std::string> job_environment(const Job& job, const std::vector<std::string>& inherited);

// The last line that is not blank of what is fed to it, cut at 1 KiB.
class LastLine {
public:
    void feed(std::string_view bytes);
    [[nodiscard]] std::string text() const;

private:
    std::string last_;     // complete
    std::string current_;  // as it grows
};

enum class Outcome {
    ack,
    nack,        // text says why
    reject,      // text says why
    cannot_run,  // the shell did not find the command or may not run it (126, 127)
    terminated,  // by us: `stop` fired
};

struct ExecResult {
    Outcome outcome = Outcome::nack;
    std::string text;
    std::string output{};  // the answer
};

// What a wait status (waitpid) and the last line of standard error mean.
[[nodiscard]] ExecResult judge(int wait_status, const std::string& last_line);

// Runs `command` under sh -c in a process group of its own: payload on its standard input (a file that has all of it
// when the command begins), standard output is ours, or the answer, standard error is passed through to ours. When
// `stop` fires, the group gets SIGTERM, and SIGKILL 5 s later. When this process dies, the shell (or what it has become
// by exec) gets SIGTERM. Throws posthorn::Error when no process can be made. Thread-safe. SIGPIPE has to be ignored
// (signals.hpp does that).
[[nodiscard]] ExecResult run_command(const std::string& command, const Job& job, const std::stop_token& stop);

}  // namespace posthorn::nodes
