// RabbitMQ's six tutorials, each program of theirs a file here with a function of its name. They talk to the node that
// POSTHORN_NODE names, else to the one at tcp://127.0.0.1:5757.
#pragma once

#include <chrono>
#include <span>
#include <string>

#include <posthorn/policy.hpp>

namespace tutorials {

using namespace std::chrono_literals;
using Words = std::span<char*>;  // of the command line, without the program's name

int send(Words words);
int receive(Words words);
int new_task(Words words);
int worker(Words words);
int emit_log(Words words);
int receive_logs(Words words);
int emit_log_direct(Words words);
int receive_logs_direct(Words words);
int emit_log_topic(Words words);
int receive_logs_topic(Words words);
int rpc_client(Words words);
int rpc_server(Words words);

posthorn::Home node();
std::string joined(Words words, const char* otherwise);  // with spaces between them

}  // namespace tutorials
