// A worker in C++20 coroutines: as many of them as deliveries may be under way, each of which receives, works and
// settles in plain order. One thread.
//
//   coroutine            a hundred texts of our own, in this process
//   coroutine ENDPOINT   the queue "texts" of the node or producer at ENDPOINT, until SIGINT or SIGTERM
#include <unistd.h>

#include <utility>  // which awaitable.hpp of Boost 1.74 uses and does not include

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <exception>

#include "text.hpp"

namespace asio = boost::asio;
namespace wq = posthorn::work_queue;
using asio::use_awaitable;
using namespace std::chrono_literals;

namespace {

constexpr unsigned at_a_time = 8;

// The next delivery; empty once the worker has ended.
asio::awaitable<wq::Received> next(wq::Worker& worker, asio::posix::stream_descriptor& ready) {
    for (;;) {
        wq::Received received = worker.receive(0ms);
        if (received.status() != posthorn::Status::timed_out) co_return received;
        co_await ready.async_wait(asio::posix::stream_descriptor::wait_read, use_awaitable);
    }
}

// A timer stands for whatever takes its time: a query, a request to another service.
asio::awaitable<std::size_t> slowly_count_words(const Text& text) {
    asio::steady_timer timer{co_await asio::this_coro::executor, 1ms};
    co_await timer.async_wait(use_awaitable);
    co_return count_words(text);
}

struct Total {
    std::size_t texts = 0;
    std::size_t words = 0;
};

// `total` and `worker` outlive the loop that this runs on.
asio::awaitable<void> count(wq::Worker& worker, Total& total, std::size_t enough) {
    asio::posix::stream_descriptor ready{co_await asio::this_coro::executor, ::dup(worker.ready_fd())};
    while (wq::Received received = co_await next(worker, ready)) {
        const auto text = received->as<Text>();
        if (!text) continue;  // dead-lettered: undecodable
        total.words += co_await slowly_count_words(*text);
        received->ack();
        if (++total.texts == enough) (void)worker.drain(0ms);  // all the others end as well
    }
}

std::size_t count_all(wq::Worker& worker, std::size_t enough) {
    Total total;
    asio::io_context io;
    asio::signal_set signals{io, SIGINT, SIGTERM};
    signals.async_wait([&](const boost::system::error_code&, int) { io.stop(); });
    unsigned running = at_a_time;
    for (unsigned i = 0; i < at_a_time; ++i) {
        asio::co_spawn(io, count(worker, total, enough), [&](const std::exception_ptr& error) {
            if (error) std::rethrow_exception(error);
            if (--running == 0) io.stop();
        });
    }
    io.run();
    return total.words;
}

}  // namespace

int main(int argc, char** argv) {
    return count_texts(argc, argv, {.concurrency = at_a_time}, count_all);
}
