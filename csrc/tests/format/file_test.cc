// Reading and saving files under everything that an operating system can do to them.
#include "format/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utime.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>

#include "format/container.h"
#include "tests/format/test_files.h"

namespace pqi::test {
namespace {

namespace fs = std::filesystem;

Bytes ModelOf(size_t payload, uint8_t fill) {
  const Bytes bytes(payload, fill);
  const std::vector<Tensor> tensors = {{"w", StoredType::kU8, {static_cast<int64_t>(payload)}, bytes}};
  return ToBytes(WriteContainer("test", "", "{}", tensors).value().span());
}

Bytes Slurp(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(in), {});
}

void Spill(const fs::path& path, const Bytes& bytes) {
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

class FileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "pqi_file_test_XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    target_ = dir_ / "model.pqi";
  }
  void TearDown() override {
    ::chmod(dir_.c_str(), 0755);
    fs::remove_all(dir_);
  }

  Status Save(const Bytes& bytes) { return SaveFileAtomically(target_.string(), bytes); }
  size_t EntryCount() const { return static_cast<size_t>(std::distance(fs::directory_iterator(dir_), fs::directory_iterator())); }

  fs::path dir_, target_;
  const Bytes old_ = ModelOf(1000, 1), new_ = ModelOf(5000, 2);
};

TEST_F(FileTest, SavesAndReadsBack) {
  ASSERT_TRUE(Save(old_).ok());
  ASSERT_TRUE(Save(new_).ok());
  const Result<AlignedBuffer<uint8_t>> read = ReadModelFile(target_.string());
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ(ToBytes(read.value().span()), new_);
  EXPECT_EQ(EntryCount(), 1u);
}

// Holds H6.
TEST_F(FileTest, ReadRefusesWhatIsNoRegularFileWithoutBlocking) {
  const fs::path fifo = dir_ / "fifo", socket_path = dir_ / "s";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path.c_str());
  ASSERT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  for (const std::string& path : {fifo.string(), socket_path.string(), std::string("/dev/zero"), std::string("/dev/null"), dir_.string()}) {
    const Status status = ReadModelFile(path).status();
    EXPECT_EQ(status.code(), Code::kIo) << path;
    EXPECT_NE(status.os_error(), 0) << path;
  }
  EXPECT_EQ(ReadModelFile(dir_.string()).status().os_error(), EISDIR);
  EXPECT_NE(ReadModelFile("/proc/self/mem").status().code(), Code::kOk);
  ::close(fd);
}

// Holds H7.
TEST_F(FileTest, ReadReportsWhyOpenFailed) {
  EXPECT_EQ(ReadModelFile((dir_ / "absent").string()).status().os_error(), ENOENT);
  EXPECT_EQ(ReadModelFile("").status().os_error(), ENOENT);
  EXPECT_EQ(ReadModelFile((dir_ / std::string(300, 'n')).string()).status().os_error(), ENAMETOOLONG);
  EXPECT_EQ(ReadModelFile(std::string("a\0b", 3)).status().code(), Code::kInvalidArgument);
}

TEST_F(FileTest, ReadRefusesBadFilesAndNamesThem) {
  const Bytes rows[] = {{}, ToBytes(std::string("PK\x03\x04")), ToBytes(std::string(5000, 'x')), Bytes(old_.begin(), old_.begin() + 100)};
  for (const Bytes& bytes : rows) {
    Spill(target_, bytes);
    const Status status = ReadModelFile(target_.string()).status();
    EXPECT_EQ(status.code(), Code::kModelFormat) << bytes.size();
    EXPECT_NE(status.message().find("model.pqi"), std::string::npos) << status.message();
  }
}

TEST_F(FileTest, ReadRefusesAHugeForeignFileWithoutReadingIt) {
  Spill(target_, ToBytes(std::string("GGUF")));
  std::error_code error;
  fs::resize_file(target_, uintmax_t{1} << 40, error);
  if (error) GTEST_SKIP() << "no sparse files of 1 TiB here";
  EXPECT_EQ(ReadModelFile(target_.string()).status().code(), Code::kModelFormat);
}

