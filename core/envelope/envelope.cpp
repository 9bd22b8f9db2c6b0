#include "envelope/envelope.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "envelope/wire.hpp"

namespace posthorn {

std::string Identity::hex() const {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text;
    text.reserve(bytes.size() * 2);
    for (const std::uint8_t byte : bytes) {
        text.push_back(digits[byte >> 4U]);
        text.push_back(digits[byte & 0x0fU]);
    }
    return text;
}

namespace envelope {

namespace {

using Headers = std::map<std::string, std::string>;

struct Binary {
    std::string_view bytes;
};

std::size_t size_of(const Headers& headers) noexcept {
    std::size_t size = 0;
    for (const auto& [key, value] : headers) size += key.size() + value.size();
    return size;
}

std::uint64_t in_ms(Duration duration) {
    return static_cast<std::uint64_t>(std::chrono::ceil<std::chrono::milliseconds>(duration).count());
}

// Calls visit(key, text) for the str fields.
template <class Visit>
void each_text(const Message& message, Visit&& visit) {
    visit("subject", message.subject);
    visit("type", message.type);
    visit("ordering key", message.ordering_key);
    visit("dedup key", message.dedup_key);
    visit("correlation id", message.correlation_id);
    visit("content type", message.content_type);
    visit("traceparent", message.traceparent);
}
std::optional<std::string> long_text(const Message& message) {
    std::optional<std::string> fault;
    each_text(message, [&](const char* field, const std::string& text) {
        if (text.size() > text_limit && !fault) fault = std::string{field} + " is longer than 1 KiB";
    });
    return fault;
}

// Calls visit(key, value) for the fields that are there, in ascending order.
template <class Visit>
void each_field(const Envelope& envelope, Visit&& visit) {
    const auto number = [&](Key key, std::uint64_t value) {
        if (value != 0) visit(key, value);
    };
    const auto text = [&](Key key, std::string_view value) {
        if (!value.empty()) visit(key, value);
    };
    const Message& message = envelope.message;
    visit(Key::version, std::uint64_t{version});
    visit(Key::producer, Binary{envelope.producer.view()});
    visit(Key::sequence, envelope.sequence);
    if (envelope.previous + 1 != envelope.sequence) visit(Key::previous, envelope.previous);
    text(Key::subject, message.subject);
    text(Key::type, message.type);
    number(Key::timestamp, envelope.timestamp_ms);
    text(Key::ordering_key, message.ordering_key);
    number(Key::priority, message.priority);
    number(Key::delay, in_ms(message.delay));
    number(Key::ttl, in_ms(message.ttl));
    text(Key::correlation_id, message.correlation_id);
    text(Key::reply_to, envelope.reply_to);
    text(Key::content_type, message.content_type);
    text(Key::traceparent, message.traceparent);
    text(Key::dedup_key, message.dedup_key);
    if (!message.headers.empty()) visit(Key::headers, message.headers);
    text(Key::status, envelope.status);
    if (!message.payload.empty()) visit(Key::payload, Binary{message.payload});
}

void write(wire::Writer& writer, std::uint64_t value) {
    writer.unsigned_integer(value);
}
void write(wire::Writer& writer, std::string_view value) {
    writer.string(value);
}
void write(wire::Writer& writer, Binary value) {
    writer.binary(value.bytes);
}
void write(wire::Writer& writer, const Headers& headers) {
    writer.map(static_cast<std::uint32_t>(headers.size()));
    for (const auto& [key, value] : headers) writer.string(key).string(value);
}

template <class Text>
void read(wire::Reader& reader, Text& text) {
    const std::string_view value = reader.string();
    if (value.size() > text_limit) reader.fail();
    if (reader.ok()) text = value;
}

void read(wire::Reader& reader, Headers& headers) {
    std::size_t size = 0;
    for (std::uint32_t left = reader.map(); left > 0 && reader.ok(); --left) {
        const std::string_view key = reader.string();
        const std::string_view value = reader.string();
        size += key.size() + value.size();
        if (key.size() > text_limit || size > headers_limit) reader.fail();
        if (!reader.ok()) return;
        if (!headers.emplace(key, value).second) reader.fail();
    }
}

void read(wire::Reader& reader, Identity& identity) {
    if (!Identity::from_bytes(reader.binary(), identity)) reader.fail();
}

Duration read_duration(wire::Reader& reader) {
    constexpr std::uint64_t limit = duration_limit / 1ms;
    return std::chrono::milliseconds{std::min(reader.unsigned_integer(), limit)};
}

void read_priority(wire::Reader& reader, std::uint8_t& priority) {
    const std::uint64_t value = reader.unsigned_integer();
    if (value > priority_limit) reader.fail();
    priority = static_cast<std::uint8_t>(value & 0xffU);
}

// The frame that decode() and read_routing() share: calls field(key) for each key, which reads the value.
// True: a well-formed envelope of our version with a producer and a place in its sequence.
template <class Field>
bool read_map(wire::Reader& reader, Routing& routing, Field&& field) {
    std::uint32_t left = reader.map();
    if (left == 0 || reader.unsigned_integer() != 0 || reader.unsigned_integer() != version) return false;
    bool has_producer = false;
    bool has_previous = false;
    std::uint64_t before = 0;
    while (--left > 0 && reader.ok()) {
        const std::uint64_t key = reader.unsigned_integer();
        if (key <= before) return false;
        before = key;
        switch (key) {
            case static_cast<std::uint64_t>(Key::producer):
                read(reader, routing.producer);
                has_producer = true;
                break;
            case static_cast<std::uint64_t>(Key::sequence):
                routing.sequence = reader.unsigned_integer();
                break;
            case static_cast<std::uint64_t>(Key::previous):
                routing.previous = reader.unsigned_integer();
                has_previous = true;
                break;
            default:
                field(key);
        }
    }
    if (!reader.ok() || !reader.at_end() || !has_producer || routing.sequence == 0) return false;
    if (!has_previous) routing.previous = routing.sequence - 1;
    return routing.previous < routing.sequence;
}

void read_field(wire::Reader& reader, std::uint64_t key, Envelope& into) {
    Message& message = into.message;
    if (key > std::numeric_limits<std::uint8_t>::max()) return reader.skip();
    switch (static_cast<Key>(key)) {
        case Key::subject:
            return read(reader, message.subject);
        case Key::type:
            return read(reader, message.type);
        case Key::timestamp:
            into.timestamp_ms = reader.unsigned_integer();
            return;
        case Key::ordering_key:
            return read(reader, message.ordering_key);
        case Key::priority:
            return read_priority(reader, message.priority);
        case Key::delay:
            message.delay = read_duration(reader);
            return;
        case Key::ttl:
            message.ttl = read_duration(reader);
            return;
        case Key::correlation_id:
            return read(reader, message.correlation_id);
        case Key::reply_to:
            return read(reader, into.reply_to);
        case Key::content_type:
            return read(reader, message.content_type);
        case Key::traceparent:
            return read(reader, message.traceparent);
        case Key::dedup_key:
            return read(reader, message.dedup_key);
        case Key::headers:
            return read(reader, message.headers);
        case Key::status:
            return read(reader, into.status);
        case Key::payload:
            message.payload = reader.binary();
            return;
        default:
            return reader.skip();
    }
}

}  // namespace

std::optional<std::string> invalid(const Message& message) {
    if (auto fault = long_text(message)) return fault;
    for (const auto& [key, value] : message.headers)
        if (key.size() > text_limit) return "header key is longer than 1 KiB";
    if (size_of(message.headers) > headers_limit) return "headers are longer than 64 KiB together";
    if (message.priority > priority_limit) return "priority is not between 0 and 9";
    for (const auto& [name, time] : {std::pair{"delay", message.delay}, std::pair{"ttl", message.ttl}}) {
        if (time < Duration::zero()) return std::string{name} + " is negative";
        if (time > duration_limit) return std::string{name} + " is longer than 100 years";
    }
    return std::nullopt;
}

std::optional<std::string> invalid(const Envelope& envelope) {
    if (auto fault = invalid(envelope.message)) return fault;
    if (envelope.reply_to.size() > text_limit) return "reply-to is longer than 1 KiB";
    if (envelope.status.size() > text_limit) return "status is longer than 1 KiB";
    if (envelope.sequence == 0) return "sequence is 0; it counts from 1";
    if (envelope.previous >= envelope.sequence) return "previous is not below sequence";
    return std::nullopt;
}

void encode(const Envelope& envelope, std::string& out) {
    std::uint32_t fields = 0;
    each_field(envelope, [&](Key, const auto&) { ++fields; });
    wire::Writer writer(out);
    writer.map(fields);
    each_field(envelope, [&](Key key, const auto& value) {
        writer.unsigned_integer(static_cast<std::uint64_t>(key));
        write(writer, value);
    });
}

std::optional<Envelope> decode(std::string_view bytes) {
    std::optional<Envelope> envelope{std::in_place};
    wire::Reader reader(bytes);
    Routing routing;
    if (!read_map(reader, routing, [&](std::uint64_t key) { read_field(reader, key, *envelope); })) return std::nullopt;
    envelope->producer = routing.producer;
    envelope->sequence = routing.sequence;
    envelope->previous = routing.previous;
    return envelope;
}

std::optional<Routing> read_routing(std::string_view bytes) noexcept {
    wire::Reader reader(bytes);
    std::optional<Routing> routing{std::in_place};  // where it is returned: a host does this for every message
    const auto field = [&](std::uint64_t key) {
        switch (key) {
            case static_cast<std::uint64_t>(Key::ordering_key):
                return read(reader, routing->ordering_key);
            case static_cast<std::uint64_t>(Key::priority):
                return read_priority(reader, routing->priority);
            case static_cast<std::uint64_t>(Key::delay):
                routing->delay = read_duration(reader);
                return;
            case static_cast<std::uint64_t>(Key::ttl):
                routing->ttl = read_duration(reader);
                return;
            case static_cast<std::uint64_t>(Key::dedup_key):
                return read(reader, routing->dedup_key);
            default:
                return reader.skip();
        }
    };
    if (!read_map(reader, *routing, field)) routing.reset();
    return routing;
}

Labels read_labels(std::string_view bytes) {
    Labels labels;
    wire::Reader reader(bytes);
    for (std::uint32_t left = reader.map(); left > 0 && reader.ok(); --left) {
        const std::uint64_t key = reader.unsigned_integer();
        if (key == static_cast<std::uint64_t>(Key::subject)) {
            read(reader, labels.subject);
        } else if (key == static_cast<std::uint64_t>(Key::headers)) {
            std::size_t size = 0;
            for (std::uint32_t headers = reader.map(); headers > 0 && reader.ok(); --headers) {
                const std::string_view name = reader.string();
                const std::string_view value = reader.string();
                size += name.size() + value.size() + 1;  // an empty one is one too
                if (size > 2 * headers_limit) return {};
                if (reader.ok()) labels.headers.emplace_back(name, value);
            }
        } else {
            reader.skip();
        }
    }
    return labels;
}

Request read_request(std::string_view bytes) {
    Request request;
    wire::Reader reader(bytes);
    const auto text = [&](std::string& into) {
        if (reader.peek() != wire::Type::string) return reader.skip();
        const std::string_view value = reader.string();
        if (value.size() <= text_limit) into = value;
    };
    for (std::uint32_t left = reader.map(); left > 0 && reader.ok(); --left) {
        const std::uint64_t key = reader.unsigned_integer();
        if (key == static_cast<std::uint64_t>(Key::producer)) {
            read(reader, request.producer);
        } else if (key == static_cast<std::uint64_t>(Key::sequence)) {
            request.sequence = reader.unsigned_integer();
        } else if (key == static_cast<std::uint64_t>(Key::correlation_id)) {
            text(request.correlation_id);
        } else if (key == static_cast<std::uint64_t>(Key::reply_to)) {
            text(request.reply_to);
        } else {
            reader.skip();
        }
    }
    return request;
}

std::string answer(const Request& request, std::string_view status, Message message) {
    Envelope reply{.producer = request.producer,
                   .sequence = request.sequence,
                   .previous = request.sequence - 1,
                   .reply_to = request.reply_to,
                   .status = std::string{status},
                   .message = std::move(message)};
    reply.message.correlation_id = request.correlation_id;
    reply.message.delay = reply.message.ttl = Duration::zero();
    reply.message.ordering_key.clear();
    reply.message.dedup_key.clear();
    reply.message.priority = 0;
    std::string bytes;
    encode(reply, bytes);
    return bytes;
}

std::size_t size_of(const Change& change) noexcept {
    constexpr std::size_t around_header = 8;
    std::size_t size = (change.payload ? change.payload->size() : 0) + (change.type ? change.type->size() : 0);
    for (const auto& [name, value] : change.headers) {
        size += name.size() + (value ? value->size() : 0) + around_header;
    }
    return size;
}

Changed changed(std::string_view bytes, const Change& change) {
    auto envelope = decode(bytes);
    if (!envelope) return {{}, "its envelope cannot be read"};
    Message& message = envelope->message;
    if (change.payload) message.payload = *change.payload;
    if (change.type) message.type = *change.type;
    for (const auto& [name, value] : change.headers) {
        if (value) {
            message.headers.insert_or_assign(name, *value);
        } else {
            message.headers.erase(name);
        }
    }
    if (auto fault = invalid(message)) return {{}, std::move(*fault)};
    if (change.payload && message.content_type == msgpack_content_type) {
        wire::Reader value(message.payload);
        value.skip();
        if (!value.ok() || !value.at_end())
            return {{}, "its content type is application/msgpack, and the new payload is not one msgpack value"};
    }

    std::map<std::uint64_t, std::string> fields;
    wire::Reader reader(bytes);
    for (std::uint32_t left = reader.map(); left > 0; --left) {
        const std::uint64_t key = reader.unsigned_integer();
        fields.emplace(key, reader.raw());
    }
    for (const Key key : {Key::type, Key::headers, Key::payload}) fields.erase(static_cast<std::uint64_t>(key));
    each_field(*envelope, [&](Key key, const auto& value) {
        std::string& raw = fields[static_cast<std::uint64_t>(key)];
        raw.clear();
        wire::Writer writer(raw);
        write(writer, value);
    });
    Changed result;
    wire::Writer writer(result.bytes);
    writer.map(static_cast<std::uint32_t>(fields.size()));
    for (const auto& [key, raw] : fields) {
        writer.unsigned_integer(key);
        result.bytes += raw;
    }
    return result;
}

std::string message_id(const Identity& producer, std::uint64_t sequence, std::uint32_t redrives) {
    std::string id = producer.hex() + '-' + std::to_string(sequence);
    if (redrives > 0) id += "-r" + std::to_string(redrives);
    return id;
}

}  // namespace envelope
}  // namespace posthorn
