// Whole sessions between forbidden pages: every allocation of the engine, and every array of the caller, ends at one or begins behind one.
// A read or write outside of any of them by the kernels as they are shipped, which sanitizers do not see, is a fault.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "pyqinfer/pyqinfer.h"
#include "tests/api/libc_allocator.h"

namespace {

enum class Mode { kPlain, kEnd, kBegin };
std::atomic<Mode> g_mode{Mode::kPlain};  // where allocations lie in their pages; kPlain: they are the C library's
std::atomic<long> g_guarded{0};

constexpr size_t kPage = 4096,
                 kPages = size_t{1} << 24;  // 64 GiB of addresses, of which none is used twice: what was freed stays forbidden

uint8_t* Region() {
  static void* const region = mmap(nullptr, kPages * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return static_cast<uint8_t*>(region);
}
std::atomic<size_t> g_next{1};           // the first page that nobody has had
std::atomic<uint32_t> g_length[kPages];  // by a block's first page: how many it has; a block's memory begins in its first page

bool IsGuarded(const void* memory) { return memory >= Region() && memory < Region() + kPages * kPage; }
size_t PageOf(const void* memory) { return static_cast<size_t>(static_cast<const uint8_t*>(memory) - Region()) / kPage; }
uint8_t* EndOf(const void* memory) { return Region() + (PageOf(memory) + g_length[PageOf(memory)]) * kPage; }

void* Allocate(size_t bytes, size_t alignment, int fill) {
  alignment = std::max<size_t>(alignment, 16);
  const size_t need = (std::max<size_t>(bytes, 1) + alignment - 1) / alignment * alignment, pages = (need + kPage - 1) / kPage;
  const size_t apart = std::max<size_t>(alignment / kPage, 1);
  size_t first = g_next.fetch_add(pages + 1 + apart);
  first =
      (reinterpret_cast<uintptr_t>(Region()) / kPage + first + apart - 1) / apart * apart - reinterpret_cast<uintptr_t>(Region()) / kPage;
  uint8_t* const begin = Region() + first * kPage;
  if (first + pages >= kPages || mprotect(begin, pages * kPage, PROT_READ | PROT_WRITE) != 0) return nullptr;
  g_length[first] = static_cast<uint32_t>(pages);
  ++g_guarded;
  uint8_t* const memory = g_mode == Mode::kEnd && alignment <= kPage ? begin + pages * kPage - need : begin;
  std::memset(memory, fill, bytes);
  return memory;
}

void Free(void* memory) {
  uint8_t* const begin = Region() + PageOf(memory) * kPage;
  const size_t bytes = static_cast<size_t>(EndOf(memory) - begin);
  madvise(begin, bytes, MADV_DONTNEED);
  mprotect(begin, bytes, PROT_NONE);
}

constexpr int kFill = 0xA5;  // a pattern that no result has

}  // namespace

#pragma GCC visibility push(default)  // the shared C++ library has to find them
extern "C" {
void* malloc(size_t bytes) { return g_mode == Mode::kPlain ? __libc_malloc(bytes) : Allocate(bytes, 16, kFill); }
void* calloc(size_t count, size_t bytes) { return g_mode == Mode::kPlain ? __libc_calloc(count, bytes) : Allocate(count * bytes, 16, 0); }
void* realloc(void* memory, size_t bytes) {
  if (!IsGuarded(memory)) return __libc_realloc(memory, bytes);
  void* const moved = malloc(bytes);
  if (moved) std::memcpy(moved, memory, std::min(bytes, static_cast<size_t>(EndOf(memory) - static_cast<uint8_t*>(memory))));
  Free(memory);
  return moved;
}
void* memalign(size_t alignment, size_t bytes) {
  return g_mode == Mode::kPlain ? __libc_memalign(alignment, bytes) : Allocate(bytes, alignment, kFill);
}
void* aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }
int posix_memalign(void** memory, size_t alignment, size_t bytes) {
  *memory = memalign(alignment, bytes);
  return *memory || !bytes ? 0 : ENOMEM;
}
void free(void* memory) {
  if (IsGuarded(memory)) {
    Free(memory);
  } else {
    __libc_free(memory);
  }
}
}
#pragma GCC visibility pop

