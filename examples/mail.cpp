// E-mail while the mail service is down: point-to-point, so the mails go out one by one and in their order, whenever
// the service is back, and who sends one neither waits nor knows.
//
//   mail     five mails, in this process; the service, a small one of our own that speaks as much SMTP as it takes, is
//            down at first and comes up when three attempts have failed
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <semaphore>
#include <string>
#include <thread>
#include <utility>

#include <posthorn/point_to_point.hpp>

namespace p2p = posthorn::point_to_point;
using boost::asio::ip::tcp;
using namespace std::chrono_literals;

struct Mail {
    std::string to, text;
    MSGPACK_DEFINE_MAP(to, text)
};

namespace {

// While it is down it has its address and does not listen: connections are refused.
class MailService {
public:
    MailService() : door_(io_, tcp::v4()) { door_.bind({boost::asio::ip::address_v4::loopback(), 0}); }

    [[nodiscard]] tcp::endpoint address() const { return door_.local_endpoint(); }

    void take(int mails) {
        door_.listen();
        while (mails-- > 0) take(tcp::iostream{door_.accept()});
    }

private:
    static void take(tcp::iostream peer) {
        peer << "220 here I am\r\n" << std::flush;
        bool in_text = false;
        for (std::string line; line != "QUIT\r" && std::getline(peer, line);) {
            if (in_text && line != ".\r") {
                std::cout << line.substr(0, line.find('\r')) << std::endl;
                continue;  // a line of the mail is not answered
            }
            in_text = line == "DATA\r";
            peer << (in_text ? "354 go on\r\n" : "250 as you say\r\n") << std::flush;
        }
    }

    boost::asio::io_context io_;
    tcp::acceptor door_;
};

void say(tcp::iostream& smtp, const std::string& line, const std::string& code) {
    smtp << line << std::flush;
    std::string answer;
    if (!std::getline(smtp, answer) || !answer.starts_with(code)) {
        throw std::runtime_error("the mail service does not take it: " + answer);
    }
}

void deliver(const Mail& mail, const tcp::endpoint& service) {
    tcp::iostream smtp{service};
    if (!smtp) throw std::runtime_error("no mail service: " + smtp.error().message());
    say(smtp, "", "220");
    say(smtp, "HELO shop.example\r\n", "250");
    say(smtp, "MAIL FROM:<shop@shop.example>\r\n", "250");
    say(smtp, "RCPT TO:<" + mail.to + ">\r\n", "250");
    say(smtp, "DATA\r\n", "354");
    say(smtp, "To: " + mail.to + ", " + mail.text + "\r\n.\r\n", "250");
    smtp << "QUIT\r\n" << std::flush;
}

bool run() {
    constexpr int count = 5;
    MailService service;
    posthorn::Context context;
    posthorn::Here home{.bind = "inproc://mails"};
    home.queue.max_attempts = 1'000'000;  // a service may be down for long, and no mail is to blame for it
    home.queue.backoff = {.kind = posthorn::Backoff::Kind::fixed, .min = 50ms};
    p2p::Sender mails{context, "mails", posthorn::here(home)};
    for (int i = 1; i <= count; ++i) mails.send(Mail{"alice@home.example", "order " + std::to_string(i)});

    std::counting_semaphore<> failures{0};
    const std::jthread carrier{[&](const std::stop_token& stop) {
        p2p::Receiver receiver{context, "mails", posthorn::at("inproc://mails")};
        const auto handler = [&](const Mail& mail, posthorn::Delivery&) {
            try {
                deliver(mail, service.address());
            } catch (const std::exception& error) {
                std::cout << mail.text + ": " + error.what() << std::endl;
                failures.release();
                throw;  // it comes again, before all behind it
            }
        };
        static_cast<void>(receiver.run(handler, p2p::until(stop)));
    }};
    for (int i = 0; i < 3; ++i) failures.acquire();
    service.take(count);
    return mails.flush(30s) == posthorn::Status::ok;
}

}  // namespace

int main() {
    try {
        return run() ? EXIT_SUCCESS : EXIT_FAILURE;
    } catch (const std::exception& error) {
        std::cerr << "mail: " << error.what() << '\n';
        return EXIT_FAILURE;
    }
}
