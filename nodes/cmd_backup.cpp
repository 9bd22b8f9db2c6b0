#include <chrono>
#include <filesystem>
#include <iostream>

#include "admin_client.hpp"
#include "cli.hpp"
#include "json.hpp"
#include "units.hpp"
#include "verbs.hpp"

namespace posthorn::nodes {

namespace po = boost::program_options;

namespace {

Verb backup_verb() {
    return {
        "backup", "FOLDER",
        R"(Has a running node copy its store into FOLDER, which is on the node's machine, and missing or empty. The node
goes on serving. Everything it has confirmed by now is in the copy, messages and settlements, and what it stores
until the copy is nearly done.
)",
        R"(The copy is a data folder: `posthorn node --data FOLDER` serves it, `posthorn inspect FOLDER` looks into it. While
it is being made its file is called posthorn.db.part; what is not finished is removed. What the folder's disk has
beyond the node's min_free has to hold the copy. If this command is ended, so is the backup.
)"};
}

Exit run_backup(const Verb& verb, const Arguments& given) {
    if (given.words.size() != 1 || given.words.front().empty())
        usage_error(verb, "give one folder: posthorn backup FOLDER");
    const std::filesystem::path folder = std::filesystem::absolute(given.words.front()).lexically_normal();

    Context context;
    AdminClient client{context, node_endpoint(verb, given)};
    protocol::AdminRequest request;
    request.verb = "backup";
    request.folder = folder.string();
    using Clock = std::chrono::steady_clock;
    auto said = Clock::now();
    std::uint64_t total = 0;
    client.ask(request, [&](const Row& row) {
        total = row.number("total");
        if (Clock::now() - said < std::chrono::seconds{1}) return;
        said = Clock::now();
        say(verb, format_size(row.number("copied")) + " of " + format_size(total));
    });
    say(verb, format_size(total) + " in " + printable(folder.string()));
    return Exit::ok;
}

}  // namespace

Command backup_command() {
    po::options_description options = described_options();
    add_node_option(options);
    return {backup_verb(), "have a running node copy its store", std::move(options), &run_backup};
}

}  // namespace posthorn::nodes
