#include "node.hpp"

#include <algorithm>
#include <memory>
#include <utility>

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <posthorn/context.hpp>

#include "json.hpp"
#include "patterns/host_on_loop.hpp"
#include "patterns/random.hpp"
#include "signals.hpp"
#include "store/sqlite_store.hpp"

namespace posthorn::nodes {

namespace {

constexpr auto retry_after = std::chrono::milliseconds{1000};  // told to peers: a restart takes about that
constexpr Duration drain_patience = 30s;                       // for the store to finish what it has

spdlog::level::level_enum level_of(LogLevel level) {
    switch (level) {
        case LogLevel::debug:
            return spdlog::level::debug;
        case LogLevel::warning:
            return spdlog::level::warn;
        case LogLevel::error:
            return spdlog::level::err;
        case LogLevel::info:
            break;
    }
    return spdlog::level::info;
}

std::shared_ptr<spdlog::logger> make_logger(LogLevel level) {
    auto logger = std::make_shared<spdlog::logger>("node", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
    logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %^%l%$ %v");
    logger->set_level(level_of(level));
    return logger;
}

std::string listed(const std::vector<std::string>& texts) {
    std::string all;
    for (const auto& text : texts) all += (all.empty() ? "" : ", ") + text;
    return all;
}

}  // namespace

host::Options host_options(const NodeConfig& config) {
    host::Options options;
    options.incarnation = detail::random_identity();
    options.seed = detail::random_number();
    options.defaults = config.every_queue;
    options.queues = config.queues;
    for (const auto& [topic, subscriptions] : config.topics) {
        std::vector<Subscription>& all = options.topics[topic];
        for (const auto& [name, bindings] : subscriptions) all.push_back({.name = name, .bindings = bindings});
    }
    options.live = config.live;
    options.retained = config.retained;
    options.auto_create = config.auto_create;
    options.message_limit = config.message_limit;
    return options;
}

Exit serve(const NodeConfig& config) {
    const Signals signals;
    const auto logger = make_logger(config.log_level);
    const LogHook log = [logger](LogLevel level, std::string_view line) {
        logger->log(level_of(level), "{}", printable(line));
    };
    ContextOptions context_options;
    context_options.log = log;  // events come through it as well
    Context context{std::move(context_options)};
    host::Options options = host_options(config);
    options.log = log;
    store::SqliteOptions store_options;
    store_options.folder = config.data;
    store_options.min_free = config.min_free;
    auto host = std::make_unique<HostOnLoop>(context, std::move(options), store::open_sqlite_store(store_options));
    std::vector<std::string> bound;
    for (const auto& endpoint : config.bind) bound.push_back(host->bind(endpoint));
    // Scripts wait for this line, whatever the log level.
    logger->set_level(std::min(logger->level(), spdlog::level::info));
    logger->info("posthorn node: ready on {}, data in {}, {}", listed(bound), config.data.string(),
                 config.auto_create ? "queues and topics appear on first use" : "only what the configuration has");
    logger->set_level(level_of(config.log_level));

    signals.wait();
    signals.give_back();  // the next one ends us at once
    logger->info("told to stop; finishing what the store has under way");
    const bool drained = host->drain(retry_after, drain_patience);
    if (!drained)
        logger->error("the store has not finished within 30 s; what was confirmed is safe, the rest is sent again");
    host.reset();  // closes the store, which tidies up its files
    logger->info("stopped");
    return drained ? Exit::ok : Exit::failed;
}

}  // namespace posthorn::nodes