// Holds H4.
TEST_F(FileTest, SaveRefusesTargetsThatAreNoFile) {
  const fs::path fifo = dir_ / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_EQ(SaveFileAtomically(dir_.string(), new_).os_error(), EISDIR);
  EXPECT_EQ(SaveFileAtomically(dir_.string() + "/", new_).os_error(), EISDIR);
  EXPECT_EQ(SaveFileAtomically(fifo.string(), new_).code(), Code::kIo);
  EXPECT_EQ(SaveFileAtomically("", new_).code(), Code::kInvalidArgument);
  EXPECT_EQ(SaveFileAtomically((dir_ / "absent" / "m.pqi").string(), new_).os_error(), ENOENT);
  EXPECT_EQ(EntryCount(), 1u);
}

// Holds H4.
TEST_F(FileTest, SaveFollowsSymbolicLinks) {
  const fs::path real = dir_ / "real.pqi", link = dir_ / "link", chain = dir_ / "chain", loop = dir_ / "loop";
  Spill(real, old_);
  fs::create_symlink("real.pqi", link);
  fs::create_symlink(link, chain);
  fs::create_symlink(loop, loop);
  ASSERT_TRUE(SaveFileAtomically(chain.string(), new_).ok());
  EXPECT_EQ(Slurp(real), new_);
  EXPECT_TRUE(fs::is_symlink(link) && fs::is_symlink(chain) && !fs::is_symlink(real));
  EXPECT_EQ(SaveFileAtomically(loop.string(), new_).os_error(), ELOOP);

  const fs::path dangling = dir_ / "dangling";
  fs::create_symlink("made.pqi", dangling);
  ASSERT_TRUE(SaveFileAtomically(dangling.string(), new_).ok());
  EXPECT_EQ(Slurp(dir_ / "made.pqi"), new_);
  EXPECT_TRUE(fs::is_symlink(dangling));
}

// Holds H4.
TEST_F(FileTest, SaveLeavesOtherHardLinksAlone) {
  Spill(target_, old_);
  fs::create_hard_link(target_, dir_ / "other");
  ASSERT_TRUE(Save(new_).ok());
  EXPECT_EQ(Slurp(target_), new_);
  EXPECT_EQ(Slurp(dir_ / "other"), old_);
}

