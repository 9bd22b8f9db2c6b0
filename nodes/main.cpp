// The `posthorn` command.
#include <algorithm>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

#include "exit_codes.hpp"
#include "verbs.hpp"

namespace {

using posthorn::nodes::Command;
using posthorn::nodes::Exit;

std::string usage(const std::vector<Command>& commands) {
    constexpr std::size_t width = 13;
    std::string text = "usage: posthorn VERB ...\n\n";
    for (const auto& command : commands) {
        const std::string& name = command.verb.name;
        text.append("  ").append(name).append(width - name.size(), ' ').append(command.purpose).append("\n");
    }
    return text + R"(
`posthorn VERB --help` says more. `posthorn --version` says which release this is.
Try it, in two terminals:

  posthorn node
  seq 10 | posthorn send numbers && posthorn work numbers --until-empty

Verbs that talk to a node find it by --node ENDPOINT, else the variable POSTHORN_NODE, else tcp://127.0.0.1:5757.

)" + posthorn::nodes::exit_codes_help;
}

int code(Exit exit) {
    return static_cast<int>(exit);
}

// A descriptor that is opened later must not become what others take for a standard stream. Nobody reads a standard
// output that was closed: what is written there must fail, or messages would be acked that nobody has got.
void open_standard_streams() {
    for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
        if (::fcntl(stream, F_GETFD) < 0) (void)::open("/dev/null", stream == STDERR_FILENO ? O_WRONLY : O_RDONLY);
    }
}

int run(const std::vector<std::string>& words) {
    using namespace posthorn::nodes;
    const std::vector<Command> commands = all_commands();
    if (words.empty()) {
        std::cerr << usage(commands);
        return code(Exit::usage);
    }
    const std::string& verb = words.front();
    if (verb == "--help" || verb == "-h" || verb == "help") {
        std::cout << usage(commands);
        return code(Exit::ok);
    }
    if (verb == "--version") {
        std::cout << "posthorn " POSTHORN_VERSION "\n";
        return code(Exit::ok);
    }
    const auto found =
        std::find_if(commands.begin(), commands.end(), [&](const auto& command) { return command.verb.name == verb; });
    if (found == commands.end()) {
        std::cerr << "posthorn: there is no verb '" << verb << "'; there are";
        for (const auto& command : commands) std::cerr << ' ' << command.verb.name;
        std::cerr << '\n';
        return code(Exit::usage);
    }
    try {
        const Exit exit = run_command(*found, {words.begin() + 1, words.end()});
        if (exit == Exit::ok && !std::cout.flush()) throw posthorn::Error{"cannot write to standard output"};
        return code(exit);
    } catch (const ExitError& error) {
        std::cerr << "posthorn " << verb << ": " << error.what() << '\n';
        return code(error.code());
    } catch (const std::exception& error) {
        std::cerr << "posthorn " << verb << ": " << error.what() << '\n';
        return code(Exit::failed);
    }
}

}  // namespace

int main(int count, char** arguments) {
    open_standard_streams();
    return run({arguments + 1, arguments + count});
}
