#include <algorithm>
#include <iostream>
#include <limits>

#include "cli.hpp"
#include "envelope/envelope.hpp"
#include "json.hpp"
#include "store/chunk_format.hpp"
#include "store/store_view.hpp"
#include "table.hpp"
#include "transport/clock.hpp"
#include "units.hpp"
#include "verbs.hpp"

namespace posthorn::nodes {

namespace po = boost::program_options;

namespace {

Verb inspect_verb() {
    return {
        "inspect", "FOLDER [--queue NAME [--dead] [--max N]] [--json]",
        R"(Looks into the data folder of a node that is stopped, and changes nothing in it: its queues with how many
messages and dead letters they have and the age of the oldest, what the next start would find damaged and
what earlier ones have set aside, and whether commits stand only in the log. With --queue it lists messages.
)",
        R"(Messages are "ready", "waiting" for their next attempt or "held" by a worker, as of the stop. Payloads are not
read unless --queue lists their messages, so damage in them is only found there.
With --json there is one object per line; of the overview each has its "kind": store, queue, damage (the next start
sets it aside) or set_aside (an earlier one did).
)"};
}

std::uint64_t ms(Wall at) {
    return static_cast<std::uint64_t>(std::max<std::int64_t>(0, store::ticks(at)));
}

Wall now() {
    return transport::Clock{}.now().wall;
}

std::string age_of(const store::RecoveredTopic& topic) {
    if (topic.messages == 0) return "-";
    return format_age(std::max(now() - topic.oldest, Wall::duration::zero()));
}

std::string describe_log(const store::StoreView& view) {
    std::string text = "none: all is in the file";
    if (view.log()) {
        text = std::to_string(view.log()->frames) + " pages (of " + format_size(view.log_bytes()) +
               ") that the next start moves into the file";
    }
    const std::string note = view.log_note();
    return note.empty() ? text : text + "\n" + note;
}

std::string damage_json(const char* kind, const store::Damage& damage) {
    return JsonObject{}
        .text("kind", kind)
        .text("queue", damage.topic)
        .number("first", damage.range.first)
        .number("last", damage.range.last)
        .number("messages", damage.messages)
        .text("what", damage.what)
        .done();
}

void print_overview_json(store::StoreView& view, const std::string& folder) {
    const auto contents = view.contents();
    std::cout << JsonObject{}
                     .text("kind", "store")
                     .text("folder", folder)
                     .number("format", static_cast<std::uint64_t>(view.format()))
                     .number("file_bytes", view.file_bytes())
                     .number("log_bytes", view.log_bytes())
                     .number("log_pages", view.log() ? view.log()->frames : 0)
                     .text("log_note", view.log_note())
                     .number("chunks", contents.chunks)
                     .done()
              << '\n';
    for (const auto& topic : contents.topics) {
        std::cout << JsonObject{}
                         .text("kind", "queue")
                         .text("name", topic.topic)
                         .number("messages", topic.messages)
                         .number("bytes", topic.bytes)
                         .number("dead", topic.dead)
                         .number("dead_bytes", topic.dead_bytes)
                         .number("oldest", topic.messages == 0 ? 0 : ms(topic.oldest))
                         .number("next_offset", topic.next_offset)
                         .done()
                  << '\n';
    }
    for (const auto& damage : contents.damage) std::cout << damage_json("damage", damage) << '\n';
    for (const auto& damage : contents.set_aside) std::cout << damage_json("set_aside", damage) << '\n';
}

void print_damage(const char* head, const std::vector<store::Damage>& damage) {
    if (damage.empty()) return;
    constexpr auto right = Align::right;
    std::vector<std::vector<std::string>> lines;
    lines.reserve(damage.size());
    for (const auto& one : damage) {
        lines.push_back({one.topic, std::to_string(one.range.first), std::to_string(one.range.last),
                         std::to_string(one.messages), one.what});
    }
    std::cout << '\n'
              << head << '\n'
              << table({{"QUEUE"}, {"FIRST", right}, {"LAST", right}, {"MESSAGES", right}, {"WHAT"}}, lines);
}

void print_overview(store::StoreView& view, const std::string& folder) {
    const auto contents = view.contents();
    std::cout << "store " << printable(folder) << ": format " << view.format() << ", " << format_size(view.file_bytes())
              << "\nlog: " << describe_log(view) << "\n\n";
    std::vector<std::vector<std::string>> lines;
    for (const auto& topic : contents.topics) {
        lines.push_back({topic.topic, std::to_string(topic.messages), format_size(topic.bytes),
                         std::to_string(topic.dead), format_size(topic.dead_bytes), age_of(topic)});
    }
    constexpr auto right = Align::right;
    if (lines.empty()) {
        std::cout << "no queues\n";
    } else {
        std::cout << table(
            {{"QUEUE"}, {"MESSAGES", right}, {"SIZE", right}, {"DEAD", right}, {"DEAD SIZE", right}, {"OLDEST", right}},
            lines);
    }
    print_damage("damaged; the next start sets it aside:", contents.damage);
    print_damage("set aside by earlier starts:", contents.set_aside);
    if (contents.damage.empty() && contents.set_aside.empty())
        std::cout << "\nno damage in headers and settlements (payloads were not read)\n";
}

const char* state_of(const store::StoredMessage& message) {
    if (!message.mark) return "ready";
    if (!message.mark->holder.is_zero()) return "held";
    return message.mark->due > now() ? "waiting" : "ready";
}

struct Described {
    std::string id;
    std::string type;
};

Described describe(std::string_view bytes, std::uint16_t redrives) {
    const auto envelope = envelope::decode(bytes);
    if (!envelope) return {"unreadable", ""};
    return {envelope::message_id(envelope->producer, envelope->sequence, redrives), envelope->message.type};
}

using Lines = std::vector<std::vector<std::string>>;

void say_damage(const Verb& verb, const std::vector<store::Damage>& damage) {
    for (const auto& one : damage) {
        say(verb, "damaged: " + one.topic + ": messages " + std::to_string(one.range.first) + " to " +
                      std::to_string(one.range.last) + " cannot be read: " + one.what + " (" +
                      std::to_string(one.messages) + ")");
    }
}

// One page of messages, as much as may be kept in memory, after the other.
bool list_messages(const Verb& verb, store::StoreView& view, const std::string& queue, std::uint64_t max, bool json) {
    constexpr std::size_t page_messages = 1000;  // each table has its own widths
    constexpr std::size_t page_bytes = 8 * 1024 * 1024;
    store::Read read{.topic = queue, .from = 1, .to = std::numeric_limits<store::Offset>::max()};
    read.max_bytes = page_bytes;
    for (std::uint64_t left = max; left > 0;) {
        read.max_messages = std::min<std::uint64_t>(left, page_messages);
        const store::ReadResult page = view.read(read);
        say_damage(verb, page.damage);
        if (page.messages.empty()) return false;
        Lines lines;
        for (const auto& message : page.messages) {
            const auto [id, type] = describe(message.envelope.view(), message.redrives);
            const std::uint64_t attempts = message.mark ? message.mark->attempts : 0;
            const std::string holder =
                message.mark && !message.mark->holder.is_zero() ? message.mark->holder.hex().substr(0, 8) : "";
            const std::uint64_t due = message.mark ? ms(message.mark->due) : 0;
            if (json) {
                std::cout << JsonObject{}
                                 .number("offset", message.offset)
                                 .text("id", id)
                                 .number("size", message.size)
                                 .text("type", type)
                                 .number("attempts", attempts)
                                 .text("state", state_of(message))
                                 .number("due", due)
                                 .text("holder", holder)
                                 .number("accepted_at", ms(message.accepted_at))
                                 .done()
                          << '\n';
            } else {
                lines.push_back({std::to_string(message.offset), id, format_size(message.size), type,
                                 std::to_string(attempts), state_of(message), format_time(due), holder,
                                 format_time(ms(message.accepted_at))});
            }
        }
        constexpr auto right = Align::right;
        if (!json) {
            std::cout << table({{"OFFSET", right},
                                {"ID"},
                                {"SIZE", right},
                                {"TYPE"},
                                {"ATTEMPTS", right},
                                {"STATE"},
                                {"DUE"},
                                {"HELD BY"},
                                {"ACCEPTED"}},
                               lines);
        }
        left -= page.messages.size();
        read.from = page.next;
    }
    read.max_messages = 1;
    read.bodies = false;
    return !view.read(read).messages.empty();
}

bool list_dead(const Verb& verb, store::StoreView& view, const std::string& queue, std::uint64_t max, bool json) {
    constexpr std::size_t page_letters = 1000;
    constexpr std::size_t text_width = 60;
    store::ReadDead read{.topic = queue};
    bool more = true;
    for (std::uint64_t left = max; left > 0 && more;) {
        read.max = std::min<std::uint64_t>(left, page_letters);
        const auto page = view.read_dead(read);
        say_damage(verb, page.damage);
        more = page.result.more;
        Lines lines;
        for (const auto& letter : page.result.letters) {
            const auto& record = letter.record;
            const auto [id, type] = describe(letter.envelope.view(), letter.redrives);
            if (json) {
                std::cout << JsonObject{}
                                 .number("offset", record.offset)
                                 .text("id", id)
                                 .number("size", letter.envelope.size())
                                 .text("type", type)
                                 .number("attempts", record.attempts)
                                 .text("reason", store::to_string(record.reason))
                                 .text("text", record.text)
                                 .text("consumer", record.consumer)
                                 .flag("edited", letter.original.has_value())
                                 .number("first_failure", ms(record.first_failure))
                                 .number("last_failure", ms(record.last_failure))
                                 .done()
                          << '\n';
            } else {
                lines.push_back({std::to_string(record.offset), id, format_size(letter.envelope.size()), type,
                                 std::to_string(record.attempts), std::string{store::to_string(record.reason)},
                                 format_time(ms(record.last_failure)), shortened(printable(record.text), text_width)});
            }
            read.from = record.offset + 1;
        }
        constexpr auto right = Align::right;
        if (!lines.empty()) {
            std::cout << table({{"OFFSET", right},
                                {"ID"},
                                {"SIZE", right},
                                {"TYPE"},
                                {"ATTEMPTS", right},
                                {"REASON"},
                                {"LAST FAILURE"},
                                {"TEXT"}},
                               lines);
        }
        left -= page.result.letters.size();
    }
    return more;
}

Exit run_inspect(const Verb& verb, const Arguments& given) {
    if (given.words.size() != 1) usage_error(verb, "give one folder: posthorn inspect FOLDER");
    const bool json = given.options["json"].as<bool>();
    const bool dead = given.options["dead"].as<bool>();
    const auto max = parsed(verb, given, "max", parse_count);
    const std::string& folder = given.words.front();
    if (given.options.count("queue") == 0) {
        if (dead || !given.options["max"].defaulted()) usage_error(verb, "--dead and --max go with --queue");
        store::StoreView view{folder};
        json ? print_overview_json(view, folder) : print_overview(view, folder);
        return Exit::ok;
    }
    const std::string queue = address_of(verb, given.options["queue"].as<std::string>());
    store::StoreView view{folder};
    if (!view.has(queue)) {
        std::string names;
        for (const auto& topic : view.contents().topics) names += (names.empty() ? "" : ", ") + topic.topic;
        throw Error{"there is no queue " + queue + " in " + folder + "; there is: " + (names.empty() ? "none" : names)};
    }
    const bool more = dead ? list_dead(verb, view, queue, max, json) : list_messages(verb, view, queue, max, json);
    if (more) say(verb, "there are more than " + std::to_string(max) + "; --max lists more");
    return Exit::ok;
}

}  // namespace

Command inspect_command() {
    po::options_description options = described_options();
    options.add_options()("queue", po::value<std::string>()->value_name("NAME"),
                          "list the messages of this queue, or of a subscription TOPIC/NAME");
    options.add_options()("dead", po::bool_switch(), "with --queue: its dead letters instead");
    options.add_options()("max", po::value<std::string>()->value_name("N")->default_value("1000"),
                          "with --queue: list so many");
    options.add_options()("json", po::bool_switch(), "one JSON object per line");
    return {inspect_verb(), "look into the data folder of a node that is stopped", std::move(options), &run_inspect};
}

}  // namespace posthorn::nodes
