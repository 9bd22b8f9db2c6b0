#include "transport/loop.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <future>
#include <mutex>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "transport/bell.hpp"
#include "transport/clock.hpp"
#include "transport/endpoint.hpp"
#include "transport/peer_table.hpp"
#include "transport/socket.hpp"

namespace posthorn::transport {
namespace {

constexpr int max_sockets = 1023;          // in a loop; each costs a descriptor or two
constexpr int max_watched_links = 64;      // at a time; a monitor costs more than the link
constexpr std::size_t max_peers = 65'536;  // remembered for an endpoint; about 200 bytes each
constexpr int frames_per_round = 64;       // read from one socket before the others have their turn
// A link that could not send for so long gets a new socket: libzmq never connects again after a protocol error, and the
// junk that answered may have made way for the host. Longer than a handshake may take.
constexpr Duration renew_after = 3s;

// Blocks signals for as long as it lives, so that a thread made meanwhile never takes one from the application. Faults
// of the thread's own stay deliverable.
class SignalsBlocked {
public:
    SignalsBlocked() {
        sigset_t blocked;
        sigfillset(&blocked);
        for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS}) sigdelset(&blocked, fault);
        pthread_sigmask(SIG_SETMASK, &blocked, &before_);
    }
    ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
    SignalsBlocked(const SignalsBlocked&) = delete;
    SignalsBlocked& operator=(const SignalsBlocked&) = delete;

private:
    sigset_t before_{};
};

class ZmqContext {
public:
    ZmqContext() : handle_(zmq_ctx_new()) {
        if (handle_ == nullptr) throw Error("cannot make a ZeroMQ context: " + std::generic_category().message(errno));
        zmq_ctx_set(handle_, ZMQ_MAX_SOCKETS, max_sockets);
        zmq_ctx_set(handle_, ZMQ_BLOCKY, 0);
    }
    ~ZmqContext() {
        while (zmq_ctx_term(handle_) != 0 && errno == EINTR) {
        }
    }
    ZmqContext(const ZmqContext&) = delete;
    ZmqContext& operator=(const ZmqContext&) = delete;
    [[nodiscard]] void* get() const noexcept { return handle_; }

private:
    void* handle_;
};

// One participant on the loop. It loses the participant when that is removed and goes at the end of the round.
struct Seat {
    Participant* participant;
    Mono deadline = never;
    bool due = true;  // something happened since its last turn
};

// One bound endpoint (a ROUTER with its peers) or one outgoing link (a DEALER, which is its own peer).
struct Port {
    Seat* seat;
    std::string endpoint;
    Scheme scheme;
    PeerId link = 0;  // 0: a bound endpoint
    Socket socket{};  // none: an inproc link whose endpoint is not bound now
    PeerTable peers{max_peers};
    Mono failing_since = never;
    std::array<std::uint64_t, handshake_endings> strangers{};  // by cause; of a link: since it was up
    bool readable = true;                                      // false: poll() just said there is nothing
    bool monitor_readable = true;
    bool gone = false;

    [[nodiscard]] bool bound() const noexcept { return link == 0; }
};

struct Route {
    Port* port;
    const PeerTable::Peer* peer;  // null: an outgoing link
};

}  // namespace

struct Loop::Impl {
    explicit Impl(std::shared_ptr<Clock> clock) : clock_(std::move(clock)) {
        clock_->attach(this, [this] { post([] {}); });
        const SignalsBlocked blocked;
        thread_ = std::thread([this] { run(); });
    }

    ~Impl() {
        clock_->detach(this);
        post([this] { stopping_ = true; });
        thread_.join();
    }

    Impl(const Impl&) = delete;
    Impl& operator=(const Impl&) = delete;

    // Any thread
    void post(std::function<void()> work);
    void rouse() noexcept;
    std::string on_loop(const std::function<std::string()>& work);

