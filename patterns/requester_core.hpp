// What is behind a Requester: a producer that sends requests, a session that takes the answers, and a table of who
// waits for which. Answers and deadlines are looked at on the loop's thread.
//
// Lock order: mutex_ is taken last, and never held while a callback, the producer or a stop callback is called.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <unordered_map>
#include <vector>

#include <posthorn/request_reply.hpp>

#include "envelope/envelope.hpp"
#include "producer_core.hpp"
#include "protocol/consumer_session.hpp"
#include "transport/loop.hpp"

namespace posthorn::request_reply::detail {

class RequesterCore final : private transport::Participant, private posthorn::detail::ProducerObserver {
public:
    static std::unique_ptr<RequesterCore> make(Context& context, const std::string& service, const Home& home,
                                               RequesterOptions options);
    ~RequesterCore() override;
    RequesterCore(const RequesterCore&) = delete;
    RequesterCore& operator=(const RequesterCore&) = delete;

    void request(Message message, Callback callback, const RequestOptions& options);
    [[nodiscard]] Status wait_for_repliers(unsigned repliers, Duration timeout);
    [[nodiscard]] std::optional<std::uint64_t> resumed_at(Duration timeout) { return producer_->resumed_at(timeout); }
    [[nodiscard]] bool connected();
    [[nodiscard]] std::size_t outstanding();
    [[nodiscard]] const std::string& endpoint() const noexcept { return producer_->endpoint(); }
    void close();

private:
    RequesterCore(Context& context, const std::string& service, RequesterOptions options);
    void start(const std::string& service, const Home& home);

    struct Pending {
        Callback callback;
        Mono deadline{};
        std::optional<std::stop_callback<std::function<void()>>> cancel;
    };
    using Entry = std::shared_ptr<Pending>;

    void on_frame(transport::PeerId peer, Slice frame, Now now) override;
    void on_link(transport::PeerId peer, const std::string& endpoint) override;
    Mono turn(Now now) override;
    void on_refused(const protocol::Refused& refused) override;
    void on_change() override;

    [[nodiscard]] Status await_room();
    Entry take(std::uint64_t sequence);  // nothing: it is answered
    void complete(const Entry& entry, std::uint64_t sequence, Status status, std::string error);
    void complete_all(const std::string& error);
    void take_answers(Now now);
    void hear(const envelope::Envelope& answer);
    void end_at_deadline(const Entry& entry, std::uint64_t sequence);
    Mono expire(Now now);
    Mono send_frames(Now now);
    [[nodiscard]] std::string id_of(std::uint64_t sequence) const;

    Context& context_;
    transport::Loop& loop_;
    const RequesterOptions options_;
    const std::string name_;             // of where the answers go
    protocol::ConsumerSession answers_;  // the loop's own
    std::shared_ptr<posthorn::detail::ProducerCore> producer_;
    std::atomic<bool> started_ = false;  // the loop may use the producer

    std::mutex mutex_;
    std::condition_variable room_;
    std::condition_variable changed_;  // for those who wait for repliers
    std::unordered_map<std::uint64_t, Entry> pending_;
    std::size_t sending_ = 0;  // have room, and are not in it yet
    std::set<std::pair<Mono, std::uint64_t>> deadlines_;
    std::optional<std::uint32_t> repliers_;
    bool hears_ = false;  // answers
    bool closed_ = false;
    bool ended_ = false;
};

}  // namespace posthorn::request_reply::detail
