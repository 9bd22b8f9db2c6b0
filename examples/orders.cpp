// Fanout: an order is placed, and four services hear of it, each in its own time and with failures of its own.
//
//   orders                    twelve orders and the four services, all in this process
//   orders place N ENDPOINT   places N orders at the node at ENDPOINT; ends when every service is sure to get its own
//   orders NAME ENDPOINT      is one of the services: inventory, shipping, notification, billing; until SIGINT or
//   SIGTERM
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include <posthorn/fanout.hpp>

namespace fanout = posthorn::fanout;
using namespace std::chrono_literals;

struct Order {
    int number = 0;
    std::string item;
    std::int64_t cents = 0;
    MSGPACK_DEFINE_MAP(number, item, cents)
};

namespace {

// Who gets what: everything about orders, what goes by parcel, what is to be paid.
const std::map<std::string, std::vector<posthorn::Binding>> services{
    {"inventory", {{.subject = "order.*"}}},
    {"notification", {{.subject = "order.#"}}},
    {"shipping", {{.subject = "order.placed", .headers = {{"delivery", "parcel"}}}}},
    {"billing", {{.subject = "order.placed"}}},
};

void work_on(const std::string& service, const Order& order) {
    std::cout << service + " " + std::to_string(order.number) + " " + order.item + "\n" << std::flush;
}

// Every third one is fetched by its buyer.
posthorn::Message message_of(const Order& order) {
    posthorn::Message message = posthorn::to_message(order);
    message.subject = "order.placed";
    message.headers["delivery"] = order.number % 3 == 0 ? "pickup" : "parcel";
    return message;
}

bool place(fanout::Publisher& publisher, int count) {
    for (int i = 1; i <= count; ++i) publisher.send(message_of({.number = i, .item = "lamp", .cents = 1990}));
    return publisher.flush(30s) == posthorn::Status::ok;
}

bool all_in_this_process(posthorn::Context& context) {
    constexpr int orders = 12;
    posthorn::Here home{.bind = "inproc://orders"};
    for (const auto& [name, bindings] : services) home.subscriptions.push_back({.name = name, .bindings = bindings});
    fanout::Publisher publisher{context, "orders", posthorn::here(home)};  // the services may come later
    std::stop_source over;
    std::vector<std::jthread> running;
    running.reserve(services.size());
    for (const auto& [name, bindings] : services) {
        running.emplace_back([&context, &over, service = name] {
            fanout::Subscriber subscriber{context, "orders", service, posthorn::at("inproc://orders")};
            const auto handler = [&](const Order& order, posthorn::Delivery&) { work_on(service, order); };
            static_cast<void>(subscriber.run(handler, fanout::until(over.get_token())));
        });
    }
    const bool placed = place(publisher, orders);  // in memory: all services are done with all of theirs
    over.request_stop();
    return placed;
}

bool be(const std::string& service, posthorn::Context& context, const std::string& endpoint) {
    fanout::Subscriber subscriber{
        context, "orders", service, posthorn::at(endpoint), {.bindings = services.at(service)}};
    const auto handler = [&](const Order& order, posthorn::Delivery&) { work_on(service, order); };
    return subscriber.run(handler) == posthorn::Status::ok;
}

bool run(const std::vector<std::string>& words) {
    posthorn::Context context;
    if (words.empty()) return all_in_this_process(context);
    if (words.size() == 3 && words[0] == "place") {
        fanout::Publisher publisher{context, "orders", posthorn::at(words[2])};
        return place(publisher, std::stoi(words[1]));
    }
    if (words.size() == 2 && services.contains(words[0])) return be(words[0], context, words[1]);
    throw posthorn::Error("give nothing, `place N ENDPOINT`, or the name of a service and ENDPOINT");
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return run({argv + 1, argv + argc}) ? EXIT_SUCCESS : EXIT_FAILURE;
    } catch (const std::exception& error) {
        std::cerr << "orders: " << error.what() << '\n';
        return EXIT_FAILURE;
    }
}
