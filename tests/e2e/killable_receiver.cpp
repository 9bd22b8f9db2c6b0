// A receiver that is killed and followed by others. Arguments: ENDPOINT QUEUE LOG. Notes in LOG, which all of them
// share, "begin TEXT" and "done TEXT"; a text that begins with "fail" fails the first time. Works until it is told to
// stop.
#include <stdexcept>
#include <string>
#include <thread>

#include <posthorn/point_to_point.hpp>

#include "demo/record.hpp"

namespace p2p = posthorn::point_to_point;
using namespace std::chrono_literals;

int main(int count, char** arguments) {
    if (count != 4) return 2;
    const Record log{arguments[3]};
    posthorn::Context context;
    p2p::Receiver receiver{context, arguments[2], posthorn::at(arguments[1])};
    const auto status = receiver.run([&log](posthorn::Delivery& delivery) {
        const std::string text = delivery.message().payload;
        log.line("begin " + text);
        std::this_thread::sleep_for(1ms);  // so that it is killed in their midst
        log.line("done " + text);
        if (text.starts_with("fail") && delivery.attempt() == 1) throw std::runtime_error("once");
    });
    return status == posthorn::Status::ok ? 0 : 1;
}
