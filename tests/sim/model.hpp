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
    void add(const Totals& other);
};

struct Record {
    Kind kind = Kind::healthy;
    int producer = 0;
    std::uint64_t sequence = 0;
    bool confirmed = false;  // the producer was told that it is safe
    bool refused = false;
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

// Collects what is wrong; the first violation is what the seed is about.
class Model {
public:
    explicit Model(const QueuePolicy& policy) : policy_(policy) {}

    // The message's payload becomes its number.
    const Message& publish(Kind kind, int producer, std::uint64_t sequence, Message message, Now now);
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
    // Everything has been given time to drain.
    void at_the_end();

    void violation(std::string what);
    [[nodiscard]] const std::vector<std::string>& violations() const { return violations_; }

    Totals totals;
    std::uint64_t deaths = 0;  // of consumers, as the host saw them

private:
    void check_line(std::uint64_t message, const Record& record);
    void check_dedup(std::uint64_t message, const Record& record, Now now);
    [[nodiscard]] bool may_be_deduplicated(const Record& record) const;

    [[nodiscard]] bool makes_room() const;
    [[nodiscard]] Duration life_of(const Message& message) const;  // the queue's max_age is of it; zero: for ever
    void check_displaced(std::uint64_t message, const Record& record, Wall at);

    const QueuePolicy& policy_;

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
    std::vector<std::string> violations_;
};

}  // namespace posthorn::sim
