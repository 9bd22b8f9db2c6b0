// The message on the wire and on the disk: one msgpack map with small integer keys in ascending order, specified
// byte for byte in docs/protocol.md, with vectors in tests/vectors/. A host reads Routing and passes the bytes on.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <posthorn/message.hpp>

#include "envelope/identity.hpp"

namespace posthorn::envelope {

// Map keys. A field that is absent costs nothing. The payload comes last; 18 to 30 are left for later fields.
enum class Key : std::uint8_t {
    version = 0,
    producer = 1,         // bin, 16 bytes
    sequence = 2,         // uint, from 1
    previous = 3,         // uint; the sequence this one follows; absent: sequence - 1
    subject = 4,          // str
    type = 5,             // str
    timestamp = 6,        // uint, ms since the Unix epoch, by the sender's clock
    ordering_key = 7,     // str
    priority = 8,         // uint 0-9
    delay = 9,            // uint ms, from when the host accepts it
    ttl = 10,             // uint ms, from when the host accepts it
    correlation_id = 11,  // str
    reply_to = 12,        // str
    content_type = 13,    // str
    traceparent = 14,     // str
    dedup_key = 15,       // str
    headers = 16,         // map of str to str
    status = 17,          // str; of an answer, absent: ok
    payload = 31,         // bin
};

struct Envelope {
    Identity producer;
    std::uint64_t sequence = 0;
    std::uint64_t previous = 0;
    std::uint64_t timestamp_ms = 0;  // 0: absent
    std::string reply_to;
    std::string status{};  // of an answer: what became of the request; empty: it was done
    Message message;       // all the others
};

// The few fields a host looks at.
struct Routing {
    Identity producer;
    std::uint64_t sequence = 0;
    std::uint64_t previous = 0;
    std::string_view ordering_key;  // parts of the envelope's bytes
    std::string_view dedup_key;
    std::uint8_t priority = 0;
    Duration delay{};
    Duration ttl{};  // 0: none
};

// What bindings look at.
struct Labels {
    std::string_view subject;  // parts of the envelope's bytes
    std::vector<std::pair<std::string_view, std::string_view>> headers;
};

// What an answer to a request repeats of it.
struct Request {
    Identity producer;
    std::uint64_t sequence = 0;
    std::string reply_to;  // who waits for the answer; empty: nobody, it is no request
    std::string correlation_id;
};

// Of an answer. Whoever reads another one takes it for `failed`.
namespace status {
inline constexpr std::string_view failed = "failed";              // the payload says why
inline constexpr std::string_view undecodable = "undecodable";    // it was not what the service takes; as well
inline constexpr std::string_view replier_lost = "replier_lost";  // whoever worked on it is gone
inline constexpr std::string_view expired = "expired";            // nobody did within its time to live
}  // namespace status

inline constexpr std::uint8_t version = 1;
inline constexpr std::size_t text_limit = 1024;          // bytes of each str field and of each header key
inline constexpr std::size_t headers_limit = 64 * 1024;  // bytes of all header keys and values together
inline constexpr Duration duration_limit = std::chrono::hours{24 * 365 * 100};  // what is longer is read as so long

// The sender's check: names the field that breaks its limit, and the limit; empty: encode() makes what decode() reads.
[[nodiscard]] std::optional<std::string> invalid(const Envelope& envelope);
[[nodiscard]] std::optional<std::string> invalid(const Message& message);  // as a part of any envelope
void encode(const Envelope& envelope, std::string& out);

// Neither throws on the content nor allocates beyond the size of `bytes`. Empty: not an envelope of a version we read,
// or a field breaks its limit. Producer and sequence must be there, keys ascend, nothing follows the map.
// Unknown keys are skipped. Reserved fields are read like any other.
[[nodiscard]] std::optional<Envelope> decode(std::string_view bytes);
// Walks the whole map, so what passes is well-formed to its end; looks into no field beyond those it gives back.
[[nodiscard]] std::optional<Routing> read_routing(std::string_view bytes) noexcept;
// Of what read_routing() has read. Nothing where the headers are beyond what decode() takes.
[[nodiscard]] Labels read_labels(std::string_view bytes);

// Of what read_routing() has read. A field that breaks its limit is empty.
[[nodiscard]] Request read_request(std::string_view bytes);
// The answer to it. Of `message` counts what a message back can have.
[[nodiscard]] std::string answer(const Request& request, std::string_view status, Message message);

// What may be changed of a message that was sent: who sent it, and where it stands among theirs, stays.
struct Change {
    std::optional<std::string> payload{};
    std::optional<std::string> type{};
    std::map<std::string, std::optional<std::string>> headers{};  // nothing: it goes
    [[nodiscard]] bool empty() const noexcept { return !payload && !type && headers.empty(); }
};
[[nodiscard]] std::size_t size_of(const Change& change) noexcept;  // about its bytes in a command
// The envelope with the change made; what later versions have put into it stays. Or the fault: why there is none.
struct Changed {
    std::string bytes;
    std::string fault;
};
[[nodiscard]] Changed changed(std::string_view bytes, const Change& change);

// "<producer hex>-<sequence>", with "-r<n>" behind it for the n-th redrive.
[[nodiscard]] std::string message_id(const Identity& producer, std::uint64_t sequence, std::uint32_t redrives);

}  // namespace posthorn::envelope
