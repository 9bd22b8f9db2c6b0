// Bytes with a shared owner: a part of a wire frame or of a stored chunk, passed on without copying.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace posthorn {

class Slice {
public:
    Slice() = default;
    Slice(std::shared_ptr<const void> owner, std::string_view bytes) noexcept
        : owner_(std::move(owner)), bytes_(bytes) {}
    explicit Slice(std::string bytes) {
        auto owned = std::make_shared<const std::string>(std::move(bytes));
        bytes_ = *owned;
        owner_ = std::move(owned);
    }

    [[nodiscard]] std::string_view view() const noexcept { return bytes_; }
    [[nodiscard]] std::size_t size() const noexcept { return bytes_.size(); }
    [[nodiscard]] bool empty() const noexcept { return bytes_.empty(); }
    // Another part of the same memory; `part` must lie within view().
    [[nodiscard]] Slice part(std::string_view part) const noexcept { return {owner_, part}; }
    void reset() noexcept {
        owner_.reset();
        bytes_ = {};
    }

private:
    std::shared_ptr<const void> owner_;
    std::string_view bytes_;
};

}  // namespace posthorn
