#include "admin_client.hpp"

#include <chrono>
#include <utility>
#include <variant>

#include "cli.hpp"
#include "json.hpp"
#include "patterns/random.hpp"

namespace posthorn::nodes {

AdminClient::AdminClient(Context& context, std::string endpoint, Patience patience)
    : loop_(context.loop()),
      endpoint_(std::move(endpoint)),
      patience_(patience),
      incarnation_(detail::random_identity()) {
    loop_.add(*this);
    try {
        loop_.connect(*this, endpoint_);
    } catch (...) {
        loop_.remove(*this);
        throw;
    }
}

AdminClient::~AdminClient() {
    loop_.remove(*this);
}

void AdminClient::ask(protocol::AdminRequest request, const std::function<void(const Row&)>& on_row) {
    for (;;) {
        request.id = ++last_id_;
        protocol::AdminResult page = ask_page(request);
        if (!page.error.empty()) throw ExitError{Exit::refused, printable(page.error)};
        for (auto& row : page.rows) on_row(Row{std::move(row)});
        if (page.next == 0) return;
        request.from = page.next;
    }
}

protocol::AdminResult AdminClient::ask_page(const protocol::AdminRequest& request) {
    std::unique_lock lock{mutex_};
    wanted_ = request;
    asked_ = false;
    result_.reset();
    error_.reset();
    lock.unlock();
    loop_.wake(*this);
    lock.lock();
    const auto answered = [this] { return result_ || error_; };
    const bool in_time = changed_.wait_for(lock, patience_.welcome, [&] { return asked_ || answered(); }) &&
                         changed_.wait_for(lock, patience_.result, answered);
    wanted_.reset();
    if (error_) throw ExitError{*error_};
    if (!in_time && !asked_) throw ExitError{Exit::unreachable, no_answer(endpoint_) + stranger_};
    if (!in_time) throw ExitError{Exit::failed, endpoint_ + " was asked and has not answered in time; look at its log"};
    return std::move(*result_);
}

void AdminClient::on_link(transport::PeerId peer, const std::string& /*endpoint*/) {
    const std::lock_guard lock{mutex_};
    // The largest result is a page of rows of which one may be a whole message and its original.
    constexpr std::size_t joined_limit = 3 * defaults::message_limit;
    if (link_) {
        link_->move_to(peer, loop_.mono());
    } else {
        link_.emplace(peer, protocol::Timing{}, defaults::frame_limit, joined_limit);
    }
}

void AdminClient::on_stranger(const Event& event) {
    const std::lock_guard lock{mutex_};
    stranger_ = "; " + event.text;
}

void AdminClient::on_frame(transport::PeerId peer, Slice bytes, Now now) {
    const std::lock_guard lock{mutex_};
    if (!link_ || link_->peer() != peer) return;
    protocol::Frame frame;
    const auto input = link_->receive(bytes, now, frame);
    handle(frame, input);
}

void AdminClient::handle(protocol::Frame& frame, protocol::HostLink::Input input) {
    using Input = protocol::HostLink::Input;
    if (input == Input::identify || input == Input::broken) lost();
    if (input != Input::welcome && input != Input::commands && input != Input::refused) return;
    for (auto& command : frame.commands) {
        if (auto* result = std::get_if<protocol::AdminResult>(&command)) {
            if (!asked_ || result->id != last_id_) continue;
            result_ = std::move(*result);
            changed_.notify_all();
        } else if (const auto* welcome = std::get_if<protocol::Welcome>(&command)) {
            message_limit_ = welcome->message_limit;
        } else if (const auto* refusal = std::get_if<protocol::Refusal>(&command)) {
            fail(Exit::refused, endpoint_ + " refused: " + printable(refusal->code + ": " + refusal->text));
        } else if (std::holds_alternative<protocol::Bye>(command)) {
            lost();
        }
    }
}

void AdminClient::fail(Exit code, const std::string& text) {
    if (result_ || error_) return;
    error_.emplace(code, text);
    changed_.notify_all();
}

void AdminClient::lost() {
    if (asked_) fail(Exit::failed, "lost " + endpoint_ + " after it was asked; look what it has done, then ask again");
}

// A command beyond what the host takes at all would end the session without a word about its cause.
void AdminClient::ask_wanted() {
    const protocol::AdminRequest request = *std::exchange(wanted_, std::nullopt);
    const std::size_t size = envelope::size_of(request.change);
    if (size > message_limit_) {
        fail(Exit::failed, "the change has " + std::to_string(size) + " bytes, and " + endpoint_ +
                               " takes messages of " + std::to_string(message_limit_) + " at most");
        return;
    }
    link_->add(request);
    asked_ = true;
    changed_.notify_all();
}

Mono AdminClient::turn(Now now) {
    const std::lock_guard lock{mutex_};
    if (!link_) return never;
    if (link_->hello_due(now.mono)) {
        protocol::Hello hello;
        hello.role = protocol::Role::admin;
        hello.name = own_name();
        hello.client = "posthorn";
        hello.incarnation = incarnation_;
        link_->say_hello(std::move(hello), ++attempts_, now.mono);
    }
    if (link_->open() && wanted_) ask_wanted();
    link_->set_busy(asked_ && !result_, now.mono);
    if (link_->keep_alive(now.mono)) lost();
    std::vector<protocol::OutFrame> frames;
    link_->flush(frames, now.mono);
    for (auto& frame : frames) {
        if (loop_.send(frame.peer, std::move(frame.bytes))) continue;
        if (link_->send_failed(now.mono)) lost();
        break;
    }
    return link_->next_deadline();
}

}  // namespace posthorn::nodes
