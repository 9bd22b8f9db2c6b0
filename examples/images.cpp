// An image is uploaded, and three services work on it, each in its own time: thumbnail, compression, tags. The tags
// have no word for grey yet: that image is dead-lettered for them alone, and sent back when they have learned it.
//
//   images SERVICE ENDPOINT         is thumbnail, compression or tags; writes beside the image; until SIGINT or SIGTERM
//   images upload FOLDER ENDPOINT   makes red.ppm, blue.ppm and grey.ppm in FOLDER, says so, and waits until that is
//   safe
//
// Start the services first, then upload. Then, with `images tags ENDPOINT grey`, which is tags mended, in their place:
//
//   posthorn dlq list uploads/tags
//   posthorn dlq redrive uploads/tags
#include <algorithm>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include <posthorn/fanout.hpp>

namespace fanout = posthorn::fanout;
using namespace std::chrono_literals;

struct Upload {
    std::string path;
    MSGPACK_DEFINE_MAP(path)
};

namespace {

struct Image {
    std::size_t width = 0, height = 0;
    std::string rgb;  // three bytes a pixel
};

Image read(const std::string& path) {
    std::ifstream file{path};
    std::string magic;
    std::size_t most = 0;
    Image image;
    file >> magic >> image.width >> image.height >> most;
    file.get();  // the one blank behind the head
    image.rgb.resize(image.width * image.height * 3);
    file.read(image.rgb.data(), static_cast<std::streamsize>(image.rgb.size()));
    if (!file || magic != "P6" || most != 255) throw std::runtime_error(path + " is no PPM image that can be read");
    return image;
}

// The file is whole or not there, whenever its writer dies: who comes again writes the same.
void write(const std::string& path, const std::string& bytes) {
    std::ofstream{path + ".part"} << bytes;
    std::filesystem::rename(path + ".part", path);
}

std::string ppm(const Image& image) {
    return "P6 " + std::to_string(image.width) + " " + std::to_string(image.height) + " 255\n" + image.rgb;
}

// Every fourth pixel of every fourth row.
void thumbnail(const Upload& upload, posthorn::Delivery&) {
    const Image image = read(upload.path);
    Image small{.width = (image.width + 3) / 4, .height = (image.height + 3) / 4, .rgb = {}};
    for (std::size_t y = 0; y < image.height; y += 4) {
        for (std::size_t x = 0; x < image.width; x += 4) small.rgb += image.rgb.substr((y * image.width + x) * 3, 3);
    }
    write(upload.path + ".thumb", ppm(small));
}

// Run lengths: how often, and then the three bytes of the pixel.
void compress(const Upload& upload, posthorn::Delivery&) {
    const Image image = read(upload.path);
    std::string packed;
    for (std::size_t at = 0; at < image.rgb.size();) {
        const std::string pixel = image.rgb.substr(at, 3);
        std::size_t run = 0;
        for (; run < 255 && image.rgb.compare(at, 3, pixel) == 0 && at < image.rgb.size(); at += 3) ++run;
        packed += static_cast<char>(run) + pixel;
    }
    write(upload.path + ".rle", packed);
}

// The strongest of the mean red, green and blue.
fanout::Handler tags(bool knows_grey) {
    return [knows_grey](posthorn::Delivery& delivery) {
        const auto upload = delivery.as<Upload>();
        if (!upload) return;  // dead-lettered: undecodable
        const Image image = read(upload->path);
        std::vector<std::size_t> sums(3);
        for (std::size_t i = 0; i < image.rgb.size(); ++i) sums[i % 3] += static_cast<unsigned char>(image.rgb[i]);
        const auto strongest = std::ranges::max_element(sums);
        const bool grey = std::ranges::count(sums, *strongest) > 1;
        if (grey && !knows_grey) {
            delivery.reject("no word for the colour of " + upload->path);  // trying again would not help
            return;
        }
        const std::vector<std::string> names{"red", "green", "blue"};
        write(upload->path + ".tags", grey ? "grey" : names[static_cast<std::size_t>(strongest - sums.begin())]);
    };
}

bool upload(const std::string& folder, const std::string& endpoint) {
    const std::map<std::string, std::string> colours{
        {"red", "\xe0\x10\x10"}, {"blue", "\x10\x20\xf0"}, {"grey", "\x80\x80\x80"}};
    posthorn::Context context;
    fanout::Publisher uploads{context, "uploads", posthorn::at(endpoint)};
    for (const auto& [name, colour] : colours) {
        Image image{.width = 40, .height = 30, .rgb = {}};
        while (image.rgb.size() < image.width * image.height * 3) image.rgb += colour;
        const std::string path = std::filesystem::path(folder) / (name + ".ppm");
        write(path, ppm(image));
        uploads.send(Upload{path});
    }
    return uploads.flush(30s) == posthorn::Status::ok;
}

template <typename Work>
bool serve(const std::string& service, Work work, const std::string& endpoint) {
    posthorn::Context context;
    fanout::Subscriber uploads{context, "uploads", service, posthorn::at(endpoint)};
    return uploads.run(work) == posthorn::Status::ok;
}

bool run(const std::vector<std::string>& words) {
    const bool mended = words.size() == 3 && words[0] == "tags" && words[2] == "grey";
    if (words.size() == 3 && words[0] == "upload") return upload(words[1], words[2]);
    if (words.size() == 2 && words[0] == "thumbnail") return serve(words[0], thumbnail, words[1]);
    if (words.size() == 2 && words[0] == "compression") return serve(words[0], compress, words[1]);
    if ((words.size() == 2 && words[0] == "tags") || mended) return serve(words[0], tags(mended), words[1]);
    throw posthorn::Error("give thumbnail, compression or tags and ENDPOINT, or `upload FOLDER ENDPOINT`");
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return run({argv + 1, argv + argc}) ? EXIT_SUCCESS : EXIT_FAILURE;
    } catch (const std::exception& error) {
        std::cerr << "images: " << error.what() << '\n';
        return EXIT_FAILURE;
    }
}
