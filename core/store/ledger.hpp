// The rows of their own, kept for what is rare or worth reading: topics, dead letters, producers' watermarks,
// deduplication keys.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "store/database.hpp"
#include "store/dead_chunks.hpp"
#include "store/store.hpp"
#include "store/upkeep_plan.hpp"

namespace posthorn::store {

struct TopicRow {
    TopicId id = 0;
    Offset next_offset = 1;
    std::uint64_t dead = 0;
    std::uint64_t dead_bytes = 0;
    bool strict = false;
    bool changed = false;  // the file has other values
};

class Ledger {
public:
    explicit Ledger(Database& db);

    void reload();  // from the file: at the start and after a rollback
    [[nodiscard]] const std::map<std::string, TopicRow>& topics() const noexcept { return topics_; }
    [[nodiscard]] const TopicRow* find(const std::string& topic) const;
    [[nodiscard]] std::string name_of(TopicId id) const;
    TopicRow& topic(const std::string& name);  // made when new
    void write(TopicRow& topic);               // if it has changed
    void become_strict(TopicRow& topic);
    void remember(const TopicRow& topic, const std::string& subscription);  // empty: no more
    void remove(const std::string& name);  // the topic, with all that is kept here; what was set aside stays

    void bury(TopicRow& topic, const DeadLetter& letter, std::string_view envelope, std::uint16_t redrives);
    void bury(TopicRow& topic, std::uint64_t envelope_bytes);  // it has been added to the dead chunks
    struct Found;
    void edit(TopicRow& topic, const Found& found, std::string_view envelope);
    void purge(TopicRow& topic, Offset dead);
    DeadDropped cut_back(TopicRow& topic, const DeadBound& bound);
    struct Found {
        StoredDeadLetter letter;
        bool damaged = false;                     // the envelope, the original or the reason; `letter` has its offset
        std::optional<DeadChunks::Found> lies{};  // in a dead chunk, which is damaged as a whole
    };
    // Nothing: there is none.
    std::optional<Found> dead_letter(const TopicRow& topic, Offset dead);
    // Of those that could not be set aside, the dead chunks to pass over; single ones are below `from`.
    std::optional<Found> next_dead_letter(TopicId topic, Offset from, const std::set<Offset>& passed);
    [[nodiscard]] static Damage damage(const std::string& topic, const Found& found);
    void set_dead_letter_aside(TopicRow& topic, const Found& found);
    [[nodiscard]] std::vector<Damage> take_damage() { return std::exchange(damage_, {}); }  // of what was set aside
    [[nodiscard]] DeadChunks& dead_chunks() noexcept { return dead_chunks_; }

    void put(const TopicRow& topic, const Watermark& watermark);
    void forget(const TopicRow& topic, const Identity& producer);
    // Ascending by producer. Those that cannot be read are left out and counted.
    std::vector<Watermark> watermarks(TopicId topic, std::size_t& damaged);

    void put(const TopicRow& topic, const std::vector<DedupKey>& keys);     // of one commit: one row
    void forget_dedup_keys(const TopicRow& topic, Offset below);            // rows with nothing else
    std::vector<DedupKey> dedup_keys(TopicId topic, std::size_t& damaged);  // ascending; damaged rows as above
    std::string subscription(TopicId topic, std::size_t& damaged);          // empty: none; damaged as above

private:
    static Found read_dead_letter(const Query& row);
    Found read_dead_letter(TopicId topic, const DeadChunks::Found& lies);
    void insert_dead(const TopicRow& topic, const DeadLetter& letter, std::string_view envelope,
                     std::uint16_t redrives);
    void drop(TopicRow& topic, const DeadChunks::Found& lies);  // which may as well be a row of its own
    std::optional<DeadChunks::Found> oldest_dead(TopicRow& topic, Offset from);

    Database& db_;
    std::map<std::string, TopicRow> topics_;
    DeadChunks dead_chunks_;
    std::vector<Damage> damage_;

    Statement select_topics_;
    Statement insert_topic_;
    Statement update_topic_;
    Statement insert_strict_;
    Statement put_subscription_;
    Statement delete_subscription_;
    Statement select_subscription_;
    Statement insert_dead_;
    Statement select_dead_;
    Statement select_dead_from_;
    Statement keep_original_;
    Statement update_dead_;
    Statement select_dead_size_;
    Statement delete_dead_;
    Statement delete_original_;
    Statement insert_damaged_;
    Statement put_producer_;
    Statement delete_producer_;
    Statement select_producers_;
    Statement put_dedup_;
    Statement delete_dedup_;
    Statement select_dedup_;
};

}  // namespace posthorn::store
