// Posthorn beside plain libzmq on the same work, in the same run, in turns.
#include <linux/magic.h>
#include <sys/vfs.h>
#include <algorithm>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iomanip>
#include <iostream>
#include <thread>

#include <zmq.h>
#include <boost/program_options.hpp>
#include <nlohmann/json.hpp>

#include "pub_sub.hpp"
#include "request_reply.hpp"
#include "work_queue.hpp"

namespace bench {

void write_number(char* payload, std::uint64_t number) {
    std::memcpy(payload, &number, sizeof number);
}

std::uint64_t read_number(const char* payload) {
    std::uint64_t number = 0;
    std::memcpy(&number, payload, sizeof number);
    return number;
}

void Tally::count(const char* payload, std::size_t size) {
    if (size != payload_bytes) throw std::runtime_error("a message of another size has come");
    const std::uint64_t number = read_number(payload);
    if (number >= seen_.size()) throw std::runtime_error("a message nobody has sent has come");
    if (seen_[number]) {
        ++duplicates_;
        return;
    }
    seen_[number] = true;
    ++distinct_;
}

}  // namespace bench

namespace {

namespace options = boost::program_options;
namespace fs = std::filesystem;
using bench::Run;
using nlohmann::json;

constexpr std::size_t packed = 100;  // messages per frame of the second peer

// The runs of one contender, by round.
struct Series {
    std::vector<double> per_second;
    std::uint64_t duplicates = 0;

