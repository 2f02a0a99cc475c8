// Sequences of C calls that the fuzzer makes up: wrong counts, ranks, shapes, dtypes, sizes, NULLs and struct sizes; handles in any order,
// but never after they were freed.
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "fuzz/target.h"
#include "pyqinfer/pyqinfer.h"

namespace pqi::fuzz {
namespace {

using Bytes = std::vector<uint8_t>;

constexpr size_t kMostBytes = 1 << 20;  // of an array

const std::vector<Bytes>& Files() {
  static const std::vector<Bytes> files = [] {
    std::vector<Bytes> all;
    for (const char* name : {"tiny", "float", "integer", "dynamic", "embedding"}) {
      std::ifstream file(std::filesystem::path(PQI_FUZZ_FILES) / (std::string(name) + ".pqi"), std::ios::binary);
      all.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
      Require(!all.back().empty(), "no such file", name);
    }
    return all;
  }();
  return files;
}

int64_t Number(Reader* in) {
  static constexpr int64_t kNumbers[] = {
      0, 1, 2, 3, 4, 5, 6, 8, -1, 7, 64, 65, -2, 1000, 65536, 1LL << 31, (1LL << 31) - 1, 1LL << 32, 1LL << 40, INT64_MAX, INT64_MIN};
  const uint8_t c = in->Byte();
  return c < 200 ? c & 7 : kNumbers[c % std::size(kNumbers)];
}

// Handles, and calls on them.
class Sequence {
 public:
  explicit Sequence(Reader in) : in_(in) {}
  ~Sequence() {
    for (pqi_model* model : models_) pqi_model_free(model);
    for (pqi_session* session : sessions_) pqi_session_free(session);
  }
  Sequence(const Sequence&) = delete;
  Sequence& operator=(const Sequence&) = delete;

  size_t left() const { return in_.left(); }

  void Step() {
    error_ = PQI_ERROR_INIT;
    if (in_.Rarely(5)) error_.struct_size = in_.Byte();
    given_ = in_.Rarely(5) ? nullptr : &error_;
    switch (in_.Byte() % 8) {
      case 0:
        return Load();
      case 1:
        return Create();
      case 2:
        return Free(&models_, pqi_model_free);
      case 3:
        return Free(&sessions_, pqi_session_free);
      case 4:
        return Describe();
      default:
        return Run();
    }
  }

 private:
  struct Arrays {
    std::vector<pqi_tensor> tensors;
    std::vector<Bytes> memory;
  };

  // Every call gives a status of the header's, says why where it fails, and is never at a loss.
  pqi_status Check(pqi_status status) {
    Require(status >= PQI_OK && status <= PQI_ERR_CANCELLED && status != PQI_ERR_INTERNAL, "status", error_.message);
    if (given_ && error_.struct_size == sizeof error_) {
      Require(error_.status == status && (status == PQI_OK || error_.message[0] != '\0'), "the error is not filled in", error_.message);
    }
    return status;
  }

  template <typename Handle>
  void Keep(Handle* handle, std::vector<Handle*>* kept, void (*release)(Handle*)) {
    if (kept->size() < 4) {
      kept->push_back(handle);
    } else {
      release(handle);
    }
  }

  template <typename Handle>
  void Free(std::vector<Handle*>* kept, void (*release)(Handle*)) {
    if (kept->empty()) return release(nullptr);
    const size_t i = in_.Byte() % kept->size();
    release((*kept)[i]);
    kept->erase(kept->begin() + static_cast<std::ptrdiff_t>(i));
  }

  template <typename Handle>
  Handle* Any(const std::vector<Handle*>& kept) {
    return kept.empty() || in_.Rarely(3) ? nullptr : kept[in_.Byte() % kept.size()];
  }

  void Load() {
    Bytes file = Files()[in_.Byte() % Files().size()];
    if (in_.Rarely(15)) file.resize(static_cast<size_t>(Number(&in_)) & 0xFFF);
    pqi_model* model = nullptr;
    if (Check(pqi_model_from_memory(in_.Rarely(5) ? nullptr : file.data(), file.size(), &model, given_)) != PQI_OK) return;
    ++Counted().loaded;
    Keep(model, &models_, pqi_model_free);
  }

  void Create() {
    static constexpr const char* kIsas[] = {nullptr, "auto", "reference", "avx2", "avx512vnni", "neon", "", "xx"};
    static constexpr const char* kAlgorithms[] = {nullptr, "auto", "direct", "fip", "winograd", "deferred", "zz", "winograd_1d"};
    pqi_session_options options = PQI_SESSION_OPTIONS_INIT;
    options.threads = in_.Rarely(5) ? static_cast<int>(Number(&in_)) : 1 + in_.Byte() % 2;
    if (options.threads > 8 && options.threads <= 1024) options.threads = 8;
    options.isa = kIsas[in_.Byte() % std::size(kIsas)];
    options.algorithm = kAlgorithms[in_.Byte() % std::size(kAlgorithms)];
    if (in_.Rarely(5)) options.fip = "??";
    if (in_.Rarely(5)) options.struct_size = in_.Byte();
    pqi_session* session = nullptr;
    if (Check(pqi_session_create(Any(models_), in_.Rarely(15) ? nullptr : &options, &session, given_)) != PQI_OK) return;
    Keep(session, &sessions_, pqi_session_free);
  }