    // Loop thread
    void run();
    bool round();
    bool run_posted();
    void sweep();
    bool receive(Port& port);
    bool receive_frame(Port& port);
    PeerId hear(Port& port, std::string_view routing_id);
    bool look_at_handshakes(Port& port);
    static void tell_of_stranger(Port& port, Handshake failed);
    void sleep();
    bool stay_awake();

    Seat& seat_of(const Participant& participant, const std::string& endpoint, Use use);
    void add(Participant& participant);
    void remove(const Participant& participant);
    std::string bind(Participant& participant, const std::string& endpoint);
    void connect(Participant& participant, const std::string& endpoint);
    Socket open_link(const Port& port);
    bool is_bound_here(const std::string& endpoint);
    void join_inproc_links(const std::string& endpoint);
    void close(Port& port);
    bool send(PeerId peer, std::string&& frame);
    bool send_to_peer(Port& port, const PeerTable::Peer& peer, std::string&& frame);
    bool send_on_link(Port& port, std::string&& frame);
    void forget(Port& port, const PeerTable::Peer& peer);

    static thread_local const Impl* running;

    const std::shared_ptr<Clock> clock_;
    ZmqContext context_;
    Bell bell_;
    std::atomic<bool> sleeping_{false};
    std::mutex mutex_;
    std::vector<std::function<void()>> posted_;  // under mutex_

    // The loop thread's own
    std::vector<std::unique_ptr<Seat>> seats_;
    std::vector<std::unique_ptr<Port>> ports_;
    std::unordered_map<PeerId, Route> routes_;
    PeerId last_peer_ = 0;
    std::vector<zmq_pollitem_t> poll_items_;
    bool any_gone_ = false;
    bool stopping_ = false;

    std::thread thread_;
};

thread_local const Loop::Impl* Loop::Impl::running = nullptr;

// ---------------------------------------------------------------------------------------------- crossing to the loop

void Loop::Impl::post(std::function<void()> work) {
    {
        const std::lock_guard lock(mutex_);
        posted_.push_back(std::move(work));
    }
    rouse();
}

void Loop::Impl::rouse() noexcept {
    if (sleeping_.load() && sleeping_.exchange(false)) bell_.ring();
}

// Runs `work` on the loop thread and hands back what it returns. An Error crosses the threads as its text.
std::string Loop::Impl::on_loop(const std::function<std::string()>& work) {
    if (running == this) return work();
    struct Answer {
        std::string result;
        std::string error;
    };
    const auto promise = std::make_shared<std::promise<Answer>>();  // shared: set_value() may outlast our waiting
    auto future = promise->get_future();
    post([&work, promise] {
        Answer answer;
        try {
            answer.result = work();
        } catch (const Error& error) {
            answer.error = error.what();
        }
        promise->set_value(std::move(answer));
    });
    Answer answer = future.get();
    if (!answer.error.empty()) throw Error(answer.error);
    return std::move(answer.result);
}

// ------------------------------------------------------------------------------------------------------------ rounds

void Loop::Impl::run() {
    running = this;
    while (!stopping_)
        if (!round()) sleep();
    routes_.clear();
    ports_.clear();
}

// Reads before it works, so that libzmq holds as little as possible for us. The clock is looked at behind whatever it
// is for, or a message would be taken in before it was sent, and its time to live be short by a thread that had to
// wait. False: there was nothing to do.
bool Loop::Impl::round() {
    bool busy = run_posted();
    sweep();
    // By index: callbacks may add to both.
    for (std::size_t i = 0; i < ports_.size(); ++i) {  // NOLINT(modernize-loop-convert)
        Port& port = *ports_[i];
        if (std::exchange(port.readable, true)) busy = receive(port) || busy;
        if (std::exchange(port.monitor_readable, true)) busy = look_at_handshakes(port) || busy;
    }
    for (std::size_t i = 0; i < seats_.size(); ++i) {  // NOLINT(modernize-loop-convert)
        Seat& seat = *seats_[i];
        if (seat.participant == nullptr) continue;
        const Now now = clock_->now();
        const bool woken = seat.participant->woken_.load() && seat.participant->woken_.exchange(false);
        if (!woken && !seat.due && now.mono < seat.deadline) continue;
        seat.due = false;
        seat.deadline = seat.participant->turn(now);
        busy = true;
    }
    return busy;
}