    void add(const Run& run) {
        per_second.push_back(run.per_second);
        duplicates += run.duplicates;
    }
};

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const std::size_t middle = values.size() / 2;
    return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

std::vector<double> ratios(const Series& ours, const Series& peer) {
    std::vector<double> result;
    for (std::size_t round = 0; round < ours.per_second.size(); ++round)
        result.push_back(ours.per_second[round] / peer.per_second[round]);
    return result;
}

std::string processor() {
    std::ifstream info("/proc/cpuinfo");
    for (std::string line; std::getline(info, line);) {
        if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
    }
    return "unknown";
}

json machine() {
    int major = 0;
    int minor = 0;
    int patch = 0;
    ::zmq_version(&major, &minor, &patch);
    return {{"processor", processor()},
            {"cores", std::thread::hardware_concurrency()},
            {"libzmq", std::to_string(major) + '.' + std::to_string(minor) + '.' + std::to_string(patch)}};
}

fs::path binaries() {
    return fs::read_symlink("/proc/self/exe").parent_path();
}

// What is synced to memory is not durable, and would flatter us.
fs::path disk_of(const options::variables_map& given) {
    fs::path folder = given.count("disk") > 0 ? fs::path{given["disk"].as<std::string>()} : binaries().parent_path();
    struct statfs about {};
    if (::statfs(folder.c_str(), &about) != 0) throw std::runtime_error("no such folder: " + folder.string());
    if (about.f_type == TMPFS_MAGIC || about.f_type == RAMFS_MAGIC)
        throw std::runtime_error(folder.string() + " is in memory; name a folder on a disk with --disk");
    return folder;
}

struct Comparison {
    std::string ours;
    std::string durability;
    std::string measured;
    const Series* ours_runs;
    std::string peer;
    const Series* peer_runs;
};

json as_json(const Comparison& it, std::uint64_t messages) {
    const auto by_round = ratios(*it.ours_runs, *it.peer_runs);
    return {{"bench", "work-queue"},
            {"ours", it.ours},
            {"durability", it.durability},
            {"measured", it.measured},
            {"peer", it.peer},
            {"messages", messages},
            {"payload_bytes", bench::payload_bytes},
            {"ours_per_s", median(it.ours_runs->per_second)},
            {"peer_per_s", median(it.peer_runs->per_second)},
            {"ratio", median(by_round)},
            {"ratio_by_round", by_round},
            {"ours_per_s_by_round", it.ours_runs->per_second},
            {"peer_per_s_by_round", it.peer_runs->per_second},
            {"duplicates", it.ours_runs->duplicates},
            {"machine", machine()}};
}

void print_table(const std::vector<Comparison>& comparisons, std::uint64_t messages, int rounds) {
    const json host = machine();
    std::cout << messages << " messages of " << bench::payload_bytes
              << " bytes, separate processes, tcp loopback; medians of " << rounds
              << " rounds, ours and the peer's in turns\n"
              << host["processor"].get<std::string>() << ", " << host["cores"] << " cores, libzmq "
              << host["libzmq"].get<std::string>() << "\n\n";
    std::cout << std::left << std::setw(12) << "ours" << std::right << std::setw(12) << "messages/s"
              << "  " << std::left << std::setw(44) << "peer" << std::right << std::setw(12) << "messages/s"
              << std::setw(8) << "ratio" << '\n'
              << std::fixed;
    for (const Comparison& it : comparisons) {
        std::cout << std::left << std::setw(12) << it.ours << std::right << std::setw(12) << std::setprecision(0)
                  << median(it.ours_runs->per_second) << "  " << std::left << std::setw(44) << it.peer << std::right
                  << std::setw(12) << median(it.peer_runs->per_second) << std::setw(8) << std::setprecision(3)
                  << median(ratios(*it.ours_runs, *it.peer_runs)) << '\n';
    }
    std::cout << '\n';
    for (const Comparison& it : {comparisons.front(), comparisons.back()})
        std::cout << it.ours << ": " << it.durability << "; " << it.measured << "; " << it.ours_runs->duplicates
                  << " duplicates\n";
    std::cout << "peers: nothing is acknowledged; from before the first send until the last message is received\n";
}

void work_queue(const options::variables_map& given) {
    const auto messages = given["messages"].as<std::uint64_t>();
    const int rounds = given["runs"].as<int>();
    const fs::path posthorn = binaries() / "posthorn";
    const fs::path disk = disk_of(given);
    if (messages < 1 || rounds < 1) throw std::runtime_error("--messages and --runs must be 1 or more");

    Series one;
    Series hundred;
    Series memory;
    Series node;
    for (int round = 1; round <= rounds; ++round) {
        std::cerr << "round " << round << " of " << rounds << '\n';
        one.add(bench::peer(messages, 1));
        memory.add(bench::brokerless(messages));
        hundred.add(bench::peer(messages, packed));
        node.add(bench::at_node(messages, posthorn, disk));
    }

    const std::string peer_one = "libzmq PUSH/PULL, 1 message per frame";
    const std::string peer_hundred = "libzmq PUSH/PULL, 100 messages per frame";
    const Comparison here{"brokerless",
                          "in the producer's memory",
                          "from before the first send until the producer knows that every message is acked",
                          &memory,
                          peer_one,
                          &one};
    const Comparison there{
        "node",
        "on disk, every confirm after fdatasync",
        "from before the first send until the producer has every message confirmed as stored and the "
        "worker every ack confirmed",
        &node,
        peer_one,
        &one};
    std::vector<Comparison> comparisons{here, here, there, there};
    for (const std::size_t with_hundred : {1U, 3U}) {
        comparisons[with_hundred].peer = peer_hundred;
        comparisons[with_hundred].peer_runs = &hundred;
    }
    if (given.count("json") == 0) {
        print_table(comparisons, messages, rounds);
        return;
    }
    for (const Comparison& it : comparisons) std::cout << as_json(it, messages) << '\n';
}

struct Contender {
    std::string name;
    bench::Fan (*run)(std::uint64_t messages, unsigned subscribers);
};

// One publisher and some subscribers that want everything; each contender in turn, with as many.
void pub_sub(const options::variables_map& given) {
    const auto messages = given["messages"].as<std::uint64_t>();
    const int rounds = given["runs"].as<int>();
    if (messages < 1 || rounds < 1) throw std::runtime_error("--messages and --runs must be 1 or more");
    const std::vector<Contender> contenders{{"ours, publishers wait (block)", bench::ours_blocking},
                                            {"ours, the oldest give way", bench::ours_dropping},
                                            {"libzmq XPUB_NODROP/SUB", bench::xpub_nodrop},
                                            {"libzmq PUB/SUB", bench::pub}};
    const json host = machine();
    for (const unsigned subscribers : {1U, 8U}) {
        std::vector<std::vector<double>> rates(contenders.size());
        std::vector<double> least(contenders.size(), 1);
        for (int round = 0; round < rounds; ++round) {
            std::cerr << subscribers << " subscribers, round " << round + 1 << " of " << rounds << '\n';
            for (std::size_t i = 0; i < contenders.size(); ++i) {
                const bench::Fan fan = contenders[i].run(messages, subscribers);
                rates[i].push_back(fan.per_second);
                least[i] = std::min(least[i], fan.received);
            }
        }
        for (std::size_t i = 0; i < contenders.size(); ++i) {
            if (given.count("json") > 0) {
                std::cout << json{{"bench", "pub-sub"},
                                  {"contender", contenders[i].name},
                                  {"subscribers", subscribers},
                                  {"messages", messages},
                                  {"payload_bytes", bench::payload_bytes},
                                  {"received_per_s_each", median(rates[i])},
                                  {"received_per_s_each_by_round", rates[i]},
                                  {"received_share_least", least[i]},
                                  {"machine", host}}
                          << '\n';
                continue;
            }
            std::cout << std::left << std::setw(32) << contenders[i].name << std::right << std::setw(3) << subscribers
                      << " subscribers" << std::fixed << std::setprecision(0) << std::setw(12) << median(rates[i])
                      << " messages/s to each" << std::setprecision(1) << std::setw(8) << 100 * least[i]
                      << " % received, at the least\n";
        }
    }
}

struct Asker {
    std::string name;
    std::function<bench::Exchange()> run;
    std::vector<double> per_second{}, median_us{}, p99_us{};
};

// One that asks and one that answers; each contender in turn.
void request_reply(const options::variables_map& given) {
    const auto requests = given["messages"].defaulted() ? 100'000 : given["messages"].as<std::uint64_t>();
    const int rounds = given["runs"].as<int>();
    const fs::path posthorn = binaries() / "posthorn";
    const fs::path disk = disk_of(given);
    if (requests < 1 || rounds < 1) throw std::runtime_error("--messages and --runs must be 1 or more");
    std::vector<Asker> contenders{
        {"ours, brokerless", [&] { return bench::ours_brokerless(requests); }},
        {"ours, node, every request and answer on disk", [&] { return bench::ours_at_node(requests, posthorn, disk); }},
        {"libzmq DEALER/ROUTER, which may lose either", [&] { return bench::dealer_router(requests); }}};
    for (int round = 1; round <= rounds; ++round) {
        std::cerr << "round " << round << " of " << rounds << '\n';
        for (Asker& one : contenders) {
            const bench::Exchange result = one.run();
            one.per_second.push_back(result.per_second);
            one.median_us.push_back(result.median_us);
            one.p99_us.push_back(result.p99_us);
        }
    }
    const json host = machine();
    const double peer = median(contenders.back().per_second);
    for (const Asker& one : contenders) {
        if (given.count("json") > 0) {
            std::cout << json{{"bench", "request-reply"},
                              {"contender", one.name},
                              {"requests", requests},
                              {"outstanding", bench::outstanding},
                              {"payload_bytes", bench::payload_bytes},
                              {"per_s", median(one.per_second)},
                              {"per_s_by_round", one.per_second},
                              {"ratio", median(one.per_second) / peer},
                              {"alone_median_us", median(one.median_us)},
                              {"alone_p99_us", median(one.p99_us)},
                              {"machine", host}}
                      << '\n';
            continue;
        }
        std::cout << std::left << std::setw(46) << one.name << std::right << std::fixed << std::setprecision(0)
                  << std::setw(10) << median(one.per_second) << " requests/s with " << bench::outstanding
                  << " outstanding" << std::setprecision(2) << std::setw(7) << median(one.per_second) / peer
                  << std::setprecision(0) << std::setw(8) << median(one.median_us) << " us alone, p99" << std::setw(8)
                  << median(one.p99_us) << " us\n";
    }
}

}  // namespace

