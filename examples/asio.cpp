// A worker in a Boost.Asio loop: deliveries are begun as they come, up to `concurrency` at a time, and each is settled
// when its own asynchronous work is done. One thread.
//
//   asio            a hundred texts of our own, in this process
//   asio ENDPOINT   the queue "texts" of the node or producer at ENDPOINT, until SIGINT or SIGTERM
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>

#include "text.hpp"

namespace asio = boost::asio;
namespace wq = posthorn::work_queue;
using namespace std::chrono_literals;

namespace {

class Counter {
public:
    Counter(asio::io_context& io, wq::Worker& worker, std::size_t enough)
        : io_(io), worker_(worker), ready_(io, ::dup(worker.ready_fd())), enough_(enough) {
        wait();
    }

    [[nodiscard]] std::size_t words() const { return words_; }

private:
    void wait() {
        ready_.async_wait(asio::posix::stream_descriptor::wait_read, [this](const boost::system::error_code& error) {
            if (error) return;
            while (wq::Received received = worker_.receive(0ms)) begin(std::move(*received));
            wait();
        });
    }

    // A timer stands for whatever takes its time: a query, a request to another service.
    void begin(posthorn::Delivery delivery) {
        auto timer = std::make_shared<asio::steady_timer>(io_, 1ms);
        timer->async_wait(
            [this, timer, delivery = std::move(delivery)](const boost::system::error_code& error) mutable {
                if (error) return;  // dropped unsettled: nacked
                const auto text = delivery.as<Text>();
                if (!text) return;  // dead-lettered: undecodable
                words_ += count_words(*text);
                delivery.ack();
                if (++done_ == enough_) io_.stop();
            });
    }

    asio::io_context& io_;
    wq::Worker& worker_;
    asio::posix::stream_descriptor ready_;  // owns its dup()
    std::size_t enough_;
    std::size_t done_ = 0;
    std::size_t words_ = 0;
};

std::size_t count(wq::Worker& worker, std::size_t enough) {
    asio::io_context io;
    asio::signal_set signals{io, SIGINT, SIGTERM};
    signals.async_wait([&](const boost::system::error_code&, int) { io.stop(); });
    const Counter counter{io, worker, enough};
    io.run();
    return counter.words();
}

}  // namespace

int main(int argc, char** argv) {
    return count_texts(argc, argv, {.concurrency = 8}, count);
}
