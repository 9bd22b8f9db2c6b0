// What an endpoint says and what is wrong with it. No sockets here, except to see whether somebody is at an ipc path.
#pragma once

#include <string>
#include <string_view>

#include <posthorn/status.hpp>

namespace posthorn::transport {

enum class Scheme { tcp, ipc, inproc };
enum class Use { bind, connect };

// Throws Error unless the endpoint is of the form tcp://HOST:PORT, ipc://PATH or inproc://NAME. To be bound, the host
// may be `*` or an interface and the port `*`.
Scheme check_endpoint(const std::string& endpoint, Use use);

// Throws Error if a living process listens on this ipc path, or if the path is something else than a socket. libzmq
// would unlink either and take the path over.
void check_path_free(const std::string& endpoint);

// Whether others than this machine's processes can reach what is bound there. Unsure counts as yes.
[[nodiscard]] bool beyond_loopback(std::string_view endpoint);

// What a failed bind or connect says to people; `code` is an errno of the system's or of libzmq's.
[[nodiscard]] Error endpoint_error(const std::string& endpoint, Use use, int code);

}  // namespace posthorn::transport
