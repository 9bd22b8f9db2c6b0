// Topics at a host: how subscriptions come to be, are remembered and go.
#include <sqlite3.h>

#include <algorithm>

#include "fixture.hpp"

namespace posthorn::host {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class Topics : public HostFixture {
protected:
    void open(Options options = {}) {
        host.reset();
        store.reset();
        said.clear();
        make(std::move(options), store::open_sqlite_store({.folder = folder.path(), .min_free = 0, .vfs = {}}));
        work();
    }
    Peer publisher(PeerId id, std::uint8_t who) {
        return hello(id,
                     {.role = protocol::Role::producer, .address = "t", .incarnation = identity(who), .topic = true});
    }
    Peer subscriber(PeerId id, const std::string& name, protocol::Hello how = {}) {
        how.role = protocol::Role::consumer;
        how.address = "t/" + name;
        how.incarnation = identity(static_cast<std::uint8_t>(id));
        return hello(id, std::move(how));
    }
    void publish(Peer& peer, std::uint8_t who, std::uint64_t sequence, const std::string& subject = "s") {
        envelope::Envelope envelope{.producer = identity(who), .sequence = sequence, .previous = sequence - 1};
        envelope.message.subject = subject;
        std::string bytes;
        envelope::encode(envelope, bytes);
        say(peer, protocol::Publish{{Slice{std::move(bytes)}}});
        pass(defaults::settle_delay);
    }
    // The subjects that came to this consumer, each acked.
    std::vector<std::string> received(Peer& consumer) {
        std::vector<std::string> subjects;
        for (const auto& deliver : heard_of<protocol::Deliver>(consumer)) {
            for (const auto& one : deliver.items) {
                subjects.push_back(envelope::decode(one.envelope.view())->message.subject);
                ack(consumer, one);
            }
        }
        pass(defaults::settle_delay);
        return subjects;
    }
    std::string refused(Peer& peer) {
        const auto refusals = heard_of<protocol::Refusal>(peer);
        return refusals.empty() ? "" : refusals.back().code;
    }

