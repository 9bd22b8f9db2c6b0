// The host against a peer that says exactly what the test wants said.
#include "envelope/wire.hpp"
#include "fixture.hpp"

namespace posthorn::host {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST_F(HostFixture, WelcomesAProducerAndGivesItCredit) {
    make();
    Peer producer = hello(1, protocol::Role::producer, 1);
    const auto commands = heard(producer);
    ASSERT_GE(commands.size(), 2U);
    EXPECT_EQ(std::get<protocol::Welcome>(commands[0]).attempt, 1U);
    EXPECT_GT(std::get<protocol::Credit>(commands[1]).messages, 0U);
}

// Producers that come under one name, with the id that goes with it.
class NamedProducers : public HostFixture {
protected:
    static constexpr std::uint8_t name = 50;

    Peer come(PeerId id, std::uint8_t life, bool resumed = false) {
        Peer peer{.id = id};
        say(peer, protocol::Hello{.role = protocol::Role::producer,
                                  .address = "q",
                                  .name = "importer",
                                  .incarnation = identity(life),
                                  .producer = identity(name),
                                  .resumed = resumed,
                                  .attempt = 1});
        return peer;
    }
    std::optional<std::uint64_t> place(Peer& peer) {
        std::optional<std::uint64_t> told;
        for (const auto& confirm : heard_of<protocol::Confirm>(peer)) {
            if (confirm.resume) told = confirm.resume;
        }
        return told;
    }
    void publish(Peer& peer, std::uint64_t sequence) {
        say(peer, protocol::Publish{{envelope_of(identity(name), sequence)}});
    }
    bool is_fenced(Peer& peer) {
        const auto refusals = heard_of<protocol::Refusal>(peer);
        return !refusals.empty() && refusals.back().code == "fenced";
    }
    void restart() {
        host.reset();
        store.reset();
        said.clear();
        make({}, store::open_sqlite_store({.folder = folder.path(), .min_free = 0, .vfs = {}}));
        work();
    }

