// What the examples of event loops work on: texts whose words are counted. Work that another program sends to their
// queue comes from `posthorn send`, or from whatever else speaks msgpack maps.
#pragma once

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iostream>
#include <string>
#include <utility>

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

// What all of them do with their `count(worker, enough)`, which counts words until `enough` texts are done or a signal
// comes: texts of our own in this process, or those of the queue "texts" at an endpoint.
template <typename Count>
int count_texts(int argc, char** argv, const posthorn::work_queue::WorkerOptions& options, Count count) {
    namespace wq = posthorn::work_queue;
    using namespace std::chrono_literals;
    constexpr std::size_t own_texts = 100;
    try {
        posthorn::Context context;
        if (argc > 1) {
            wq::Worker worker{context, "texts", posthorn::at(argv[1]), options};
            std::cout << count(worker, SIZE_MAX) << " words\n";
            return worker.drain(5s) == posthorn::Status::ok ? EXIT_SUCCESS : EXIT_FAILURE;
        }
        wq::Producer texts{context, "texts", posthorn::here({.bind = "inproc://texts"})};
        for (std::size_t i = 0; i < own_texts; ++i) texts.send(Text{"to be or not to be"});
        wq::Worker worker{context, "texts", posthorn::at("inproc://texts"), options};
        const std::size_t words = count(worker, own_texts);
        std::cout << words << " words\n";
        return words == own_texts * 6 && texts.flush(5s) == posthorn::Status::ok ? EXIT_SUCCESS : EXIT_FAILURE;
    } catch (const std::exception& error) {
        std::cerr << std::filesystem::path(argv[0]).filename().string() << ": " << error.what() << '\n';
        return EXIT_FAILURE;
    }
}
