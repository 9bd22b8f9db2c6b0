// What `posthorn work`, `posthorn subscribe` and `posthorn reply` do: one consumer, its handler, and when to end.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <variant>

#include <posthorn/fanout.hpp>
#include <posthorn/request_reply.hpp>
#include <posthorn/work_queue.hpp>

#include "admin_client.hpp"
#include "cli.hpp"
#include "exit_codes.hpp"
#include "signals.hpp"

namespace posthorn::nodes {

struct WorkOptions {
    std::string address;  // queue, or TOPIC/SUBSCRIPTION
    // Its bindings, temporary, exclusive. None: a worker.
    std::optional<fanout::SubscriberOptions> subscriber;
    bool replies = false;  // a replier: the command answers requests
    std::string endpoint;
    std::string command;  // empty: payloads are written to standard output
    bool raw = false;     // msgpack payloads as they are
    unsigned concurrency = 1;
    std::uint64_t count = 0;  // messages to take; 0: no end
    std::optional<Duration> idle_exit;
    bool until_empty = false;
};

class WorkRun {
public:
    WorkRun(const Verb& verb, WorkOptions options, const Signals& signals);

    // Works until one of the reasons to end has come; says on standard error what went wrong.
    Exit run();

private:
    using Clock = std::chrono::steady_clock;

    using End = std::variant<work_queue::Worker, fanout::Subscriber, request_reply::Replier>;

    End make_end();

    // On the consumer's threads.
    void handle(Delivery& delivery);
    void write_out(Delivery& delivery);
    void execute(Delivery& delivery);

    // On the supervisor's thread: signals, refusals, and whether there is an end to it.
    void supervise(const std::stop_token& over);
    void on_signal();
    void look();
    void look_at_connection();
    void hasten();
    bool is_in_the_making();
    bool queue_is_empty();

    // Takes no more messages. The first reason counts; `why` is said unless it is empty.
    void end(Exit exit, const std::string& why);
    // The same, and what is still running after the grace period is stopped.
    void end_soon(Exit exit, const std::string& why);

    const Verb& verb_;
    WorkOptions options_;
    const Signals& signals_;

    std::mutex mutex_;
    bool ending_ = false;
    Exit exit_ = Exit::ok;
    std::optional<Clock::time_point> deadline_;  // for what is still running once it ends

    std::mutex output_;
    bool output_broken_ = false;
    std::atomic<std::uint64_t> begun_ = 0;
    std::atomic<unsigned> running_ = 0;  // handlers
    std::stop_source stop_;              // no more messages
    std::stop_source stop_commands_;     // and end what runs

    // The supervisor's.
    int signals_seen_ = 0;
    bool was_connected_ = false;
    bool said_no_answer_ = false;
    Clock::time_point began_ = Clock::now();
    Clock::time_point next_look_at_queue_{};

    Reports reports_;
    Context context_;
    End end_;
    ConsumerEnd& consumer_;  // of end_
    std::optional<AdminClient> admin_;
};

}  // namespace posthorn::nodes
