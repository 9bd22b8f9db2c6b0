// Bytes to commands. Nothing here trusts its input: the reader cannot leave the bytes, and vectors are reserved only
// by what the bytes that are left can hold.
#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "envelope/binding.hpp"
#include "protocol/codec.hpp"

namespace posthorn::protocol {

namespace {

// At most text_limit bytes, never half a UTF-8 character.
std::string_view cut(std::string_view text) noexcept {
    if (text.size() <= text_limit) return text;
    std::size_t size = text_limit;
    constexpr std::size_t longest_tail = 3;
    for (std::size_t back = 0; back < longest_tail; ++back)
        if ((static_cast<std::uint8_t>(text[size]) & 0xc0U) == 0x80U) --size;
    return text.substr(0, size);
}

// Reads the parts of a command's body. The functions answer true, for "this key is known", whatever they find: what
// is wrong with the value is the reader's to remember.
class Source {
public:
    Source(wire::Reader& reader, const Slice& owner, std::size_t& entries_left) noexcept
        : reader_(&reader), owner_(&owner), entries_left_(&entries_left) {}

    // known(key) reads the value and answers true, or answers false for a key of a later version.
    template <class Known>
    void body(Known&& known) {
        for (std::uint32_t left = reader_->map(); left > 0 && reader_->ok(); --left) {
            const std::string_view key = reader_->string();
            if (reader_->ok() && !known(key)) reader_->skip();
        }
    }

    template <class Number>
    bool number(Number& into) {
        const std::uint64_t value = reader_->unsigned_integer();
        if (value > std::numeric_limits<Number>::max()) reader_->fail();
        into = static_cast<Number>(value);
        return true;
    }
    bool delay(std::optional<std::uint64_t>& into) {
        if (reader_->nil()) return true;
        return number(into.emplace());
    }
    bool bytes(std::string& into) {
        into = reader_->binary();
        return true;
    }
    bool maybe_word(std::optional<std::string>& into) {
        if (reader_->nil()) return true;
        return word(into.emplace());
    }
    bool flag(bool& into) {
        into = reader_->boolean();
        return true;
    }
    bool word(std::string& into) {
        into = reader_->string();
        return true;
    }
    bool text(std::string& into) {
        into = cut(reader_->string());
        return true;
    }
    bool identity(Identity& into) {
        if (!Identity::from_bytes(reader_->binary(), into)) reader_->fail();
        return true;
    }
    bool verdict(Verdict& into) {
        const std::uint64_t value = reader_->unsigned_integer();
        if (value > static_cast<std::uint64_t>(Verdict::undecodable)) reader_->fail();
        into = static_cast<Verdict>(value & 0x07U);
        return true;
    }
    bool envelope(Slice& into) {
        into = owner_->part(reader_->binary());
        return true;
    }
    bool maybe_envelope(Slice& into) {
        if (reader_->nil()) return true;
        return envelope(into);
    }
    bool map_value(std::string& into) {
        if (reader_->peek() != wire::Type::map) reader_->fail();
        into = reader_->raw();
        return true;
    }

    // A list of bins, left as it is.
    bool bins(std::uint32_t& count, Slice& list) {
        constexpr std::size_t least = 2;  // an empty one
        count = reader_->array();
        if (count > *entries_left_ || count > reader_->rest().size() / least) reader_->fail();
        if (!reader_->ok()) return true;
        *entries_left_ -= count;
        const std::string_view all = reader_->rest();
        for (std::uint32_t left = count; left > 0 && reader_->ok(); --left) (void)reader_->binary();
        list = owner_->part(all.substr(0, all.size() - reader_->rest().size()));
        return true;
    }

    // Elements that take at least `least` bytes each.
    template <class Item, class Read>
    bool list(std::vector<Item>& into, std::size_t least, Read&& read) {
        const std::uint32_t count = reader_->array();
        if (count > *entries_left_ || count > reader_->rest().size() / least) reader_->fail();
        if (!reader_->ok()) return true;
        *entries_left_ -= count;
        into.clear();
        into.reserve(count);
        for (std::uint32_t left = count; left > 0 && reader_->ok(); --left) read(into.emplace_back());
        return true;
    }
    // An array that holds at least `columns` elements, which read() reads; those of a later version are skipped.
    template <class Read>
    bool row(std::uint32_t columns, Read&& read) {
        return row(columns, read, [this] { reader_->skip(); });
    }
    // One more column may follow, which more() reads.
    template <class Read, class More>
    bool row(std::uint32_t columns, Read&& read, More&& more) {
        const std::uint32_t count = reader_->array();
        if (count < columns) reader_->fail();
        if (!reader_->ok()) return true;
        read();
        if (count > columns && reader_->ok()) more();
        for (std::uint32_t extra = columns + 1; extra < count && reader_->ok(); ++extra) reader_->skip();
        return true;
    }
    // A list of rows; each column takes at least one byte.
    template <class Item, class Read>
    bool rows(std::vector<Item>& into, std::uint32_t columns, Read&& read) {
        return list(into, 1 + columns, [&](Item& item) { row(columns, [&] { read(item); }); });
    }
    template <class Item, class Read, class More>
    bool rows(std::vector<Item>& into, std::uint32_t columns, Read&& read, More&& more) {
        return list(into, 1 + columns, [&](Item& item) {
            row(
                columns, [&] { read(item); }, [&] { more(item); });
        });
    }

