// A session in steady state takes no memory from the system: every allocation function of the C library is counted.
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "base/aligned.h"
#include "pyqinfer/pyqinfer.h"
#include "tests/runtime/model_builder.h"

// The C library's own functions under these names; operator new of the C++ library ends in the replaced ones too.
extern "C" {
void* __libc_malloc(size_t bytes);
void* __libc_calloc(size_t count, size_t bytes);
void* __libc_realloc(void* memory, size_t bytes);
void* __libc_memalign(size_t alignment, size_t bytes);
}

namespace {
std::atomic<long> g_allocations{0};
}

#pragma GCC visibility push(default)  // the shared C++ library has to find them
extern "C" {

void* malloc(size_t bytes) {
  ++g_allocations;
  return __libc_malloc(bytes);
}

void* calloc(size_t count, size_t bytes) {
  ++g_allocations;
  return __libc_calloc(count, bytes);
}

void* realloc(void* memory, size_t bytes) {
  ++g_allocations;
  return __libc_realloc(memory, bytes);
}

void* memalign(size_t alignment, size_t bytes) {
  ++g_allocations;
  return __libc_memalign(alignment, bytes);
}

void* aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }

int posix_memalign(void** memory, size_t alignment, size_t bytes) {
  *memory = memalign(alignment, bytes);
  return *memory || !bytes ? 0 : ENOMEM;
}
}
#pragma GCC visibility pop

namespace pqi::test {
namespace {

constexpr int kRuns = 100;
constexpr int64_t kOpenSize = 8;

// The inputs and outputs of calls of one shape.
struct Call {
  std::vector<std::vector<uint8_t>> memory;
  std::vector<pqi_tensor> inputs, outputs;
};

// A loaded file and a session; kOpenSize stands for every height and width, `batch` for dimension 0 that the model leaves open.
class Network {
 public:
  Network(const std::vector<uint8_t>& file, int threads) {
    pqi_error error = PQI_ERROR_INIT;
    EXPECT_EQ(pqi_model_from_memory(file.data(), file.size(), &model_, &error), PQI_OK) << error.message;
    pqi_session_options options = PQI_SESSION_OPTIONS_INIT;
    options.threads = threads;
    EXPECT_EQ(pqi_session_create(model_, &options, &session_, &error), PQI_OK) << error.message;
  }
  ~Network() {
    pqi_session_free(session_);
    pqi_model_free(model_);
  }
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  // Inputs begin `offset` bytes behind an aligned address.
  Call Prepare(int64_t batch, size_t offset = 0) {
    Call call;
    for (size_t i = 0; i < pqi_model_input_count(model_); ++i) {
      pqi_port port = PQI_PORT_INIT;
      EXPECT_EQ(pqi_model_input(model_, i, &port, nullptr), PQI_OK);
      pqi_tensor tensor = {port.dtype, port.rank, {}, nullptr, port.dtype == PQI_F32 ? sizeof(float) : 1};
      for (size_t d = 0; d < port.rank; ++d) {
        tensor.shape[d] = port.shape[d] >= 0 ? port.shape[d] : d == 0 ? batch : kOpenSize;
        tensor.bytes *= static_cast<size_t>(tensor.shape[d]);
      }
      call.memory.emplace_back(tensor.bytes + offset);
      tensor.data = call.memory.back().data() + offset;
      call.inputs.push_back(tensor);
    }
    call.outputs.resize(pqi_model_output_count(model_));
    pqi_error error = PQI_ERROR_INIT;
    EXPECT_EQ(pqi_session_infer(session_, call.inputs.data(), call.inputs.size(), call.outputs.data(), call.outputs.size(), &error), PQI_OK)
        << error.message;
    for (pqi_tensor& tensor : call.outputs) {
      call.memory.emplace_back(tensor.bytes);
      tensor.data = call.memory.back().data();
    }
    return call;
  }

  pqi_status Run(Call* call) {
    return pqi_session_run(session_, call->inputs.data(), call->inputs.size(), call->outputs.data(), call->outputs.size(), nullptr);
  }

  // Counts the allocations of kRuns runs that take turns among the calls, after each has run twice.
  long AllocationsOf(std::vector<Call> calls) {
    for (int i = 0; i < 2; ++i) {
      for (Call& call : calls) EXPECT_EQ(Run(&call), PQI_OK);
    }
    bool ok = true;
    const long before = g_allocations;
    for (int i = 0; i < kRuns; ++i) ok &= Run(&calls[static_cast<size_t>(i) % calls.size()]) == PQI_OK;
    const long after = g_allocations;
    EXPECT_TRUE(ok);
    return after - before;
  }

