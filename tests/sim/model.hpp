// What the simulator remembers of every message, and the promises it holds the real code to.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <posthorn/message.hpp>
#include <posthorn/policy.hpp>
#include <posthorn/time.hpp>
#include <posthorn/topic.hpp>

namespace posthorn::sim {

enum class Kind : char {
    healthy = 'h',
    fails_twice = 'f',
    always_fails = 'a',
    rejected = 'r',
    kills = 'k',     // the consumer's process dies the moment it begins
    released = 'l',  // given back once, then done
    delayed = 'd',   // nacked once with a delay of its own
};

struct Totals {
    std::uint64_t steps = 0, messages = 0, deliveries = 0, settled = 0;
    std::uint64_t crashes = 0, power_cuts = 0, consumer_deaths = 0, cuts = 0, lost_frames = 0, repeated_frames = 0;
    std::uint64_t resends = 0, redeliveries = 0, dead_letters = 0, redriven = 0, disk_full = 0, drained_full = 0;
    std::uint64_t refused = 0, stale = 0, expired = 0, edited = 0, keyed = 0, delayed = 0, prioritised = 0, resumed = 0,
                  fenced = 0, deduplicated = 0, in_strict_order = 0, dropped = 0, displaced = 0, storms = 0;
    std::uint64_t fanned_out = 0, to_subscriptions = 0, subscriptions_made = 0, subscriptions_gone = 0, rebound = 0,
                  refused_for_want = 0, replayed = 0, copies = 0;
    std::uint64_t fed = 0, missed_live = 0, breaks = 0;  // in live worlds
    void add(const Totals& other);
};

struct Record {
    Kind kind = Kind::healthy;
    int producer = 0;
    std::uint64_t sequence = 0;
    bool confirmed = false;  // the producer was told that it is safe
    bool refused = false;
    bool due = true;  // to a subscription: it was there for sure when this was sent
    bool edited = false;
    bool orphan = false;         // its producer died before it was confirmed
    bool gone = false;           // a later life under the name goes on before it: its number is another message's now
    bool ack_confirmed = false;  // its consumer was told that the ack is safe
    std::uint32_t begun = 0;
    std::uint32_t acked = 0;  // by a handler
    std::uint32_t nacked = 0;
    std::uint64_t deaths_before = 0;  // consumers that had died, or were taken for dead, when it was sent
    bool dead_lettered = false;
    Message message;
    Wall published{};
    std::uint32_t handed_out = 0;
    std::optional<Now> confirmed_at;
    std::optional<Wall> first_handed_out;
};

// Of one queue, or of one subscription of a topic, each of which is told of everything that is published. Collects what
// is wrong; the first violation is what the seed is about.
class Model {
public:
    Model(const QueuePolicy& policy, std::string address, std::vector<std::string>& violations)
        : policy_(policy), address_(std::move(address)), violations_(violations) {}

    // A subscription, from now on with these bindings as well as those it had: which of them a message meets that is
    // on its way is not told. What was sent before its first consumer was welcome it may have or not.
    void bind(std::vector<Binding> bindings);
    void welcome();
    // It begins with all that the topic has ever accepted, whenever it is made.
    void begin_with_the_first();
    // Or with what its topic keeps of that, which is the latest.
    void begin_with_what_is_kept();
    [[nodiscard]] bool is_welcome() const { return welcome_; }
    // It goes: nothing has to reach it any more. Then it is gone, and another one of its name will come.
    void leave();
    [[nodiscard]] Totals gone();
    // Whether it may get the message, and whether it cannot but get it.
    [[nodiscard]] bool may_take(std::uint64_t message) const;
    [[nodiscard]] bool must_take(std::uint64_t message) const;

    void publish(std::uint64_t number, Kind kind, int producer, std::uint64_t sequence, Message message, Now now);
    // The message with this sequence, if there is one.
    [[nodiscard]] std::optional<std::uint64_t> find(int producer, std::uint64_t sequence) const;
    [[nodiscard]] Record& at(std::uint64_t message) { return records_.at(message); }
    [[nodiscard]] std::map<std::uint64_t, Record>& records() { return records_; }

    void confirmed(int producer, std::uint64_t first, std::uint64_t last, Now now);
    void refused(int producer, std::uint64_t sequence);
    void producer_died(int producer);
    // A life of the named producer is told its place; and what of the life before it was refused.
    void resumed(int producer, std::uint64_t place, Now now);
    void refused_before(std::uint64_t sequence);
    void begun(std::uint64_t message, std::uint64_t offset, std::uint32_t attempt, bool redriven);
    void ack_confirmed(std::uint64_t message);
    void edited(std::uint64_t message);                  // while it was dead; confirmed to the operator
    void sent_back(std::uint64_t message, bool edited);  // redriven, or dead
    // By the host, not a redriven one. After all of one turn: turn_over().
    void handed_out(std::uint64_t message, std::uint32_t token, Now now);
    void turn_over(Now now);
    void dead_letter(std::uint64_t message, const std::string& reason, std::uint32_t attempts,
                     std::uint32_t max_attempts, Wall at);
    // A life of the host ends, or all; it says how many messages it has dropped.
    void dropped(std::uint64_t count) { totals.dropped += count; }
    // Everything has been given time to drain. `forgot`: a host died, and with it drops that were not stored, and
    // happened again.
    void at_the_end(bool forgot);

    Totals totals;
    std::uint64_t deaths = 0;  // of consumers, as the host saw them

private:
    void violation(const std::string& what) { violations_.push_back(address_ + ": " + what); }
    [[nodiscard]] bool is_due(const Record& record) const;
    [[nodiscard]] bool must_take(const Record& record) const;
    void check_line(std::uint64_t message, const Record& record);
    void check_dedup(std::uint64_t message, const Record& record, Now now);
    [[nodiscard]] bool may_be_deduplicated(const Record& record) const;

    [[nodiscard]] bool makes_room() const;
    [[nodiscard]] Duration life_of(const Message& message) const;  // the queue's max_age is of it; zero: for ever
    void check_displaced(std::uint64_t message, const Record& record, Wall at);

    const QueuePolicy& policy_;
    std::string address_;
    std::vector<std::string>& violations_;
    std::vector<std::vector<Binding>> bindings_;  // all it ever had; none at all: a queue
    bool welcome_ = false;
    bool with_the_first_ = false;
    bool with_what_is_kept_ = false;
    std::map<int, std::uint64_t> earliest_;  // sequence that came from there, by producer

    std::map<std::uint64_t, Record> records_;
    std::map<std::pair<int, std::uint64_t>, std::uint64_t> by_sequence_;
    std::map<std::string, std::vector<std::uint64_t>> dedup_keys_;
    std::map<std::pair<int, std::string>, std::vector<std::uint64_t>> lines_;  // by producer and ordering key
    std::set<std::pair<unsigned, std::uint64_t>> waiting_;  // by priority: confirmed, never handed out, without terms
    std::vector<std::uint64_t> first_handed_out_;           // in this turn
    std::map<std::pair<std::uint64_t, int>, std::map<std::uint64_t, std::uint64_t>>
        offsets_;    // (life of the host, producer): sequence -> offset
    int named_ = 0;  // the last life that was told its place; 0: none
    std::uint64_t place_ = 0;
    std::set<int> replaced_;  // and those before
};

}  // namespace posthorn::sim
