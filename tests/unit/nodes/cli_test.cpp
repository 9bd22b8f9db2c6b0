#include "cli.hpp"

#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "verbs.hpp"

namespace posthorn::nodes {
namespace {

namespace po = boost::program_options;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

const Verb verb{"try", "QUEUE", "", ""};

Arguments parse(const std::vector<std::string>& arguments) {
    po::options_description options;
    options.add_options()("type", po::value<std::string>(), "")("raw", po::bool_switch(), "");
    add_node_option(options);
    return parse_arguments(verb, options, arguments);
}

TEST(CommandLine, TellsOptionsAndWordsApart) {
    const Arguments given = parse({"queue", "--type", "-x", "", "--", "--raw"});
    EXPECT_THAT(given.words, ElementsAre("queue", "", "--raw"));
    EXPECT_EQ(given.options["type"].as<std::string>(), "-x");
    EXPECT_FALSE(given.options["raw"].as<bool>());
}

TEST(CommandLine, RefusesOptionsByNameWithTheValidOnes) {
    for (const char* option : {"--tipe", "--typ", "-x"}) {
        EXPECT_THAT([&] { static_cast<void>(parse({option})); },
                    ThrowsMessage<ExitError>(AllOf(HasSubstr(option), HasSubstr("--type, --raw, --node, --help"))))
            << option;
    }
    EXPECT_THROW(static_cast<void>(parse({"--type"})), ExitError);
    EXPECT_THROW(static_cast<void>(parse({"--type", "a", "--type", "b"})), ExitError);
}

TEST(CommandLine, TheNodeIsTheOptionElseTheVariableElseTheDefault) {
    ::unsetenv("POSTHORN_NODE");
    EXPECT_EQ(node_endpoint(verb, parse({})), "tcp://127.0.0.1:5757");
    ::setenv("POSTHORN_NODE", "tcp://other:1", 1);
    EXPECT_EQ(node_endpoint(verb, parse({})), "tcp://other:1");
    EXPECT_EQ(node_endpoint(verb, parse({"--node", "tcp://third:2"})), "tcp://third:2");
    ::unsetenv("POSTHORN_NODE");
    EXPECT_THAT(
        [] {
            static_cast<void>(node_endpoint(verb, parse({"--node", "localhost"})));
        },
        ThrowsMessage<ExitError>(HasSubstr("localhost")));
}

// Wrong usage is found before anything is done, so these need no node.
TEST(CommandLine, EveryVerbRefusesWrongUsage) {
    const auto expect_usage = [](const Command& command, const std::vector<std::string>& arguments,
                                 const std::string& text) {
        try {
            run_command(command, arguments);
            ADD_FAILURE() << "not refused: " << text;
        } catch (const ExitError& error) {
            EXPECT_EQ(error.code(), Exit::usage) << error.what();
            EXPECT_THAT(error.what(), HasSubstr(text));
        }
    };
    expect_usage(node_command(), {"word"}, "'word' is not expected");
    expect_usage(node_command(), {"--config", "/nonexistent"}, "cannot read the configuration /nonexistent");
    expect_usage(node_command(), {"--min-free", "1"}, "min_free: '1' lacks its unit");
    expect_usage(send_command(), {}, "give the queue");
    expect_usage(send_command(), {"a b"}, "'a b' is not a queue name");
    expect_usage(send_command(), {"q", "x", "--header", "novalue"}, "not of the form KEY=VALUE");
    expect_usage(send_command(), {"q", "x", "--header", "a=1", "--header", "a=2"}, "a is given twice");
    expect_usage(send_command(), {"q", "x", "--count", "-1"}, "--count: '-1'");
    expect_usage(send_command(), {"q", "x", "--priority", "10"}, "priority is not between 0 and 9");
    expect_usage(send_command(), {"q", "x", "--priority", "high"}, "--priority: 'high'");
    expect_usage(send_command(), {"q", "x", "--delay", "soon"}, "--delay: 'soon'");
    expect_usage(send_command(), {"q", "x", "--key", std::string(1025, 'k')}, "ordering key is longer than 1 KiB");
    expect_usage(send_command(), {"q", "x", "--timeout", "soon"}, "--timeout: 'soon'");
    expect_usage(work_command(), {}, "give one queue");
    expect_usage(work_command(), {"q", "r"}, "give one queue");
    expect_usage(work_command(), {"q", "--concurrency", "0"}, "--concurrency: '0' is out of range");
    expect_usage(work_command(), {"q", "--count", "0"}, "--count: at least 1");
    expect_usage(work_command(), {"q", "--exec", "cat", "--raw"}, "--raw is for standard output");
    expect_usage(work_command(), {"a/b/c"}, "'a/b/c' is not a queue name");
    expect_usage(send_command(), {"orders/billing", "x"}, "'orders/billing' is not a queue name");
    expect_usage(send_command(), {"q", "x", "--subject", "a"}, "unknown option '--subject'");
    expect_usage(publish_command(), {}, "give the topic to publish to");
    expect_usage(publish_command(), {"orders/billing", "x"}, "'orders/billing' is not a topic name");
    expect_usage(publish_command(), {"orders", "x", "--subject", std::string(1025, 's')},
                 "subject is longer than 1 KiB");
    expect_usage(subscribe_command(), {}, "give one topic");
    expect_usage(subscribe_command(), {"orders", "shop"}, "give one topic");
    expect_usage(subscribe_command(), {"a b"}, "'a b' is not a topic name");
    expect_usage(subscribe_command(), {"orders", "--as", "a b"}, "'a b' is not a subscription name");
    expect_usage(subscribe_command(), {"orders", "--any"}, "--any is for headers");
    expect_usage(subscribe_command(), {"orders", "--match", ""}, "--match: give a pattern");
    expect_usage(subscribe_command(), {"orders", "--match", std::string(1025, 's')}, "longer than 255 bytes");
    expect_usage(subscribe_command(), {"orders", "--header", "novalue"}, "not of the form KEY=VALUE");
    expect_usage(subscribe_command(), {"orders", "--concurrency", "0"}, "--concurrency: '0' is out of range");
    expect_usage(unsubscribe_command(), {}, "give one subscription");
    expect_usage(unsubscribe_command(), {"orders"}, "'orders' is not a subscription: TOPIC/NAME");
    expect_usage(unsubscribe_command(), {"orders/"}, "'orders/' is not a subscription: TOPIC/NAME");
    expect_usage(queues_command(), {"q"}, "'q' is not expected");
    expect_usage(dlq_command(), {}, "say list, show, redrive, purge or edit");
    expect_usage(dlq_command(), {"lst", "q"}, "'lst' is none of");
    expect_usage(dlq_command(), {"list"}, "give one queue");
    expect_usage(dlq_command(), {"list", "orders/a b"}, "'orders/a b' is not a queue name");
    expect_usage(dlq_command(), {"list", "q", "--reason", "because"}, "none of rejected, max_attempts");
    expect_usage(dlq_command(), {"list", "q", "--dry-run"}, "--dry-run is for redrive and purge");
}

TEST(Reports, KeepTheRefusalThatNoWaitingHelpsAgainst) {
    Reports reports{verb};
    reports.hear({.kind = Event::Kind::refused, .text = "h: the session was refused: gap: lost", .code = "gap"});
    reports.hear({.kind = Event::Kind::refused, .text = "2 messages were refused: full", .code = "queue_full"});
    EXPECT_EQ(reports.final_refusal(), std::nullopt);
    reports.hear({.kind = Event::Kind::refused, .text = "h: the session was refused: none", .code = "unknown_queue"});
    EXPECT_EQ(reports.final_refusal(), "h: the session was refused: none");
}

TEST(Reports, CountWhatReachedNoSubscription) {
    Reports reports{verb};
    reports.hear({.kind = Event::Kind::refused, .text = "2 messages", .count = 2, .code = "no_subscription"});
    reports.hear({.kind = Event::Kind::refused, .text = "1 message", .count = 1, .code = "queue_full"});
    reports.hear({.kind = Event::Kind::refused, .text = "3 messages", .count = 3, .code = "no_subscription"});
    EXPECT_EQ(reports.without_subscription(), 5U);
    EXPECT_EQ(reports.final_refusal(), std::nullopt);
}

}  // namespace
}  // namespace posthorn::nodes
