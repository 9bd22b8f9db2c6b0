// A folder for the files and ipc paths of a test, gone with it.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>

namespace posthorn {

class TempFolder {
public:
    explicit TempFolder(const std::string& prefix = "posthorn-") {
        std::string name = (std::filesystem::temp_directory_path() / (prefix + "XXXXXX")).string();
        if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make the folder " + name);
        path_ = name;
    }
    ~TempFolder() { std::filesystem::remove_all(path_); }
    TempFolder(const TempFolder&) = delete;
    TempFolder& operator=(const TempFolder&) = delete;

    [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
    [[nodiscard]] std::string ipc(const std::string& name) const { return "ipc://" + (path_ / name).string(); }

private:
    std::filesystem::path path_;
};

}  // namespace posthorn
