#include "config.hpp"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "exit_codes.hpp"

namespace posthorn::nodes {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

NodeConfig configured(const std::string& ini) {
    NodeConfig config;
    apply(config, read_ini(ini, "test.ini"), "test.ini");
    return config;
}

// Every refusal names where and what.
void expect_refused(const std::string& ini, const std::string& what) {
    EXPECT_THAT([&] { static_cast<void>(configured(ini)); },
                ThrowsMessage<ExitError>(AllOf(HasSubstr("test.ini"), HasSubstr(what))))
        << ini;
}

TEST(Config, DefaultsAreThoseOfTheCommand) {
    const NodeConfig config = configured("");
    EXPECT_THAT(config.bind, ElementsAre("tcp://127.0.0.1:5757"));
    EXPECT_EQ(config.data, "./posthorn-data");
    EXPECT_TRUE(config.auto_create);
    EXPECT_TRUE(config.queues.empty());
}

TEST(Config, EverySettingIsRead) {
    const NodeConfig config = configured(R"(
# a comment
bind = tcp://127.0.0.1:1
bind = ipc:///tmp/x
data = /var/lib/posthorn   # and another
auto_create = off
min_free = 1GiB
message_limit = 64KiB
log_level = debug

[queue.encode.large]
max_attempts = 3
backoff = fixed
backoff_min = 50ms
backoff_max = 2h
storm_after = 50
lease = 10s
lease_cap = 1h
max_messages = 1000
max_bytes = 64MiB
when_full = reject
max_age = 1h
dlq_max_messages = 100
dlq_max_bytes = 1MiB
dlq_when_full = drop_oldest
dedup_window = 90s
strict_order = on
retry_aside = on
)");
    EXPECT_THAT(config.bind, ElementsAre("tcp://127.0.0.1:1", "ipc:///tmp/x"));
    EXPECT_EQ(config.data, "/var/lib/posthorn");
    EXPECT_FALSE(config.auto_create);
    EXPECT_EQ(config.min_free, 1ULL << 30U);
    EXPECT_EQ(config.message_limit, 64U * 1024);
    EXPECT_EQ(config.log_level, LogLevel::debug);
    ASSERT_TRUE(config.queues.contains("encode.large"));
    const QueuePolicy& policy = config.queues.at("encode.large");
    EXPECT_EQ(policy.max_attempts, 3U);
    EXPECT_EQ(policy.backoff.kind, Backoff::Kind::fixed);
    EXPECT_EQ(policy.backoff.min, 50ms);
    EXPECT_EQ(policy.backoff.max, 2h);
    EXPECT_EQ(policy.lease, 10s);
    EXPECT_EQ(policy.lease_cap, 1h);
    EXPECT_EQ(policy.max_messages, 1000U);
    EXPECT_EQ(policy.max_bytes, 64U << 20U);
    EXPECT_EQ(policy.when_full, WhenFull::reject);
    EXPECT_EQ(policy.storm_after, 50U);
    EXPECT_EQ(policy.max_age, 1h);
    EXPECT_EQ(policy.dlq_max_messages, 100U);
    EXPECT_EQ(policy.dlq_max_bytes, 1U << 20U);
    EXPECT_EQ(policy.dlq_when_full, DlqWhenFull::drop_oldest);
    EXPECT_EQ(policy.dedup_window, 90s);
    EXPECT_TRUE(policy.strict_order);
    EXPECT_TRUE(policy.retry_aside);
}

TEST(Config, WhatIsPrintedHasEverySettingAndParsesToTheDefaults) {
    const std::string ini = default_ini();
    EXPECT_EQ(configured(ini), NodeConfig{}) << ini;
    const auto expect_named = [&](const std::vector<SettingHelp>& settings, const std::string& mark) {
        for (const auto& [name, help, form] : settings) {
            EXPECT_THAT(ini, HasSubstr(std::string{"\n"}.append(mark).append(name).append(" = ")));
            EXPECT_THAT(ini, HasSubstr("\n# " + help.substr(0, help.rfind(" (")) + "\n"));
        }
    };
    expect_named(node_settings_help(), "");
    expect_named(queue_settings_help(), "");
    expect_named(topic_settings_help(), "#");
    expect_named(subscription_settings_help(), "#");
    expect_named(live_settings_help(), "#");
    EXPECT_THAT(ini, AllOf(HasSubstr("\nlease = 30s\n"), HasSubstr("\nmin_free = 256MiB\n"),
                           HasSubstr("\nbackoff_max = 10min\n"), HasSubstr("\nmax_bytes = 0\n")));
}

TEST(Config, TheExampleThatIsPrintedIsOne) {
    std::string ini = default_ini();
    for (auto at = ini.find("\n#"); at != std::string::npos; at = ini.find("\n#", at + 1)) {
        if (ini.compare(at, 3, "\n# ") != 0) ini.erase(at + 1, 1);
    }
    const NodeConfig config = configured(ini);
    const std::map<std::string, std::string> headers{{"region", "eu"}, {"urgent", "yes"}};
    const NodeConfig::Subscriptions expected{
        {"inventory", {}},
        {"billing", {{.subject = "order.*", .headers = headers}, {.subject = "#.refund", .headers = headers}}}};
    ASSERT_TRUE(config.topics.contains("orders")) << ini;
    EXPECT_EQ(config.topics.at("orders"), expected);
    EXPECT_EQ(config.live.at("prices"), LivePolicy{});
    EXPECT_EQ(config.retained.at("orders"), (Retention{.age = std::chrono::hours{48}, .bytes = 10ULL << 30U}));
}

TEST(Config, ATopicIsRetainedByAnyOfItsBounds) {
    const NodeConfig config = configured("[topic.a]\nretain_messages = 0\n[topic.b]\nretain_age = 2h\n[topic.c]\n");
    EXPECT_EQ(config.retained, (std::map<std::string, Retention>{{"a", {}}, {"b", {.age = 2h}}}));
    expect_refused("[topic.a]\nretain_age = 9000h\n", "[topic.a] retain.age must be between 0 and 365 days");
    expect_refused("[topic.a]\nsubscriptions = .retained\n", "kept for retained topics");
    expect_refused("[subscription.a/.retained]\n", "kept for retained topics");
}

TEST(Config, LiveTopicsHaveSettingsOfTheirOwn) {
    const NodeConfig config = configured("[live.prices]\nwhen_full = block\nlast_values = 50\n[live.plain]\n");
    EXPECT_EQ(config.live.at("prices"), (LivePolicy{.when_full = WhenFull::block, .last_values = 50}));
    EXPECT_EQ(config.live.at("plain"), LivePolicy{});
    EXPECT_TRUE(config.queues.empty());
    expect_refused("[live.a]\nlease = 1s\n", "unknown setting 'live.a.lease'; valid ones are max_messages,");
    expect_refused("[live.a]\nwhen_full = reject\n", "'reject' is neither drop_oldest nor block");
    expect_refused("[live.a]\nmax_messages = 0\n", "[live.a] live policy: max_messages must be 1 or more");
    expect_refused("[live.a]\n[queue.a]\n", "[live.a] is a live topic, and other sections");
    expect_refused("[live.a/b]\n", "'a/b' is not a live name");
}

TEST(Config, HelpNamesFormAndDefault) {
    const auto settings = queue_settings_help();
    EXPECT_EQ(settings.front().help, "attempts before a message is dead-lettered; number, 1 or more (5)");
    EXPECT_EQ(topic_settings_help().front().help,
              "subscriptions that are there before anybody comes; names with commas between them");
}

TEST(Config, TopicsHaveSubscriptionsAndThePolicyOfTheseInAnyOrder) {
    const NodeConfig config = configured(R"(
[subscription.orders/error.log]
max_attempts = 7
[topic.orders]
subscriptions = inventory,billing
max_attempts = 3
lease = 10s
[queue.*]
backoff = fixed
lease = 20s
[topic.alone]
)");
    const NodeConfig::Subscriptions expected{{"billing", {}}, {"error.log", {}}, {"inventory", {}}};
    EXPECT_EQ(config.topics.at("orders"), expected);
    EXPECT_TRUE(config.topics.at("alone").empty());
    EXPECT_EQ(config.queues.at("orders").max_attempts, 3U);
    const QueuePolicy& policy = config.queues.at("orders/error.log");
    EXPECT_EQ(policy.max_attempts, 7U);
    EXPECT_EQ(policy.lease, 10s);
    EXPECT_EQ(policy.backoff.kind, Backoff::Kind::fixed);
    EXPECT_FALSE(config.queues.contains("orders/billing")) << "it has its topic's";
    EXPECT_EQ(config.queues.at("alone").lease, 20s);
}

TEST(Config, SubscriptionsHaveBindings) {
    const NodeConfig config = configured(R"(
[subscription.orders/by.subject]
bindings = #.error, a.#.b ,*.payment,#
[subscription.orders/both]
bindings = order.#
headers = region = eu, note=a=b
headers_match = any
[subscription.orders/by-headers]
headers = region=eu   # a comment
)");
    const auto& subscriptions = config.topics.at("orders");
    EXPECT_THAT(subscriptions.at("by.subject"), ElementsAre(Binding{.subject = "#.error"}, Binding{.subject = "a.#.b"},
                                                            Binding{.subject = "*.payment"}, Binding{.subject = "#"}));
    EXPECT_THAT(
        subscriptions.at("both"),
        ElementsAre(Binding{.subject = "order.#", .headers = {{"note", "a=b"}, {"region", "eu"}}, .any = true}));
    EXPECT_THAT(subscriptions.at("by-headers"), ElementsAre(Binding{.subject = "#", .headers = {{"region", "eu"}}}));
}

TEST(Config, BindingsOfATopicAreThoseOfSubscriptionsWithoutAny) {
    const NodeConfig config = configured(R"(
[topic.orders]
subscriptions = inventory, billing
bindings = order.#
headers = region=eu
[subscription.orders/billing]
bindings = #.refund
[subscription.orders/late]
max_attempts = 2
)");
    const auto& subscriptions = config.topics.at("orders");
    const Binding of_topic{.subject = "order.#", .headers = {{"region", "eu"}}};
    EXPECT_THAT(subscriptions.at("inventory"), ElementsAre(of_topic));
    EXPECT_THAT(subscriptions.at("late"), ElementsAre(of_topic));
    EXPECT_THAT(subscriptions.at("billing"), ElementsAre(Binding{.subject = "#.refund"}));
}

TEST(Config, TopicsThatMakeNoSenseAreRefused) {
    expect_refused("[topic.orders]\nbinding = a\n",
                   "unknown setting 'topic.orders.binding'; valid ones are subscriptions, retain_age");
    expect_refused("[topic.orders]\nsubscriptions = a b\n", "topic.orders.subscriptions: 'a b' is not a name");
    expect_refused("[topic.orders]\nsubscriptions = a, a\n", "topic.orders.subscriptions: 'a' is given twice");
    expect_refused("[topic.orders]\nmax_attempts = 0\n", "[topic.orders] ");
    expect_refused("[topic.*]\n", "'*' is not a topic name");
    expect_refused("[topic.orders/billing]\n", "'orders/billing' is not a topic name");
    for (const char* topic : {"[topic.orders]\n", "[subscription.orders/billing]\n"})
        expect_refused("[queue.orders]\n" + std::string{topic}, "[queue.orders] is a queue, and other sections");
}

TEST(Config, SubscriptionsThatMakeNoSenseAreRefused) {
    for (const char* name : {"orders", "orders/", "/billing", "a/b/c", "orders/a b", "*/billing"})
        expect_refused("[subscription." + std::string{name} + "]\n", "is not a subscription: TOPIC/NAME");
    const std::string section = "[subscription.orders/billing]\n";
    expect_refused(section + "subscriptions = a\n",
                   "unknown setting 'subscription.orders/billing.subscriptions'; valid ones are bindings, headers, "
                   "headers_match, max_attempts");
    expect_refused(section + "bindings =\n", "subscription.orders/billing.bindings: is empty");
    expect_refused(section + "bindings = a,,b\n", "subscription.orders/billing.bindings: is empty");
    expect_refused(section + "headers = region\n", "'region' is not of the form KEY=VALUE");
    expect_refused(section + "headers = =eu\n", "'=eu' is not of the form KEY=VALUE");
    expect_refused(section + "headers = a=1,a=2\n", "'a' is given twice");
    expect_refused(section + "headers_match = some\n", "'some' is neither all nor any");
    expect_refused(section + "bindings = " + std::string(1025, 'a') + "\n", "[subscription.orders/billing] binding");
    expect_refused(section + "lease = 10ms\n", "[subscription.orders/billing] ");
}

TEST(Config, BackoffMayBeAList) {
    const NodeConfig config = configured("[queue.jobs]\nbackoff = 1s, 10s,1min\n");
    const Backoff& backoff = config.queues.at("jobs").backoff;
    EXPECT_EQ(backoff.kind, Backoff::Kind::list);
    EXPECT_THAT(backoff.list, ElementsAre(Duration{1s}, Duration{10s}, Duration{1min}));
}

TEST(Config, WhatIsForEveryQueueComesFirstWhereverItStands) {
    const NodeConfig config = configured("[queue.jobs]\nlease = 10s\n[queue.*]\nlease = 20s\nmax_attempts = 2\n");
    EXPECT_EQ(config.every_queue.lease, 20s);
    EXPECT_EQ(config.queues.at("jobs").lease, 10s);
    EXPECT_EQ(config.queues.at("jobs").max_attempts, 2U);
}

TEST(Config, ASectionWithoutSettingsNamesAQueue) {
    const NodeConfig config =
        configured("auto_create = off\n[queue.jobs]  # as it is\r\n\n[queue.*]\nmax_attempts = 2\n");
    ASSERT_TRUE(config.queues.contains("jobs"));
    EXPECT_EQ(config.queues.at("jobs").max_attempts, 2U);
}

TEST(Config, UnknownSettingsAreRefusedByNameWithTheValidOnes) {
    expect_refused("bnd = x\n", "unknown setting 'bnd'; valid ones are bind, data, auto_create");
    expect_refused("[queue.jobs]\nmax_attempt = 3\n",
                   "unknown setting 'queue.jobs.max_attempt'; valid ones are max_attempts, request_attempts, backoff");
    expect_refused("[queue.jobs]\nbind = x\n", "unknown setting 'queue.jobs.bind'");
    expect_refused("[queues.jobs]\nlease = 3s\n",
                   "unknown section 'queues.jobs'; valid ones are [queue.NAME], [queue.*], [topic.NAME],");
    expect_refused("[node]\n", "unknown section 'node'");
    expect_refused("queue.lease = 3s\n", "unknown section 'queue'");
}

TEST(Config, InvalidSettingsAreRefusedByName) {
    expect_refused("data =\n", "data: is empty");
    expect_refused("bind = here\n", "bind: ");
    expect_refused("auto_create = maybe\n", "auto_create: 'maybe' is neither on nor off");
    expect_refused("min_free = 1\n", "min_free: '1' lacks its unit");
    expect_refused("message_limit = 1GiB\n", "message_limit: '1GiB' is out of range");
    expect_refused("log_level = loud\n", "log_level: 'loud' is not one of debug, info, warning, error");
    expect_refused("[queue.jobs]\nlease = 5\n", "queue.jobs.lease: '5' lacks its unit");
    expect_refused("[queue.jobs]\nmax_attempts = 4294967296\n", "queue.jobs.max_attempts: '4294967296' is too large");
    expect_refused("[queue.jobs]\nmax_attempts = -1\n", "queue.jobs.max_attempts: '-1' is not understood");
    expect_refused("[queue.jobs]\nbackoff = linear\n", "backoff is exponential, fixed, or a list such as 1s,10s,1min");
    expect_refused("[queue.jobs]\nbackoff = 1s,,2s\n", "queue.jobs.backoff");
    expect_refused("[queue.jobs]\nbackoff =\n", "queue.jobs.backoff: is empty");
    expect_refused("[queue.jobs]\ndlq_when_full = reject\n",
                   "queue.jobs.dlq_when_full: 'reject' is neither block nor drop_oldest");
    expect_refused("[queue.jobs]\nwhen_full = drop\n",
                   "queue.jobs.when_full: 'drop' is not one of automatic, block, reject, drop_oldest, dead_letter");
}

TEST(Config, EveryWayToBeFullHasItsName) {
    EXPECT_EQ(configured("").every_queue.when_full, WhenFull::automatic);
    const std::pair<const char*, WhenFull> ways[] = {{"automatic", WhenFull::automatic},
                                                     {"block", WhenFull::block},
                                                     {"reject", WhenFull::reject},
                                                     {"drop_oldest", WhenFull::drop_oldest},
                                                     {"dead_letter", WhenFull::dead_letter}};
    for (const auto& [name, way] : ways) {
        EXPECT_EQ(configured("[queue.*]\nwhen_full = " + std::string{name} + "\n").every_queue.when_full, way) << name;
    }
}

TEST(Config, PoliciesThatMakeNoSenseAreRefused) {
    expect_refused("[queue.jobs]\nmax_attempts = 0\n", "[queue.jobs]");
    expect_refused("[queue.jobs]\nlease = 10ms\n", "[queue.jobs]");
    expect_refused("[queue.jobs]\nmax_age = 9000h\n", "max_age must be between 0 and 365 days");
    expect_refused("[queue.*]\nlease = 2h\nlease_cap = 1h\n", "[queue.*]");
}

TEST(Config, NamesThatAreNoQueuesAreRefused) {
    expect_refused("[queue.a b]\n", "'a b' is not a queue name");
    expect_refused("[queue.jobs.dlq]\nlease = 3s\n", "'jobs.dlq' is not a queue name");
    expect_refused("[queue.]\nlease = 3s\n", "is not a queue name");
    expect_refused("queue.a b.lease = 3s\n", "'a b' is not a queue name");
}

TEST(Config, NothingIsSetTwice) {
    expect_refused("data = a\ndata = b\n", "'data' is given twice");
    expect_refused("[queue.jobs]\nlease = 3s\n[queue.jobs]\nlease = 4s\n", "'queue.jobs.lease' is given twice");
}

TEST(Config, LinesThatAreNoSettingsAreRefused) {
    expect_refused("what is this\n", "what is this");
}

TEST(Config, ALaterSourceReplacesWhatAnEarlierOneSaid) {
    NodeConfig config = configured("bind = tcp://127.0.0.1:1\nbind = tcp://127.0.0.1:2\ndata = a\n");
    apply(config, {{"bind", "tcp://127.0.0.1:3"}}, "command line");
    EXPECT_THAT(config.bind, ElementsAre("tcp://127.0.0.1:3"));
    EXPECT_EQ(config.data, "a");
}

TEST(Config, AFileThatCannotBeReadIsNamedWithTheReason) {
    EXPECT_THAT([] { static_cast<void>(read_ini_file("/nonexistent/node.ini")); },
                ThrowsMessage<ExitError>(AllOf(HasSubstr("/nonexistent/node.ini"), HasSubstr("No such file"))));
    const auto folder = std::filesystem::path{testing::TempDir()};
    EXPECT_THAT([&] { static_cast<void>(read_ini_file(folder)); },
                ThrowsMessage<ExitError>(HasSubstr("it is a folder")));
}

TEST(Config, FilesAreReadWhole) {
    const auto path = std::filesystem::path{testing::TempDir()} / "posthorn_config_test.ini";
    std::ofstream{path} << "";
    EXPECT_TRUE(read_ini_file(path).empty());
    std::ofstream{path} << "data = x";
    const auto settings = read_ini_file(path);
    std::filesystem::remove(path);
    ASSERT_EQ(settings.size(), 1U);
    EXPECT_EQ(settings.front().value, "x");
}

}  // namespace
}  // namespace posthorn::nodes
