// The `posthorn` command.
#include <exception>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

#include "exit_codes.hpp"
#include "verbs.hpp"

namespace {

using posthorn::nodes::Exit;

constexpr const char* usage =
    R"(usage: posthorn VERB ...

  node     run a node: queues on disk that outlive producers and workers
  send     send messages, from arguments or lines of standard input
  work     take messages: write them out, or run a command for each
  queues   list queues, how full they are and what happened in them
  dlq      look at dead letters, send them back or delete them
  backup   have a running node copy its store
  inspect  look into the data folder of a node that is stopped

`posthorn VERB --help` says more. `posthorn --version` says which release this is.
Try it, in two terminals:

  posthorn node
  seq 10 | posthorn send numbers && posthorn work numbers --until-empty

All but node and inspect talk to one: --node ENDPOINT, else the variable POSTHORN_NODE, else tcp://127.0.0.1:5757.

)";

int code(Exit exit) {
    return static_cast<int>(exit);
}

// A descriptor that is opened later must not become what others take for a standard stream.
void open_standard_streams() {
    for (int descriptor = ::open("/dev/null", O_RDWR); descriptor >= 0 && descriptor <= STDERR_FILENO;)
        descriptor = ::open("/dev/null", O_RDWR);
}

int run(const std::vector<std::string>& words) {
    using namespace posthorn::nodes;
    const std::map<std::string, Exit (*)(const std::vector<std::string>&)> verbs = {
        {"node", run_node}, {"send", run_send},     {"work", run_work},      {"queues", run_queues},
        {"dlq", run_dlq},   {"backup", run_backup}, {"inspect", run_inspect}};
    if (words.empty()) {
        std::cerr << usage << exit_codes_help;
        return code(Exit::usage);
    }
    const std::string& verb = words.front();
    if (verb == "--help" || verb == "-h" || verb == "help") {
        std::cout << usage << exit_codes_help;
        return code(Exit::ok);
    }
    if (verb == "--version") {
        std::cout << "posthorn " POSTHORN_VERSION "\n";
        return code(Exit::ok);
    }
    const auto found = verbs.find(verb);
    if (found == verbs.end()) {
        std::cerr << "posthorn: there is no verb '" << verb
                  << "'; there are node, send, work, queues, dlq, backup, inspect\n";
        return code(Exit::usage);
    }
    try {
        const Exit exit = found->second({words.begin() + 1, words.end()});
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
