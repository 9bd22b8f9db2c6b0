// Sends its share of the demo's jobs and records what it handed over and what was confirmed to it.
//
//   demo_producer HOME PLAN SHARE OF RECORD PER_SECOND
//
// HOME is "at:ENDPOINT" for a node, "here:ENDPOINT" to host the queue itself. PLAN has a record per job, ended by a
// zero byte: "NUMBER FATE OFFSET LENGTH PATH". Once every job is safe it says so and stays until its input is closed:
// a brokerless queue lives as long as its producer.
#include <chrono>
#include <cstdlib>
#include <deque>
#include <exception>
#include <fstream>
#include <iostream>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <posthorn/work_queue.hpp>

#include "block_job.hpp"
#include "record.hpp"

namespace wq = posthorn::work_queue;
using namespace std::chrono_literals;

namespace {

std::vector<BlockJob> share_of_plan(const std::string& path, std::uint64_t share, std::uint64_t of) {
    std::ifstream plan(path, std::ios::binary);
    if (!plan) throw std::runtime_error("cannot read the plan " + path);
    std::vector<BlockJob> jobs;
    std::string text;
    while (std::getline(plan, text, '\0')) {
        std::istringstream fields(text);
        BlockJob job;
        fields >> job.number >> job.fate >> job.offset >> job.length;
        fields.ignore();  // the space before the path
        std::getline(fields, job.path, '\0');
        if (!fields) throw std::runtime_error("not a line of a plan: " + text);
        if (job.number % of == share) jobs.push_back(std::move(job));
    }
    return jobs;
}

// The policy belongs to the host: at a node it is in the node's configuration. Both are impatient, for a demo.
posthorn::Home demo_home(const std::string& text) {
    posthorn::Home home = posthorn::Home::parse(text);
    if (!home.is_here()) return home;
    posthorn::Here options = home.options();
    options.queue.backoff.min = 50ms;
    options.queue.backoff.max = 500ms;
    options.queue.lease = 2s;
    return posthorn::here(std::move(options));
}

// The tickets of what was sent and is not safe yet, oldest first.
class Unconfirmed {
public:
    explicit Unconfirmed(const Record& record) : record_(record) {}

    void add(std::uint64_t job, wq::Ticket ticket) { tickets_.emplace_back(job, std::move(ticket)); }

    // Records every job that is safe, waiting `each` for the one that is next.
    void record_confirmed(posthorn::Duration each) {
        while (!tickets_.empty()) {
            const auto& [job, ticket] = tickets_.front();
            const posthorn::Status status = ticket.wait(each);
            if (status == posthorn::Status::timed_out) return;
            if (status != posthorn::Status::ok)
                throw std::runtime_error("job " + std::to_string(job) + " was refused: " + ticket.refusal());
            record_.line("confirmed " + std::to_string(job));
            tickets_.pop_front();
        }
    }
    [[nodiscard]] std::size_t size() const { return tickets_.size(); }

private:
    const Record& record_;
    std::deque<std::pair<std::uint64_t, wq::Ticket>> tickets_;
};

void run(const std::vector<std::string>& arguments) {
    const auto jobs = share_of_plan(arguments.at(2), std::stoull(arguments.at(3)), std::stoull(arguments.at(4)));
    const Record record{arguments.at(5)};
    const std::chrono::duration<double> between{1.0 / std::stod(arguments.at(6))};

    posthorn::Context context;
    wq::Producer producer{context, demo_queue, demo_home(arguments.at(1))};
    if (!producer.endpoint().empty()) std::cout << "ready on " << producer.endpoint() << std::endl;

    Unconfirmed unconfirmed{record};
    auto due = std::chrono::steady_clock::now();
    for (const BlockJob& job : jobs) {
        std::this_thread::sleep_until(due);
        due += std::chrono::duration_cast<std::chrono::steady_clock::duration>(between);
        wq::Ticket ticket = producer.send(job);
        if (ticket.status() != posthorn::Status::ok)
            throw std::runtime_error("cannot send: " + std::string(to_string(ticket.status())));
        record.line("sent " + std::to_string(job.number));
        unconfirmed.add(job.number, std::move(ticket));
        unconfirmed.record_confirmed(0s);
    }
    unconfirmed.record_confirmed(60s);
    if (unconfirmed.size() > 0) throw std::runtime_error(std::to_string(unconfirmed.size()) + " jobs are not safe");

    std::cout << "safe " << jobs.size() << std::endl;
    std::cin.ignore(std::numeric_limits<std::streamsize>::max());
    if (const auto left = producer.close(5s); left > 0) throw std::runtime_error(std::to_string(left) + " left behind");
}

}  // namespace

int main(int argc, char** argv) {
    try {
        const std::vector<std::string> arguments(argv, argv + argc);
        if (arguments.size() != 7)
            throw std::runtime_error("usage: demo_producer HOME PLAN SHARE OF RECORD PER_SECOND");
        run(arguments);
        return EXIT_SUCCESS;
    } catch (const std::exception& error) {
        std::cerr << "demo_producer: " << error.what() << '\n';
        return EXIT_FAILURE;
    }
}
