// Point-to-point: bookings of an account, worked on one at a time and in order; who stands by takes over.
//
//   point_to_point            ten bookings, in this process, by two receivers: the second goes on when the first ends
//   point_to_point ENDPOINT   receives the queue "ledger" of the node or sender at ENDPOINT, until SIGINT or SIGTERM
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <string>
#include <thread>

#include <posthorn/point_to_point.hpp>

namespace p2p = posthorn::point_to_point;
using namespace std::chrono_literals;

struct Booking {
    std::string account;
    std::int64_t cents = 0;
    MSGPACK_DEFINE_MAP(account, cents)
};

namespace {

void book(const Booking& booking, posthorn::Delivery&) {
    std::cout << booking.account << ' ' << booking.cents << std::endl;  // throw: it comes again, before all behind it
}

// Takes part until `enough` are booked by it.
void book_some(posthorn::Context& context, int enough) {
    p2p::Receiver receiver{context, "ledger", posthorn::at("inproc://ledger")};
    std::stop_source over;
    const auto handler = [&](const Booking& booking, posthorn::Delivery& delivery) {
        book(booking, delivery);
        if (--enough == 0) over.request_stop();
    };
    static_cast<void>(receiver.run(handler, p2p::until(over.get_token())));
}

bool book_our_own(posthorn::Context& context) {
    p2p::Sender ledger{context, "ledger", posthorn::here({.bind = "inproc://ledger"})};
    for (int i = 1; i <= 10; ++i) ledger.send(Booking{"alice", i});
    {
        const std::jthread one{[&] { book_some(context, 5); }};
        const std::jthread two{[&] { book_some(context, 5); }};  // one of them works, the other stands by
    }
    return ledger.flush(5s) == posthorn::Status::ok;
}

bool book_those_at(posthorn::Context& context, const std::string& endpoint) {
    p2p::Receiver receiver{context, "ledger", posthorn::at(endpoint)};
    return receiver.run(book) == posthorn::Status::ok;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        posthorn::Context context;
        return (argc > 1 ? book_those_at(context, argv[1]) : book_our_own(context)) ? EXIT_SUCCESS : EXIT_FAILURE;
    } catch (const std::exception& error) {
        std::cerr << error.what() << '\n';
        return EXIT_FAILURE;
    }
}
