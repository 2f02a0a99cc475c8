#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <ctime>
#include <memory>
#include <string_view>

#include "format/fd.h"
#include "format/file.h"

namespace pqi {
namespace {

struct Target {
  std::string directory;  // of the path, or "." where it names none
  std::string name;
  std::string path;  // the target, with symbolic links followed
};

// Follows symbolic links by hand, because the last one may point to a file that does not exist yet.
Result<Target> ResolveTarget(std::string path) {
  for (int links = 0; links < 40; ++links) {
    const size_t slash = path.rfind('/');
    Target target{slash == std::string::npos ? "." : path.substr(0, std::max<size_t>(slash, 1)),
                  slash == std::string::npos ? path : path.substr(slash + 1), path};
    char link[4096];
    const ssize_t length = ::readlink(path.c_str(), link, sizeof(link));
    if (length < 0) return target;  // the path is not a link, or nothing is there
    const std::string referent(link, static_cast<size_t>(length));
    path = referent.front() == '/' ? referent : target.directory + "/" + referent;
  }
  return OsError("cannot save to", path, ELOOP);
}

// Temporary files are called .<name>.<pid>.<number>.tmp; a long name is cut, so that the whole fits into NAME_MAX.
std::string TemporaryPrefix(const Target& target) { return "." + target.name.substr(0, 160) + "."; }

// Gives the pid in a temporary file's name, 0 if it is no such name.
pid_t PidOfTemporary(std::string_view name, std::string_view prefix) {
  constexpr std::string_view kSuffix = ".tmp";
  if (name.size() <= prefix.size() + kSuffix.size() || name.substr(0, prefix.size()) != prefix) return 0;
  if (name.substr(name.size() - kSuffix.size()) != kSuffix) return 0;
  name = name.substr(prefix.size(), name.size() - prefix.size() - kSuffix.size());
  const size_t dot = name.find('.');
  if (dot == 0 || dot == std::string_view::npos || dot > 9 || dot + 1 == name.size()) return 0;
  pid_t pid = 0;
  for (size_t i = 0; i < name.size(); ++i) {
    if (i == dot) continue;
    if (name[i] < '0' || name[i] > '9') return 0;
    if (i < dot) pid = pid * 10 + (name[i] - '0');
  }
  return pid;
}

// Removes what a killed process left. Failures do not matter: the files are only in the way.
void SweepStaleTemporaries(const Target& target) {
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(target.directory.c_str()), ::closedir);
  if (!directory) return;
  const std::string prefix = TemporaryPrefix(target);
  while (const dirent* entry = ::readdir(directory.get())) {
    const pid_t pid = PidOfTemporary(entry->d_name, prefix);
    if (pid == 0) continue;
    const std::string path = target.directory + "/" + entry->d_name;
    struct stat info;
    if (::lstat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode) || std::time(nullptr) - info.st_mtime <= 3600) continue;
    if (::kill(pid, 0) != 0 && errno == ESRCH) ::unlink(path.c_str());
  }
}

bool WriteAll(int fd, Span<const uint8_t> bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = ::write(fd, bytes.data() + done, std::min(bytes.size() - done, size_t{1} << 30));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    done += static_cast<size_t>(n);
  }
  return true;
}

// Reads the file back: bad memory and bad disks show before the old file is gone.
bool ReadsBackEqual(int fd, Span<const uint8_t> bytes) {
  AlignedBuffer<uint8_t> block(size_t{1} << 16);
  for (size_t at = 0; at < bytes.size(); at += block.size()) {
    const size_t size = std::min(block.size(), bytes.size() - at);
    if (ReadAt(fd, block.data(), size, at) != static_cast<ssize_t>(size)) return false;
    if (std::memcmp(block.data(), bytes.data() + at, size) != 0) return false;
  }
  return true;
}

// Writes the temporary file `path`, which `fd` has just created.
Status FillTemporary(Fd* fd, const std::string& path, const struct stat* replaced, Span<const uint8_t> bytes) {
  if (replaced != nullptr && ::fchmod(fd->get(), replaced->st_mode & 0777) != 0) return OsError("cannot set the mode of", path);
  if (!WriteAll(fd->get(), bytes)) return OsError("cannot write", path);
  if (::fsync(fd->get()) != 0) return OsError("cannot write", path);
  if (!ReadsBackEqual(fd->get(), bytes)) return IoError(Quoted(path) + " does not read back as it was written", EIO);
  if (!fd->Close()) return OsError("cannot write", path);
  return {};
}

Status SyncDirectory(const Target& target) {
  const Fd fd(::open(target.directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // A directory that may be written but not read, or a file system without this operation, leaves nothing to be done.
  if (!fd.valid() || ::fsync(fd.get()) == 0 || errno == EINVAL) return {};
  return OsError("cannot flush the directory of", target.path);
}

}  // namespace

Status SaveFileAtomically(const std::string& path, Span<const uint8_t> bytes) {
  if (path.empty() || path.find('\0') != std::string::npos) return InvalidArgument("cannot save to the path " + Quoted(path));
  PQI_ASSIGN_OR_RETURN(const Target target, ResolveTarget(path));
  struct stat info;
  const bool exists = ::stat(target.path.c_str(), &info) == 0;
  if (exists && S_ISDIR(info.st_mode)) return OsError("cannot save to", path, EISDIR);
  if (exists && !S_ISREG(info.st_mode)) return IoError("cannot save to " + Quoted(path) + ": not a regular file", EINVAL);

  SweepStaleTemporaries(target);
  static std::atomic<uint32_t> next_number{0};
  std::string temporary;
  int raw_fd = -1;
  for (int attempt = 0; attempt < 1000 && raw_fd < 0; ++attempt) {
    temporary =
        target.directory + "/" + TemporaryPrefix(target) + std::to_string(::getpid()) + "." + std::to_string(next_number++) + ".tmp";
    raw_fd = ::open(temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (raw_fd < 0 && errno != EEXIST) return OsError("cannot save to", path);
  }
  if (raw_fd < 0) return OsError("cannot save to", path, EEXIST);
  Fd fd(raw_fd);
  Status status = FillTemporary(&fd, temporary, exists ? &info : nullptr, bytes);
  if (status.ok() && std::rename(temporary.c_str(), target.path.c_str()) != 0) status = OsError("cannot save to", path);
  if (!status.ok()) {
    ::unlink(temporary.c_str());
    return status;
  }
  return SyncDirectory(target);
}

}  // namespace pqi
