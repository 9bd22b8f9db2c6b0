// What is behind a ProducerEnd: messages gather in an arena under a mutex while the loop is busy with those before; the
// loop's thread runs the session, and for a home here the host as well.
//
// Lock order: mutex_ is taken last, and never held while a hook, the session or the host is called.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <memory_resource>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <posthorn/ends.hpp>

#include "delivery_state.hpp"
#include "envelope/envelope.hpp"
#include "host_on_loop.hpp"
#include "protocol/producer_session.hpp"
#include "protocol/sequence_bits.hpp"
#include "transport/loop.hpp"

namespace posthorn::detail {

// A delivery that is acked when what was sent for it is safe.
struct Forward {
    std::shared_ptr<DeliverySink> sink;
    Handle handle;
    Ticket ticket;
    std::vector<Ticket> rest{};  // after it, the next one last
};

// Whoever has more to do with a producer than to send. Called on the loop's thread.
class ProducerObserver {
public:
    virtual ~ProducerObserver() = default;
    virtual void on_refused(const protocol::Refused& refused) = 0;
    // Its place, its session, or how many consumers there are.
    virtual void on_change() = 0;
};

// What a pattern asks for.
struct ProducerTraits {
    bool strict = false;  // the queue is to keep strict order
    bool topic = false;   // it sends to a topic
    bool live = false;    // to a live one
    bool watch = false;   // it asks how many consumers there are
    // It sends requests, and the answers go here: see protocol::Hello.
    std::string replies{};
    bool keeps_replies = false;
    bool needs_replier = false;
    std::string local_endpoint{};          // that a home here is bound to as well
    ProducerObserver* observer = nullptr;  // outlives it
};

class ProducerCore final : public std::enable_shared_from_this<ProducerCore>, private transport::Participant {
public:
    static std::shared_ptr<ProducerCore> make(Context& context, std::string queue, const Home& home,
                                              ProducerOptions options, ProducerTraits traits = {});
    ~ProducerCore() override;
    ProducerCore(const ProducerCore&) = delete;
    ProducerCore& operator=(const ProducerCore&) = delete;

    // `taken` is told the sequence of each message that was, before anything can come of it; under a lock, so it must
    // not call back.
    Ticket send(std::span<Message> messages, const std::function<void(std::uint64_t)>& taken = {});
    // Of the sequences first..last.
    [[nodiscard]] Status wait(std::uint64_t first, std::uint64_t last, Duration timeout);
    [[nodiscard]] Level level(std::uint64_t first, std::uint64_t last);
    [[nodiscard]] std::string refusal(std::uint64_t first, std::uint64_t last);

    // Settles the delivery now, or keeps it with the producer of the first ticket that is not decided yet.
    static void ack_when(Forward forward);

    [[nodiscard]] std::optional<std::uint64_t> resumed_at(Duration timeout);
    // Of a request: nobody waits for its answer any more.
    void cancel(std::uint64_t sequence);
    // The same, if the host does not have it yet.
    void cancel_unless_held(std::uint64_t sequence);
    [[nodiscard]] Status wait_for_consumers(std::uint32_t count, Duration timeout);
    Status flush(Duration timeout);
    std::uint64_t close(Duration timeout);
    void close_in_destructor() noexcept;
    [[nodiscard]] std::uint64_t unconfirmed();
    [[nodiscard]] std::uint64_t refused();
    [[nodiscard]] bool connected();
    [[nodiscard]] bool fenced();
    [[nodiscard]] std::optional<std::uint32_t> consumers();  // if it watches them
    [[nodiscard]] const Identity& id() const noexcept { return producer_; }
    [[nodiscard]] std::string waits_for();
    [[nodiscard]] std::vector<std::string> capabilities();
    [[nodiscard]] const std::string& endpoint() const noexcept { return endpoint_; }

private:
    ProducerCore(Context& context, std::string queue, const Home& home, ProducerOptions options, ProducerTraits traits);
    void start(const Home& home);
    std::unique_ptr<HostOnLoop> make_host(host::Options options, const Here& home);

