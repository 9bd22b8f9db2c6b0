// A producer that is killed. Arguments: HOME QUEUE COUNT [NAME]. Sends the texts "message 0", "message 1", ..., under a
// name those that are not in the queue yet, and says on standard output how many are confirmed; then stays, and a queue
// of its own with it, until standard input ends.
#include <algorithm>
#include <deque>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include <posthorn/work_queue.hpp>

namespace wq = posthorn::work_queue;
using namespace std::chrono_literals;

namespace {

constexpr std::uint64_t batch = 100;
constexpr std::size_t under_way = 20;  // batches

void send(wq::Producer& producer, std::uint64_t first, std::uint64_t count) {
    std::deque<wq::Ticket> tickets;
    std::uint64_t confirmed = first;
    for (std::uint64_t next = first; confirmed < count;) {
        std::vector<std::string> texts;
        for (; next < count && texts.size() < batch; ++next) texts.push_back("message " + std::to_string(next));
        if (!texts.empty()) tickets.push_back(producer.send(texts));
        if (next < count && tickets.size() < under_way) continue;
        const posthorn::Status status = tickets.front().wait(60s);
        if (status != posthorn::Status::ok) throw posthorn::Error("wait: " + std::string{to_string(status)});
        tickets.pop_front();
        confirmed = std::min(confirmed + batch, count);
        std::cout << "confirmed " << confirmed << std::endl;
    }
}

}  // namespace

int main(int count, char** arguments) {
    if (count < 4 || count > 5) return 2;
    try {
        posthorn::Context context;
        wq::ProducerOptions options;
        options.resume = count == 5;
        if (options.resume) options.name = arguments[4];
        wq::Producer producer{context, arguments[2], posthorn::Home::parse(arguments[1]), options};
        std::cout << "at " << producer.endpoint() << std::endl;
        const auto place = producer.resumed_at(60s);
        if (!place) throw posthorn::Error("it was not told its place");
        std::cout << "resumed at " << *place << std::endl;
        send(producer, *place, std::stoull(arguments[3]));
        std::string rest;
        while (std::getline(std::cin, rest)) {
        }
    } catch (const std::exception& error) {
        std::cerr << error.what() << std::endl;
        return 1;
    }
    return 0;
}
