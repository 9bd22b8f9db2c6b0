// A named requester that is killed and followed by others. Arguments: ENDPOINT SERVICE NAME COUNT LOG. Asks "item 0",
// "item 1", ... under its name, those that were not asked yet, and notes every answer in LOG, which all of them share:
// "<request's number> <status> <answer>". Stays until standard input ends.
#include <exception>
#include <iostream>
#include <string>

#include <posthorn/request_reply.hpp>

#include "demo/record.hpp"

namespace rr = posthorn::request_reply;
using namespace std::chrono_literals;

int main(int count, char** arguments) {
    if (count != 6) return 2;
    try {
        const Record log{arguments[5]};
        const auto note = [&log](const rr::Reply& reply) {
            const std::string number = reply.id.substr(reply.id.rfind('-') + 1);
            log.line(number + " " + std::string{to_string(reply.status)} + " " + reply.message.payload);
        };
        posthorn::Context context;
        rr::Requester requester{context,
                                arguments[2],
                                posthorn::at(arguments[1]),
                                {.name = arguments[3], .earlier = note, .deadline = 10min}};
        const auto place = requester.resumed_at(60s);
        if (!place) throw posthorn::Error("it was not told its place");
        const std::uint64_t items = std::stoull(arguments[4]);
        for (std::uint64_t item = *place; item < items; ++item) {
            requester.request("item " + std::to_string(item), [&note](const rr::Reply& reply) {
                if (reply.status != posthorn::Status::closed) note(reply);
            });
        }
        std::cout << "asked" << std::endl;
        std::string rest;
        while (std::getline(std::cin, rest)) {
        }
    } catch (const std::exception& error) {
        std::cerr << error.what() << std::endl;
        return 1;
    }
    return 0;
}
