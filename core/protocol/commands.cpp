// Commands to bytes. The way back is in decode.cpp.
#include "protocol/commands.hpp"

#include <utility>

#include "envelope/binding.hpp"
#include "protocol/codec.hpp"

namespace posthorn::protocol {

namespace {

using wire::Writer;

// Name and body of one command. The head is written first and counts along; it has one byte as long as no more than 15
// fields have to fit it.
class Body {
public:
    Body(std::string& out, std::string_view name)
        : out_(&out), writer_(out), head_((writer_.string(name), out.size())) {
        writer_.map(0);
    }

    Writer& field(std::string_view key) {
        count();
        return writer_.string(key);
    }
    void number(std::string_view key, std::uint64_t value) {
        if (value != 0) field(key).unsigned_integer(value);
    }
    void identity(std::string_view key, const Identity& value) {
        if (!value.is_zero()) field(key).binary(value.view());
    }
    void text(std::string_view key, std::string_view value) {
        if (!value.empty()) field(key).string(value);
    }
    template <class Item, class Write>
    void list(std::string_view key, const std::vector<Item>& items, Write&& write) {
        if (items.empty()) return;
        field(key).array(static_cast<std::uint32_t>(items.size()));
        for (const Item& item : items) write(item);
    }
    void held(std::string_view key, const std::vector<Held>& items) {
        list(key, items, [&](const Held& item) {
            writer_.array(3).unsigned_integer(item.offset).unsigned_integer(item.token).boolean(item.begun);
        });
    }
    // Leases that are over, or settles that came too late: whether they were begun is of no interest any more.
    void gone(std::string_view key, const std::vector<Held>& items) {
        list(key, items,
             [&](const Held& item) { writer_.array(2).unsigned_integer(item.offset).unsigned_integer(item.token); });
    }
    void refused(std::string_view key, const std::vector<Refused>& items) {
        list(key, items, [&](const Refused& item) {
            writer_.array(3).unsigned_integer(item.sequence).string(item.code).string(item.text);
        });
    }
    void strings(std::string_view key, const std::vector<std::string>& items) {
        list(key, items, [&](const std::string& item) { writer_.string(item); });
    }
    void header(const std::string& name, const std::optional<std::string>& value) {
        writer_.array(2).string(name);
        if (value) {
            writer_.string(*value);
        } else {
            writer_.nil();
        }
    }
    // A field that is a map of its own; to be written before the next one.
    Body map(std::string_view key) {
        count();
        return {*out_, key};
    }
    // Already encoded values.
    void values(std::string_view key, const std::vector<std::string>& items) {
        list(key, items, [&](const std::string& item) { out_->append(item); });
    }
    Writer& writer() noexcept { return writer_; }

private:
    void count() {
        constexpr std::uint8_t fixed_most = 15;
        if (++fields_ <= fixed_most) {
            ++(*out_)[head_];
        } else if (fields_ == fixed_most + 1) {
            std::string wide;
            Writer(wide).map(fields_);
            out_->replace(head_, 1, wide);
        } else {
            ++(*out_)[head_ + 2];  // its low byte; no command has more than 255 fields
        }
    }

