// Live topics: what is published goes to the links of those that subscribe now, and is kept for nobody else.
#include <algorithm>

#include <posthorn/status.hpp>

#include "host/host_impl.hpp"

namespace posthorn::host {

Box& Host::Impl::open_live(const std::string& name) {
    if (Box* known = find_box(name)) return *known;
    auto box = std::make_unique<Box>(name, options.defaults, false, options.seed, options.on_event, options.limits);
    const auto policy = options.live.find(name);
    box->feed = std::make_unique<feed::Feed>(policy == options.live.end() ? options.live_defaults : policy->second);
    box->queue.become_live();
    return *boxes.emplace(name, std::move(box)).first->second;
}

// After all boxes of the store were made.
void Host::Impl::restore_live() {
    for (const auto& [name, policy] : options.live) {
        if (find_box(name) != nullptr) {
            throw Error("its " + name +
                        " is a queue or a topic, and is to be a live topic, which keeps nothing; take " +
                        "another name");
        }
        open_live(name);
    }
}

// `known`: what has the name of the topic, if there is one.
std::optional<protocol::Refusal> Host::Impl::refusal_of_live(const protocol::Hello& hello, const Box* known) const {
    if (!hello.live) {
        if (known == nullptr || !known->feed) return std::nullopt;
        return protocol::Refusal{"wrong_kind", known->queue.name() +
                                                   " is a live topic at this host, which keeps nothing; publish and "
                                                   "subscribe to it as to one (--live), or take another name"};
    }
    if (hello.address.find('/') != std::string::npos) {
        return protocol::Refusal{"wrong_kind", "a live topic has no subscriptions with names; subscribe to the topic"};
    }
    if (known == nullptr) return std::nullopt;
    if (!known->feed) {
        return protocol::Refusal{"wrong_kind", hello.address + " is a " +
                                                   (known->queue.is_topic() ? "topic" : "queue") +
                                                   " at this host, and not a live one; take another name"};
    }
    const bool subscribes = hello.role == protocol::Role::consumer;
    if (subscribes && known->feed->is_crowded(hello.bindings.value_or(std::vector<Binding>{}))) {
        return protocol::Refusal{"too_many_filters", "the subscribers of " + hello.address + " have " +
                                                         std::to_string(feed::Feed::filters_limit) +
                                                         " different filters already; share one of them"};
    }
    return std::nullopt;
}

void Host::Impl::welcome_subscriber(Session& session, const protocol::Hello& hello, protocol::Welcome& welcome) {
    Box& box = *session.box;
    session.link = box.feed->attach(hello.incarnation, hello.bindings.value_or(std::vector<Binding>{}), hello.link,
                                    hello.received, ++last_epoch);
    on_taken(session, {.messages = hello.window_messages, .bytes = hello.window_bytes});
    box.subscribers[session.link] = &session;
    box.feed->keep_bounds();
    welcome.link = session.link;
    send(session, welcome);
}

void Host::Impl::on_taken(Session& session, const protocol::Taken& taken) {
    // However much it asks for, no more than this is on its way to it before it says so again.
    const std::uint64_t messages = std::min(taken.messages, session.fed_messages + defaults::live_max_messages);
    const std::uint64_t bytes = std::min(taken.bytes, session.fed_bytes + defaults::live_max_bytes);
    session.granted.messages = std::max(session.granted.messages, messages);
    session.granted.bytes = std::max(session.granted.bytes, bytes);
    if (taken.count > 0) session.box->feed->taken(session.link, taken.count);
    session.box->feed->arrived(session.link, std::max(taken.count, taken.received));
}

void Host::Impl::turn_live(Box& box, Now now) {
    std::vector<queue::Delivered> deliveries;
    std::vector<queue::Recall> recalls;
    box.queue.turn(now, deliveries, recalls);  // nothing to deliver: what it remembers of producers and keys grows old
    box.feed->forget_away(now.mono);
    box.feed->keep_bounds();
    box.gap_at = never;
    for (auto& [link, session] : box.subscribers) {
        feed_link(*session, box);
        if (!session->answered || !box.feed->has_gap(link)) continue;
        if (session->gap_at <= now.mono) {
            session->gap_at = now.mono + defaults::heartbeat_busy;
            send(*session, protocol::Feed{.first = *box.feed->gap(link)});
        } else {
            box.gap_at = std::min(box.gap_at, session->gap_at);
        }
    }
    tell_settled(box);
    for (auto& [id, session] : box.producers) {
        tell_producer(*session);
        grant(*session, box);
    }
    tell_peers(box);
}

// Only to who has answered the welcome: what former sessions have left in its pipe is through then.
void Host::Impl::feed_link(Session& session, Box& box) {
    if (!session.answered) return;
    const auto room = [&] {
        return feed::Room{session.granted.messages - std::min(session.granted.messages, session.fed_messages),
                          session.granted.bytes - std::min(session.granted.bytes, session.fed_bytes)};
    };
    while (const auto batch = box.feed->next(session.link, room())) {
        session.fed_messages += batch->count;
        session.fed_bytes += batch->list.size();
        send(session,
             protocol::Feed{.first = batch->first, .count = batch->count, .list = Slice{nullptr, batch->list}});
    }
    if (!asks_arrival || draining) return;
    const auto behind = box.feed->unheard_of(session.link);
    if (!behind || *behind == session.asked_arrival) return;
    session.asked_arrival = *behind;
    send(session, protocol::Feed{.first = *behind});
}

// The last words of this host: it is told what of all that was published it will not get.
void Host::Impl::end_feed(Session& session, Box& box) {
    feed_link(session, box);
    box.feed->give_up(session.link);
    if (const auto first = box.feed->gap(session.link)) send(session, protocol::Feed{.first = *first});
}

void Host::ask_arrival() {
    impl_->asks_arrival = true;
    impl_->touch_all();
}

bool Host::all_arrived() const {
    return std::all_of(impl_->boxes.begin(), impl_->boxes.end(),
                       [](const auto& box) { return !box.second->feed || box.second->feed->all_arrived(); });
}

}  // namespace posthorn::host
