// Each allocation, and each start of a thread, fails once, in turn: every call of the C and C++ interface says so, loses nothing and leaves
// what it worked on as it was. This executable replaces the C library's functions by its own.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include "pyqinfer/pyqinfer.hpp"
#include "tests/api/libc_allocator.h"

namespace {

// How many more go well before one fails; below 0, all do.
std::atomic<long> g_left{-1}, g_threads_left{-1};
std::atomic<bool> g_failed{false};
std::atomic<long> g_live{0};  // allocations that were not given back

bool Fails(std::atomic<long>* left) {
  if (left->load() < 0 || left->fetch_sub(1) != 0) return false;
  g_failed = true;
  errno = ENOMEM;
  return true;
}

void* Counted(void* memory) {
  if (memory) ++g_live;
  return memory;
}

}  // namespace

#pragma GCC visibility push(default)  // the shared C++ library has to find them
extern "C" {
void* malloc(size_t bytes) { return Fails(&g_left) ? nullptr : Counted(__libc_malloc(bytes)); }
void* calloc(size_t count, size_t bytes) { return Fails(&g_left) ? nullptr : Counted(__libc_calloc(count, bytes)); }
void* realloc(void* memory, size_t bytes) {
  if (Fails(&g_left)) return nullptr;
  if (!memory) ++g_live;
  return __libc_realloc(memory, bytes);
}
void* memalign(size_t alignment, size_t bytes) { return Fails(&g_left) ? nullptr : Counted(__libc_memalign(alignment, bytes)); }
void* aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }
int posix_memalign(void** memory, size_t alignment, size_t bytes) {
  *memory = memalign(alignment, bytes);
  return *memory || !bytes ? 0 : ENOMEM;
}
void free(void* memory) {
  if (memory) --g_live;
  __libc_free(memory);
}
int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*), void* argument) {
  using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static const auto real = reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"));
  return Fails(&g_threads_left) ? EAGAIN : real(thread, attributes, start, argument);
}
}
#pragma GCC visibility pop

