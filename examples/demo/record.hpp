// A file of one line per event, which outlives the process that writes it: each line is one write() to the end of the
// file, so a SIGKILL never leaves half a line or takes one back.
#pragma once

#include <fcntl.h>
#include <unistd.h>
#include <cerrno>
#include <string>
#include <system_error>

class Record {
public:
    explicit Record(const std::string& path)
        : file_(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)) {
        if (file_ < 0) throw std::system_error(errno, std::generic_category(), path);
    }
    ~Record() { ::close(file_); }
    Record(const Record&) = delete;
    Record& operator=(const Record&) = delete;

    void line(std::string text) const {
        text += '\n';
        if (::write(file_, text.data(), text.size()) != static_cast<ssize_t>(text.size()))
            throw std::system_error(errno, std::generic_category(), "cannot record " + text);
    }

private:
    int file_;
};
