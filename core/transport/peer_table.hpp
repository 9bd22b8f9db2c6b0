// The peers heard on one ROUTER, by libzmq's routing id. Bounded: the one heard longest ago makes room; if it is still
// there it becomes a new peer and its session is asked for its hello.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <string>
#include <string_view>

namespace posthorn::transport {

class PeerTable {
public:
    struct Peer {
        std::uint64_t id = 0;
        std::string routing_id;
    };

    explicit PeerTable(std::size_t limit) : limit_(limit) {}

    // Null if this routing id is new. Otherwise it counts as heard just now. The address stays until it is erased.
    Peer* hear(std::string_view routing_id) {
        if (!peers_.empty() && peers_.front().routing_id == routing_id) return &peers_.front();  // usual: bursts
        const auto found = by_routing_id_.find(routing_id);
        if (found == by_routing_id_.end()) return nullptr;
        peers_.splice(peers_.begin(), peers_, found->second);
        return &peers_.front();
    }

    Peer* add(std::uint64_t id, std::string_view routing_id) {
        peers_.push_front({id, std::string(routing_id)});
        by_routing_id_.emplace(peers_.front().routing_id, peers_.begin());
        return &peers_.front();
    }

    // It is gone: the first to make room. Until then it is known, for what it said last may not have been heard yet.
    void retire(const Peer& peer) {
        const auto found = by_routing_id_.find(peer.routing_id);
        if (found != by_routing_id_.end()) peers_.splice(peers_.end(), peers_, found->second);
    }

    // The one to erase so that the table keeps its bound, if any.
    [[nodiscard]] const Peer* surplus() const { return peers_.size() > limit_ ? &peers_.back() : nullptr; }

    void erase(const Peer& peer) {
        const auto found = by_routing_id_.find(peer.routing_id);
        if (found == by_routing_id_.end()) return;
        const auto position = found->second;
        by_routing_id_.erase(found);
        peers_.erase(position);
    }

    [[nodiscard]] const std::list<Peer>& peers() const noexcept { return peers_; }

private:
    std::size_t limit_;
    std::list<Peer> peers_;  // last heard first
    std::map<std::string_view, std::list<Peer>::iterator> by_routing_id_;
};

}  // namespace posthorn::transport
