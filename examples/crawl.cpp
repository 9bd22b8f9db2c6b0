// A crawl: a work queue that feeds itself. The job is a page, its links are more jobs, and its dedup_key takes each
// page once, however many link to it. A page is done when the jobs of its links are safe (ack_when), so none is lost,
// whoever dies.
//
//   crawl                 makes a site in a temporary folder and crawls it, in this process
//   crawl SITE ENDPOINT   crawls the HTML files of the folder SITE, with the queue "pages" of the node at ENDPOINT;
//                         until SIGINT or SIGTERM. As many of them as you like may do so together.
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <regex>
#include <string>
#include <thread>
#include <vector>

#include <posthorn/work_queue.hpp>

namespace wq = posthorn::work_queue;
using namespace std::chrono_literals;

namespace {

wq::Ticket add(wq::Producer& pages, const std::string& page) {
    return pages.send({.payload = page, .dedup_key = page});
}

std::string read(const std::filesystem::path& file) {
    std::ifstream in{file};
    if (!in) throw std::runtime_error("cannot read " + file.string());  // tried again, and dead-lettered in the end
    return {std::istreambuf_iterator<char>{in}, {}};
}

posthorn::Handler crawler(const std::filesystem::path& site, wq::Producer& pages) {
    return [site, &pages](posthorn::Delivery& delivery) {
        static const std::regex link{R"re(href="([^"]+)")re"};
        const std::string page = delivery.message().payload;
        const std::string text = read(site / page);
        std::vector<wq::Ticket> links;
        for (std::sregex_iterator found{text.begin(), text.end(), link}, end; found != end; ++found) {
            links.push_back(add(pages, (*found)[1]));
        }
        std::cout << page + " " + std::to_string(links.size()) + " links\n" << std::flush;
        delivery.ack_when(links);
    };
}

// Page i links to 2i+1 and 2i+2, as far as there are such, and back to the page before and to the first.
void make_site(const std::filesystem::path& folder) {
    constexpr int count = 50;
    const auto name = [](int page) { return "page" + std::to_string(page) + ".html"; };
    for (int i = 0; i < count; ++i) {
        std::ofstream page{folder / name(i)};
        for (const int to : {2 * i + 1, 2 * i + 2, i - 1, 0}) {
            if (to >= 0 && to < count) page << "<a href=\"" << name(to) << "\">" << to << "</a>\n";
        }
    }
}

bool crawl_our_own(posthorn::Context& context) {
    std::string folder = (std::filesystem::temp_directory_path() / "crawl-XXXXXX").string();
    if (::mkdtemp(folder.data()) == nullptr) throw std::runtime_error("cannot make the folder " + folder);
    make_site(folder);
    wq::Producer pages{context, "pages", posthorn::here({.bind = "inproc://pages"})};
    std::jthread crawling{[&](const std::stop_token& stop) {
        wq::Worker worker{context, "pages", posthorn::at("inproc://pages"), {.concurrency = 4}};
        static_cast<void>(worker.run(crawler(folder, pages), wq::until(stop)));
    }};
    // In memory a page is safe when it is done, and so when all that it led to is done: the first one tells the end.
    const bool all = add(pages, "page0.html").wait(30s) == posthorn::Status::ok;
    crawling.request_stop();
    crawling.join();
    std::filesystem::remove_all(folder);
    return all;
}

bool crawl_at(posthorn::Context& context, const std::string& site, const std::string& endpoint) {
    wq::Producer pages{context, "pages", posthorn::at(endpoint)};
    wq::Worker worker{context, "pages", posthorn::at(endpoint), {.concurrency = 4}};
    add(pages, "index.html");  // every crawler says so, and the first one counts
    return worker.run(crawler(site, pages)) == posthorn::Status::ok;
}

bool run(const std::vector<std::string>& words) {
    posthorn::Context context;
    if (words.empty()) return crawl_our_own(context);
    if (words.size() == 2) return crawl_at(context, words[0], words[1]);
    throw posthorn::Error("give nothing, or SITE and ENDPOINT");
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return run({argv + 1, argv + argc}) ? EXIT_SUCCESS : EXIT_FAILURE;
    } catch (const std::exception& error) {
        std::cerr << "crawl: " << error.what() << '\n';
        return EXIT_FAILURE;
    }
}
