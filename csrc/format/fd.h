// File descriptors with an owner, and the loops that POSIX read and write need. Private to csrc/format.
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>

#include "base/status.h"
#include "base/text.h"

namespace pqi {

inline Status OsError(const std::string& doing, const std::string& path, int error = errno) {
  return IoError(doing + " " + Quoted(path) + ": " + std::strerror(error), error);
}

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  // False if the system reports at last that some write failed.
  bool Close() {
    const int fd = fd_;
    fd_ = -1;
    return ::close(fd) == 0 || errno == EINTR;  // on Linux the descriptor is gone after EINTR too
  }

 private:
  int fd_;
};

// Reads from `offset` until `size` bytes or the end of the file; the count, or -1 with errno.
inline ssize_t ReadAt(int fd, uint8_t* out, size_t size, uint64_t offset) {
  constexpr size_t kMostAtOnce = size_t{1} << 30;  // Linux moves at most 2 GiB per call
  size_t done = 0;
  while (done < size) {
    const size_t chunk = size - done < kMostAtOnce ? size - done : kMostAtOnce;
    const ssize_t n = ::pread(fd, out + done, chunk, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -1;
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  return static_cast<ssize_t>(done);
}

}  // namespace pqi
