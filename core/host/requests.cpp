// Requests and their answers: which queues have them, and where an answer goes. The answers to the requests of a queue
// wait in subscriptions of a topic beside it, one for each requester, which nothing is published to.
#include <algorithm>
#include <string_view>

#include "envelope/envelope.hpp"
#include "host/host_impl.hpp"

namespace posthorn::host {

bool Host::Impl::has_answers(const Box& box) {
    return box.topic != nullptr && !service_of(box.topic->queue.name()).empty();
}

Box* Host::Impl::reply_queue(const Box& service, const std::string& name) {
    return name.empty() ? nullptr : find_box(replies_of(service.queue.name()) + "/" + name);
}

// `address`: of the hello.
std::optional<protocol::Refusal> Host::Impl::refusal_of_requests(const protocol::Hello& hello,
                                                                 const Address& address) const {
    const std::string_view service = service_of(address.topic);
    if (!service.empty()) {
        const bool has_requests = hello.replier || !hello.replies.empty();
        if (hello.role == protocol::Role::producer || address.subscription.empty() || has_requests) {
            return protocol::Refusal{"wrong_kind",
                                     std::string{address.topic} +
                                         " has the answers to the requests of a queue; take another name, without "
                                         ".replies at its end"};
        }
        const auto found = boxes.find(std::string{service});
        if (found == boxes.end() || !found->second->queue.is_topic()) return std::nullopt;
        return protocol::Refusal{"wrong_kind", std::string{service} +
                                                   " is a topic at this host, and has no requests; take another "
                                                   "name"};
    }
    if (hello.replies.empty() && !hello.replier) return std::nullopt;
    if (!address.subscription.empty() || hello.topic || hello.live) {
        return protocol::Refusal{"wrong_kind", "requests go to a queue, and " + hello.address + " is none"};
    }
    const std::string topic = replies_of(hello.address);
    const bool named = hello.replies.empty() || (valid_queue_name(hello.replies) && hello.replies != retained_name);
    if (!named || !valid_queue_name(topic)) {
        return protocol::Refusal{"bad_name", "\"" + topic.substr(0, 250) + "/" + hello.replies.substr(0, 200) +
                                                 "\" is not the name of a subscription for answers: 1 to 200 of A-Z "
                                                 "a-z 0-9 . _ - in each part, not ending in .dlq, and not .retained"};
    }
    const auto queue = boxes.find(hello.address);
    if (queue == boxes.end() || !queue->second->queue.is_topic()) return std::nullopt;
    return protocol::Refusal{"wrong_kind",
                             hello.address + " is a topic at this host, and has no requests; take another name"};
}

void Host::Impl::open_service(const std::string& name, Now now) {
    open_topic(replies_of(name), now);
    open_box(name).queue.become_service();
}

Box& Host::Impl::open_reply_queue(const protocol::Hello& hello, Now now) {
    open_service(hello.address, now);
    Box& box =
        open_subscription(replies_of(hello.address) + "/" + hello.replies, !hello.keeps_replies, {}, std::nullopt, now);
    if (hello.keeps_replies && std::exchange(box.temporary, false)) {
        box.alone_until = never;
        describe(box, now);
    }
    return box;
}

// A subscription that is temporary and without a consumer. The answers may be on their way.
Mono Host::Impl::kept_until(const Box& box, Now now) const {
    const Mono lease_over = now.mono + box.queue.policy().lease;
    return has_answers(box) ? std::max(lease_over, box.answers_until + defaults::reply_grace) : lease_over;
}

void Host::Impl::expect_answer(Box& replies, Duration ttl, Now now) const {
    const Duration within = ttl == Duration::zero() ? defaults::reply_memory : std::min(ttl, defaults::reply_memory);
    replies.answers_until = std::max(replies.answers_until, now.mono + within);
    if (replies.alone_until != never) replies.alone_until = std::max(replies.alone_until, kept_until(replies, now));
}

// False: it cannot be one to what this consumer was given.
bool Host::Impl::is_answer(const Session& session, const protocol::SettleOne& one, queue::Settle& settle) const {
    const queue::Queue& queue = session.box->queue;
    if (one.verdict != protocol::Verdict::ack || !queue.is_service() || !envelope::read_routing(one.reply.view())) {
        return false;
    }
    envelope::Request request = envelope::read_request(one.reply.view());
    if (!valid_queue_name(request.reply_to) || !queue.may_be_answer(one.offset, request)) return false;
    if (one.reply.size() > options.message_limit) {
        const std::size_t beyond = one.reply.size() - options.message_limit;
        settle.verdict = queue::Verdict::reject;
        settle.text = "the answer has " + std::to_string(one.reply.size()) + " bytes, this host takes at most " +
                      std::to_string(options.message_limit);
        const auto answer = envelope::decode(one.reply.view());
        if (answer && answer->status == envelope::status::failed && answer->message.payload.size() > beyond)
            settle.text = answer->message.payload.substr(0, answer->message.payload.size() - beyond);
        return true;
    }
    settle.reply = one.reply;
    settle.reply_to = std::move(request.reply_to);
    return true;
}

void Host::Impl::give_answers(Box& service, Now now) {
    for (queue::Answer& one : service.queue.take_answers()) {
        Box* const box = reply_queue(service, one.reply_to);
        if (box != nullptr && !box->removing) {
            box->queue.enter_answer(std::move(one.envelope), now);
            touch(*box);
            continue;
        }
        service.queue.count_lost_answer();
        if (worth_a_word(++answers_lost)) {
            emit(Event::Kind::dropped, service.queue.name(), "answers to requesters that have gone", answers_lost);
        }
    }
}

// What the batch that was just gathered stores may be handed out when that is done.
void Host::Impl::take_along(Box& box) {
    if (box.undelivered.empty()) return;
    std::vector<queue::Delivered> left;
    for (queue::Delivered& one : box.undelivered) {
        if (!box.queue.holds(one.consumer, {one.offset, one.token})) continue;
        (one.offset < box.queue.pending_first() ? box.delivering : left).push_back(std::move(one));
    }
    box.undelivered = std::move(left);
}

}  // namespace posthorn::host