namespace pqi::test {
namespace {

std::vector<uint8_t> ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

struct Arrays {
  std::vector<pqi_tensor> tensors;
  std::vector<std::vector<uint8_t>> memory;
};

// Inputs of zeros for sizes of 8 where the file leaves them open.
Arrays InputsOf(const pqi_model* model) {
  Arrays a;
  for (size_t i = 0; i < pqi_model_input_count(model); ++i) {
    pqi_port port = PQI_PORT_INIT;
    EXPECT_EQ(pqi_model_input(model, i, &port, nullptr), PQI_OK);
    pqi_tensor t = {port.dtype, port.rank, {}, nullptr, port.dtype == PQI_U8 ? size_t{1} : size_t{4}};
    for (size_t d = 0; d < port.rank; ++d) {
      t.shape[d] = port.shape[d] < 0 ? 8 : port.shape[d];
      t.bytes *= static_cast<size_t>(t.shape[d]);
    }
    a.memory.emplace_back(t.bytes + 1);
    t.data = a.memory.back().data() + 1;  // misaligned, so that a run needs copies
    a.tensors.push_back(t);
  }
  return a;
}

// Calls `attempt` with its first allocation failing, then its second, and so on until none is left to fail; gives how many there were.
// `attempt` gives the status of a call that must not keep anything.
long FailEach(const std::string& what, std::atomic<long>* left, const std::function<pqi_status(pqi_error*)>& attempt) {
  for (long n = 0;; ++n) {
    pqi_error error = PQI_ERROR_INIT;
    const long live = g_live;
    g_failed = false;
    *left = n;
    const pqi_status status = attempt(&error);
    *left = -1;
    EXPECT_TRUE(status == PQI_OK || (g_failed && status == PQI_ERR_NOMEM))
        << what << ", failure " << n << ": " << pqi_status_name(status) << " " << error.message;
    if (status != PQI_OK) EXPECT_NE(error.message[0], '\0') << what;
    EXPECT_EQ(g_live - live, 0) << what << ", failure " << n << ": allocations lost";
    if (!g_failed || testing::Test::HasFailure()) return n;
  }
}

class Faults : public testing::TestWithParam<int> {
 protected:
  template <typename Fn>
  static long ForEachFile(Fn&& fn) {
    long total = 0;
    for (const auto& entry : std::filesystem::directory_iterator(PQI_FILES)) {
      total += fn(entry.path().filename().string(), ReadFile(entry.path()), entry.path().string());
    }
    return total;
  }
};

// Holds H11.
TEST_P(Faults, OfMemoryAreReportedByEveryCall) {
  pqi_session_options options = PQI_SESSION_OPTIONS_INIT;
  options.threads = GetParam();
  const long total = ForEachFile([&](const std::string& name, const std::vector<uint8_t>& file, const std::string& path) {
    pqi_model* model = nullptr;
    EXPECT_EQ(pqi_model_from_memory(file.data(), file.size(), &model, nullptr), PQI_OK);
    pqi_session* session = nullptr;
    EXPECT_EQ(pqi_session_create(model, &options, &session, nullptr), PQI_OK);
    pqi_session* another = nullptr;
    EXPECT_EQ(pqi_session_create(model, &options, &another, nullptr), PQI_OK);
    pqi_session_free(another);  // the system keeps stacks of threads for the next ones
    long n = FailEach(name + ": from memory", &g_left, [&](pqi_error* error) {
      pqi_model* made = nullptr;
      const pqi_status status = pqi_model_from_memory(file.data(), file.size(), &made, error);
      pqi_model_free(made);
      return status;
    });
    n += FailEach(name + ": load", &g_left, [&](pqi_error* error) {
      pqi_model* made = nullptr;
      const pqi_status status = pqi_model_load(path.c_str(), &made, error);
      pqi_model_free(made);
      return status;
    });
    n += FailEach(name + ": session", &g_left, [&](pqi_error* error) {
      pqi_session* made = nullptr;
      const pqi_status status = pqi_session_create(model, &options, &made, error);
      pqi_session_free(made);
      return status;
    });
    Arrays in = InputsOf(model), out;
    out.tensors.resize(pqi_model_output_count(model));
    // Shapes and memory of a run are kept, so each attempt has a session of its own.
    n += FailEach(name + ": infer and run", &g_left, [&](pqi_error* error) {
      const long armed = g_left.exchange(-1);
      pqi_session* fresh = nullptr;
      EXPECT_EQ(pqi_session_create(model, &options, &fresh, nullptr), PQI_OK);
      g_left = armed;
      pqi_status status = pqi_session_infer(fresh, in.tensors.data(), in.tensors.size(), out.tensors.data(), out.tensors.size(), error);
      if (status == PQI_OK) {
        const long left = g_left.exchange(-1);
        std::vector<std::vector<uint8_t>> memory;
        for (pqi_tensor& t : out.tensors) {
          memory.emplace_back(t.bytes + 1);
          t.data = memory.back().data();
        }
        const auto run = [&](pqi_error* e) {
          return pqi_session_run(fresh, in.tensors.data(), in.tensors.size(), out.tensors.data(), out.tensors.size(), e);
        };
        g_left = left;
        status = run(error);
        g_left = -1;
        if (status == PQI_ERR_NOMEM) EXPECT_EQ(run(nullptr), PQI_OK) << name << ": the session is of no use after a failure";
      }
      g_left = -1;
      pqi_session_free(fresh);
      return status;
    });
    pqi_session_free(session);
    pqi_model_free(model);
    return n;
  });
  std::printf("%ld failed allocations\n", total);
  EXPECT_GT(total, 1000);
}

TEST_P(Faults, OfThreadsLeaveASessionWithFewer) {
  pqi_session_options options = PQI_SESSION_OPTIONS_INIT;
  options.threads = GetParam() + 2;
  ForEachFile([&](const std::string& name, const std::vector<uint8_t>& file, const std::string&) {
    pqi_model* model = nullptr;
    EXPECT_EQ(pqi_model_from_memory(file.data(), file.size(), &model, nullptr), PQI_OK);
    pqi_session* first = nullptr;  // makes what a process keeps: tables of the machine's instruction sets
    EXPECT_EQ(pqi_session_create(model, &options, &first, nullptr), PQI_OK);
    pqi_session_free(first);
    const long n = FailEach(name + ": threads", &g_threads_left, [&](pqi_error* error) {
      pqi_session* session = nullptr;
      pqi_status status = pqi_session_create(model, &options, &session, error);
      EXPECT_EQ(status, PQI_OK) << error->message;
      pqi_session_free(session);
      return status;
    });
    EXPECT_EQ(n, options.threads - 1) << name;
    pqi_model_free(model);
    return n;
  });
}

INSTANTIATE_TEST_SUITE_P(Threads, Faults, testing::Values(1, 3));

// The layer above gives what it has taken back, and throws nothing else than it says.
TEST(CppFaults, OfMemoryAreThrownByEveryCall) {
  const std::vector<uint8_t> file = ReadFile(std::filesystem::path(PQI_FILES) / "tiny.pqi");
  const pyqinfer::Model model = pyqinfer::Model::from_memory(file.data(), file.size());
  const pyqinfer::Session session(model);
  Arrays in = InputsOf(model.get());
  const std::vector<float> x(in.memory[0].size() / 4);
  const std::vector<pyqinfer::TensorView> views{
      pyqinfer::TensorView(x.data(), pyqinfer::Shape(in.tensors[0].shape, in.tensors[0].shape + in.tensors[0].rank))};
  static_cast<void>(session.run(views));
  EXPECT_THROW(session.run({}), pyqinfer::Error);  // the first exception of a process takes memory that stays
  const auto guarded = [](const std::function<void()>& call) {
    return [call](pqi_error* error) {
      try {
        call();
        return PQI_OK;
      } catch (const pyqinfer::Error& e) {
        error->message[0] = e.what()[0];
        return e.status();
      } catch (const std::bad_alloc& e) {
        error->message[0] = e.what()[0];
        return PQI_ERR_NOMEM;
      }
    };
  };
  const long n = FailEach("from_memory", &g_left, guarded([&] { pyqinfer::Model::from_memory(file.data(), file.size()); })) +
                 FailEach("ports", &g_left, guarded([&] { model.inputs(), model.outputs(); })) +
                 FailEach("Session", &g_left, guarded([&] { pyqinfer::Session(model).isa(); })) +
                 FailEach("layers", &g_left, guarded([&] { session.layers(); })) +
                 FailEach("run", &g_left, guarded([&] { session.run(views); }));
  EXPECT_GT(n, 100);
}

}  // namespace
}  // namespace pqi::test
