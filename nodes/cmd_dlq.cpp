#include <algorithm>
#include <array>
#include <fstream>
#include <iostream>
#include <sstream>

#include <posthorn/payload.hpp>

#include "admin_client.hpp"
#include "cli.hpp"
#include "json.hpp"
#include "store/store.hpp"
#include "table.hpp"
#include "units.hpp"
#include "verbs.hpp"

namespace posthorn::nodes {

namespace po = boost::program_options;

namespace {

Verb dlq_verb() {
    return {"dlq", "list|show|redrive|purge|edit QUEUE [OPTION]...",
            R"(Looks after dead letters: messages that were given up, each with the reason.
  list     one line for each, without the payload
  show     everything that is known of each, with the payload
  redrive  sends them back to their queue, with all attempts before them; says how many
  purge    deletes them for good; says how many
  edit     changes the one with the --id: --payload or --payload-file, --type, --header K=V (sets it) and
           --remove-header; what is not named stays, and so does the id. show tells what it was before the first
           edit. With --redrive it is sent back once the edit is stored
QUEUE is the queue's name or a subscription's, TOPIC/NAME, with or without .dlq behind it. Filters are --reason, --id, --type, --header,
--older-than, --newer-than and --text: those are meant that pass all of them; without any, all of the queue's
dead letters.
)",
            R"(Reasons: rejected (the worker said so), max_attempts, undecodable, expired, queue_full.
Examples:
  posthorn dlq list encode --reason max_attempts --newer-than 2h
  posthorn dlq redrive encode --type EncodeJob --header lang=en --text 'no such file' --dry-run
  posthorn dlq redrive orders/billing
  posthorn dlq edit encode --id ID --payload '{"path":"cat.mov"}' --header lang=en --redrive
)"};
}

Error unknown_reason(const std::string& reason) {
    return Error{"'" + printable(reason) + "' is none of rejected, max_attempts, expired, queue_full, undecodable"};
}

std::string lifetime(const Row& row, const char* key) {
    return format_time(row.number(key));
}

void print_list(const std::vector<Row>& rows) {
    constexpr std::size_t text_width = 60;
    std::vector<std::vector<std::string>> lines;
    lines.reserve(rows.size());
    for (const Row& row : rows) {
        lines.push_back({row.text("id"), row.text("reason"), std::to_string(row.number("attempts")),
                         lifetime(row, "last_failure"), format_size(row.number("size")),
                         shortened(printable(row.text("text")), text_width)});
    }
    constexpr auto right = Align::right;
    std::cout << table({{"ID"}, {"REASON"}, {"ATTEMPTS", right}, {"LAST FAILURE"}, {"SIZE", right}, {"TEXT"}}, lines);
}

bool is_msgpack(const Row& row) {
    return row.text("content_type") == msgpack_content_type;
}

// Lines of a longer text stand below each other.
void print_field(std::string_view name, const std::string& value) {
    constexpr std::size_t width = 15;
    std::istringstream lines{value};
    std::string head{name};
    for (std::string text; std::getline(lines, text); head.clear())
        std::cout << head << std::string(width - head.size(), ' ') << printable(text) << '\n';
}

void print_content(const std::string& indent, const Row& row, bool msgpack) {
    for (const auto& [name, value] : row.texts("headers"))
        print_field(indent + "header", std::string{name}.append("=").append(value));
    const std::string payload = row.text("payload");
    const auto json = msgpack ? msgpack_to_json(payload) : std::nullopt;
    print_field(indent + "payload", json ? *json : payload);
}

void print_letter(const Row& row) {
    print_field("id", row.text("id"));
    print_field("reason", row.text("reason"));
    print_field("text", row.text("text"));
    print_field("attempts", std::to_string(row.number("attempts")));
    print_field("redrives", std::to_string(row.number("redrives")));
    print_field("first failure", lifetime(row, "first_failure"));
    print_field("last failure", lifetime(row, "last_failure"));
    print_field("consumer", row.text("consumer"));
    print_field("sent", lifetime(row, "timestamp"));
    print_field("type", row.text("type"));
    print_field("content type", row.text("content_type"));
    print_field("subject", row.text("subject"));
    print_field("correlation id", row.text("correlation_id"));
    print_field("traceparent", row.text("traceparent"));
    if (const auto ttl = row.number("ttl"); ttl > 0)
        print_field("time to live", format_age(std::chrono::milliseconds{ttl}));
    print_field("size", format_size(row.number("size")));
    print_content("", row, is_msgpack(row));
    if (const auto original = row.row("original")) {
        std::cout << "before its first edit it was\n";
        print_field("  type", original->text("type"));
        print_field("  size", format_size(original->number("size")));
        print_content("  ", *original, is_msgpack(row));
    }
}

// The payload as text where it is text.
void add_content(JsonObject& object, const Row& row, bool msgpack) {
    JsonObject headers;
    for (const auto& [name, value] : row.texts("headers")) headers.text(name, value);
    object.raw("headers", headers.done());
    const std::string payload = row.text("payload");
    const auto json = msgpack ? msgpack_to_json(payload) : std::nullopt;
    if (json) {
        object.raw("payload_json", *json);
    } else if (is_utf8(payload)) {
        object.text("payload", payload);
    } else {
        object.text("payload_base64", base64(payload));
    }
}

// As the host gives it.
std::string letter_json(const Row& row) {
    JsonObject object;
    for (const char* key : {"id", "reason", "text"}) object.text(key, row.text(key));
    for (const char* key : {"attempts", "redrives", "first_failure", "last_failure"})
        object.number(key, row.number(key));
    for (const char* key : {"consumer", "type", "content_type", "subject", "correlation_id", "traceparent"})
        object.text(key, row.text(key));
    for (const char* key : {"timestamp", "ttl", "size"}) object.number(key, row.number(key));
    add_content(object, row, is_msgpack(row));
    object.flag("edited", row.flag("edited"));
    if (const auto original = row.row("original")) {
        JsonObject before;
        before.text("type", original->text("type")).number("size", original->number("size"));
        add_content(before, *original, is_msgpack(row));
        object.raw("original", before.done());
    }
    return object.done();
}

// One at a time: payloads may be large and many.
std::uint64_t show(AdminClient& client, const protocol::AdminRequest& request, bool json) {
    std::uint64_t count = 0;
    client.ask(request, [&](const Row& row) {
        if (json) {
            std::cout << letter_json(row) << '\n';
        } else {
            if (count > 0) std::cout << '\n';
            print_letter(row);
        }
        ++count;
    });
    return count;
}

std::uint64_t list(AdminClient& client, const protocol::AdminRequest& request, bool json) {
    std::uint64_t count = 0;
    std::vector<Row> page;
    client.ask(request, [&](const Row& row) {
        constexpr std::size_t table_rows = 1000;  // so that a long list needs no memory; each table has its own widths
        ++count;
        if (json) {
            std::cout << row.json() << '\n';
            return;
        }
        page.push_back(row);
        if (page.size() < table_rows) return;
        print_list(page);
        page.clear();
    });
    if (!page.empty()) print_list(page);
    return count;
}

struct Counts {
    std::uint64_t matched = 0;
    std::uint64_t done = 0;
};

Counts counts_of(AdminClient& client, const protocol::AdminRequest& request) {
    Counts counts;
    client.ask(request, [&](const Row& row) {
        counts.matched += row.number("matched");
        counts.done += row.number("done");
    });
    return counts;
}

std::uint64_t change(AdminClient& client, const protocol::AdminRequest& request, bool json) {
    const auto [matched, done] = counts_of(client, request);
    const bool redrive = request.verb == "dlq_redrive";
    if (json) {
        std::cout
            << JsonObject{}.number("matched", matched).number("done", done).flag("dry_run", request.dry_run).done()
            << '\n';
    } else if (request.dry_run) {
        std::cout << (redrive ? "would send back " : "would delete ") << matched << '\n';
    } else {
        std::cout << (redrive ? "sent back " : "deleted ") << done << '\n';
    }
    return matched;
}

std::string value_of(const Arguments& given, const std::string& option) {
    return given.options.count(option) > 0 ? given.options[option].as<std::string>() : std::string{};
}

std::vector<std::string> values_of(const Arguments& given, const std::string& option) {
    return given.options.count(option) > 0 ? given.options[option].as<std::vector<std::string>>()
                                           : std::vector<std::string>{};
}

std::uint64_t age_of(const Verb& verb, const Arguments& given, const std::string& option) {
    if (given.options.count(option) == 0) return 0;
    return static_cast<std::uint64_t>(parsed(verb, given, option, parse_seconds_or_duration) / 1ms);
}

protocol::HeaderField header_field(const Verb& verb, const std::string& text) {
    const auto equals = text.find('=');
    if (text.empty() || equals == 0) usage_error(verb, "--header: '" + text + "' is not of the form KEY=VALUE or KEY");
    if (equals == std::string::npos) return {text, std::nullopt};
    return {text.substr(0, equals), text.substr(equals + 1)};
}

// What is empty or zero would be no filter to the host, and purge delete more than was meant.
void add_filters(const Verb& verb, const Arguments& given, protocol::AdminRequest& request) {
    for (const char* option : {"type", "text"})
        if (given.options.count(option) > 0 && value_of(given, option).empty())
            usage_error(verb, std::string{"--"} + option + ": give something to look for");
    request.type = value_of(given, "type");
    request.text = value_of(given, "text");
    request.older_than_ms = age_of(verb, given, "older-than");
    request.newer_than_ms = age_of(verb, given, "newer-than");
    if (given.options.count("newer-than") > 0 && request.newer_than_ms == 0)
        usage_error(verb, "--newer-than: nothing is newer than 0");
    for (const std::string& text : values_of(given, "header")) request.headers.push_back(header_field(verb, text));
}

bool is_filtered(const protocol::AdminRequest& request) {
    return !request.reason.empty() || !request.type.empty() || !request.headers.empty() || request.older_than_ms > 0 ||
           request.newer_than_ms > 0 || !request.text.empty();
}

// Asked for when the edit is stored, so that whatever happens in between nothing but the edited one goes back.
void redrive_edited(AdminClient& client, const protocol::AdminRequest& edit) {
    protocol::AdminRequest request;
    request.verb = "dlq_redrive";
    request.address = edit.address;
    request.ids = edit.ids;
    const std::string stored = "the edit is stored, but it was not sent back: ";
    try {
        if (counts_of(client, request).done > 0) return;
    } catch (const ExitError& error) {
        throw ExitError{error.code(), stored + error.what()};
    }
    throw Error{stored + "somebody else has changed or deleted it meanwhile; look with posthorn dlq show"};
}

std::uint64_t edit(AdminClient& client, const protocol::AdminRequest& request, bool redrive, bool json) {
    const Counts counts = counts_of(client, request);
    if (counts.matched == 0) return 0;
    if (redrive) redrive_edited(client, request);
    if (json) {
        std::cout << JsonObject{}.number("edited", counts.done).number("redriven", redrive ? 1 : 0).done() << '\n';
    } else {
        std::cout << (redrive ? "edited and sent back 1" : "edited 1") << '\n';
    }
    return counts.matched;
}

// "-": standard input.
std::string contents_of(const std::string& file) {
    std::ifstream opened;
    if (file != "-") opened.open(file, std::ios::binary);
    std::istream& in = file == "-" ? std::cin : opened;
    std::string bytes(defaults::message_limit + 1, '\0');
    in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    if (in.bad() || (file != "-" && !opened.is_open())) throw Error{"cannot read " + printable(file)};
    bytes.resize(static_cast<std::size_t>(in.gcount()));
    if (bytes.size() > defaults::message_limit)
        throw Error{printable(file) + " is longer than " + write_size(defaults::message_limit) +
                    ", which no node takes"};
    return bytes;
}

void refuse_options(const Verb& verb, const Arguments& given, const std::string& action,
                    std::initializer_list<const char*> options) {
    for (const char* option : options) {
        if (given.options.count(option) > 0 && !given.options[option].defaulted())
            usage_error(verb, std::string{"--"} + option + " is not for " + action);
    }
}

envelope::Change change_of(const Verb& verb, const Arguments& given) {
    refuse_options(verb, given, "edit", {"reason", "older-than", "newer-than", "text", "dry-run"});
    envelope::Change change;
    for (const std::string& text : values_of(given, "header")) {
        auto [name, value] = header_field(verb, text);
        if (!value) usage_error(verb, "--header: '" + text + "' is not of the form KEY=VALUE");
        if (!change.headers.emplace(name, value).second) usage_error(verb, "--header: " + name + " is given twice");
    }
    for (const std::string& name : values_of(given, "remove-header")) {
        if (!change.headers.emplace(name, std::nullopt).second)
            usage_error(verb, "--remove-header: " + name + " is given twice");
    }
    if (given.options.count("type") > 0) change.type = value_of(given, "type");
    if (given.options.count("payload") > 0 && given.options.count("payload-file") > 0)
        usage_error(verb, "give --payload or --payload-file, not both");
    if (given.options.count("payload") > 0) change.payload = value_of(given, "payload");
    if (given.options.count("payload-file") > 0) change.payload = contents_of(value_of(given, "payload-file"));
    if (change.empty())
        usage_error(verb, "say what to change: --payload, --payload-file, --type, --header, --remove-header");
    return change;
}

protocol::AdminRequest request_of(const Verb& verb, const Arguments& given) {
    const std::string action = given.words.empty() ? std::string{} : given.words[0];
    constexpr std::array actions = {"list", "show", "redrive", "purge", "edit"};
    if (std::find(actions.begin(), actions.end(), action) == actions.end())
        usage_error(verb, action.empty() ? "say list, show, redrive, purge or edit"
                                         : "'" + printable(action) + "' is none of list, show, redrive, purge, edit");
    if (given.words.size() != 2) usage_error(verb, "give one queue: posthorn dlq " + action + " QUEUE");
    std::string queue = given.words[1];
    if (queue.ends_with(".dlq")) queue.resize(queue.size() - std::string_view{".dlq"}.size());

