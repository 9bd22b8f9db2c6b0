#include "protocol/producer_session.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <random>
#include <set>

#include "envelope/envelope.hpp"
#include "scripted_host.hpp"

namespace posthorn::protocol {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

const Identity producer_id{{1, 2, 3}};

Slice envelope_of(std::uint64_t sequence, std::size_t payload = 20) {
    envelope::Envelope envelope;
    envelope.producer = producer_id;
    envelope.sequence = sequence;
    envelope.previous = sequence - 1;
    envelope.message.payload = std::string(payload, 'x');
    std::string bytes;
    envelope::encode(envelope, bytes);
    return Slice{std::move(bytes)};
}

class ProducerSessionTest : public testing::Test {
protected:
    ProducerSessionTest() { session_.add_link(host_.peer(), "tcp://host"); }

    void offer(int count, std::size_t payload = 20) {
        for (int i = 0; i < count; ++i) session_.offer(envelope_of(++offered_, payload));
    }
    // One round: the session works, the host hears.
    void turn(Duration time) {
        now_ = at(time);
        session_.turn(now_);
        host_.hear(session_.take_frames());
        auto news = session_.take_news();
        for (const SequenceRange& range : news.safe) safe_.push_back(range);
        for (const Refused& refused : news.refused) refused_.push_back(refused.sequence);
        for (Event& event : news.events) events_.push_back(std::move(event));
    }
    // The session hears what the host has said, and works.
    void answer(Duration time) {
        for (const std::string& bytes : host_.said()) session_.receive(host_.peer(), Slice{bytes}, at(time));
        turn(time);
    }
    void open(Welcome welcome, Credit credit = {1000, 1'000'000, {}}, Duration time = 0ms) {
        turn(time);
        welcome.heartbeat_ms = 1000;
        host_.welcome(welcome);
        host_.say(credit);
        answer(time);
    }
    std::vector<std::uint64_t> published() {
        std::vector<std::uint64_t> sequences;
        for (const Publish& publish : host_.take<Publish>()) {
            for (const Slice& bytes : publish.envelopes) {
                const auto routing = envelope::read_routing(bytes.view());
                sequences.push_back(routing ? routing->sequence : 0);
                if (routing) previous_.push_back(routing->previous);
            }
        }
        return sequences;
    }