    bool held(std::vector<Held>& into) {
        return rows(into, 3, [&](Held& item) { number(item.offset), number(item.token), flag(item.begun); });
    }
    bool gone(std::vector<Held>& into) {
        return rows(into, 2, [&](Held& item) { number(item.offset), number(item.token); });
    }
    bool refused(std::vector<Refused>& into) {
        return rows(into, 3, [&](Refused& item) { number(item.sequence), word(item.code), text(item.text); });
    }
    bool headers(std::vector<HeaderField>& into) {
        return rows(into, 2, [&](HeaderField& header) { word(header.name), maybe_word(header.value); });
    }
    bool bindings(std::vector<Binding>& into) {
        envelope::read_bindings(*reader_, into);
        return true;
    }
    bool from(From& into) {
        return row(2, [&] {
            const std::string_view what = reader_->string();
            if (what != "sequence" && what != "time" && what != "last") reader_->fail();
            into.what = what == "time" ? From::What::time : what == "last" ? From::What::last : From::What::sequence;
            number(into.number);
        });
    }
    bool words(std::vector<std::string>& into) {
        return list(into, 1, [&](std::string& item) { word(item); });
    }

private:
    wire::Reader* reader_;
    const Slice* owner_;
    std::size_t* entries_left_;
};

Role role_of(std::string_view name) noexcept {
    if (name == "producer") return Role::producer;
    if (name == "consumer") return Role::consumer;
    if (name == "admin") return Role::admin;
    return Role::unknown;
}

// What a hello says of a topic or subscription.
bool read_topic(Source& in, std::string_view key, Hello& hello) {
    if (key == "live") return in.flag(hello.live);
    if (key == "link") return in.number(hello.link);
    if (key == "received") return in.number(hello.received);
    if (key == "topic") return in.flag(hello.topic);
    if (key == "bindings") return in.bindings(hello.bindings.emplace());
    if (key == "temporary") return in.flag(hello.temporary);
    if (key == "exclusive") return in.flag(hello.exclusive);
    if (key == "from") return in.from(hello.from.emplace());
    return false;
}

// What the hello of a producer says of what it wants to hear.
bool read_requester(Source& in, std::string_view key, Hello& hello) {
    if (key == "watch") return in.flag(hello.watch);
    if (key == "replies") return in.word(hello.replies);
    if (key == "keeps_replies") return in.flag(hello.keeps_replies);
    if (key == "needs_replier") return in.flag(hello.needs_replier);
    return false;
}

void read(Source& in, Hello& hello) {
    std::string protocol;
    std::string role;
    in.body([&](std::string_view key) {
        if (key == "protocol") return in.word(protocol);
        if (key == "version") return in.number(hello.version);
        if (key == "role") return in.word(role);
        if (key == "address") return in.word(hello.address);
        if (key == "name") return in.word(hello.name);
        if (key == "incarnation") return in.identity(hello.incarnation);
        if (key == "producer") return in.identity(hello.producer);
        if (key == "resumed") return in.flag(hello.resumed);
        if (key == "attempt") return in.number(hello.attempt);
        if (key == "confirmed") return in.number(hello.confirmed);
        if (key == "oldest") return in.number(hello.oldest);
        if (key == "held") return in.held(hello.held);
        if (key == "concurrency") return in.number(hello.concurrency);
        if (key == "window") return in.row(2, [&] { in.number(hello.window_messages), in.number(hello.window_bytes); });
        if (key == "client") return in.word(hello.client);
        if (key == "strict") return in.flag(hello.strict);
        if (key == "replier") return in.flag(hello.replier);
        return read_topic(in, key, hello) || read_requester(in, key, hello);
    });
    hello.role = role_of(role);
    if (protocol != magic) hello.version = 0;
}

void read(Source& in, Publish& publish) {
    constexpr std::size_t least = 2;  // an empty bin
    in.body([&](std::string_view key) {
        return key == "m" && in.list(publish.envelopes, least, [&](Slice& envelope) { in.envelope(envelope); });
    });
}

void read(Source& in, Cancel& cancel) {
    in.body([&](std::string_view key) {
        return key == "m" && in.rows(cancel.requests, 2,
                                     [&](SequenceRange& range) { in.number(range.first), in.number(range.last); });
    });
}

void read(Source& in, Window& window) {
    in.body([&](std::string_view key) {
        if (key == "messages") return in.number(window.messages);
        if (key == "bytes") return in.number(window.bytes);
        return false;
    });
}

void read(Source& in, Taken& taken) {
    in.body([&](std::string_view key) {
        if (key == "count") return in.number(taken.count);
        if (key == "messages") return in.number(taken.messages);
        if (key == "bytes") return in.number(taken.bytes);
        if (key == "received") return in.number(taken.received);
        return false;
    });
}

void read(Source& in, Settle& settle) {
    in.body([&](std::string_view key) {
        if (key == "acks")
            return in.rows(settle.acks, 3,
                           [&](AckRun& run) { in.number(run.offset), in.number(run.token), in.number(run.count); });
        if (key == "others")
            return in.rows(
                settle.others, 5,
                [&](SettleOne& one) {
                    in.number(one.offset), in.number(one.token), in.verdict(one.verdict);
                    in.delay(one.delay_ms), in.text(one.text);
                },
                [&](SettleOne& one) { in.maybe_envelope(one.reply); });
        if (key == "sync") return in.flag(settle.sync);
        return false;
    });
}

void read(Source& in, Extend& extend) {
    in.body([&](std::string_view key) {
        return key == "m" && in.rows(extend.items, 3, [&](ExtendOne& one) {
            in.number(one.offset), in.number(one.token), in.number(one.ms);
        });
    });
}

void read(Source& in, Recalled& /*recalled*/) {
    in.body([](std::string_view) { return false; });
}

void read(Source& in, envelope::Change& change) {
    std::vector<HeaderField> headers;
    in.body([&](std::string_view key) {
        if (key == "payload") return in.bytes(change.payload.emplace());
        if (key == "type") return in.word(change.type.emplace());
        if (key == "headers") return in.headers(headers);
        return false;
    });
    for (HeaderField& header : headers)
        change.headers.insert_or_assign(std::move(header.name), std::move(header.value));
}

void read(Source& in, AdminRequest& request) {
    in.body([&](std::string_view key) {
        if (key == "id") return in.number(request.id);
        if (key == "verb") return in.word(request.verb);
        if (key == "address") return in.word(request.address);
        if (key == "reason") return in.word(request.reason);
        if (key == "ids") return in.words(request.ids);
        if (key == "from") return in.number(request.from);
        if (key == "dry_run") return in.flag(request.dry_run);
        if (key == "max") return in.number(request.max);
        if (key == "folder") return in.word(request.folder);
        if (key == "type") return in.word(request.type);
        if (key == "headers") return in.headers(request.headers);
        if (key == "older_than") return in.number(request.older_than_ms);
        if (key == "newer_than") return in.number(request.newer_than_ms);
        if (key == "text") return in.word(request.text);
        if (key == "change") return read(in, request.change), true;
        return false;
    });
}

void read(Source& in, Bye& bye) {
    in.body([&](std::string_view key) {
        if (key == "retry_after") return in.number(bye.retry_after_ms);
        if (key == "text") return in.text(bye.text);
        if (key == "answer") return in.flag(bye.answer);
        return false;
    });
}

void read(Source& in, Welcome& welcome) {
    in.body([&](std::string_view key) {
        if (key == "version") return in.number(welcome.version);
        if (key == "attempt") return in.number(welcome.attempt);
        if (key == "host") return in.identity(welcome.host);
        if (key == "durable") return in.flag(welcome.durable);
        if (key == "message_limit") return in.number(welcome.message_limit);
        if (key == "heartbeat") return in.number(welcome.heartbeat_ms);
        if (key == "lease") return in.number(welcome.lease_ms);
        if (key == "watermark") return in.number(welcome.watermark);
        if (key == "stored") return in.number(welcome.stored);
        if (key == "refused") return in.refused(welcome.refused);
        if (key == "lost") return in.gone(welcome.lost);
        if (key == "link") return in.number(welcome.link);
        if (key == "capabilities") return in.words(welcome.capabilities);
        return false;
    });
}

void read(Source& in, Identify& identify) {
    in.body([&](std::string_view key) { return key == "host" && in.identity(identify.host); });
}

void read(Source& in, Refusal& refusal) {
    in.body([&](std::string_view key) {
        if (key == "code") return in.word(refusal.code);
        if (key == "text") return in.text(refusal.text);
        return false;
    });
}

void read(Source& in, Confirm& confirm) {
    in.body([&](std::string_view key) {
        if (key == "held") return in.number(confirm.held);
        if (key == "stored") return in.number(confirm.stored);
        if (key == "settled")
            return in.rows(confirm.settled, 2,
                           [&](SequenceRange& range) { in.number(range.first), in.number(range.last); });
        if (key == "refused") return in.refused(confirm.refused);
        if (key == "resume") return in.number(confirm.resume.emplace());
        return false;
    });
}

void read(Source& in, Credit& credit) {
    in.body([&](std::string_view key) {
        if (key == "messages") return in.number(credit.messages);
        if (key == "bytes") return in.number(credit.bytes);
        if (key == "reason") return in.word(credit.reason);
        return false;
    });
}

void read(Source& in, Peers& peers) {
    in.body([&](std::string_view key) { return key == "consumers" && in.number(peers.consumers); });
}

void read(Source& in, Deliver& deliver) {
    in.body([&](std::string_view key) {
        return key == "m" && in.rows(deliver.items, 6, [&](DeliverOne& one) {
            in.number(one.offset), in.number(one.token), in.number(one.attempt);
            in.number(one.redrives), in.flag(one.maybe_duplicate), in.envelope(one.envelope);
        });
    });
}

void read(Source& in, Feed& feed) {
    in.body([&](std::string_view key) {
        if (key == "first") return in.number(feed.first);
        if (key == "m") return in.bins(feed.count, feed.list);
        return false;
    });
}

void read(Source& in, Settled& settled) {
    in.body([&](std::string_view key) {
        if (key == "count") return in.number(settled.count);
        if (key == "stale") return in.gone(settled.stale);
        if (key == "applied") return in.number(settled.applied);
        return false;
    });
}

void read(Source& in, Recall& recall) {
    in.body([&](std::string_view key) { return key == "count" && in.number(recall.count); });
}

void read(Source& in, State& state) {
    in.body([&](std::string_view key) { return key == "ready" && in.flag(state.ready); });
}

void read(Source& in, Lost& lost) {
    in.body([&](std::string_view key) { return key == "m" && in.gone(lost.items); });
}

void read(Source& in, AdminResult& result) {
    in.body([&](std::string_view key) {
        if (key == "id") return in.number(result.id);
        if (key == "rows") return in.list(result.rows, 1, [&](std::string& row) { in.map_value(row); });
        if (key == "next") return in.number(result.next);
        if (key == "error") return in.text(result.error);
        return false;
    });
}

template <class One>
void read_as(Source& in, std::vector<Command>& commands) {
    read(in, commands.emplace_back(std::in_place_type<One>).template emplace<One>());
}

struct Entry {
    std::string_view name;
    void (*read)(Source&, std::vector<Command>&);
};

// The frequent ones first.
constexpr std::array known_commands{
    Entry{"publish", read_as<Publish>}, Entry{"deliver", read_as<Deliver>},   Entry{"settle", read_as<Settle>},
    Entry{"confirm", read_as<Confirm>}, Entry{"settled", read_as<Settled>},   Entry{"credit", read_as<Credit>},
    Entry{"window", read_as<Window>},   Entry{"extend", read_as<Extend>},     Entry{"state", read_as<State>},
    Entry{"recall", read_as<Recall>},   Entry{"recalled", read_as<Recalled>}, Entry{"lost", read_as<Lost>},
    Entry{"hello", read_as<Hello>},     Entry{"welcome", read_as<Welcome>},   Entry{"identify", read_as<Identify>},
    Entry{"refused", read_as<Refusal>}, Entry{"bye", read_as<Bye>},           Entry{"admin", read_as<AdminRequest>},
    Entry{"feed", read_as<Feed>},       Entry{"taken", read_as<Taken>},       Entry{"result", read_as<AdminResult>},
    Entry{"peers", read_as<Peers>},     Entry{"cancel", read_as<Cancel>}};

}  // namespace

void codec::decode(wire::Reader& reader, const Slice& owner, std::size_t& entries_left, Frame& into) {
    const std::string_view name = reader.string();
    if (into.commands.size() + into.unknown.size() >= commands_limit) reader.fail();
    if (!reader.ok()) return;
    const auto* const known = std::find_if(known_commands.begin(), known_commands.end(),
                                           [&](const Entry& entry) { return entry.name == name; });
    if (known == known_commands.end()) {
        constexpr std::size_t shown = 64;  // of a name that nobody knows, enough to tell it
        into.unknown.push_back({std::string{name.substr(0, shown)}});
        reader.skip();
        return;
    }
    Source source(reader, owner, entries_left);
    known->read(source, into.commands);
}

}  // namespace posthorn::protocol