namespace pqi::test {
namespace {

class Guard {
 public:
  explicit Guard(Mode mode) { g_mode = mode; }
  ~Guard() { g_mode = Mode::kPlain; }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;
};

// An array of the caller's: its last byte lies before a forbidden page, or its first one behind one.
class Array {
 public:
  Array(size_t bytes, Mode mode) : bytes_(bytes) {
    const Guard guard(mode);
    const size_t aligned = (bytes + 15) / 16 * 16;
    block_ = static_cast<uint8_t*>(::operator new(std::max<size_t>(aligned, 16)));
    data_ = mode == Mode::kEnd ? block_ + (std::max<size_t>(aligned, 16) - bytes) : block_;
  }
  ~Array() { ::operator delete(block_); }
  Array(Array&& other) noexcept : block_(std::exchange(other.block_, nullptr)), data_(other.data_), bytes_(other.bytes_) {}
  uint8_t* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  uint8_t *block_, *data_;
  size_t bytes_;
};

void Draw(const Array& array, pqi_dtype dtype, std::mt19937* random) {
  for (size_t i = 0; i < array.bytes(); i += dtype == PQI_U8 ? 1 : 4) {
    const auto r = static_cast<uint32_t>((*random)());
    const float moderate = static_cast<float>(static_cast<int32_t>(r)) * 0x1p-29f;
    const uint32_t index = r % 3;
    if (dtype == PQI_U8) {
      array.data()[i] = static_cast<uint8_t>(r % 4 + 3);
    } else {
      std::memcpy(array.data() + i, dtype == PQI_F32 ? static_cast<const void*>(&moderate) : &index, 4);
    }
  }
}

// The bytes of an output, every NaN the same: docs/numerics.md does not say which NaN a sum gives.
std::vector<uint8_t> BytesOf(const pqi_tensor& t) {
  const auto* const data = static_cast<const uint8_t*>(t.data);
  std::vector<uint8_t> bytes(data, data + t.bytes);
  for (size_t i = 0; t.dtype == PQI_F32 && i < bytes.size(); i += 4) {
    float x = 0;
    std::memcpy(&x, &bytes[i], sizeof x);
    if (std::isnan(x)) std::memset(&bytes[i], 0xFF, sizeof x);
  }
  return bytes;
}

class GuardedSession : public testing::TestWithParam<std::string> {
 protected:
  // Runs a file on inputs of `size` where it leaves sizes open. Gives the outputs, nothing where this CPU or the algorithm does not suit.
  static std::vector<std::vector<uint8_t>> Run(const std::vector<uint8_t>& file, const char* isa, const char* algorithm, int threads,
                                               int64_t size, Mode mode) {
    pqi_session_options options = PQI_SESSION_OPTIONS_INIT;
    options.isa = isa;
    options.algorithm = algorithm;
    options.threads = threads;
    std::mt19937 random(static_cast<uint32_t>(size));
    std::vector<std::vector<uint8_t>> results;
    std::vector<Array> memory;
    std::vector<pqi_tensor> in, out;
    pqi_model* model = nullptr;
    pqi_session* session = nullptr;
    pqi_error error = PQI_ERROR_INIT;
    {
      const Guard guard(mode);
      EXPECT_EQ(pqi_model_from_memory(file.data(), file.size(), &model, &error), PQI_OK) << error.message;
      if (pqi_session_create(model, &options, &session, &error) != PQI_OK) session = nullptr;
    }
    for (size_t i = 0; session && i < pqi_model_input_count(model); ++i) {
      pqi_port port = PQI_PORT_INIT;
      EXPECT_EQ(pqi_model_input(model, i, &port, nullptr), PQI_OK);
      pqi_tensor t = {port.dtype, port.rank, {}, nullptr, port.dtype == PQI_U8 ? size_t{1} : size_t{4}};
      for (size_t d = 0; d < port.rank; ++d) {
        t.shape[d] = port.shape[d] < 0 ? size : port.shape[d];
        t.bytes *= static_cast<size_t>(t.shape[d]);
      }
      memory.emplace_back(t.bytes, mode);
      Draw(memory.back(), t.dtype, &random);
      t.data = memory.back().data();
      in.push_back(t);
    }
    out.resize(session ? pqi_model_output_count(model) : 0);
    const Guard guard(mode);
    if (session && pqi_session_infer(session, in.data(), in.size(), out.data(), out.size(), nullptr) == PQI_OK) {
      for (pqi_tensor& t : out) {
        memory.emplace_back(t.bytes, mode);
        g_mode = mode;
        t.data = memory.back().data();
      }
      const pqi_status status = pqi_session_run(session, in.data(), in.size(), out.data(), out.size(), &error);
      g_mode = Mode::kPlain;
      if (status == PQI_OK) {
        for (const pqi_tensor& t : out) results.push_back(BytesOf(t));
      }
    }
    pqi_session_free(session);
    pqi_model_free(model);
    return results;
  }
};

TEST(GuardPages, SeeAByteTooManyAndOneTooFew) {
  const auto touch = [](Mode mode, ptrdiff_t offset) {
    const Array array(100, mode);
    volatile uint8_t* const at = array.data() + offset;
    return *at;
  };
  EXPECT_NO_FATAL_FAILURE(touch(Mode::kEnd, 99));
  EXPECT_NO_FATAL_FAILURE(touch(Mode::kBegin, 0));
  EXPECT_DEATH(touch(Mode::kEnd, 100), "");
  EXPECT_DEATH(touch(Mode::kBegin, -1), "");
  EXPECT_DEATH(
      {
        std::vector<float>* values = nullptr;
        {
          const Guard guard(Mode::kEnd);
          values = new std::vector<float>(16);
        }
        volatile float* const past = values->data() + 16;
        std::printf("%f", static_cast<double>(*past));
      },
      "");
}

TEST_P(GuardedSession, TouchesNothingBesideItsOwnMemoryAndTheCallers) {
  static constexpr const char* kAlgorithms[] = {"auto", "direct", "fip", "deferred", "winograd", "winograd_4x4", "winograd_1d", "sparse"};
  const std::filesystem::path path = std::filesystem::path(PQI_FILES) / GetParam();
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    if (entry.path().extension() == ".pqi" && entry.file_size() <= 100'000) files.push_back(entry.path());
  }
  long runs = 0;
  for (size_t f = 0; f < files.size(); ++f) {
    std::ifstream stream(files[f], std::ios::binary);
    const std::vector<uint8_t> file{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
    const Mode mode = f % 2 ? Mode::kEnd : Mode::kBegin;
    const auto size = static_cast<int64_t>(f % 5 + 1);
    const auto expected = Run(file, "reference", "auto", 1, size, Mode::kPlain);
    for (const char* isa : {"reference", "avx2", "avxvnni", "avx512", "avx512vnni", "amx", "neon", "dotprod", "i8mm"}) {
      for (size_t a = 0; a < 3; ++a) {
        const char* const algorithm = a == 0 ? "auto" : kAlgorithms[(f * 2 + a) % std::size(kAlgorithms)];
        const auto got = Run(file, isa, algorithm, 1 + static_cast<int>((f + a) % 2), size,
                             a % 2                ? mode
                             : mode == Mode::kEnd ? Mode::kBegin
                                                  : Mode::kEnd);
        if (got.empty()) continue;
        ++runs;
        EXPECT_EQ(got, expected) << files[f] << " " << isa << " " << algorithm;
      }
    }
  }
  std::printf("%ld runs, %ld guarded allocations\n", runs, g_guarded.load());
  EXPECT_GE(runs, static_cast<long>(files.size()));
}

INSTANTIATE_TEST_SUITE_P(Files, GuardedSession, testing::Values("csrc/fuzz/corpus/ops", "csrc/fuzz/corpus/container", "tests/golden"),
                         [](const auto& row) { return std::filesystem::path(row.param).filename().string(); });

}  // namespace
}  // namespace pqi::test