    ProducerSession session_{{.producer = producer_id, .queue = "q", .name = "n"}};
    ScriptedHost host_{7};
    Now now_ = at(0ms);
    std::uint64_t offered_ = 0;
    std::vector<SequenceRange> safe_;
    std::vector<std::uint64_t> refused_;
    std::vector<std::uint64_t> previous_;
    std::vector<Event> events_;
};

TEST_F(ProducerSessionTest, SaysWhoItIsAndWhatItHas) {
    offer(3);
    turn(0ms);
    ASSERT_THAT(host_.hellos, SizeIs(1));
    EXPECT_EQ(host_.hellos[0].role, Role::producer);
    EXPECT_EQ(host_.hellos[0].address, "q");
    EXPECT_EQ(host_.hellos[0].incarnation, producer_id);
    EXPECT_EQ(host_.hellos[0].confirmed, 0U);
    EXPECT_EQ(host_.hellos[0].oldest, 1U);
}

TEST_F(ProducerSessionTest, RepeatsTheHelloAndTakesOnlyTheAnswerToTheLast) {
    turn(0ms);
    turn(999ms);
    EXPECT_THAT(host_.hellos, SizeIs(1));
    turn(1000ms);
    ASSERT_THAT(host_.hellos, SizeIs(2));
    EXPECT_NE(host_.hellos[0].attempt, host_.hellos[1].attempt);

    const Hello last = host_.hellos.back();
    host_.hellos.pop_back();
    host_.welcome({});  // to the first
    answer(1001ms);
    EXPECT_FALSE(session_.connected());
    host_.hellos.push_back(last);
    host_.welcome({});
    answer(1002ms);
    EXPECT_TRUE(session_.connected());
    EXPECT_THAT(texts(events_, Event::Kind::connected), SizeIs(1));
}

TEST_F(ProducerSessionTest, KnowsHowManyConsumersThereAreWhileThereIsASession) {
    open({});
    EXPECT_FALSE(session_.consumers()) << "not told yet";
    host_.say(Peers{2});
    answer(1ms);
    EXPECT_EQ(session_.consumers(), 2U);
    session_.send_failed(host_.peer(), at(2ms));
    EXPECT_FALSE(session_.consumers());
    open({}, {}, 100ms);
    EXPECT_FALSE(session_.consumers()) << "of the session before";
}

TEST_F(ProducerSessionTest, TriesAgainSoonWhenAHelloCannotBeSent) {
    session_.turn(at(0ms));
    EXPECT_THAT(session_.take_frames(), SizeIs(1));
    session_.send_failed(host_.peer(), at(0ms));
    EXPECT_LE(session_.next_deadline(), at(10ms).mono);
}

TEST_F(ProducerSessionTest, SendsWithinItsCredit) {
    offer(10);
    open({}, {.messages = 4, .bytes = 1'000'000});
    EXPECT_THAT(published(), ElementsAre(1, 2, 3, 4));
    host_.say(Credit{6, 1'000'000, {}});
    answer(1ms);
    EXPECT_THAT(published(), ElementsAre(5, 6));
}

TEST_F(ProducerSessionTest, TheLastMessageMayGoBeyondTheBytes) {
    offer(5, 1000);
    const std::uint64_t size = envelope_of(1, 1000).size();
    open({.durable = true}, {.messages = 10, .bytes = size + 1});
    EXPECT_THAT(published(), ElementsAre(1, 2));
    host_.say(Confirm{.held = 2, .stored = 2});
    answer(1ms);
    EXPECT_THAT(published(), IsEmpty()) << "nothing is under way, but there is no credit";
    host_.say(Credit{.messages = 11, .bytes = 2 * size});
    answer(2ms);
    EXPECT_THAT(published(), IsEmpty());
    host_.say(Credit{.messages = 11, .bytes = 2 * size + 1});
    answer(3ms);
    EXPECT_THAT(published(), ElementsAre(3));
}

TEST_F(ProducerSessionTest, CutsLargeBatchesIntoFramesAndTurns) {
    offer(300, 10'000);
    open({}, {.messages = 1000, .bytes = 100'000'000});
    const std::size_t first_turn = published().size();
    EXPECT_GT(first_turn, 90U);
    EXPECT_LT(first_turn, 110U);                     // about 1 MiB
    EXPECT_GT(host_.frames, 15U);                    // of about 64 KiB
    EXPECT_LE(session_.next_deadline(), now_.mono);  // and on without waiting
    turn(1ms);
    turn(2ms);
    turn(3ms);
    EXPECT_EQ(first_turn + published().size(), 300U);
}

TEST_F(ProducerSessionTest, AMessageBiggerThanAFrameGoesInFragments) {
    offer(1, 700'000);
    open({}, {.messages = 10, .bytes = 10'000'000});
    EXPECT_THAT(published(), ElementsAre(1));
    EXPECT_GE(host_.frames, 4U);
}

TEST_F(ProducerSessionTest, KeepsMessagesOfADurableHostUntilTheyAreStored) {
    offer(5);
    open({.durable = true});
    host_.say(Confirm{.held = 5, .stored = 3});
    answer(1ms);
    EXPECT_EQ(session_.held(), 5U);
    EXPECT_EQ(session_.unsafe_messages(), 2U);
    EXPECT_THAT(safe_, ElementsAre(SequenceRange{1, 3}));
}

TEST_F(ProducerSessionTest, KeepsMessagesOfAMemoryHostUntilTheyAreSettledInAnyOrder) {
    offer(200);
    open({});
    host_.say(Confirm{.held = 200, .settled = {{150, 200}, {3, 3}}});
    answer(1ms);
    EXPECT_EQ(session_.unsafe_messages(), 148U);
    std::size_t bytes = 0;
    for (std::uint64_t one = 1; one < 150; ++one) bytes += one == 3 ? 0 : envelope_of(one).size();
    EXPECT_EQ(session_.unsafe_bytes(), bytes);
    host_.say(Confirm{.settled = {{1, ~std::uint64_t{0}}}});  // a host may say what it likes
    answer(2ms);
    EXPECT_EQ(session_.unsafe_messages(), 0U);
    EXPECT_EQ(session_.unsafe_bytes(), 0U);
}

TEST_F(ProducerSessionTest, ResendsWhatTheHostDoesNotHave) {
    offer(6);
    open({.durable = true});
    EXPECT_THAT(published(), SizeIs(6));
    host_.say(Confirm{.held = 4, .stored = 2});
    answer(1ms);
    host_.say_outside(Identify{});
    answer(2ms);
    EXPECT_THAT(texts(events_, Event::Kind::lost), SizeIs(1));
    ASSERT_THAT(host_.hellos, SizeIs(2));
    EXPECT_EQ(host_.hellos[1].confirmed, 2U);
    EXPECT_EQ(host_.hellos[1].oldest, 3U);

    // The host died and came back: it knows of what it had stored and no more.
    open({.durable = true, .watermark = 3, .stored = 3}, {1000, 1'000'000, {}}, 3ms);
    EXPECT_THAT(published(), ElementsAre(4, 5, 6));
    EXPECT_THAT(safe_, ElementsAre(SequenceRange{1, 2}, SequenceRange{3, 3}));
    EXPECT_THAT(texts(events_, Event::Kind::resumed), SizeIs(1));
}

TEST_F(ProducerSessionTest, NamesWhatAMessageFollowsWhenThoseBetweenAreGone) {
    offer(5);
    open({});
    (void)published();
    host_.say(Confirm{.held = 5, .settled = {{1, 1}, {3, 4}}});
    answer(1ms);
    host_.say_outside(Identify{});
    answer(2ms);
    previous_.clear();
    open({.watermark = 1}, {1000, 1'000'000, {}}, 3ms);  // another life of a host in memory
    EXPECT_THAT(published(), ElementsAre(2, 5));
    EXPECT_THAT(previous_, ElementsAre(1, 2));
}

TEST_F(ProducerSessionTest, TellsRefusalsOnceAndLetsGoOfTheMessages) {
    offer(3);
    open({.durable = true});
    host_.say(Confirm{.held = 3, .refused = {{2, "queue_full", "full"}}});
    answer(1ms);
    host_.say_outside(Identify{});
    answer(2ms);
    open({.durable = true, .watermark = 3, .refused = {{2, "queue_full", "full"}, {3, "queue_full", "full"}}}, {}, 3ms);
    EXPECT_THAT(refused_, ElementsAre(2, 3));
    EXPECT_EQ(session_.unsafe_messages(), 1U);
}

TEST_F(ProducerSessionTest, RefusesByItselfWhatTheHostWouldNotTake) {
    offer(1);
    offer(1, 5000);
    offer(1);
    open({.message_limit = 1000});
    EXPECT_THAT(published(), ElementsAre(1, 3));
    EXPECT_THAT(previous_, ElementsAre(0, 1));
    turn(1ms);
    EXPECT_THAT(refused_, ElementsAre(2));
}

TEST_F(ProducerSessionTest, SaysWhenTheStoreKnowsLessThanItHadConfirmed) {
    offer(5);
    open({.durable = true});
    host_.say(Confirm{.held = 5, .stored = 5});
    answer(1ms);
    host_.say_outside(Identify{});
    answer(2ms);
    open({.durable = true, .watermark = 5, .stored = 2}, {}, 3ms);
    EXPECT_THAT(texts(events_, Event::Kind::store_lost_confirmed), ElementsAre(HasSubstr("up to 5")));
}

TEST_F(ProducerSessionTest, GivesASilentHostUpAndComesBack) {
    offer(1);
    open({});
    turn(4999ms);
    EXPECT_TRUE(session_.connected());
    turn(5000ms);
    EXPECT_FALSE(session_.connected());
    EXPECT_THAT(texts(events_, Event::Kind::lost), SizeIs(1));
    EXPECT_THAT(host_.hellos, SizeIs(2));
}

TEST_F(ProducerSessionTest, IsPatientWithASilentHostWhenNothingIsUnderWay) {
    open({});
    turn(49s);
    EXPECT_TRUE(session_.connected());
    // A message is sent now: only from here on the host has to speak every second.
    offer(1);
    turn(49500ms);
    EXPECT_TRUE(session_.connected());
    turn(54400ms);
    EXPECT_TRUE(session_.connected());
    turn(54600ms);
    EXPECT_FALSE(session_.connected());
}

TEST_F(ProducerSessionTest, GivesSignsOfLife) {
    open({});
    const std::size_t before = host_.frames;
    turn(9999ms);
    EXPECT_EQ(host_.frames, before);
    turn(10s);
    EXPECT_EQ(host_.frames, before + 1);
    offer(1);
    turn(10001ms);
    EXPECT_EQ(host_.frames, before + 2);
    turn(11001ms);
    EXPECT_EQ(host_.frames, before + 3);
}

TEST_F(ProducerSessionTest, AnswersALostFrameWithAHello) {
    open({});
    host_.say(Confirm{.held = 1});
    (void)host_.said();  // lost
    host_.say(Credit{2000, 2'000'000, {}});
    answer(1ms);
    EXPECT_FALSE(session_.connected());
    EXPECT_THAT(host_.hellos, SizeIs(2));
}

TEST_F(ProducerSessionTest, GoesOnWithTheNextEndpointWhenOneDoesNotAnswer) {
    ScriptedHost other{8};
    session_.add_link(other.peer(), "tcp://other");
    offer(1);
    for (int ms = 0; ms < 5000 && other.hellos.empty(); ms += 500) {
        session_.turn(at(std::chrono::milliseconds{ms}));
        const auto frames = session_.take_frames();
        host_.hear(frames);
        other.hear(frames);
    }
    ASSERT_THAT(other.hellos, SizeIs(1));
    EXPECT_THAT(host_.hellos, SizeIs(2));
    other.welcome({});
    other.say(Credit{10, 1000, {}});
    for (const std::string& bytes : other.said()) session_.receive(other.peer(), Slice{bytes}, at(5s));
    session_.turn(at(5s));
    other.hear(session_.take_frames());
    EXPECT_THAT(other.take<Publish>(), SizeIs(1));
}

TEST_F(ProducerSessionTest, ARefusedSessionIsTriedAgainSlowlyAndToldOnce) {
    turn(0ms);
    for (int second = 1; second < 30; ++second) {
        host_.say_outside(Refusal{"unknown_queue", "no q here"});
        answer(std::chrono::seconds{second});
    }
    EXPECT_THAT(texts(events_, Event::Kind::refused), ElementsAre(HasSubstr("unknown_queue")));
    EXPECT_GE(host_.hellos.size(), 5U);
    EXPECT_LE(host_.hellos.size(), 9U);
}

TEST_F(ProducerSessionTest, WaitsAsLongAsAGoodbyeAsks) {
    open({});
    host_.say(Bye{3000, "restarting"});
    answer(0ms);
    turn(2999ms);
    EXPECT_THAT(host_.hellos, SizeIs(1));
    turn(3000ms);
    EXPECT_THAT(host_.hellos, SizeIs(2));
    EXPECT_THAT(texts(events_, Event::Kind::lost), ElementsAre(HasSubstr("restarting")));
}

TEST_F(ProducerSessionTest, OneOldMessageDoesNotKeepTheMemoryOfItsNeighbours) {
    const auto big = std::make_shared<const std::string>(1'000'000, 'x');
    const std::weak_ptr<const std::string> arena = big;
    {
        auto owner = std::shared_ptr<const std::string>{big};
        for (int i = 0; i < 64; ++i) session_.offer(Slice{owner, std::string_view{*owner}.substr(0, 100)});
    }
    offered_ = 64;
    offer(40'000);
    open({}, {.messages = 100'000, .bytes = 100'000'000});
    for (int ms = 1; ms < 20; ++ms) turn(std::chrono::milliseconds{ms});
    EXPECT_EQ(arena.use_count(), 65);
    host_.say(Confirm{.held = 40'000, .settled = {{1, 20}, {22, 64}}});
    answer(20ms);
    EXPECT_EQ(arena.use_count(), 1) << "message 21 is still open, but has its own bytes now";
}

class NamedSessionTest : public ProducerSessionTest {
protected:
    NamedSessionTest() {
        session_ =
            ProducerSession{{.producer = producer_id, .incarnation = Identity{{9}}, .queue = "q", .name = "importer"}};
        session_.add_link(host_.peer(), "tcp://host");
    }
    void fence() { host_.say_outside(Refusal{"fenced", "a later one came"}); }
};

TEST_F(NamedSessionTest, GoesOnBehindThePlaceItIsTold) {
    open({.durable = true, .watermark = 200, .stored = 190});
    ASSERT_THAT(host_.hellos, SizeIs(1));
    EXPECT_EQ(host_.hellos[0].producer, producer_id);
    EXPECT_EQ(host_.hellos[0].incarnation, Identity{{9}});
    EXPECT_FALSE(host_.hellos[0].resumed);
    EXPECT_FALSE(session_.place()) << "the watermark alone may be lost again";
    host_.say(Confirm{.stored = 200, .resume = 200});
    answer(1ms);
    EXPECT_EQ(session_.place(), 200U);
    EXPECT_THAT(safe_, IsEmpty());
    offered_ = 200;
    offer(2);
    turn(2ms);
    EXPECT_THAT(published(), ElementsAre(201, 202));
    EXPECT_THAT(previous_, ElementsAre(200, 201));
    host_.say(Confirm{.held = 202, .stored = 201});
    answer(3ms);
    EXPECT_THAT(safe_, ElementsAre(SequenceRange{201, 201}));

    host_.say_outside(Identify{});
    answer(4ms);
    ASSERT_THAT(host_.hellos, SizeIs(2));
    EXPECT_TRUE(host_.hellos[1].resumed);
    EXPECT_EQ(host_.hellos[1].confirmed, 201U);
    open({.durable = true, .watermark = 201, .stored = 201}, {1000, 1'000'000, {}}, 5ms);
    EXPECT_THAT(published(), ElementsAre(202));
    host_.say(Confirm{.resume = 7});
    answer(6ms);
    EXPECT_EQ(session_.place(), 200U) << "told once";
}

TEST_F(NamedSessionTest, SaysWhatTheHostRefusedOfALifeBefore) {
    open({.watermark = 5, .refused = {{4, "queue_full", "full"}, {5, "queue_full", "full"}}});
    EXPECT_THAT(refused_, IsEmpty()) << "none of its own";
    EXPECT_THAT(texts(events_, Event::Kind::refused), ElementsAre(HasSubstr("2 messages that were sent under this")));
}

TEST_F(NamedSessionTest, SpeaksUpWhileItWaitsForItsPlace) {
    open({});
    const std::size_t before = host_.frames;
    turn(1s);
    EXPECT_EQ(host_.frames, before + 1) << "so that a lost word is noticed soon";
}

TEST_F(NamedSessionTest, IsOverForGoodOnceItIsFenced) {
    open({});
    host_.say(Confirm{.resume = 0});
    answer(0ms);
    offer(2);
    turn(0ms);
    host_.say(Refusal{"fenced", "a later one came"});
    answer(1ms);
    EXPECT_TRUE(session_.fenced());
    EXPECT_FALSE(session_.connected());
    EXPECT_THAT(texts(events_, Event::Kind::refused), ElementsAre(HasSubstr("2 messages are not known")));
    EXPECT_EQ(events_.back().code, "fenced");
    EXPECT_EQ(session_.next_deadline(), never);
    turn(1min);
    fence();
    answer(2min);
    EXPECT_THAT(host_.hellos, SizeIs(1));
    EXPECT_THAT(texts(events_, Event::Kind::refused), SizeIs(1));
    EXPECT_THAT(texts(events_, Event::Kind::lost), IsEmpty());
}

TEST_F(NamedSessionTest, IsOverWhenItsHelloIsAnsweredSo) {
    turn(0ms);
    fence();
    answer(1ms);
    EXPECT_TRUE(session_.fenced());
    turn(1min);
    EXPECT_THAT(host_.hellos, SizeIs(1));
}

// A link that loses, repeats and delays frames, and a host that dies: nothing is lost, nothing comes twice.
class Chaos {
public:
    explicit Chaos(std::uint64_t seed, bool durable) : random_(seed), durable_(durable) {
        session_.add_link(host_.peer(), "host");
    }

    void run() {
        for (int step = 0; step < 4000; ++step) this->step(step < 3000);
        EXPECT_EQ(session_.unsafe_messages(), 0U);
        EXPECT_EQ(session_.unsafe_bytes(), 0U);
        EXPECT_EQ(safe_.size(), offered_);
        EXPECT_EQ(accepted_.size(), offered_);
    }

private:
    bool one_in(unsigned n) { return random_() % n == 0; }

    void step(bool faults) {
        time_ += std::chrono::milliseconds{random_() % 50};
        if (faults && offered_ < 2000) {
            for (auto left = random_() % 5; left > 0; --left) session_.offer(envelope_of(++offered_));
        }
        now_ = at(time_);
        session_.turn(now_);
        for (OutFrame& out : session_.take_frames()) {
            if (faults && one_in(50)) {
                session_.send_failed(out.peer, now_);
            } else {
                post(to_host_, out.bytes, faults);
            }
        }
        if (faults && one_in(300)) {  // the host dies; what it had not stored is gone
            in_session_ = false;
            decided_ = stored_;
            accepted_.erase(accepted_.upper_bound(stored_), accepted_.end());
        }
        while (!to_host_.empty()) {
            host_hears(to_host_.front());
            to_host_.pop_front();
        }
        host_works();
        for (std::string& bytes : host_.said()) post(to_session_, bytes, faults);
        while (!to_session_.empty() && !(faults && one_in(4))) {
            session_.receive(host_.peer(), Slice{to_session_.front()}, now_);
            to_session_.pop_front();
        }
        for (const SequenceRange& range : session_.take_news().safe) {
            for (std::uint64_t one = range.first; one <= range.last; ++one) {
                EXPECT_TRUE(accepted_.contains(one)) << one << " was called safe and is not";
                safe_.insert(one);
            }
        }
    }

    void post(std::deque<std::string>& link, const std::string& bytes, bool faults) {
        if (faults && one_in(30)) return;
        link.push_back(bytes);
        if (faults && one_in(30)) link.push_back(bytes);
    }

    void host_hears(const std::string& bytes) {
        const std::size_t hellos = host_.hellos.size();
        host_.hear(bytes);
        if (host_.hellos.size() > hellos) {
            in_session_ = true;
            host_.welcome({.durable = durable_, .heartbeat_ms = 1000, .watermark = decided_, .stored = stored_});
            credit_ = 0;
            received_ = 0;
            if (!durable_ && settled_ > 0) host_.say(Confirm{.settled = {{1, settled_}}});
            return;
        }
        if (host_.last_verdict == FrameReader::Verdict::gap) in_session_ = false;
        const auto publishes = host_.take<Publish>();
        if (!in_session_) return;
        for (const Publish& publish : publishes) {
            for (const Slice& envelope : publish.envelopes) {
                const auto routing = envelope::read_routing(envelope.view());
                ASSERT_TRUE(routing);
                ASSERT_LE(++received_, credit_);
                if (routing->sequence <= decided_) continue;
                ASSERT_LE(routing->previous, decided_) << "a message is missing before " << routing->sequence;
                decided_ = routing->sequence;
                accepted_.insert(routing->sequence);
            }
        }
    }

    void host_works() {
        if (!in_session_) return;
        if (credit_ < received_ + 20) host_.say(Credit{credit_ = received_ + 40, 1'000'000, {}});
        if (one_in(3)) stored_ = decided_;
        if (durable_) {
            host_.say(Confirm{.held = decided_, .stored = stored_});
        } else {
            settled_ = std::max(settled_, stored_);
            host_.say(Confirm{.held = decided_});
            if (settled_ > 0) host_.say(Confirm{.settled = {{1, settled_}}});
        }
    }

    std::mt19937_64 random_;
    bool durable_;
    ProducerSession session_{{.producer = producer_id, .queue = "q"}};
    ScriptedHost host_{1};
    Duration time_{};
    Now now_{};
    std::deque<std::string> to_host_;
    std::deque<std::string> to_session_;
    std::uint64_t offered_ = 0;
    std::set<std::uint64_t> safe_;
    std::set<std::uint64_t> accepted_;
    bool in_session_ = false;
    std::uint64_t decided_ = 0;
    std::uint64_t stored_ = 0;
    std::uint64_t settled_ = 0;
    std::uint64_t credit_ = 0;
    std::uint64_t received_ = 0;
};

TEST(ProducerSessionChaos, NothingIsLostAndNothingComesTwice) {
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        Chaos{seed, seed % 2 == 0}.run();
        if (testing::Test::HasFailure()) return;
    }
}

}  // namespace
}  // namespace posthorn::protocol
