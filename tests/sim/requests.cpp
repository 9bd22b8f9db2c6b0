#include "sim/requests.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

#include "envelope/envelope.hpp"
#include "store/memory_store.hpp"
#include "store/sqlite_store.hpp"

namespace posthorn::sim {

namespace {

constexpr int faulty_steps = 1500;
constexpr int calm_rounds_of_requests = 20'000;
constexpr std::uint64_t free_at_least = 128 * 1024 * 1024;  // where there is any
constexpr std::uint64_t some_room = 12 * 1024 * 1024;       // for settlements then, and for no messages
constexpr const char* service = "svc";

// A store with the bug in it.
class Forgetful : public store::Store {
public:
    Forgetful(RequestBug bug, std::unique_ptr<store::Store> inner) : bug_(bug), inner_(std::move(inner)) {}

    store::Recovery recover() override { return inner_->recover(); }
    store::Outcome run(const store::Job& job) override {
        store::Job forgetful = job;
        for (auto& batch : forgetful.batch) {
            const bool of_answers = batch.topic.find('/') != std::string::npos;
            if (bug_ == RequestBug::answers_forgotten && of_answers) batch.appends.clear();
            if (bug_ == RequestBug::ends_forgotten && !of_answers) batch.settled.clear();
            if (bug_ == RequestBug::holders_forgotten) batch.marks.clear();
        }
        return inner_->run(forgetful);
    }
    [[nodiscard]] bool durable() const noexcept override { return inner_->durable(); }

private:
    RequestBug bug_;
    std::unique_ptr<store::Store> inner_;
};

}  // namespace

void RequestTotals::add(const RequestTotals& other) {
    requests += other.requests, begun += other.begun, answered += other.answered, repeated += other.repeated;
    ok += other.ok, failed += other.failed, lost += other.lost, expired += other.expired;
    crashes += other.crashes, power_cuts += other.power_cuts, disk_full += other.disk_full;
    requester_deaths += other.requester_deaths, replier_deaths += other.replier_deaths;
}

RequestWorld::RequestWorld(std::uint64_t seed, RequestBug bug)
    : random_(seed),
      bug_(bug),
      now_{Mono{1h}, Wall{std::chrono::hours{24 * 365 * 50}}},
      durable_(bug != RequestBug::none || !chance(0.15)) {
    if (durable_ && chance(0.5)) min_free_ = free_at_least;
    policy_.lease = std::chrono::seconds{2 + pick(9)};
    if (bug == RequestBug::none && chance(0.25)) policy_.request_attempts = 3;
    policy_.backoff = {.kind = Backoff::Kind::fixed, .min = std::chrono::milliseconds{pick(500)}};
    if (chance(0.5)) {
        limits_ = {
            .tracked = 1000, .ready = 8, .bytes = 3000, .waiting = 4, .waiting_soon = 1s, .line = 3, .block = 16};
    }
    disk_ = std::make_unique<SimDisk>(seed);
    start_host();
    requesters_.resize(3);
    repliers_.resize(3);
    for (std::size_t i = 0; i < requesters_.size(); ++i) {
        requesters_[i].named = i == 0;
        start(requesters_[i], i);
    }
    for (Replier& replier : repliers_) start(replier);
}

RequestWorld::~RequestWorld() = default;

Identity RequestWorld::identity() {
    Identity id;
    for (std::size_t i = 0; i < id.bytes.size(); i += sizeof(std::uint64_t)) {
        const std::uint64_t word = random_();
        std::memcpy(id.bytes.data() + i, &word, sizeof word);
    }
    return id;
}

void RequestWorld::pass(Duration time) {
    now_.mono += time;
    now_.wall += std::chrono::duration_cast<WallClock::duration>(time);
}

void RequestWorld::note(const std::string& line) {
    log_ += std::to_string(now_.mono.time_since_epoch() / 1ms) + " " + line + "\n";
}

// Processes --------------------------------------------------------------------------------------------------------

void RequestWorld::start_host() {
    disk_->set_capacity(SimDisk::unlimited);
    store_ = store::make_memory_store();
    if (durable_) store_ = store::open_sqlite_store({.folder = "sim", .min_free = min_free_, .vfs = disk_->vfs()});
    if (bug_ != RequestBug::none) store_ = std::make_unique<Forgetful>(bug_, std::move(store_));
    host::Options options;
    options.incarnation = identity();
    options.seed = random_();
    options.defaults = policy_;
    options.limits = limits_;
    options.on_event = [this](const Event& event) {
        note("host: " + event.subject + ": " + std::string{to_string(event.kind)} + " " + event.text);
        if (event.kind == Event::Kind::damaged) violation("the host reports damage that nobody did: " + event.text);
        if (event.kind == Event::Kind::dead_lettered) violation("a request was dead-lettered: " + event.text);
        if (event.kind == Event::Kind::store_lost_confirmed) violation("the host lost what it had confirmed");
    };
    ++life_;
    host_ = std::make_unique<host::Host>(options, *store_, now_);
}

void RequestWorld::stop_host(bool power) {
    if (job_ && chance(0.5)) {
        disk_->stop_after(pick(40));  // somewhere in the middle of its writes
        static_cast<void>(store_->run(*job_));
    }
    note(power ? "power cut" : "host killed");
    disk_->stop_after(0);
    job_.reset();
    host_.reset();
    store_.reset();
    disk_->restart(power);
    ++(power ? totals_.power_cuts : totals_.crashes);
    each_link([this](Link& link) { cut(link); });
}

void RequestWorld::connect(Link& link) {
    link = {};
    link.at_client = ++last_peer_;
    link.at_host = ++last_peer_;
}

void RequestWorld::cut(Link& link) {
    link.to_host.clear();
    link.to_client.clear();
    link.at_host = ++last_peer_;
}

// In the place of a former one, if there was one.
void RequestWorld::start(Requester& requester, std::size_t index) {
    const bool first = requester.id.is_zero();
    if (!requester.named) {
        std::erase_if(requests_, [&](const auto& one) { return one.first.first == requester.id; });
        requester.sent = 0;
    }
    if (first || !requester.named) requester.id = identity();
    requester.placed = !requester.named;
    note("requester " + requester.id.hex().substr(0, 8) + " starts");
    requester.name = requester.named ? "named" : "r" + std::to_string(index) + "-" + requester.id.hex().substr(0, 8);
    requester.asks = std::make_unique<protocol::ProducerSession>(
        protocol::ProducerSession::Options{.producer = requester.id,
                                           .incarnation = requester.named ? identity() : Identity{},
                                           .queue = service,
                                           .name = requester.named ? requester.name : "",
                                           .replies = requester.name,
                                           .keeps_replies = requester.named});
    requester.hears = std::make_unique<protocol::ConsumerSession>(
        protocol::ConsumerSession::Options{.incarnation = identity(),
                                           .queue = replies_of(service) + "/" + requester.name,
                                           .name = requester.named ? requester.name : "",
                                           .concurrency = 10,
                                           .prefetch = 10,
                                           .temporary = !requester.named});
    connect(requester.asking);
    connect(requester.hearing);
    requester.asks->add_link(requester.asking.at_client, "host");
    requester.hears->add_host(requester.hearing.at_client, "host");
}

void RequestWorld::start(Replier& replier) {
    replier.concurrency = static_cast<std::uint32_t>(1 + pick(4));
    replier.working.clear();
    replier.settling.clear();
    connect(replier.link);
    const Identity incarnation = identity();
    replier.label = incarnation.hex().substr(0, 8);
    note("replier " + replier.label + " starts");
    replier.session = std::make_unique<protocol::ConsumerSession>(
        protocol::ConsumerSession::Options{.incarnation = incarnation,
                                           .queue = service,
                                           .name = &replier == &repliers_.front() ? "one" : "",
                                           .concurrency = replier.concurrency,
                                           .replier = true});
    replier.session->add_host(replier.link.at_client, "host");
}

// Ends -------------------------------------------------------------------------------------------------------------

void RequestWorld::ask(Requester& requester) {
    if (!requester.placed || requester.asks->fenced()) return;
    for (std::uint64_t count = 1 + pick(6); count > 0; --count) {
        envelope::Envelope envelope{
            .producer = requester.id, .sequence = ++requester.sent, .previous = requester.sent - 1};
        envelope.reply_to = requester.name;
        // The answers to the others wait for them for a day then, however long they are cut off.
        if (requester.named && chance(0.5))
            envelope.message.ttl = std::chrono::milliseconds{1 + pick(chance(0.5) ? 20'000 : 500)};
        if (chance(0.1)) envelope.message.delay = std::chrono::milliseconds{1 + pick(2000)};
        if (chance(0.2)) envelope.message.ordering_key = "k" + std::to_string(pick(3));
        if (chance(0.05)) envelope.message.payload.assign(pick(20'000), 'x');
        std::string bytes;
        envelope::encode(envelope, bytes);
        requester.asks->offer(Slice{std::move(bytes)});
        requests_.try_emplace({requester.id, envelope.sequence});
        ++totals_.requests;
    }
}

void RequestWorld::listen(Requester& requester) {
    const auto news = requester.asks->take_news();
    if (!requester.placed && requester.asks->place()) {
        requester.placed = true;
        requester.sent = *requester.asks->place();
        // What the life before had asked up to there is taken, and what is behind never will be.
        std::erase_if(requests_, [&](const auto& one) {
            return one.first.first == requester.id && one.first.second > requester.sent;
        });
        for (auto& [id, request] : requests_) request.safe |= id.first == requester.id;
    }
    for (const auto& range : news.safe) {
        for (auto sequence = range.first; sequence <= range.last; ++sequence) {
            const auto found = requests_.find({requester.id, sequence});
            if (found != requests_.end()) found->second.safe = true;
        }
    }
    if (!news.refused.empty()) violation("a request was refused: " + news.refused.front().text);
    while (requester.placed) {
        const auto begun = requester.hears->begin(now_.mono);
        if (!begun) break;
        const auto answer = envelope::decode(begun->envelope.view());
        if (!answer || answer->producer != requester.id) {
            violation("an answer that cannot be read, or is another's");
            return;
        }
        const auto found = requests_.find({answer->producer, answer->sequence});
        if (found == requests_.end()) {
            violation("an answer to request " + std::to_string(answer->sequence) + ", which was never taken");
            return;
        }
        Request& request = found->second;
        ++totals_.answered;
        note("requester " + requester.name + " hears of " + std::to_string(answer->sequence) + " " + answer->status +
             ", offset " + std::to_string(begun->offset));
        if (request.answers.contains(answer->status + ":" + answer->message.payload)) ++totals_.repeated;
        request.answers.insert(answer->status + ":" + answer->message.payload);
        if (request.answers.size() > 1) {
            std::string both;
            for (const std::string& one : request.answers) both += " \"" + one + "\"";
            violation("request " + std::to_string(answer->sequence) + " has several answers:" + both);
        }
        ++(answer->status.empty()                             ? totals_.ok
           : answer->status == envelope::status::replier_lost ? totals_.lost
           : answer->status == envelope::status::expired      ? totals_.expired
                                                              : totals_.failed);
        requester.hears->settle(begun->handle, {}, now_.mono);
    }
    for (const Event& event : requester.hears->take_events())
        note("requester " + requester.name + ": " + std::string{to_string(event.kind)} + " " + event.text);
    (void)requester.hears->take_lost();
}

void RequestWorld::work(Replier& replier, bool peaceful) {
    for (const Event& event : replier.session->take_events()) {
        note("replier " + replier.label + ": " + std::string{to_string(event.kind)} + " " + event.text);
        if (event.kind == Event::Kind::stale_delivery) replier.settling.clear();  // which are meant is not told
    }
    (void)replier.session->take_lost();
    if (replier.session->unconfirmed() == 0) {
        for (const Working& work : std::exchange(replier.settling, {})) {
            // What the life before has ended is confirmed as well: nobody knows any more by whom.
            const auto found = requests_.find(work.request);
            if (found != requests_.end() && work.life == life_) found->second.must_be_ok = true;
        }
    }
    while (replier.working.size() < replier.concurrency) {
        auto begun = replier.session->begin(now_.mono);
        if (!begun) break;
        const auto routing = envelope::read_routing(begun->envelope.view());
        const RequestId id{routing->producer, routing->sequence};
        ++totals_.begun;
        note("replier " + replier.label + " begins " + id.first.hex().substr(0, 8) + "-" + std::to_string(id.second) +
             ", offset " + std::to_string(begun->offset) + ", token " + std::to_string(begun->token));
        const auto found = requests_.find(id);
        if (found != requests_.end() && ++found->second.begun > 1 && policy_.request_attempts == 1)
            violation("request " + std::to_string(id.second) + " was begun twice");
        const Duration takes =
            chance(0.05) ? Duration{std::chrono::seconds{pick(20)}} : Duration{std::chrono::milliseconds{pick(30)}};
        replier.working.push_back(
            {begun->handle, id, begun->envelope, now_.mono + (peaceful ? Duration{} : takes), life_});
    }
    for (std::size_t i = 0; i < replier.working.size();) {
        if (replier.working[i].until > now_.mono) {
            ++i;
            continue;
        }
        const Working done = replier.working[i];
        replier.working.erase(replier.working.begin() + static_cast<std::ptrdiff_t>(i));
        finish(replier, done);
    }
}

void RequestWorld::finish(Replier& replier, const Working& work) {
    protocol::ConsumerSession::Settlement settlement;
    const std::uint64_t how = pick(20);
    const bool answers = how >= 4;
    if (how == 0) settlement = {.verdict = protocol::Verdict::nack, .text = "as it must"};
    if (how == 1) settlement = {.verdict = protocol::Verdict::reject, .text = "never"};
    if (how == 2) settlement = {.verdict = protocol::Verdict::undecodable, .text = "what is that"};
    if (answers) {
        const envelope::Request request = envelope::read_request(work.envelope.view());
        settlement.reply = Slice{envelope::answer(request, {}, {.payload = std::to_string(random_())})};
    }
    note("replier " + replier.label + " settles " + std::to_string(work.request.second) + " with " +
         std::to_string(how));
    const std::size_t before = replier.session->unconfirmed();
    replier.session->settle(work.handle, settlement, now_.mono);
    if (answers && replier.session->unconfirmed() > before) replier.settling.push_back(work);
}

// Life -------------------------------------------------------------------------------------------------------------

template <typename Visit>
void RequestWorld::each_link(Visit visit) {
    for (Requester& one : requesters_) {
        visit(one.asking);
        visit(one.hearing);
    }
    for (Replier& one : repliers_) visit(one.link);
}

template <typename Session>
void RequestWorld::exchange(Link& link, Session& session, bool all) {
    session.turn(now_);
    for (auto& frame : session.take_frames()) link.to_host.push_back(std::move(frame.bytes));
    if (!link.up || !host_) {
        link.to_host.clear();
        return;
    }
    for (std::size_t count = all ? link.to_host.size() : pick(link.to_host.size() + 1); count > 0; --count) {
        host_->receive(link.at_host, Slice{std::move(link.to_host.front())}, now_);
        link.to_host.pop_front();
    }
    for (std::size_t count = all ? link.to_client.size() : pick(link.to_client.size() + 1); count > 0; --count) {
        session.receive(link.at_client, Slice{std::move(link.to_client.front())}, now_);
        link.to_client.pop_front();
    }
}

void RequestWorld::pump() {
    if (!host_) return;
    host_->turn(now_);
    std::map<PeerId, Link*> links;
    each_link([&](Link& link) { links[link.at_host] = &link; });
    for (host::OutFrame& frame : host_->take_frames()) {
        const auto link = links.find(frame.peer);
        if (link != links.end() && link->second->up) link->second->to_client.push_back(std::move(frame.bytes));
    }
    if (!job_) job_ = host_->take_job(now_);
}

void RequestWorld::run_job() {
    if (!job_ || !host_) return;
    store::Outcome outcome = store_->run(*job_);
    if (outcome.failure == store::Failure::full) ++totals_.disk_full;
    if (outcome.failure == store::Failure::failed) violation("the store failed: " + outcome.text);
    job_.reset();
    host_->complete(std::move(outcome), now_);
}

void RequestWorld::step() {
    if (chance(0.15)) ask(requesters_[pick(requesters_.size())]);
    pass(chance(0.004) ? Duration{std::chrono::seconds{pick(30)}} : Duration{std::chrono::milliseconds{pick(60)}});
    if (chance(0.6)) run_job();
    for (Requester& one : requesters_) {
        exchange(one.asking, *one.asks, false);
        exchange(one.hearing, *one.hears, false);
        listen(one);
    }
    for (Replier& one : repliers_) {
        exchange(one.link, *one.session, false);
        work(one, false);
    }
    each_link([this](Link& link) {
        if (chance(0.002)) cut(link);
        if (chance(0.001)) {
            cut(link);
            link.up = !link.up;
        }
    });
    if (chance(0.003)) {
        ++totals_.replier_deaths;
        start(repliers_[pick(repliers_.size())]);
    }
    if (chance(0.002)) {
        ++totals_.requester_deaths;
        const std::size_t index = pick(requesters_.size());
        start(requesters_[index], index);
    }
    if (durable_ && host_ && chance(0.003)) stop_host(chance(0.5));
    if (!host_ && chance(0.1)) start_host();
    if (durable_ && chance(0.002)) {
        disk_->set_capacity(chance(0.5) ? SimDisk::unlimited
                                        : disk_->used() + (min_free_ == 0 ? 64 * 1024 : some_room));
    }
    pump();
}

void RequestWorld::calm() {
    for (Requester& one : requesters_) {
        exchange(one.asking, *one.asks, true);
        exchange(one.hearing, *one.hears, true);
        listen(one);
    }
    for (Replier& one : repliers_) {
        exchange(one.link, *one.session, true);
        work(one, true);
    }
    pump();
    run_job();
    pump();
}

// Nothing is left that could be answered.
bool RequestWorld::drained() {
    if (job_ || !host_->idle()) return false;
    const bool quiet = std::all_of(requesters_.begin(), requesters_.end(), [](const Requester& one) {
        return one.placed && one.asks->unsafe_messages() == 0 && one.hears->quiet();
    });
    if (!quiet || !std::all_of(repliers_.begin(), repliers_.end(),
                               [](const Replier& one) { return one.working.empty() && one.session->quiet(); })) {
        return false;
    }
    store::Job job;
    constexpr std::size_t all = std::numeric_limits<std::size_t>::max();
    std::vector<std::string> topics{service};
    for (const Requester& one : requesters_) topics.push_back(replies_of(service) + "/" + one.name);
    for (const std::string& topic : topics) {
        job.reads.push_back({.topic = topic,
                             .from = 1,
                             .to = std::numeric_limits<store::Offset>::max(),
                             .max_messages = all,
                             .max_bytes = all,
                             .bodies = false});
    }
    const auto outcome = store_->run(job);
    return std::all_of(outcome.reads.begin(), outcome.reads.end(),
                       [](const store::ReadResult& read) { return read.messages.empty(); });
}

void RequestWorld::run() {
    for (int i = 0; i < faulty_steps && violations_.empty(); ++i) step();
    disk_->set_capacity(SimDisk::unlimited);
    if (!host_) start_host();
    each_link([](Link& link) { link.up = true; });
    bool done = false;
    for (int round = 0; round < calm_rounds_of_requests && violations_.empty() && !done; ++round) {
        calm();
        done = drained();
        pass(std::chrono::milliseconds{1 + pick(100)});
    }
    if (!violations_.empty()) return;
    if (!done) violation("it does not drain: " + std::to_string(host_->unsettled()) + " are left");
    check_end();
}

void RequestWorld::check_end() {
    for (const auto& [id, request] : requests_) {
        const std::string name = "request " + id.first.hex().substr(0, 8) + "-" + std::to_string(id.second);
        if (request.safe && request.answers.empty()) violation(name + " was taken and never answered");
        if (request.must_be_ok && !request.answers.empty() && !request.answers.begin()->starts_with(':'))
            violation(name + " has the answer " + *request.answers.begin() + ", though its replier's was confirmed");
    }
}

}  // namespace posthorn::sim
