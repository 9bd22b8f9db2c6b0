#include "sim/world.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

#include <posthorn/status.hpp>

#include "envelope/envelope.hpp"
#include "sim/planted.hpp"
#include "store/memory_store.hpp"
#include "store/sqlite_store.hpp"

namespace posthorn::sim {

namespace {

constexpr std::size_t producers_count = 3;
constexpr std::size_t consumers_count = 4;
constexpr Duration link_patience = 500ms;  // less than half of any lease here
constexpr Duration operator_patience = 10s;
constexpr int peace_rounds = 20'000;
constexpr const char* queue_name = "q";
constexpr const char* topic_name = "t";
constexpr std::uint64_t min_free = 128 * 1024 * 1024;      // where there is any: no new messages in the last 16 MiB ...
constexpr std::uint64_t settling_room = 12 * 1024 * 1024;  // ... and room for settlements in so much
constexpr std::uint64_t no_room = 64 * 1024;               // hardly for anything

constexpr std::uint64_t shows = 1, edits = 2, redrives = 3, counts = 4,
                        removes = 5;  // what an operator asks, by its id
constexpr const char* edited_header = "edited";

// Of an admin's row.
wire::Reader field(const std::string& row, std::string_view name) {
    wire::Reader in{row};
    for (std::uint32_t left = in.map(); left > 0 && in.string() != name; --left) in.skip();
    return in;
}

}  // namespace

World::World(Setup setup)
    : setup_(setup),
      random_(setup.seed),
      fan_random_(~setup.seed),
      now_{Mono{1h}, Wall{std::chrono::hours{24 * 365 * 50}}},
      durable_(setup.planted != Planted::none || !chance(0.15)),
      loss_(chance(0.3)   ? 0.0
            : chance(0.5) ? 0.02
                          : 0.1),
      copy_random_(setup.seed ^ 0x636f7079U),
      retain_random_(setup.seed ^ 0x6b656570U) {
    policy_.lease = std::chrono::seconds{2 + pick(9)};
    policy_.backoff = chance(0.5) ? Backoff{.kind = Backoff::Kind::fixed, .min = std::chrono::milliseconds{pick(500)}}
                                  : Backoff{.min = 10ms, .max = 1s};
    if (durable_ && chance(0.3)) {  // in memory dead letters take room as well, and fill it in the end
        if (chance(0.5)) {
            policy_.max_messages = 20 + pick(200);
        } else {
            policy_.max_bytes = 1000 + pick(100'000);
        }
        constexpr WhenFull ways[] = {WhenFull::block, WhenFull::reject, WhenFull::drop_oldest, WhenFull::dead_letter};
        policy_.when_full = ways[pick(std::size(ways))];
    }
    if (chance(0.2)) policy_.storm_after = static_cast<std::uint32_t>(2 + pick(10));
    if (chance(0.1)) policy_.max_age = std::chrono::milliseconds{500 + pick(20'000)};
    if (durable_ && chance(0.5)) min_free_ = min_free;
    keyed_ = chance(0.5);
    prioritised_ = chance(0.5);
    if (chance(0.7)) {  // long queues, for their memory
        limits_ = {
            .tracked = 1000, .ready = 8, .bytes = 3000, .waiting = 4, .waiting_soon = 1s, .line = 3, .block = 16};
    }
    named_ = chance(0.5);
    name_ = identity();
    deduplicated_ = chance(0.5);
    if (chance(0.7)) policy_.dedup_window = std::chrono::milliseconds{pick(chance(0.3) ? 200 : 20'000)};
    strict_ = chance(0.3);
    if (strict_) {
        keyed_ = prioritised_ = false;  // they mean nothing then
        policy_.strict_order = chance(0.5);
        policy_.retry_aside = chance(0.3);
    }
    make_outlets();
    disk_ = std::make_unique<SimDisk>(setup_.seed);
    if (setup_.planted == Planted::confirm_before_sync) disk_->lie_about_sync();
    start_host();
    producers_.resize(producers_count);
    consumers_.resize(consumers_count);
    for (std::size_t i = 0; i < producers_count; ++i) start_producer(i);
    for (std::size_t i = 0; i < consumers_count; ++i) {
        start_consumer(i);
        consumers_[i].link.up = !outlet_of(consumers_[i]).replayed;  // these come late, for there to be a past
    }
}

World::~World() = default;

// The queue, or a topic's subscriptions.
void World::make_outlets() {
    fanout_ = fan_chance(0.25);  // they take longer than the others
    if (!fanout_) {
        outlets_.push_back({.address = queue_name, .model = {policy_, queue_name, violations_}});
        return;
    }
    if (strict_) policy_.strict_order = true;  // a producer cannot ask it of a topic
    const auto retain_chance = [this](double probability) {
        return std::bernoulli_distribution{probability}(retain_random_);
    };
    retained_ = durable_ && retain_chance(0.5);
    if (retained_) limits_.replayed = retain_chance(0.5) ? 1 : 50;
    if (retained_ && retain_chance(0.5)) retention_.messages = retain_chance(0.5) ? 100 : 300;
    const std::uint64_t count = 2 + fan_pick(3);
    for (std::uint64_t i = 0; i < count; ++i) {
        const std::string address = topic_name + ("/s" + std::to_string(i));
        Outlet& outlet = outlets_.emplace_back(Outlet{.address = address, .model = {policy_, address, violations_}});
        outlet.declared = fan_chance(0.4);
        outlet.temporary = !outlet.declared && fan_chance(0.25);
        outlet.bindings = some_bindings();
        outlet.model.bind(outlet.bindings);
        std::string patterns;
        for (const Binding& one : outlet.bindings) patterns += " " + one.subject;
        outlet.replayed = retained_ && !outlet.declared && !outlet.temporary && retain_chance(0.7);
        if (outlet.replayed && retention_.messages == 0) outlet.model.begin_with_the_first();
        if (outlet.replayed && retention_.messages != 0) outlet.model.begin_with_what_is_kept();
        std::string how = outlet.declared    ? " is declared"
                          : outlet.temporary ? " is temporary"
                          : outlet.replayed  ? " is to begin in the past"
                                             : " is to be made";
        note(address + how.append(", bound to").append(patterns));
        if (outlet.declared) was_welcome(outlet);
    }
}

std::vector<Binding> World::some_bindings() {
    if (fan_chance(0.3)) return {{.subject = "#"}};
    std::vector<Binding> bindings;
    for (std::uint64_t count = 1 + fan_pick(2); count > 0; --count) {
        bindings.push_back({.subject = {"ab*"[fan_pick(3)], '.', "xyz*"[fan_pick(4)]}});
    }
    return bindings;
}

World::Outlet* World::outlet_at(const std::string& address) {
    const auto found =
        std::find_if(outlets_.begin(), outlets_.end(), [&](const Outlet& outlet) { return outlet.address == address; });
    return found == outlets_.end() ? nullptr : &*found;
}

// A temporary one may go whenever its consumers are away, and come again: nothing has to reach it.
void World::was_welcome(Outlet& outlet) {
    if (!fanout_ || outlet.leaving) return;
    if (!outlet.made) ++totals_.subscriptions_made;
    if (!outlet.made && outlet.replayed) ++totals_.replayed;
    outlet.made = true;
    if (!outlet.temporary) outlet.model.welcome();
}

Totals World::totals() const {
    Totals all = totals_;
    for (const Outlet& outlet : outlets_) all.add(outlet.model.totals);
    if (fanout_) all.to_subscriptions = all.deliveries;
    return all;
}

void World::note(const std::string& line) {
    log_ += std::to_string(now_.mono.time_since_epoch() / 1ms) + " " + line + "\n";
}

Identity World::identity() {
    Identity id;
    for (std::size_t i = 0; i < id.bytes.size(); i += sizeof(std::uint64_t)) {
        const std::uint64_t word = random_();
        std::memcpy(id.bytes.data() + i, &word, sizeof word);
    }
    return id;
}

void World::pass(Duration time) {
    now_.mono += time;
    now_.wall += std::chrono::duration_cast<WallClock::duration>(time);
}

// Processes --------------------------------------------------------------------------------------------------------

void World::start_host() {
    disk_->set_capacity(SimDisk::unlimited);  // a store that finds no room at all says so and does not open
    if (durable_) {
        store_ = plant(setup_.planted,
                       store::open_sqlite_store({.folder = "sim", .min_free = min_free_, .vfs = disk_->vfs()}));
    } else {
        store_ = store::make_memory_store();
    }
    host::Options options;
    options.incarnation = identity();
    options.seed = random_();
    options.defaults = policy_;
    options.limits = limits_;
    if (retained_) options.retained[topic_name] = retention_;
    options.on_event = [this](const Event& event) {
        note("host: " + event.subject + (event.subject.empty() ? "" : ": ") + std::string{to_string(event.kind)} + " " +
             event.text);
        Outlet* const outlet = outlet_at(event.subject);
        if (event.kind == Event::Kind::consumer_died && outlet != nullptr) {
            ++outlet->model.deaths;
            for (Consumer& consumer : consumers_) {
                if (event.text.find("consumer " + consumer.label + " ") != std::string::npos) consumer.over = true;
            }
        }
        if (event.kind == Event::Kind::storm && outlet != nullptr) {
            outlet->storm = !outlet->storm;
            if (outlet->storm) ++totals_.storms;
        }
        if (event.kind == Event::Kind::damaged) damaged_ += event.count;
        if (event.kind == Event::Kind::store_lost_confirmed)
            violation("the host lost what it had confirmed: " + event.text);
    };
    ++host_life_;
    for (Outlet& outlet : outlets_) {
        outlet.furthest = 0;
        outlet.storm = false;
        if (!outlet.declared) continue;
        if (host_life_ > 1 && fan_chance(0.1)) rebind(outlet);
        options.topics[topic_name].push_back(
            {.name = outlet.address.substr(outlet.address.find('/') + 1), .bindings = outlet.bindings});
    }
    host_ = std::make_unique<host::Host>(options, *store_, now_);
}

void World::stop_host(bool power) {
    note(power ? "power cut" : "host killed");
    count_drops();
    if (job_ && chance(0.5)) {
        disk_->stop_after(pick(40));  // somewhere in the middle of its writes
        static_cast<void>(store_->run(*job_));
    }
    disk_->stop_after(0);
    job_.reset();
    host_.reset();
    store_.reset();
    disk_->restart(power);
    keep_copy();
    ++(power ? totals_.power_cuts : totals_.crashes);
    for (Producer& producer : producers_) cut(producer.link);
    for (Consumer& consumer : consumers_) cut(consumer.link);
}

void World::keep_copy() {
    if (fanout_ || copy_ || !std::bernoulli_distribution{0.3}(copy_random_)) return;
    note("the folder is copied");
    copy_.emplace(Copy{disk_->copy(setup_.seed), outlets_});
    for (Outlet& outlet : copy_->outlets) outlet.model.totals = {.dropped = outlet.model.totals.dropped};
}

void World::go_on_with_copy() {
    note("another host goes on with the copy");
    totals_ = totals();
    ++totals_.copies;
    job_.reset();
    host_.reset();
    store_.reset();
    disk_ = std::move(copy_->disk);
    outlets_.swap(copy_->outlets);
    for (const Outlet& outlet : outlets_) totals_.dropped -= outlet.model.totals.dropped;  // the model knows them still
    operator_ = operator_edits_ = 0;
    damaged_ = 0;
    for (Outlet& outlet : outlets_) {
        for (int number = 1; number <= last_producer_; ++number) outlet.model.producer_died(number);
    }
    producers_.clear();
    producers_.resize(producers_count);
    for (std::size_t i = 0; i < producers_count; ++i) start_producer(i);
    for (std::size_t i = 0; i < consumers_count; ++i) start_consumer(i);
    start_host();
    for (Producer& producer : producers_) publish(producer);
    peace();
    if (violations_.empty()) check_end();
}

void World::start_producer(std::size_t index) {
    Producer& producer = producers_[index];
    producer.number = ++last_producer_;
    producer.sent = 0;
    producer.placed = !(named_ && index == 0);
    const bool named = named_ && index == 0;
    producer.id = named ? name_ : identity();
    producer.link = {};
    producer.link.at_client = ++last_peer_;
    producer.link.at_host = ++last_peer_;
    producer.session = std::make_unique<protocol::ProducerSession>(
        protocol::ProducerSession::Options{.producer = producer.id,
                                           .incarnation = named ? identity() : Identity{},
                                           .queue = fanout_ ? topic_name : queue_name,
                                           .name = named ? "named" : "",
                                           .strict = strict_ && !policy_.strict_order,
                                           .topic = fanout_});
    producer.session->add_link(producer.link.at_client, "host");
}

// It dies. A named one may also be cut off, replaced by somebody who cannot know, and come back.
void World::replace_producer(std::size_t index) {
    Producer& producer = producers_[index];
    if (named_ && index == 0 && producer.session->place() && chance(0.5)) {
        note("producer " + std::to_string(producer.number) + " is replaced");
        producer.link.up = chance(0.3);
        producers_.push_back(std::move(producer));
    } else {
        note("producer " + std::to_string(producer.number) + " dies");
        for (Outlet& outlet : outlets_) outlet.model.producer_died(producer.number);
    }
    start_producer(index);
}

void World::start_consumer(std::size_t index) {
    Consumer& consumer = consumers_[index];
    consumer.number = ++last_consumer_;
    if (consumer.name.empty() && chance(0.3)) consumer.name = "worker" + std::to_string(index);
    consumer.concurrency = static_cast<std::uint32_t>(1 + pick(4));
    consumer.working.clear();
    consumer.settling.clear();
    consumer.link = {};
    consumer.link.at_client = ++last_peer_;
    consumer.link.at_host = ++last_peer_;
    consumer.link.outlet = index % outlets_.size();
    outlets_of_peers_[consumer.link.at_host] = consumer.link.outlet;
    consumer.welcomed_life = 0;
    consumer.over = false;
    const Identity incarnation = identity();
    constexpr std::size_t shown = 8;  // digits
    consumer.label = consumer.name.empty() ? incarnation.hex().substr(0, shown) : consumer.name;
    constexpr std::uint32_t prefetches[] = {0, 0, 1, 10, 100};
    Outlet& outlet = outlet_of(consumer);
    if (fanout_ && !outlet.declared && outlet.made && fan_chance(0.3)) rebind(outlet);
    consumer.session = std::make_unique<protocol::ConsumerSession>(protocol::ConsumerSession::Options{
        .incarnation = incarnation,
        .queue = outlet.address,
        .name = consumer.name,
        .concurrency = consumer.concurrency,
        .prefetch = prefetches[pick(std::size(prefetches))],
        .strict = strict_ && chance(0.7),
        .bindings = fanout_ && !outlet.declared ? std::optional{outlet.bindings} : std::nullopt,
        .temporary = outlet.temporary,
        .from = outlet.replayed ? std::optional{From::first()} : std::nullopt});
    consumer.session->add_host(consumer.link.at_client, "host");
}

void World::kill_consumer(std::size_t index) {
    note("consumer " + std::to_string(consumers_[index].number) + " dies");
    ++totals_.consumer_deaths;
    start_consumer(index);
}

// Once: a consumer that comes back with the bindings before brings them back.
void World::rebind(Outlet& outlet) {
    if (std::exchange(outlet.rebound, true)) return;
    outlet.bindings = some_bindings();
    outlet.model.bind(outlet.bindings);
    std::string patterns;
    for (const Binding& one : outlet.bindings) patterns += " " + one.subject;
    note(outlet.address + " is bound anew, to" + patterns);
    ++totals_.rebound;
}

// Network ----------------------------------------------------------------------------------------------------------

void World::cut(Link& link) {
    ++totals_.cuts;
    link.to_host.clear();
    link.to_client.clear();
    link.at_host = ++last_peer_;
    outlets_of_peers_[link.at_host] = link.outlet;
}

// False: it is down, or something has been on its way for so long that the link broke.
bool World::flows(Link& link) {
    if (!link.up) return false;
    const auto late = [&](const std::deque<Flying>& frames) {
        return !frames.empty() && now_.mono - frames.front().since > link_patience;
    };
    if (!late(link.to_host) && !late(link.to_client)) return true;
    cut(link);
    return false;
}

void World::move(std::deque<Flying>& from, bool peaceful, const std::function<void(const Slice&)>& to) {
    for (std::uint64_t count = peaceful ? from.size() : pick(from.size() + 1); count > 0 && !from.empty(); --count) {
        std::string frame = std::move(from.front().bytes);
        from.pop_front();
        if (!peaceful && chance(loss_)) {
            ++totals_.lost_frames;
            continue;
        }
        if (!peaceful && chance(loss_ / 2)) {
            ++totals_.repeated_frames;
            to(Slice{frame});
        }
        to(Slice{std::move(frame)});
    }
}

void World::to_host(Link& link, bool peaceful) {
    if (!host_ || !flows(link)) return;
    move(link.to_host, peaceful, [&](const Slice& frame) { host_->receive(link.at_host, frame, now_); });
}

template <typename Session>
void World::to_client(Link& link, Session& session, bool peaceful) {
    if (!flows(link)) return;
    move(link.to_client, peaceful, [&](const Slice& frame) { session.receive(link.at_client, frame, now_); });
}

void World::collect_host() {
    std::map<PeerId, Link*> links;
    for (Producer& producer : producers_) links[producer.link.at_host] = &producer.link;
    for (Consumer& consumer : consumers_) links[consumer.link.at_host] = &consumer.link;
    std::map<std::size_t, std::size_t> given;  // by outlet
    for (host::OutFrame& frame : host_->take_frames()) {
        if (frame.peer == operator_) {
            operator_hears(frame.bytes);
            continue;
        }
        given[outlets_of_peers_[frame.peer]] += hand_out(frame.peer, frame.bytes);
        const auto link = links.find(frame.peer);
        if (link != links.end()) link->second->to_client.push_back({now_.mono, std::move(frame.bytes)});
    }
    for (std::size_t i = 0; i < outlets_.size(); ++i) {
        outlets_[i].model.turn_over(now_);
        if (outlets_[i].storm && given[i] > 1)
            violation(std::to_string(given[i]) + " messages were handed out at once in a storm");
    }
}

// What the host gives to a consumer is looked at as it leaves: it may be on its way for long. So is what it tells a
// named producer of those before, which may die without having heard it.
std::size_t World::hand_out(PeerId peer, const std::string& bytes) {
    std::size_t given = 0;
    const auto frame = protocol::decode_frame(Slice{bytes});
    if (!frame) return given;
    Model& model = outlets_[outlets_of_peers_[peer]].model;
    const bool new_life = named_ && peer == producers_[0].link.at_host && !producers_[0].session->place();
    for (const protocol::Command& command : frame->commands) {
        if (const auto* welcome = std::get_if<protocol::Welcome>(&command); welcome != nullptr && new_life) {
            for (const auto& one : welcome->refused) refused_before(one.sequence);
        }
        if (const auto* confirm = std::get_if<protocol::Confirm>(&command); confirm != nullptr && new_life) {
            for (const auto& one : confirm->refused) refused_before(one.sequence);
        }
        const auto* deliver = std::get_if<protocol::Deliver>(&command);
        if (deliver == nullptr) continue;
        given += deliver->items.size();
        for (const auto& item : deliver->items) {
            const auto envelope = envelope::decode(item.envelope.view());
            if (envelope && item.redrives == 0)
                model.handed_out(std::stoull(envelope->message.payload), item.token, now_);
            if (envelope && item.redrives > 0) {
                model.sent_back(std::stoull(envelope->message.payload),
                                envelope->message.headers.contains(edited_header));
            }
        }
    }
    return given;
}

void World::refused_before(std::uint64_t sequence) {
    for (Outlet& outlet : outlets_) outlet.model.refused_before(sequence);
}

// Everybody gets to act on what has reached it.
void World::pump() {
    for (Producer& producer : producers_) {
        producer.session->turn(now_);
        for (auto& frame : producer.session->take_frames())
            producer.link.to_host.push_back({now_.mono, std::move(frame.bytes)});
        listen(producer);
    }
    for (Consumer& consumer : consumers_) {
        consumer.session->turn(now_);
        for (auto& frame : consumer.session->take_frames())
            consumer.link.to_host.push_back({now_.mono, std::move(frame.bytes)});
        listen(consumer);
    }
    if (!host_) return;
    host_->turn(now_);
    collect_host();
    if (!job_) job_ = host_->take_job(now_);
}

void World::run_job() {
    if (!job_ || !host_) return;
    store::Outcome outcome = store_->run(*job_);
    if (outcome.failure == store::Failure::full) ++totals_.disk_full;
    if (outcome.failure == store::Failure::failed) violation("the store failed: " + outcome.text);
    job_.reset();
    host_->complete(std::move(outcome), now_);
}

// Ends -------------------------------------------------------------------------------------------------------------

// Its terms; the model gives it a payload.
Message World::some_message() {
    Message message;
    if (chance(0.1)) message.ttl = std::chrono::milliseconds{1 + pick(chance(0.5) ? 20'000 : 200)};
    if (chance(0.1)) message.delay = std::chrono::milliseconds{1 + pick(chance(0.5) ? 20'000 : 200)};
    if (prioritised_ && chance(0.3)) message.priority = static_cast<std::uint8_t>(pick(10));
    if (keyed_ && chance(0.3)) message.ordering_key = "k" + std::to_string(pick(4));
    // Some come again and again, most do not.
    if (deduplicated_ && chance(0.3)) message.dedup_key = "d" + std::to_string(pick(chance(0.3) ? 3 : 300));
    if (fanout_) {
        message.subject = {"ab"[fan_pick(2)], '.', "xyz"[fan_pick(3)]};
        if (!message.dedup_key.empty()) message.subject = "a.x";
    }
    if (retained_) {  // in a replay these mean nothing
        message.ttl = message.delay = {};
        message.priority = 0;
        message.ordering_key.clear();
    }
    return message;
}

void World::publish(Producer& producer) {
    if (!producer.session->place() || producer.session->fenced()) return;
    constexpr Kind kinds[] = {Kind::healthy,  Kind::healthy, Kind::healthy,     Kind::healthy,
                              Kind::healthy,  Kind::healthy, Kind::released,    Kind::delayed,
                              Kind::healthy,  Kind::healthy, Kind::fails_twice, Kind::healthy,
                              Kind::rejected, Kind::healthy, Kind::healthy,     Kind::healthy};
    for (std::uint64_t count = 1 + pick(8); count > 0; --count) {
        Kind kind = kinds[pick(std::size(kinds))];
        if (chance(0.01)) kind = Kind::kills;
        if (chance(0.01)) kind = Kind::always_fails;
        const std::uint64_t sequence = ++producer.sent;
        envelope::Envelope envelope;
        envelope.producer = producer.id;
        envelope.sequence = sequence;
        envelope.previous = sequence - 1;
        envelope.message = some_message();
        const std::uint64_t number = ++totals_.messages;
        envelope.message.payload = std::to_string(number);
        for (Outlet& outlet : outlets_)
            outlet.model.publish(number, kind, producer.number, sequence, envelope.message, now_);
        if (chance(0.05)) envelope.message.headers["filler"] = std::string(pick(20'000), 'x');
        std::string bytes;
        envelope::encode(envelope, bytes);
        producer.session->offer(Slice{std::move(bytes)});
    }
}

void World::listen(Producer& producer) {
    const auto news = producer.session->take_news();
    if (!producer.placed && producer.session->place()) {
        producer.placed = true;
        producer.sent = *producer.session->place();
        for (Outlet& outlet : outlets_) outlet.model.resumed(producer.number, producer.sent, now_);
        if (named_before_) ++totals_.resumed;
        named_before_ = true;
    }
    for (const auto& one : news.refused) was_refused(producer, one);
    for (const auto& range : news.safe) {
        for (Outlet& outlet : outlets_) outlet.model.confirmed(producer.number, range.first, range.last, now_);
    }
    for (const Event& event : news.events) {
        if (event.kind == Event::Kind::resumed) totals_.resends += producer.session->unsafe_messages();
        if (event.kind == Event::Kind::store_lost_confirmed)
            violation("a producer saw a host that lost what it confirmed");
        if (event.code == "fenced") {
            ++totals_.fenced;
            if (&producer < &producers_[producers_count]) violation("the last one under its name was fenced");
        }
    }
}

void World::was_refused(const Producer& producer, const protocol::Refused& refused) {
    ++totals_.refused;
    for (Outlet& outlet : outlets_) outlet.model.refused(producer.number, refused.sequence);
    if (refused.code != "no_subscription") return;
    ++totals_.refused_for_want;
    const auto message = outlets_.front().model.find(producer.number, refused.sequence);
    for (const Outlet& outlet : outlets_) {
        if (message && outlet.model.must_take(*message))
            violation("message " + std::to_string(*message) + " was refused, and " + outlet.address + " takes it");
    }
}

void World::listen(Consumer& consumer) {
    Model& model = outlet_of(consumer).model;
    for (const auto& handle : consumer.session->take_lost()) {
        for (Working& work : consumer.working) work.lost |= work.handle == handle;
    }
    for (const Event& event : consumer.session->take_events()) {
        note("consumer " + std::to_string(consumer.number) + ": " + std::string{to_string(event.kind)} + " " +
             event.text);
        if (event.kind == Event::Kind::connected || event.kind == Event::Kind::resumed) {
            consumer.welcomed_life = host_life_;
            consumer.over = false;
            was_welcome(outlet_of(consumer));
        }
        if (event.kind != Event::Kind::stale_delivery) continue;
        // Which of those said are meant is not told; none of them counts as confirmed then.
        ++totals_.stale;
        for (Settling& settling : consumer.settling) settling.ack = false;
    }
    for (const auto& synced : consumer.session->take_synced()) {
        for (const Settling& settling : consumer.settling) {
            if (synced.safe && settling.awaited && settling.message + 1 == synced.number)
                model.ack_confirmed(settling.message);
        }
    }
    if (consumer.session->unconfirmed() > 0) return;  // which of them are confirmed is told by number, not by name
    for (const Settling& settling : consumer.settling) {
        if (settling.ack) model.ack_confirmed(settling.message);
    }
    consumer.settling.clear();
}

void World::work(Consumer& consumer, bool peaceful) {
    const auto index = static_cast<std::size_t>(&consumer - consumers_.data());
    Model& model = outlet_of(consumer).model;
    while (consumer.working.size() < consumer.concurrency) {
        const auto begun = consumer.session->begin(now_.mono);
        if (!begun) break;
        const auto envelope = envelope::decode(begun->envelope.view());
        if (!envelope) {
            violation("a delivery cannot be read");
            return;
        }
        const std::uint64_t message = std::stoull(envelope->message.payload);
        note("consumer " + std::to_string(consumer.number) + " begins message " + std::to_string(message) +
             ", offset " + std::to_string(begun->offset) + ", token " + std::to_string(begun->token));
        model.begun(message, begun->offset, begun->attempt, begun->redrives > 0);
        if (strict_) check_strict_order(consumer, message, begun->offset);
        if (model.at(message).kind == Kind::kills) {
            kill_consumer(index);
            return;
        }
        const Duration takes =
            chance(0.02) ? Duration{std::chrono::seconds{pick(20)}} : Duration{std::chrono::milliseconds{pick(30)}};
        consumer.working.push_back(
            {begun->handle, message, now_.mono + (peaceful ? Duration{} : takes), begun->attempt, false, host_life_});
    }
    for (std::size_t i = 0; i < consumer.working.size();) {
        if (consumer.working[i].until > now_.mono && !consumer.working[i].lost) {
            ++i;
            continue;
        }
        const Working done = consumer.working[i];
        consumer.working.erase(consumer.working.begin() + static_cast<std::ptrdiff_t>(i));
        finish(consumer, done);
    }
}

// Nothing behind it was begun before, unless it was done by then as far as its handler knows, was late, or has stepped
// aside; and nobody else works. Only of leases that stand: the host's former lives, and those that it has ended, may
// still be at consumers that have not heard of it.
void World::check_strict_order(const Consumer& consumer, std::uint64_t message, std::uint64_t offset) {
    const auto stands = [&](const Consumer& one) { return !one.over && one.welcomed_life == host_life_; };
    if (!stands(consumer)) return;
    ++totals_.in_strict_order;
    const std::string name = "message " + std::to_string(message) + " at " + std::to_string(offset);
    Outlet& outlet = outlet_of(consumer);
    const Record& record = outlet.model.at(message);
    const bool ended = record.acked > 0 || (record.kind == Kind::rejected && record.begun > 1);
    const bool late = record.message.delay > Duration::zero() || (policy_.retry_aside && record.nacked > 0);
    if (offset < outlet.furthest && !ended && !late)
        violation(name + " was begun after one behind it, at " + std::to_string(outlet.furthest));
    outlet.furthest = std::max(outlet.furthest, offset);
    for (const Consumer& other : consumers_) {
        if (other.link.outlet != consumer.link.outlet) continue;
        for (const Working& work : other.working) {
            if (!stands(other) || work.lost || work.host_life != host_life_) continue;
            violation(name + " was begun by consumer " + std::to_string(consumer.number) + " while consumer " +
                      std::to_string(other.number) + " works on message " + std::to_string(work.message));
        }
    }
}

void World::finish(Consumer& consumer, const Working& work) {
    Record& record = outlet_of(consumer).model.at(work.message);
    protocol::ConsumerSession::Settlement settlement;
    settlement.verdict = protocol::Verdict::ack;
    switch (record.kind) {
        case Kind::fails_twice:
            if (record.nacked < 2) settlement.verdict = protocol::Verdict::nack;
            break;
        case Kind::always_fails:
            settlement.verdict = protocol::Verdict::nack;
            break;
        case Kind::rejected:
            settlement.verdict = protocol::Verdict::reject;
            break;
        case Kind::delayed:
            if (record.nacked < 1) {
                settlement.verdict = protocol::Verdict::nack;
                settlement.delay_ms = pick(2000);
            }
            break;
        case Kind::released:
            if (record.begun < 2) settlement.verdict = protocol::Verdict::release;
            break;
        default:
            break;
    }
    const bool ack = settlement.verdict == protocol::Verdict::ack;
    if (ack) ++record.acked;
    if (settlement.verdict == protocol::Verdict::nack) ++record.nacked;
    settlement.text = "as it must";
    if (ack && chance(0.1)) settlement.sync = work.message + 1;
    note("consumer " + std::to_string(consumer.number) + " settles message " + std::to_string(work.message) + " with " +
         std::to_string(static_cast<int>(settlement.verdict)));
    const std::size_t before = consumer.session->unconfirmed();
    consumer.session->settle(work.handle, settlement, now_.mono);
    if (consumer.session->unconfirmed() > before)
        consumer.settling.push_back({work.message, ack, settlement.sync != 0});
}

// Life -------------------------------------------------------------------------------------------------------------

void World::step() {
    ++totals_.steps;
    switch (pick(12)) {
        case 0:
        case 1:
            publish(producers_[pick(producers_.size())]);
            break;
        case 2:
            pass(std::chrono::milliseconds{pick(50)});
            break;
        case 3:
            pass(chance(0.02) ? Duration{std::chrono::seconds{pick(40)}}
                              : Duration{std::chrono::milliseconds{pick(300)}});
            break;
        case 4:
        case 5:
            run_job();
            break;
        case 6: {
            Producer& producer = producers_[pick(producers_.size())];
            to_host(producer.link, false);
            break;
        }
        default: {
            Consumer& consumer = consumers_[pick(consumers_count)];
            to_host(consumer.link, false);
            work(consumer, false);
            break;
        }
    }
    for (Producer& producer : producers_) to_client(producer.link, *producer.session, false);
    for (Consumer& consumer : consumers_) to_client(consumer.link, *consumer.session, false);
    if (chance(0.005)) cut(producers_[pick(producers_.size())].link);
    if (chance(0.005)) cut(consumers_[pick(consumers_count)].link);
    if (chance(0.003)) {
        Consumer& consumer = consumers_[pick(consumers_count)];
        consumer.link.up = !consumer.link.up;
    }
    if (chance(0.003)) {
        Producer& producer = producers_[pick(producers_.size())];
        producer.link.up = !producer.link.up;
    }
    if (chance(0.002)) kill_consumer(pick(consumers_count));
    if (chance(0.001)) replace_producer(pick(producers_count));
    if (named_ && chance(0.002)) replace_producer(0);
    if (durable_ && host_ && chance(0.002)) stop_host(chance(0.5));
    if (!host_ && chance(0.1)) start_host();
    if (durable_ && chance(0.0015)) {
        const std::uint64_t left[] = {no_room, settling_room};
        disk_->set_capacity(chance(0.3) ? SimDisk::unlimited : disk_->used() + left[pick(std::size(left))]);
    }
    if (host_ && chance(0.002)) admin_looks_after_the_dead();
    if (fanout_ && fan_chance(retained_ ? 0.004 : 0.001)) {
        Outlet& outlet = outlets_[fan_pick(outlets_.size())];
        if (outlet.made && !outlet.declared && !outlet.leaving) {
            note(outlet.address + " is to go");
            outlet.leaving = true;
            outlet.model.leave();
        }
    }
    let_go();
    pump();
}

// No faults any more; killers still kill.
void World::end_faults() {
    disk_->set_capacity(SimDisk::unlimited);
    if (!host_) start_host();
    for (Producer& producer : producers_) producer.link.up = true;
    for (Consumer& consumer : consumers_) consumer.link.up = true;
}

void World::calm() {
    for (Producer& producer : producers_) {
        to_host(producer.link, true);
        to_client(producer.link, *producer.session, true);
    }
    for (Consumer& consumer : consumers_) {
        to_host(consumer.link, true);
        to_client(consumer.link, *consumer.session, true);
        work(consumer, true);
    }
    let_go();
    pump();
    run_job();
    pump();
}

// Somebody else fills the disk while messages are on their way into it. What is stored is worked off all the same.
void World::stay_full() {
    if (min_free_ == 0) return;
    end_faults();
    constexpr int rounds_to_meet = 30;
    for (int round = 0; round < rounds_to_meet; ++round) {
        calm();
        pass(100ms);
    }
    note("the disk stays full");
    for (Producer& producer : producers_) publish(producer);
    disk_->set_capacity(disk_->used() + settling_room);
    const std::uint64_t refused_before = totals_.disk_full;
    std::size_t left = stored_messages();
    for (int round = 0; round < peace_rounds && left > 0; ++round) {
        calm();
        pass(std::chrono::milliseconds{1 + pick(100)});
        left = stored_messages();
    }
    if (left > 0) violation("a full node does not drain: " + std::to_string(left) + " messages are stored");
    if (totals_.disk_full > refused_before) ++totals_.drained_full;
    if (chance(0.5)) stop_host(chance(0.5));
}

void World::peace() {
    note("peace");
    end_faults();
    for (int round = 0; round < peace_rounds; ++round) {
        calm();
        if (drained()) return;
        pass(std::chrono::milliseconds{1 + pick(100)});
    }
    std::string left = "it does not drain: " + std::to_string(host_->unsettled()) + " messages are left; host " +
                       (host_->idle() ? "idle" : "busy") + (job_ ? ", a job waits" : "") + "; producers";
    for (const Producer& one : producers_)
        left += " " + std::to_string(one.session->unsafe_messages()) + one.session->waits_for();
    left += "; consumers";
    for (const Consumer& one : consumers_) {
        left += " " + std::to_string(one.session->held()) + "/" + std::to_string(one.session->unconfirmed());
    }
    violation(std::move(left));
}

std::size_t World::stored_messages() {
    constexpr std::size_t all = std::numeric_limits<std::size_t>::max();
    store::Job job;
    for (const Outlet& outlet : outlets_) {
        if (outlet.replayed) continue;  // it may have to wait for room to be whole
        job.reads.push_back({.topic = outlet.address,
                             .from = 1,
                             .to = std::numeric_limits<store::Offset>::max(),
                             .max_messages = all,
                             .max_bytes = all,
                             .bodies = false});
    }
    std::size_t stored = 0;
    for (const auto& read : store_->run(job).reads) stored += read.messages.size();
    return stored;
}

bool World::drained() {
    if (job_ || host_->unsettled() > 0 || !host_->idle()) return false;
    if (std::any_of(outlets_.begin(), outlets_.end(), [](const Outlet& one) { return one.leaving; })) return false;
    const auto done = [](const Producer& one) {
        return one.session->fenced() || (one.placed && one.session->unsafe_messages() == 0);
    };
    return std::all_of(producers_.begin(), producers_.end(), done) &&
           std::all_of(consumers_.begin(), consumers_.end(), [this](const Consumer& one) {
               const bool is_there = !outlet_of(one).replayed || one.session->connected();
               return is_there && one.working.empty() && one.session->quiet();
           });
}

// An operator edits a dead letter and sends all of them back, on a link of his own that he opens anew each time.
void World::admin_looks_after_the_dead() {
    if (operator_waits()) return;
    const std::size_t outlet = fanout_ ? fan_pick(outlets_.size()) : 0;
    if (!outlets_[outlet].leaving) operator_comes(Errand::dead_letters, outlet);
}

// He was to remove a subscription, and has not heard yet that it is gone.
bool World::operator_waits() const {
    return std::any_of(outlets_.begin(), outlets_.end(), [&](const Outlet& one) {
        return one.leaving && one.asked_life == host_life_ && now_.mono - one.asked < operator_patience;
    });
}

void World::operator_comes(Errand errand, std::size_t outlet) {
    operator_errand_ = errand;
    operator_outlet_ = outlet;
    operator_ = ++last_peer_;
    operator_out_ = protocol::FrameWriter{defaults::frame_limit};
    operator_out_.add(protocol::Hello{.role = protocol::Role::admin, .attempt = 1});
    for (std::string& bytes : operator_out_.flush()) host_->receive(operator_, Slice{std::move(bytes)}, now_);
}

// Those that are to go, one by one; again where a host died and may not have stored it, or has forgotten who asked.
void World::let_go() {
    if (!host_ || operator_waits()) return;
    for (std::size_t i = 0; i < outlets_.size(); ++i) {
        if (!outlets_[i].leaving) continue;
        outlets_[i].asked_life = host_life_;
        outlets_[i].asked = now_.mono;
        operator_comes(Errand::unsubscribe, i);
        return;
    }
}

// Its consumers come again, and with them another one of its name.
void World::has_gone(std::size_t index) {
    Outlet& outlet = outlets_[index];
    note(outlet.address + " is gone");
    totals_.add(outlet.model.gone());
    ++totals_.subscriptions_gone;
    outlet.leaving = outlet.made = outlet.storm = false;
    outlet.furthest = 0;
    for (std::size_t i = index; i < consumers_.size(); i += outlets_.size()) start_consumer(i);
}

// The host answers at once.
void World::count_drops() {
    if (!host_ || policy_.when_full != WhenFull::drop_oldest) return;
    operator_comes(Errand::drops, 0);
    collect_host();
    collect_host();
}

void World::operator_asks(const protocol::AdminRequest& request) {
    operator_out_.add(request);
    for (std::string& bytes : operator_out_.flush()) host_->receive(operator_, Slice{std::move(bytes)}, now_);
}

void World::operator_hears(const std::string& bytes) {
    const auto frame = protocol::decode_frame(Slice{bytes});
    if (!frame) {
        violation("the host sent an operator what cannot be read");
        return;
    }
    for (const protocol::Command& command : frame->commands) {
        if (std::holds_alternative<protocol::Welcome>(command)) {
            operator_out_.start_session(frame->epoch);
            const std::string& address = outlets_[operator_outlet_].address;
            if (operator_errand_ == Errand::drops) operator_asks({.id = counts, .verb = "queues"});
            if (operator_errand_ == Errand::unsubscribe)
                operator_asks({.id = removes, .verb = "unsubscribe", .address = address});
            if (operator_errand_ == Errand::dead_letters)
                operator_asks({.id = shows, .verb = "dlq_show", .address = address, .max = 1});
        } else if (const auto* result = std::get_if<protocol::AdminResult>(&command)) {
            operator_hears(*result);
        }
    }
}

void World::operator_hears(const protocol::AdminResult& result) {
    Outlet& outlet = outlets_[operator_outlet_];
    const protocol::AdminRequest redrive{.id = redrives, .verb = "dlq_redrive", .address = outlet.address};
    if (result.id == counts) {
        for (const std::string& row : result.rows) {
            Outlet* const dropped = outlet_at(std::string{field(row, "name").string()});
            for (const char* cause : {"dropped_full", "dropped_expired"}) {
                if (dropped != nullptr) dropped->model.dropped(field(row, cause).unsigned_integer());
            }
        }
        return;
    }
    if (result.id == removes) {
        // There is none: it has gone by itself, or was asked for before and may not be stored yet.
        if (result.error.empty() || (host_->idle() && !job_)) has_gone(operator_outlet_);
        return;
    }
    if (result.id == shows) {
        if (result.rows.empty()) return;  // none, or an error: the queue is not there yet
        operator_edits_ = std::stoull(std::string{field(result.rows.front(), "payload").binary()});
        operator_asks({.id = edits,
                       .verb = "dlq_edit",
                       .address = outlet.address,
                       .ids = {std::string{field(result.rows.front(), "id").string()}},
                       .change = {.headers = {{edited_header, "yes"}}}});
        if (chance(0.3)) operator_asks(redrive);  // at the same time
        return;
    }
    const std::uint64_t done = result.rows.empty() ? 0 : field(result.rows.front(), "done").unsigned_integer();
    if (result.id == redrives) {
        totals_.redriven += done;
        return;
    }
    if (done > 0 && durable_) outlet.model.edited(operator_edits_);
    if (chance(0.7)) operator_asks(redrive);
}

void World::read_dead_letters(Outlet& outlet) {
    store::Job job;
    job.dead_reads.push_back({.topic = outlet.address, .from = 0, .max = 100'000});
    while (true) {
        const store::Outcome outcome = store_->run(job);
        const auto& read = outcome.dead_reads.at(0);
        for (const auto& letter : read.letters) {
            const auto envelope = envelope::decode(letter.envelope.view());
            if (!envelope) {
                violation("a dead letter cannot be read");
                continue;
            }
            const std::uint64_t message = std::stoull(envelope->message.payload);
            outlet.model.sent_back(message, envelope->message.headers.contains(edited_header));
            outlet.model.dead_letter(message, std::string{store::to_string(letter.record.reason)},
                                     letter.record.attempts, policy_.max_attempts, letter.record.last_failure);
        }
        if (!read.more) return;
        job.dead_reads[0].from = read.letters.back().record.offset + 1;
    }
}

// What nobody takes is never confirmed, unless one with its dedup key was.
void World::check_fanout() {
    for (const auto& [message, record] : outlets_.front().model.records()) {
        if (!record.confirmed || record.refused) continue;
        ++totals_.fanned_out;
        if (!record.message.dedup_key.empty() || retained_) continue;
        const std::uint64_t number = message;
        if (std::none_of(outlets_.begin(), outlets_.end(),
                         [&](const Outlet& outlet) { return outlet.model.may_take(number); }))
            violation("message " + std::to_string(message) + " was confirmed, and no subscription takes it");
    }
}

void World::run() {
    try {
        for (std::uint32_t i = 0; i < setup_.steps && violations_.empty(); ++i) step();
        if (violations_.empty()) stay_full();
        if (violations_.empty()) peace();
        if (violations_.empty()) check_end();
        if (violations_.empty() && copy_) go_on_with_copy();
    } catch (const Error& error) {
        violation(error.what());  // the host could not start on what the disk holds
    }
}

void World::check_end() {
    count_drops();
    for (Outlet& outlet : outlets_) read_dead_letters(outlet);
    if (damaged_ > 0) violation("the host reports damage that nobody did");
    if (fanout_) check_fanout();
    const bool forgot = totals_.crashes + totals_.power_cuts > 0;
    for (Outlet& outlet : outlets_) outlet.model.at_the_end(forgot);
}

}  // namespace posthorn::sim