int main(int argc, char** argv) {
    try {
        options::options_description known("posthorn_bench work-queue|pub-sub|request-reply");
        known.add_options()("help", "this text")                                                                  //
            ("what", options::value<std::string>(), "work-queue, pub-sub or request-reply")                       //
            ("json", "one JSON object per line instead of a table")                                               //
            ("messages", options::value<std::uint64_t>()->default_value(1'000'000), "per run; requests: 100000")  //
            ("runs", options::value<int>()->default_value(5), "of every contender, in turns")                     //
            ("disk", options::value<std::string>(), "where the node's data goes; default: beside the programs");
        options::positional_options_description positional;
        positional.add("what", 1);
        options::variables_map given;
        options::store(options::command_line_parser(argc, argv).options(known).positional(positional).run(), given);
        if (given.count("help") > 0) {
            std::cout << known;
            return EXIT_SUCCESS;
        }
        const std::string what = given.count("what") == 0 ? "" : given["what"].as<std::string>();
        if (what == "work-queue") {
            work_queue(given);
        } else if (what == "pub-sub") {
            pub_sub(given);
        } else if (what == "request-reply") {
            request_reply(given);
        } else {
            throw std::runtime_error("what is to be measured? work-queue, pub-sub or request-reply");
        }
        return EXIT_SUCCESS;
    } catch (const std::exception& error) {
        std::cerr << "posthorn_bench: " << error.what() << '\n';
        return EXIT_FAILURE;
    }
}