bool Loop::Impl::run_posted() {
    std::vector<std::function<void()>> work;
    {
        const std::lock_guard lock(mutex_);
        work.swap(posted_);
    }
    for (auto& each : work) each();
    return !work.empty();
}

void Loop::Impl::sweep() {
    if (!std::exchange(any_gone_, false)) return;
    std::erase_if(ports_, [](const auto& port) { return port->gone; });
    std::erase_if(seats_, [](const auto& seat) { return seat->participant == nullptr; });
}

bool Loop::Impl::receive(Port& port) {
    int frames = 0;
    while (frames < frames_per_round && !port.gone && port.socket && receive_frame(port)) ++frames;
    return frames > 0;
}

bool Loop::Impl::receive_frame(Port& port) {
    Message frame;
    if (!port.socket.receive(frame)) return false;
    PeerId peer = port.link;
    if (port.bound()) {
        peer = hear(port, frame.view());
        if (!port.socket.receive(frame)) return true;  // cannot be: libzmq hands on whole messages only
    }
    const bool single = !frame.more();
    for (bool more = !single; more;) {
        Message rest;
        more = port.socket.receive(rest) && rest.more();
    }
    port.seat->due = true;
    port.seat->participant->on_frame(peer, single ? frame.take() : Slice(), clock_->now());
    return true;
}

PeerId Loop::Impl::hear(Port& port, std::string_view routing_id) {
    if (const auto* known = port.peers.hear(routing_id)) return known->id;
    const auto* peer = port.peers.add(++last_peer_, routing_id);
    routes_.emplace(peer->id, Route{&port, peer});
    const PeerId id = peer->id;
    if (const auto* surplus = port.peers.surplus()) forget(port, *surplus);
    return id;
}

// A link that is up needs its monitor no more: when it has been down for a while it gets a new socket, with one.
bool Loop::Impl::look_at_handshakes(Port& port) {
    bool any = false;
    while (const auto ending = port.socket.monitor().next()) {
        any = true;
        if (*ending != Handshake::succeeded) {
            tell_of_stranger(port, *ending);
        } else if (!port.bound()) {
            port.strangers.fill(0);
            port.socket.unwatch();
        }
    }
    return any;
}

void Loop::Impl::tell_of_stranger(Port& port, Handshake failed) {
    const std::uint64_t count = ++port.strangers.at(static_cast<std::size_t>(failed));
    if (port.bound() ? !worth_a_word(count) : count > 1) return;
    port.seat->due = true;
    port.seat->participant->on_stranger({.kind = Event::Kind::dropped,
                                         .subject = port.endpoint,
                                         .text = std::string(explain(failed, port.bound() ? Use::bind : Use::connect)),
                                         .count = count});
}

void Loop::Impl::forget(Port& port, const PeerTable::Peer& peer) {
    routes_.erase(peer.id);
    port.peers.erase(peer);
}

void Loop::Impl::sleep() {
    sleeping_ = true;
    if (stay_awake()) {
        sleeping_ = false;
        return;
    }
    Mono until = never;
    for (const auto& seat : seats_) until = std::min(until, seat->deadline);
    long timeout = -1;
    if (until != never) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - clock_->mono());
        timeout = std::clamp<long>(left.count(), 0, INT_MAX);
    }

    poll_items_.assign(1, {nullptr, bell_.fd(), ZMQ_POLLIN, 0});
    for (const auto& port : ports_) {
        if (port->socket) poll_items_.push_back({port->socket.get(), 0, ZMQ_POLLIN, 0});
        if (port->socket.monitor()) poll_items_.push_back({port->socket.monitor().get(), 0, ZMQ_POLLIN, 0});
    }
    const int ready = zmq_poll(poll_items_.data(), static_cast<int>(poll_items_.size()), timeout);
    sleeping_ = false;
    if (ready < 0) {
        if (errno == EINTR) return;
        throw Error(std::string("cannot wait for messages: ") + zmq_strerror(errno));
    }
    if (poll_items_.front().revents != 0) bell_.silence();
    std::size_t item = 1;
    for (const auto& port : ports_) {
        if (port->socket) port->readable = poll_items_[item++].revents != 0;
        if (port->socket.monitor()) port->monitor_readable = poll_items_[item++].revents != 0;
    }
}

