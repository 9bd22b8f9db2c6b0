#include "sim/live_world.hpp"

#include <algorithm>
#include <cstring>

#include "envelope/envelope.hpp"
#include "store/memory_store.hpp"

namespace posthorn::sim {

namespace {

constexpr std::uint64_t witness_peer = 1;
constexpr std::uint64_t unsafe_most = 10;  // of a publisher: all of theirs together fit the bounds, so that the witness
constexpr std::size_t publishers_count = 3;  // misses nothing
constexpr std::size_t subscribers_count = 4;
constexpr int calm_rounds = 2000;
constexpr const char* live_name = "live";

// The planted bug: what is missed is not shown.
std::string hide_gaps(std::map<std::uint64_t, std::uint64_t>& shown, std::uint64_t peer, const std::string& bytes) {
    auto frame = protocol::decode_frame(Slice{bytes});
    protocol::FrameWriter out{defaults::frame_limit};
    out.start_session(frame->epoch);
    for (std::uint64_t number = 1; number < frame->number; ++number) {
        out.heartbeat();
        (void)out.flush();
    }
    for (protocol::Command& command : frame->commands) {
        if (auto* feed = std::get_if<protocol::Feed>(&command)) {
            const auto next = shown.try_emplace(peer, feed->first).first;
            feed->first = next->second;
            next->second += feed->count;
            if (feed->count == 0) continue;
        }
        out.add(command);
    }
    const auto frames = out.flush();
    return frames.empty() ? bytes : frames.front();
}

}  // namespace

LiveWorld::LiveWorld(Setup setup)
    : setup_(setup),
      random_(setup.seed),
      loss_(chance(0.3)   ? 0.0
            : chance(0.5) ? 0.02
                          : 0.1) {
    policy_.max_messages = publishers_count * unsafe_most + pick(100);
    if (chance(0.3)) policy_.max_bytes = policy_.max_messages * 100;
    if (chance(0.3)) policy_.when_full = WhenFull::block;
    start_host();
    publishers_.resize(publishers_count);
    subscribers_.resize(subscribers_count);
    for (Publisher& one : publishers_) start_publisher(one);
    for (Subscriber& one : subscribers_) start_subscriber(one);
}

void LiveWorld::note(const std::string& line) {
    log_ += std::to_string(now_.mono.time_since_epoch() / 1ms) + " " + line + "\n";
}

Identity LiveWorld::identity() {
    Identity id;
    for (std::size_t i = 0; i < id.bytes.size(); i += sizeof(std::uint64_t)) {
        const std::uint64_t word = random_();
        std::memcpy(id.bytes.data() + i, &word, sizeof word);
    }
    return id;
}

// Processes --------------------------------------------------------------------------------------------------------

void LiveWorld::start_host() {
    host_.reset();
    store_ = store::make_memory_store();
    host::Options options;
    options.incarnation = identity();
    options.live[live_name] = policy_;
    options.on_event = [this](const Event& event) {
        note("host: " + std::string{to_string(event.kind)} + " " + event.text);
    };
    host_ = std::make_unique<host::Host>(options, *store_, now_);
    witness_ = std::make_unique<protocol::FeedSession>(
        protocol::FeedSession::Options{.incarnation = identity(), .topic = live_name, .messages = 1'000'000});
    witness_->add_host(witness_peer, "host");
    collect();
    witness();
}

void LiveWorld::start_publisher(Publisher& one) {
    one.id = identity();
    one.sent = 0;
    one.link = {.at_client = ++last_peer_, .at_host = ++last_peer_};
    one.session = std::make_unique<protocol::ProducerSession>(
        protocol::ProducerSession::Options{.producer = one.id, .queue = live_name, .live = true});
    one.session->add_link(one.link.at_client, "host");
}

void LiveWorld::start_subscriber(Subscriber& one) {
    constexpr const char* patterns[] = {"#", "a", "b", "a"};
    one.pattern = patterns[pick(std::size(patterns))];
    one.slow = chance(0.5);
    one.link_id = one.before = one.last = 0;
    one.link = {.at_client = ++last_peer_, .at_host = ++last_peer_};
    one.session = std::make_unique<protocol::FeedSession>(
        protocol::FeedSession::Options{.incarnation = identity(),
                                       .topic = live_name,
                                       .bindings = {{.subject = one.pattern}},
                                       .messages = static_cast<std::uint32_t>(1 + pick(50)),
                                       .bytes = 100 + pick(10'000)});
    one.session->add_host(one.link.at_client, "host");
}

// Network ----------------------------------------------------------------------------------------------------------

void LiveWorld::cut(Link& link) {
    ++totals_.cuts;
    link.to_host.clear();
    link.to_client.clear();
    link.at_host = ++last_peer_;
}

void LiveWorld::to_host(Link& link, bool peaceful) {
    if (!link.up) return;
    for (std::uint64_t count = peaceful ? link.to_host.size() : pick(link.to_host.size() + 1); count > 0; --count) {
        const std::string frame = std::move(link.to_host.front());
        link.to_host.pop_front();
        if (!peaceful && chance(loss_)) {
            ++totals_.lost_frames;
            continue;
        }
        host_->receive(link.at_host, Slice{frame}, now_);
        collect();
        witness();
    }
}

void LiveWorld::to_client(Publisher& one, bool peaceful) {
    Link& link = one.link;
    if (!link.up) return;
    for (std::uint64_t count = peaceful ? link.to_client.size() : pick(link.to_client.size() + 1); count > 0; --count) {
        if (peaceful || !chance(loss_)) one.session->receive(link.at_client, Slice{link.to_client.front()}, now_);
        link.to_client.pop_front();
    }
}

void LiveWorld::to_client(Subscriber& one, bool peaceful) {
    Link& link = one.link;
    if (!link.up) return;
    for (std::uint64_t count = peaceful ? link.to_client.size() : pick(link.to_client.size() + 1); count > 0; --count) {
        const std::string frame = std::move(link.to_client.front());
        link.to_client.pop_front();
        if (!peaceful && chance(loss_)) {
            ++totals_.lost_frames;
            continue;
        }
        hear(one, frame);
        if (peaceful || !chance(loss_ / 2)) continue;
        ++totals_.repeated_frames;
        hear(one, frame);
    }
}

// A new link begins at 1: what came of the one before is taken first, so that the numbers are not mixed.
void LiveWorld::hear(Subscriber& one, const std::string& bytes) {
    const auto frame = protocol::decode_frame(Slice{bytes});
    const protocol::Welcome* welcome = nullptr;
    if (frame && !frame->commands.empty()) welcome = std::get_if<protocol::Welcome>(&frame->commands.front());
    if (welcome == nullptr || welcome->link == one.link_id) {
        one.session->receive(one.link.at_client, Slice{bytes}, now_);
        return;
    }
    take(one, one.session->waiting());
    const protocol::FeedSession::Counts before = one.session->counts();
    const std::size_t was_connected = one.session->connected();
    one.session->receive(one.link.at_client, Slice{bytes}, now_);
    if (was_connected != 0 || one.session->connected() == 0) return;  // it answers a hello of before
    if (one.link_id != 0 && one.session->counts().breaks == before.breaks) violation("a lost link was not said");
    one.link_id = welcome->link;
    one.before = before.matched;
    one.last = 0;
}

void LiveWorld::collect() {
    host_->turn(now_);
    while (const auto job = host_->take_job(now_)) {
        violation("a live topic has something to store");
        host_->complete(store_->run(*job), now_);
    }
    for (host::OutFrame& frame : host_->take_frames()) look_at(frame);
}

void LiveWorld::look_at(host::OutFrame& frame) {
    if (frame.peer == witness_peer) {
        witness_->receive(witness_peer, Slice{std::move(frame.bytes)}, now_);
        return;
    }
    for (Publisher& one : publishers_) {
        if (one.link.at_host == frame.peer) one.link.to_client.push_back(frame.bytes);
    }
    for (Subscriber& one : subscribers_) {
        if (one.link.at_host != frame.peer) continue;
        if (setup_.planted == Planted::gap_hidden) frame.bytes = hide_gaps(shown_, frame.peer, frame.bytes);
        const auto decoded = protocol::decode_frame(Slice{frame.bytes});
        if (decoded && !decoded->commands.empty()) {
            const auto* welcome = std::get_if<protocol::Welcome>(&decoded->commands.front());
            if (welcome != nullptr) truths_.try_emplace(welcome->link, Truth{one.pattern, {}});
        }
        one.link.to_client.push_back(std::move(frame.bytes));
    }
}

// What the host has accepted since: each link that is there has matched it, or has not.
void LiveWorld::witness() {
    bool more = true;
    while (std::exchange(more, false)) {
        witness_->turn(now_);
        for (auto& frame : witness_->take_frames()) {
            host_->receive(witness_peer, Slice{std::move(frame.bytes)}, now_);
            more = true;
        }
        while (const auto envelope = witness_->next()) {
            const auto decoded = envelope::decode(envelope->view());
            const std::uint64_t number = std::stoull(decoded->message.payload);
            for (auto& [link, truth] : truths_) {
                if (matches_subject(truth.pattern, decoded->message.subject)) truth.messages.push_back(number);
            }
            more = true;
        }
        (void)witness_->take_events();
        collect();
    }
    if (witness_->counts().missed > 0) violation("the witness missed something: the test is wrong");
}

// Clients ----------------------------------------------------------------------------------------------------------

void LiveWorld::publish(Publisher& one) {
    if (one.session->unsafe_messages() >= unsafe_most) return;
    envelope::Envelope envelope{.producer = one.id, .sequence = one.sent + 1, .previous = one.sent};
    ++one.sent;
    envelope.message.payload = std::to_string(++last_message_);
    envelope.message.subject = chance(0.5) ? "a" : "b";
    std::string bytes;
    envelope::encode(envelope, bytes);
    one.session->offer(Slice{std::move(bytes)});
    ++totals_.messages;
}

void LiveWorld::take(Subscriber& one, std::size_t most) {
    for (; most > 0; --most) {
        const auto envelope = one.session->next();
        if (!envelope) return;
        const protocol::FeedSession::Counts& counts = one.session->counts();
        const std::uint64_t number = std::stoull(envelope::decode(envelope->view())->message.payload);
        const std::vector<std::uint64_t>& truth = truths_[one.link_id].messages;
        // A gap behind it counts at once where nothing waits.
        const std::uint64_t least = one.session->waiting() > 0 ? counts.matched - one.before : 1;
        const auto found = std::find(truth.begin(), truth.end(), number) - truth.begin();
        const auto at = static_cast<std::uint64_t>(found) + 1;
        ++totals_.fed;
        if (at < least || at > counts.matched - one.before || at <= one.last)
            violation("message " + std::to_string(number) + " came as number " +
                      std::to_string(counts.matched - one.before) + " of its link, and is number " +
                      std::to_string(at));
        one.last = at;
    }
}

// Life -------------------------------------------------------------------------------------------------------------

void LiveWorld::pump() {
    for (Publisher& one : publishers_) {
        one.session->turn(now_);
        for (auto& frame : one.session->take_frames()) one.link.to_host.push_back(std::move(frame.bytes));
        (void)one.session->take_news();
    }
    for (Subscriber& one : subscribers_) {
        one.session->turn(now_);
        for (auto& frame : one.session->take_frames()) one.link.to_host.push_back(std::move(frame.bytes));
        (void)one.session->take_events();
    }
    collect();
    witness();
}

void LiveWorld::step() {
    ++totals_.steps;
    Publisher& publisher = publishers_[pick(publishers_.size())];
    Subscriber& subscriber = subscribers_[pick(subscribers_.size())];
    publish(publisher);
    to_host(publisher.link, false);
    to_client(publisher, false);
    to_host(subscriber.link, false);
    to_client(subscriber, false);
    if (!subscriber.slow || chance(0.2)) take(subscriber, pick(20));
    const Duration time =
        chance(0.01) ? Duration{std::chrono::seconds{pick(20)}} : std::chrono::milliseconds{pick(100)};
    now_.mono += time;
    now_.wall += std::chrono::duration_cast<WallClock::duration>(time);
    if (chance(0.01)) cut(publisher.link);
    if (chance(0.01)) cut(subscriber.link);
    if (chance(0.003)) subscriber.link.up = !subscriber.link.up;
    if (chance(0.003)) publisher.link.up = !publisher.link.up;
    if (chance(0.002)) start_subscriber(subscriber);
    if (chance(0.002)) start_publisher(publisher);
    if (chance(0.001)) {
        note("host killed");
        ++totals_.crashes;
        start_host();
        for (Publisher& one : publishers_) cut(one.link);
        for (Subscriber& one : subscribers_) cut(one.link);
    }
    pump();
}

bool LiveWorld::drained() const {
    const auto heard_all = [&](const Subscriber& one) {
        const auto truth = truths_.find(one.link_id);
        return truth != truths_.end() && one.session->connected() > 0 && one.session->waiting() == 0 &&
               one.session->counts().matched - one.before == truth->second.messages.size();
    };
    return std::all_of(publishers_.begin(), publishers_.end(),
                       [](const Publisher& one) { return one.session->unsafe_messages() == 0; }) &&
           std::all_of(subscribers_.begin(), subscribers_.end(), heard_all);
}

// No faults any more: what each has received and missed is what was matched for it.
void LiveWorld::peace() {
    note("peace");
    for (int round = 0; round < calm_rounds && violations_.empty(); ++round) {
        for (Publisher& one : publishers_) {
            one.link.up = true;
            to_host(one.link, true);
            to_client(one, true);
        }
        for (Subscriber& one : subscribers_) {
            one.link.up = true;
            to_host(one.link, true);
            to_client(one, true);
            take(one, one.session->waiting());
        }
        pump();
        if (drained()) return;
        const auto time =
            std::chrono::milliseconds{50 + round};  // long enough for those to be forgotten that have died
        now_.mono += time;
        now_.wall += time;
    }
    std::string left = "it does not drain:";
    for (const Subscriber& one : subscribers_) {
        left += " " + std::to_string(one.session->counts().matched - one.before) + " of " +
                std::to_string(truths_[one.link_id].messages.size());
    }
    violation(std::move(left));
}

void LiveWorld::run() {
    for (std::uint32_t i = 0; i < setup_.steps && violations_.empty(); ++i) step();
    if (violations_.empty()) peace();
    for (const Subscriber& one : subscribers_) {
        const protocol::FeedSession::Counts& counts = one.session->counts();
        totals_.missed_live += counts.missed;
        totals_.breaks += counts.breaks;
        if (counts.received + counts.missed != counts.matched) violation("the counts of a subscriber do not add up");
        if (policy_.when_full == WhenFull::block && counts.missed > 0)
            violation("a message was missed though its publisher waits for everybody");
    }
}

}  // namespace posthorn::sim
