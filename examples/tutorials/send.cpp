#include <iostream>

#include <posthorn/work_queue.hpp>

#include "tutorials.hpp"

int tutorials::send(Words /*words*/) {
    posthorn::Context context;
    posthorn::work_queue::Producer hello{context, "hello", node()};
    if (hello.send("Hello World!").wait(5s) != posthorn::Status::ok) return 1;
    std::cout << " [x] Sent 'Hello World!'" << std::endl;
    return 0;
}
