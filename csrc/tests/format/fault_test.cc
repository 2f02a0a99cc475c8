// Every system call of reading and saving fails once, in turn. This executable replaces the calls it wants to fail by its own.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "format/container.h"
#include "format/file.h"
#include "tests/format/test_files.h"

namespace {

constexpr int kEndOfFile = -1;

// The call to fail: the `fail_at`-th of `fail_call` from now on, with `fail_errno`; 0 makes it do half its work instead (pread, write),
// kEndOfFile makes it find no more bytes (pread).
const char* fail_call = "";
int fail_at = 0;
int fail_errno = EIO;

bool Fails(const char* call) {
  if (std::string(fail_call) != call || --fail_at != 0) return false;
  errno = fail_errno;
  return true;
}

}  // namespace

extern "C" {
ssize_t write(int fd, const void* data, size_t size) {
  if (!Fails("write")) return syscall(SYS_write, fd, data, size);
  return fail_errno == 0 ? syscall(SYS_write, fd, data, size / 2) : -1;
}
ssize_t pread(int fd, void* data, size_t size, off_t offset) {
  if (!Fails("pread")) return syscall(SYS_pread64, fd, data, size, offset);
  if (fail_errno == kEndOfFile) return 0;
  return fail_errno == 0 ? syscall(SYS_pread64, fd, data, size / 2, offset) : -1;
}
int fsync(int fd) { return Fails("fsync") ? -1 : static_cast<int>(syscall(SYS_fsync, fd)); }
int fchmod(int fd, mode_t mode) noexcept { return Fails("fchmod") ? -1 : static_cast<int>(syscall(SYS_fchmod, fd, mode)); }
int rename(const char* from, const char* to) noexcept {
  return Fails("rename") ? -1 : static_cast<int>(syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
}
int close(int fd) {
  const bool fails = Fails("close");
  const int result = static_cast<int>(syscall(SYS_close, fd));
  if (fails) errno = fail_errno;
  return fails ? -1 : result;
}
}

namespace pqi::test {
namespace {

namespace fs = std::filesystem;

Bytes ModelOf(uint8_t fill) {
  const Bytes bytes(100'000, fill);
  const std::vector<Tensor> tensors = {{"w", StoredType::kU8, {100'000}, bytes}};
  return ToBytes(WriteContainer("test", "", "{}", tensors).value().span());
}

class FaultTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "pqi_fault_test_XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    target_ = (dir_ / "model.pqi").string();
    ASSERT_TRUE(SaveFileAtomically(target_, old_).ok());
  }
  void TearDown() override { fs::remove_all(dir_); }

  static void Arm(const char* call, int at, int error) { fail_call = call, fail_at = at, fail_errno = error; }
  static void Disarm() { fail_call = ""; }

  Bytes Read() const {
    const Result<AlignedBuffer<uint8_t>> file = ReadModelFile(target_);
    return file.ok() ? ToBytes(file.value().span()) : Bytes();
  }
  size_t EntryCount() const { return static_cast<size_t>(std::distance(fs::directory_iterator(dir_), fs::directory_iterator())); }

  fs::path dir_;
  std::string target_;
  const Bytes old_ = ModelOf(1), new_ = ModelOf(2);
};

struct Row {
  const char* call;
  int at;
  int error;
  int expected;   // os_error() of the save, 0 for success
  bool replaced;  // whether the target is then the new file
};

// Holds H12.
TEST_F(FaultTest, ASaveThatFailsLeavesTheOldFileAndNoOther) {
  const Row rows[] = {
      {"fchmod", 1, EPERM, EPERM, false},
      {"write", 1, ENOSPC, ENOSPC, false},
      {"write", 1, EINTR, 0, true},
      {"write", 1, 0, 0, true},
      {"fsync", 1, EIO, EIO, false},
      {"pread", 1, EIO, EIO, false},
      {"pread", 2, EIO, EIO, false},
      {"pread", 1, EINTR, 0, true},
      {"pread", 1, 0, 0, true},
      {"close", 1, EIO, EIO, false},
      {"close", 1, ENOSPC, ENOSPC, false},
      {"close", 1, EINTR, 0, true},
      {"rename", 1, EXDEV, EXDEV, false},
      {"fsync", 2, EIO, EIO, true},  // of the directory: the new file is in place, but may not survive
                                     // a power cut
      {"fsync", 2, EINVAL, 0, true},
  };
  for (const Row& row : rows) {
    ASSERT_TRUE(SaveFileAtomically(target_, old_).ok());
    Arm(row.call, row.at, row.error);
    const Status status = SaveFileAtomically(target_, new_);
    Disarm();
    const std::string what = std::string(row.call) + " " + std::to_string(row.at) + " error " + std::to_string(row.error);
    EXPECT_EQ(status.ok(), row.expected == 0) << what << ": " << status.message();
    EXPECT_EQ(status.os_error(), row.expected) << what << ": " << status.message();
    EXPECT_TRUE(Read() == (row.replaced ? new_ : old_)) << what;
    EXPECT_EQ(EntryCount(), 1u) << what;
  }
}

// Holds H12.
TEST_F(FaultTest, AReadThatFailsSaysSo) {
  struct {
    int at, error;
    Code code;
  } const rows[] = {{1, EIO, Code::kIo},   {2, EIO, Code::kIo}, {1, EINTR, Code::kOk},
                    {2, EINTR, Code::kOk}, {2, 0, Code::kOk},   {2, kEndOfFile, Code::kIo}};
  for (const auto& row : rows) {
    Arm("pread", row.at, row.error);
    const Status status = ReadModelFile(target_).status();
    Disarm();
    EXPECT_EQ(status.code(), row.code) << row.at << " error " << row.error << ": " << status.message();
    EXPECT_EQ(status.os_error(), row.error == EIO ? EIO : 0);
  }
}

}  // namespace
}  // namespace pqi::test
