#include "store/upkeep_plan.hpp"

#include <algorithm>
#include <iterator>

namespace posthorn::store {

void UpkeepPlan::created(ChunkKey chunk, std::size_t body_bytes) {
    if (body_bytes > small_bytes) return;
    const auto [topic, first] = chunk;
    const auto [at, is_new] = fresh_.try_emplace(topic, Fresh{first, 0});
    Fresh& fresh = at->second;
    fresh.from = std::min(fresh.from, first);
    ++fresh.count;
    set_due(topic, fresh);
}

void UpkeepPlan::gone(ChunkKey chunk, std::size_t body_bytes) {
    if (body_bytes > small_bytes) return;
    const auto [topic, first] = chunk;
    const auto at = fresh_.find(topic);
    if (at == fresh_.end() || first < at->second.from) return;
    if (--at->second.count == 0) {
        fresh_.erase(at);
        due_.erase(topic);
    } else {
        set_due(topic, at->second);
    }
}

void UpkeepPlan::set_due(TopicId topic, const Fresh& fresh) {
    if (fresh.count > merge_rows + active_end) {
        due_.insert(topic);
    } else {
        due_.erase(topic);
    }
}

void UpkeepPlan::sparse(ChunkKey chunk) {
    if (sparse_.size() < sparse_kept) sparse_.push_back({chunk, commits_});
}

std::optional<ChunkKey> UpkeepPlan::merge_due() const {
    if (due_.empty()) return std::nullopt;
    const TopicId topic = *due_.begin();
    return ChunkKey{topic, fresh_.at(topic).from};
}

void UpkeepPlan::merged(TopicId topic, std::size_t left, std::optional<Offset> next) {
    const auto at = fresh_.find(topic);
    if (at == fresh_.end()) return;
    if (!next || left >= at->second.count) {
        fresh_.erase(at);
        due_.erase(topic);
        return;
    }
    at->second.from = *next;
    at->second.count -= left;
    set_due(topic, at->second);
}

std::optional<ChunkKey> UpkeepPlan::take_sparse() {
    if (sparse_.empty() || commits_ - sparse_.front().since < sparse_wait) return std::nullopt;
    const ChunkKey chunk = sparse_.front().chunk;
    sparse_.pop_front();
    return chunk;
}

void UpkeepPlan::thin(std::int64_t body) {
    if (thin_.size() < thin_kept) thin_.insert(body);
}

std::optional<std::int64_t> UpkeepPlan::take_thin() {
    if (thin_.empty()) return std::nullopt;
    return thin_.extract(std::prev(thin_.end())).value();  // the oldest
}

}  // namespace posthorn::store
