// Publish-subscribe: prices that matter now. Who is too slow misses some, and knows how many.
//
//   prices                           a market and two who watch it, one of them slow, all in this process
//   prices watch PATTERN ENDPOINT    shows the prices of a pattern (price.eur.*), until SIGINT or SIGTERM
//   prices publish N ENDPOINT        publishes N prices at the node at ENDPOINT; several may
#include <cstdlib>
#include <exception>
#include <iostream>
#include <string>
#include <thread>

#include <posthorn/pub_sub.hpp>

namespace pub_sub = posthorn::pub_sub;
using namespace std::chrono_literals;

struct Price {
    std::string pair;
    std::int64_t ticks = 0;
    MSGPACK_DEFINE_MAP(pair, ticks)
};

namespace {

posthorn::Message message_of(const Price& price) {
    posthorn::Message message = posthorn::to_message(price);
    message.subject = "price." + price.pair;
    return message;
}

void publish(pub_sub::Publisher& market, int count) {
    for (int i = 1; i <= count; ++i) {
        market.send(message_of({.pair = i % 2 == 0 ? "eur.usd" : "usd.jpy", .ticks = i}));
        if (i % 100 == 0) std::this_thread::sleep_for(1ms);  // as markets do
    }
}

void say_how_it_went(const std::string& who, const pub_sub::Subscriber& prices) {
    std::cout << who + ": received " + std::to_string(prices.received()) + ", missed " +
                     std::to_string(prices.missed()) + " of " + std::to_string(prices.matched()) + "\n"
              << std::flush;
}

// Until the last one.
void watch(posthorn::Context& context, const std::string& who, int last, std::chrono::microseconds each,
           std::uint32_t buffer) {
    pub_sub::Subscriber prices{context,
                               "prices",
                               posthorn::at("inproc://prices"),
                               {.match = {{.subject = "price.eur.*"}}, .buffer_messages = buffer}};
    std::stop_source over;
    prices.run(
        [&](const Price& price) {
            std::this_thread::sleep_for(each);
            if (price.ticks == last) over.request_stop();
        },
        pub_sub::until(over.get_token()));
    say_how_it_went(who, prices);
}

bool all_in_this_process(posthorn::Context& context) {
    constexpr int count = 20'000;
    // What is not worth keeping: the latest 500 for each who watches, and the last price of each pair for who comes
    // late.
    pub_sub::Publisher market{
        context, "prices",
        posthorn::here({.bind = "inproc://prices", .live = {.max_messages = 500, .last_values = 100}})};
    market.send(message_of({.pair = "eur.usd", .ticks = 0}));
    const std::jthread quick{[&] { watch(context, "quick", count, 0us, 10'000); }};
    const std::jthread slow{[&] { watch(context, "slow", count, 200us, 100); }};
    if (market.wait_for_subscribers(2, 30s) != posthorn::Status::ok) return false;
    publish(market, count);
    return market.flush(30s) == posthorn::Status::ok;
}

}  // namespace

int main(int argc, char** argv) try {
    const std::string role = argc > 1 ? argv[1] : "";
    posthorn::Context context;
    if (role.empty()) return all_in_this_process(context) ? EXIT_SUCCESS : EXIT_FAILURE;
    if (argc != 4) throw posthorn::Error("prices; prices watch PATTERN ENDPOINT; prices publish N ENDPOINT");
    if (role == "publish") {
        pub_sub::Publisher market{context, "prices", posthorn::at(argv[3])};
        publish(market, std::stoi(argv[2]));
        return market.flush(30s) == posthorn::Status::ok ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    pub_sub::Subscriber prices{context, "prices", posthorn::at(argv[3]), {.match = {{.subject = argv[2]}}}};
    prices.run([](const Price& price) {
        std::cout << price.pair + " " + std::to_string(price.ticks) + "\n" << std::flush;
    });
    say_how_it_went("watch", prices);
    return EXIT_SUCCESS;
} catch (const std::exception& error) {
    std::cerr << "prices: " << error.what() << std::endl;
    return EXIT_FAILURE;
}