    TempFolder folder;
};

TEST_F(Topics, ASubscriberIsWelcomeWhenItsSubscriptionIsStored) {
    open();
    stores = false;
    Peer one = subscriber(1, "a");
    EXPECT_THAT(heard(one), IsEmpty());
    stores = true;
    pass(0ms);
    EXPECT_THAT(heard_of<protocol::Welcome>(one), SizeIs(1)) << "at once, without waiting for company";
}

TEST_F(Topics, WhatIsPublishedAfterTheWelcomeComesWhateverHappensToTheHost) {
    open();
    Peer one = subscriber(1, "a");
    EXPECT_THAT(heard_of<protocol::Welcome>(one), SizeIs(1));
    open();
    Peer sends = publisher(2, 2);
    publish(sends, 2, 1);
    EXPECT_EQ(stored(sends), 1U);
    Peer back = subscriber(1, "a");
    EXPECT_THAT(received(back), ElementsAre("s"));
}

TEST_F(Topics, AConfirmIsForAllSubscriptions) {
    TightStore& tight = make_tight();
    Peer a = subscriber(1, "a");
    Peer b = subscriber(2, "b");
    Peer sends = publisher(3, 3);
    tight.takes = TightStore::Takes::settlements;
    publish(sends, 3, 1);
    EXPECT_EQ(stored(sends), 0U) << "no room for the message, and none for the watermark without it";
    tight.takes = TightStore::Takes::all;
    pass(2s);
    EXPECT_EQ(stored(sends), 1U);
    EXPECT_EQ(tight.appended, 2U);
    EXPECT_THAT(received(a), ElementsAre("s"));
    EXPECT_THAT(received(b), ElementsAre("s"));
}

TEST_F(Topics, TheOrderIsKeptThoughOneSubscriptionGetsLess) {
    open();
    Peer all = subscriber(1, "all");
    Peer some = subscriber(2, "some", {.bindings = {{{.subject = "x"}}}});
    Peer sends = publisher(3, 3);
    stores = false;
    for (std::uint64_t i = 1; i <= 9; ++i) publish(sends, 3, i, i % 3 == 0 ? "x" : "y" + std::to_string(i));
    stores = true;
    pass(0ms);
    EXPECT_THAT(received(all), ElementsAre("y1", "y2", "x", "y4", "y5", "x", "y7", "y8", "x"));
    EXPECT_THAT(received(some), ElementsAre("x", "x", "x"));
    open();
    Peer back = publisher(3, 3);
    EXPECT_EQ(heard_of<protocol::Welcome>(back).at(0).watermark, 9U);
    publish(back, 3, 10, "x");
    Peer some_back = subscriber(2, "some");
    EXPECT_THAT(received(some_back), ElementsAre("x"));
}

TEST_F(Topics, DeclaredSubscriptionsMissNothing) {
    Options options;
    options.topics["t"] = {{.name = "a", .bindings = {{.subject = "x"}}}};
    open(options);
    Peer sends = publisher(1, 1);
    publish(sends, 1, 1, "x");
    publish(sends, 1, 2, "y");
    const auto confirms = heard_of<protocol::Confirm>(sends);
    ASSERT_FALSE(confirms.empty());
    EXPECT_EQ(confirms.back().refused.at(0).code, "no_subscription");
    options.topics["t"] = {{.name = "a", .bindings = {{.subject = "y"}}}};
    open(options);
    Peer again = publisher(1, 1);
    publish(again, 1, 3, "y");
    Peer one = subscriber(2, "a");
    EXPECT_THAT(received(one), ElementsAre("x", "y")) << "the configuration has changed";
}

TEST_F(Topics, ATemporaryOneWhoseConsumerIsNotHeardGoesAfterTheLease) {
    open();
    Peer keeps = subscriber(5, "lasting");
    Peer lost = subscriber(1, "t", {.temporary = true});
    Peer sends = publisher(2, 2);
    publish(sends, 2, 1);
    const auto listed = [this] {
        Peer admin = hello(9, {.role = protocol::Role::admin});
        say(admin, protocol::AdminRequest{.id = 1, .verb = "queues"});
        return heard_of<protocol::AdminResult>(admin).at(0).rows.size();
    };
    EXPECT_EQ(listed(), 3U);
    for (int i = 0; i < 8; ++i) {
        pass(10s);
        say(keeps, protocol::Window{100, 1 << 20});
    }
    EXPECT_EQ(listed(), 2U) << "the topic and the other one";
    open();
    EXPECT_EQ(listed(), 2U) << "and nothing is left of it";
}

TEST_F(Topics, AnOperatorRemovesASubscription) {
    open();
    Peer one = subscriber(1, "a");
    Peer sends = publisher(2, 2);
    publish(sends, 2, 1);
    Peer admin = hello(9, {.role = protocol::Role::admin});
    say(admin, protocol::AdminRequest{.id = 1, .verb = "unsubscribe", .address = "t/a"});
    pass(defaults::settle_delay);
    const auto results = heard_of<protocol::AdminResult>(admin);
    ASSERT_THAT(results, SizeIs(1));
    EXPECT_EQ(results[0].error, "");
    EXPECT_THAT(results[0].rows, SizeIs(1));
    EXPECT_EQ(refused(one), "removed");
    Peer back = subscriber(1, "a");
    EXPECT_EQ(refused(back), "removed") << "it is not made again by who has lost it";
    say(admin, protocol::AdminRequest{.id = 2, .verb = "unsubscribe", .address = "t/a"});
    EXPECT_THAT(heard_of<protocol::AdminResult>(admin).at(0).error, HasSubstr("no subscription t/a"));
    Peer anew = subscriber(3, "a");
    EXPECT_THAT(received(anew), IsEmpty());
    publish(sends, 2, 2);
    EXPECT_THAT(received(anew), ElementsAre("s"));
}

// While the removal waits for the disk, one of the same name has to wait as well.
TEST_F(Topics, AnewUnderANameThatIsBeingRemoved) {
    open();
    Peer one = subscriber(1, "a");
    EXPECT_THAT(heard_of<protocol::Welcome>(one), SizeIs(1));
    stores = false;
    Peer admin = hello(9, {.role = protocol::Role::admin});
    say(admin, protocol::AdminRequest{.id = 1, .verb = "unsubscribe", .address = "t/a"});
    Peer anew = subscriber(3, "a");
    EXPECT_THAT(heard(anew), IsEmpty());
    stores = true;
    pass(0ms);
    EXPECT_THAT(heard_of<protocol::Welcome>(anew), SizeIs(1));
}

TEST_F(Topics, QueuesAndTopicsAreNotMistakenForOneAnother) {
    open();
    Peer worker = hello(1, protocol::Role::consumer, 1);
    Peer topic_of_q =
        hello(2, {.role = protocol::Role::producer, .address = "q", .incarnation = identity(2), .topic = true});
    EXPECT_EQ(refused(topic_of_q), "wrong_kind");
    Peer of_q = hello(3, {.role = protocol::Role::consumer, .address = "q/a", .incarnation = identity(3)});
    EXPECT_EQ(refused(of_q), "wrong_kind");
    Peer sends = publisher(4, 4);
    Peer plain = hello(5, {.role = protocol::Role::consumer, .address = "t", .incarnation = identity(5)});
    EXPECT_EQ(refused(plain), "wrong_kind");
    Peer to_one = hello(6, {.role = protocol::Role::producer, .address = "t/a", .incarnation = identity(6)});
    EXPECT_EQ(refused(to_one), "wrong_kind");
    for (const char* name : {"t/", "/a", "t/a/b", "t/a.dlq", "t/ä"}) {
        Peer bad = hello(7, {.role = protocol::Role::consumer, .address = name, .incarnation = identity(7)});
        EXPECT_EQ(refused(bad), "bad_name") << name;
    }
    Peer a = subscriber(8, "a");
    Peer producer = hello(9, {.role = protocol::Role::producer, .address = "t", .incarnation = identity(9)});
    publish(producer, 9, 1);
    EXPECT_THAT(received(a), ElementsAre("s")) << "who sends to a queue may send to a topic";
}

TEST_F(Topics, AMessageIsSentBackToTheOneSubscriptionThatFailed) {
    open();
    Peer a = subscriber(1, "a");
    Peer b = subscriber(2, "b");
    Peer sends = publisher(3, 3);
    publish(sends, 3, 1);
    EXPECT_THAT(received(a), ElementsAre("s"));
    for (const auto& deliver : heard_of<protocol::Deliver>(b)) {
        for (const auto& one : deliver.items) {
            say(b, protocol::Settle{.others = {{one.offset, one.token, protocol::Verdict::reject, {}, "no"}}});
        }
    }
    pass(defaults::settle_delay);
    Peer admin = hello(9, {.role = protocol::Role::admin});
    say(admin, protocol::AdminRequest{.id = 1, .verb = "dlq_redrive", .address = "t/b"});
    pass(defaults::settle_delay);
    EXPECT_THAT(received(b), ElementsAre("s"));
    EXPECT_THAT(received(a), IsEmpty());
    publish(sends, 3, 2);
    EXPECT_THAT(received(a), ElementsAre("s"));
    EXPECT_THAT(received(b), ElementsAre("s"));
}

TEST_F(Topics, WhatWasPublishedIsHandedOutHoweverTheSessionEnds) {
    open();
    Peer a = subscriber(1, "a");
    Peer breaks = publisher(3, 3);
    say(breaks, protocol::Publish{{envelope_of(identity(3), 1), Slice{std::string("junk")}}});
    EXPECT_EQ(refused(breaks), "malformed");
    EXPECT_THAT(received(a), SizeIs(1));
    Peer leaves = publisher(4, 4);
    EXPECT_THAT(heard_of<protocol::Welcome>(leaves), SizeIs(1));
    leaves.out.add(protocol::Publish{{envelope_of(identity(4), 1)}});
    say(leaves, protocol::Bye{});
    EXPECT_THAT(received(a), SizeIs(1));
}

// Offsets that went to others must not become holes in one that gets little.
TEST_F(Topics, OneThatGetsLittleKeepsUpWithItsTopic) {
    open();
    Peer all = subscriber(1, "all");
    Peer rare = subscriber(2, "rare", {.bindings = {{{.subject = "x"}}}});
    Peer sends = publisher(3, 3);
    publish(sends, 3, 1, "x");
    const auto delivered = heard_of<protocol::Deliver>(rare);
    ASSERT_THAT(delivered, SizeIs(1));
    const protocol::DeliverOne first = delivered[0].items.at(0);
    for (std::uint64_t i = 2; i <= 50; ++i) publish(sends, 3, i, "y");
    stores = false;
    say(rare, protocol::Settle{.acks = {{first.offset, first.token, 1}}, .sync = true});
    host->turn(now);
    const auto job = host->take_job(now);
    ASSERT_TRUE(job);
    const auto batch =
        std::find_if(job->batch.begin(), job->batch.end(), [](const auto& one) { return one.topic == "t/rare"; });
    ASSERT_NE(batch, job->batch.end());
    EXPECT_EQ(batch->next_offset, first.offset + 50);
    publish(sends, 3, 51, "x");
    host->complete(store->run(*job), now);
    stores = true;
    pass(defaults::settle_delay);
    EXPECT_THAT(received(rare), ElementsAre("x"));
}

TEST_F(Topics, TwoThatWantDifferentBindingsAtOnceAreBothWelcome) {
    open();
    Peer before = subscriber(9, "a");
    stores = false;
    Peer one = subscriber(1, "a", {.bindings = {{{.subject = "x"}}}});
    Peer other = subscriber(2, "a", {.bindings = {{{.subject = "y"}}}});
    stores = true;
    pass(0ms);
    EXPECT_THAT(heard_of<protocol::Welcome>(one), SizeIs(1));
    EXPECT_THAT(heard_of<protocol::Welcome>(other), SizeIs(1));
    EXPECT_THAT(heard_of<protocol::Welcome>(before), SizeIs(1));
    Peer sends = publisher(3, 3);
    publish(sends, 3, 1, "x");
    publish(sends, 3, 2, "y");
    EXPECT_THAT(received(before), SizeIs(1)) << "the later has its way";
}

TEST_F(Topics, OneAnewBeginsBehindWhatTheFormerHad) {
    open();
    Peer former = subscriber(1, "a");
    Peer sends = publisher(3, 3);
    publish(sends, 3, 1);
    const auto first = heard_of<protocol::Deliver>(former).at(0).items.at(0);
    say(former, protocol::Settle{.others = {{first.offset, first.token, protocol::Verdict::reject, {}, "no"}}});
    pass(defaults::settle_delay);
    Peer admin = hello(9, {.role = protocol::Role::admin});
    say(admin, protocol::AdminRequest{.id = 1, .verb = "dlq_redrive", .address = "t/a"});
    pass(defaults::settle_delay);
    const auto again = heard_of<protocol::Deliver>(former).at(0).items.at(0);
    say(admin, protocol::AdminRequest{.id = 2, .verb = "unsubscribe", .address = "t/a"});
    pass(defaults::settle_delay);
    Peer anew = hello(5, {.role = protocol::Role::consumer, .address = "t/a", .incarnation = identity(5)});
    publish(sends, 3, 2);
    EXPECT_GT(heard_of<protocol::Deliver>(anew).at(0).items.at(0).offset, again.offset);
}

TEST_F(Topics, ADeclaredOneIsNotTemporaryWhateverItWas) {
    open();
    Peer made = subscriber(1, "a", {.temporary = true});
    EXPECT_THAT(heard_of<protocol::Welcome>(made), SizeIs(1));
    Options options;
    options.topics["t"] = {{.name = "a"}};
    open(options);
    pass(10min);
    pass(10min);
    Peer sends = publisher(3, 3);
    publish(sends, 3, 1);
    EXPECT_EQ(stored(sends), 1U);
    Peer one = subscriber(2, "a");
    EXPECT_THAT(received(one), ElementsAre("s"));
}

TEST_F(Topics, ATemporaryOneThatNobodyCameForGoes) {
    open();
    Peer lasting = subscriber(8, "z");
    stores = false;
    Peer changes = subscriber(1, "x", {.temporary = true});
    Peer its_mind = subscriber(1, "y", {.temporary = true});
    stores = true;
    pass(0ms);
    pass(10min);
    pass(10min);
    Peer admin = hello(9, {.role = protocol::Role::admin});
    say(admin, protocol::AdminRequest{.id = 1, .verb = "unsubscribe", .address = "t/x"});
    EXPECT_THAT(heard_of<protocol::AdminResult>(admin).at(0).error, HasSubstr("no subscription t/x"));
}

TEST_F(Topics, ADamagedRecordIsWrittenAnew) {
    open();
    Peer before = subscriber(1, "a", {.bindings = {{{.subject = "x"}}}});
    EXPECT_THAT(heard_of<protocol::Welcome>(before), SizeIs(1));
    host.reset();
    store.reset();
    sqlite3* file = nullptr;
    ASSERT_EQ(sqlite3_open((folder.path() / "posthorn.db").c_str(), &file), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(file, "UPDATE subscription SET record = zeroblob(9)", nullptr, nullptr, nullptr), SQLITE_OK);
    sqlite3_close(file);
    open();
    Peer back = subscriber(1, "a");
    EXPECT_THAT(heard_of<protocol::Welcome>(back), SizeIs(1));
    Peer sends = publisher(3, 3);
    publish(sends, 3, 1, "y");
    EXPECT_THAT(received(back), ElementsAre("y")) << "rather more than it asked for than less";
}

// Topics that keep what was published.
class Retained : public Topics {
protected:
    static Options retaining(const Retention& retention = {}) {
        Options options;
        options.retained["t"] = retention;
        options.limits.replayed = 1;  // a commit for each chunk
        return options;
    }
    // Published one by one, so that each has a chunk of its own.
    void publish_all(Peer& peer, std::uint8_t who, std::uint64_t first, std::uint64_t last) {
        for (std::uint64_t i = first; i <= last; ++i) publish(peer, who, i, std::to_string(i));
    }
    // Late is what begins in the past. Another name each time, as one that exists goes on where it is.
    std::vector<std::string> late(const From& from, std::optional<std::vector<Binding>> bindings = {}) {
        ++last_late;
        Peer one = subscriber(last_late, "late-" + std::to_string(last_late),
                              {.bindings = std::move(bindings), .temporary = true, .from = from});
        EXPECT_THAT(heard_before(one), SizeIs(1));
        auto subjects = all_received(one);
        say(one, protocol::Bye{});
        return subjects;
    }
    // Welcomes; what else was said stays to be heard.
    std::vector<protocol::Welcome> heard_before(Peer& peer) {
        const auto frames = said[peer.id];
        auto welcomes = heard_of<protocol::Welcome>(peer);
        peer.in.start_session(peer.in.epoch(), 1);
        said[peer.id] = frames;
        return welcomes;
    }
    // What it is given while it acks what it was given before as well.
    std::vector<std::string> all_received(Peer& consumer) {
        std::vector<std::string> all;
        for (auto some = received(consumer); !some.empty(); some = received(consumer))
            all.insert(all.end(), some.begin(), some.end());
        return all;
    }
    // Published, and nothing else happens.
    void take_in(Peer& peer, std::uint8_t who, std::uint64_t sequence) {
        envelope::Envelope envelope{.producer = identity(who), .sequence = sequence, .previous = sequence - 1};
        envelope.message.subject = std::to_string(sequence);
        std::string bytes;
        envelope::encode(envelope, bytes);
        peer.out.add(protocol::Publish{{Slice{std::move(bytes)}}});
        for (std::string& frame : peer.out.flush()) host->receive(peer.id, Slice{std::move(frame)}, now);
    }
    static std::vector<std::string> subjects_to(std::uint64_t last) {
        std::vector<std::string> all;
        for (std::uint64_t i = 1; i <= last; ++i) all.push_back(std::to_string(i));
        return all;
    }
    std::uint64_t kept() {
        Peer admin = hello(99, {.role = protocol::Role::admin});
        say(admin, protocol::AdminRequest{.id = 1, .verb = "queues"});
        const auto results = heard_of<protocol::AdminResult>(admin);
        for (const std::string& row : results.at(0).rows) {
            if (row.find("t/.retained") == std::string::npos) continue;
            wire::Reader in(row);
            for (std::uint32_t left = in.map(); left > 0; --left) {
                if (in.string() == "ready") return in.unsigned_integer();
                in.skip();
            }
        }
        return 0;
    }

