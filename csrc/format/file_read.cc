#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "format/container.h"
#include "format/fd.h"
#include "format/file.h"

namespace pqi {

Result<AlignedBuffer<uint8_t>> ReadModelFile(const std::string& path) {
  if (path.find('\0') != std::string::npos) return InvalidArgument("the path " + Quoted(path) + " contains a NUL byte");
  // O_NONBLOCK: opening a FIFO would wait for a writer.
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return OsError("cannot open", path);
  struct stat info;
  if (::fstat(fd.get(), &info) != 0) return OsError("cannot inspect", path);
  if (S_ISDIR(info.st_mode)) return OsError("cannot read", path, EISDIR);
  if (!S_ISREG(info.st_mode)) return IoError("cannot read " + Quoted(path) + ": not a regular file", EINVAL);

  const auto named = [&path](const Status& status) { return Status(status.code(), Quoted(path) + ": " + status.message()); };
  const uint64_t size = static_cast<uint64_t>(info.st_size);
  uint8_t prefix[kPreludeBytes];
  const ssize_t prefix_size = ReadAt(fd.get(), prefix, kPreludeBytes, 0);
  if (prefix_size < 0) return OsError("cannot read", path);
  const Status prelude = CheckPrelude({prefix, std::min(static_cast<size_t>(prefix_size), kPreludeBytes)}, size);
  if (!prelude.ok()) return named(prelude);

  AlignedBuffer<uint8_t> file(static_cast<size_t>(size));
  const ssize_t got = ReadAt(fd.get(), file.data(), file.size(), 0);
  if (got < 0) return OsError("cannot read", path);
  uint8_t beyond;
  if (static_cast<size_t>(got) != file.size() || ReadAt(fd.get(), &beyond, 1, size) != 0) {
    return IoError(Quoted(path) + " changed while it was read");
  }
  return file;
}

}  // namespace pqi