// What came since the last round looked, seen after sleeping_ was set: whoever comes later sees that and rings.
bool Loop::Impl::stay_awake() {
    if (std::any_of(seats_.begin(), seats_.end(), [](const auto& seat) {
            return seat->participant == nullptr || seat->due || seat->participant->woken_.load();
        }))
        return true;
    const std::lock_guard lock(mutex_);
    return !posted_.empty();
}

// ---------------------------------------------------------------------------------------------- endpoints and links

Seat& Loop::Impl::seat_of(const Participant& participant, const std::string& endpoint, Use use) {
    for (const auto& seat : seats_)
        if (seat->participant == &participant) return *seat;
    throw Error((use == Use::bind ? "cannot bind " : "cannot connect to ") + endpoint +
                ": who asks is not on the loop; add() comes first");
}

void Loop::Impl::add(Participant& participant) {
    if (std::any_of(seats_.begin(), seats_.end(), [&](const auto& seat) { return seat->participant == &participant; }))
        return;
    seats_.push_back(std::make_unique<Seat>(Seat{.participant = &participant}));
}

void Loop::Impl::remove(const Participant& participant) {
    for (const auto& seat : seats_) {
        if (seat->participant != &participant) continue;
        for (const auto& port : ports_)
            if (port->seat == seat.get() && !port->gone) close(*port);
        seat->participant = nullptr;
        any_gone_ = true;
    }
}

std::string Loop::Impl::bind(Participant& participant, const std::string& endpoint) {
    const Scheme scheme = check_endpoint(endpoint, Use::bind);
    Seat& seat = seat_of(participant, endpoint, Use::bind);
    if (scheme == Scheme::ipc) check_path_free(endpoint);
    Socket socket(context_.get(), ZMQ_ROUTER, endpoint, Use::bind);
    if (scheme != Scheme::inproc) socket.watch(context_.get(), Use::bind);
    std::string bound = socket.bind(endpoint);
    ports_.push_back(
        std::make_unique<Port>(Port{.seat = &seat, .endpoint = bound, .scheme = scheme, .socket = std::move(socket)}));
    try {
        if (scheme == Scheme::inproc) join_inproc_links(bound);
    } catch (const Error&) {
        close(*ports_.back());
        throw;
    }
    return bound;
}

void Loop::Impl::connect(Participant& participant, const std::string& endpoint) {
    const Scheme scheme = check_endpoint(endpoint, Use::connect);
    Seat& seat = seat_of(participant, endpoint, Use::connect);
    auto port =
        std::make_unique<Port>(Port{.seat = &seat, .endpoint = endpoint, .scheme = scheme, .link = last_peer_ + 1});
    if (scheme != Scheme::inproc || is_bound_here(endpoint)) port->socket = open_link(*port);
    const PeerId link = ++last_peer_;
    routes_.emplace(link, Route{port.get(), nullptr});
    ports_.push_back(std::move(port));
    seat.due = true;
    participant.on_link(link, endpoint);
}

Socket Loop::Impl::open_link(const Port& port) {
    Socket socket(context_.get(), ZMQ_DEALER, port.endpoint, Use::connect);
    const auto watched = std::count_if(ports_.begin(), ports_.end(),
                                       [](const auto& other) { return !other->bound() && other->socket.monitor(); });
    if (port.scheme != Scheme::inproc && watched < max_watched_links) socket.watch(context_.get(), Use::connect);
    socket.connect(port.endpoint);
    return socket;
}

