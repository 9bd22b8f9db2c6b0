// The verbs of the `posthorn` command. Each takes what stands behind its name and throws posthorn::Error; ExitError
// where the error has an exit code of its own.
#pragma once

#include <string>
#include <vector>

#include "exit_codes.hpp"

namespace posthorn::nodes {

Exit run_node(const std::vector<std::string>& arguments);
Exit run_send(const std::vector<std::string>& arguments);
Exit run_work(const std::vector<std::string>& arguments);
Exit run_queues(const std::vector<std::string>& arguments);
Exit run_backup(const std::vector<std::string>& arguments);
Exit run_inspect(const std::vector<std::string>& arguments);
Exit run_dlq(const std::vector<std::string>& arguments);

}  // namespace posthorn::nodes
