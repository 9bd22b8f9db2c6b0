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
    return {"dlq", "list|show|redrive|purge QUEUE [FILTER]... [--dry-run]",
            R"(Looks after dead letters: messages that were given up, each with the reason.
  list     one line for each, without the payload
  show     everything that is known of each, with the payload
  redrive  sends them back to their queue, with all attempts before them; says how many
  purge    deletes them for good; says how many
QUEUE is the queue's name, with or without .dlq behind it. Filters are --reason, --id, --type, --header,
--older-than, --newer-than and --text: those are meant that pass all of them; without any, all of the queue's
dead letters.
)",
            R"(Reasons: rejected (the worker said so), max_attempts, undecodable, expired, queue_full.
Examples:
  posthorn dlq list encode --reason max_attempts --newer-than 2h
  posthorn dlq redrive encode --type EncodeJob --header lang=en --text 'no such file' --dry-run
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
    for (const auto& [name, value] : row.texts("headers"))
        print_field("header", std::string{name}.append("=").append(value));
    const std::string payload = row.text("payload");
    const auto json = is_msgpack(row) ? msgpack_to_json(payload) : std::nullopt;
    print_field("payload", json ? *json : payload);
}

// As the host gives it; the payload as text where it is text.
std::string letter_json(const Row& row) {
    JsonObject headers;
    for (const auto& [name, value] : row.texts("headers")) headers.text(name, value);
    JsonObject object;
    for (const char* key : {"id", "reason", "text"}) object.text(key, row.text(key));
    for (const char* key : {"attempts", "redrives", "first_failure", "last_failure"})
        object.number(key, row.number(key));
    for (const char* key : {"consumer", "type", "content_type", "subject", "correlation_id", "traceparent"})
        object.text(key, row.text(key));
    for (const char* key : {"timestamp", "ttl", "size"}) object.number(key, row.number(key));
    object.raw("headers", headers.done());
    const std::string payload = row.text("payload");
    const auto json = is_msgpack(row) ? msgpack_to_json(payload) : std::nullopt;
    if (json) {
        object.raw("payload_json", *json);
    } else if (is_utf8(payload)) {
        object.text("payload", payload);
    } else {
        object.text("payload_base64", base64(payload));
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

std::uint64_t change(AdminClient& client, const protocol::AdminRequest& request, bool json) {
    std::uint64_t matched = 0;
    std::uint64_t done = 0;
    client.ask(request, [&](const Row& row) {
        matched += row.number("matched");
        done += row.number("done");
    });
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

protocol::HeaderFilter header_filter(const Verb& verb, const std::string& text) {
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
    request.ids = values_of(given, "id");
    request.type = value_of(given, "type");
    request.text = value_of(given, "text");
    request.older_than_ms = age_of(verb, given, "older-than");
    request.newer_than_ms = age_of(verb, given, "newer-than");
    if (given.options.count("newer-than") > 0 && request.newer_than_ms == 0)
        usage_error(verb, "--newer-than: nothing is newer than 0");
    for (const std::string& text : values_of(given, "header")) request.headers.push_back(header_filter(verb, text));
}

bool is_filtered(const protocol::AdminRequest& request) {
    return !request.reason.empty() || !request.type.empty() || !request.headers.empty() || request.older_than_ms > 0 ||
           request.newer_than_ms > 0 || !request.text.empty();
}

protocol::AdminRequest request_of(const Verb& verb, const Arguments& given) {
    const std::string action = given.words.empty() ? std::string{} : given.words[0];
    if (action != "list" && action != "show" && action != "redrive" && action != "purge")
        usage_error(verb, action.empty() ? "say list, show, redrive or purge"
                                         : "'" + printable(action) + "' is none of list, show, redrive, purge");
    if (given.words.size() != 2) usage_error(verb, "give one queue: posthorn dlq " + action + " QUEUE");
    std::string queue = given.words[1];
    if (queue.ends_with(".dlq")) queue.resize(queue.size() - std::string_view{".dlq"}.size());

    protocol::AdminRequest request;
    request.verb = "dlq_" + action;
    request.address = queue_name(verb, queue);
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

Exit run(const Verb& verb, const Arguments& given) {
    const protocol::AdminRequest request = request_of(verb, given);
    const bool json = given.options["json"].as<bool>();

    Context context;
    AdminClient client{context, node_endpoint(verb, given)};
    std::uint64_t matched = 0;
    if (request.verb == "dlq_show") {
        matched = show(client, request, json);
    } else if (request.verb == "dlq_list") {
        matched = list(client, request, json);
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
    options.add_options()("type", po::value<std::string>()->value_name("NAME"), "only those of this type");
    options.add_options()("header", po::value<std::vector<std::string>>()->value_name("K=V"),
                          "only those with this header, or K: with a header of that name; may be given more than once");
    options.add_options()("older-than", po::value<std::string>()->value_name("TIME"),
                          "only those that failed last so long ago or longer; seconds, or with a unit (500ms, 10min)");
    options.add_options()("newer-than", po::value<std::string>()->value_name("TIME"),
                          "only those that failed last within this time");
    options.add_options()("text", po::value<std::string>()->value_name("TEXT"),
                          "only those whose reason's text has this in it");
    options.add_options()("dry-run", po::bool_switch(), "redrive, purge: only say how many it would be");
    options.add_options()("json", po::bool_switch(), "one JSON object per line");
    add_node_option(options);
    return {dlq_verb(), "look at dead letters, send them back or delete them", std::move(options), &run};
}

}  // namespace posthorn::nodes