    PeerId last_late = 20;
};

TEST_F(Retained, ASubscriptionBeginsWhereverItLikesInWhatIsKept) {
    open(retaining());
    Peer sends = publisher(1, 1);
    Peer watches = subscriber(2, "watches");
    publish_all(sends, 1, 1, 4);
    EXPECT_EQ(stored(sends), 4U);
    const Wall fifth = now.wall + 1s;
    std::vector<std::uint64_t> offsets;
    for (const auto& deliver : heard_of<protocol::Deliver>(watches)) offsets.push_back(deliver.items.at(0).offset);
    now.wall = fifth;
    publish_all(sends, 1, 5, 6);
    EXPECT_THAT(late(From::first()), ElementsAre("1", "2", "3", "4", "5", "6"));
    EXPECT_THAT(late(From::last()), ElementsAre("6"));
    EXPECT_THAT(late(From::last(2)), ElementsAre("5", "6"));
    EXPECT_THAT(late(From::last(99)), SizeIs(6));
    EXPECT_THAT(late(From::sequence(offsets.at(2))), ElementsAre("3", "4", "5", "6"));
    EXPECT_THAT(late(From::sequence(std::numeric_limits<std::uint64_t>::max())), IsEmpty());
    EXPECT_THAT(late(From::time(std::chrono::system_clock::time_point{fifth.time_since_epoch()})),
                ElementsAre("5", "6"));
    EXPECT_THAT(late(From::first(), {{{.subject = "2"}, {.subject = "5"}}}), ElementsAre("2", "5"));

    Peer lasts = subscriber(3, "lasts", {.from = From::last(2)});
    publish(sends, 1, 7, "7");
    EXPECT_THAT(received(lasts), ElementsAre("5", "6", "7"));
    open(retaining());
    Peer again = publisher(1, 1);
    publish(again, 1, 8, "8");
    Peer back = subscriber(3, "lasts", {.from = From::first()});
    EXPECT_THAT(received(back), ElementsAre("8")) << "it exists, and goes on where it left off";
    EXPECT_THAT(late(From::first()), SizeIs(8)) << "after a restart";
}

// However publishing and the commits of the slices fall.
TEST_F(Retained, WhatIsPublishedMeanwhileComesOnceAndInOrder) {
    for (int when = 0; when < 4; ++when) {
        SCOPED_TRACE(when);
        Options options = retaining();
        options.limits.replayed = 4;  // more than comes meanwhile, so that it ends in the midst of it
        open(options);
        Peer sends = publisher(1, 1);
        const std::uint64_t before = heard_of<protocol::Welcome>(sends).at(0).watermark;
        std::uint64_t sent = before;
        const auto publish_one = [&] {
            ++sent;
            publish(sends, 1, sent, std::to_string(sent));
        };
        const auto is_time = [&](int moment) { return when == moment || when == 3; };
        for (int i = 0; i < 12; ++i) publish_one();
        stores = false;
        Peer one = subscriber(2, "late" + std::to_string(when), {.from = From::first()});
        int jobs = 0;
        while (heard_before(one).empty() && jobs < 100) {
            if (is_time(0)) publish_one();
            host->turn(now);
            if (is_time(1)) take_in(sends, 1, ++sent);  // without a turn: what the log has accepted is not gathered
            const auto job = host->take_job(now);
            if (!job) break;
            ++jobs;
            if (is_time(2)) publish_one();
            host->complete(store->run(*job), now);
            pass(0ms);
        }
        EXPECT_GT(jobs, 3);
        stores = true;
        EXPECT_EQ(all_received(one), subjects_to(sent));
        publish_one();
        EXPECT_THAT(received(one), ElementsAre(std::to_string(sent)));
    }
}

// Though the log is beyond its bounds by what comes meanwhile, and its oldest would go.
TEST_F(Retained, WhatAReplayHasNotComeToStaysHoweverMuchIsPublished) {
    constexpr std::uint64_t most = 20;
    open(retaining({.messages = most}));
    Peer sends = publisher(1, 1);
    publish_all(sends, 1, 1, most);
    std::uint64_t sent = most;
    stores = false;
    Peer one = subscriber(2, "late", {.from = From::first()});
    while (heard_before(one).empty() && sent < 1000) {
        const auto job = host->take_job(now);
        ASSERT_TRUE(job);
        for (int i = 0; i < 3; ++i) {
            ++sent;
            publish(sends, 1, sent, std::to_string(sent));
        }
        host->complete(store->run(*job), now);
        pass(0ms);
    }
    EXPECT_GT(sent, most + 8) << "there were several slices";
    EXPECT_LE(sent, 2 * most + 4) << "a slice is twice what is published meanwhile, so the log does not grow for ever";
    stores = true;
    EXPECT_EQ(all_received(one), subjects_to(sent));
    EXPECT_EQ(kept(), most);
}

TEST_F(Retained, WhatAReplayHasNotComeToStaysHoweverOldItIs) {
    open(retaining({.age = 1h}));
    Peer sends = publisher(1, 1);
    publish_all(sends, 1, 1, 5);
    stores = false;
    Peer one = subscriber(2, "late", {.from = From::first()});
    while (heard_before(one).empty()) {
        const auto job = host->take_job(now);
        ASSERT_TRUE(job);
        now.wall += 1h;
        now.mono += 1h;
        host->complete(store->run(*job), now);
        pass(0ms);
    }
    stores = true;
    EXPECT_EQ(all_received(one), subjects_to(5));
    EXPECT_EQ(kept(), 0U);
}

// It would wait for room, and the log, which could make some, for it.
TEST_F(Retained, AReplayIsGivenUpAtAFullDiskAndBeginsAnewWhenThereIsRoom) {
    open(retaining({.messages = 4}));
    Peer sends = publisher(1, 1);
    publish_all(sends, 1, 1, 4);
    stores = false;
    Peer one = subscriber(2, "late", {.from = From::first()});
    for (int slices = 0; slices < 2; ++slices) {
        host->turn(now);
        host->complete(store->run(*host->take_job(now)), now);
    }
    publish_all(sends, 1, 5, 7);
    ASSERT_TRUE(host->take_job(now));
    host->complete({.failure = store::Failure::full, .text = "no room", .free_bytes = 0}, now);
    EXPECT_THAT(heard_before(one), IsEmpty());
    stores = true;
    pass(0ms);
    EXPECT_EQ(stored(sends), 4U) << "the disk is full";
    EXPECT_THAT(heard_before(one), IsEmpty());
    pass(2s);
    EXPECT_EQ(stored(sends), 7U);
    EXPECT_THAT(all_received(one), ElementsAre("4", "5", "6", "7"));
    EXPECT_EQ(kept(), 4U);
}

TEST_F(Retained, ARestartBeforeAllOfThePastIsThereBeginsAnew) {
    open(retaining());
    Peer sends = publisher(1, 1);
    publish_all(sends, 1, 1, 5);
    stores = false;
    Peer one = subscriber(2, "late", {.from = From::first()});
    for (int slices = 0; slices < 3; ++slices) {
        host->turn(now);
        host->complete(store->run(*host->take_job(now)), now);
    }
    pass(0ms);
    EXPECT_THAT(heard_before(one), IsEmpty());
    stores = true;
    open(retaining());
    Peer unsubscribed = hello(9, {.role = protocol::Role::admin});
    say(unsubscribed, protocol::AdminRequest{.id = 1, .verb = "unsubscribe", .address = "t/late"});
    EXPECT_THAT(heard_of<protocol::AdminResult>(unsubscribed).at(0).error, HasSubstr("no subscription"));
    Peer again = subscriber(2, "late", {.from = From::last(3)});
    EXPECT_THAT(all_received(again), ElementsAre("3", "4", "5"));
}

TEST_F(Retained, OneThatIsRemovedMeanwhileIsNoMore) {
    open(retaining());
    Peer sends = publisher(1, 1);
    publish_all(sends, 1, 1, 3);
    stores = false;
    Peer one = subscriber(2, "late", {.from = From::first()});
    host->turn(now);
    const auto job = host->take_job(now);
    Peer admin = hello(9, {.role = protocol::Role::admin});
    say(admin, protocol::AdminRequest{.id = 1, .verb = "unsubscribe", .address = "t/late"});
    host->complete(store->run(*job), now);
    stores = true;
    pass(0ms);
    EXPECT_THAT(heard_of<protocol::AdminResult>(admin), SizeIs(1));
    EXPECT_THAT(all_received(one), ElementsAre("1", "2", "3")) << "its hello waits, so it is made anew";
}

TEST_F(Retained, WhatGoesIsTheOldestByCountBytesOrAge) {
    open(retaining({.messages = 3}));
    Peer sends = publisher(1, 1);
    publish_all(sends, 1, 1, 5);
    EXPECT_EQ(stored(sends), 5U) << "it reaches no subscription but the log";
    EXPECT_THAT(late(From::first()), ElementsAre("3", "4", "5"));
    const std::uint64_t size = [&] {
        Peer one = subscriber(3, "sizes", {.from = From::last()});
        return heard_of<protocol::Deliver>(one).at(0).items.at(0).envelope.size();
    }();
    open(retaining({.bytes = 2 * size}));
    pass(0ms);
    EXPECT_THAT(late(From::first()), ElementsAre("4", "5"));
    open(retaining({.age = 1h}));
    Peer again = publisher(1, 1);
    now.wall += 30min;
    now.mono += 30min;
    again = publisher(1, 1);
    publish(again, 1, 6, "6");
    EXPECT_THAT(late(From::first()), ElementsAre("4", "5", "6"));
    now.wall += 31min;
    pass(31min);
    EXPECT_THAT(late(From::first()), ElementsAre("6"));
    EXPECT_EQ(kept(), 1U);
    for (const Event& event : events) EXPECT_NE(event.kind, Event::Kind::overflow) << "it was to go";
}

TEST_F(Retained, NobodyConsumesTheLogAndItGoesWhenItIsNotAskedForAnyMore) {
    std::vector<std::string> notes;
    Options options = retaining();
    open(options);
    Peer sends = publisher(1, 1);
    publish_all(sends, 1, 1, 3);
    Peer at_log = subscriber(2, ".retained");
    EXPECT_EQ(refused(at_log), "wrong_kind");
    Peer admin = hello(9, {.role = protocol::Role::admin});
    say(admin, protocol::AdminRequest{.id = 1, .verb = "unsubscribe", .address = "t/.retained"});
    EXPECT_THAT(heard_of<protocol::AdminResult>(admin).at(0).error, HasSubstr("retain"));
    EXPECT_EQ(kept(), 3U);
    options.retained.clear();
    options.log = [&](LogLevel, std::string_view note) { notes.emplace_back(note); };
    open(options);
    pass(defaults::settle_delay);
    EXPECT_EQ(kept(), 0U);
    EXPECT_THAT(notes, ::testing::Contains(HasSubstr("the topic t is not retained any more")));
    Peer one = subscriber(2, "late", {.from = From::first()});
    EXPECT_EQ(refused(one), "not_retained");
    Peer now_on = subscriber(3, "now");
    EXPECT_THAT(heard_of<protocol::Welcome>(now_on), SizeIs(1));
    open(retaining());
    EXPECT_THAT(late(From::first()), IsEmpty()) << "from here on";
}

// Nor do they mean anything to those that get it from there, but to those that get it live.
TEST_F(Retained, TheLogIsInTheOrderOfAcceptanceWhateverPrioritiesSay) {
    open(retaining());
    Peer sends = publisher(1, 1);
    for (std::uint64_t i = 1; i <= 3; ++i) {
        envelope::Envelope envelope{.producer = identity(1), .sequence = i, .previous = i - 1};
        envelope.message.subject = std::to_string(i);
        envelope.message.priority = static_cast<std::uint8_t>(i);
        envelope.message.ordering_key = "k";
        envelope.message.ttl = 1s;
        std::string bytes;
        envelope::encode(envelope, bytes);
        say(sends, protocol::Publish{{Slice{std::move(bytes)}}});
    }
    now.wall += 1min;
    pass(1min);
    EXPECT_THAT(late(From::first()), ElementsAre("1", "2", "3"));
}

}  // namespace
}  // namespace posthorn::host
