#include "random.hpp"

#include <sys/random.h>

#include <cerrno>
#include <system_error>

#include <posthorn/status.hpp>

namespace posthorn::detail {

namespace {

void fill(void* bytes, std::size_t size) {
    // So few bytes come whole or not at all.
    while (::getrandom(bytes, size, 0) != static_cast<ssize_t>(size)) {
        if (errno != EINTR) throw Error("the system gives no random bytes: " + std::generic_category().message(errno));
    }
}

}  // namespace

Identity random_identity() {
    Identity identity;
    fill(identity.bytes.data(), identity.bytes.size());
    return identity;
}

std::uint64_t random_number() {
    std::uint64_t number = 0;
    fill(&number, sizeof number);
    return number;
}

}  // namespace posthorn::detail
