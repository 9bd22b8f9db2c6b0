#include "exec.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <optional>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <posthorn/policy.hpp>
#include <posthorn/status.hpp>

#include "lines.hpp"

namespace posthorn::nodes {

namespace {

constexpr std::size_t last_line_limit = 1024;
constexpr std::string_view header_prefix = "POSTHORN_HEADER_";
constexpr auto patience = std::chrono::seconds{5};  // between SIGTERM and SIGKILL

class Descriptor {
public:
    Descriptor() = default;
    explicit Descriptor(int value) noexcept : value_(value) {}
    Descriptor(Descriptor&& other) noexcept : value_(std::exchange(other.value_, -1)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        std::swap(value_, other.value_);
        return *this;
    }
    ~Descriptor() { close(); }
    [[nodiscard]] int get() const noexcept { return value_; }
    void close() noexcept {
        if (value_ >= 0) ::close(value_);
        value_ = -1;
    }

private:
    int value_ = -1;
};

struct Pipe {
    Descriptor read;
    Descriptor write;
};

[[noreturn]] void fail(const char* what) {
    throw Error{std::string{"cannot run the command: "} + what + ": " + std::strerror(errno)};
}

Pipe make_pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) fail("pipe");
    return {Descriptor{ends[0]}, Descriptor{ends[1]}};
}

void set_nonblocking(const Descriptor& descriptor) {
    if (::fcntl(descriptor.get(), F_SETFL, O_NONBLOCK) != 0) fail("fcntl");
}

// Whole before the command begins: if we die, it must not take a part of the payload, or none, for all of it.
Descriptor file_with(std::string_view payload) {
    Descriptor file{::memfd_create("payload", MFD_CLOEXEC)};
    if (file.get() < 0) fail("memfd_create");
    if (!write_all(file.get(), payload) || ::lseek(file.get(), 0, SEEK_SET) != 0) fail("writing its input");
    return file;
}

// The header of Debian 12's glibc declares it without C linkage.
int open_pidfd(pid_t pid) {
    return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
}

bool has_nul(std::string_view text) {
    return text.find('\0') != std::string_view::npos;
}

std::string variable_of(const std::string& header) {
    std::string name{header_prefix};
    for (const char c : header) {
        const bool lower = c >= 'a' && c <= 'z';
        const bool kept = (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        name += lower ? static_cast<char>(c - 'a' + 'A') : kept ? c : '_';
    }
    return name;
}

bool set_by_messages(const std::string& variable) {
    const std::string_view name = std::string_view{variable}.substr(0, variable.find('='));
    return name == "POSTHORN_ID" || name == "POSTHORN_ATTEMPT" || name == "POSTHORN_SEQUENCE" ||
           name == "POSTHORN_TYPE" || name == "POSTHORN_SUBJECT" || name.starts_with(header_prefix);
}

std::vector<std::string> own_environment() {
    std::vector<std::string> variables;
    for (char** at = environ; *at != nullptr; ++at) variables.emplace_back(*at);
    return variables;
}

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
    std::vector<char*> pointers;
    pointers.reserve(texts.size() + 1);
    for (auto& text : texts) pointers.push_back(text.data());
    pointers.push_back(nullptr);
    return pointers;
}

// In the child, between fork and exec: only calls that are safe there, nothing that allocates.
[[noreturn]] void become(char* const* arguments, char* const* environment, int input, int output, int errors,
                         pid_t parent) {
    constexpr int cannot_exec = 126;
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) ::_exit(cannot_exec);  // it died before that took hold
    if (::dup2(input, STDIN_FILENO) < 0 || ::dup2(errors, STDERR_FILENO) < 0) ::_exit(cannot_exec);
    if (output >= 0 && ::dup2(output, STDOUT_FILENO) < 0) ::_exit(cannot_exec);
    sigset_t none;
    sigemptyset(&none);
    struct sigaction standard {};
    standard.sa_handler = SIG_DFL;
    ::sigaction(SIGPIPE, &standard, nullptr);  // the only one this program ignores
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::execve("/bin/sh", arguments, environment);
    ::_exit(errno == ENOENT ? 127 : cannot_exec);
}

