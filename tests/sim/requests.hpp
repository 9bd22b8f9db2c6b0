// A world of requests, made from a seed: one host on the real SQLite store (or a memory store), requesters and repliers
// with their real sessions, and the faults of the other worlds. Each request that a living requester knows to be taken
// is answered, by one answer; none is begun twice.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "host/host.hpp"
#include "protocol/consumer_session.hpp"
#include "protocol/producer_session.hpp"
#include "sim/link.hpp"
#include "sim/sim_vfs.hpp"
#include "store/store.hpp"

namespace posthorn::sim {

// Bugs that are planted to see that they are caught, each in the store.
enum class RequestBug {
    none,
    answers_forgotten,  // the answer is not stored, and the end of the request is
    ends_forgotten,     // the end of the request is not stored, and the answer is
    holders_forgotten,  // who holds a request is not stored
};

struct RequestTotals {
    std::uint64_t requests = 0, begun = 0, answered = 0, repeated = 0, ok = 0, failed = 0, lost = 0, expired = 0;
    std::uint64_t crashes = 0, power_cuts = 0, requester_deaths = 0, replier_deaths = 0, disk_full = 0;
    void add(const RequestTotals& other);
};

class RequestWorld {
public:
    explicit RequestWorld(std::uint64_t seed, RequestBug bug = RequestBug::none);
    ~RequestWorld();

    void run();
    [[nodiscard]] const std::vector<std::string>& violations() const { return violations_; }
    [[nodiscard]] const RequestTotals& totals() const { return totals_; }
    [[nodiscard]] const std::string& log() const { return log_; }

private:
    struct Request {
        bool safe = false;        // its requester was told so
        bool must_be_ok = false;  // its replier was told that its answer is safe
        unsigned begun = 0;
        std::set<std::string> answers;  // different ones
    };
    struct Requester {
        bool named = false;
        Identity id;
        std::string name;  // of where its answers go
        std::uint64_t sent = 0;
        bool placed = false;
        std::unique_ptr<protocol::ProducerSession> asks;
        std::unique_ptr<protocol::ConsumerSession> hears;
        Link asking;
        Link hearing;
    };
    using RequestId = std::pair<Identity, std::uint64_t>;
    struct Working {
        protocol::ConsumerSession::Handle handle;
        RequestId request;
        Slice envelope;
        Mono until{};
        std::uint64_t life = 0;  // of the host, in which it was begun
    };
    struct Replier {
        std::unique_ptr<protocol::ConsumerSession> session;
        std::uint32_t concurrency = 1;
        std::vector<Working> working;
        std::vector<Working> settling;  // answered since all were last confirmed
        std::string label;
        Link link;
    };

    void start_host();
    void stop_host(bool power);
    void start(Requester& requester, std::size_t index);
    void start(Replier& replier);
    void connect(Link& link);
    void cut(Link& link);
    void ask(Requester& requester);
    void listen(Requester& requester);
    void work(Replier& replier, bool peaceful);
    void finish(Replier& replier, const Working& work);
    void step();
    void calm();
    template <typename Session>
    void exchange(Link& link, Session& session, bool all);
    void pump();
    void run_job();
    [[nodiscard]] bool drained();
    void check_end();
    template <typename Visit>
    void each_link(Visit visit);

    [[nodiscard]] std::uint64_t pick(std::uint64_t below) {
        return std::uniform_int_distribution<std::uint64_t>{0, below - 1}(random_);
    }
    [[nodiscard]] bool chance(double probability) { return std::bernoulli_distribution{probability}(random_); }
    [[nodiscard]] Identity identity();
    void violation(std::string what) { violations_.push_back(std::move(what)); }
    void pass(Duration time);
    void note(const std::string& line);

    std::mt19937_64 random_;
    RequestBug bug_;
    Now now_;
    bool durable_ = true;
    std::uint64_t min_free_ = 0;
    QueuePolicy policy_;
    queue::Limits limits_;
    std::unique_ptr<SimDisk> disk_;
    std::unique_ptr<store::Store> store_;
    std::unique_ptr<host::Host> host_;
    std::shared_ptr<const store::Job> job_;
    std::vector<Requester> requesters_;
    std::vector<Replier> repliers_;
    std::map<RequestId, Request> requests_;  // of requesters that live
    PeerId last_peer_ = 0;
    std::uint64_t life_ = 0;  // of the host, counted
    RequestTotals totals_;
    std::vector<std::string> violations_;
    std::string log_;
};

}  // namespace posthorn::sim
