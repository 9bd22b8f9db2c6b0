#include <posthorn/testing.hpp>

#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <optional>
#include <stop_token>
#include <utility>

#include "delivery_state.hpp"
#include "envelope/envelope.hpp"
#include "host_on_loop.hpp"
#include "random.hpp"
#include "store/memory_store.hpp"
#include "store/sqlite_store.hpp"
#include "transport/clock.hpp"

namespace posthorn::testing {

namespace {

Verdict::Kind kind_of(protocol::Verdict verdict) {
    switch (verdict) {
        case protocol::Verdict::ack:
            return Verdict::Kind::ack;
        case protocol::Verdict::nack:
            return Verdict::Kind::nack;
        case protocol::Verdict::release:
            return Verdict::Kind::release;
        case protocol::Verdict::reject:
            return Verdict::Kind::reject;
        case protocol::Verdict::undecodable:
            break;
    }
    return Verdict::Kind::undecodable;
}

std::filesystem::path make_folder() {
    std::string name = (std::filesystem::temp_directory_path() / "posthorn-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw Error("cannot make a temporary folder like " + name);
    return name;
}

}  // namespace

// Deliveries -------------------------------------------------------------------------------------------------------

struct MadeUpDelivery::Recorder final : posthorn::detail::DeliverySink {
    Status settle(posthorn::detail::Handle /*handle*/, posthorn::detail::Settlement settlement) override {
        const std::lock_guard lock(mutex);
        verdict.kind = kind_of(settlement.verdict);
        verdict.text = std::move(settlement.text);
        if (settlement.delay_ms) verdict.delay = std::chrono::milliseconds{*settlement.delay_ms};
        settled.notify_all();
        return Status::ok;
    }
    Status settle_and_wait(posthorn::detail::Handle handle, posthorn::detail::Settlement settlement,
                           Duration /*timeout*/) override {
        return settle(handle, std::move(settlement));
    }
    void hand_over(posthorn::detail::Handle /*handle*/) override {}
    void settle_handed_over(posthorn::detail::Handle handle, posthorn::detail::Settlement settlement) override {
        (void)settle(handle, std::move(settlement));
    }
    void extend(posthorn::detail::Handle /*handle*/, Duration lease) override {
        const std::lock_guard lock(mutex);
        verdict.extended = lease;
    }
    std::stop_token stop_token(posthorn::detail::Handle /*handle*/) override { return stop.get_token(); }

    std::mutex mutex;
    std::condition_variable settled;
    Verdict verdict;
    std::stop_source stop;
};

MadeUpDelivery::MadeUpDelivery(const Message& message, MadeUpOptions options)
    : recorder_(std::make_shared<Recorder>()) {
    envelope::Envelope envelope;
    envelope.producer = posthorn::detail::random_identity();
    envelope.sequence = 1;
    envelope.message = message;
    if (const auto fault = envelope::invalid(envelope)) throw Error("a made-up delivery: " + *fault);
    std::string bytes;
    envelope::encode(envelope, bytes);
    state_ = std::make_unique<posthorn::detail::DeliveryState>();
    state_->sink = recorder_;
    state_->begun.attempt = options.attempt;
    state_->begun.maybe_duplicate = options.maybe_duplicate;
    state_->begun.offset = options.sequence;
    state_->begun.envelope = Slice{std::move(bytes)};
}

MadeUpDelivery::~MadeUpDelivery() = default;
MadeUpDelivery::MadeUpDelivery(MadeUpDelivery&&) noexcept = default;
MadeUpDelivery& MadeUpDelivery::operator=(MadeUpDelivery&&) noexcept = default;

void MadeUpDelivery::handle(const Handler& handler) {
    Delivery delivery = take();
    auto settlement = posthorn::detail::DeliveryAccess::run(handler, delivery);
    if (settlement) (void)recorder_->settle({}, std::move(*settlement));
}

Delivery MadeUpDelivery::take() {
    if (!state_) throw Error("this made-up delivery was given out already; make one for each");
    return Delivery{std::move(state_)};
}

Verdict MadeUpDelivery::verdict() const {
    const std::lock_guard lock(recorder_->mutex);
    return recorder_->verdict;
}

Verdict MadeUpDelivery::wait(Duration timeout) const {
    std::unique_lock lock(recorder_->mutex);
    (void)recorder_->settled.wait_for(lock, timeout, [&] { return recorder_->verdict.kind != Verdict::Kind::none; });
    return recorder_->verdict;
}

void MadeUpDelivery::stop() {
    recorder_->stop.request_stop();
}

// Time -------------------------------------------------------------------------------------------------------------

ManualClock::ManualClock() : clock_(std::make_shared<transport::Clock>()) {}

void ManualClock::advance(Duration by) {
    if (by < Duration::zero()) throw Error("a manual clock only goes forward");
    clock_->advance(by);
}

// The node ---------------------------------------------------------------------------------------------------------

struct Node::Impl {
    Impl(Context* given_context, NodeOptions given) : options(std::move(given)) {
        if (given_context != nullptr && options.clock) {
            throw Error("a test's node on a given context has the clock of that; leave NodeOptions.clock empty");
        }
        validate(options.queue);
        for (const auto& [name, policy] : options.queues) validate(policy);
        for (const auto& [name, policy] : options.live) validate(policy);
        for (const auto& [name, retention] : options.retained) validate(retention);
        context = given_context != nullptr ? given_context : &own.emplace(ContextOptions{.clock = options.clock});
        folder = make_folder();
        endpoint = options.bind.empty() ? "ipc://" + (folder / "node").string() : options.bind;
    }
    ~Impl() {
        host.reset();
        std::error_code ignored;  // a temporary folder that stays harms nobody
        if (!folder.empty()) std::filesystem::remove_all(folder, ignored);
    }
    Impl(const Impl&) = delete;
    Impl& operator=(const Impl&) = delete;

    void start() {
        host::Options host_options;
        host_options.incarnation = posthorn::detail::random_identity();
        host_options.seed = posthorn::detail::random_number();
        host_options.defaults = options.queue;
        host_options.queues = options.queues;
        host_options.topics = options.topics;
        host_options.live = options.live;
        host_options.retained = options.retained;
        host_options.on_event = options.on_event;
        auto store = options.on_disk ? store::open_sqlite_store({.folder = folder / "data", .min_free = 0, .vfs = {}})
                                     : store::make_memory_store();
        host = std::make_unique<HostOnLoop>(*context, std::move(host_options), std::move(store));
        endpoint = host->bind(endpoint);
    }

    const NodeOptions options;
    std::filesystem::path folder;
    std::string endpoint;  // as bound, once it was
    std::optional<Context> own;
    Context* context = nullptr;
    std::unique_ptr<HostOnLoop> host;
};

Node::Node(NodeOptions options) : impl_(std::make_unique<Impl>(nullptr, std::move(options))) {
    impl_->start();
}

Node::Node(Context& context, NodeOptions options) : impl_(std::make_unique<Impl>(&context, std::move(options))) {
    impl_->start();
}

Node::~Node() = default;

Home Node::at() const {
    return posthorn::at(impl_->endpoint);
}

void Node::restart() {
    impl_->host.reset();
    impl_->start();
}

}  // namespace posthorn::testing
