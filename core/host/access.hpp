// The one place that says who may do what. The principal is empty and everything is allowed until there are keys.
#pragma once

#include <string_view>

namespace posthorn::host {

enum class Verb { publish, consume, administer };

[[nodiscard]] inline bool may(std::string_view /*principal*/, Verb /*verb*/, std::string_view /*address*/) {
    return true;
}

}  // namespace posthorn::host
