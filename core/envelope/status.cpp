#include <posthorn/event.hpp>
#include <posthorn/status.hpp>

namespace posthorn {

std::string_view to_string(Status status) noexcept {
    switch (status) {
        case Status::ok:
            return "ok";
        case Status::would_block:
            return "would_block";
        case Status::timed_out:
            return "timed_out";
        case Status::no_peer:
            return "no_peer";
        case Status::too_large:
            return "too_large";
        case Status::closed:
            return "closed";
        case Status::rejected:
            return "rejected";
        case Status::stale:
            return "stale";
        case Status::failed:
            return "failed";
        case Status::replier_lost:
            return "replier_lost";
        case Status::no_replier:
            return "no_replier";
        case Status::cancelled:
            return "cancelled";
    }
    return "unknown";
}

std::string_view to_string(Event::Kind kind) noexcept {
    switch (kind) {
        case Event::Kind::connected:
            return "connected";
        case Event::Kind::lost:
            return "lost";
        case Event::Kind::resumed:
            return "resumed";
        case Event::Kind::refused:
            return "refused";
        case Event::Kind::dropped:
            return "dropped";
        case Event::Kind::stale_delivery:
            return "stale_delivery";
        case Event::Kind::dead_lettered:
            return "dead_lettered";
        case Event::Kind::store_lost_confirmed:
            return "store_lost_confirmed";
        case Event::Kind::damaged:
            return "damaged";
        case Event::Kind::store_failed:
            return "store_failed";
        case Event::Kind::left_behind:
            return "left_behind";
        case Event::Kind::consumer_died:
            return "consumer_died";
        case Event::Kind::dedup_full:
            return "dedup_full";
        case Event::Kind::dlq_full:
            return "dlq_full";
        case Event::Kind::overflow:
            return "overflow";
        case Event::Kind::storm:
            return "storm";
        case Event::Kind::missed:
            return "missed";
    }
    return "unknown";
}

}  // namespace posthorn
