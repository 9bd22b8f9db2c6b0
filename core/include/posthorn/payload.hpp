// Typed payloads: msgpack maps by name (MSGPACK_DEFINE_MAP), so unknown and missing keys are tolerated.
#pragma once

#include <concepts>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

#include <msgpack.hpp>

#include <posthorn/message.hpp>

namespace posthorn {

template <typename T>
concept MsgpackMap = requires(const T& value, msgpack::packer<msgpack::sbuffer>& packer) {
    value.msgpack_pack(packer);
};

namespace detail {
// Nothing that foreign bytes declare may allocate more than this.
inline msgpack::unpack_limit payload_limits() {
    constexpr std::size_t elements = 1 << 20;
    constexpr std::size_t bytes = 64U << 20U;
    constexpr std::size_t depth = 64;
    return {elements, elements, bytes, bytes, bytes, depth};
}
}  // namespace detail

template <MsgpackMap T>
[[nodiscard]] Message to_message(const T& value) {
    msgpack::sbuffer buffer;
    msgpack::pack(buffer, value);
    Message message;
    message.payload.assign(buffer.data(), buffer.size());
    message.content_type = msgpack_content_type;
    return message;
}

// Empty: the bytes are not this type.
template <MsgpackMap T>
[[nodiscard]] std::optional<T> from_payload(std::string_view payload) {
    try {
        const auto handle = msgpack::unpack(payload.data(), payload.size(), nullptr, nullptr, detail::payload_limits());
        if (handle.get().type != msgpack::type::MAP) return std::nullopt;
        return handle.get().as<T>();
    } catch (const std::exception&) {  // msgpack-c reports malformed bytes, exceeded limits and wrong types by throwing
        return std::nullopt;
    }
}

}  // namespace posthorn
