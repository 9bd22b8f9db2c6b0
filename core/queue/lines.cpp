// Whose turn it is. What is ready stands in one line by priority and place; of the messages with one ordering key only
// the first does, and only while none of them is out: leased, or waiting for its next attempt.
#include <algorithm>

#include "queue/queue.hpp"

namespace posthorn::queue {

namespace {

constexpr std::size_t line_share = 8;  // of its line in memory, below which a key is read on
constexpr std::uint32_t key_buckets = 1U << 16U;

std::uint32_t bucket_of(std::uint64_t key) {
    return static_cast<std::uint32_t>(key % key_buckets);
}

}  // namespace

void Queue::make_ready(Offset offset, Entry& entry) {
    entry.where = Where::ready;
    if (entry.key == 0) {
        show(offset, entry);
        return;
    }
    lines_[entry.key].members.insert(offset);
    refresh_line(entry.key);
}

// It may be delivered.
void Queue::show(Offset offset, Entry& entry) {
    entry.shown = true;
    ++ready_;
    const bool plain = entry.token == 0 && entry.key == 0 && entry.priority == 0;
    if (entry.suspect) {
        suspects_.insert(offset);
    } else {
        ++ready_of_.at(entry.priority);
        if (plain && (fresh_.empty() || fresh_.back() < offset)) {
            fresh_.push_back(offset);
        } else {
            returned_.insert({priority_limit - entry.priority, offset});
        }
    }
    if (entry.body.empty() && offset >= pending_first()) {
        keep_body(entry, pending_[offset - pending_first()].envelope);
    }
}

// fresh_ is looked through when its turn comes.
void Queue::hide(Offset offset, Entry& entry) {
    entry.shown = false;
    --ready_;
    if (!entry.suspect) --ready_of_.at(entry.priority);
    suspects_.erase(offset);
    returned_.erase({priority_limit - entry.priority, offset});
    drop_body(entry);
}

// Of a ready or waiting message that is to be leased or to leave entries_; its line is refreshed by that.
void Queue::leave_line(Offset offset, Entry& entry) {
    if (entry.where == Where::waiting) {
        waiting_.erase({entry.since, offset});
        holding_up_.erase(offset);
        if (entry.key != 0 && entry.token > 0) --lines_[entry.key].out;
        return;
    }
    if (entry.shown) hide(offset, entry);
    if (entry.key == 0) return;
    Line& line = lines_[entry.key];
    line.members.erase(offset);
    if (line.shown == offset) line.shown = 0;
}

void Queue::refresh_line(std::uint64_t key) {
    const auto it = lines_.find(key);
    if (it == lines_.end()) return;
    Line& line = it->second;
    const Offset next = line.out == 0 && !line.members.empty() ? *line.members.begin() : 0;
    if (next != line.shown) {
        if (line.shown != 0) hide(line.shown, entries_.find(line.shown)->second);
        if (next != 0) show(next, entries_.find(next)->second);
        line.shown = next;
    }
    if (line.more) {
        if (line.members.size() < limits_.line / line_share + 1) hungry_.insert(key);
    } else if (line.members.empty() && line.out == 0) {
        lines_.erase(it);
    }
}

// Whether one more message of this key may be kept in memory. If not, it stays in the store, and so do those behind it.
bool Queue::line_has_room(std::uint64_t key, bool reading_on) {
    if (key == 0) return true;
    const auto it = lines_.find(key);
    if (it == lines_.end()) return true;
    Line& line = it->second;
    if (line.more && !reading_on) return false;
    if (line.members.size() >= limits_.line) line.more = true;
    return line.members.size() < limits_.line;
}

// Messages of one key are read on by priority like all others, so a later one must not stand above one before it. Keys
// are told apart by their bucket: one that shares it loses some of its priority, and no order.
unsigned Queue::priority_in_line(std::uint64_t key, unsigned priority) const {
    const auto it = key == 0 ? unsettled_keyed_.end() : unsettled_keyed_.find(bucket_of(key));
    if (it == unsettled_keyed_.end()) return priority;
    const auto lowest =
        std::find_if(it->second.begin(), it->second.end(), [](std::uint32_t count) { return count > 0; });
    return std::min(priority, static_cast<unsigned>(lowest - it->second.begin()));
}

void Queue::count_keyed(std::uint64_t key, unsigned priority) {
    if (key != 0) ++unsettled_keyed_[bucket_of(key)].at(priority);
}

void Queue::uncount_keyed(std::uint64_t key, unsigned priority) {
    if (key == 0) return;
    const auto it = unsettled_keyed_.find(bucket_of(key));
    if (it == unsettled_keyed_.end()) return;
    --it->second.at(priority);
    if (std::all_of(it->second.begin(), it->second.end(), [](std::uint32_t count) { return count == 0; })) {
        unsettled_keyed_.erase(it);
    }
}

}  // namespace posthorn::queue
