// A live topic's messages on their way to its subscribers, each of which has a link: a filter, a place, a sequence.
// Links with equal filters are a group; what matches is kept once for all of a group, as it goes out, until each of
// them has taken it. A link is a cursor into that. What is beyond its bounds gives way, the oldest first, or publishers
// wait.
//
// The messages of a link are numbered 1, 2, 3, ... from when it was made. What it is not given leaves a gap there,
// which the next batch shows: so received + missed = matched, exactly, for as long as the link is known.
//
// A plain machine: no I/O, no clock, no thread. Not thread-safe.
#pragma once

#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <posthorn/policy.hpp>
#include <posthorn/time.hpp>
#include <posthorn/topic.hpp>

#include "envelope/bytes.hpp"
#include "envelope/envelope.hpp"
#include "envelope/identity.hpp"

namespace posthorn::feed {

using LinkId = std::uint64_t;  // never 0, never used again

// Neighbours in the sequence of a link. `list` has the envelopes as bins, one behind the other.
struct Batch {
    std::uint64_t first = 0;
    std::uint32_t count = 0;
    std::string_view list;  // until something is published or taken
};

// What a subscriber is ready for.
struct Room {
    std::uint64_t messages = 0;
    std::uint64_t bytes = 0;  // of a batch's list; the last message may go beyond
};

// Of all links since the host started.
struct Counters {
    std::uint64_t matched = 0;
    // Never given to a link: because it was too slow; because it did not come back in time, or the end came before.
    std::uint64_t missed_full = 0;
    std::uint64_t missed_gone = 0;
};

class Feed {
public:
    static constexpr std::size_t batch_bytes = 64 * 1024;  // of a batch's list, unless it is one message
    static constexpr std::size_t filters_limit = 1000;     // each message is compared with all of them
    static constexpr std::size_t away_limit = 1000;        // links that wait for their subscribers

    explicit Feed(const LivePolicy& policy) : policy_(policy) {}

    void publish(const Slice& envelope);
    // To be called after some messages, before there is time for others: what is beyond the bounds goes.
    void keep_bounds();
    // How much may still be published; max() where nobody has to wait.
    [[nodiscard]] std::uint64_t free_messages() const;
    [[nodiscard]] std::uint64_t free_bytes() const;
    [[nodiscard]] bool blocks() const noexcept { return policy_.when_full == WhenFull::block; }

    // Whether there are as many filters as there can be, of subscribers that are there, and this would be another one.
    [[nodiscard]] bool is_crowded(const std::vector<Binding>& filter) const;
    // A subscriber is there, in a feed that is not crowded for it. It goes on with the link it had, if `known` is that
    // one (then it has had everything up to `received`) or if it never heard of it; else it has a new one, which is
    // called `fresh`.
    LinkId attach(const Identity& subscriber, std::vector<Binding> filter, LinkId known, std::uint64_t received,
                  LinkId fresh);
    // Its session is lost: the link waits for it.
    void detach(LinkId id, Mono now);
    void leave(LinkId id);
    void forget_away(Mono now);  // those that have waited for too long
    [[nodiscard]] Mono next_deadline() const;

    // The next messages for it, if there are any and room for them.
    std::optional<Batch> next(LinkId id, const Room& room);
    // There is a gap it has not been shown yet: the number of the message behind it, which shows it.
    [[nodiscard]] bool has_gap(LinkId id) const { return links_.at(id).told + 1 < links_.at(id).next; }
    std::optional<std::uint64_t> gap(LinkId id);
    // It has been given everything, and has not said that it has come: the number behind, to be asked for that.
    std::optional<std::uint64_t> unheard_of(LinkId id);
    // It will be given nothing more: what it was not given is missed, and a gap.
    void give_up(LinkId id);
    // Everything up to `number`: it will not ask for that again.
    void taken(LinkId id, std::uint64_t number);
    // Everything up to `number` has come there.
    void arrived(LinkId id, std::uint64_t number);
    // There is nothing that has not come to all links, those included that are away.
    [[nodiscard]] bool all_arrived() const;

