// A host at work: Host + Store + Loop joined, with a commit thread when the store is on a disk. A node is one of these
// with a store and an endpoint; a brokerless producer is one with a store of either kind and itself as the local end.
//
// Thread-safe but for exchange(); never to be made, drained or let go on the loop's thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <posthorn/context.hpp>
#include <posthorn/time.hpp>

#include "host/host.hpp"
#include "store/commit_thread.hpp"
#include "store/store.hpp"
#include "transport/loop.hpp"

namespace posthorn {

class HostOnLoop : private transport::Participant {
public:
    // Recovers the store; throws what that throws. Events go to `options.on_event`, or to the context if it is empty.
    HostOnLoop(Context& context, host::Options options, std::unique_ptr<store::Store> store);
    ~HostOnLoop() override;  // what is under way in the store ends first
    HostOnLoop(const HostOnLoop&) = delete;
    HostOnLoop& operator=(const HostOnLoop&) = delete;

    // The endpoint as bound: wildcards are numbers then. Throws Error; warns through the log when it is reachable from
    // beyond this machine, for there are no keys yet.
    std::string bind(const std::string& endpoint);
    // For peers that bind: the host makes itself known on the link and they say hello.
    void connect(const std::string& endpoint);

    // Until everything has come to the subscribers of live topics, those included that are away and may come back; at
    // most so long.
    void wait_until_fed(Duration timeout);
    // Stops publish credit and deliveries, says bye to everyone, and waits until nothing waits for the store.
    // False: not within `timeout`.
    bool drain(std::chrono::milliseconds retry_after, Duration timeout);

    // The end that lives on the same loop (the producer of a brokerless queue) is peer 0, which no link ever is.
    // `frames_wait` is called on the loop's thread when exchange() would give frames; set it before anything else.
    void set_local(std::function<void()> frames_wait);
    // Loop thread only. Hands over what peer 0 says, lets the host work, gives what the host says to peer 0.
    // `deadline` becomes when to call again at the latest.
    std::vector<std::string> exchange(std::vector<std::string> frames, Now now, Mono& deadline);

private:
    void on_frame(transport::PeerId peer, Slice frame, Now now) override;
    void on_link(transport::PeerId peer, const std::string& endpoint) override;
    void on_stranger(const Event& event) override { on_event_(event); }
    Mono turn(Now now) override;

    // A link this host opened. Its peer speaks only when it is asked to, and on a link that was made anew below us it
    // does not know us.
    struct Outgoing {
        transport::PeerId peer = 0;
        Mono greet_at{};
    };

    Mono pump(Now now);
    void run_jobs(Now now);
    void greet(Now now);
    void greet_at(transport::PeerId peer, Mono at);
    void send_frames(Now now);

    Context& context_;
    transport::Loop& loop_;
    EventHook on_event_;
    std::unique_ptr<store::Store> store_;
    std::optional<host::Host> host_;
    std::unique_ptr<store::CommitThread> commits_;  // durable stores only
    std::function<void()> frames_wait_;
    std::vector<std::string> local_;  // for peer 0
    std::vector<Outgoing> outgoing_;

    std::mutex mutex_;
    std::condition_variable drained_;
    std::condition_variable fed_;
    int waiting_fed_ = 0;
    bool all_fed_ = false;  // kept while somebody waits for it
    bool draining_ = false;
    bool idle_ = false;  // nothing waits for the store; kept while draining
};

}  // namespace posthorn
