#include "envelope/binding.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include <posthorn/policy.hpp>
#include <posthorn/status.hpp>

namespace posthorn {

namespace {

// The first word; what is behind it is left in `rest`, nothing of it after the last word.
std::string_view next_word(std::optional<std::string_view>& rest) noexcept {
    const auto dot = rest->find('.');
    const std::string_view word = rest->substr(0, dot);
    if (dot == std::string_view::npos) {
        rest.reset();
    } else {
        rest->remove_prefix(dot + 1);
    }
    return word;
}

using Words = std::optional<std::string_view>;  // no words: nothing; one word of no letters: an empty text

}  // namespace

// As with wildcards in file names it is enough to come back to the last `#`: what it leaves to those in front of it
// they could not do better with.
bool matches_subject(std::string_view pattern, std::string_view subject) noexcept {
    const auto words_of = [](std::string_view text) { return text.empty() ? Words{} : Words{text}; };
    Words wanted = words_of(pattern);
    Words words = words_of(subject);
    bool has_hash = false;
    Words behind_hash;   // of the pattern
    Words hash_ends_at;  // in the subject
    while (words) {
        if (wanted) {
            Words ahead = wanted;
            const std::string_view word = next_word(ahead);
            if (word == "#") {
                has_hash = true;
                behind_hash = wanted = ahead;
                hash_ends_at = words;
                continue;
            }
            Words after = words;
            if (next_word(after) == word || word == "*") {
                wanted = ahead;
                words = after;
                continue;
            }
        }
        if (!has_hash) return false;
        next_word(hash_ends_at);  // one more word for it
        words = hash_ends_at;
        wanted = behind_hash;
    }
    while (wanted) {
        if (next_word(wanted) != "#") return false;
    }
    return true;
}

void validate(const std::vector<Binding>& bindings) {
    if (bindings.size() > bindings_limit) {
        throw Error("a subscription has at most " + std::to_string(bindings_limit) + " bindings, not " +
                    std::to_string(bindings.size()));
    }
    for (const Binding& binding : bindings) {
        const std::string which = "binding \"" + binding.subject.substr(0, 80) + "\": ";
        if (binding.subject.size() > pattern_limit) throw Error(which + "its subject is longer than 255 bytes");
        if (binding.headers.size() > binding_headers_limit) {
            throw Error(which + "it has " + std::to_string(binding.headers.size()) + " headers; at most " +
                        std::to_string(binding_headers_limit) + " are looked at");
        }
        for (const auto& [name, value] : binding.headers) {
            if (name.size() > envelope::text_limit || value.size() > envelope::text_limit)
                throw Error(which + "a header in it is longer than 1 KiB");
        }
    }
}

std::optional<Address> parse_address(std::string_view address) noexcept {
    const auto slash = address.find('/');
    const std::string_view topic = address.substr(0, slash);
    if (!valid_queue_name(topic)) return std::nullopt;
    if (slash == std::string_view::npos) return Address{topic, {}};
    const std::string_view subscription = address.substr(slash + 1);
    if (!valid_queue_name(subscription)) return std::nullopt;
    return Address{topic, subscription};
}

}  // namespace posthorn

namespace posthorn::envelope {

void write_bindings(wire::Writer& out, const std::vector<Binding>& bindings) {
    out.array(static_cast<std::uint32_t>(bindings.size()));
    for (const Binding& binding : bindings) {
        out.array(3).string(binding.subject).boolean(binding.any);
        out.map(static_cast<std::uint32_t>(binding.headers.size()));
        for (const auto& [name, value] : binding.headers) out.string(name).string(value);
    }
}

void read_bindings(wire::Reader& in, std::vector<Binding>& bindings) {
    bindings.clear();
    const std::uint32_t count = in.array();
    if (count > bindings_limit) in.fail();
    for (std::uint32_t left = count; left > 0 && in.ok(); --left) {
        if (in.array() != 3) return in.fail();
        Binding& binding = bindings.emplace_back();
        binding.subject = in.string();
        binding.any = in.boolean();
        std::uint32_t headers = in.map();
        if (binding.subject.size() > pattern_limit || headers > binding_headers_limit) in.fail();
        for (; headers > 0 && in.ok(); --headers) {
            const std::string_view name = in.string();
            const std::string_view value = in.string();
            if (name.size() > text_limit || value.size() > text_limit) return in.fail();
            binding.headers.insert_or_assign(std::string(name), std::string(value));
        }
    }
}

bool takes_everything(const std::vector<Binding>& bindings) noexcept {
    return bindings.empty() || std::any_of(bindings.begin(), bindings.end(), [](const Binding& one) {
               return one.subject == "#" && one.headers.empty();
           });
}

bool is_wanted(const std::vector<Binding>& bindings, std::string_view envelope) {
    return takes_everything(bindings) || matches(bindings, read_labels(envelope));
}

bool matches(const std::vector<Binding>& bindings, const Labels& labels) noexcept {
    if (bindings.empty()) return true;
    const auto carried = [&](const auto& wanted) {
        return std::any_of(labels.headers.begin(), labels.headers.end(), [&](const auto& header) {
            return header.first == wanted.first && header.second == wanted.second;
        });
    };
    return std::any_of(bindings.begin(), bindings.end(), [&](const Binding& one) {
        if (!matches_subject(one.subject, labels.subject)) return false;
        if (one.headers.empty()) return true;
        return one.any ? std::any_of(one.headers.begin(), one.headers.end(), carried)
                       : std::all_of(one.headers.begin(), one.headers.end(), carried);
    });
}

}  // namespace posthorn::envelope
