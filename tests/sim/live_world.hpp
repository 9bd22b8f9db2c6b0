// A world around a live topic: one host in memory, publishers and subscribers with their real sessions, a network that
// loses, cuts and repeats, a host that dies. Somebody whose link never fails sees what the host has accepted, in its
// order; so it is known of every subscriber which message has which number of its link.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "host/host.hpp"
#include "protocol/feed_session.hpp"
#include "protocol/producer_session.hpp"
#include "sim/link.hpp"
#include "sim/model.hpp"
#include "sim/world.hpp"
#include "store/store.hpp"

namespace posthorn::sim {

class LiveWorld {
public:
    explicit LiveWorld(Setup setup);

    void run();
    [[nodiscard]] const std::vector<std::string>& violations() const { return violations_; }
    [[nodiscard]] const Totals& totals() const { return totals_; }
    [[nodiscard]] const std::string& log() const { return log_; }

private:
    struct Publisher {
        std::unique_ptr<protocol::ProducerSession> session;
        Identity id;
        std::uint64_t sent = 0;
        Link link;
    };
    struct Subscriber {
        std::unique_ptr<protocol::FeedSession> session;
        std::string pattern;
        bool slow = false;
        std::uint64_t link_id = 0;
        std::uint64_t before = 0;  // matched by the links it had
        std::uint64_t last = 0;    // the number in its link that it took last
        Link link;
    };
    // What a link has matched, by its numbers.
    struct Truth {
        std::string pattern;
        std::vector<std::uint64_t> messages;
    };

    void start_host();
    void start_subscriber(Subscriber& one);
    void start_publisher(Publisher& one);
    void publish(Publisher& one);
    void step();
    void peace();
    void pump();
    void collect();
    void look_at(host::OutFrame& frame);
    void to_host(Link& link, bool peaceful);
    void to_client(Publisher& one, bool peaceful);
    void to_client(Subscriber& one, bool peaceful);
    void hear(Subscriber& one, const std::string& bytes);
    void take(Subscriber& one, std::size_t most);
    void cut(Link& link);
    void witness();
    [[nodiscard]] bool drained() const;
    void violation(std::string what) { violations_.push_back(std::move(what)); }
    void note(const std::string& line);
    [[nodiscard]] std::uint64_t pick(std::uint64_t below) {
        return std::uniform_int_distribution<std::uint64_t>{0, below - 1}(random_);
    }
    [[nodiscard]] bool chance(double probability) { return std::bernoulli_distribution{probability}(random_); }
    [[nodiscard]] Identity identity();

    Setup setup_;
    std::mt19937_64 random_;
    LivePolicy policy_;
    double loss_;
    Now now_{Mono{1h}, Wall{std::chrono::hours{24 * 365 * 50}}};
    std::unique_ptr<store::Store> store_;
    std::unique_ptr<host::Host> host_;
    std::vector<Publisher> publishers_;
    std::vector<Subscriber> subscribers_;
    std::unique_ptr<protocol::FeedSession> witness_;
    std::map<std::uint64_t, Truth> truths_;         // by link
    std::map<std::uint64_t, std::uint64_t> shown_;  // by peer: the next number, where gaps are hidden
    PeerId last_peer_ = 1;                          // which is the witness
    std::uint64_t last_message_ = 0;
    std::vector<std::string> violations_;
    Totals totals_;
    std::string log_;
};

}  // namespace posthorn::sim