class Child {
public:
    Child(const std::string& command, const Job& job) {
        std::vector<std::string> argument_texts{"sh", "-c", command};
        std::vector<std::string> environment_texts = job_environment(job, own_environment());
        const auto arguments = pointers_to(argument_texts);
        const auto environment = pointers_to(environment_texts);
        const Descriptor input = file_with(job.payload);
        Pipe errors = make_pipe();
        set_nonblocking(errors.read);
        Pipe output;
        if (job.answers) {
            output = make_pipe();
            set_nonblocking(output.read);
        }
        const pid_t parent = ::getpid();
        pid_ = ::fork();  // NOLINT(cppcoreguidelines-prefer-member-initializer): what it inherits comes first
        if (pid_ < 0) fail("fork");
        if (pid_ == 0)
            become(arguments.data(), environment.data(), input.get(), output.write.get(), errors.write.get(), parent);
        ::setpgid(pid_, pid_);  // here as well: whoever comes first
        errors_ = std::move(errors.read);
        output_ = std::move(output.read);
        ended_ = Descriptor{open_pidfd(pid_)};
        if (ended_.get() < 0) {
            const int reason = errno;
            end_group();
            errno = reason;
            fail("pidfd_open");
        }
    }
    ~Child() {
        if (!status_) end_group();
    }
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;

    bool signal_group(int signal) const noexcept { return ::kill(-pid_, signal) == 0; }  // false: nobody is left

    // Passes on what the command says, once; returns the wait status when the command has ended.
    std::optional<int> serve(int stop, int timeout_ms) {
        std::array<pollfd, 4> waits{
            {{errors_.get(), POLLIN, 0}, {ended_.get(), POLLIN, 0}, {stop, POLLIN, 0}, {output_.get(), POLLIN, 0}}};
        if (::poll(waits.data(), waits.size(), timeout_ms) < 0) {
            if (errno == EINTR) return std::nullopt;
            fail("poll");
        }
        if (waits[0].revents != 0) pass_errors(false);
        if (waits[3].revents != 0) take_output();
        if (waits[1].revents != 0) {
            // What it started in the background may hold standard error open: take what is there and go.
            pass_errors(true);
            take_output();
            return reap();
        }
        return std::nullopt;
    }

    [[nodiscard]] std::string last_line() const { return last_line_.text(); }
    [[nodiscard]] std::string& answer() noexcept { return answer_; }
    [[nodiscard]] bool answers_too_much() const noexcept { return answer_.size() > defaults::message_limit; }

private:
    // `all`: everything the pipe can hold, else one read.
    void pass_errors(bool all) {
        std::array<char, 16 * 1024> bytes{};
        constexpr std::size_t pipe_size = 1 << 20;  // the most an unprivileged pipe can hold
        for (std::size_t passed = 0; passed < pipe_size;) {
            const auto count = ::read(errors_.get(), bytes.data(), bytes.size());
            if (count < 0 && errno == EINTR) continue;
            if (count == 0) errors_.close();
            if (count <= 0) return;
            const std::string_view read{bytes.data(), static_cast<std::size_t>(count)};
            last_line_.feed(read);
            // Nobody is left to tell if our own standard error is gone.
            static_cast<void>(write_all(STDERR_FILENO, read));
            if (!all) return;
            passed += read.size();
        }
    }

    // What there is, as far as a message may be large.
    void take_output() {
        std::array<char, 64 * 1024> bytes{};
        while (output_.get() >= 0 && !answers_too_much()) {
            const auto count = ::read(output_.get(), bytes.data(), bytes.size());
            if (count < 0 && errno == EINTR) continue;
            if (count == 0) output_.close();
            if (count <= 0) return;
            answer_.append(bytes.data(), static_cast<std::size_t>(count));
        }
    }

    void end_group() noexcept {
        signal_group(SIGKILL);
        reap();
    }

    int reap() noexcept {
        int status = 0;
        while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
        }
        status_ = status;
        return status;
    }

    pid_t pid_ = -1;
    Descriptor errors_;
    Descriptor output_;  // of one that answers
    std::string answer_;
    Descriptor ended_;
    std::optional<int> status_;
    LastLine last_line_;
};

