// A worker in an epoll loop of one's own, beside whatever else that waits for: one thread, no handler.
//
//   epoll            a hundred texts of our own, in this process
//   epoll ENDPOINT   the queue "texts" of the node or producer at ENDPOINT, until SIGINT or SIGTERM
#include <sys/epoll.h>
#include <sys/signalfd.h>

#include <csignal>
#include <optional>
#include <system_error>

#include "text.hpp"

namespace wq = posthorn::work_queue;
using namespace std::chrono_literals;

namespace {

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

}  // namespace

int main(int argc, char** argv) {
    return count_texts(argc, argv, {}, count);
}
