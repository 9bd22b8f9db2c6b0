// A worker that may be killed by a message, as `posthorn work` with a prefetch of one's own, which the command does
// not offer. Arguments: ENDPOINT QUEUE CONCURRENCY PREFETCH. Appends each text to the file "done"; at "kill" it notes
// that in "killed" and kills itself. Ends with 0 once nothing has come for longer than two leases of the test's queue.
#include <chrono>
#include <csignal>
#include <iostream>
#include <stop_token>
#include <string>
#include <thread>

#include <posthorn/work_queue.hpp>

#include "demo/record.hpp"

namespace wq = posthorn::work_queue;
using namespace std::chrono_literals;

namespace {

void handle(posthorn::Delivery& delivery) {
    const std::string text = delivery.message().payload;
    if (text == "kill") {
        Record{"killed"}.line("x");
        static_cast<void>(std::raise(SIGKILL));
    }
    std::this_thread::sleep_for(5ms);  // so that the killer comes while the others are held
    Record{"done"}.line(text);
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 5) return 2;
    posthorn::Context context;
    wq::WorkerOptions options;
    options.concurrency = static_cast<unsigned>(std::stoul(arguments[3]));
    options.prefetch = static_cast<unsigned>(std::stoul(arguments[4]));
    wq::Worker worker{context, arguments[2], posthorn::at(arguments[1]), options};
    std::stop_source over;
    std::jthread watcher{[&worker, &over](const std::stop_token& ended) {
        while (!ended.stop_requested() && !(worker.idle() && worker.since_last_activity() > 9s))
            std::this_thread::sleep_for(100ms);
        over.request_stop();
    }};
    const auto status = worker.run(handle, wq::until(over.get_token()));
    return status == posthorn::Status::ok ? 0 : 1;
}
