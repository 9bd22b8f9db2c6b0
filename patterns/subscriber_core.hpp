// What is behind a live Subscriber: the session under one mutex, driven by the loop's thread, and the thread that
// takes.
//
// Lock order: mutex_ is taken last, and never held while a handler or a hook runs.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <posthorn/pub_sub.hpp>

#include "protocol/feed_session.hpp"
#include "transport/bell.hpp"
#include "transport/loop.hpp"

namespace posthorn::detail {

class SubscriberCore final : private transport::Participant {
public:
    SubscriberCore(Context& context, const std::string& topic, const Home& home,
                   const pub_sub::SubscriberOptions& options);
    ~SubscriberCore() override;
    SubscriberCore(const SubscriberCore&) = delete;
    SubscriberCore& operator=(const SubscriberCore&) = delete;

    Status run(const pub_sub::MessageHandler& handler, const Until& until);
    pub_sub::Received receive(Duration timeout);
    int ready_fd();
    void close();

    [[nodiscard]] protocol::FeedSession::Counts counts();
    [[nodiscard]] std::size_t connected();
    [[nodiscard]] const std::vector<std::string>& endpoints() const noexcept { return endpoints_; }

private:
    using Lock = std::unique_lock<std::mutex>;
    enum class Use { undecided, handler, receive };

    void on_frame(transport::PeerId peer, Slice frame, Now now) override;
    void on_link(transport::PeerId peer, const std::string& endpoint) override;
    void on_stranger(const Event& event) override { context_.emit(event); }
    Mono turn(Now now) override;

    void be_used(Use use);
    std::optional<Slice> take();
    void show_ready();
    void fault(const std::string& text);

    Context& context_;
    transport::Loop& loop_;
    const std::string topic_;
    std::vector<std::string> endpoints_;

    std::mutex mutex_;
    std::condition_variable changed_;
    protocol::FeedSession session_;
    Use use_ = Use::undecided;
    bool running_ = false;
    bool stopping_ = false;  // run() is to end
    int takers_waiting_ = 0;
    std::uint64_t faults_ = 0;
    std::optional<transport::Bell> ready_;  // of ready_fd()
    bool closed_ = false;
};

}  // namespace posthorn::detail
