// The host's side of one link, played by a test: it hears commands and says what the test tells it to.
#pragma once

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "protocol/commands.hpp"
#include "protocol/host_link.hpp"

namespace posthorn::protocol {

class ScriptedHost {
public:
    explicit ScriptedHost(PeerId peer) : peer_(peer), epoch_(peer * 1000) {}

    // What the session sent; frames to other peers are not for us.
    void hear(const std::vector<OutFrame>& sent) {
        for (const OutFrame& out : sent) {
            if (out.peer == peer_) hear(out.bytes);
        }
    }
    void hear(const std::string& bytes) {
        auto frame = decode_frame(Slice{bytes});
        if (!frame) {
            ++malformed;
            return;
        }
        ++frames;
        if (frame->epoch == 0) {
            for (Command& command : frame->commands) {
                if (auto* hello = std::get_if<Hello>(&command)) hellos.push_back(std::move(*hello));
            }
            return;
        }
        last_verdict = reader_.accept(*frame);
        if (last_verdict != FrameReader::Verdict::commands) return;
        for (Command& command : frame->commands) heard.push_back(std::move(command));
    }

    // Answers the last hello; a new session.
    void welcome(Welcome welcome) {
        ++epoch_;
        writer_.start_session(epoch_);
        reader_.start_session(epoch_, 1);
        welcome.attempt = hellos.back().attempt;
        say(welcome);
    }
    void say(const Command& command) { writer_.add(command); }
    void heartbeat() { writer_.heartbeat(); }
    void say_outside(const Command& command) {
        FrameWriter outside{defaults::frame_limit};
        outside.add(command);
        for (std::string& bytes : outside.flush()) outside_.push_back(std::move(bytes));
    }
    std::vector<std::string> said() {
        auto all = std::exchange(outside_, {});
        for (std::string& bytes : writer_.flush()) all.push_back(std::move(bytes));
        return all;
    }

    // Takes what was heard of one kind.
    template <typename T>
    std::vector<T> take() {
        std::vector<T> taken;
        std::vector<Command> rest;
        for (Command& command : heard) {
            if (auto* one = std::get_if<T>(&command)) {
                taken.push_back(std::move(*one));
            } else {
                rest.push_back(std::move(command));
            }
        }
        heard = std::move(rest);
        return taken;
    }

    [[nodiscard]] PeerId peer() const { return peer_; }

    std::vector<Hello> hellos;
    std::vector<Command> heard;
    std::size_t frames = 0;
    std::size_t malformed = 0;
    FrameReader::Verdict last_verdict = FrameReader::Verdict::nothing;

private:
    PeerId peer_;
    std::uint64_t epoch_;
    FrameWriter writer_{defaults::frame_limit};
    FrameReader reader_{defaults::message_limit + 64 * 1024};
    std::vector<std::string> outside_;
};

inline Now at(Duration since_start) {
    return {Mono{1h + since_start}, Wall{std::chrono::duration_cast<std::chrono::milliseconds>(since_start)}};
}

inline std::vector<std::string> texts(const std::vector<Event>& events, Event::Kind kind) {
    std::vector<std::string> found;
    for (const Event& event : events) {
        if (event.kind == kind) found.push_back(event.text);
    }
    return found;
}

}  // namespace posthorn::protocol