// The command and whatever it has started in its group.
void terminate(Child& child) {
    using Clock = std::chrono::steady_clock;
    constexpr int step_ms = 50;
    const auto deadline = Clock::now() + patience;
    bool ended = false;
    child.signal_group(SIGTERM);
    while (Clock::now() < deadline) {
        if (ended) {
            ::poll(nullptr, 0, step_ms);
        } else {
            ended = child.serve(-1, step_ms).has_value();
        }
        if (ended && !child.signal_group(0)) return;
    }
    child.signal_group(SIGKILL);
}

std::string signal_text(int signal) {
    const char* name = ::sigabbrev_np(signal);
    return "killed by signal " + std::to_string(signal) + (name == nullptr ? "" : std::string{" (SIG"} + name + ")");
}

}  // namespace

std::vector<std::string> job_environment(const Job& job, const std::vector<std::string>& inherited) {
    std::vector<std::string> variables;
    std::copy_if(inherited.begin(), inherited.end(), std::back_inserter(variables),
                 [](const std::string& variable) { return !set_by_messages(variable); });
    variables.push_back("POSTHORN_ID=" + job.id);
    variables.push_back("POSTHORN_ATTEMPT=" + std::to_string(job.attempt));
    variables.push_back("POSTHORN_SEQUENCE=" + std::to_string(job.sequence));
    if (!has_nul(job.type)) variables.push_back("POSTHORN_TYPE=" + job.type);
    if (!has_nul(job.subject)) variables.push_back("POSTHORN_SUBJECT=" + job.subject);
    std::map<std::string, std::string> headers;
    for (const auto& [name, value] : job.headers) {
        if (!name.empty() && !has_nul(value)) headers.try_emplace(variable_of(name), value);
    }
    for (const auto& [name, value] : headers) variables.push_back(std::string{name}.append("=").append(value));
    return variables;
}

void LastLine::feed(std::string_view bytes) {
    while (!bytes.empty()) {
        const auto newline = bytes.find('\n');
        const auto part = bytes.substr(0, newline);
        current_ += part.substr(0, last_line_limit - std::min(current_.size(), last_line_limit));
        if (newline == std::string_view::npos) return;
        if (current_.find_first_not_of(" \t\r") != std::string::npos) last_ = std::move(current_);
        current_.clear();
        bytes.remove_prefix(newline + 1);
    }
}

std::string LastLine::text() const {
    std::string text = current_.find_first_not_of(" \t\r") != std::string::npos ? current_ : last_;
    text.erase(text.find_last_not_of(" \t\r") + 1);
    return text;
}

ExecResult judge(int wait_status, const std::string& last_line) {
    constexpr int reject_status = 65;
    constexpr int cannot_execute = 126;
    constexpr int not_found = 127;
    if (WIFSIGNALED(wait_status))
        return {Outcome::nack, last_line.empty() ? signal_text(WTERMSIG(wait_status)) : last_line};
    const int status = WEXITSTATUS(wait_status);
    if (status == 0) return {Outcome::ack, {}};
    const std::string text = last_line.empty() ? "exit status " + std::to_string(status) : last_line;
    if (status == reject_status) return {Outcome::reject, text};
    if (status == cannot_execute || status == not_found) return {Outcome::cannot_run, text};
    return {Outcome::nack, text};
}

ExecResult run_command(const std::string& command, const Job& job, const std::stop_token& stop) {
    const Descriptor stop_event{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (stop_event.get() < 0) fail("eventfd");
    const std::stop_callback on_stop{stop, [&stop_event] { ::eventfd_write(stop_event.get(), 1); }};
    Child child{command, job};
    while (!stop.stop_requested()) {
        if (const auto status = child.serve(stop_event.get(), -1)) {
            ExecResult result = judge(*status, child.last_line());
            if (result.outcome == Outcome::ack) result.output = std::move(child.answer());
            return result;
        }
        if (child.answers_too_much()) {
            terminate(child);
            return {Outcome::nack,
                    "it wrote more than the " + std::to_string(defaults::message_limit) + " bytes a message may have"};
        }
    }
    terminate(child);
    return {Outcome::terminated, {}};
}

}  // namespace posthorn::nodes
