// Requests at a host: each that was accepted is answered exactly once, in the commit that settles it.
#include <algorithm>

#include "fixture.hpp"

namespace posthorn::host {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class Requests : public HostFixture {
protected:
    void open(Options options = {}) {
        host.reset();
        store.reset();
        said.clear();
        make(std::move(options), store::open_sqlite_store({.folder = folder.path(), .min_free = 0, .vfs = {}}));
        work();
    }
    // A requester is two peers: one publishes, the other one hears the answers.
    Peer requester(PeerId id, bool named = true, bool needs_replier = false) {
        return hello(id, {.role = protocol::Role::producer,
                          .address = "q",
                          .incarnation = identity(1),
                          .replies = "r",
                          .keeps_replies = named,
                          .needs_replier = needs_replier});
    }
    Peer answers(PeerId id, bool named = true) {
        return hello(id, {.role = protocol::Role::consumer,
                          .address = "q.replies/r",
                          .incarnation = identity(2),
                          .temporary = !named});
    }
    Peer replier(PeerId id, std::uint8_t who, std::vector<protocol::Held> held = {}) {
        return hello(id, {.role = protocol::Role::consumer,
                          .address = "q",
                          .incarnation = identity(who),
                          .held = std::move(held),
                          .replier = true});
    }
    static Slice request_of(std::uint64_t sequence, Duration ttl = {}, std::string reply_to = "r") {
        envelope::Envelope envelope{.producer = identity(1), .sequence = sequence, .previous = sequence - 1};
        envelope.reply_to = std::move(reply_to);
        envelope.message.payload = "ask";
        envelope.message.correlation_id = "c" + std::to_string(sequence);
        envelope.message.ttl = ttl;
        std::string bytes;
        envelope::encode(envelope, bytes);
        return Slice{std::move(bytes)};
    }
    void request(Peer& peer, std::uint64_t sequence, Duration ttl = {}) {
        say(peer, protocol::Publish{{request_of(sequence, ttl)}});
    }
    std::vector<protocol::DeliverOne> delivered(Peer& consumer) {
        std::vector<protocol::DeliverOne> all;
        for (auto& deliver : heard_of<protocol::Deliver>(consumer)) {
            for (auto& one : deliver.items) all.push_back(std::move(one));
        }
        return all;
    }
    static protocol::SettleOne answer_to(const protocol::DeliverOne& one, const std::string& payload) {
        const envelope::Request request = envelope::read_request(one.envelope.view());
        return {.offset = one.offset,
                .token = one.token,
                .verdict = protocol::Verdict::ack,
                .delay_ms = {},
                .text = {},
                .reply = Slice{envelope::answer(request, {}, {.payload = payload})}};
    }
    void reply(Peer& consumer, const protocol::DeliverOne& one, const std::string& payload = "42") {
        say(consumer, protocol::Settle{.acks = {}, .others = {answer_to(one, payload)}});
    }
    void settle(Peer& consumer, const protocol::DeliverOne& one, protocol::Verdict verdict, std::string text = {}) {
        say(consumer, protocol::Settle{.acks = {}, .others = {{one.offset, one.token, verdict, {}, std::move(text)}}});
    }
    // "<sequence> <status> <payload>" of the answers that came since last asked, each acked.
    std::vector<std::string> answered(Peer& consumer) {
        std::vector<std::string> all;
        for (const auto& one : delivered(consumer)) {
            const auto answer = envelope::decode(one.envelope.view()).value();
            EXPECT_EQ(answer.producer, identity(1));
            EXPECT_EQ(answer.message.correlation_id, "c" + std::to_string(answer.sequence));
            all.push_back(std::to_string(answer.sequence) + " " + answer.status + " " + answer.message.payload);
            ack(consumer, one);
        }
        return all;
    }
    void pass_all(Duration time) {  // by the wall clock as well
        now.wall += std::chrono::duration_cast<WallClock::duration>(time);
        pass(time);
    }

