#include "transport/endpoint.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <zmq.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstring>

namespace posthorn::transport {
namespace {

constexpr std::string_view tcp_prefix = "tcp://";
constexpr std::string_view ipc_prefix = "ipc://";
constexpr std::string_view inproc_prefix = "inproc://";

struct HostPort {
    std::string_view host;
    std::string_view port;
};

HostPort split_host_port(std::string_view address) {
    const auto colon = address.rfind(':');
    if (colon == std::string_view::npos) return {address, {}};
    return {address.substr(0, colon), address.substr(colon + 1)};
}

bool is_port(std::string_view text, Use use) {
    if (use == Use::bind && text == "*") return true;
    unsigned value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc{} && end == text.data() + text.size() && value >= 1 && value <= 65535;
}

std::string_view verb(Use use) {
    return use == Use::bind ? "cannot bind " : "cannot connect to ";
}

Error failed(const std::string& endpoint, Use use, std::string_view why) {
    return Error{std::string(verb(use)) + (endpoint.empty() ? "an empty endpoint" : endpoint) + ": " +
                 std::string(why)};
}

void check_tcp(const std::string& endpoint, Use use) {
    const auto [host, port] = split_host_port(std::string_view(endpoint).substr(tcp_prefix.size()));
    if (host.empty()) throw failed(endpoint, use, "the host is missing; write tcp://HOST:PORT");
    if (use == Use::connect && (host == "*" || host == "0.0.0.0" || host == "[::]"))
        throw failed(endpoint, use, "that is every address of a machine, for binding; name the host to connect to");
    if (is_port(port, use)) return;
    throw failed(endpoint, use,
                 use == Use::bind ? "the port must be a number from 1 to 65535, or * for any free one"
                                  : "the port must be a number from 1 to 65535");
}

// The way out for errors that need more than the system's own words.
std::string_view explanation(int code) {
    switch (code) {
        case EADDRINUSE:
            return "the address is in use; stop the process that has it or choose another";
        case EADDRNOTAVAIL:
        case ENODEV:
            return "no interface of this machine has that address; bind to one of its IP addresses, to an interface's "
                   "name or to *";
        case EACCES:
        case EPERM:
            return "permission denied; choose another port or path, or run with the rights it needs";
        case ENAMETOOLONG:
            return "the path is too long for a socket (at most 107 bytes); choose a shorter one";
        case ENOENT:
            return "the path's folder does not exist; make it or choose another";
        case ENOTDIR:
            return "a part of the path is not a folder; choose another";
        case EROFS:
            return "the path is on a read-only file system; choose another";
        case EPROTONOSUPPORT:
            return "not a transport Posthorn speaks; use tcp://HOST:PORT, ipc://PATH or inproc://NAME";
        case EINVAL:
            return "not an address; write tcp://HOST:PORT, ipc://PATH or inproc://NAME";
        case EMFILE:
        case ENFILE:
            return "too many sockets or open files; close some or raise the limit (ulimit -n)";
        default:
            return {};
    }
}

class PlainSocket {
public:
    PlainSocket() : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {}
    ~PlainSocket() {
        if (fd_ >= 0) ::close(fd_);
    }
    PlainSocket(const PlainSocket&) = delete;
    PlainSocket& operator=(const PlainSocket&) = delete;
    [[nodiscard]] int fd() const noexcept { return fd_; }

private:
    int fd_;
};

// 0: somebody listens there. Otherwise the error of the attempt; ECONNREFUSED: a socket whose process is gone.
int knock(const std::string& path) {
    const PlainSocket socket;
    if (socket.fd() < 0) return errno;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) return ENAMETOOLONG;
    std::copy(path.begin(), path.end(), std::begin(address.sun_path));
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): that is how the system call wants it
    if (::connect(socket.fd(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return 0;
    return errno == EAGAIN ? 0 : errno;  // EAGAIN: a listener whose backlog is full
}

bool is_loopback_host(std::string_view host) {
    return host == "localhost" || host == "lo" || host == "[::1]" || host.starts_with("127.");
}

}  // namespace

Scheme check_endpoint(const std::string& endpoint, Use use) {
    if (endpoint.starts_with(tcp_prefix)) {
        check_tcp(endpoint, use);
        return Scheme::tcp;
    }
    const bool ipc = endpoint.starts_with(ipc_prefix);
    if (!ipc && !endpoint.starts_with(inproc_prefix))
        throw failed(endpoint, use, explanation(endpoint.find("://") == std::string::npos ? EINVAL : EPROTONOSUPPORT));
    if (endpoint.size() == (ipc ? ipc_prefix : inproc_prefix).size())
        throw failed(endpoint, use,
                     ipc ? "the path is missing; write ipc://PATH" : "the name is missing; write inproc://NAME");
    return ipc ? Scheme::ipc : Scheme::inproc;
}

void check_path_free(const std::string& endpoint) {
    const std::string path = endpoint.substr(ipc_prefix.size());
    if (path == "*" || path.starts_with('@')) return;  // libzmq makes a new path; an abstract name cannot be taken over
    struct stat status {};
    if (::lstat(path.c_str(), &status) != 0) return;  // nothing there; bind() reports what else is wrong with the path
    if (!S_ISSOCK(status.st_mode))
        throw failed(endpoint, Use::bind, "there is a file that is not a socket; remove it or choose another path");
    const int error = knock(path);
    if (error == 0) throw endpoint_error(endpoint, Use::bind, EADDRINUSE);
    if (error != ECONNREFUSED && error != ENOENT) throw endpoint_error(endpoint, Use::bind, error);
}

bool beyond_loopback(std::string_view endpoint) {
    if (!endpoint.starts_with(tcp_prefix))
        return !endpoint.starts_with(ipc_prefix) && !endpoint.starts_with(inproc_prefix);
    return !is_loopback_host(split_host_port(endpoint.substr(tcp_prefix.size())).host);
}

Error endpoint_error(const std::string& endpoint, Use use, int code) {
    const auto known = explanation(code);
    return failed(endpoint, use, known.empty() ? std::string_view(zmq_strerror(code)) : known);
}

}  // namespace posthorn::transport
