// What is behind a Producer: messages gather in an arena under a mutex while the loop is busy with those before; the
// loop's thread runs the session, and for a home here the host as well.
//
// Lock order: mutex_ is taken last, and never held while a hook, the session or the host is called.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <posthorn/work_queue.hpp>

#include "host_on_loop.hpp"
#include "protocol/producer_session.hpp"
#include "protocol/sequence_bits.hpp"
#include "transport/loop.hpp"

namespace posthorn::work_queue::detail {

class ProducerCore final : public std::enable_shared_from_this<ProducerCore>, private transport::Participant {
public:
    static std::shared_ptr<ProducerCore> make(Context& context, std::string queue, const Home& home,
                                              ProducerOptions options);
    ~ProducerCore() override;
    ProducerCore(const ProducerCore&) = delete;
    ProducerCore& operator=(const ProducerCore&) = delete;

    Ticket send(Message message);
    [[nodiscard]] Status wait(std::uint64_t sequence, Duration timeout);
    [[nodiscard]] Level level(std::uint64_t sequence);
    [[nodiscard]] std::string refusal(std::uint64_t sequence);

    Status flush(Duration timeout);
    std::uint64_t close(Duration timeout);
    void close_in_destructor() noexcept;
    [[nodiscard]] std::uint64_t unconfirmed();
    [[nodiscard]] std::uint64_t refused();
    [[nodiscard]] bool connected();
    [[nodiscard]] std::vector<std::string> capabilities();
    [[nodiscard]] const std::string& endpoint() const noexcept { return endpoint_; }

private:
    ProducerCore(Context& context, std::string queue, ProducerOptions options, Identity producer);
    void start(const Home& home);

    void on_frame(transport::PeerId peer, Slice frame, Now now) override;
    void on_link(transport::PeerId peer, const std::string& endpoint) override;
    void on_stranger(const Event& event) override { context_.emit(event); }
    Mono turn(Now now) override;

    void take_offered();
    Mono send_frames(Now now);
    Mono exchange_with_host(Now now);
    Mono publish_news(Now now);
    Mono tell_senders(Mono now);
    void end_session();

    [[nodiscard]] bool has_room(std::size_t bytes) const;
    [[nodiscard]] bool was_refused(std::uint64_t sequence) const;
    void remember(const protocol::Refused& refused);
    // False: not within `timeout`, or at once on the loop's thread, which must not wait.
    template <typename Done>
    bool wait_until(std::condition_variable& changed, int& waiting, std::unique_lock<std::mutex>& lock,
                    Duration timeout, Done done);
    [[nodiscard]] bool on_loop_thread() const;

    Context& context_;
    transport::Loop& loop_;
    const std::string queue_;
    const ProducerOptions options_;
    const Identity producer_;
    std::string endpoint_;
    std::atomic<std::thread::id> loop_thread_{};

    // The loop's own.
    protocol::ProducerSession session_;
    std::unique_ptr<HostOnLoop> host_;  // for a home here

    bool ended_ = false;  // off the loop; of whoever closes

    std::mutex mutex_;
    std::condition_variable changed_;  // for those who ask what became of messages
    int waiting_ = 0;
    std::condition_variable room_;  // for those who have more to send
    int senders_ = 0;
    Mono room_since_ = never;                              // there is room they have not been told of
    std::string arena_;                                    // envelopes that the loop has not taken yet
    std::vector<std::uint32_t> sizes_;                     // of each
    protocol::SequenceBits open_;                          // sent, neither safe nor refused
    std::uint64_t session_bytes_ = 0;                      // of those that the loop has taken
    std::map<std::uint64_t, std::uint64_t> refused_bits_;  // by word of 64 sequences
    std::map<std::uint64_t, std::string> refusals_;        // the last ones, with their texts
    std::uint64_t refused_count_ = 0;
    std::uint64_t refused_reported_ = 0;  // by flush()
    std::uint64_t held_ = 0;
    bool durable_ = false;
    bool connected_ = false;
    bool closing_ = false;  // takes no more
    bool closed_ = false;   // waits for nothing more
    std::vector<std::string> capabilities_;
};

}  // namespace posthorn::work_queue::detail
