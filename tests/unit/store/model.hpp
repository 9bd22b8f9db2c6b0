// A store that is too simple to be wrong, and random work for it and for the real ones.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "store/store.hpp"

namespace posthorn::store::testing {

inline constexpr Wall some_time{std::chrono::milliseconds{1'700'000'000'000}};

struct ModelMessage {
    std::string envelope;
    std::uint16_t redrives = 0;
    bool maybe_duplicate = false;
    Wall accepted_at{};
    Terms terms{};
    std::optional<Mark> mark;
    friend bool operator==(const ModelMessage&, const ModelMessage&) = default;
};

struct ModelDead {
    Reason reason = Reason::rejected;
    std::string text;
    std::uint32_t attempts = 0;
    Wall first_failure{};
    Wall last_failure{};
    std::string consumer;
    std::string envelope;
    std::uint16_t redrives = 0;
    std::optional<std::string> original;
    [[nodiscard]] std::size_t size() const { return envelope.size() + (original ? original->size() : 0); }
    friend bool operator==(const ModelDead&, const ModelDead&) = default;
};

struct ModelKey {
    Wall accepted_at{};
    std::string key;
    Offset last = 0;  // of its commit; not told at a recovery
    friend bool operator==(const ModelKey& a, const ModelKey& b) {
        return a.accepted_at == b.accepted_at && a.key == b.key;
    }
};

struct ModelTopic {
    Offset next_offset = 1;
    std::map<Offset, ModelMessage> messages;
    std::map<Offset, ModelDead> dead;
    std::unordered_map<Identity, std::tuple<std::uint64_t, std::vector<Refusal>, Identity>> watermarks;
    std::map<Offset, ModelKey> dedup_keys;
    std::string subscription;
    friend bool operator==(const ModelTopic&, const ModelTopic&) = default;
};

using Model = std::map<std::string, ModelTopic>;

void play(Model& model, const TopicBatch& batch);
void play(Model& model, const Job& job);
[[nodiscard]] ReadResult expected(const Model& model, const Read& read, bool marks = true);

// What the store says it holds, by reading everything. Marks and watermarks as far as it keeps them.
[[nodiscard]] Model contents(Store& store, const std::vector<std::string>& topics);
// The same after recover(), which names the topics and watermarks itself; checks its sums against what is read.
[[nodiscard]] Model recovered(Store& store);
// What a store that does not outlive its process need not keep.
[[nodiscard]] Model without_memory_of_lives(Model model);

[[nodiscard]] Identity identity(std::uint8_t number);
// The store on disk in this folder, recovered.
[[nodiscard]] std::unique_ptr<Store> open(const std::filesystem::path& folder);
[[nodiscard]] Append message(Offset offset, std::string envelope);
// One batch with `count` messages of `size` bytes, the first at `first`.
[[nodiscard]] TopicBatch batch_of(Offset first, std::size_t count, std::size_t size = 20);
[[nodiscard]] Job job_of(TopicBatch batch);
// The same for each of these topics, as one share.
[[nodiscard]] Job shared_job(const TopicBatch& batch, const std::vector<std::string>& topics);
[[nodiscard]] Read read_all(const std::string& topic = "q");

// Random jobs that fit what the model holds.
class Work {
public:
    explicit Work(std::uint64_t seed) : random_(seed) {}

    [[nodiscard]] Job job(const Model& model);
    [[nodiscard]] Read read(const Model& model);
    std::uint64_t pick(std::uint64_t below) { return random_() % below; }

private:
    TopicBatch batch(const std::string& name, const ModelTopic& topic, const TopicBatch* common);
    Terms terms();
    void add_messages(TopicBatch& batch);
    void take_of(const TopicBatch& common, TopicBatch& batch);
    void settle(TopicBatch& batch, const ModelTopic& topic);
    void mark(TopicBatch& batch, const ModelTopic& topic);
    void bury(TopicBatch& batch, const ModelTopic& topic);
    void look_after_dead(TopicBatch& batch, const ModelTopic& topic);
    void remember(TopicBatch& batch, const ModelTopic& topic);
    void deduplicate(TopicBatch& batch, const ModelTopic& topic);
    std::string bytes();

    std::mt19937_64 random_;
};

}  // namespace posthorn::store::testing
