// Topics and their subscriptions: how they come to be, what of them is stored, and how they go.
#include <algorithm>

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
};

std::string encode(const Record& record) {
    std::string bytes;
    wire::Writer out(bytes);
    out.boolean(record.subscription).boolean(record.temporary);
    envelope::write_bindings(out, record.bindings);
    return bytes;
}

std::optional<Record> decode(std::string_view bytes) {
    wire::Reader in(bytes);
    Record record;
    record.subscription = in.boolean();
    record.temporary = in.boolean();
    envelope::read_bindings(in, record.bindings);
    return in.ok() && in.at_end() ? std::optional(std::move(record)) : std::nullopt;
}

constexpr std::size_t postponed_limit = 100;  // each may be as large as a hello

std::string topic_part(const std::string& address) {
    return address.substr(0, address.find('/'));
}

}  // namespace

void Host::Impl::describe(Box& box, Now now) {
    box.recorded = false;
    box.sync = true;
    box.queue.describe(encode({box.topic != nullptr, box.temporary, box.bindings}), now);
    touch(box);
}

Box& Host::Impl::open_topic(const std::string& name, Now now) {
    Box& box = open_box(name);
    if (box.queue.is_topic()) return box;
    box.queue.become_topic();
    describe(box, now);
    return box;
}

Box& Host::Impl::open_subscription(const std::string& address, bool temporary, std::vector<Binding> bindings, Now now) {
    if (Box* known = find_box(address)) return *known;
    Box& topic = open_topic(topic_part(address), now);
    Box& box = make_box(address);
    box.queue.start_at(topic.queue.next_offset());
    box.temporary = temporary;
    box.bindings = std::move(bindings);
    if (temporary) box.alone_until = now.mono + box.queue.policy().lease;  // if nobody comes after all
    join(topic, box);
    describe(box, now);
    return box;
}

void Host::Impl::join(Box& topic, Box& box) {
    box.topic = &topic;
    topic.subscriptions.push_back(&box);
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
    }
    for (const auto& [name, subscriptions] : options.topics) {
        const Box* known = find_box(name);
        if (known != nullptr && !known->queue.is_topic() && known->queue.has_messages()) {
            throw Error(
                "its queue " + name +
                " holds messages, and is to be a topic; let them be worked off as a queue, or take another name");
        }
        open_topic(name, now);
        for (const Subscription& one : subscriptions) {
            Box& box = open_subscription(name + "/" + one.name, false, one.bindings, now);
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
    const auto box = boxes.find(hello.address);
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
        box = &open_subscription(hello.address, hello.temporary, hello.bindings.value_or(std::vector<Binding>{}), now);
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
    box.sync = true;
    std::vector<PeerId> peers;
    for (const auto& [id, session] : box.consumers) peers.push_back(session->peer);
    for (const PeerId peer : peers)
        refuse(peer, "removed", "the subscription " + box.queue.name() + " was removed", now);
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
