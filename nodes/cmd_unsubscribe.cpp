#include <iostream>

#include "admin_client.hpp"
#include "cli.hpp"
#include "json.hpp"
#include "verbs.hpp"

namespace posthorn::nodes {

namespace po = boost::program_options;

namespace {

Verb unsubscribe_verb() {
    return {
        "unsubscribe", "TOPIC/NAME [--json]",
        R"(Removes a subscription with everything it has: messages that are not worked off and dead letters are deleted for
good, and it says how many. Those who take messages from it are told and end. Other subscriptions keep what they
have.
)",
        R"(`posthorn queues` lists subscriptions, and what is in them. One that is in the node's configuration comes back, empty,
when the node starts again.
Example:
  posthorn unsubscribe orders/billing
)"};
}

Exit run_unsubscribe(const Verb& verb, const Arguments& given) {
    if (given.words.size() != 1) usage_error(verb, "give one subscription: posthorn unsubscribe TOPIC/NAME");
    protocol::AdminRequest request;
    request.verb = "unsubscribe";
    request.address = subscription_of(verb, given.words.front());

    Context context;
    AdminClient client{context, node_endpoint(verb, given)};
    std::uint64_t messages = 0;
    std::uint64_t dead = 0;
    client.ask(request, [&](const Row& row) {
        messages += row.number("messages");
        dead += row.number("dead");
    });
    if (given.options["json"].as<bool>()) {
        std::cout << JsonObject{}.number("messages", messages).number("dead", dead).done() << '\n';
    } else {
        std::cout << "removed " << request.address << " with " << messages << " messages and " << dead
                  << " dead letters\n";
    }
    return Exit::ok;
}

}  // namespace

Command unsubscribe_command() {
    po::options_description options = described_options();
    options.add_options()("json", po::bool_switch(), "the two counts as a JSON object");
    add_node_option(options);
    return {unsubscribe_verb(), "remove a subscription of a topic, with what it has", std::move(options),
            &run_unsubscribe};
}

}  // namespace posthorn::nodes