    protocol::AdminRequest request;
    request.verb = "dlq_" + action;
    request.address = address_of(verb, queue);
    request.ids = values_of(given, "id");
    if (action == "edit") {
        if (request.ids.size() != 1) usage_error(verb, "edit changes one dead letter: give its --id");
        request.change = change_of(verb, given);
        return request;
    }
    refuse_options(verb, given, action, {"payload", "payload-file", "remove-header", "redrive"});
    request.dry_run = given.options["dry-run"].as<bool>();
    if (request.dry_run && (action == "list" || action == "show"))
        usage_error(verb, "--dry-run is for redrive and purge; " + action + " changes nothing anyway");
    if (given.options.count("reason") > 0) {
        request.reason = parsed(verb, given, "reason", [](const std::string& reason) {
            if (!store::reason_from(reason)) throw unknown_reason(reason);
            return reason;
        });
    }
    add_filters(verb, given, request);
    return request;
}

Exit run_dlq(const Verb& verb, const Arguments& given) {
    const protocol::AdminRequest request = request_of(verb, given);
    const bool json = given.options["json"].as<bool>();

    Context context;
    AdminClient client{context, node_endpoint(verb, given)};
    std::uint64_t matched = 0;
    if (request.verb == "dlq_show") {
        matched = show(client, request, json);
    } else if (request.verb == "dlq_list") {
        matched = list(client, request, json);
    } else if (request.verb == "dlq_edit") {
        matched = edit(client, request, given.options["redrive"].as<bool>(), json);
    } else {
        matched = change(client, request, json);
    }
    if (matched == 0 && !request.ids.empty())
        throw Error{"no dead letter of " + request.address + " has that id" +
                    (is_filtered(request) ? " and passes the other filters" : "")};
    if (matched == 0 && !json && (request.verb == "dlq_list" || request.verb == "dlq_show"))
        std::cout << "no dead letters" << (is_filtered(request) ? " that pass the filters" : "") << '\n';
    return Exit::ok;
}

}  // namespace

