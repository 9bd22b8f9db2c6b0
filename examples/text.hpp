// What the examples of event loops work on: texts whose words are counted. Work that another program sends to their
// queue comes from `posthorn send`, or from whatever else speaks msgpack maps.
#pragma once

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <string>

#include <posthorn/work_queue.hpp>

struct Text {
    std::string text;
    MSGPACK_DEFINE_MAP(text)
};

inline std::size_t count_words(const Text& job) {
    bool inside = false;
    return static_cast<std::size_t>(std::count_if(job.text.begin(), job.text.end(), [&](unsigned char letter) {
        const bool was_inside = std::exchange(inside, std::isspace(letter) == 0);
        return inside && !was_inside;
    }));
}
