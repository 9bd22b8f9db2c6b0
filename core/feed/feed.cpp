#include "feed/feed.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "envelope/binding.hpp"
#include "envelope/wire.hpp"

namespace posthorn::feed {

namespace {

constexpr std::uint64_t no_bound = std::numeric_limits<std::uint64_t>::max();

std::vector<Binding> simplest(std::vector<Binding> filter) {
    if (envelope::takes_everything(filter)) filter.clear();
    return filter;
}

std::uint64_t less(std::uint64_t a, std::uint64_t b) {
    return a > b ? a - b : 0;
}

}  // namespace

// What is kept -----------------------------------------------------------------------------------------------------

void Feed::Chunk::add(std::string_view envelope) {
    // A rare filter's chunk stays small, a full one has no room to spare.
    if (list.size() > batch_bytes / 4 && list.capacity() < batch_bytes) list.reserve(batch_bytes);
    wire::Writer(list).binary(envelope);
    ends.push_back(static_cast<std::uint32_t>(list.size()));
}

Batch Feed::Chunk::from(std::uint64_t number, const Room& room) const {
    const std::uint32_t begin = begin_of(number);
    const auto at = ends.begin() + static_cast<std::ptrdiff_t>(number - first);
    const auto within = [&](std::uint64_t bytes) {  // how many of the next end within so many bytes
        return static_cast<std::uint64_t>(std::upper_bound(at, ends.end(), begin + bytes) - at);
    };
    // Of the room's bytes the last one may take more than is left; a batch is no larger than it may be, or one message.
    const std::uint64_t fit =
        std::min(within(batch_bytes), within(std::min<std::uint64_t>(room.bytes - 1, batch_bytes)) + 1);
    const std::uint64_t count = std::min({std::max<std::uint64_t>(fit, 1), room.messages, behind() - number});
    const std::uint32_t end = ends[static_cast<std::size_t>(number - first + count - 1)];
    return {number, static_cast<std::uint32_t>(count), std::string_view{list}.substr(begin, end - begin)};
}

void Feed::Group::add(std::string_view envelope) {
    if (chunks.empty() || chunks.back().list.size() + envelope.size() > batch_bytes) {
        chunks.push_back({.first = end, .bytes_before = bytes_end, .list = {}, .ends = {}});
    }
    Chunk& last = chunks.back();
    last.add(envelope);
    ++end;
    bytes_end = last.bytes_before + last.list.size();
}

const Feed::Chunk& Feed::Group::chunk_of(std::uint64_t number) const {
    return *std::prev(std::upper_bound(chunks.begin(), chunks.end(), number,
                                       [](std::uint64_t one, const Chunk& chunk) { return one < chunk.first; }));
}

std::uint64_t Feed::Group::bytes_before(std::uint64_t number) const {
    if (number >= end || chunks.empty()) return bytes_end;
    const Chunk& chunk = chunk_of(number);
    return chunk.bytes_before + chunk.begin_of(number);
}

std::uint64_t Feed::Group::first_within(std::uint64_t bytes) const {
    if (kept_bytes() <= bytes) return begin;
    const std::uint64_t from = bytes_end - bytes;
    const auto behind = std::upper_bound(chunks.begin(), chunks.end(), from,
                                         [](std::uint64_t at, const Chunk& one) { return at <= one.bytes_before; });
    const Chunk& chunk = *std::prev(behind);
    const auto found = std::lower_bound(chunk.ends.begin(), chunk.ends.end(), from - chunk.bytes_before);
    return chunk.first + static_cast<std::uint64_t>(found - chunk.ends.begin()) + 1;
}

void Feed::publish(const Slice& envelope) {
    std::optional<envelope::Labels> labels;
    const auto read = [&]() -> const envelope::Labels& {
        if (!labels) labels = envelope::read_labels(envelope.view());
        return *labels;
    };
    for (Group& group : groups_) {
        if (!group.filter.empty() && !envelope::matches(group.filter, read())) continue;
        const std::uint64_t before = group.bytes_end;
        group.add(envelope.view());
        bytes_ += group.bytes_end - before;
        counters_.matched += group.links.size();
    }
    if (policy_.last_values > 0) keep_value(envelope.view(), read().subject);
}

void Feed::keep_value(std::string_view envelope, std::string_view subject) {
    const auto known = by_subject_.find(subject);
    if (known != by_subject_.end()) {
        values_.splice(values_.end(), values_, known->second);
        value_bytes_ -= known->second->envelope.size();
        known->second->envelope = envelope;
    } else {
        values_.push_back({std::string{subject}, std::string{envelope}});
        by_subject_.emplace(values_.back().subject, std::prev(values_.end()));
    }
    value_bytes_ += envelope.size();
    while (values_.size() > policy_.last_values || (value_bytes_ > policy_.last_value_bytes && values_.size() > 1)) {
        value_bytes_ -= values_.front().envelope.size();
        by_subject_.erase(values_.front().subject);
        values_.pop_front();
    }
}

// Bounds -----------------------------------------------------------------------------------------------------------

void Feed::keep_bounds() {
    for (Group& group : groups_) {
        release(group);
        const bool over = group.end - group.begin > policy_.max_messages || group.kept_bytes() > policy_.max_bytes;
        if (over && !blocks()) cut(group, policy_.max_messages, policy_.max_bytes);
    }
    if (bytes_ > policy_.total_bytes) keep_total();
}

// All are too much together: last values that were not taken go first, then the largest give way.
void Feed::keep_total() {
    for (auto& [id, link] : links_) {
        if (link.floor <= link.before) cut(link, link.joined);
        release_values(link);
    }
    while (bytes_ > policy_.total_bytes && !blocks()) {
        const auto largest = std::max_element(groups_.begin(), groups_.end(), [](const Group& a, const Group& b) {
            return a.kept_bytes() < b.kept_bytes();
        });
        const std::uint64_t before = bytes_;
        cut(*largest, no_bound, largest->kept_bytes() / 2);
        if (bytes_ == before) return;  // there is no more than the last chunk of each
    }
}

// To the latest so many, and the latest of all.
void Feed::cut(Group& group, std::uint64_t messages, std::uint64_t bytes) {
    const std::uint64_t first = std::max(less(group.end, messages), group.first_within(bytes));
    for (const LinkId id : group.links) cut(at(id), std::min(first, group.end - 1));
    release(group);
}

// Nothing of the group is kept for it below this.
void Feed::cut(Link& link, std::uint64_t floor) {
    const std::uint64_t first = link.of_group(floor);
    if (first <= link.floor) return;
    counters_.missed_full += less(first, link.passed + 1);
    link.passed = std::max(link.passed, first - 1);
    link.floor = first;
    link.next = std::max(link.next, first);
    release_values(link);
}

void Feed::release_values(Link& link) {
    if (link.floor <= link.before || link.values.ends.empty()) return;
    bytes_ -= link.values.list.size();
    link.values = {};
}

void Feed::release(Group& group) {
    group.begin = group.end;
    for (const LinkId id : group.links) group.begin = std::min(group.begin, at(id).in_group(at(id).floor));
    while (!group.chunks.empty() && group.chunks.front().behind() <= group.begin) {
        bytes_ -= group.chunks.front().list.size();
        group.chunks.pop_front();
    }
}

std::uint64_t Feed::free_messages() const {
    if (!blocks()) return no_bound;
    std::uint64_t free = policy_.max_messages;
    for (const auto& [id, link] : links_)
        free = std::min(free, less(policy_.max_messages, link.group->end - link.in_group(link.floor)));
    return free;
}

std::uint64_t Feed::free_bytes() const {
    if (!blocks()) return no_bound;
    std::uint64_t free = std::min(policy_.max_bytes, less(policy_.total_bytes, bytes_));
    for (const auto& [id, link] : links_) {
        const std::uint64_t kept = link.group->bytes_end - link.group->bytes_before(link.in_group(link.floor));
        free = std::min(free, less(policy_.max_bytes, kept));
    }
    return free;
}

// Links ------------------------------------------------------------------------------------------------------------

bool Feed::is_crowded(const std::vector<Binding>& filter) const {
    if (groups_.size() < filters_limit) return false;
    return std::none_of(groups_.begin(), groups_.end(), [&, wanted = simplest(filter)](const Group& group) {
        return group.filter == wanted || is_deserted(group);
    });
}

bool Feed::is_deserted(const Group& group) const {
    return std::all_of(group.links.begin(), group.links.end(),
                       [&](LinkId id) { return links_.at(id).away_since != never; });
}

Feed::Group& Feed::group_of(std::vector<Binding> filter) {
    const auto found =
        std::find_if(groups_.begin(), groups_.end(), [&](const Group& group) { return group.filter == filter; });
    if (found != groups_.end()) return *found;
    if (groups_.size() >= filters_limit) {  // who was away for longest makes way
        const auto longest = std::find_if(away_.begin(), away_.end(),
                                          [&](const auto& one) { return is_deserted(*at(one.second).group); });
        if (longest != away_.end()) {
            for (const LinkId id : std::vector(at(longest->second).group->links)) forget(id);
        }
    }
    return groups_.emplace_back(Group{.filter = std::move(filter)});
}

LinkId Feed::attach(const Identity& subscriber, std::vector<Binding> filter, LinkId known, std::uint64_t received,
                    LinkId fresh) {
    filter = simplest(std::move(filter));
    if (const auto found = by_subscriber_.find(subscriber); found != by_subscriber_.end()) {
        const LinkId id = found->second;
        Link& link = at(id);
        if ((known == id || !link.known) && link.group->filter == filter) {
            away_.erase({link.away_since, id});
            link.away_since = never;
            const std::uint64_t told = known == id ? std::min(received, link.told) : 0;
            link.told = told;
            link.heard = std::max(link.heard, told);
            link.floor = std::max(link.floor, told + 1);
            link.next = link.floor;
            return id;
        }
        forget(id);
    }
    Link& link = links_[fresh];
    by_subscriber_[subscriber] = fresh;
    link.subscriber = subscriber;
    link.group = &group_of(std::move(filter));
    link.joined = link.group->end;
    link.group->links.push_back(fresh);
    collect_values(link);
    return fresh;
}

void Feed::collect_values(Link& link) {
    for (const Value& value : values_) {
        const std::vector<Binding>& filter = link.group->filter;
        if (filter.empty() || envelope::matches(filter, envelope::read_labels(value.envelope)))
            link.values.add(value.envelope);
    }
    link.before = link.values.ends.size();
    bytes_ += link.values.list.size();
    counters_.matched += link.before;
}

void Feed::detach(LinkId id, Mono now) {
    const auto found = links_.find(id);
    if (found == links_.end() || found->second.away_since != never) return;
    found->second.away_since = now;
    away_.emplace(now, id);
    if (away_.size() > away_limit) leave(away_.begin()->second);
}

void Feed::leave(LinkId id) {
    if (links_.contains(id)) forget(id);
}

void Feed::forget(LinkId id) {
    Link& link = at(id);
    if (link.away_since != never) {
        away_.erase({link.away_since, id});
        counters_.missed_gone += link.end() - link.passed - 1;
    }
    bytes_ -= link.values.list.size();
    Group& group = *link.group;
    std::erase(group.links, id);
    release(group);
    if (group.links.empty()) {
        groups_.remove_if([&](const Group& one) { return &one == &group; });
    }
    by_subscriber_.erase(link.subscriber);
    links_.erase(id);
}

void Feed::forget_away(Mono now) {
    while (!away_.empty() && away_.begin()->first + patience() <= now) forget(away_.begin()->second);
}

Mono Feed::next_deadline() const {
    return away_.empty() ? never : away_.begin()->first + patience();
}

// What they are given ----------------------------------------------------------------------------------------------

std::optional<Batch> Feed::next(LinkId id, const Room& room) {
    Link& link = at(id);
    if (link.next >= link.end() || room.messages == 0 || room.bytes == 0) return std::nullopt;
    Batch batch;
    if (link.next <= link.before) {
        batch = link.values.from(link.next, room);
    } else {
        const std::uint64_t number = link.in_group(link.next);
        batch = link.group->chunk_of(number).from(number, room);
        batch.first = link.next;
    }
    link.next += batch.count;
    link.told = link.next - 1;
    link.passed = std::max(link.passed, link.told);
    return batch;
}

std::optional<std::uint64_t> Feed::gap(LinkId id) {
    if (!has_gap(id)) return std::nullopt;
    Link& link = at(id);
    link.told = link.next - 1;
    return link.next;
}

std::optional<std::uint64_t> Feed::unheard_of(LinkId id) {
    Link& link = at(id);
    if (link.next != link.end() || link.heard + 1 == link.next) return std::nullopt;
    link.told = link.next - 1;
    return link.next;
}

void Feed::give_up(LinkId id) {
    Link& link = at(id);
    counters_.missed_gone += link.end() - link.passed - 1;
    link.next = link.end();
    link.passed = link.next - 1;
}

void Feed::taken(LinkId id, std::uint64_t number) {
    Link& link = at(id);
    link.known = true;
    link.floor = std::max(link.floor, std::min(number, link.told) + 1);
    release_values(link);
}

void Feed::arrived(LinkId id, std::uint64_t number) {
    Link& link = at(id);
    link.heard = std::max(link.heard, std::min(number, link.told));
}

bool Feed::all_arrived() const {
    return std::all_of(links_.begin(), links_.end(),
                       [](const auto& one) { return one.second.heard + 1 == one.second.end(); });
}

}  // namespace posthorn::feed