    TempFolder folder;
};

TEST_F(NamedProducers, AreToldTheirPlace) {
    make();
    Peer first = come(1, 1);
    EXPECT_EQ(place(first), 0U);
    publish(first, 1);
    publish(first, 2);
    say(first, protocol::Bye{});
    Peer second = come(2, 2);
    EXPECT_EQ(place(second), 2U);
    publish(second, 3);
    EXPECT_EQ(heard_of<protocol::Confirm>(second).at(0).held, 3U);
    Peer again = come(3, 2, true);
    EXPECT_EQ(place(again), std::nullopt) << "it knows";
}

TEST_F(NamedProducers, AreToldAPlaceThatIsOnTheDisk) {
    make_tight();
    stores = false;
    Peer first = come(1, 1);
    EXPECT_EQ(place(first), std::nullopt) << "that the name is its own is not stored";
    stores = true;
    pass(0ms);
    EXPECT_EQ(place(first), 0U) << "at once, without waiting for company";
    stores = false;
    publish(first, 1);
    Peer second = come(2, 2);
    EXPECT_TRUE(is_fenced(first));
    EXPECT_EQ(place(second), std::nullopt) << "message 1 could still be lost, and nobody has it any more";
    stores = true;
    pass(0ms);
    EXPECT_EQ(place(second), 1U);
}

TEST_F(NamedProducers, TheLaterFencesTheEarlierForGood) {
    make();
    Peer first = come(1, 1);
    EXPECT_EQ(place(first), 0U);
    Peer second = come(2, 2);
    EXPECT_TRUE(is_fenced(first));
    for (const bool resumed : {false, true}) {
        Peer again = come(3, 1, resumed);
        EXPECT_TRUE(is_fenced(again));
    }
    EXPECT_EQ(place(second), 0U);
    publish(second, 1);
    EXPECT_EQ(heard_of<protocol::Confirm>(second).at(0).held, 1U) << "undisturbed";
    const auto fencings =
        std::count_if(events.begin(), events.end(), [](const Event& event) { return event.code == "fenced"; });
    EXPECT_EQ(fencings, 3);
}

TEST_F(NamedProducers, TheEarlierStaysFencedOverRestarts) {
    restart();
    Peer first = come(1, 1);
    EXPECT_EQ(place(first), 0U);
    publish(first, 1);
    host->drain(1s, now);
    restart();
    Peer second = come(2, 2);
    EXPECT_EQ(place(second), 1U);
    publish(second, 2);
    restart();
    // The first one was cut off all the time and does not know. What it has numbered 2 is another message.
    Peer back = come(1, 1, true);
    EXPECT_TRUE(is_fenced(back));
    Peer second_back = come(2, 2, true);
    EXPECT_EQ(heard_of<protocol::Welcome>(second_back).at(0).watermark, 2U);
    Peer third = come(3, 3);
    EXPECT_TRUE(is_fenced(second_back));
    EXPECT_EQ(place(third), 2U);
}

TEST_F(NamedProducers, AMessageWithAKnownDedupKeyIsConfirmedAndNotHandedOut) {
    const auto send = [this](Peer& peer, std::uint64_t sequence) {
        envelope::Envelope envelope{.producer = identity(name), .sequence = sequence, .previous = sequence - 1};
        envelope.message.dedup_key = "invoice 42";
        std::string bytes;
        envelope::encode(envelope, bytes);
        say(peer, protocol::Publish{{Slice{std::move(bytes)}}});
        pass(defaults::settle_delay);
        return stored(peer);
    };
    const auto handed_out = [this](PeerId id) {
        Peer consumer = hello(id, protocol::Role::consumer, static_cast<std::uint8_t>(id));
        std::size_t count = 0;
        for (const auto& deliver : heard_of<protocol::Deliver>(consumer)) {
            count += deliver.items.size();
            for (const auto& one : deliver.items) ack(consumer, one);
        }
        pass(defaults::settle_delay);
        return count;
    };
    restart();
    Peer first = come(1, 1);
    EXPECT_EQ(place(first), 0U);
    EXPECT_EQ(send(first, 1), 1U);
    EXPECT_EQ(send(first, 2), 2U) << "a ticket for it is confirmed as any other";
    EXPECT_EQ(handed_out(3), 1U);
    restart();
    Peer second = come(2, 2);
    EXPECT_EQ(place(second), 2U);
    EXPECT_EQ(send(second, 3), 3U);
    EXPECT_EQ(handed_out(4), 0U);
    now.wall += std::chrono::duration_cast<WallClock::duration>(defaults::dedup_window);
    pass(defaults::dedup_window);
    Peer third = come(5, 3);
    EXPECT_EQ(place(third), 3U);
    EXPECT_EQ(send(third, 4), 4U);
    EXPECT_EQ(handed_out(6), 1U);
}

TEST_F(NamedProducers, OneThatWasNotToldItsPlaceMayStillTakeTheName) {
    restart();
    Peer first = come(1, 1);
    EXPECT_EQ(place(first), 0U);
    stores = false;
    const Peer second = come(2, 2);
    restart();  // before it was stored that the name is the second's
    stores = true;
    Peer back = come(2, 2);
    EXPECT_EQ(place(back), 0U);
    Peer first_back = come(1, 1, true);
    EXPECT_TRUE(is_fenced(first_back));
}

TEST_F(NamedProducers, WhoUsesTheIdWithoutTheNameIsFencedAsWell) {
    make();
    Peer nameless = hello(1, protocol::Role::producer, name);
    const Peer named = come(2, 1);
    EXPECT_TRUE(is_fenced(nameless));
    const Peer nameless_again = hello(3, protocol::Role::producer, 7);
    EXPECT_THAT(events, SizeIs(1));
}

TEST_F(HostFixture, AnotherVersionIsRefusedByName) {
    make();
    Peer peer{.id = 1};
    say(peer, protocol::Hello{.version = 7, .address = "q", .incarnation = identity(1)});
    const auto refusals = heard_of<protocol::Refusal>(peer);
    ASSERT_THAT(refusals, SizeIs(1));
    EXPECT_EQ(refusals[0].code, "bad_version");
    EXPECT_THAT(refusals[0].text, HasSubstr("7"));
}

TEST_F(HostFixture, UnknownQueueWithoutAutoCreate) {
    Options options;
    options.queues["other"] = {};
    options.auto_create = false;
    make(std::move(options));
    Peer peer = hello(1, protocol::Role::consumer, 1);
    const auto refusals = heard_of<protocol::Refusal>(peer);
    ASSERT_THAT(refusals, SizeIs(1));
    EXPECT_EQ(refusals[0].code, "unknown_queue");
}

TEST_F(HostFixture, ForeignBytesAreDroppedAndCountedAndAnswerNothing) {
    make();
    for (int i = 0; i < 150; ++i) host->receive(5, Slice{std::string(static_cast<std::size_t>(i), '\xc1')}, now);
    work();
    EXPECT_THAT(said[5], IsEmpty());
    ASSERT_THAT(events, SizeIs(3)) << "the 1st, 10th and 100th";
    EXPECT_EQ(events.back().kind, Event::Kind::dropped);
    EXPECT_EQ(events.back().count, 100U);
}

TEST_F(HostFixture, AFrameOfAnUnknownSessionIsAskedForItsHelloOnce) {
    make();
    Peer stranger{.id = 4};
    stranger.out.start_session(12345);
    say(stranger, protocol::Window{.messages = 1});
    say(stranger, protocol::Window{.messages = 1});
    EXPECT_THAT(heard_of<protocol::Identify>(stranger), SizeIs(1));
}

TEST_F(HostFixture, MoreThanTheCreditIsRefused) {
    Options options;
    options.defaults.max_messages = 10;
    make(std::move(options));
    Peer producer = hello(1, protocol::Role::producer, 1);
    static_cast<void>(heard(producer));
    protocol::Publish flood;
    for (std::uint64_t sequence = 1; sequence <= 20; ++sequence)
        flood.envelopes.push_back(envelope_of(identity(1), sequence));
    say(producer, flood);
    const auto refusals = heard_of<protocol::Refusal>(producer);
    ASSERT_THAT(refusals, SizeIs(1));
    EXPECT_EQ(refusals[0].code, "no_credit");
    EXPECT_LE(host->unsettled(), 10U) << "a bound is a bound";
}

TEST_F(HostFixture, AnEnvelopeOfAnotherProducerEndsTheSession) {
    make();
    Peer producer = hello(1, protocol::Role::producer, 1);
    static_cast<void>(heard(producer));
    say(producer, protocol::Publish{{envelope_of(identity(2), 1)}});
    const auto refusals = heard_of<protocol::Refusal>(producer);
    ASSERT_THAT(refusals, SizeIs(1));
    EXPECT_EQ(refusals[0].code, "malformed");
    EXPECT_EQ(host->unsettled(), 0U);
}

TEST_F(HostFixture, TooLargeIsARefusalOfTheMessageOnly) {
    Options options;
    options.message_limit = 1000;
    make(std::move(options));
    Peer producer = hello(1, protocol::Role::producer, 1);
    static_cast<void>(heard(producer));
    say(producer, protocol::Publish{{envelope_of(identity(1), 1, 2000), envelope_of(identity(1), 2)}});
    std::vector<protocol::Refused> refused;
    for (const auto& confirm : heard_of<protocol::Confirm>(producer)) {
        refused.insert(refused.end(), confirm.refused.begin(), confirm.refused.end());
    }
    ASSERT_THAT(refused, SizeIs(1));
    EXPECT_EQ(refused[0].sequence, 1U);
    EXPECT_EQ(refused[0].code, "too_large");
    EXPECT_EQ(host->unsettled(), 1U);
}

TEST_F(HostFixture, ALaterConsumerUnderTheSameNameFencesTheEarlier) {
    make();
    Peer first = hello(1, protocol::Role::consumer, 1, "one");
    static_cast<void>(heard(first));
    Peer second = hello(2, protocol::Role::consumer, 2, "one");
    const auto refusals = heard_of<protocol::Refusal>(first);
    ASSERT_THAT(refusals, SizeIs(1));
    EXPECT_EQ(refusals[0].code, "fenced");
    EXPECT_THAT(heard_of<protocol::Welcome>(second), SizeIs(1));
    Peer again = hello(3, protocol::Role::consumer, 1, "one");
    EXPECT_THAT(heard_of<protocol::Refusal>(again), SizeIs(1)) << "it must not fence in its turn";
}

TEST_F(HostFixture, SubscribersThatComeAtOnceWithDifferentBindingsAreBothWelcome) {
    make();
    stores = false;
    Peer peers[] = {{.id = 1}, {.id = 2}};
    for (Peer& peer : peers) {
        const auto n = static_cast<std::uint8_t>(peer.id);
        say(peer, protocol::Hello{.role = protocol::Role::consumer,
                                  .address = "t/s",
                                  .incarnation = identity(n),
                                  .attempt = 1,
                                  .bindings = std::vector<Binding>{{.subject = std::to_string(n)}}});
    }
    constexpr int enough = 10;  // commits; each would find them bound anew
    int commits = 0;
    for (; commits < enough; ++commits) {
        host->turn(now);
        const auto job = host->take_job(now);
        if (!job) break;
        host->complete(store->run(*job), now);
    }
    EXPECT_LT(commits, enough);
    work();
    for (Peer& peer : peers) EXPECT_THAT(heard_of<protocol::Welcome>(peer), SizeIs(1)) << peer.id;
}

TEST_F(HostFixture, ASilentPeerIsGivenUpAndItsLeasesWait) {
    make();
    Peer producer = hello(1, protocol::Role::producer, 1);
    static_cast<void>(heard(producer));
    say(producer, protocol::Publish{{envelope_of(identity(1), 1)}});
    Peer consumer = hello(2, protocol::Role::consumer, 2);
    ASSERT_THAT(heard_of<protocol::Deliver>(consumer), SizeIs(1));
    for (int i = 0; i < 8; ++i) {
        now.mono += 1s;
        work();
    }
    EXPECT_TRUE(
        std::any_of(events.begin(), events.end(), [](const Event& one) { return one.kind == Event::Kind::lost; }));
    Peer other = hello(3, protocol::Role::consumer, 3);
    EXPECT_THAT(heard_of<protocol::Deliver>(other), IsEmpty()) << "losing a link is not dying";
    now.mono += 30s;
    work();
    EXPECT_THAT(heard_of<protocol::Deliver>(other), SizeIs(1)) << "the lease is over";
}

TEST_F(HostFixture, DrainSaysByeAndTakesNothingMore) {
    make();
    Peer producer = hello(1, protocol::Role::producer, 1);
    static_cast<void>(heard(producer));
    host->drain(500ms, now);
    work();
    const auto byes = heard_of<protocol::Bye>(producer);
    ASSERT_THAT(byes, SizeIs(1));
    EXPECT_EQ(byes[0].retry_after_ms, 500U);
    Peer late{.id = 2};
    say(late, protocol::Hello{.address = "q", .incarnation = identity(3)});
    EXPECT_THAT(heard_of<protocol::Bye>(late), SizeIs(1));
    EXPECT_FALSE(host->idle()) << "the producer has not read the bye yet";
    say(producer, protocol::Bye{.answer = true});
    work();
    EXPECT_TRUE(host->idle());
}

TEST_F(HostFixture, DrainDoesNotWaitForEverForAnAnswer) {
    make();
    Peer consumer = hello(1, protocol::Role::consumer, 1);
    host->drain(500ms, now);
    work();
    EXPECT_FALSE(host->idle());
    EXPECT_LE(host->next_deadline(), now.mono + 500ms);
    now.mono += 500ms;
    work();
    EXPECT_TRUE(host->idle());
}

TEST_F(HostFixture, OperatorsSeeQueuesThatAreConfiguredAndNotUsedYet) {
    Options options;
    options.queues["b"] = {};
    options.queues["q"] = {};
    make(std::move(options));
    hello(1, protocol::Role::producer, 1);
    Peer admin{.id = 2};
    say(admin, protocol::Hello{.role = protocol::Role::admin, .attempt = 1});
    static_cast<void>(heard(admin));
    say(admin, protocol::AdminRequest{.id = 1, .verb = "queues"});
    auto results = heard_of<protocol::AdminResult>(admin);
    ASSERT_THAT(results, SizeIs(1));
    ASSERT_THAT(results[0].rows, SizeIs(2));
    EXPECT_THAT(results[0].rows[0], HasSubstr("name\xa1"
                                              "b"));
    EXPECT_THAT(results[0].rows[1], HasSubstr("name\xa1"
                                              "q"));
    say(admin, protocol::AdminRequest{.id = 2, .verb = "dlq_list", .address = "b"});
    results = heard_of<protocol::AdminResult>(admin);
    ASSERT_THAT(results, SizeIs(1));
    EXPECT_THAT(results[0].rows, IsEmpty());
    EXPECT_EQ(results[0].error, "");
}

TEST_F(HostFixture, OperatorsSeeTheQueuesAndSendDeadLettersBack) {
    make();
    Peer producer = hello(1, protocol::Role::producer, 1);
    static_cast<void>(heard(producer));
    say(producer, protocol::Publish{{envelope_of(identity(1), 1)}});
    Peer consumer = hello(2, protocol::Role::consumer, 2);
    const auto delivered = heard_of<protocol::Deliver>(consumer);
    ASSERT_THAT(delivered, SizeIs(1));
    const auto& one = delivered[0].items.at(0);
    say(consumer, protocol::Settle{.others = {{one.offset, one.token, protocol::Verdict::reject, {}, "no"}}});

    Peer admin{.id = 3};
    say(admin, protocol::Hello{.role = protocol::Role::admin, .attempt = 1});
    static_cast<void>(heard(admin));
    say(admin, protocol::AdminRequest{.id = 1, .verb = "dlq_list", .address = "q"});
    auto results = heard_of<protocol::AdminResult>(admin);
    ASSERT_THAT(results, SizeIs(1));
    EXPECT_THAT(results[0].rows, SizeIs(1));
    say(admin, protocol::AdminRequest{.id = 2, .verb = "dlq_redrive", .address = "q", .reason = "max_attempts"});
    static_cast<void>(heard(admin));
    EXPECT_THAT(heard_of<protocol::Deliver>(consumer), IsEmpty()) << "it was rejected: the filter leaves it alone";
    say(admin, protocol::AdminRequest{.id = 3, .verb = "dlq_redrive", .address = "q"});
    const auto again = heard_of<protocol::Deliver>(consumer);
    ASSERT_THAT(again, SizeIs(1));
    EXPECT_EQ(again[0].items.at(0).redrives, 1U);
    say(admin, protocol::AdminRequest{.id = 4, .verb = "dlq_list", .address = "nothing"});
    results = heard_of<protocol::AdminResult>(admin);
    EXPECT_THAT(results.back().error, HasSubstr("nothing"));
    say(admin, protocol::AdminRequest{.id = 5, .verb = "backup", .folder = "/somewhere"});
    results = heard_of<protocol::AdminResult>(admin);
    EXPECT_THAT(results.back().error, HasSubstr("in memory"));
}

// Dead letters of their own for who looks after them: rejected, one a minute.
class DeadLettersFixture : public HostFixture {
protected:
    void SetUp() override { make(); }
    void make(Options options = {}, std::unique_ptr<store::Store> on = store::make_memory_store()) {
        HostFixture::make(std::move(options), std::move(on));
        meet();
    }
    TightStore& make_tight() {
        TightStore& tight = HostFixture::make_tight();
        meet();
        return tight;
    }
    void meet() {
        producer = hello(1, protocol::Role::producer, 1);
        consumer = hello(2, protocol::Role::consumer, 2);
        admin = {.id = 3};
        say(admin, protocol::Hello{.role = protocol::Role::admin, .attempt = 1});
        for (Peer* peer : {&producer, &consumer, &admin}) static_cast<void>(heard(*peer));
    }
    void minute() {
        for (int i = 0; i < 6; ++i) {
            now.mono += 10s;
            now.wall += 10s;
            for (Peer* peer : {&producer, &consumer, &admin}) {
                peer->out.heartbeat();
                for (std::string& bytes : peer->out.flush()) host->receive(peer->id, Slice{std::move(bytes)}, now);
            }
            work();
        }
        for (Peer* peer : {&producer, &consumer, &admin}) static_cast<void>(heard(*peer));
    }
    std::string reject(Slice envelope, const std::string& text) {
        say(producer, protocol::Publish{{std::move(envelope)}});
        const auto given = heard_of<protocol::Deliver>(consumer);
        EXPECT_THAT(given, SizeIs(1));
        const auto& one = given.at(0).items.at(0);
        say(consumer, protocol::Settle{.others = {{one.offset, one.token, protocol::Verdict::reject, {}, text}}});
        minute();
        return envelope::message_id(identity(1), sent, 0);
    }
    std::string reject(Message message, const std::string& text) {
        envelope::Envelope envelope;
        envelope.producer = identity(1);
        envelope.previous = sent;
        envelope.sequence = ++sent;
        envelope.message = std::move(message);
        std::string bytes;
        envelope::encode(envelope, bytes);
        return reject(Slice{std::move(bytes)}, text);
    }
    protocol::AdminResult ask(protocol::AdminRequest request) {
        request.id = ++asked;
        if (request.address.empty()) request.address = "q";
        say(admin, request);
        auto results = heard_of<protocol::AdminResult>(admin);
        EXPECT_THAT(results, SizeIs(1));
        return results.empty() ? protocol::AdminResult{} : std::move(results.front());
    }
    std::vector<std::string> ids(protocol::AdminRequest request = {}) {
        request.verb = "dlq_list";
        std::vector<std::string> found;
        for (const std::string& row : ask(std::move(request)).rows) found.push_back(text_of(row, "id"));
        return found;
    }
    protocol::AdminRequest edit_of(const std::string& id, envelope::Change change) {
        return {.verb = "dlq_edit", .address = "q", .ids = {id}, .change = std::move(change)};
    }
    std::string show(const std::string& id) {
        const auto rows = ask({.verb = "dlq_show", .ids = {id}}).rows;
        EXPECT_THAT(rows, SizeIs(1));
        return rows.empty() ? std::string{} : rows.front();
    }
    static wire::Reader field(const std::string& row, std::string_view name) {
        wire::Reader in{row};
        for (std::uint32_t left = in.map(); left > 0; --left) {
            if (in.string() == name) return in;
            in.skip();
        }
        ADD_FAILURE() << "no " << name;
        return in;
    }
    static std::string text_of(const std::string& row, std::string_view name) {
        return std::string{field(row, name).string()};
    }
    static std::uint64_t number_of(const std::string& row, std::string_view name) {
        return field(row, name).unsigned_integer();
    }

