// What a feature promises, it promises in every home and over every transport: each test of this program is run in all
// of them. It uses what users have, and nothing else.
#pragma once

#include <array>
#include <ostream>

#include <posthorn/testing.hpp>

#include "unit/patterns/fixture.hpp"

namespace posthorn::work_queue {

enum class In { memory, spool, node };

struct Place {
    In home = In::memory;
    std::string transport{};
};

inline std::ostream& operator<<(std::ostream& out, const Place& place) {
    constexpr std::array names{"memory", "spool", "node"};
    return out << names.at(static_cast<std::size_t>(place.home)) << "_" << place.transport;
}

// Those of the homes, over every transport.
inline std::vector<Place> over_all(const std::vector<In>& homes) {
    std::vector<Place> places;
    for (const In home : homes) {
        for (const char* transport : {"inproc", "ipc", "tcp"}) places.push_back({home, transport});
    }
    return places;
}
inline std::vector<Place> everywhere() {
    return over_all({In::memory, In::spool, In::node});
}
inline std::vector<Place> with_a_store() {
    return over_all({In::spool, In::node});
}

// `Sends` is the end that sends, which is where the queue is if it has a home here.
template <typename Sends, typename Options = ProducerOptions>
class ConformanceOf : public ::testing::TestWithParam<Place> {
protected:
    // Failed messages come again at once, and what a worker holds stays with it however the clock leaps.
    [[nodiscard]] static QueuePolicy policy() {
        QueuePolicy policy;
        policy.backoff = {.kind = Backoff::Kind::fixed, .min = 1ms, .max = 1ms};
        policy.lease = defaults::lease_cap;
        return policy;
    }
    // First of all: the queue and its producer.
    void open(QueuePolicy policy = ConformanceOf::policy()) {
        policy_ = std::move(policy);
        if (GetParam().home == In::node) {
            testing::NodeOptions options{.queue = policy_, .on_disk = true, .bind = endpoint()};
            if (!subscriptions_.empty()) options.topics["q"] = subscriptions_;
            if (live_) options.live["q"] = *live_;
            if (retain_) options.retained["q"] = *retain_;
            for (const Subscription& one : subscriptions_) {
                if (one.policy) options.queues["q/" + one.name] = *one.policy;
            }
            node_.emplace(near_, std::move(options));
        }
        make_producer();
    }
    // The home ends and begins again, where it was.
    void restart() {
        if (node_) {
            node_->restart();
            return;
        }
        renew_producer();
    }
    // Another one in the place of the producer, and with it its home if that is here.
    void renew_producer() {
        if (!node_) bound_ = producer_->endpoint();
        producer_.reset();
        make_producer();
    }

    [[nodiscard]] Sends& producer() { return *producer_; }
    // Where workers find it.
    [[nodiscard]] Home queue() const { return node_ ? node_->at() : at(producer_->endpoint()); }
    [[nodiscard]] Worker worker(WorkerOptions options = {}) {
        return Worker{workers(), "q", queue(), std::move(options)};
    }
    template <typename F>
    [[nodiscard]] Running running(WorkerOptions options, F handler) {
        return Running{workers(), queue(), std::move(options), std::move(handler)};
    }
    [[nodiscard]] bool stores() const { return GetParam().home != In::memory; }

    Ticket send(Message message) { return producer().send(std::move(message)); }
    // Several, and they are in the queue: there is nothing to wait on for that, so it is asked again.
    void arrive(const std::vector<Message>& messages) { await_arrival(producer().send(messages)); }
    void await_arrival(const Ticket& ticket) {
        const auto deadline = std::chrono::steady_clock::now() + patience;
        while (ticket.level() < Level::held) {
            ASSERT_LT(std::chrono::steady_clock::now(), deadline);
            (void)ticket.wait(1ms);
        }
    }
    // Receives one and leaves it unsettled.
    [[nodiscard]] static Delivery take(ConsumerEnd& worker) {
        Received received = worker.receive(patience);
        if (!received) throw std::runtime_error("nothing came: " + std::string{to_string(received.status())});
        return std::move(*received);
    }
    // The payloads of the next so many, each acked before the next is taken.
    [[nodiscard]] static std::vector<std::string> take_all(ConsumerEnd& worker, std::size_t count) {
        std::vector<std::string> payloads;
        while (payloads.size() < count) {
            Delivery delivery = take(worker);
            payloads.push_back(delivery.message().payload);
            EXPECT_EQ(delivery.ack(), Status::ok);
        }
        return payloads;
    }
    // For a moment, in which a broken build would give something.
    [[nodiscard]] static bool nothing_comes(ConsumerEnd& worker) {
        return worker.receive(50ms).status() == Status::timed_out;
    }
    [[nodiscard]] bool event(Event::Kind kind) { return events_.wait(kind); }
    // The first one of the reason.
    [[nodiscard]] bool dead_letter_of(const std::string& reason) {
        return events_.wait_for([&](const Event& event) {
            return event.kind == Event::Kind::dead_lettered && event.text.starts_with(reason + ":");
        });
    }

    testing::ManualClock clock_;

    std::vector<Subscription> subscriptions_;  // of a topic, for open()
    std::optional<LivePolicy> live_;           // of a live topic, likewise
    std::optional<Retention> retain_;          // of a topic, with a store
    Options producer_options_;                 // for open() and those after it

    // For those who consume.
    [[nodiscard]] Context& workers() { return is_inproc() ? near_ : far_; }

private:
    [[nodiscard]] ContextOptions context() {
        ContextOptions options = events_.hook();
        options.clock = clock_.source();
        return options;
    }
    [[nodiscard]] bool is_inproc() const { return GetParam().transport == "inproc"; }
    [[nodiscard]] std::string endpoint() const {
        if (!bound_.empty()) return bound_;
        if (is_inproc()) return "inproc://queue";
        return GetParam().transport == "ipc" ? folder_.ipc("socket") : "tcp://127.0.0.1:*";
    }
    void make_producer() {
        Options options = producer_options_;
        options.close_timeout = stores() ? patience : 0ns;
        if (node_) {
            producer_.emplace(workers(), "q", node_->at(), options);
            return;
        }
        Here home = here_at(endpoint());
        home.queue = policy_;
        home.subscriptions = subscriptions_;
        if (live_) home.live = *live_;
        home.retain = retain_;
        if (stores()) home = stored_at(std::move(home), folder_.path() / "store");
        producer_.emplace(near_, "q", here(std::move(home)), options);
    }

    TempFolder folder_;
    Events events_;
    Context near_{context()};  // the home's
    Context far_{context()};   // theirs who reach it over a link; inproc links are within one
    QueuePolicy policy_;
    std::string bound_;
    std::optional<testing::Node> node_;
    std::optional<Sends> producer_;
};

using Conformance = ConformanceOf<Producer>;

}  // namespace posthorn::work_queue
