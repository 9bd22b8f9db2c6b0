// Asks a host what operators ask: listings, and dead letters to be shown, sent back or purged. Blocking; one link.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <posthorn/context.hpp>

#include "exit_codes.hpp"
#include "protocol/commands.hpp"
#include "protocol/host_link.hpp"
#include "row.hpp"
#include "transport/loop.hpp"

namespace posthorn::nodes {

struct Patience {
    Duration welcome = 5s;  // for somebody to be there at all
    Duration result = 30s;  // for a page, whose commit may wait for a slow disk
};

// For one thread, which is not the loop's.
class AdminClient : private transport::Participant {
public:
    // Throws Error when the endpoint is malformed.
    AdminClient(Context& context, std::string endpoint, Patience patience = {});
    ~AdminClient() override;
    AdminClient(const AdminClient&) = delete;
    AdminClient& operator=(const AdminClient&) = delete;

    // Asks until there are no more pages; every row is given to `on_row`. Throws ExitError: unreachable when nobody
    // answers, refused with the host's words when it says no, failed when the host goes away after it was asked (what
    // it had done by then is unknown).
    void ask(protocol::AdminRequest request, const std::function<void(const Row&)>& on_row);

private:
    void on_frame(transport::PeerId peer, Slice bytes, Now now) override;
    void on_link(transport::PeerId peer, const std::string& endpoint) override;
    void on_stranger(const Event& event) override;
    Mono turn(Now now) override;

    protocol::AdminResult ask_page(const protocol::AdminRequest& request);
    void handle(protocol::Frame& frame, protocol::HostLink::Input input);
    void fail(Exit code, const std::string& text);
    void lost();  // the session is over
    void ask_wanted();

    transport::Loop& loop_;
    std::string endpoint_;
    Patience patience_;
    Identity incarnation_;

    std::mutex mutex_;
    std::condition_variable changed_;
    std::optional<protocol::HostLink> link_;
    std::uint32_t attempts_ = 0;
    std::uint64_t message_limit_ = 0;               // of the welcome
    std::optional<protocol::AdminRequest> wanted_;  // not sent yet
    bool asked_ = false;                            // sent, not answered
    std::uint64_t last_id_ = 0;
    std::optional<protocol::AdminResult> result_;
    std::optional<ExitError> error_;
    std::string stranger_;  // what answers instead of a host
};

}  // namespace posthorn::nodes
