#include <algorithm>
#include <iostream>
#include <thread>

#include <posthorn/work_queue.hpp>

#include "tutorials.hpp"

int tutorials::worker(Words /*words*/) {
    posthorn::Context context;
    posthorn::work_queue::Worker tasks{context, "task_queue", node()};
    const auto ended = tasks.run([](posthorn::Delivery& delivery) {
        const std::string& task = delivery.message().payload;
        std::cout << " [x] Received " << task << std::endl;
        std::this_thread::sleep_for(std::chrono::seconds{std::count(task.begin(), task.end(), '.')});
        std::cout << " [x] Done" << std::endl;
    });
    return ended == posthorn::Status::ok ? 0 : 1;
}
