#include "work_run.hpp"

#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>

#include <poll.h>
#include <unistd.h>

#include "exec.hpp"
#include "json.hpp"
#include "lines.hpp"
#include "patterns/delivery_state.hpp"

namespace posthorn::nodes {

namespace {

constexpr auto grace = 30s;       // for handlers, once a signal or an error has come
constexpr auto hard_grace = 10s;  // for commands that were told to end, and for the node's last word
constexpr auto look_interval_ms = 100;
constexpr auto look_at_queue_interval = 500ms;
constexpr auto no_answer_patience = 10s;  // with --until-empty, for a node that has never answered
constexpr auto say_no_answer_after = 2s;

// Counts a handler for as long as it runs.
class Running {
public:
    explicit Running(std::atomic<unsigned>& count) : count_(count) { ++count_; }
    ~Running() { --count_; }
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;

private:
    std::atomic<unsigned>& count_;
};

}  // namespace

WorkRun::WorkRun(const Verb& verb, WorkOptions options, const Signals& signals)
    : verb_(verb),
      options_(std::move(options)),
      signals_(signals),
      reports_(verb),
      context_(reports_.context_options()),
      end_(make_end()),
      consumer_(std::visit([](ConsumerEnd& end) -> ConsumerEnd& { return end; }, end_)) {
    if (options_.until_empty) admin_.emplace(context_, options_.endpoint);
}

WorkRun::End WorkRun::make_end() {
    const auto fill = [this](auto options) {
        options.name = unique_name();
        options.concurrency = options_.concurrency;
        options.drain_timeout = defaults::lease_cap;  // the supervisor knows better how long to wait
        return options;
    };
    const Home home = at(options_.endpoint);
    if (options_.replies) {
        return request_reply::Replier{context_, options_.address, home, fill(request_reply::ReplierOptions{})};
    }
    if (!options_.subscriber)
        return work_queue::Worker{context_, options_.address, home, fill(work_queue::WorkerOptions{})};
    const Address address = *parse_address(options_.address);
    return fanout::Subscriber{context_, std::string{address.topic}, std::string{address.subscription}, home,
                              fill(*options_.subscriber)};
}

Exit WorkRun::run() {
    std::jthread supervisor{[this](const std::stop_token& over) { supervise(over); }};
    const Status status =
        consumer_.run([this](Delivery& delivery) { handle(delivery); }, work_queue::until(stop_.get_token()));
    supervisor.request_stop();
    supervisor.join();
    if (const auto refusal = reports_.final_refusal(); refusal && exit_ == Exit::ok) {
        say(verb_, *refusal);
        return Exit::refused;
    }
    if (status != Status::ok && exit_ == Exit::ok) {
        say(verb_, "ended before the node had confirmed everything; what it does not know of is delivered again");
        return Exit::failed;
    }
    return exit_;
}

// On the consumer's threads
// -----------------------------------------------------------------------------------------------

void WorkRun::handle(Delivery& delivery) {
    const Running running{running_};
    const std::uint64_t number = ++begun_;
    if (stop_.stop_requested() || (options_.count > 0 && number > options_.count)) {
        delivery.release();
        return;
    }
    if (number == options_.count) end(Exit::ok, {});  // the last one; the others go back unbegun
    if (options_.command.empty()) {
        write_out(delivery);
    } else {
        execute(delivery);
    }
}

void WorkRun::write_out(Delivery& delivery) {
    const Message& message = delivery.message();
    std::string line;
    if (!options_.raw && message.content_type == msgpack_content_type) {
        auto json = msgpack_to_json(message.payload);
        if (!json) {
            detail::DeliveryAccess::settle(
                delivery, {.verdict = protocol::Verdict::undecodable,
                           .text = "the payload is not the msgpack it says it is; --raw writes it as it is"});
            return;
        }
        line = std::move(*json);
    } else {
        line = message.payload;
    }
    line += '\n';
    const std::lock_guard lock{output_};
    if (!output_broken_ && write_all(STDOUT_FILENO, line)) {
        delivery.ack();
        return;
    }
    if (!std::exchange(output_broken_, true))
        end_soon(Exit::failed,
                 std::string{"cannot write to standard output: "} + std::strerror(errno) + "; the message goes back");
    delivery.release();
}

void WorkRun::execute(Delivery& delivery) {
    const Message& message = delivery.message();
    const Job job{delivery.id(),   delivery.attempt(), delivery.sequence(), message.type,
                  message.subject, message.headers,    message.payload,     options_.replies && delivery.is_request()};
    std::stop_source stop;  // the lease is lost, or we are in a hurry
    const auto request = [&stop] { stop.request_stop(); };
    const std::stop_callback lost{delivery.stop_token(), request};
    const std::stop_callback hurry{stop_commands_.get_token(), request};
    ExecResult result;
    try {
        result = run_command(options_.command, job, stop.get_token());
    } catch (const Error& error) {
        delivery.release();
        end_soon(Exit::failed, error.what());
        return;
    }
    switch (result.outcome) {
        case Outcome::ack:
            if (job.answers) {
                delivery.reply({.payload = std::move(result.output)});
            } else {
                delivery.ack();
            }
            break;
        case Outcome::nack:
            if (job.answers) {
                delivery.fail(result.text);
            } else {
                delivery.nack(result.text);
            }
            break;
        case Outcome::reject:
            delivery.reject(result.text);
            break;
        case Outcome::cannot_run:
            if (job.answers) {
                delivery.fail("the command cannot be run: " + result.text);  // a part of it may have been
            } else {
                delivery.release();
            }
            end_soon(Exit::cannot_run,
                     "the command cannot be run: " + printable(result.text) +
                         (job.answers ? "; the request was answered by this error" : "; the message goes back"));
            break;
        case Outcome::terminated:
            if (job.answers) {
                delivery.fail("the command was stopped before it had answered");
            } else {
                delivery.release();
            }
            break;
    }
}

// On the supervisor's thread
// ---------------------------------------------------------------------------------------------

void WorkRun::supervise(const std::stop_token& over) {
    while (!over.stop_requested()) {
        pollfd wait{signals_.descriptor(), POLLIN, 0};
        ::poll(&wait, 1, look_interval_ms);
        if (signals_.take()) on_signal();
        look();
    }
}

void WorkRun::on_signal() {
    ++signals_seen_;
    if (signals_seen_ == 1) {
        end_soon(Exit::ok, "told to stop; finishing what is begun, at most 30 s; once more to end it now");
        return;
    }
    say(verb_, "told to stop again; ending what runs");
    signals_.give_back();  // the third one ends us where we stand
    const std::lock_guard lock{mutex_};
    deadline_ = Clock::now();
}

void WorkRun::look() {
    was_connected_ = was_connected_ || consumer_.connected();
    std::unique_lock lock{mutex_};
    if (ending_) {
        lock.unlock();
        hasten();
        return;
    }
    lock.unlock();
    if (const auto refusal = reports_.final_refusal()) {
        end_soon(Exit::refused, *refusal);
        return;
    }
    look_at_connection();
    if (options_.idle_exit && consumer_.idle() && consumer_.since_last_activity() >= *options_.idle_exit) {
        end(was_connected_ ? Exit::ok : Exit::unreachable,
            was_connected_ ? std::string{} : no_answer(options_.endpoint));
    } else if (options_.until_empty && consumer_.host_empty() && consumer_.idle() && queue_is_empty()) {
        end(Exit::ok, {});
    }
}

void WorkRun::look_at_connection() {
    if (was_connected_) return;
    const auto waited = Clock::now() - began_;
    if (options_.until_empty && waited >= no_answer_patience && !is_in_the_making()) {
        end(Exit::unreachable, no_answer(options_.endpoint));
    } else if (!said_no_answer_ && waited >= say_no_answer_after) {
        said_no_answer_ = true;
        const bool from = options_.subscriber && options_.subscriber->from;
        say(verb_, "no answer from " + options_.endpoint + " yet; waiting for it" +
                       (from ? ", or for what is retained to be laid out" : ""));
    }
}

// A subscription that begins in the past answers when it has been given all of that.
bool WorkRun::is_in_the_making() {
    if (!options_.subscriber || !options_.subscriber->from) return false;
    if (Clock::now() < next_look_at_queue_) return true;
    next_look_at_queue_ = Clock::now() + look_at_queue_interval;
    bool listed = false;
    protocol::AdminRequest request;
    request.verb = "queues";
    request.address = options_.address;
    try {
        admin_->ask(request, [&listed](const Row&) { listed = true; });
    } catch (const ExitError&) {
        return false;  // nobody answers at all
    }
    return listed;
}

// Nothing ready, waiting or in flight, with whichever worker.
bool WorkRun::queue_is_empty() {
    if (Clock::now() < next_look_at_queue_) return false;
    next_look_at_queue_ = Clock::now() + look_at_queue_interval;
    std::uint64_t left = 0;
    protocol::AdminRequest request;
    request.verb = "queues";
    request.address = options_.address;
    try {
        admin_->ask(request, [&left](const Row& row) {
            left += row.number("ready") + row.number("waiting") + row.number("in_flight");
        });
    } catch (const ExitError& error) {
        if (error.code() == Exit::refused) end_soon(error.code(), error.what());
        return false;  // the node is away for a moment
    }
    return left == 0;
}

// Once it ends: what runs may take its time unless there is a deadline; the node's last word may not.
void WorkRun::hasten() {
    const std::unique_lock lock{mutex_};
    const auto now = Clock::now();
    if (!deadline_ && running_ == 0) deadline_ = now + grace;
    if (!deadline_ || now < *deadline_) return;
    deadline_ = now + hard_grace;
    if (!stop_commands_.request_stop()) static_cast<void>(consumer_.drain(0s));  // run() tells how that ended
}

void WorkRun::end(Exit exit, const std::string& why) {
    {
        const std::lock_guard lock{mutex_};
        if (ending_) return;
        ending_ = true;
        exit_ = exit;
    }
    if (!why.empty()) say(verb_, why);
    stop_.request_stop();
}

void WorkRun::end_soon(Exit exit, const std::string& why) {
    {
        const std::lock_guard lock{mutex_};
        if (!deadline_) deadline_ = Clock::now() + grace;
        if (ending_ && exit_ == Exit::ok) exit_ = exit;
    }
    end(exit, why);
}

}  // namespace posthorn::nodes