    void on_frame(transport::PeerId peer, Slice frame, Now now) override;
    void on_link(transport::PeerId peer, const std::string& endpoint) override;
    void on_stranger(const Event& event) override { context_.emit(event); }
    Mono turn(Now now) override;

    void take_offered();
    void take_cancelled();
    Mono send_frames(Now now);
    Mono exchange_with_host(Now now);
    Mono publish_news(Now now);
    Mono tell_senders(Mono now);
    void end_waits();
    void end_session();

    [[nodiscard]] bool has_room(std::size_t bytes) const;
    [[nodiscard]] bool is_paced() const;
    // What a send() goes through: until when it may wait, and whether others wait for it.
    struct Sending {
        std::optional<std::chrono::steady_clock::time_point> until{};
        bool begun = false;
    };
    Status await_room(std::unique_lock<std::mutex>& lock, const Message& message, Sending& sending);
    Status buffer(envelope::Envelope& envelope);
    [[nodiscard]] std::uint64_t first_refused(std::uint64_t first, std::uint64_t last) const;
    [[nodiscard]] bool any_open(std::uint64_t first, std::uint64_t last) const;
    void remember(const protocol::Refused& refused);
    [[nodiscard]] std::optional<Status> fate_of(Forward& forward);
    void take_forwards(std::uint64_t first, std::uint64_t last, std::vector<Forward>& into);
    // False: not within `timeout`, or at once on the loop's thread, which must not wait.
    template <typename Done>
    bool wait_until(std::condition_variable& changed, int& waiting, std::unique_lock<std::mutex>& lock,
                    Duration timeout, Done done);

    Context& context_;
    transport::Loop& loop_;
    const std::string queue_;
    const ProducerTraits traits_;
    const ProducerOptions options_;
    const bool host_keeps_;  // see protocol::ProducerSession::Options
    const Identity producer_;
    std::string endpoint_;

    // The loop's own.
    protocol::ProducerSession session_;
    std::unique_ptr<HostOnLoop> host_;  // for a home here

    std::vector<Forward> decided_;  // by the news being published

    bool ended_ = false;     // off the loop; of whoever closes
    Duration goodbye_ = 1s;  // how long the ends of a host here may take to answer the bye

    std::mutex mutex_;
    std::condition_variable changed_;  // for those who ask what became of messages
    int waiting_ = 0;
    std::condition_variable room_;  // for those who have more to send
    int senders_ = 0;
    bool batch_ = false;                    // several are being sent, and there was not room for all
    Mono room_since_ = never;               // there is room they have not been told of
    std::string arena_;                     // envelopes that the loop has not taken yet
    std::vector<std::uint64_t> cancelled_;  // that the loop has not taken yet
    std::vector<std::uint32_t> sizes_;      // of each
    std::optional<std::uint64_t> place_;    // where our sequences begin, once that is known
    protocol::SequenceBits open_;           // sent, neither safe nor refused
    std::uint64_t session_messages_ = 0;    // kept by the session, of those that the loop has taken
    std::uint64_t session_bytes_ = 0;       // of them
    std::uint64_t unsafe_bytes_ = 0;        // of those, with what the host here keeps
    std::uint64_t pace_messages_ = 0;       // that may be sent until pace_at_, while sending is paced
    std::uint64_t pace_bytes_ = 0;
    Mono pace_at_{};
    std::map<std::uint64_t, std::uint64_t> refused_bits_;  // by word of 64 sequences
    std::map<std::uint64_t, std::string> refusals_;        // the last ones, with their texts
    std::uint64_t refused_count_ = 0;
    std::uint64_t refused_reported_ = 0;  // by flush()
    // By a sequence that is open still. A pool, because these come and go as quickly as messages do.
    std::pmr::unsynchronized_pool_resource forwards_memory_;
    std::pmr::multimap<std::uint64_t, Forward> forwards_{&forwards_memory_};
    std::uint64_t held_ = 0;
    bool durable_ = false;
    bool connected_ = false;
    bool fenced_ = false;
    std::optional<std::uint32_t> consumers_;  // as far as the host has told us
    bool closing_ = false;                    // takes no more
    bool closed_ = false;                     // waits for nothing more
    std::string waits_for_;
    std::vector<std::string> capabilities_;
};

}  // namespace posthorn::detail
