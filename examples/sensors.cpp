// Sensors at peak load: a burst far above what the consumer can do, in flat memory.
//
//   sensors           300,000 readings, in this process
//   sensors COUNT     so many
//
// The queue has room for a thousand readings, and when it is full the oldest go (drop_oldest): a sensor must not wait,
// and an old reading is worth nothing once there is a newer one. Where each one counts, `WhenFull::block` holds the
// senders up instead; memory is as flat. What the queue has not taken yet is bounded too, by the producer's buffer. It
// prints how many readings were sent, shown and dropped, the last one shown, and the most memory the process has had.
#include <sys/resource.h>

#include <cstdint>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <string>
#include <thread>

#include <posthorn/work_queue.hpp>

namespace wq = posthorn::work_queue;
using namespace std::chrono_literals;

struct Reading {
    std::uint64_t number = 0;
    double celsius = 0;
    std::string trace;  // what a sensor sends along: a KiB, so that it would show if all of them were kept
    MSGPACK_DEFINE_MAP(number, celsius, trace)
};

namespace {

long peak_mib() {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss / 1024;
}

bool burst(std::uint64_t count) {
    posthorn::Context context;
    wq::Producer readings{
        context,
        "readings",
        posthorn::here({.bind = "inproc://readings",
                        .queue = {.max_messages = 1000, .when_full = posthorn::WhenFull::drop_oldest}}),
        {.buffer_messages = 2000}};
    std::uint64_t shown = 0;
    std::uint64_t last = 0;
    std::jthread display{[&](const std::stop_token& stop) {
        wq::Worker worker{context, "readings", posthorn::at("inproc://readings")};
        const auto show = [&](const Reading& reading, posthorn::Delivery&) {
            std::this_thread::sleep_for(1ms);  // a display of a thousand readings a second, at best
            ++shown;
            last = reading.number;
        };
        static_cast<void>(worker.run(show, wq::until(stop)));
    }};
    const std::string trace(1024, '~');
    for (std::uint64_t i = 1; i <= count; ++i) readings.send(Reading{.number = i, .celsius = 20.5, .trace = trace});
    const bool ended = readings.flush(60s) == posthorn::Status::ok;  // each is shown or dropped
    display.request_stop();
    display.join();
    std::cout << "sent " << count << ", shown " << shown << ", dropped " << count - shown << ", last " << last
              << ", peak " << peak_mib() << " MiB\n";
    return ended && last == count;  // the latest of all is never dropped
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return burst(argc > 1 ? std::stoull(argv[1]) : 300'000) ? EXIT_SUCCESS : EXIT_FAILURE;
    } catch (const std::exception& error) {
        std::cerr << "sensors: " << error.what() << '\n';
        return EXIT_FAILURE;
    }
}
