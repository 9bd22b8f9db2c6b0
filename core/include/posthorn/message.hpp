// The message as a user sees it. Plain values, no thread safety of their own.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include <posthorn/time.hpp>

namespace posthorn {

inline constexpr std::uint8_t priority_limit = 9;
inline constexpr std::string_view msgpack_content_type = "application/msgpack";

// What is sent. `payload` is the user's bytes; payload.hpp turns a typed value into them.
// Limits: subject, type, content type, ids and header keys at most 1 KiB each, headers at most 64 KiB
// together, the whole message at most the host's message limit (16 MiB unless configured); times 0 to 100 years.
struct Message {
    std::string payload{};
    std::string type{};          // the user's name for what the payload is
    std::string content_type{};  // "application/msgpack" for typed payloads; empty: plain bytes
    std::map<std::string, std::string> headers{};
    std::string subject{};  // the routing key, dotted words
    std::string correlation_id{};
    std::string traceparent{};  // W3C Trace Context, carried, never read
    // 0 to 9. Of what is ready, higher ones go first; among equals the order of arrival holds.
    std::uint8_t priority = 0;
    // Messages with the same key are worked on one at a time, in their order, failed ones included; that order beats
    // priority. Empty: none. A delayed message joins the line of its key when its delay is over.
    std::string ordering_key{};
    // Not delivered before, counted from when the host accepts it, to the ms.
    Duration delay{};
    // Time to live, counted from when the host accepts it, rounded up to ms; 0: no end. What is not with a worker by
    // then is never delivered again: it is dead-lettered as `expired`. One that a worker holds may still be settled.
    Duration ttl{};
    // A message whose key was accepted within the queue's dedup_window is not taken again: it counts as sent. Empty:
    // none.
    std::string dedup_key{};
};

}  // namespace posthorn