  void Describe() {
    pqi_port port = PQI_PORT_INIT;
    if (in_.Rarely(5)) port.struct_size = in_.Byte();
    const auto describe = in_.Byte() & 1 ? pqi_model_input : pqi_model_output;
    Check(describe(Any(models_), static_cast<size_t>(Number(&in_)), in_.Rarely(5) ? nullptr : &port, given_));
    pqi_session* const session = Any(sessions_);
    pqi_layer layer = PQI_LAYER_INIT;
    Check(pqi_session_layer(session, static_cast<size_t>(Number(&in_)), &layer, given_));
    Require(pqi_session_isa(session) && pqi_session_warning(session) && pqi_session_layer_count(session) < 100, "a session", "");
  }

  // Gives arrays as a model's file asks for, or any.
  Arrays Inputs(size_t count, const pqi_model* model) {
    Arrays a;
    a.tensors.resize(count + 1);  // at least one, so that there is an address
    for (size_t i = 0; i < a.tensors.size(); ++i) {
      pqi_tensor& t = a.tensors[i];
      t = {};
      pqi_port port = PQI_PORT_INIT;
      if (model && pqi_model_input(model, i, &port, nullptr) == PQI_OK) {
        t.dtype = port.dtype;
        t.rank = port.rank;
        t.bytes = port.dtype == PQI_U8 ? 1 : 4;
        for (size_t d = 0; d < port.rank; ++d) {
          t.shape[d] = port.shape[d] < 0 ? 1 + in_.Byte() % 9 : port.shape[d];
          t.bytes *= static_cast<size_t>(t.shape[d]);
        }
        a.memory.emplace_back(t.bytes + 1, static_cast<uint8_t>(in_.Byte() & 3));
        t.data = a.memory.back().data() + (in_.Byte() & 1);
        continue;
      }
      t.dtype = in_.Byte() % 8 == 7 ? static_cast<pqi_dtype>(Number(&in_)) : in_.Byte() > 200;
      t.rank = in_.Rarely(5) ? static_cast<size_t>(Number(&in_)) : in_.Byte() % 6;
      size_t bytes = t.dtype == PQI_U8 ? 1 : 4;
      for (size_t d = 0; d < 8; ++d) {
        t.shape[d] = Number(&in_);
        const bool small = t.shape[d] >= 0 && t.shape[d] <= int64_t{1} << 16;
        if (d < t.rank) bytes = small && bytes <= kMostBytes ? bytes * static_cast<size_t>(t.shape[d]) : kMostBytes + 1;
      }
      if (bytes > kMostBytes) bytes = 64;
      a.memory.emplace_back(bytes + 1, static_cast<uint8_t>(in_.Byte() & 3));
      t.bytes = in_.Rarely(15) ? bytes - 1 : bytes;
      t.data = in_.Rarely(5) ? nullptr : a.memory.back().data() + (in_.Byte() & 1 ? a.memory.back().size() - 1 - bytes : 0);
    }
    return a;
  }

  void Run() {
    pqi_session* const session = Any(sessions_);
    const pqi_model* const model = models_.empty() || in_.Rarely(80) ? nullptr : models_[in_.Byte() % models_.size()];
    const size_t inputs = model            ? pqi_model_input_count(model)
                          : in_.Rarely(15) ? static_cast<size_t>(Number(&in_)) & 15
                                           : 1 + (in_.Byte() & 1);
    const size_t outputs = model ? pqi_model_output_count(model) : in_.Rarely(15) ? static_cast<size_t>(Number(&in_)) & 15 : 1;
    Arrays in = Inputs(inputs, model), out;
    out.tensors.resize(outputs + 1);
    size_t needed = 0;
    if (Check(pqi_session_run_bytes(session, in.tensors.data(), inputs, &needed, given_)) == PQI_OK && needed > kMostBytes) return;
    const bool inferred = model || (in_.Byte() & 1);
    if (inferred) {
      if (Check(pqi_session_infer(session, in.tensors.data(), inputs, out.tensors.data(), outputs, given_)) != PQI_OK) return;
    }
    for (pqi_tensor& t : out.tensors) {
      if (!inferred) t.bytes = 64;
      out.memory.emplace_back(t.bytes + 1);
      t.data = in_.Rarely(10) ? in.tensors[0].data : out.memory.back().data();
      if (in_.Rarely(10) && t.bytes != 0) --t.bytes;
    }
    pqi_run_options options = PQI_RUN_OPTIONS_INIT;
    int layers = in_.Rarely(30) ? in_.Byte() % 4 : 1000;
    if (in_.Rarely(60)) options.max_memory = static_cast<size_t>(Number(&in_));
    if (in_.Rarely(5)) options.struct_size = in_.Byte();
    options.cancelled = [](void* left) { return static_cast<int>(--*static_cast<int*>(left) < 0); };
    options.context = &layers;
    if (Check(pqi_session_run_with(session, in_.Byte() & 1 ? nullptr : &options, in.tensors.data(), inputs, out.tensors.data(), outputs,
                                   given_)) == PQI_OK) {
      ++Counted().runs;
    }
  }

  Reader in_;
  pqi_error error_ = PQI_ERROR_INIT;
  pqi_error* given_ = nullptr;
  std::vector<pqi_model*> models_;
  std::vector<pqi_session*> sessions_;
};

}  // namespace

void One(const uint8_t* data, size_t size) {
  constexpr int kMostSteps = 16;
  Sequence sequence({data, size});
  for (int step = 0; step < kMostSteps && sequence.left() > 0; ++step) sequence.Step();
}

}  // namespace pqi::fuzz