    std::string* out_;
    Writer writer_;
    std::size_t head_;  // where the head stands
    std::uint32_t fields_ = 0;
};

std::string_view name_of(Role role) noexcept {
    switch (role) {
        case Role::producer:
            return "producer";
        case Role::consumer:
            return "consumer";
        case Role::admin:
            return "admin";
        case Role::unknown:
            break;
    }
    return "";
}

std::string_view name_of(From::What what) noexcept {
    switch (what) {
        case From::What::time:
            return "time";
        case From::What::last:
            return "last";
        case From::What::sequence:
            break;
    }
    return "sequence";
}

void write(const Hello& hello, std::string& out) {
    Body body(out, "hello");
    body.field("protocol").string(magic);
    body.field("version").unsigned_integer(hello.version);
    body.field("role").string(name_of(hello.role));
    body.text("address", hello.address);
    body.text("name", hello.name);
    body.identity("incarnation", hello.incarnation);
    body.identity("producer", hello.producer);
    if (hello.resumed) body.field("resumed").boolean(true);
    body.number("attempt", hello.attempt);
    body.number("confirmed", hello.confirmed);
    body.number("oldest", hello.oldest);
    body.held("held", hello.held);
    if (hello.role == Role::consumer) {
        body.field("concurrency").unsigned_integer(hello.concurrency);
        body.field("window").array(2).unsigned_integer(hello.window_messages).unsigned_integer(hello.window_bytes);
    }
    body.text("client", hello.client);
    if (hello.strict) body.field("strict").boolean(true);
    if (hello.topic) body.field("topic").boolean(true);
    if (hello.live) body.field("live").boolean(true);
    if (hello.watch) body.field("watch").boolean(true);
    body.text("replies", hello.replies);
    if (hello.keeps_replies) body.field("keeps_replies").boolean(true);
    if (hello.needs_replier) body.field("needs_replier").boolean(true);
    if (hello.replier) body.field("replier").boolean(true);
    if (hello.bindings) envelope::write_bindings(body.field("bindings"), *hello.bindings);
    if (hello.temporary) body.field("temporary").boolean(true);
    if (hello.exclusive) body.field("exclusive").boolean(true);
    body.number("link", hello.link);
    body.number("received", hello.received);
    if (hello.from) body.field("from").array(2).string(name_of(hello.from->what)).unsigned_integer(hello.from->number);
}

void write(const Publish& publish, std::string& out) {
    Body body(out, "publish");
    body.list("m", publish.envelopes, [&](const Slice& envelope) { body.writer().binary(envelope.view()); });
}

void write(const Cancel& cancel, std::string& out) {
    Body body(out, "cancel");
    body.list("m", cancel.requests, [&](const SequenceRange& range) {
        body.writer().array(2).unsigned_integer(range.first).unsigned_integer(range.last);
    });
}

void write(const Window& window, std::string& out) {
    Body body(out, "window");
    body.field("messages").unsigned_integer(window.messages);
    body.field("bytes").unsigned_integer(window.bytes);
}

void write(const Taken& taken, std::string& out) {
    Body body(out, "taken");
    body.number("count", taken.count);
    body.number("messages", taken.messages);
    body.number("bytes", taken.bytes);
    if (taken.received > taken.count) body.number("received", taken.received);
}

void write(const Settle& settle, std::string& out) {
    Body body(out, "settle");
    Writer& writer = body.writer();
    body.list("acks", settle.acks, [&](const AckRun& run) {
        writer.array(3).unsigned_integer(run.offset).unsigned_integer(run.token).unsigned_integer(run.count);
    });
    body.list("others", settle.others, [&](const SettleOne& one) {
        writer.array(one.reply.empty() ? 5 : 6).unsigned_integer(one.offset).unsigned_integer(one.token);
        writer.unsigned_integer(static_cast<std::uint64_t>(one.verdict));
        if (one.delay_ms) {
            writer.unsigned_integer(*one.delay_ms);
        } else {
            writer.nil();
        }
        writer.string(one.text);
        if (!one.reply.empty()) writer.binary(one.reply.view());
    });
    if (settle.sync) body.field("sync").boolean(true);
}

void write(const Extend& extend, std::string& out) {
    Body body(out, "extend");
    body.list("m", extend.items, [&](const ExtendOne& one) {
        body.writer().array(3).unsigned_integer(one.offset).unsigned_integer(one.token).unsigned_integer(one.ms);
    });
}

void write(const Recalled& /*recalled*/, std::string& out) {
    Body(out, "recalled");
}

void write(const envelope::Change& change, Body& body) {
    Body inner = body.map("change");
    if (change.payload) inner.field("payload").binary(*change.payload);
    if (change.type) inner.field("type").string(*change.type);
    if (change.headers.empty()) return;
    inner.field("headers").array(static_cast<std::uint32_t>(change.headers.size()));
    for (const auto& [name, value] : change.headers) inner.header(name, value);
}

void write(const AdminRequest& request, std::string& out) {
    Body body(out, "admin");
    body.field("id").unsigned_integer(request.id);
    body.field("verb").string(request.verb);
    body.text("address", request.address);
    body.text("reason", request.reason);
    body.strings("ids", request.ids);
    body.number("from", request.from);
    body.field("dry_run").boolean(request.dry_run);
    body.field("max").unsigned_integer(request.max);
    body.text("folder", request.folder);
    body.text("type", request.type);
    body.list("headers", request.headers, [&](const HeaderField& header) { body.header(header.name, header.value); });
    body.number("older_than", request.older_than_ms);
    body.number("newer_than", request.newer_than_ms);
    body.text("text", request.text);
    if (!request.change.empty()) write(request.change, body);
}

void write(const Bye& bye, std::string& out) {
    Body body(out, "bye");
    body.number("retry_after", bye.retry_after_ms);
    body.text("text", bye.text);
    if (bye.answer) body.field("answer").boolean(true);
}

void write(const Welcome& welcome, std::string& out) {
    Body body(out, "welcome");
    body.field("version").unsigned_integer(welcome.version);
    body.number("attempt", welcome.attempt);
    body.identity("host", welcome.host);
    body.field("durable").boolean(welcome.durable);
    body.number("message_limit", welcome.message_limit);
    body.number("heartbeat", welcome.heartbeat_ms);
    body.number("lease", welcome.lease_ms);
    body.number("watermark", welcome.watermark);
    body.number("stored", welcome.stored);
    body.refused("refused", welcome.refused);
    body.gone("lost", welcome.lost);
    body.number("link", welcome.link);
    body.strings("capabilities", welcome.capabilities);
}

void write(const Identify& identify, std::string& out) {
    Body body(out, "identify");
    body.identity("host", identify.host);
}

void write(const Refusal& refusal, std::string& out) {
    Body body(out, "refused");
    body.field("code").string(refusal.code);
    body.text("text", refusal.text);
}

void write(const Confirm& confirm, std::string& out) {
    Body body(out, "confirm");
    body.number("held", confirm.held);
    body.number("stored", confirm.stored);
    body.list("settled", confirm.settled, [&](const SequenceRange& range) {
        body.writer().array(2).unsigned_integer(range.first).unsigned_integer(range.last);
    });
    body.refused("refused", confirm.refused);
    if (confirm.resume) body.field("resume").unsigned_integer(*confirm.resume);
}

void write(const Credit& credit, std::string& out) {
    Body body(out, "credit");
    body.field("messages").unsigned_integer(credit.messages);
    body.field("bytes").unsigned_integer(credit.bytes);
    body.text("reason", credit.reason);
}

void write(const Peers& peers, std::string& out) {
    Body(out, "peers").field("consumers").unsigned_integer(peers.consumers);
}

void write(const Deliver& deliver, std::string& out) {
    Body body(out, "deliver");
    Writer& writer = body.writer();
    body.list("m", deliver.items, [&](const DeliverOne& one) {
        writer.array(6).unsigned_integer(one.offset).unsigned_integer(one.token).unsigned_integer(one.attempt);
        writer.unsigned_integer(one.redrives).boolean(one.maybe_duplicate).binary(one.envelope.view());
    });
}

void write(const Feed& feed, std::string& out) {
    Body body(out, "feed");
    body.field("first").unsigned_integer(feed.first);
    if (feed.count == 0) return;
    body.field("m").array(feed.count);
    out.append(feed.list.view());
}

void write(const Settled& settled, std::string& out) {
    Body body(out, "settled");
    body.number("count", settled.count);
    body.gone("stale", settled.stale);
    body.number("applied", settled.applied);
}

void write(const Recall& recall, std::string& out) {
    Body(out, "recall").number("count", recall.count);
}

void write(const State& state, std::string& out) {
    Body(out, "state").field("ready").boolean(state.ready);
}

void write(const Lost& lost, std::string& out) {
    Body(out, "lost").gone("m", lost.items);
}

void write(const AdminResult& result, std::string& out) {
    Body body(out, "result");
    body.field("id").unsigned_integer(result.id);
    body.values("rows", result.rows);
    body.number("next", result.next);
    body.text("error", result.error);
}

}  // namespace

std::vector<Slice> envelopes_of(const Feed& feed) {
    std::vector<Slice> envelopes;
    envelopes.reserve(feed.count);
    wire::Reader in(feed.list.view());
    for (std::uint32_t left = feed.count; left > 0; --left) envelopes.push_back(feed.list.part(in.binary()));
    return envelopes;
}

void codec::encode(const Command& command, std::string& out) {
    std::visit([&](const auto& one) { write(one, out); }, command);
}

}  // namespace posthorn::protocol
