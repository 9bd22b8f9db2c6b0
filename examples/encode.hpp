// What encode.cpp sends, and what its worker does with it: apart from the program, so that it can be tested.
#pragma once

#include <iostream>
#include <string>

#include <posthorn/work_queue.hpp>

struct EncodeJob {
    std::string path, profile;
    MSGPACK_DEFINE_MAP(path, profile)
};

inline void encode(const EncodeJob& job, posthorn::Delivery& /*delivery*/) {
    std::cout << job.path << " as " << job.profile << std::endl;  // return: done; throw: try again later
}
