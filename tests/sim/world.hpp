// A world made from a seed: one host on the real SQLite store (or a memory store), producers and consumers with their
// real sessions, a queue or a topic with its subscriptions between them, a network that loses, cuts and repeats, a disk
// that loses its power, a clock that jumps.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "host/host.hpp"
#include "protocol/consumer_session.hpp"
#include "protocol/producer_session.hpp"
#include "sim/model.hpp"
#include "sim/sim_vfs.hpp"
#include "store/store.hpp"

namespace posthorn::sim {

// Bugs that are planted to see that they are caught.
enum class Planted { none, confirm_before_sync, ack_forgotten, dedup_off, keys_forgotten, gap_hidden };

struct Setup {
    std::uint64_t seed = 1;
    std::uint32_t steps = 2000;
    Planted planted = Planted::none;
};

class World {
public:
    explicit World(Setup setup);
    ~World();

    // Faults and work for the given number of steps, a disk that stays full until what is stored has drained, then
    // peace until everything has; checks the model.
    void run();
    [[nodiscard]] const std::vector<std::string>& violations() const { return violations_; }
    [[nodiscard]] Totals totals() const;
    [[nodiscard]] const std::string& log() const { return log_; }

private:
    using PeerId = std::uint64_t;

    struct Flying {
        Mono since;
        std::string bytes;
    };
    // One link: a client's end and the host's end of it, each with frames on their way to it. Like TCP under ZMTP's
    // heartbeats it delivers in order and soon, or breaks.
    struct Link {
        PeerId at_client = 0;
        PeerId at_host = 0;      // a new one after each cut, as with ROUTER
        std::size_t outlet = 0;  // a consumer's
        bool up = true;
        std::deque<Flying> to_host;
        std::deque<Flying> to_client;
    };
    // What consumers work on: the queue, or a subscription of the topic.
    struct Outlet {
        std::string address;
        Model model;
        bool declared = false;  // at the host; else its consumers make it
        bool temporary = false;
        bool replayed = false;  // it begins with the first message that its topic keeps
        std::vector<Binding> bindings{};
        bool rebound = false;
        bool made = false;             // a consumer was welcome, or it is declared
        bool leaving = false;          // an operator wants it to go ...
        std::uint64_t asked_life = 0;  // ... and told this life of the host, then
        Mono asked{};
        bool storm = false;          // the host said so
        std::uint64_t furthest = 0;  // strict: the highest offset that was begun in this life of the host
    };
    struct Producer {
        int number = 0;
        std::unique_ptr<protocol::ProducerSession> session;
        Identity id;
        std::uint64_t sent = 0;
        bool placed = false;  // a named one has been told where its sequences begin
        Link link;
    };
    struct Working {
        protocol::ConsumerSession::Handle handle;
        std::uint64_t message = 0;
        Mono until{};
        std::uint32_t attempt = 1;
        bool lost = false;
        std::uint64_t host_life = 0;  // in which it was begun
    };
    struct Settling {
        std::uint64_t message = 0;
        bool ack = false;
        bool awaited = false;  // an ack of which it will be told by itself
    };
    struct Consumer {
        int number = 0;
        std::unique_ptr<protocol::ConsumerSession> session;
        std::uint32_t concurrency = 1;
        std::string name;
        std::string label;                // as the host has it in its events
        std::uint64_t welcomed_life = 0;  // the host's life that last welcomed it
        bool over = false;                // the host has said since that its leases are over
        std::vector<Working> working;
        std::vector<Settling> settling;  // said since all were last confirmed
        Link link;
    };

