// SIGINT and SIGTERM as a stop token. The handler only writes to an eventfd and gives the signals back to whoever had
// them; a thread turns that into a stop request, because stop callbacks may do anything.
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <stop_token>
#include <system_error>
#include <thread>

#include <posthorn/ends.hpp>

namespace posthorn {

namespace {

constexpr std::uint64_t signalled = 1;
constexpr std::uint64_t finished = 1'000'000;  // no two signals add up to it

// Written before the handlers are installed, read by them only.
int bell = -1;                 // NOLINT: a signal handler sees nothing but statics
struct sigaction before_int;   // NOLINT
struct sigaction before_term;  // NOLINT

void give_back() noexcept {
    ::sigaction(SIGINT, &before_int, nullptr);
    ::sigaction(SIGTERM, &before_term, nullptr);
}

extern "C" void on_signal(int /*signal*/) {
    const int saved = errno;
    give_back();
    (void)!::write(bell, &signalled, sizeof signalled);
    errno = saved;
}

class Watch {
public:
    Watch() {
        bell = ::eventfd(0, EFD_CLOEXEC);
        if (bell < 0) throw Error("cannot make an event descriptor: " + std::generic_category().message(errno));
        sigset_t all;
        sigset_t before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);  // the thread takes no signal from the application
        thread_ = std::thread([this] { wait(); });
        pthread_sigmask(SIG_SETMASK, &before, nullptr);

        struct sigaction action {};
        action.sa_handler = on_signal;
        action.sa_flags = SA_RESTART;
        sigemptyset(&action.sa_mask);
        ::sigaction(SIGINT, &action, &before_int);
        ::sigaction(SIGTERM, &action, &before_term);
    }
    ~Watch() {
        if (!stop_.stop_requested()) give_back();
        (void)!::write(bell, &finished, sizeof finished);
        thread_.join();
        ::close(bell);
    }
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;

    [[nodiscard]] std::stop_token token() const { return stop_.get_token(); }

private:
    void wait() {
        std::uint64_t seen = 0;
        while (::read(bell, &seen, sizeof seen) < 0 && errno == EINTR) {
        }
        if (seen < finished) {
            stop_.request_stop();
            while (seen < finished && (::read(bell, &seen, sizeof seen) > 0 || errno == EINTR)) {
            }
        }
    }

    std::stop_source stop_;
    std::thread thread_;
};

}  // namespace

Until until_signal() {
    static Watch watch;
    return Until{watch.token()};
}

}  // namespace posthorn
