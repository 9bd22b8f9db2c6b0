#include "verbs.hpp"

namespace posthorn::nodes {

std::vector<Command> all_commands() {
    return {node_command(),        send_command(),    work_command(),      publish_command(), subscribe_command(),
            unsubscribe_command(), request_command(), reply_command(),     queues_command(),  dlq_command(),
            backup_command(),      inspect_command(), completion_command()};
}

Exit run_command(const Command& command, const std::vector<std::string>& arguments) {
    const Arguments given = parse_arguments(command.verb, command.options, arguments);
    return given.help ? Exit::ok : command.run(command.verb, given);
}

}  // namespace posthorn::nodes
