// The verbs of the `posthorn` command, each declared once: dispatch, help and completion are made of these.
#pragma once

#include <string>
#include <vector>

#include <boost/program_options.hpp>

#include "cli.hpp"
#include "exit_codes.hpp"

namespace posthorn::nodes {

struct Command {
    Verb verb;
    std::string purpose;  // one line, for the list of verbs
    boost::program_options::options_description options;
    Exit (*run)(const Verb&, const Arguments&);  // throws posthorn::Error; ExitError where it has an exit code
};

Command node_command();
Command send_command();
Command publish_command();
Command work_command();
Command subscribe_command();
Command unsubscribe_command();
Command request_command();
Command reply_command();
Command queues_command();
Command dlq_command();
Command backup_command();
Command inspect_command();
Command completion_command();

[[nodiscard]] std::vector<Command> all_commands();

// Takes what stands behind the verb's name.
Exit run_command(const Command& command, const std::vector<std::string>& arguments);

}  // namespace posthorn::nodes
