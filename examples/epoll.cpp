// A worker in an epoll loop of one's own, beside whatever else that waits for: one thread, no handler.
//
//   epoll            a hundred texts of our own, in this process
//   epoll ENDPOINT   the queue "texts" of the node or producer at ENDPOINT, until SIGINT or SIGTERM
#include <sys/epoll.h>
#include <sys/signalfd.h>

#include <csignal>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <optional>
#include <system_error>

#include "text.hpp"

namespace wq = posthorn::work_queue;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t own_texts = 100;

int checked(int result, const char* what) {
    if (result < 0) throw std::system_error(errno, std::generic_category(), what);
    return result;
}

void watch(int epoll, int descriptor) {
    epoll_event event{.events = EPOLLIN, .data = {.fd = descriptor}};
    checked(::epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event), "epoll_ctl");
}

// Counts words until `enough` texts are done or a signal comes.
std::size_t count(wq::Worker& worker, std::size_t enough) {
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGINT);
    sigaddset(&stop, SIGTERM);
    ::pthread_sigmask(SIG_BLOCK, &stop, nullptr);
    const int signals = checked(::signalfd(-1, &stop, SFD_CLOEXEC), "signalfd");
    const int epoll = checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    watch(epoll, worker.ready_fd());
    watch(epoll, signals);

    std::size_t words = 0;
    for (std::size_t done = 0; done < enough;) {
        epoll_event event{};
        if (checked(::epoll_wait(epoll, &event, 1, -1), "epoll_wait") == 0 || event.data.fd == signals) break;
        while (wq::Received received = worker.receive(0ms)) {  // until there is nothing more
            const auto text = received->as<Text>();
            if (!text) continue;  // dead-lettered: undecodable
            words += count_words(*text);
            received->ack();
            ++done;
        }
    }
    ::close(epoll);
    ::close(signals);
    return words;
}

int run(const char* endpoint) {
    posthorn::Context context;
    if (endpoint != nullptr) {
        wq::Worker worker{context, "texts", posthorn::at(endpoint)};
        std::cout << count(worker, SIZE_MAX) << " words\n";
        return worker.drain(5s) == posthorn::Status::ok ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    wq::Producer texts{context, "texts", posthorn::here({.bind = "inproc://texts"})};
    for (std::size_t i = 0; i < own_texts; ++i) texts.send(Text{"to be or not to be"});
    wq::Worker worker{context, "texts", posthorn::at("inproc://texts")};
    const std::size_t words = count(worker, own_texts);
    std::cout << words << " words\n";
    return words == own_texts * 6 && texts.flush(5s) == posthorn::Status::ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return run(argc > 1 ? argv[1] : nullptr);
    } catch (const std::exception& error) {
        std::cerr << "epoll: " << error.what() << '\n';
        return EXIT_FAILURE;
    }
}