bool Loop::Impl::is_bound_here(const std::string& endpoint) {
    return std::any_of(ports_.begin(), ports_.end(),
                       [&](const auto& port) { return port->bound() && !port->gone && port->endpoint == endpoint; });
}

// inproc links are connected only while their endpoint is bound: libzmq neither reconnects them nor lets one that waits
// for its endpoint be closed safely (libzmq issue 4544).
void Loop::Impl::join_inproc_links(const std::string& endpoint) {
    for (const auto& port : ports_)
        if (!port->bound() && !port->gone && port->endpoint == endpoint) port->socket = open_link(*port);
}

void Loop::Impl::close(Port& port) {
    port.gone = true;
    any_gone_ = true;
    if (!port.bound()) {
        routes_.erase(port.link);
        port.socket.close_gently();
        return;
    }
    for (const auto& peer : port.peers.peers()) routes_.erase(peer.id);
    port.socket.unbind(context_.get(), port.endpoint);
    port.socket.close();
    if (port.scheme != Scheme::inproc) return;
    for (const auto& other : ports_)
        if (!other->bound() && other->endpoint == port.endpoint) other->socket.close();
}

// ----------------------------------------------------------------------------------------------------------- sending

bool Loop::Impl::send(PeerId peer, std::string&& frame) {
    const auto found = routes_.find(peer);
    if (found == routes_.end()) return false;
    const auto [port, to] = found->second;
    if (!port->socket) return false;
    return to == nullptr ? send_on_link(*port, std::move(frame)) : send_to_peer(*port, *to, std::move(frame));
}

bool Loop::Impl::send_to_peer(Port& port, const PeerTable::Peer& peer, std::string&& frame) {
    Message address{std::string_view(peer.routing_id)};
    if (!port.socket.send(address, ZMQ_SNDMORE)) {
        port.peers.retire(peer);
        return false;
    }
    Message body(std::move(frame));
    return port.socket.send(body);
}

bool Loop::Impl::send_on_link(Port& port, std::string&& frame) {
    Message body(std::move(frame));
    if (port.socket.send(body)) {
        port.failing_since = never;
        return true;
    }
    if (port.scheme == Scheme::inproc) return false;
    const Mono now = clock_->mono();
    if (port.failing_since == never) port.failing_since = now;
    if (now - port.failing_since < renew_after) return false;
    port.failing_since = now;
    try {
        port.socket = open_link(port);
    } catch (const Error&) {
        // Out of sockets for the moment: the old one stays, and this is tried again.
        return false;
    }
    return false;
}

// --------------------------------------------------------------------------------------------------------- interface

Loop::Loop(std::shared_ptr<Clock> clock)
    : impl_(std::make_unique<Impl>(clock ? std::move(clock) : std::make_shared<Clock>())) {}

Loop::~Loop() = default;

void Loop::add(Participant& participant) {
    impl_->on_loop([&] {
        impl_->add(participant);
        return std::string();
    });
}

void Loop::remove(Participant& participant) {
    impl_->on_loop([&] {
        impl_->remove(participant);
        return std::string();
    });
}

std::string Loop::bind(Participant& participant, const std::string& endpoint) {
    return impl_->on_loop([&] { return impl_->bind(participant, endpoint); });
}

void Loop::connect(Participant& participant, const std::string& endpoint) {
    impl_->on_loop([&] {
        impl_->connect(participant, endpoint);
        return std::string();
    });
}

bool Loop::send(PeerId peer, std::string frame) {
    return impl_->send(peer, std::move(frame));
}

void Loop::wake(Participant& participant) {
    if (!participant.woken_.exchange(true)) impl_->rouse();
}

void Loop::post(std::function<void()> work) {
    impl_->post(std::move(work));
}

bool Loop::is_this_thread() const noexcept {
    return Impl::running == impl_.get();
}

Now Loop::now() const noexcept {
    return impl_->clock_->now();
}

Mono Loop::mono() const noexcept {
    return impl_->clock_->mono();
}

}  // namespace posthorn::transport