    Peer producer, consumer, admin;
    std::uint64_t sent = 0;
    std::uint64_t asked = 0;
};

TEST_F(DeadLettersFixture, OperatorsSeeHowFastAQueueIs) {
    for (int i = 0; i < 4; ++i) {
        say(producer, protocol::Publish{{envelope_of(identity(1), ++sent)}});
        const auto given = heard_of<protocol::Deliver>(consumer);
        ASSERT_THAT(given, SizeIs(1));
        if (i < 3) ack(consumer, given[0].items.at(0));
    }
    auto row = ask({.verb = "queues"}).rows.at(0);
    EXPECT_EQ(field(row, "in_rate").floating(), 4);
    EXPECT_EQ(field(row, "out_rate").floating(), 3);
    EXPECT_TRUE(field(row, "drain_ms").nil()) << "it grows";
    minute();
    minute();
    row = ask({.verb = "queues"}).rows.at(0);
    EXPECT_EQ(field(row, "in_rate").floating(), 0);
    EXPECT_EQ(field(row, "out_rate").floating(), 0);
}

TEST_F(DeadLettersFixture, FiltersHoldAltogether) {
    const auto a = reject({.type = "A", .headers = {{"lang", "en"}, {"size", "1"}}}, "no such file: a");
    const auto b = reject({.type = "A", .headers = {{"lang", "de"}}}, "no such file: b");
    const auto c = reject({.type = "B", .headers = {{"lang", "en"}}}, "too large");
    EXPECT_THAT(ids(), ElementsAre(a, b, c));
    EXPECT_THAT(ids({.type = "A"}), ElementsAre(a, b));
    EXPECT_THAT(ids({.type = "a"}), IsEmpty()) << "exactly";
    EXPECT_THAT(ids({.headers = {{"lang", "en"}}}), ElementsAre(a, c));
    EXPECT_THAT(ids({.headers = {{"lang", "en"}, {"size", std::nullopt}}}), ElementsAre(a));
    EXPECT_THAT(ids({.headers = {{"size", "2"}}}), IsEmpty());
    EXPECT_THAT(ids({.text = "file"}), ElementsAre(a, b));
    EXPECT_THAT(ids({.type = "A", .text = ": b"}), ElementsAre(b));
    // They failed three, two and one minute ago.
    EXPECT_THAT(ids({.older_than_ms = 120'000}), ElementsAre(a, b));
    EXPECT_THAT(ids({.newer_than_ms = 120'000}), ElementsAre(c));
    EXPECT_THAT(ids({.older_than_ms = 90'000, .newer_than_ms = 150'000}), ElementsAre(b));
    now.wall -= 10min;
    EXPECT_THAT(ids({.newer_than_ms = 1}), ElementsAre(a, b, c)) << "a clock that was set back";
    now.wall += 10min;
    auto result = ask({.verb = "dlq_purge", .dry_run = true, .type = "A"});
    EXPECT_EQ(number_of(result.rows.at(0), "matched"), 2U);
    EXPECT_EQ(number_of(result.rows.at(0), "done"), 0U);
    result = ask({.verb = "dlq_purge", .text = "too"});
    EXPECT_EQ(number_of(result.rows.at(0), "done"), 1U);
    result = ask({.verb = "dlq_redrive", .headers = {{"lang", "de"}}});
    EXPECT_EQ(number_of(result.rows.at(0), "done"), 1U);
    EXPECT_THAT(ids(), ElementsAre(a));
}

TEST_F(DeadLettersFixture, WhatCannotBeReadHasNoTypeAndNoHeaders) {
    std::string bytes;
    wire::Writer writer{bytes};
    writer.map(4).unsigned_integer(0).unsigned_integer(1).unsigned_integer(1).binary(identity(1).view());
    writer.unsigned_integer(2).unsigned_integer(++sent).unsigned_integer(5).boolean(true);  // as its type
    reject(Slice{std::move(bytes)}, "cannot read it");
    EXPECT_THAT(ids(), SizeIs(1));
    EXPECT_THAT(ids({.text = "cannot"}), SizeIs(1));
    EXPECT_THAT(ids({.headers = {{"lang", std::nullopt}}}), IsEmpty());
    EXPECT_THAT(ids({.type = "A"}), IsEmpty());
}

TEST_F(DeadLettersFixture, AnEditKeepsTheFirstOriginalAndTheId) {
    const auto other = reject({.payload = "other"}, "no");
    const auto id = reject({.payload = "old", .type = "A", .headers = {{"lang", "en"}}}, "no");
    EXPECT_FALSE(field(show(id), "edited").boolean());
    auto result = ask(edit_of(id, {.payload = "newer"}));
    EXPECT_EQ(result.error, "");
    EXPECT_EQ(number_of(result.rows.at(0), "done"), 1U);
    EXPECT_EQ(ask(edit_of(id, {.payload = "newest", .type = "B", .headers = {{"lang", {}}}})).error, "");
    EXPECT_THAT(ids(), ElementsAre(other, id));
    EXPECT_THAT(ids({.type = "B"}), ElementsAre(id));
    const std::string row = show(id);
    EXPECT_EQ(field(row, "payload").binary(), "newest");
    EXPECT_TRUE(field(row, "edited").boolean());
    const std::string original{field(row, "original").raw()};
    EXPECT_EQ(field(original, "payload").binary(), "old");
    EXPECT_EQ(text_of(original, "type"), "A");
    EXPECT_EQ(field(original, "headers").map(), 1U);
    EXPECT_EQ(number_of(ask({.verb = "dlq_redrive", .ids = {id}}).rows.at(0), "done"), 1U);
    const auto given = heard_of<protocol::Deliver>(consumer);
    ASSERT_THAT(given, SizeIs(1));
    const auto back = envelope::decode(given[0].items.at(0).envelope.view());
    EXPECT_EQ(back->message.payload, "newest");
    EXPECT_EQ(back->sequence, 2U);
}

TEST_F(DeadLettersFixture, AnEditThatCannotBeIsRefusedByName) {
    Options options;
    options.message_limit = 1000;
    make(std::move(options));
    const auto id = reject({.payload = "old"}, "no");
    const auto error = [&](protocol::AdminRequest request) { return ask(std::move(request)).error; };
    EXPECT_THAT(error(edit_of(id, {})), HasSubstr("what to change"));
    EXPECT_THAT(error({.verb = "dlq_edit", .change = {.payload = "x"}}), HasSubstr("give its id"));
    EXPECT_THAT(error(edit_of(id, {.payload = std::string(1000, 'x')})), HasSubstr("takes messages up to 1000"));
    EXPECT_THAT(error(edit_of(id, {.type = std::string(1025, 'x')})), HasSubstr("type is longer"));
    const auto nobody = ask(edit_of("0-0", {.payload = "x"}));
    EXPECT_EQ(nobody.error, "");
    EXPECT_EQ(number_of(nobody.rows.at(0), "matched"), 0U);
    EXPECT_FALSE(field(show(id), "edited").boolean());
    EXPECT_EQ(field(show(id), "payload").binary(), "old");
}

TEST_F(DeadLettersFixture, OfTwoEditsAtATimeOneIsRefused) {
    const auto id = reject({.payload = "old"}, "no");
    stores = false;
    auto one = edit_of(id, {.payload = "one"});
    one.id = 100;
    auto two = edit_of(id, {.type = "two"});
    two.id = 101;
    auto purge = protocol::AdminRequest{.id = 102, .verb = "dlq_purge", .address = "q"};
    for (const auto& request : {one, two, purge}) say(admin, request);
    stores = true;
    work();
    const auto results = heard_of<protocol::AdminResult>(admin);
    ASSERT_THAT(results, SizeIs(3));
    EXPECT_EQ(results[0].id, 101U);
    EXPECT_THAT(results[0].error, HasSubstr("by somebody else"));
    EXPECT_EQ(results[1].id, 102U);
    EXPECT_EQ(number_of(results[1].rows.at(0), "done"), 0U);
    EXPECT_EQ(results[2].id, 100U) << "once it is stored";
    EXPECT_EQ(field(show(id), "payload").binary(), "one");
}

TEST_F(DeadLettersFixture, EditsThatWaitAreBounded) {
    const auto id = reject({.payload = "old"}, "no");
    stores = false;
    for (std::uint64_t i = 0; i < 20; ++i) {
        auto request = edit_of(id, {.payload = "new"});
        request.id = 100 + i;
        say(admin, request);
    }
    const auto results = heard_of<protocol::AdminResult>(admin);
    EXPECT_THAT(results, SizeIs(12));
    EXPECT_THAT(results.at(0).error, HasSubstr("ask again"));
}

TEST_F(DeadLettersFixture, AFullDiskEditsLater) {
    TightStore& tight = make_tight();
    const auto id = reject({.payload = "old"}, "no");
    tight.takes = TightStore::Takes::settlements;
    say(admin, edit_of(id, {.payload = "new"}));
    EXPECT_THAT(heard_of<protocol::AdminResult>(admin), IsEmpty()) << "there is no room for it yet";
    EXPECT_EQ(field(show(id), "payload").binary(), "old");
    tight.takes = TightStore::Takes::all;
    pass(1s);
    EXPECT_THAT(heard_of<protocol::AdminResult>(admin), SizeIs(1));
    EXPECT_EQ(field(show(id), "payload").binary(), "new");
}

TEST_F(HostFixture, SettlementsWaitForCompanyUnlessSomebodyWaitsForThem) {
    make_tight();
    Peer producer = hello(1, protocol::Role::producer, 1);
    Peer consumer = hello(2, protocol::Role::consumer, 2);
    (void)heard(producer);
    (void)heard(consumer);
    say(producer, protocol::Publish{{envelope_of(identity(1), 1), envelope_of(identity(1), 2)}});
    const auto deliveries = heard_of<protocol::Deliver>(consumer);
    ASSERT_THAT(deliveries, SizeIs(1));
    ASSERT_THAT(deliveries[0].items, SizeIs(2));
    const protocol::DeliverOne& first = deliveries[0].items[0];

    say(consumer, protocol::Settle{.acks = {{first.offset, first.token, 1}}});
    EXPECT_THAT(heard_of<protocol::Settled>(consumer), IsEmpty()) << "alone it is not worth a sync yet";
    say(consumer, protocol::Settle{.acks = {{first.offset + 1, first.token, 1}}, .sync = true});
    const auto settled = heard_of<protocol::Settled>(consumer);
    ASSERT_THAT(settled, SizeIs(1));
    EXPECT_EQ(settled[0].count, 2U);

    say(producer, protocol::Publish{{envelope_of(identity(1), 3)}});
    const auto third = heard_of<protocol::Deliver>(consumer);
    ASSERT_THAT(third, SizeIs(1));
    say(consumer, protocol::Settle{.acks = {{third[0].items[0].offset, third[0].items[0].token, 1}}});
    EXPECT_THAT(heard_of<protocol::Settled>(consumer), IsEmpty()) << "nobody waits any more";
    now.mono += defaults::settle_delay;
    work();
    EXPECT_THAT(heard_of<protocol::Settled>(consumer), SizeIs(1));
}

TEST_F(HostFixture, AConsumerThatWasSilentGetsWorkAgainAtItsFirstSignOfLife) {
    Options options;
    options.defaults.lease = 2s;
    make(std::move(options));
    Peer producer = hello(1, protocol::Role::producer, 1);
    Peer consumer = hello(2, protocol::Role::consumer, 2);
    (void)heard(producer);
    (void)heard(consumer);
    say(producer, protocol::Publish{{envelope_of(identity(1), 1)}});
    ASSERT_THAT(heard_of<protocol::Deliver>(consumer), SizeIs(1));
    pass(3s);
    EXPECT_THAT(heard_of<protocol::Deliver>(consumer), IsEmpty()) << "its lease is over, and so may it be";
    consumer.out.heartbeat();
    for (std::string& bytes : consumer.out.flush()) host->receive(consumer.id, Slice{std::move(bytes)}, now);
    work();
    EXPECT_THAT(heard_of<protocol::Deliver>(consumer), SizeIs(1));
}

// The budget is one for all queues: granted, or received and not yet stored.
TEST_F(HostFixture, CreditEndsWhenTheBudgetIsUsedUpInWhateverQueues) {
    constexpr std::size_t budget = 100'000;
    Options options;
    options.credit_bytes = budget;
    make(std::move(options));
    std::vector<Peer> producers;
    for (std::uint8_t n = 1; n <= 3; ++n) {
        producers.push_back({.id = n});
        say(producers.back(), protocol::Hello{.address = "q" + std::to_string(n), .incarnation = identity(n)});
    }
    std::vector<std::uint64_t> bytes(3);
    std::vector<std::uint64_t> credit(3);
    std::vector<std::uint64_t> sequence(3);
    const auto publish_all = [&] {  // what the credit allows; nothing is stored meanwhile
        for (bool more = true; more;) {
            more = false;
            for (std::size_t i = 0; i < producers.size(); ++i) {
                for (const auto& one : heard_of<protocol::Credit>(producers[i])) credit[i] = one.bytes;
                const Slice envelope = envelope_of(identity(static_cast<std::uint8_t>(i + 1)), sequence[i] + 1, 500);
                if (bytes[i] + envelope.size() > credit[i]) continue;
                ++sequence[i];
                bytes[i] += envelope.size();
                say(producers[i], protocol::Publish{{envelope}});
                more = true;
            }
        }
        return bytes[0] + bytes[1] + bytes[2];
    };
    stores = false;
    const std::uint64_t first = publish_all();
    EXPECT_LE(first, budget);
    EXPECT_GT(first, budget / 2);
    EXPECT_EQ(publish_all(), first);
    stores = true;
    work();
    stores = false;
    const std::uint64_t second = publish_all() - first;
    EXPECT_LE(second, budget);
    EXPECT_GT(second, budget / 2) << "what is stored is free again";
}

// Who is given nothing because of what others have hears of it when that is over.
TEST_F(HostFixture, CreditComesWhenOthersHaveUsedTheirs) {
    Options options;
    options.credit_bytes = 1000;
    make(std::move(options));
    Peer large = hello(1, protocol::Role::producer, 1);
    static_cast<void>(heard(large));
    stores = false;
    say(large, protocol::Publish{{envelope_of(identity(1), 1, 2000)}});
    Peer other{.id = 2};
    say(other, protocol::Hello{.address = "other", .incarnation = identity(2)});
    for (const auto& one : heard_of<protocol::Credit>(other)) EXPECT_EQ(one.bytes, 0U);
    stores = true;
    work();
    const auto credit = heard_of<protocol::Credit>(other);
    ASSERT_FALSE(credit.empty());
    EXPECT_GT(credit.back().bytes, 0U);
}

TEST_F(HostFixture, ABlockingQueueIsExceededByOneMessageOfEachProducerAtMost) {
    constexpr std::uint64_t bound = 64 * 1024;
    constexpr std::size_t size = 10'000;
    Options options;
    options.defaults.max_bytes = bound;
    make(std::move(options));
    std::vector<Peer> producers{hello(1, protocol::Role::producer, 1), hello(2, protocol::Role::producer, 2)};
    std::vector<protocol::Credit> credit(2);
    std::vector<std::uint64_t> bytes(2);
    std::vector<std::uint64_t> sequence(2);
    for (int round = 0; round < 100; ++round) {
        for (std::size_t i = 0; i < producers.size(); ++i) {
            for (const auto& one : heard_of<protocol::Credit>(producers[i])) credit[i] = one;
            if (bytes[i] >= credit[i].bytes || sequence[i] >= credit[i].messages) continue;
            const Slice envelope = envelope_of(identity(static_cast<std::uint8_t>(i + 1)), ++sequence[i], size);
            bytes[i] += envelope.size();
            say(producers[i], protocol::Publish{{envelope}});
        }
    }
    EXPECT_GT(bytes[0] + bytes[1], bound - 2 * size);
    EXPECT_LE(bytes[0] + bytes[1], bound + 2 * (size + 100));
    EXPECT_EQ(credit[0].reason, "queue_full");
    Peer consumer = hello(3, protocol::Role::consumer, 3);
    for (const auto& deliver : heard_of<protocol::Deliver>(consumer)) {
        for (const auto& one : deliver.items) ack(consumer, one);
    }
    EXPECT_GT(heard_of<protocol::Credit>(producers[0]).back().bytes, bytes[0]);

    say(producers[1], protocol::Publish{{envelope_of(identity(2), sequence[1] + 1, 10 * bound),
                                         envelope_of(identity(2), sequence[1] + 2)}});
    const auto refusals = heard_of<protocol::Refusal>(producers[1]);
    ASSERT_THAT(refusals, SizeIs(1)) << "it went beyond its bytes, and then on";
    EXPECT_EQ(refusals[0].code, "no_credit");
}

TEST_F(HostFixture, AFullDiskSettlesWhatIsStoredAndKeepsTheRestForLater) {
    TightStore& tight = make_tight();
    Peer producer = hello(1, protocol::Role::producer, 1);
    Peer consumer = hello(2, protocol::Role::consumer, 2);
    static_cast<void>(heard(producer));
    say(producer, protocol::Publish{{envelope_of(identity(1), 1), envelope_of(identity(1), 2)}});
    EXPECT_EQ(stored(producer), 2U);

    tight.takes = TightStore::Takes::settlements;
    say(producer, protocol::Publish{{envelope_of(identity(1), 3), envelope_of(identity(1), 4)}});
    const auto told = heard_of<protocol::Credit>(producer);
    ASSERT_FALSE(told.empty());
    EXPECT_EQ(told.back().reason, "disk_full");
    std::vector<protocol::DeliverOne> given;
    for (auto& deliver : heard_of<protocol::Deliver>(consumer)) {
        for (auto& one : deliver.items) given.push_back(std::move(one));
    }
    ASSERT_THAT(given, SizeIs(4));
    ack(consumer, given[0]);
    ack(consumer, given[1]);
    EXPECT_GT(host->next_deadline(), now.mono);
    pass(50ms);
    EXPECT_EQ(tight.settled, 1U) << "both in one";
    EXPECT_EQ(settled(consumer), 2U);

    ack(consumer, given[2]);
    pass(50ms);
    EXPECT_EQ(settled(consumer), 0U) << "a resend of it could come after our death";
    EXPECT_FALSE(host->idle());
    const int runs = tight.runs;
    for (int i = 0; i < 300; ++i) pass(10ms);
    EXPECT_LE(tight.runs, runs + 6) << "it is tried again each second, with what may go after it";
    EXPECT_GT(host->next_deadline(), now.mono);
    EXPECT_EQ(stored(producer), 0U);
    EXPECT_THAT(events, SizeIs(1)) << "said once";

    tight.takes = TightStore::Takes::all;
    pass(1s);
    EXPECT_EQ(tight.appended, 3U) << "the third has been acked";
    EXPECT_EQ(stored(producer), 4U);
    EXPECT_EQ(settled(consumer), 3U);
    EXPECT_TRUE(host->idle());
    EXPECT_THAT(events, SizeIs(2));
    ack(consumer, given[3]);
    pass(50ms);
    EXPECT_EQ(settled(consumer), 4U);
    EXPECT_EQ(host->unsettled(), 0U);
}

TEST_F(HostFixture, ADiskThatTakesNothingIsAskedOnceASecond) {
    TightStore& tight = make_tight();
    Peer producer = hello(1, protocol::Role::producer, 1);
    Peer consumer = hello(2, protocol::Role::consumer, 2);
    static_cast<void>(heard(producer));
    say(producer, protocol::Publish{{envelope_of(identity(1), 1)}});
    const auto given = heard_of<protocol::Deliver>(consumer);
    ASSERT_THAT(given, SizeIs(1));
    tight.takes = TightStore::Takes::nothing;
    ack(consumer, given[0].items.at(0));
    const int runs = tight.runs;
    for (int i = 0; i < 300; ++i) pass(10ms);
    EXPECT_GE(tight.runs, runs + 3);
    EXPECT_LE(tight.runs, runs + 8) << "as a whole, and what may go without room";
    EXPECT_EQ(settled(consumer), 0U);
    tight.takes = TightStore::Takes::all;
    pass(1s);
    EXPECT_EQ(settled(consumer), 1U);
    EXPECT_TRUE(host->idle());
}

TEST_F(HostFixture, AFullDiskPurgesDeadLettersAndSendsThemBackLater) {
    TightStore& tight = make_tight();
    Peer producer = hello(1, protocol::Role::producer, 1);
    Peer consumer = hello(2, protocol::Role::consumer, 2);
    static_cast<void>(heard(producer));
    for (std::uint64_t sequence = 1; sequence <= 2; ++sequence) {
        say(producer, protocol::Publish{{envelope_of(identity(1), sequence)}});
        const auto given = heard_of<protocol::Deliver>(consumer);
        ASSERT_THAT(given, SizeIs(1));
        const auto& one = given[0].items.at(0);
        say(consumer, protocol::Settle{.others = {{one.offset, one.token, protocol::Verdict::reject, {}, "no"}}});
        pass(50ms);
    }
    tight.takes = TightStore::Takes::settlements;
    say(producer, protocol::Publish{{envelope_of(identity(1), 3)}});

    Peer admin{.id = 3};
    say(admin, protocol::Hello{.role = protocol::Role::admin, .attempt = 1});
    static_cast<void>(heard(admin));
    say(admin, protocol::AdminRequest{.id = 1, .verb = "dlq_list", .address = "q"});
    auto results = heard_of<protocol::AdminResult>(admin);
    ASSERT_THAT(results, SizeIs(1));
    EXPECT_THAT(results[0].rows, SizeIs(2));
    say(admin, protocol::AdminRequest{.id = 2, .verb = "dlq_redrive", .address = "q", .max = 1});
    EXPECT_THAT(heard_of<protocol::AdminResult>(admin), IsEmpty()) << "there is no room for it yet";
    say(admin, protocol::AdminRequest{.id = 3, .verb = "dlq_purge", .address = "q"});
    results = heard_of<protocol::AdminResult>(admin);
    ASSERT_THAT(results, SizeIs(1));
    EXPECT_EQ(results[0].id, 3U);
    tight.takes = TightStore::Takes::all;
    pass(1s);
    results = heard_of<protocol::AdminResult>(admin);
    ASSERT_THAT(results, SizeIs(1));
    EXPECT_EQ(results[0].id, 2U);
    EXPECT_EQ(host->unsettled(), 2U);
}

// Ends that ask for strict order.
class StrictHost : public HostFixture {
protected:
    Peer come(PeerId id, protocol::Role role, std::uint8_t who, bool strict) {
        Peer peer{.id = id};
        protocol::Hello hello{.role = role, .address = "q", .incarnation = identity(who), .attempt = 1};
        hello.window_messages = 100;
        hello.window_bytes = 1 << 20;
        hello.strict = strict;
        say(peer, hello);
        return peer;
    }
    void publish(Peer& peer, int count) {
        for (int i = 0; i < count; ++i) say(peer, protocol::Publish{{envelope_of(identity(1), ++sequence_)}});
    }
    void nack(Peer& peer, const protocol::DeliverOne& one) {
        protocol::Settle settle;
        settle.others.push_back({one.offset, one.token, protocol::Verdict::nack, 5000, "no"});
        settle.sync = true;
        say(peer, settle);
    }
    std::vector<protocol::DeliverOne> delivered(Peer& peer) {
        std::vector<protocol::DeliverOne> all;
        for (auto& deliver : heard_of<protocol::Deliver>(peer)) {
            for (auto& one : deliver.items) all.push_back(std::move(one));
        }
        return all;
    }

private:
    std::uint64_t sequence_ = 0;
};

TEST_F(StrictHost, AProducerMakesAQueueStrict) {
    make();
    Peer producer = come(1, protocol::Role::producer, 1, true);
    heard(producer);
    publish(producer, 3);
    Peer first = come(2, protocol::Role::consumer, 2, false);
    Peer second = come(3, protocol::Role::consumer, 3, true);
    auto given = delivered(first);
    ASSERT_THAT(given, SizeIs(1)) << "it has not said that it keeps order";
    EXPECT_THAT(delivered(second), IsEmpty());
    ack(first, given[0]);
    ASSERT_THAT(delivered(first), SizeIs(1));
    say(first, protocol::Bye{});
    EXPECT_THAT(delivered(second), SizeIs(2));
}

TEST_F(StrictHost, WhatANackTakesBackIsNamedBeforeTheNackIsConfirmed) {
    make();
    Peer producer = come(1, protocol::Role::producer, 1, false);
    heard(producer);
    publish(producer, 2000);
    Peer consumer = come(2, protocol::Role::consumer, 2, true);
    auto given = delivered(consumer);
    say(consumer, protocol::Window{2000, 1 << 20});
    for (auto& one : delivered(consumer)) given.push_back(std::move(one));
    ASSERT_EQ(given.size(), 2000U);
    nack(consumer, given[0]);
    std::size_t named = 0;
    bool confirmed = false;
    for (const auto& command : heard(consumer)) {
        EXPECT_FALSE(std::holds_alternative<protocol::Deliver>(command));
        if (const auto* lost = std::get_if<protocol::Lost>(&command)) {
            EXPECT_FALSE(confirmed);
            named += lost->items.size();
        }
        confirmed = confirmed || std::holds_alternative<protocol::Settled>(command);
    }
    EXPECT_EQ(named, 1999U);
    EXPECT_TRUE(confirmed);
}

TEST_F(StrictHost, SaysWhatIsDecidedBeforeItIsSafe) {
    make_tight();
    Peer producer = come(1, protocol::Role::producer, 1, true);
    heard(producer);
    publish(producer, 2);
    Peer consumer = come(2, protocol::Role::consumer, 2, true);
    const auto given = delivered(consumer);
    ASSERT_THAT(given, SizeIs(2));
    stores = false;
    nack(consumer, given[0]);
    const auto told = heard_of<protocol::Settled>(consumer);
    ASSERT_THAT(told, SizeIs(1));
    EXPECT_EQ(told[0].applied, 1U);
    EXPECT_EQ(told[0].count, 0U);
    pass(1ms);
    EXPECT_THAT(heard_of<protocol::Settled>(consumer), IsEmpty()) << "once";
    stores = true;
    pass(1s);
    EXPECT_EQ(settled(consumer), 1U);
}

TEST_F(StrictHost, ANackThatWasConfirmedToNobodyIsConfirmedInTheNextSession) {
    make();
    Peer producer = come(1, protocol::Role::producer, 1, true);
    heard(producer);
    publish(producer, 3);
    Peer consumer = come(2, protocol::Role::consumer, 2, true);
    const auto given = delivered(consumer);
    ASSERT_THAT(given, SizeIs(3));
    nack(consumer, given[0]);
    said.clear();  // the link is lost with all that was said
    Peer again{.id = 3};
    protocol::Hello hello{.role = protocol::Role::consumer, .address = "q", .incarnation = identity(2), .attempt = 2};
    for (const auto& one : given) hello.held.push_back({one.offset, one.token, false});
    hello.window_messages = 100;
    hello.window_bytes = 1 << 20;
    hello.strict = true;
    say(again, hello);
    const auto welcome = heard_of<protocol::Welcome>(again).at(0);
    ASSERT_THAT(welcome.lost, SizeIs(2)) << "what was behind it";
    EXPECT_EQ(welcome.lost[0].offset, given[1].offset);
    nack(again, given[0]);
    EXPECT_EQ(settled(again), 1U);
    pass(6s);
    const auto anew = delivered(again);
    ASSERT_THAT(anew, SizeIs(3));
    EXPECT_EQ(anew[0].attempt, 2U) << "once";
    EXPECT_EQ(anew[1].attempt, 1U);
}

TEST_F(StrictHost, ItIsRememberedOverRestarts) {
    TempFolder folder;
    const auto start = [&] {
        host.reset();
        store.reset();
        said.clear();
        make({}, store::open_sqlite_store({.folder = folder.path(), .min_free = 0, .vfs = {}}));
        work();
    };
    start();
    Peer producer = come(1, protocol::Role::producer, 1, true);
    heard(producer);
    pass(defaults::settle_delay);
    start();
    producer = come(1, protocol::Role::producer, 1, false);
    heard(producer);
    publish(producer, 2);
    Peer consumer = come(2, protocol::Role::consumer, 2, false);
    EXPECT_THAT(delivered(consumer), SizeIs(1));
}

TEST_F(HostFixture, AProducerThatWatchesIsToldHowManyConsumersThereAre) {
    make();
    const auto told = [this](Peer& peer) {
        std::vector<std::uint32_t> counts;
        for (const auto& peers : heard_of<protocol::Peers>(peer)) counts.push_back(peers.consumers);
        return counts;
    };
    const auto producer = [this](PeerId id, std::string address, bool topic, bool watch) {
        return hello(id, {.role = protocol::Role::producer,
                          .address = std::move(address),
                          .incarnation = identity(static_cast<std::uint8_t>(id)),
                          .topic = topic,
                          .watch = watch});
    };
    Peer blind = producer(1, "q", false, false);
    Peer watches = producer(2, "q", false, true);
    EXPECT_THAT(told(watches), ElementsAre(0U)) << "that there is none is news as well";
    Peer first = hello(3, protocol::Role::consumer, 3);
    Peer second = hello(4, protocol::Role::consumer, 4);
    say(first, protocol::Bye{});
    EXPECT_THAT(told(watches), ElementsAre(1U, 2U, 1U));
    EXPECT_THAT(told(blind), IsEmpty());

    Peer of_topic = producer(5, "t", true, true);
    Peer a = hello(6, {.role = protocol::Role::consumer, .address = "t/a", .incarnation = identity(6)});
    Peer b = hello(7, {.role = protocol::Role::consumer, .address = "t/b", .incarnation = identity(7)});
    EXPECT_THAT(told(of_topic), ElementsAre(0U, 1U, 2U)) << "of any subscription";
    say(b, protocol::Bye{});
    EXPECT_THAT(told(of_topic), ElementsAre(1U));
}

}  // namespace
}  // namespace posthorn::host