    void make_outlets();
    [[nodiscard]] std::vector<Binding> some_bindings();
    Outlet& outlet_of(const Consumer& consumer) { return outlets_[consumer.link.outlet]; }
    Outlet* outlet_at(const std::string& address);
    void was_welcome(Outlet& outlet);
    void let_go();
    void has_gone(std::size_t index);
    void was_refused(const Producer& producer, const protocol::Refused& refused);
    void check_fanout();
    void rebind(Outlet& outlet);
    void refused_before(std::uint64_t sequence);
    void violation(std::string what) { violations_.push_back(std::move(what)); }
    void step();
    void calm();
    void stay_full();
    void peace();
    void end_faults();
    void pump();
    void collect_host();
    void to_host(Link& link, bool peaceful);
    template <typename Session>
    void to_client(Link& link, Session& session, bool peaceful);
    bool flows(Link& link);
    void move(std::deque<Flying>& from, bool peaceful, const std::function<void(const Slice&)>& to);
    void publish(Producer& producer);
    void work(Consumer& consumer, bool peaceful);
    void check_strict_order(const Consumer& consumer, std::uint64_t message, std::uint64_t offset);
    void finish(Consumer& consumer, const Working& work);
    void listen(Producer& producer);
    void listen(Consumer& consumer);
    void cut(Link& link);
    void start_host();
    void stop_host(bool power);
    void keep_copy();
    void go_on_with_copy();
    void check_end();
    void start_producer(std::size_t index);
    void start_consumer(std::size_t index);
    void kill_consumer(std::size_t index);
    void run_job();
    void admin_looks_after_the_dead();
    enum class Errand { dead_letters, drops, unsubscribe };
    void operator_comes(Errand errand, std::size_t outlet);
    [[nodiscard]] bool operator_waits() const;
    void count_drops();
    void operator_asks(const protocol::AdminRequest& request);
    void operator_hears(const std::string& bytes);
    void operator_hears(const protocol::AdminResult& result);
    Message some_message();
    std::size_t hand_out(PeerId peer, const std::string& bytes);
    void replace_producer(std::size_t index);
    void read_dead_letters(Outlet& outlet);
    [[nodiscard]] std::size_t stored_messages();
    [[nodiscard]] bool drained();

    [[nodiscard]] std::uint64_t pick(std::uint64_t below) {
        return std::uniform_int_distribution<std::uint64_t>{0, below - 1}(random_);
    }
    [[nodiscard]] bool chance(double probability) { return std::bernoulli_distribution{probability}(random_); }
    // Of what belongs to topics alone, so that the other worlds are what they were before there were any.
    [[nodiscard]] std::uint64_t fan_pick(std::uint64_t below) {
        return std::uniform_int_distribution<std::uint64_t>{0, below - 1}(fan_random_);
    }
    [[nodiscard]] bool fan_chance(double probability) { return std::bernoulli_distribution{probability}(fan_random_); }
    [[nodiscard]] Identity identity();
    void pass(Duration time);
    void note(const std::string& line);

    Setup setup_;
    std::mt19937_64 random_;
    std::mt19937_64 fan_random_;
    QueuePolicy policy_;
    bool fanout_ = false;
    bool retained_ = false;  // so is the topic
    Retention retention_;
    std::deque<Outlet> outlets_;
    std::vector<std::string> violations_;
    Totals totals_;  // but for those that the models keep
    std::string log_;
    Now now_;
    bool durable_ = true;
    std::uint64_t min_free_ = 0;
    double loss_ = 0;
    queue::Limits limits_;
    bool keyed_ = false;
    bool prioritised_ = false;
    bool deduplicated_ = false;
    bool strict_ = false;          // by its policy, or because every producer asks for it
    std::uint64_t host_life_ = 0;  // counts

    std::unique_ptr<SimDisk> disk_;
    std::unique_ptr<store::Store> store_;
    std::unique_ptr<host::Host> host_;
    std::shared_ptr<const store::Job> job_;
    bool named_ = false;               // the first producer is, and goes on in its next life
    Identity name_;                    // its id, then
    std::vector<Producer> producers_;  // behind the first few: lives of the named one that do not know of the next
    std::vector<Consumer> consumers_;
    int last_producer_ = 0;
    int last_consumer_ = 0;
    PeerId last_peer_ = 0;
    std::map<PeerId, std::size_t> outlets_of_peers_;  // of consumers, at the host
    bool named_before_ = false;                       // a life of the named producer was told its place
    PeerId operator_ = 0;
    protocol::FrameWriter operator_out_{defaults::frame_limit};
    std::uint64_t operator_edits_ = 0;  // this message
    Errand operator_errand_ = Errand::dead_letters;
    std::size_t operator_outlet_ = 0;
    std::uint64_t damaged_ = 0;

    // The folder as a host that had just died left it, and what was known then. Another host goes on with it in the
    // end, for clients of its own, as if there had been no other: so what the first one did since is nothing to it.
    struct Copy {
        std::unique_ptr<SimDisk> disk;
        std::deque<Outlet> outlets;
    };
    std::mt19937_64 copy_random_;
    std::mt19937_64 retain_random_;
    std::optional<Copy> copy_;
};

}  // namespace posthorn::sim