    [[nodiscard]] const Counters& counters() const noexcept { return counters_; }
    [[nodiscard]] std::size_t links() const noexcept { return links_.size(); }
    [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }  // kept, but for last values

private:
    // Neighbouring messages, encoded.
    struct Chunk {
        std::uint64_t first = 1;         // number of the first
        std::uint64_t bytes_before = 0;  // of the sequence
        std::string list;
        std::vector<std::uint32_t> ends;  // in the list

        [[nodiscard]] std::uint64_t behind() const noexcept { return first + ends.size(); }
        [[nodiscard]] std::uint32_t begin_of(std::uint64_t number) const {
            return number == first ? 0 : ends[static_cast<std::size_t>(number - first - 1)];
        }
        void add(std::string_view envelope);
        [[nodiscard]] Batch from(std::uint64_t number, const Room& room) const;
    };
    // Of one filter.
    struct Group {
        std::vector<Binding> filter;  // none: everything
        std::deque<Chunk> chunks{};
        std::uint64_t begin = 1;  // the first that a link may still ask for
        std::uint64_t end = 1;    // the next one
        std::uint64_t bytes_end = 0;
        std::vector<LinkId> links{};

        void add(std::string_view envelope);
        [[nodiscard]] const Chunk& chunk_of(std::uint64_t number) const;
        [[nodiscard]] std::uint64_t bytes_before(std::uint64_t number) const;
        // The first from which on there are no more than so many bytes.
        [[nodiscard]] std::uint64_t first_within(std::uint64_t bytes) const;
        [[nodiscard]] std::uint64_t kept_bytes() const {
            return chunks.empty() ? 0 : bytes_end - chunks[0].bytes_before;
        }
    };
    struct Link {
        Identity subscriber;
        Group* group = nullptr;
        std::uint64_t joined = 1;  // the number in the group of the first that came after the link was made
        std::uint64_t before = 0;  // last values that it has in front of that
        Chunk values{};            // these, until they are taken
        // In its own sequence:
        std::uint64_t floor = 1;   // the first that is kept for it
        std::uint64_t next = 1;    // to be given
        std::uint64_t told = 0;    // it has heard of everything up to here, message or gap
        std::uint64_t passed = 0;  // the highest that was ever given, or counted as missed
        std::uint64_t heard = 0;   // everything up to here has come
        bool known = false;        // it has taken something: so it knows the link
        Mono away_since = never;

        [[nodiscard]] std::uint64_t end() const noexcept { return before + group->end - joined + 1; }  // the next one
        [[nodiscard]] std::uint64_t in_group(std::uint64_t number) const noexcept {
            return number <= before ? joined : joined + number - before - 1;
        }
        [[nodiscard]] std::uint64_t of_group(std::uint64_t number) const noexcept {
            return number < joined ? 0 : before + number - joined + 1;
        }
    };
    struct Value {
        std::string subject;
        std::string envelope;
    };

    [[nodiscard]] Link& at(LinkId id) { return links_.at(id); }
    Group& group_of(std::vector<Binding> filter);
    [[nodiscard]] bool is_deserted(const Group& group) const;
    void collect_values(Link& link);
    void keep_value(std::string_view envelope, std::string_view subject);
    void cut(Group& group, std::uint64_t messages, std::uint64_t bytes);
    void cut(Link& link, std::uint64_t floor);
    void keep_total();
    void release(Group& group);
    void release_values(Link& link);
    void forget(LinkId id);
    [[nodiscard]] Duration patience() const noexcept {
        return blocks() ? defaults::live_link_wait : defaults::live_link_memory;
    }

    LivePolicy policy_;
    std::list<Group> groups_;
    std::map<LinkId, Link> links_;
    std::unordered_map<Identity, LinkId> by_subscriber_;
    std::set<std::pair<Mono, LinkId>> away_;  // by when they went
    std::list<Value> values_;                 // in the order of publication
    std::unordered_map<std::string_view, std::list<Value>::iterator> by_subject_;
    std::uint64_t value_bytes_ = 0;
    std::uint64_t bytes_ = 0;
    Counters counters_;
};

}  // namespace posthorn::feed
