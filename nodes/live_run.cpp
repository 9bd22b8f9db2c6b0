#include "live_run.hpp"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include <unistd.h>

#include <posthorn/pub_sub.hpp>

#include "json.hpp"
#include "lines.hpp"

namespace posthorn::nodes {

namespace {

class LiveRun {
public:
    LiveRun(const Verb& verb, LiveOptions options, const Signals& signals)
        : verb_(verb),
          options_(std::move(options)),
          signals_(signals),
          reports_(verb),
          context_(reports_.context_options()),
          subscriber_(context_, options_.topic, at(options_.endpoint),
                      {.name = unique_name(), .match = std::move(options_.match)}) {}

    Exit run() {
        while (!is_over()) {
            // What is there is written together, and what comes alone at once.
            auto received = subscriber_.receive(lines_.empty() ? look_interval : 0ns);
            if (received) {
                add(*received);
                heard_ = Clock::now();
            }
            if ((!received || lines_.size() > write_at_least) && !write()) return Exit::failed;
        }
        subscriber_.close();
        if (!write()) return Exit::failed;
        say(verb_, summary());
        return exit_;
    }

private:
    using Clock = std::chrono::steady_clock;
    static constexpr Duration look_interval = 100ms;
    static constexpr Duration say_no_answer_after = 2s;
    static constexpr std::size_t write_at_least = 64 * 1024;

    void add(const Message& message) {
        if (!options_.raw && message.content_type == msgpack_content_type) {
            const auto json = msgpack_to_json(message.payload);
            lines_ += json ? *json : "null";
            if (!json && worth_a_word(++undecodable_))
                say(verb_, "a payload is not the msgpack it says it is, and null is written; --raw writes it as it is");
        } else {
            lines_ += message.payload;
        }
        lines_ += '\n';
    }

    bool write() {
        if (write_all(STDOUT_FILENO, std::exchange(lines_, {}))) return true;
        say(verb_, std::string{"cannot write to standard output: "} + std::strerror(errno) + "; " + summary());
        return false;
    }

    bool is_over() {
        if (options_.count > 0 && subscriber_.received() >= options_.count) return true;
        if (signals_.take()) return true;
        if (const auto refusal = reports_.final_refusal()) {
            say(verb_, *refusal);
            exit_ = Exit::refused;
            return true;
        }
        const Clock::time_point now = Clock::now();
        was_connected_ = was_connected_ || subscriber_.connected() > 0;
        if (options_.idle_exit && now - heard_ >= *options_.idle_exit) {
            if (!was_connected_) {
                say(verb_, no_answer(options_.endpoint));
                exit_ = Exit::unreachable;
            }
            return true;
        }
        if (!was_connected_ && !said_no_answer_ && now - began_ >= say_no_answer_after) {
            said_no_answer_ = true;
            say(verb_, "no answer from " + options_.endpoint + " yet; waiting for it");
        }
        return false;
    }

    [[nodiscard]] std::string summary() const {
        std::string text =
            "received " + std::to_string(subscriber_.received()) + ", missed " + std::to_string(subscriber_.missed());
        if (const std::uint64_t breaks = subscriber_.breaks(); breaks > 0) {
            text += "; the node forgot this subscriber " + std::to_string(breaks) +
                    " times, and what was published until it knew it again is not counted";
        }
        return text;
    }

    const Verb& verb_;
    LiveOptions options_;
    const Signals& signals_;
    Reports reports_;
    Context context_;
    pub_sub::Subscriber subscriber_;
    std::string lines_;
    std::uint64_t undecodable_ = 0;
    bool was_connected_ = false;
    bool said_no_answer_ = false;
    Clock::time_point began_ = Clock::now();
    Clock::time_point heard_ = began_;
    Exit exit_ = Exit::ok;
};

}  // namespace

Exit run_live(const Verb& verb, LiveOptions options, const Signals& signals) {
    return LiveRun{verb, std::move(options), signals}.run();
}

}  // namespace posthorn::nodes
