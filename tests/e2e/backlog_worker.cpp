// What the tests of long backlogs do with their messages. Arguments: ENDPOINT QUEUE COUNT WHAT. Takes COUNT messages;
// WHAT is "fail" (each, for an hour), "stick" (so does every hundredth, the others are done) or "block" (the first one
// with an ordering key is kept until the others are done, and then given back).
#include <optional>
#include <string>

#include <posthorn/work_queue.hpp>

namespace wq = posthorn::work_queue;
using namespace std::chrono_literals;

int main(int count, char** arguments) {
    if (count != 5) return 2;
    const std::uint64_t messages = std::stoull(arguments[3]);
    const std::string what = arguments[4];
    constexpr std::uint64_t stuck = 100;

    posthorn::Context context;
    wq::Worker worker{context, arguments[2], posthorn::at(arguments[1]), {.concurrency = 1000}};
    std::optional<posthorn::Delivery> kept;
    for (std::uint64_t taken = 0; taken < messages; ++taken) {
        auto received = worker.receive(1min);
        if (!received) return 1;
        if (what == "block" && !kept && !received->message().ordering_key.empty()) {
            kept = std::move(*received);
        } else if (what == "fail" || (what == "stick" && taken % stuck == 0)) {
            static_cast<void>(received->nack(1h, "not now"));
        } else {
            static_cast<void>(received->ack());
        }
    }
    if (kept) static_cast<void>(kept->release());
    return worker.drain(1min) == posthorn::Status::ok ? 0 : 1;
}
