#include <iostream>

#include <posthorn/work_queue.hpp>

#include "tutorials.hpp"

int tutorials::new_task(Words words) {
    posthorn::Context context;
    posthorn::work_queue::Producer tasks{context, "task_queue", node()};
    const std::string message = joined(words, "Hello World!");
    if (tasks.send(message).wait(5s) != posthorn::Status::ok) return 1;
    std::cout << " [x] Sent " << message << std::endl;
    return 0;
}