// Holds H19.
TEST_F(FileTest, SaveKeepsTheModeOfTheFileReplacedElseTheUmask) {
  struct stat info;
  const mode_t before = ::umask(077);
  ASSERT_TRUE(Save(old_).ok());
  ::umask(before);
  ASSERT_EQ(::stat(target_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  ASSERT_EQ(::chmod(target_.c_str(), 0640), 0);
  ASSERT_TRUE(Save(new_).ok());
  ASSERT_EQ(::stat(target_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0640u);
}

TEST_F(FileTest, SaveTakesTheLongestNameThatTheSystemTakes) {
  target_ = dir_ / std::string(255, 'n');
  EXPECT_TRUE(Save(new_).ok());
  target_ = dir_ / std::string(256, 'n');
  EXPECT_EQ(Save(new_).os_error(), ENAMETOOLONG);
  EXPECT_EQ(EntryCount(), 1u);
}

// Runs `body` in a child and returns its exit status.
template <typename Body>
int InChild(Body body) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(body());
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// Runs in a process of an ordinary user, because root may write everywhere.
// Holds H3.
TEST_F(FileTest, SaveIntoAReadOnlyDirectoryFailsCleanly) {
  Spill(target_, old_);
  ASSERT_EQ(::chmod(dir_.c_str(), 0555), 0);
  const int error = InChild([this] {
    constexpr uid_t kNobody = 65534;
    if (::geteuid() == 0 && ::seteuid(kNobody) != 0) return -1;
    const Status status = Save(new_);
    return status.code() == Code::kIo ? status.os_error() : 0;
  });
  EXPECT_EQ(error, EACCES);
  EXPECT_EQ(Slurp(target_), old_);
  EXPECT_EQ(EntryCount(), 1u);
}

// A file size limit gives short writes and then EFBIG, just where a full disk gives ENOSPC.
// Holds H2.
TEST_F(FileTest, SaveOntoAFullDiskKeepsTheOldFile) {
  Spill(target_, old_);
  const int error = InChild([this] {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{3000, 3000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const Status status = Save(new_);
    return status.code() == Code::kIo ? status.os_error() : 0;
  });
  EXPECT_EQ(error, EFBIG);
  EXPECT_EQ(Slurp(target_), old_);
  EXPECT_EQ(EntryCount(), 1u);
}

// Holds H7.
TEST_F(FileTest, SaveWithoutFileDescriptorsFailsCleanly) {
  Spill(target_, old_);
  const int error = InChild([this] {
    while (::open("/dev/null", O_RDONLY) >= 0) {
    }
    const Status status = Save(new_);
    return status.code() == Code::kIo ? status.os_error() : 0;
  });
  EXPECT_EQ(error, EMFILE);
  EXPECT_EQ(Slurp(target_), old_);
  EXPECT_EQ(EntryCount(), 1u);
}

// Holds H1.
TEST_F(FileTest, AKilledSaveLeavesTheOldFileOrTheNew) {
  const Bytes large_old = ModelOf(2'000'000, 3), large_new = ModelOf(2'000'000, 4);
  ASSERT_TRUE(Save(large_old).ok());
  size_t cut_short = 0;
  for (int round = 0; round < 60; ++round) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      for (int i = 0;; ++i) {
        if (!Save(i % 2 == 0 ? large_new : large_old).ok()) ::_exit(1);
      }
    }
    ::usleep(static_cast<useconds_t>(500 + 331 * round));
    ::kill(pid, SIGKILL);
    int status = 0;
    ::waitpid(pid, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "a save failed";
    const Bytes now = Slurp(target_);
    ASSERT_TRUE(now == large_old || now == large_new) << "round " << round;
    cut_short += EntryCount() > 1;
  }
  EXPECT_GT(cut_short, 0u) << "no kill hit a save";
}

TEST_F(FileTest, SaveSweepsOldTemporariesOfDeadProcessesOnly) {
  const pid_t dead = ::fork();
  if (dead == 0) ::_exit(0);
  ::waitpid(dead, nullptr, 0);
  const std::string dead_pid = std::to_string(dead), own_pid = std::to_string(::getpid());
  struct {
    std::string name;
    bool old, swept;
  } const rows[] = {
      {".model.pqi." + dead_pid + ".0.tmp", true, true},   {".model.pqi." + dead_pid + ".1.tmp", false, false},
      {".model.pqi." + own_pid + ".99.tmp", true, false},  {".other.pqi." + dead_pid + ".0.tmp", true, false},
      {".model.pqi." + dead_pid + ".x.tmp", true, false},  {".model.pqi..0.tmp", true, false},
      {".model.pqi." + dead_pid + ".0.tmp2", true, false}, {"model.pqi." + dead_pid + ".0.tmp", true, false},
  };
  for (const auto& row : rows) {
    Spill(dir_ / row.name, {1});
    const utimbuf times{0, 0};
    if (row.old) {
      ASSERT_EQ(::utime((dir_ / row.name).c_str(), &times), 0);
    }
  }
  ASSERT_TRUE(Save(new_).ok());
  for (const auto& row : rows) EXPECT_EQ(fs::exists(dir_ / row.name), !row.swept) << row.name;
}

// Holds H8.
TEST_F(FileTest, AFileThatChangesWhileItIsReadGivesTheFileOrACleanError) {  // H8
  Spill(target_, new_);
  const pid_t writer = ::fork();
  if (writer == 0) {
    for (;;) {
      ::truncate(target_.c_str(), 100);
      Spill(target_, new_);
      ::truncate(target_.c_str(), 9000);
    }
  }
  for (int i = 0; i < 500; ++i) {
    const Status status = ReadModelFile(target_.string()).status();
    EXPECT_TRUE(status.ok() || status.code() == Code::kIo || status.code() == Code::kModelFormat) << status.message();
  }
  ::kill(writer, SIGKILL);
  ::waitpid(writer, nullptr, 0);
}

// Holds H5.
TEST_F(FileTest, TwoProcessesMaySaveTheSamePathWhileAThirdReads) {
  ASSERT_TRUE(Save(old_).ok());
  pid_t writers[2];
  for (int w = 0; w < 2; ++w) {
    writers[w] = ::fork();
    if (writers[w] == 0) {
      for (int i = 0; i < 100; ++i) {
        if (!Save(w == 0 ? old_ : new_).ok()) ::_exit(1);
      }
      ::_exit(0);
    }
  }
  for (int i = 0; i < 300; ++i) {
    const Result<AlignedBuffer<uint8_t>> read = ReadModelFile(target_.string());
    ASSERT_TRUE(read.ok()) << read.status().message();
    EXPECT_TRUE(ReadContainer(read.value().span()).ok());
  }
  for (pid_t pid : writers) {
    int status = 0;
    ::waitpid(pid, &status, 0);
    EXPECT_EQ(status, 0);
  }
  EXPECT_EQ(EntryCount(), 1u);
}

}  // namespace
}  // namespace pqi::test
