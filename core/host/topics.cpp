// Topics and their subscriptions: how they come to be, what of them is stored, and how they go.
#include <algorithm>
#include <limits>

#include <posthorn/status.hpp>

#include "envelope/binding.hpp"
#include "host/host_impl.hpp"

namespace posthorn::host {

namespace {

// What the store remembers of a topic (no more than that it is one) and of a subscription.
struct Record {
    bool subscription = false;
    bool temporary = false;
    std::vector<Binding> bindings{};
    bool incomplete = false;  // it was to begin in the past, and has not been given all of that yet
};

std::string encode(const Record& record) {
    std::string bytes;
    wire::Writer out(bytes);
    out.boolean(record.subscription).boolean(record.temporary);
    envelope::write_bindings(out, record.bindings);
    if (record.incomplete) out.boolean(true);
    return bytes;
}

std::optional<Record> decode(std::string_view bytes) {
    wire::Reader in(bytes);
    Record record;
    record.subscription = in.boolean();
    record.temporary = in.boolean();
    envelope::read_bindings(in, record.bindings);
    record.incomplete = in.ok() && !in.at_end() && in.boolean();
    return in.ok() && in.at_end() ? std::optional(std::move(record)) : std::nullopt;
}

const std::string log_suffix = std::string{"/"}.append(retained_name);

// Where a subscription begins, and no more of it yet.
store::Replay begin_of(const From& from) {
    switch (from.what) {
        case From::What::time: {
            constexpr auto most = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
            const auto ms = static_cast<std::int64_t>(std::min(from.number, most));
            return {.since = Wall{WallClock::duration{ms}}};
        }
        case From::What::last:
            return {.last = std::max<std::uint64_t>(from.number, 1)};
        case From::What::sequence:
            break;
    }
    return {.from = from.number};
}

constexpr std::size_t postponed_limit = 100;  // each may be as large as a hello

}  // namespace

bool is_log(std::string_view address) {
    return address.ends_with(log_suffix);
}

void Host::Impl::describe(Box& box, Now now) {
    box.recorded = false;
    box.sync = true;
    box.queue.describe(encode({box.topic != nullptr, box.temporary, box.bindings, box.replay.has_value()}), now);
    touch(box);
}

Box& Host::Impl::open_topic(const std::string& name, Now now) {
    Box& box = open_box(name);
    if (box.queue.is_topic()) return box;
    box.queue.become_topic();
    describe(box, now);
    return box;
}

Box& Host::Impl::open_subscription(const std::string& address, bool temporary, std::vector<Binding> bindings,
                                   const std::optional<From>& from, Now now) {
    if (Box* known = find_box(address)) return *known;
    Box& topic = open_topic(topic_part(address), now);
    Box& box = make_box(address);
    box.temporary = temporary;
    box.bindings = std::move(bindings);
    if (from) {
        box.topic = &topic;
        box.replay = begin_of(*from);
        box.replay->of = topic.log->queue.name();
        box.replay->max_messages = options.limits.replayed;
    } else {
        box.queue.start_at(topic.queue.next_offset());
        if (temporary) box.alone_until = now.mono + box.queue.policy().lease;  // if nobody comes after all
        join(topic, box);
    }
    describe(box, now);
    return box;
}

void Host::Impl::open_log(Box& topic, Now now) {
    if (topic.log == nullptr) open_subscription(topic.queue.name() + log_suffix, false, {}, std::nullopt, now);
}

// The next slice of what it is given, as its bindings are now. Run by the store, on a thread of its own. What it has
// not come to yet stays in the log, or there would be a gap behind it. So that the log ends somewhere, a slice is at
// least twice what has been published since the one before.
store::Replay Host::Impl::next_slice(Box& box) {
    store::Replay slice = *box.replay;
    if (Box* log = box.topic->log) {
        const store::Offset end = log->queue.next_offset();
        if (replaying == &box) slice.at_least = slice.from + 2 * (end - replayed_end);
        replayed_end = end;
        log->queue.spare_from(slice.from);
        touch(*log);
    }
    replaying = &box;
    if (!envelope::takes_everything(box.bindings)) {
        slice.wants = [bindings = box.bindings](std::string_view bytes) {
            return envelope::is_wanted(bindings, bytes);
        };
    }
    slice.subscription = encode({true, box.temporary, box.bindings});
    return slice;
}

// The next one may begin.
void Host::Impl::end_replay() {
    if (Box* log = replaying->topic->log) {
        log->queue.spare_from(std::numeric_limits<store::Offset>::max());
        touch(*log);
    }
    replaying = nullptr;
}

// It waits for room that the log would make if it did not wait for the replay. So it goes, with what it has been given,
// and its consumer, who has not been welcomed yet, has it made anew: it begins when there is room.
void Host::Impl::give_up_replay(Now now) {
    if (disk_full && replaying != nullptr) remove_subscription(*replaying, now);
}

// After a commit. What the log had gathered for it is in the part, so what it has accepted since is all that is missing
// when the part is the last one.
void Host::Impl::replayed(const store::Replayed& part, Now now) {
    Box* const box = find_box(part.topic);
    if (box == nullptr || !box->replay) return;  // removed meanwhile
    box->queue.replayed(part, now);
    touch(*box);
    if (!part.whole) {
        box->replay->from = part.next;
        box->replay->last = 0;
        return;
    }
    box->replay.reset();
    end_replay();
    if (const Box* log = box->topic->log) box->queue.catch_up(log->queue, box->bindings, now);
    join(*box->topic, *box);
    box->recorded = !box->queue.has_new_record();
    if (!box->recorded) describe(*box, now);  // its bindings have changed since the slice was cut
    if (box->temporary) box->alone_until = now.mono + box->queue.policy().lease;
}

void Host::Impl::join(Box& topic, Box& box) {
    box.topic = &topic;
    topic.subscriptions.push_back(&box);
    if (box.queue.is_log()) topic.log = &box;
    if (!has_answers(box)) topic.queue.add_subscription(box.queue, box.bindings);
}

void Host::Impl::rebind(Box& box, std::vector<Binding> bindings, Now now) {
    if (box.bindings == bindings) return;
    box.bindings = std::move(bindings);
    box.topic->queue.rebind(box.queue, box.bindings);
    describe(box, now);
}

// After all boxes of the store were made.
void Host::Impl::restore_topics(const store::Recovery& recovery, Now now) {
    for (const store::RecoveredTopic& topic : recovery.topics) {
        if (const auto record = decode(topic.subscription); record && !record->subscription) {
            Box& box = *find_box(topic.topic);
            box.queue.become_topic();
            box.recorded = true;
        }
    }
    for (const store::RecoveredTopic& topic : recovery.topics) {
        if (topic.topic.find('/') == std::string::npos) continue;
        Box& box = *find_box(topic.topic);
        auto record = decode(topic.subscription);
        if (record) {
            box.temporary = record->temporary;
            box.bindings = std::move(record->bindings);
            box.recorded = true;
        }
        join(open_topic(topic_part(topic.topic), now), box);
        if (!record) describe(box, now);  // it was damaged: every message is more than it asked for, and none too few
        box.answers_until = now.mono + defaults::reply_memory;  // nobody knows any more
        if (box.temporary) box.alone_until = kept_until(box, now);
        if (record && record->incomplete) remove_subscription(box, now);  // its consumer asks for it again
        if (box.queue.is_log() && !options.retained.contains(topic_part(topic.topic))) drop_log(box, now);
    }
    declare_topics(now);
}

void Host::Impl::drop_log(Box& box, Now now) {
    if (options.log) {
        options.log(LogLevel::info, "the topic " + box.topic->queue.name() +
                                        " is not retained any more: what it kept is removed, " +
                                        std::to_string(box.queue.messages()) + " messages");
    }
    remove_subscription(box, now);
}

// As the configuration has them.
void Host::Impl::declare_topics(Now now) {
    const auto open = [&](const std::string& name) -> Box& {
        const Box* known = find_box(name);
        if (known != nullptr && !known->queue.is_topic() && known->queue.has_messages()) {
            throw Error(
                "its queue " + name +
                " holds messages, and is to be a topic; let them be worked off as a queue, or take another name");
        }
        return open_topic(name, now);
    };
    if (!options.retained.empty() && !store.durable())
        throw Error("a topic that is retained needs a store, and this host keeps its queues in memory");
    for (const auto& [name, retention] : options.retained) open_log(open(name), now);
    for (const auto& [name, subscriptions] : options.topics) {
        open(name);
        for (const Subscription& one : subscriptions) {
            Box& box = open_subscription(name + "/" + one.name, false, one.bindings, std::nullopt, now);
            rebind(box, one.bindings, now);
            if (!std::exchange(box.temporary, false)) continue;
            box.alone_until = never;
            describe(box, now);
        }
    }
}

std::optional<protocol::Refusal> Host::Impl::refusal_of_address(const protocol::Hello& hello) const {
    const auto address = parse_address(hello.address);
    if (!address) {
        return protocol::Refusal{"bad_name",
                                 "\"" + hello.address.substr(0, 200) +
                                     "\" is not a name: 1 to 200 of A-Z a-z 0-9 . _ -, not ending in .dlq, or two of "
                                     "them as TOPIC/SUBSCRIPTION"};
    }
    const std::string name{address->topic};
    if (!options.only_queue.empty() && name != options.only_queue && service_of(name) != options.only_queue) {
        return protocol::Refusal{"unknown_queue", "this host has " + options.only_queue + " and no " + name};
    }
    if (auto no = refusal_of_requests(hello, *address)) return no;
    const auto found = boxes.find(name);
    if (auto no = refusal_of_live(hello, found == boxes.end() ? nullptr : found->second.get())) return no;
    if (hello.live) return std::nullopt;
    const bool is_queue = found != boxes.end() && !found->second->queue.is_topic();
    const bool is_topic = found != boxes.end() && found->second->queue.is_topic();
    const bool wants_topic = hello.topic || !address->subscription.empty();
    if (hello.role == protocol::Role::producer && !address->subscription.empty()) {
        return protocol::Refusal{"wrong_kind", hello.address + " is a subscription; publish to the topic " + name};
    }
    if (is_queue && wants_topic) {
        return protocol::Refusal{"wrong_kind", name +
                                                   " is a queue at this host, not a topic; take another name, or "
                                                   "send to it and work on it as on a queue"};
    }
    if (is_topic && hello.role == protocol::Role::consumer && address->subscription.empty()) {
        return protocol::Refusal{"wrong_kind", name +
                                                   " is a topic at this host, not a queue; subscribe to it under a "
                                                   "name of your own: " +
                                                   name + "/NAME"};
    }
    if (is_log(hello.address)) {
        return protocol::Refusal{"wrong_kind", hello.address + " is what " + name + " retains; subscribe to " + name +
                                                   " under a name of your own, from wherever in it you like"};
    }
    const auto box = boxes.find(hello.address);
    if (box == boxes.end() && hello.from && hello.role == protocol::Role::consumer &&
        (!is_topic || found->second->log == nullptr)) {
        return protocol::Refusal{"not_retained",
                                 name +
                                     " keeps nothing for those that come later, and a new subscription was to begin "
                                     "with that; give the topic retain_age, retain_bytes or retain_messages where it "
                                     "lives, or subscribe from now on"};
    }
    if (box == boxes.end() || hello.role != protocol::Role::consumer) return std::nullopt;
    for (const auto& [id, session] : box->second->consumers) {
        const bool replaced = !hello.name.empty() && session->name == hello.name;
        if (session->incarnation == hello.incarnation || replaced) continue;
        if (hello.exclusive || session->exclusive) {
            return protocol::Refusal{"exclusive", hello.address +
                                                      " has a consumer, and one of you asked to be the only one; come "
                                                      "again when it has gone, or take another subscription"};
        }
    }
    return std::nullopt;
}

// A subscriber is welcome once its subscription is stored, and a requester once the one for its answers is: what is
// published from then on reaches it, whatever happens to the host. False: it is not yet, and the hello is looked at
// again when it is.
bool Host::Impl::is_prepared(PeerId peer, const protocol::Hello& hello, bool bound, Now now) {
    if (hello.role == protocol::Role::admin || hello.live) return true;
    const bool subscribes = hello.address.find('/') != std::string::npos;
    if (!subscribes && !hello.topic && hello.replies.empty()) return true;
    Box* box = nullptr;
    if (subscribes) {
        box = &open_subscription(hello.address, hello.temporary, hello.bindings.value_or(std::vector<Binding>{}),
                                 hello.from, now);
        // Once: of two that want different ones the later has its way, and neither waits for the other.
        if (hello.bindings && !box->removing && !bound) rebind(*box, *hello.bindings, now);
        bound = !box->removing;
    } else {
        box = hello.topic ? &open_topic(hello.address, now) : &open_reply_queue(hello, now);
    }
    if (box->recorded && !box->removing) return true;
    if (postponed.size() < postponed_limit) postponed.insert_or_assign(peer, Postponed{hello, bound});
    return false;  // beyond the limit it is said again
}

void Host::Impl::look_at_postponed(Now now) {
    for (const auto& [peer, one] : std::exchange(postponed, {})) on_hello(peer, one.hello, now, one.bound);
}

// Nobody is left who would work on it, if that is what it was for.
void Host::Impl::left_alone(Box& box, bool in_order, Now now) {
    if (!box.temporary || box.removing || !box.consumers.empty()) return;
    if (in_order && !box.queue.has_consumers()) {
        remove_subscription(box, now);
    } else {
        box.alone_until = kept_until(box, now);
        boxes_at = std::min(boxes_at, box.alone_until);
    }
}

void Host::Impl::remove_subscription(Box& box, Now now) {
    box.removing = true;
    box.alone_until = never;
    box.replay.reset();
    if (replaying == &box) end_replay();
    if (box.topic->log == &box) box.topic->log = nullptr;
    box.sync = true;
    std::vector<Identity> told;
    for (const auto& [id, session] : box.consumers) told.push_back(session->incarnation);
    for (const Identity& one : told)
        end_for_good(one, {"removed", "the subscription " + box.queue.name() + " was removed"}, now);
    std::erase(box.topic->subscriptions, &box);
    box.topic->queue.remove_subscription(box.queue);
    box.queue.vanish(now);
    touch(box);
    touch(*box.topic);
}

// After a commit: those that are gone from the store.
void Host::Impl::forget_removed() {
    const auto gone = [](const Box* box) { return box->gone_from_store; };
    for (const auto& [name, box] : boxes) {
        if (gone(box.get())) uncommitted_bytes -= box->uncommitted_bytes;
    }
    std::erase_if(touched, gone);
    std::erase_if(unsaved, gone);
    std::erase_if(boxes, [&](const auto& one) { return gone(one.second.get()); });
}

}  // namespace posthorn::host
