// A host against peers that say exactly what the test wants said, on a store that may be full.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "envelope/envelope.hpp"
#include "host/host.hpp"
#include "protocol/commands.hpp"
#include "store/memory_store.hpp"
#include "store/sqlite_store.hpp"
#include "unit/temp_folder.hpp"

namespace posthorn::host {

inline Identity identity(std::uint8_t n) {
    Identity id;
    id.bytes.fill(n);
    return id;
}

inline Slice envelope_of(const Identity& producer, std::uint64_t sequence, std::size_t size = 3) {
    envelope::Envelope envelope;
    envelope.producer = producer;
    envelope.sequence = sequence;
    envelope.previous = sequence - 1;
    envelope.message.payload.assign(size, 'x');
    std::string bytes;
    envelope::encode(envelope, bytes);
    return Slice{std::move(bytes)};
}

// A store on a disk without room: new messages are refused, or everything that is written.
class TightStore : public store::Store {
public:
    enum class Takes { all, settlements, nothing };

    store::Recovery recover() override { return inner_->recover(); }
    store::Outcome run(const store::Job& job) override {
        ++runs;
        const bool grows = std::any_of(job.batch.begin(), job.batch.end(), [](const auto& batch) {
            return !batch.appends.empty() || !batch.edits.empty();
        });
        if ((grows && takes != Takes::all) || (!job.batch.empty() && takes == Takes::nothing)) {
            return {.failure = store::Failure::full, .text = "no room", .free_bytes = 0};
        }
        for (const auto& batch : job.batch) {
            settled += batch.settled.size();
            appended += batch.appends.size();
        }
        return inner_->run(job);
    }
    [[nodiscard]] bool durable() const noexcept override { return true; }

    Takes takes = Takes::all;
    int runs = 0;
    std::size_t settled = 0;  // ranges
    std::size_t appended = 0;

private:
    std::unique_ptr<store::Store> inner_ = store::make_memory_store();
};

class HostFixture : public ::testing::Test {
protected:
    struct Peer {
        PeerId id = 0;
        protocol::FrameWriter out{defaults::frame_limit};
        protocol::FrameReader in{defaults::message_limit * 2};
    };

    void make(Options options = {}, std::unique_ptr<store::Store> on = store::make_memory_store()) {
        options.incarnation = identity(99);
        options.on_event = [this](const Event& event) { events.push_back(event); };
        store = std::move(on);
        host = std::make_unique<Host>(std::move(options), *store, now);
    }
    void say(Peer& peer, const protocol::Command& command) {
        for (const std::string& bytes : said[peer.id]) {
            if (const auto frame = protocol::decode_frame(Slice{bytes})) follow(peer, frame->epoch);
        }
        peer.out.add(command);
        for (std::string& bytes : peer.out.flush()) host->receive(peer.id, Slice{std::move(bytes)}, now);
        work();
    }
    void work() {
        for (int quiet = 0; quiet < 2; ++quiet) {
            host->turn(now);
            const auto job = stores ? host->take_job(now) : nullptr;
            if (!job) continue;
            host->complete(store->run(*job), now);
            quiet = -1;
        }
        for (const OutFrame& frame : host->take_frames()) said[frame.peer].push_back(frame.bytes);
    }
    static void follow(Peer& peer, std::uint64_t epoch) {
        if (epoch == 0 || epoch == peer.out.epoch()) return;
        peer.out.start_session(epoch);
        peer.in.start_session(epoch, 1);
    }
    // What the host has said to this peer since last asked.
    std::vector<protocol::Command> heard(Peer& peer) {
        std::vector<protocol::Command> commands;
        for (const std::string& bytes : std::exchange(said[peer.id], {})) {
            auto frame = protocol::decode_frame(Slice{bytes});
            EXPECT_TRUE(frame.has_value());
            if (!frame) continue;
            follow(peer, frame->epoch);
            if (frame->epoch != 0 && peer.in.accept(*frame) != protocol::FrameReader::Verdict::commands) continue;
            for (auto& command : frame->commands) commands.push_back(std::move(command));
        }
        return commands;
    }
    template <typename T>
    std::vector<T> heard_of(Peer& peer) {
        std::vector<T> found;
        for (auto& command : heard(peer)) {
            if (auto* one = std::get_if<T>(&command)) found.push_back(std::move(*one));
        }
        return found;
    }
    TightStore& make_tight() {
        auto tight = std::make_unique<TightStore>();
        TightStore& seen = *tight;
        make({}, std::move(tight));
        return seen;
    }
    void pass(Duration time) {
        now.mono += time;
        work();
    }
    // What a durable host has told a producer to be stored, and a consumer to be settled.
    std::uint64_t stored(Peer& producer) {
        std::uint64_t up_to = 0;
        for (const auto& confirm : heard_of<protocol::Confirm>(producer)) up_to = std::max(up_to, confirm.stored);
        return up_to;
    }
    std::uint64_t settled(Peer& consumer) {
        std::uint64_t count = 0;
        for (const auto& one : heard_of<protocol::Settled>(consumer)) count = std::max(count, one.count);
        return count;
    }
    void ack(Peer& consumer, const protocol::DeliverOne& one) {
        say(consumer, protocol::Settle{.acks = {{one.offset, one.token, 1}}});
    }
    Peer hello(PeerId id, protocol::Role role, std::uint8_t who, std::string name = {}) {
        return hello(id, {.role = role, .address = "q", .name = std::move(name), .incarnation = identity(who)});
    }

    Peer hello(PeerId id, protocol::Hello hello) {
        Peer peer{.id = id};
        said.erase(id);  // of its former life
        hello.attempt = 1;
        hello.window_messages = 100;
        hello.window_bytes = 1 << 20;
        say(peer, hello);
        return peer;
    }

    Now now{Mono{1h}, Wall{std::chrono::hours{24 * 365 * 50}}};
    std::vector<Event> events;
    bool stores = true;  // else its jobs wait
    std::unique_ptr<store::Store> store;
    std::unique_ptr<Host> host;
    std::map<PeerId, std::vector<std::string>> said;
};

}  // namespace posthorn::host