 private:
  pqi_model* model_ = nullptr;
  pqi_session* session_ = nullptr;
};

// Stem, an inverted residual with a depthwise convolution, pool, linear: x f32 [N, 3, 32, 32] -> [N, 10]; codes, or float.
std::vector<uint8_t> MobileNetLike(bool integer) {
  ModelBuilder b;
  std::mt19937 random(0);
  const int quant = integer ? b.AddQuant(8, 100, 0, 255, 0.05f) : -1;
  const auto weighted = [&](const char* op, std::vector<int> inputs, const std::vector<int64_t>& shape, int q, const std::string& attrs) {
    size_t count = 1;
    for (int64_t d : shape) count *= static_cast<size_t>(d);
    const auto channels = static_cast<size_t>(shape[0]);
    ModelBuilder::Constants constants;
    if (integer) {
      constants.emplace_back("weight", b.AddCodes(shape, 8, "none", RandomCodes(&random, count, 8)));
      constants.emplace_back("scale", b.AddFloats({shape[0]}, RandomFloats(&random, channels, 0.001f, 0.01f)));
    } else {
      constants.emplace_back("weight", b.AddFloats(shape, RandomFloats(&random, count, -0.2f, 0.2f)));
    }
    constants.emplace_back("bias", b.AddFloats({shape[0]}, RandomFloats(&random, channels, -1, 1)));
    return b.AddNode(op, inputs, q, constants, attrs + R"("step":1,)" + (q == quant ? kRelu : kNoActivation));
  };
  const auto conv = [&](std::vector<int> inputs, const std::vector<int64_t>& shape, int stride, int groups) {
    const std::string s = std::to_string(stride), p = std::to_string(shape[1] / 2);
    return weighted("conv2d", inputs, shape, quant,
                    R"("stride":[)" + s + "," + s + R"(],"padding":[)" + p + "," + p + "," + p + "," + p +
                        R"(],"dilation":[1,1],"groups":)" + std::to_string(groups) + ",");
  };
  const int x = b.AddInput("x", R"("N",3,32,32)");
  const int image =
      integer ? b.AddNode("quantize", {x}, quant, {}, R"("layout":"to_nhwc")") : b.AddNode("transpose", {x}, -1, {}, R"("perm":[0,2,3,1])");
  const int stem = conv({image}, {16, 3, 3, 3}, 2, 1);
  const int expanded = conv({stem}, {64, 1, 1, 16}, 1, 1);
  const int depthwise = conv({expanded}, {64, 3, 3, 1}, 1, 64);
  const int projected = conv({depthwise, stem}, {16, 1, 1, 64}, 1, 1);
  const int pooled = b.AddNode("mean", {projected}, quant, {}, R"("keepdim":0)");
  b.AddOutput("y", weighted("linear", {pooled}, {10, 16}, -1, ""));
  const auto model = std::move(b.Build()).value();
  return {model->bytes().begin(), model->bytes().end()};
}

std::vector<uint8_t> ReadFile(const std::filesystem::path& path) {
  std::vector<uint8_t> bytes(std::filesystem::file_size(path));
  std::FILE* file = std::fopen(path.c_str(), "rb");
  EXPECT_NE(file, nullptr);
  EXPECT_EQ(std::fread(bytes.data(), 1, bytes.size(), file), bytes.size());
  std::fclose(file);
  return bytes;
}

std::vector<std::pair<std::string, std::vector<uint8_t>>> Files() {
  std::vector<std::pair<std::string, std::vector<uint8_t>>> files = {{"integer", MobileNetLike(true)}, {"float", MobileNetLike(false)}};
  for (const auto& entry : std::filesystem::directory_iterator(PQI_GOLDEN_DIR)) {
    if (entry.path().extension() == ".pqi") files.emplace_back(entry.path().filename().string(), ReadFile(entry.path()));
  }
  return files;
}

class Allocations : public testing::TestWithParam<int> {};

TEST(AllocationHook, SeesEveryWayOfTakingMemory) {
  const auto counts = [](void* (*take)(), void (*give_back)(void*)) {
    const long before = g_allocations;
    give_back(take());
    return g_allocations - before;
  };
  void* (*volatile take_plain)() = [] { return ::operator new(100); };  // volatile: or the compiler drops the pair
  void* (*volatile take_aligned)() = [] { return AllocateAligned(100); };
  void* (*volatile take_c)() = [] { return std::malloc(100); };
  EXPECT_GT(counts(take_plain, [](void* p) { ::operator delete(p); }), 0);
  EXPECT_GT(counts(take_aligned, [](void* p) { FreeAligned(p); }), 0);
  EXPECT_GT(counts(take_c, [](void* p) { std::free(p); }), 0);
}

TEST_P(Allocations, AreNoneWhileOneShapeRunsAgain) {
  for (const auto& [name, file] : Files()) {
    Network network(file, GetParam());
    EXPECT_EQ(network.AllocationsOf({network.Prepare(2)}), 0) << name;
  }
}

TEST_P(Allocations, AreNoneForInputsThatNeedAnAlignedCopy) {
  for (const auto& [name, file] : Files()) {
    Network network(file, GetParam());
    EXPECT_EQ(network.AllocationsOf({network.Prepare(2, 1)}), 0) << name;
  }
}

TEST_P(Allocations, AreNoneWhileShapesSeenBeforeTakeTurns) {
  for (const auto& [name, file] : Files()) {
    Network network(file, GetParam());
    EXPECT_EQ(network.AllocationsOf({network.Prepare(1), network.Prepare(3)}), 0) << name;
  }
}

TEST_P(Allocations, HappenForAShapeThatIsNew) {
  Network network(MobileNetLike(true), GetParam());
  EXPECT_EQ(network.AllocationsOf({network.Prepare(1)}), 0);
  Call larger = network.Prepare(5);
  const long before = g_allocations;
  EXPECT_EQ(network.Run(&larger), PQI_OK);
  EXPECT_GT(g_allocations - before, 0);
}

INSTANTIATE_TEST_SUITE_P(Threads, Allocations, testing::Values(1, 2));

}  // namespace
}  // namespace pqi::test