Command dlq_command() {
    po::options_description options = described_options();
    options.add_options()("reason", po::value<std::string>()->value_name("R"), "only those with this reason");
    options.add_options()("id", po::value<std::vector<std::string>>()->value_name("ID"),
                          "only the one with this id, as list shows it; may be given more than once");
    options.add_options()("type", po::value<std::string>()->value_name("NAME"),
                          "only those of this type; edit: the new one");
    options.add_options()("header", po::value<std::vector<std::string>>()->value_name("K=V"),
                          "only those with this header, or K: with a header of that name; edit: a header to set; may "
                          "be given more than once");
    options.add_options()("older-than", po::value<std::string>()->value_name("TIME"),
                          "only those that failed last so long ago or longer; seconds, or with a unit (500ms, 10min)");
    options.add_options()("newer-than", po::value<std::string>()->value_name("TIME"),
                          "only those that failed last within this time");
    options.add_options()("text", po::value<std::string>()->value_name("TEXT"),
                          "only those whose reason's text has this in it");
    options.add_options()("payload", po::value<std::string>()->value_name("TEXT"), "edit: the new payload");
    options.add_options()("payload-file", po::value<std::string>()->value_name("FILE"),
                          "edit: the new payload, all bytes of the file; -: of standard input");
    options.add_options()("remove-header", po::value<std::vector<std::string>>()->value_name("K"),
                          "edit: a header to take away; may be given more than once");
    options.add_options()("redrive", po::bool_switch(), "edit: send it back afterwards");
    options.add_options()("dry-run", po::bool_switch(), "redrive, purge: only say how many it would be");
    options.add_options()("json", po::bool_switch(), "one JSON object per line");
    add_node_option(options);
    return {dlq_verb(), "look at dead letters, send them back or delete them", std::move(options), &run_dlq};
}

}  // namespace posthorn::nodes
