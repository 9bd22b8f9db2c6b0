#include <array>
#include <iostream>

#include "admin_client.hpp"
#include "cli.hpp"
#include "table.hpp"
#include "units.hpp"
#include "verbs.hpp"

namespace posthorn::nodes {

namespace po = boost::program_options;

namespace {

Verb queues_verb() {
    return {
        "queues", "[--json]",
        R"(Lists the queues of a node, its topics, the subscriptions of these as TOPIC/NAME, and its live topics: messages that are ready, waiting for their next attempt, in flight (with a
worker) and dead-lettered; how many came in and were acked a second in about the last minute, and how long it
takes at these rates until all are done ("never" if it grows or nothing is done); the age of the oldest one
not settled; consumers and producers connected; and what has happened to messages since the node started, by
cause.
)",
        ""};
}

constexpr std::array counters = {"acked",
                                 "nacked",
                                 "released",
                                 "rejected",
                                 "redelivered",
                                 "expired_leases",
                                 "refused_full",
                                 "refused_other",
                                 "duplicates",
                                 "deduplicated",
                                 "stale",
                                 "dead_rejected",
                                 "dead_max_attempts",
                                 "dead_undecodable",
                                 "dead_expired",
                                 "dead_queue_full",
                                 "dead_dropped",
                                 "dropped_full",
                                 "dropped_expired",
                                 "requests_failed",
                                 "requests_expired",
                                 "repliers_lost",
                                 "answers_lost",
                                 "requests_cancelled",
                                 "matched",
                                 "missed_full",
                                 "missed_gone"};

std::string drain_of(const Row& row, bool any) {
    if (!any) return "-";
    const auto drain = row.maybe_number("drain_ms");
    return drain ? format_age(std::chrono::milliseconds{*drain}) : "never";
}

std::string counters_of(const Row& row) {
    std::string text;
    for (const char* name : counters) {
        const auto count = row.number(name);
        if (count > 0) text += (text.empty() ? "" : ", ") + std::string{name} + " " + std::to_string(count);
    }
    return text.empty() ? "nothing yet" : text;
}

void print_table(const std::vector<Row>& rows) {
    if (rows.empty()) {
        std::cout << "no queues yet\n";
        return;
    }
    std::vector<std::vector<std::string>> lines;
    std::vector<std::vector<std::string>> counts;
    for (const Row& row : rows) {
        const auto number = [&row](const char* name) { return std::to_string(row.number(name)); };
        const bool any = row.number("ready") + row.number("waiting") + row.number("in_flight") > 0;
        const std::chrono::milliseconds age{row.number("oldest_ms")};
        lines.push_back({row.text("name"), number("ready"), number("waiting"), number("in_flight"), number("dead"),
                         format_rate(row.real("in_rate")), format_rate(row.real("out_rate")), drain_of(row, any),
                         any ? format_age(age) : "-", number("consumers"), number("producers"),
                         format_size(row.number("bytes")), row.text("state")});
        counts.push_back({row.text("name"), counters_of(row)});
    }
    constexpr auto right = Align::right;
    std::cout << table({{"QUEUE"},
                        {"READY", right},
                        {"WAITING", right},
                        {"IN FLIGHT", right},
                        {"DEAD", right},
                        {"IN/S", right},
                        {"OUT/S", right},
                        {"DRAIN", right},
                        {"OLDEST", right},
                        {"CONSUMERS", right},
                        {"PRODUCERS", right},
                        {"SIZE", right},
                        {"STATE"}},
                       lines)
              << '\n'
              << table({{"QUEUE"}, {"SINCE THE NODE STARTED"}}, counts);
}

Exit run_queues(const Verb& verb, const Arguments& given) {
    if (!given.words.empty()) usage_error(verb, "'" + given.words.front() + "' is not expected here");

    Context context;
    AdminClient client{context, node_endpoint(verb, given)};
    std::vector<Row> rows;
    protocol::AdminRequest request;
    request.verb = "queues";
    client.ask(request, [&rows](const Row& row) { rows.push_back(row); });
    if (given.options["json"].as<bool>()) {
        for (const Row& row : rows) std::cout << row.json() << '\n';
    } else {
        print_table(rows);
    }
    return Exit::ok;
}

}  // namespace

Command queues_command() {
    po::options_description options = described_options();
    options.add_options()("json", po::bool_switch(), "one JSON object per line");
    add_node_option(options);
    return {queues_verb(), "list queues, how full they are and what happened in them", std::move(options), &run_queues};
}

}  // namespace posthorn::nodes