    TempFolder folder;
};

TEST_F(Requests, EveryWayToEndIsAnAnswer) {
    open();
    Peer asks = requester(1);
    Peer hears = answers(2);
    Peer works = replier(3, 3);
    for (std::uint64_t i = 1; i <= 6; ++i) request(asks, i);
    const auto given = delivered(works);
    ASSERT_THAT(given, SizeIs(6));
    reply(works, given[0]);
    EXPECT_THAT(answered(hears), ElementsAre("1  42"));
    ack(works, given[1]);
    EXPECT_THAT(answered(hears), ElementsAre("2  ")) << "of a worker that knows of no answers";
    settle(works, given[2], protocol::Verdict::nack, "broken");
    settle(works, given[3], protocol::Verdict::reject, "never");
    settle(works, given[4], protocol::Verdict::undecodable, "not a T");
    EXPECT_THAT(answered(hears), ElementsAre("3 failed broken", "4 failed never", "5 undecodable not a T"));
    settle(works, given[5], protocol::Verdict::release);
    const auto again = delivered(works);
    ASSERT_THAT(again, SizeIs(1)) << "given back, and not begun";
    reply(works, again[0], "x");
    EXPECT_THAT(answered(hears), ElementsAre("6  x"));
    reply(works, again[0], "y");
    pass(1min);
    EXPECT_THAT(answered(hears), IsEmpty()) << "once";
    EXPECT_EQ(host->unsettled(), 0U);
}

TEST_F(Requests, AReasonThatIsTooLongIsCut) {
    Options options;
    options.message_limit = 400;
    open(options);
    Peer asks = requester(1);
    Peer hears = answers(2);
    Peer works = replier(3, 3);
    request(asks, 1);
    const auto given = delivered(works);
    ASSERT_THAT(given, SizeIs(1));
    auto settle = answer_to(given[0], {});
    const envelope::Request to = envelope::read_request(given[0].envelope.view());
    settle.reply = Slice{envelope::answer(to, envelope::status::failed, {.payload = "broken" + std::string(500, '.')})};
    say(works, protocol::Settle{.acks = {}, .others = {settle}});
    EXPECT_THAT(answered(hears), ElementsAre(HasSubstr("1 failed broken...")));
}

TEST_F(Requests, BadOnesSlowTheServiceForNobody) {
    Options options;
    options.defaults.storm_after = 2;
    open(options);
    Peer asks = requester(1);
    Peer hears = answers(2);
    Peer works = replier(3, 3);
    for (std::uint64_t i = 1; i <= 8; ++i) request(asks, i);
    const auto given = delivered(works);
    for (std::size_t i = 0; i < 2; ++i) settle(works, given.at(i), protocol::Verdict::nack, "bad");
    for (std::size_t i = 2; i < 5; ++i) settle(works, given.at(i), protocol::Verdict::reject, "bad");
    for (std::size_t i = 5; i < 8; ++i) settle(works, given.at(i), protocol::Verdict::undecodable, "bad");
    EXPECT_THAT(answered(hears), SizeIs(8));
    request(asks, 9);
    request(asks, 10);
    EXPECT_THAT(delivered(works), SizeIs(2)) << "at once";
}

TEST_F(Requests, WhatALostReplierHeldIsAnsweredAndNotBegunAgain) {
    open();
    Peer asks = requester(1);
    Peer hears = answers(2);
    Peer works = replier(3, 3);
    request(asks, 1);
    EXPECT_THAT(delivered(works), SizeIs(1));
    pass(defaults::replier_lease * 2);
    EXPECT_THAT(answered(hears), ElementsAre(HasSubstr("1 replier_lost")));
    Peer other = replier(4, 4);
    EXPECT_THAT(delivered(other), IsEmpty());
    EXPECT_EQ(host->unsettled(), 0U);
}

TEST_F(Requests, OneThatIsCancelledIsNotBegunAndWhoIsAtItIsTold) {
    open();
    Peer asks = requester(1);
    Peer hears = answers(2);
    for (std::uint64_t i = 1; i <= 3; ++i) request(asks, i);
    say(asks, protocol::Cancel{{{1, 1}, {7, std::numeric_limits<std::uint64_t>::max()}}});
    Peer works = replier(3, 3);
    const auto given = delivered(works);
    ASSERT_THAT(given, SizeIs(2)) << "the first one was not begun";
    say(asks, protocol::Cancel{{{2, 2}}});
    const auto lost = heard_of<protocol::Lost>(works);
    ASSERT_THAT(lost, SizeIs(1));
    EXPECT_EQ(lost[0].items[0].offset, given[0].offset);
    reply(works, given[0]);
    reply(works, given[1]);
    EXPECT_THAT(answered(hears), ElementsAre("3  42")) << "nobody waits for the others";
    EXPECT_EQ(host->unsettled(), 0U);
}

TEST_F(Requests, AnIdempotentServiceTriesAgain) {
    open({.defaults = {.request_attempts = 3, .backoff = {.kind = Backoff::Kind::fixed, .min = 0s}}});
    Peer asks = requester(1);
    Peer hears = answers(2);
    Peer works = replier(3, 3);
    request(asks, 1);
    for (int attempt = 1; attempt <= 3; ++attempt) {
        const auto given = delivered(works);
        ASSERT_THAT(given, SizeIs(1)) << attempt;
        EXPECT_EQ(given[0].attempt, static_cast<unsigned>(attempt));
        EXPECT_THAT(answered(hears), IsEmpty());
        settle(works, given[0], protocol::Verdict::nack, "no");
    }
    EXPECT_THAT(answered(hears), ElementsAre("1 failed no"));
}

TEST_F(Requests, OneThatNobodyTakesInItsTimeIsAnswered) {
    open();
    Peer asks = requester(1);
    Peer hears = answers(2);
    request(asks, 1, 3s);
    pass_all(2999ms);
    EXPECT_THAT(answered(hears), IsEmpty());
    pass_all(1ms);
    EXPECT_THAT(answered(hears), ElementsAre(HasSubstr("1 expired")));
    EXPECT_EQ(host->unsettled(), 0U);
}

TEST_F(Requests, OneThatExpiredInTheStoreIsReadForItsAnswer) {
    open();
    Peer asks = requester(1);
    for (std::uint64_t i = 1; i <= 3; ++i) request(asks, i, 3s);
    open();
    Peer hears = answers(2);
    pass_all(3s);
    EXPECT_THAT(answered(hears), ElementsAre(HasSubstr("1 expired"), HasSubstr("2 expired"), HasSubstr("3 expired")));
    EXPECT_EQ(host->unsettled(), 0U);
}

TEST_F(Requests, TheAnswerAndTheEndOfTheRequestAreOneCommit) {
    auto owned = std::make_unique<TightStore>();
    TightStore& tight = *owned;
    make({}, std::move(owned));
    Peer asks = requester(1);
    Peer works = replier(3, 3);
    request(asks, 1);
    const auto given = delivered(works);
    ASSERT_THAT(given, SizeIs(1));
    const std::size_t settled_before = tight.settled;
    const std::size_t appended_before = tight.appended;
    tight.takes = TightStore::Takes::settlements;
    reply(works, given[0]);
    pass(500ms);
    EXPECT_EQ(tight.settled, settled_before) << "no room for the answer, so the request stays";
    EXPECT_EQ(settled(works), 0U);
    tight.takes = TightStore::Takes::all;
    pass(2s);
    EXPECT_EQ(tight.settled, settled_before + 1);
    EXPECT_EQ(tight.appended, appended_before + 1);
    EXPECT_EQ(settled(works), 1U);
    Peer hears = answers(2);
    EXPECT_THAT(answered(hears), ElementsAre("1  42"));
}

TEST_F(Requests, NobodyIsGivenOneBeforeTheStoreKnows) {
    open();
    Peer asks = requester(1);
    Peer works = replier(3, 3);
    stores = false;
    request(asks, 1);
    EXPECT_THAT(delivered(works), IsEmpty());
    stores = true;
    pass(0ms);
    const auto given = delivered(works);
    ASSERT_THAT(given, SizeIs(1));

    open();  // the host dies with what it has not stored, and the replier as well
    Peer other = replier(4, 4);
    pass(1s);
    EXPECT_THAT(delivered(other), IsEmpty());
    pass(defaults::replier_lease);
    EXPECT_THAT(delivered(other), IsEmpty());
    Peer hears = answers(2);
    EXPECT_THAT(answered(hears), ElementsAre(HasSubstr("1 replier_lost")));
}

TEST_F(Requests, AnAnswerIsHeardOnceItIsStored) {
    open();
    Peer asks = requester(1);
    Peer hears = answers(2);
    Peer works = replier(3, 3);
    request(asks, 1);
    const auto given = delivered(works);
    stores = false;
    reply(works, given.at(0));
    EXPECT_THAT(answered(hears), IsEmpty()) << "if the host and the replier died now, it would be replier_lost";
    stores = true;
    pass(0ms);
    EXPECT_THAT(answered(hears), ElementsAre("1  42"));
}

TEST_F(Requests, AReplierAnswersOverARestart) {
    open();
    Peer asks = requester(1);
    Peer works = replier(3, 3);
    request(asks, 1);
    request(asks, 2);
    request(asks, 3);
    const auto given = delivered(works);
    ASSERT_THAT(given, SizeIs(3));
    open();
    std::vector<protocol::Held> held;
    held.reserve(given.size());
    for (const auto& one : given) held.push_back({one.offset, one.token, true});
    Peer back = replier(3, 3, held);
    EXPECT_THAT(heard_of<protocol::Welcome>(back).at(0).lost, IsEmpty());
    stores = false;
    reply(back, given[0]);
    ack(back, given[1]);  // what the answer repeats has to be read first
    settle(back, given[2], protocol::Verdict::nack, "broken");
    pass(1s);
    EXPECT_EQ(settled(back), 0U);
    stores = true;
    pass(1s);
    EXPECT_EQ(settled(back), 3U);
    Peer hears = answers(2);
    EXPECT_THAT(answered(hears), ::testing::UnorderedElementsAre("1  42", "2  ", "3 failed broken"));
    pass(1s);
    open();
    Peer hears_again = answers(2);
    EXPECT_THAT(answered(hears_again), IsEmpty());
    EXPECT_EQ(host->unsettled(), 0U);
}

TEST_F(Requests, AnswersWaitForANamedRequester) {
    open();
    Peer asks = requester(1);
    Peer works = replier(3, 3);
    request(asks, 1);
    reply(works, delivered(works).at(0));
    pass_all(12h);
    open();
    pass_all(11h);
    Peer hears = answers(2);
    EXPECT_THAT(answered(hears), ElementsAre("1  42"));
}

TEST_F(Requests, AnswersToOneThatHasGoneAreCounted) {
    open();
    Peer asks = requester(1, false);
    Peer hears = answers(2, false);
    Peer works = replier(3, 3);
    request(asks, 1);
    const auto given = delivered(works);
    say(hears, protocol::Bye{});
    reply(works, given.at(0));
    const auto told = [](const Event& event) {
        return event.kind == Event::Kind::dropped && event.text.find("answers") != std::string::npos;
    };
    EXPECT_EQ(std::count_if(events.begin(), events.end(), told), 1);
    EXPECT_EQ(host->unsettled(), 0U);
}

TEST_F(Requests, ATemporaryRequesterMayBeCutOffForAsLongAsItsRequestsLast) {
    open();
    Peer asks = requester(1, false);
    Peer hears = answers(2, false);
    request(asks, 1, 10min);
    pass_all(2min);  // of silence
    Peer works = replier(3, 3);
    reply(works, delivered(works).at(0));
    pass_all(8min);
    Peer back = answers(2, false);
    EXPECT_THAT(answered(back), ElementsAre("1  42"));
}

TEST_F(Requests, WithoutRepliersTheyAreRefusedIfThatIsAsked) {
    make();
    Peer asks = requester(1, false, true);
    request(asks, 1);
    std::vector<std::string> codes;
    for (const auto& confirm : heard_of<protocol::Confirm>(asks)) {
        for (const auto& one : confirm.refused) codes.push_back(one.code);
    }
    EXPECT_THAT(codes, ElementsAre("no_replier"));
    Peer works = replier(3, 3);
    request(asks, 2);
    EXPECT_THAT(delivered(works), SizeIs(1));
}

TEST_F(Requests, AnAnswerToAnotherRequestEndsTheSession) {
    make();
    Peer asks = requester(1);
    Peer hears = answers(2);
    Peer works = replier(3, 3);
    request(asks, 1);
    request(asks, 2);
    const auto given = delivered(works);
    ASSERT_THAT(given, SizeIs(2));
    auto wrong = answer_to(given[0], "42");
    wrong.offset = given[1].offset;
    say(works, protocol::Settle{.acks = {}, .others = {wrong}});
    EXPECT_EQ(heard_of<protocol::Refusal>(works).at(0).code, "malformed");
    EXPECT_THAT(answered(hears), IsEmpty());
    Peer back = replier(3, 3, {{given[0].offset, given[0].token, true}, {given[1].offset, given[1].token, true}});
    say(back,
        protocol::Settle{
            .acks = {},
            .others = {{given[0].offset, given[0].token, protocol::Verdict::ack, {}, "", Slice{std::string{"junk"}}}}});
    EXPECT_EQ(heard_of<protocol::Refusal>(back).at(0).code, "malformed");
    EXPECT_THAT(answered(hears), IsEmpty());
}

TEST_F(Requests, HellosThatMakeNoSenseAreRefused) {
    open();
    const auto refusal = [&](protocol::Hello how) {
        how.incarnation = identity(9);
        Peer peer = hello(9, std::move(how));
        const auto refusals = heard_of<protocol::Refusal>(peer);
        return refusals.empty() ? std::string{} : refusals.back().code;
    };
    using enum protocol::Role;
    EXPECT_EQ(refusal({.role = consumer, .address = "a.replies/b", .replier = true}), "wrong_kind");
    EXPECT_EQ(refusal({.role = consumer, .address = "a", .live = true, .replier = true}), "wrong_kind");
    EXPECT_EQ(refusal({.role = producer, .address = "a", .replies = ".retained"}), "bad_name");
}

TEST_F(Requests, TheNamesOfAnswersAreNobodyElses) {
    make();
    const auto refused = [this](PeerId id, protocol::Hello how) {
        how.incarnation = identity(static_cast<std::uint8_t>(id));
        Peer peer = hello(id, std::move(how));
        const auto refusals = heard_of<protocol::Refusal>(peer);
        return refusals.empty() ? std::string{} : refusals.back().code;
    };
    using protocol::Role;
    EXPECT_EQ(refused(1, {.role = Role::producer, .address = "q.replies"}), "wrong_kind");
    EXPECT_EQ(refused(2, {.role = Role::producer, .address = "q.replies", .topic = true}), "wrong_kind");
    EXPECT_EQ(refused(3, {.role = Role::consumer, .address = "q.replies"}), "wrong_kind");
    EXPECT_EQ(refused(4, {.role = Role::producer, .address = "q", .replies = "a/b"}), "bad_name");
    EXPECT_EQ(refused(5, {.role = Role::producer, .address = std::string(195, 'q'), .replies = "a"}), "bad_name");
    EXPECT_EQ(refused(6, {.role = Role::producer, .address = "t", .topic = true}), "");
    EXPECT_EQ(refused(7, {.role = Role::producer, .address = "t", .replies = "a"}), "wrong_kind");
    EXPECT_EQ(refused(8, {.role = Role::consumer, .address = "t", .replier = true}), "wrong_kind");
    EXPECT_EQ(refused(9, {.role = Role::consumer, .address = "t.replies/a"}), "wrong_kind");
}

}  // namespace
}  // namespace posthorn::host
