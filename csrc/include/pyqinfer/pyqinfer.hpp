// C++17 interface of pyqinfer: a thin, header-only layer over pyqinfer.h.
//
//   auto model = pyqinfer::Model::load("model.pqi");
//   pyqinfer::Session session(model);
//   std::vector<float> x(3 * 224 * 224);
//   auto y = session.run({pyqinfer::TensorView(x.data(), {1, 3, 224, 224})});
//   y[0].data<float>()[0];
//
// Failures throw pyqinfer::Error. A session may be run from many threads at once.
#ifndef PYQINFER_PYQINFER_HPP_
#define PYQINFER_PYQINFER_HPP_

#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "pyqinfer/pyqinfer.h"

namespace pyqinfer {

class Error : public std::runtime_error {
 public:
  Error(pqi_status status, const std::string& message) : std::runtime_error(message), status_(status) {}
  explicit Error(const pqi_error& error) : Error(error.status, error.message) {}
  pqi_status status() const { return status_; }

 private:
  pqi_status status_;
};

namespace detail {

template <typename T>
struct DType;
template <>
struct DType<float> {
  static constexpr pqi_dtype value = PQI_F32;
};
template <>
struct DType<uint8_t> {
  static constexpr pqi_dtype value = PQI_U8;
};
template <>
struct DType<int32_t> {
  static constexpr pqi_dtype value = PQI_I32;
};

template <typename Fn, typename... Args>
void Call(Fn fn, Args... args) {
  pqi_error error = PQI_ERROR_INIT;
  if (fn(args..., &error) != PQI_OK) throw Error(error);
}

}  // namespace detail

using Shape = std::vector<int64_t>;

// Name, dtype and shape of an input or output; a dimension that the file leaves open is -1.
struct Port {
  std::string name;
  pqi_dtype dtype = PQI_F32;
  Shape shape;
};

class Model {
 public:
  static Model load(const std::string& path) {
    pqi_model* handle = nullptr;
    detail::Call(pqi_model_load, path.c_str(), &handle);
    return Model(handle);
  }
  // Copies the bytes.
  static Model from_memory(const void* data, size_t bytes) {
    pqi_model* handle = nullptr;
    detail::Call(pqi_model_from_memory, data, bytes, &handle);
    return Model(handle);
  }

  std::vector<Port> inputs() const { return ports(pqi_model_input_count(get()), pqi_model_input); }
  std::vector<Port> outputs() const { return ports(pqi_model_output_count(get()), pqi_model_output); }
  const pqi_model* get() const { return handle_.get(); }

 private:
  explicit Model(pqi_model* handle) : handle_(handle, pqi_model_free) {}

  std::vector<Port> ports(size_t count, pqi_status (*read)(const pqi_model*, size_t, pqi_port*, pqi_error*)) const {
    std::vector<Port> result;
    for (size_t i = 0; i < count; ++i) {
      pqi_port p = PQI_PORT_INIT;
      detail::Call(read, get(), i, &p);
      result.push_back({p.name, p.dtype, Shape(p.shape, p.shape + p.rank)});
    }
    return result;
  }

  std::shared_ptr<pqi_model> handle_;
};

// A borrowed dense row-major array: what goes into run(). The memory must outlive the call.
class TensorView {
 public:
  template <typename T>
  TensorView(const T* data, const Shape& shape) : TensorView(detail::DType<T>::value, sizeof(T), data, shape) {}

  const pqi_tensor& c() const { return tensor_; }

 private:
  TensorView(pqi_dtype dtype, size_t element, const void* data, const Shape& shape) : tensor_{} {
    if (shape.size() > PQI_MAX_RANK)
      throw Error(PQI_ERR_ARGUMENT, "a tensor has at most 8 dimensions, got " + std::to_string(shape.size()));
    tensor_.dtype = dtype;
    tensor_.rank = shape.size();
    tensor_.bytes = element;
    for (size_t i = 0; i < shape.size(); ++i) {
      tensor_.shape[i] = shape[i];
      tensor_.bytes *= static_cast<size_t>(shape[i]);  // the library checks the shape against the model and this against the shape
    }
    tensor_.data = const_cast<void*>(data);  // inputs are only read
  }

  pqi_tensor tensor_;
};

// An owned result.
class Tensor {
 public:
  explicit Tensor(const pqi_tensor& like) : tensor_(like), storage_(new unsigned char[like.bytes ? like.bytes : 1]) {
    tensor_.data = storage_.get();
  }

