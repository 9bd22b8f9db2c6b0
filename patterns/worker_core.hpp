// What is behind a Worker: the session under one mutex, driven by the loop's thread, and the handlers' threads that
// begin and settle.
//
// Lock order: mutex_ is taken last, and never held while a handler, a hook or a stop callback runs.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <unordered_map>
#include <vector>

#include <posthorn/work_queue.hpp>

#include "delivery_state.hpp"
#include "protocol/consumer_session.hpp"
#include "transport/loop.hpp"

namespace posthorn::work_queue::detail {

class WorkerCore final : public std::enable_shared_from_this<WorkerCore>,
                         public posthorn::detail::DeliverySink,
                         private transport::Participant {
public:
    static std::shared_ptr<WorkerCore> make(Context& context, std::string queue, const Home& home,
                                            WorkerOptions options);
    ~WorkerCore() override;
    WorkerCore(const WorkerCore&) = delete;
    WorkerCore& operator=(const WorkerCore&) = delete;

    Status run(const Handler& handler, const Until& until);
    Status drain(Duration timeout);
    void close();

    [[nodiscard]] bool connected();
    [[nodiscard]] bool idle();
    [[nodiscard]] bool host_empty();
    [[nodiscard]] Duration since_last_activity();
    [[nodiscard]] std::vector<std::string> capabilities();
    [[nodiscard]] const std::vector<std::string>& endpoints() const noexcept { return endpoints_; }

    void settle(posthorn::detail::Handle handle, posthorn::detail::Settlement settlement) override;
    void extend(posthorn::detail::Handle handle, Duration lease) override;
    std::stop_token stop_token(posthorn::detail::Handle handle) override;

private:
    using Begun = protocol::ConsumerSession::Begun;
    using Lock = std::unique_lock<std::mutex>;

    WorkerCore(Context& context, std::string queue, WorkerOptions options, Identity incarnation);
    void start(const Home& home);

    void on_frame(transport::PeerId peer, Slice frame, Now now) override;
    void on_link(transport::PeerId peer, const std::string& endpoint) override;
    void on_stranger(const Event& event) override { context_.emit(event); }
    Mono turn(Now now) override;

    void work(const Handler& handler);
    std::optional<Begun> next(Lock& lock, Mono now);
    std::optional<posthorn::detail::Settlement> handle(const Handler& handler, Begun begun);
    void settle_locked(posthorn::detail::Handle handle, posthorn::detail::Settlement settlement, Mono now);
    void wake_loop();
    void begin_drain(Duration timeout);
    void proceed_with_drain(Now now, std::vector<std::stop_source>& stops);
    [[nodiscard]] std::vector<std::stop_source> take_stops();
    [[nodiscard]] std::vector<std::stop_source> take_lost_stops();

    Context& context_;
    transport::Loop& loop_;
    const WorkerOptions options_;
    std::vector<std::string> endpoints_;

    std::mutex mutex_;
    std::condition_variable work_;      // for handlers
    std::condition_variable ended_cv_;  // for run() and drain()
    protocol::ConsumerSession session_;
    std::unordered_map<std::uint64_t, std::stop_source> stops_;  // of those that asked for a token
    unsigned idle_handlers_ = 0;
    unsigned handlers_ = 0;     // threads that may run one
    std::size_t gather_ = 1;    // settlements that are worth waking the loop for
    std::size_t gathered_ = 0;  // since its last turn
    Mono last_activity_;
    bool running_ = false;
    bool draining_ = false;
    Mono drain_until_{};
    bool cancelled_ = false;  // drained for too long: stop tokens have fired
    bool ended_ = false;      // bye was said, or nobody is left to say it to
    bool closed_ = false;     // off the loop
};

}  // namespace posthorn::work_queue::detail
