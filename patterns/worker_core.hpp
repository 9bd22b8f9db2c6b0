// What is behind a ConsumerEnd: the session under one mutex, driven by the loop's thread, and the handlers' threads
// that begin and settle.
//
// Lock order: mutex_ is taken last, and never held while a handler, a hook or a stop callback runs.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include <posthorn/ends.hpp>

#include "delivery_state.hpp"
#include "protocol/consumer_session.hpp"
#include "transport/bell.hpp"
#include "transport/loop.hpp"

namespace posthorn::detail {

struct ConsumerOptions {
    std::string end{};      // what it calls itself
    std::string options{};  // what its options are called
    std::string name{};
    unsigned concurrency = 1;
    unsigned prefetch = 0;
    std::vector<std::string> bind{};
    Duration drain_timeout{};
    bool strict = false;  // keeps strict order
    // Of a subscription, whose name is the second part of the address.
    std::optional<std::vector<Binding>> bindings{};
    bool temporary = false;
    bool exclusive = false;
    bool replier = false;  // answers requests
    std::optional<From> from{};
};

class WorkerCore final : public std::enable_shared_from_this<WorkerCore>,
                         public DeliverySink,
                         private transport::Participant {
public:
    static std::shared_ptr<WorkerCore> make(Context& context, std::string queue, const Home& home,
                                            ConsumerOptions options);
    ~WorkerCore() override;
    WorkerCore(const WorkerCore&) = delete;
    WorkerCore& operator=(const WorkerCore&) = delete;

    Status run(const Handler& handler, const Until& until);
    Received receive(Duration timeout);
    int ready_fd();
    Status drain(Duration timeout);
    void close();

    [[nodiscard]] bool connected();
    [[nodiscard]] bool idle();
    [[nodiscard]] bool host_empty();
    [[nodiscard]] Duration since_last_activity();
    [[nodiscard]] std::vector<std::string> capabilities();
    [[nodiscard]] const std::vector<std::string>& endpoints() const noexcept { return endpoints_; }

    Status settle(Handle handle, Settlement settlement) override;
    Status settle_and_wait(Handle handle, Settlement settlement, Duration timeout) override;
    void hand_over(Handle handle) override;
    void settle_handed_over(Handle handle, Settlement settlement) override;
    void extend(Handle handle, Duration lease) override;
    std::stop_token stop_token(Handle handle) override;

private:
    using Begun = protocol::ConsumerSession::Begun;
    using Lock = std::unique_lock<std::mutex>;
    enum class Use { undecided, handlers, receive };

    WorkerCore(Context& context, std::string queue, ConsumerOptions options, Identity incarnation);
    void start(const Home& home);

    void on_frame(transport::PeerId peer, Slice frame, Now now) override;
    void on_link(transport::PeerId peer, const std::string& endpoint) override;
    void on_stranger(const Event& event) override { context_.emit(event); }
    Mono turn(Now now) override;

    void work(const Handler& handler);
    std::optional<Begun> next(Lock& lock, Mono now, std::chrono::steady_clock::time_point until);
    std::optional<Settlement> handle(const Handler& handler, Begun begun);
    Status settle_locked(Handle handle, Settlement settlement, Mono now);
    void let_go(Mono now);
    void be_used(Use use);
    [[nodiscard]] bool full() const;
    void show_ready(Mono now);
    void tell_synced();
    void wake_loop();
    bool answer_again(const Begun& begun, Mono now);
    void remember(std::uint64_t offset, const Slice& answer);
    void begin_drain(Duration timeout);
    void proceed_with_drain(Now now, std::vector<std::stop_source>& stops);
    [[nodiscard]] std::vector<std::stop_source> take_stops();
    [[nodiscard]] std::vector<std::stop_source> take_lost_stops();

    Context& context_;
    transport::Loop& loop_;
    const ConsumerOptions options_;
    std::vector<std::string> endpoints_;

    std::mutex mutex_;
    std::condition_variable work_;       // for those that wait for a delivery
    std::condition_variable ended_cv_;   // for run() and drain()
    std::condition_variable synced_cv_;  // for those whose settlements are to be safe
    protocol::ConsumerSession session_;
    std::unordered_map<std::uint64_t, std::stop_source> stops_;  // of those that asked for a token
    Use use_ = Use::undecided;
    std::map<std::uint64_t, Status> syncs_;  // settlements that are waited for; timed_out: not decided
    std::uint64_t last_sync_ = 0;
    // What a replier has answered is not run again.
    // With its offset: a named requester whose host has forgotten it numbers its requests from 1 again.
    using RequestId = std::tuple<std::uint64_t, Identity, std::uint64_t>;
    std::map<RequestId, Slice> answers_;
    std::deque<RequestId> answered_;  // in their order
    std::size_t answers_bytes_ = 0;
    unsigned idle_ = 0;                     // threads that wait for a delivery
    unsigned handlers_ = 0;                 // threads that may run one
    unsigned begun_ = 0;                    // and not settled
    std::optional<transport::Bell> ready_;  // of ready_fd()
    std::size_t gather_ = 1;                // settlements that are worth waking the loop for
    std::size_t gathered_ = 0;              // since its last turn
    Mono last_activity_;
    bool running_ = false;
    bool draining_ = false;
    Mono drain_until_{};
    bool cancelled_ = false;  // drained for too long: stop tokens have fired
    bool over_ = false;       // its hosts have ended it for good
    bool ended_ = false;      // bye was said, or nobody is left to say it to
    bool closed_ = false;     // off the loop
};

}  // namespace posthorn::detail