  pqi_dtype dtype() const { return tensor_.dtype; }
  Shape shape() const { return Shape(tensor_.shape, tensor_.shape + tensor_.rank); }
  size_t bytes() const { return tensor_.bytes; }
  size_t size() const { return tensor_.bytes / (tensor_.dtype == PQI_U8 ? 1 : sizeof(float)); }
  template <typename T>
  const T* data() const {
    if (detail::DType<T>::value != tensor_.dtype) throw Error(PQI_ERR_ARGUMENT, "the tensor holds another element type");
    return static_cast<const T*>(tensor_.data);
  }
  const pqi_tensor& c() const { return tensor_; }

 private:
  pqi_tensor tensor_;
  std::unique_ptr<unsigned char[]> storage_;
};

struct SessionOptions {
  int threads = 1;                               // results do not depend on it
  std::string isa = "auto";                      // nor on this
  std::string algorithm = "auto", fip = "auto";  // nor on these; see pqi_session_options
};

// Limits of one run; see pqi_run_options.
struct RunOptions {
  size_t max_memory = 0;                      // bytes; 0: no bound
  const std::atomic<bool>* cancel = nullptr;  // looked at before each layer; true ends the run with PQI_ERR_CANCELLED
};

struct Layer {
  std::string name, op, executed_as;
  int weight_bits = 0, act_bits = 0;  // 0 = float
  size_t weight_bytes = 0;            // packed, in memory
  std::string reason;                 // why it is executed so
};

class Session {
 public:
  explicit Session(const Model& model, const SessionOptions& options = {}) {
    pqi_session_options c = PQI_SESSION_OPTIONS_INIT;
    c.threads = options.threads;
    c.isa = options.isa.c_str();
    c.algorithm = options.algorithm.c_str();
    c.fip = options.fip.c_str();
    pqi_session* handle = nullptr;
    detail::Call(pqi_session_create, model.get(), &c, &handle);
    handle_.reset(handle);
    outputs_ = pqi_model_output_count(model.get());
  }

  // Inputs and outputs in the model's order.
  std::vector<Tensor> run(const std::vector<TensorView>& inputs, const RunOptions& options = {}) const {
    pqi_run_options c = PQI_RUN_OPTIONS_INIT;
    c.max_memory = options.max_memory;
    if (options.cancel) {
      c.cancelled = [](void* flag) { return static_cast<int>(static_cast<const std::atomic<bool>*>(flag)->load()); };
      c.context = const_cast<std::atomic<bool>*>(options.cancel);
    }
    if (options.max_memory) {  // the outputs below are part of it
      const size_t bytes = run_bytes(inputs);
      if (bytes > options.max_memory) throw Error(PQI_ERR_NOMEM, "a run with these shapes takes " + std::to_string(bytes) + " bytes");
    }
    const std::vector<pqi_tensor> in = tensors(inputs);
    std::vector<pqi_tensor> out(outputs_);
    detail::Call(pqi_session_infer, handle_.get(), in.data(), in.size(), out.data(), out.size());
    std::vector<Tensor> result;
    for (pqi_tensor& t : out) {
      result.emplace_back(t);
      t = result.back().c();
    }
    detail::Call(pqi_session_run_with, handle_.get(), static_cast<const pqi_run_options*>(&c), in.data(), in.size(), out.data(),
                 out.size());
    return result;
  }

  // How many bytes a run with these inputs takes: values between layers, scratch memory of threads, inputs and outputs.
  size_t run_bytes(const std::vector<TensorView>& inputs) const {
    const std::vector<pqi_tensor> in = tensors(inputs);
    size_t bytes = 0;
    detail::Call(pqi_session_run_bytes, handle_.get(), in.data(), in.size(), &bytes);
    return bytes;
  }

  std::string isa() const { return pqi_session_isa(handle_.get()); }
  // Empty, or a sentence to log: why a weaker instruction set than the one asked for is used.
  std::string warning() const { return pqi_session_warning(handle_.get()); }

  std::vector<Layer> layers() const {
    std::vector<Layer> result;
    for (size_t i = 0; i < pqi_session_layer_count(handle_.get()); ++i) {
      pqi_layer l = PQI_LAYER_INIT;
      detail::Call(pqi_session_layer, static_cast<const pqi_session*>(handle_.get()), i, &l);
      result.push_back({l.name, l.op, l.executed_as, l.weight_bits, l.act_bits, l.weight_bytes, l.reason});
    }
    return result;
  }

 private:
  struct Free {
    void operator()(pqi_session* s) const { pqi_session_free(s); }
  };
  static std::vector<pqi_tensor> tensors(const std::vector<TensorView>& views) {
    std::vector<pqi_tensor> result;
    for (const TensorView& view : views) result.push_back(view.c());
    return result;
  }

  std::unique_ptr<pqi_session, Free> handle_;
  size_t outputs_ = 0;
};

}  // namespace pyqinfer

#endif  // PYQINFER_PYQINFER_HPP_
