// The C interface over runtime/: arguments checked here, and no exception leaves.
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <new>
#include <string>

#include "base/text.h"
#include "pyqinfer/pyqinfer.h"
#include "runtime/model.h"
#include "runtime/session.h"

struct pqi_model {
  std::shared_ptr<const pqi::Model> model;
};

struct pqi_session {
  std::unique_ptr<pqi::Session> session;
  std::vector<pqi::LayerInfo> layers;  // what pqi_layer's strings point into
};

namespace {

using pqi::Code;
using pqi::ConcreteShape;
using pqi::InvalidArgument;
using pqi::Status;

// An array that lives for one call: on the stack for the few inputs and outputs that networks have, so that a run allocates nothing.
template <typename T>
class SmallArray {
 public:
  explicit SmallArray(size_t size) : size_(size) {
    if (size > kInline) heap_.resize(size);
  }
  SmallArray(const T* source, size_t size) : SmallArray(size) { std::copy_n(source, size, data()); }
  T* data() { return size_ > kInline ? heap_.data() : inline_; }
  T& operator[](size_t i) { return data()[i]; }
  pqi::Span<const T> span() { return {data(), size_}; }

 private:
  static constexpr size_t kInline = 8;
  size_t size_;
  T inline_[kInline] = {};
  std::vector<T> heap_;
};

static_assert(static_cast<int>(Code::kInvalidArgument) == PQI_ERR_ARGUMENT);
static_assert(static_cast<int>(Code::kModelFormat) == PQI_ERR_FORMAT);
static_assert(static_cast<int>(Code::kIntegrity) == PQI_ERR_INTEGRITY);
static_assert(static_cast<int>(Code::kUnsupported) == PQI_ERR_UNSUPPORTED);
static_assert(static_cast<int>(Code::kNoMemory) == PQI_ERR_NOMEM);
static_assert(static_cast<int>(Code::kIo) == PQI_ERR_IO);
static_assert(static_cast<int>(Code::kInternal) == PQI_ERR_INTERNAL);
static_assert(static_cast<int>(Code::kCancelled) == PQI_ERR_CANCELLED);

pqi_status Report(pqi_error* error, pqi_status status, const char* message) noexcept {
  if (!error || error->struct_size != sizeof *error) return status;
  error->status = status;
  std::strncpy(error->message, message, sizeof error->message - 1);
  error->message[sizeof error->message - 1] = '\0';
  return status;
}

template <typename Fn>
pqi_status Guard(pqi_error* error, Fn&& fn) noexcept {
  try {
    const Status status = fn();
    return Report(error, static_cast<pqi_status>(status.code()), status.message().c_str());
  } catch (const std::bad_alloc&) {
    return Report(error, PQI_ERR_NOMEM, "out of memory");
  } catch (const std::exception& e) {
    return Report(error, PQI_ERR_INTERNAL, e.what());
  } catch (...) {
    return Report(error, PQI_ERR_INTERNAL, "unknown exception");
  }
}

Status CheckNotNull(std::initializer_list<std::pair<const char*, const void*>> arguments) {
  for (const auto& [name, value] : arguments) {
    if (!value) return InvalidArgument(std::string(name) + " is NULL");
  }
  return {};
}

template <typename T>
Status CheckStruct(const T& s, const char* name) {
  if (s.struct_size == sizeof(T)) return {};
  return InvalidArgument(std::string(name) + ": struct_size is " + std::to_string(s.struct_size) + ", expected " +
                         std::to_string(sizeof(T)) + "; initialise the struct with its _INIT macro");
}

pqi_dtype DTypeOf(pqi::DType dtype) { return dtype == pqi::DType::kF32 ? PQI_F32 : dtype == pqi::DType::kU8 ? PQI_U8 : PQI_I32; }

Status FillPort(const pqi::Graph& graph, const std::vector<pqi::Port>& ports, size_t index, pqi_port* out) {
  PQI_RETURN_IF_ERROR(CheckStruct(*out, "port"));
  if (index >= ports.size()) return InvalidArgument("index " + std::to_string(index) + ", but there are " + std::to_string(ports.size()));
  const pqi::Value& value = graph.values[ports[index].value];
  out->name = ports[index].name.c_str();
  out->dtype = DTypeOf(value.dtype);
  out->rank = value.shape.size();
  for (size_t i = 0; i < value.shape.size(); ++i) out->shape[i] = value.shape[i].fixed() ? value.shape[i].value : -1;
  return {};
}

Status CheckCount(const char* what, size_t expected, size_t got) {
  if (expected == got) return {};
  return InvalidArgument("expected " + std::to_string(expected) + " " + what + ", got " + std::to_string(got));
}

size_t ByteSize(pqi::DType dtype, const ConcreteShape& shape) {
  size_t bytes = pqi::DTypeSize(dtype);
  for (int64_t d : shape) bytes *= static_cast<size_t>(d);
  return bytes;  // at most 2^40: proved with the shapes
}

Status CheckInputs(const pqi_session* handle, const pqi_tensor* inputs, size_t count) {
  PQI_RETURN_IF_ERROR(CheckNotNull({{"session", handle}, {"inputs", inputs}}));
  return CheckCount("inputs", handle->session->model().graph().inputs.size(), count);
}

Status CheckCall(const pqi_session* handle, const pqi_tensor* inputs, size_t count, const pqi_tensor* outputs, size_t output_count) {
  PQI_RETURN_IF_ERROR(CheckNotNull({{"session", handle}, {"inputs", inputs}, {"outputs", outputs}}));
  PQI_RETURN_IF_ERROR(CheckCount("outputs", handle->session->model().graph().outputs.size(), output_count));
  return CheckInputs(handle, inputs, count);
}

// Checks the inputs' ranks and dtypes, and gives the plan for the inputs' shapes. `inputs` are copies: what was checked cannot change.
Status PlanCall(pqi::Session* session, pqi::Span<const pqi_tensor> inputs, std::shared_ptr<const pqi::RunPlan>* plan) {
  const pqi::Graph& graph = session->model().graph();
  SmallArray<pqi::Span<const int64_t>> shapes(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    const auto name = [&] { return "input " + pqi::Quoted(graph.inputs[i].name); };
    const pqi::Value& value = graph.values[graph.inputs[i].value];
    if (inputs[i].rank > PQI_MAX_RANK) return InvalidArgument(name() + ": rank " + std::to_string(inputs[i].rank) + " is more than 8");
    if (inputs[i].dtype != DTypeOf(value.dtype)) {
      return InvalidArgument(name() + ": expected dtype " + pqi::DTypeName(value.dtype));
    }
    shapes[i] = {inputs[i].shape, inputs[i].rank};
  }
  PQI_ASSIGN_OR_RETURN(*plan, session->PlanFor(shapes.span()));
  return {};
}

void Describe(const pqi::Graph& graph, const pqi::RunPlan& plan, size_t index, pqi_tensor* out) {
  const uint32_t value = graph.outputs[index].value;
  const ConcreteShape& shape = plan.shapes[value];
  out->dtype = DTypeOf(graph.values[value].dtype);
  out->rank = shape.size();
  std::copy(shape.begin(), shape.end(), out->shape);
  out->bytes = ByteSize(graph.values[value].dtype, shape);
}

}  // namespace

extern "C" {

const char* pqi_version(void) { return PQI_VERSION; }

const char* pqi_status_name(int status) {
  static const char* const kNames[] = {"PQI_OK",        "PQI_ERR_ARGUMENT", "PQI_ERR_FORMAT",   "PQI_ERR_INTEGRITY", "PQI_ERR_UNSUPPORTED",
                                       "PQI_ERR_NOMEM", "PQI_ERR_IO",       "PQI_ERR_INTERNAL", "PQI_ERR_CANCELLED"};
  const auto index = static_cast<size_t>(status);
  return index < sizeof kNames / sizeof *kNames ? kNames[index] : "unknown";
}

pqi_status pqi_model_load(const char* path, pqi_model** model, pqi_error* error) {
  return Guard(error, [&]() -> Status {
    PQI_RETURN_IF_ERROR(CheckNotNull({{"path", path}, {"model", model}}));
    PQI_ASSIGN_OR_RETURN(std::shared_ptr<const pqi::Model> loaded, pqi::Model::Load(path));
    *model = new pqi_model{std::move(loaded)};
    return {};
  });
}

pqi_status pqi_model_from_memory(const void* data, size_t bytes, pqi_model** model, pqi_error* error) {
  return Guard(error, [&]() -> Status {
    PQI_RETURN_IF_ERROR(CheckNotNull({{"data", data}, {"model", model}}));
    PQI_ASSIGN_OR_RETURN(std::shared_ptr<const pqi::Model> loaded, pqi::Model::FromBytes({static_cast<const uint8_t*>(data), bytes}));
    *model = new pqi_model{std::move(loaded)};
    return {};
  });
}

void pqi_model_free(pqi_model* model) { delete model; }

size_t pqi_model_input_count(const pqi_model* model) { return model ? model->model->graph().inputs.size() : 0; }

size_t pqi_model_output_count(const pqi_model* model) { return model ? model->model->graph().outputs.size() : 0; }

pqi_status pqi_model_input(const pqi_model* model, size_t index, pqi_port* port, pqi_error* error) {
  return Guard(error, [&]() -> Status {
    PQI_RETURN_IF_ERROR(CheckNotNull({{"model", model}, {"port", port}}));
    return FillPort(model->model->graph(), model->model->graph().inputs, index, port);
  });
}

pqi_status pqi_model_output(const pqi_model* model, size_t index, pqi_port* port, pqi_error* error) {
  return Guard(error, [&]() -> Status {
    PQI_RETURN_IF_ERROR(CheckNotNull({{"model", model}, {"port", port}}));
    return FillPort(model->model->graph(), model->model->graph().outputs, index, port);
  });
}

pqi_status pqi_session_create(const pqi_model* model, const pqi_session_options* options, pqi_session** session, pqi_error* error) {
  return Guard(error, [&]() -> Status {
    PQI_RETURN_IF_ERROR(CheckNotNull({{"model", model}, {"session", session}}));
    pqi::SessionOptions chosen;
    if (options) {
      PQI_RETURN_IF_ERROR(CheckStruct(*options, "options"));
      const pqi_session_options given = *options;
      chosen.threads = given.threads;
      if (given.isa) chosen.isa = given.isa;
      if (given.algorithm) chosen.plan.algorithm = given.algorithm;
      if (given.fip) chosen.plan.fip = given.fip;
    }
    PQI_ASSIGN_OR_RETURN(std::unique_ptr<pqi::Session> created, pqi::Session::Create(model->model, chosen));
    auto handle = std::make_unique<pqi_session>();
    handle->layers = created->Layers();
    handle->session = std::move(created);
    *session = handle.release();
    return {};
  });
}

void pqi_session_free(pqi_session* session) { delete session; }

const char* pqi_session_isa(const pqi_session* session) { return session ? pqi::IsaName(session->session->isa()) : "unknown"; }

const char* pqi_session_warning(const pqi_session* session) { return session ? session->session->warning().c_str() : ""; }

size_t pqi_session_layer_count(const pqi_session* session) { return session ? session->layers.size() : 0; }

pqi_status pqi_session_layer(const pqi_session* session, size_t index, pqi_layer* layer, pqi_error* error) {
  return Guard(error, [&]() -> Status {
    PQI_RETURN_IF_ERROR(CheckNotNull({{"session", session}, {"layer", layer}}));
    PQI_RETURN_IF_ERROR(CheckStruct(*layer, "layer"));
    if (index >= session->layers.size()) {
      return InvalidArgument("index " + std::to_string(index) + ", but there are " + std::to_string(session->layers.size()) + " layers");
    }
    const pqi::LayerInfo& info = session->layers[index];
    *layer = {sizeof *layer,    info.name.c_str(), info.op.c_str(),   info.executed_as.c_str(),
              info.weight_bits, info.act_bits,     info.weight_bytes, info.reason.c_str()};
    return {};
  });
}

pqi_status pqi_session_infer(pqi_session* session, const pqi_tensor* inputs, size_t input_count, pqi_tensor* outputs, size_t output_count,
                             pqi_error* error) {
  return Guard(error, [&]() -> Status {
    PQI_RETURN_IF_ERROR(CheckCall(session, inputs, input_count, outputs, output_count));
    SmallArray<pqi_tensor> in(inputs, input_count);
    std::shared_ptr<const pqi::RunPlan> plan;
    PQI_RETURN_IF_ERROR(PlanCall(session->session.get(), in.span(), &plan));
    const pqi::Graph& graph = session->session->model().graph();
    for (size_t i = 0; i < output_count; ++i) Describe(graph, *plan, i, &outputs[i]);
    return {};
  });
}

pqi_status pqi_session_run_bytes(pqi_session* session, const pqi_tensor* inputs, size_t input_count, size_t* bytes, pqi_error* error) {
  return Guard(error, [&]() -> Status {
    PQI_RETURN_IF_ERROR(CheckNotNull({{"bytes", bytes}}));
    PQI_RETURN_IF_ERROR(CheckInputs(session, inputs, input_count));
    SmallArray<pqi_tensor> in(inputs, input_count);
    std::shared_ptr<const pqi::RunPlan> plan;
    PQI_RETURN_IF_ERROR(PlanCall(session->session.get(), in.span(), &plan));
    std::vector<pqi::Target> targets;
    for (const pqi::Port& port : session->session->model().graph().outputs) targets.push_back({port.value, nullptr});
    *bytes = session->session->RunBytes(*plan, targets);
    return {};
  });
}

pqi_status pqi_session_run(pqi_session* session, const pqi_tensor* inputs, size_t input_count, pqi_tensor* outputs, size_t output_count,
                           pqi_error* error) {
  return pqi_session_run_with(session, nullptr, inputs, input_count, outputs, output_count, error);
}

pqi_status pqi_session_run_with(pqi_session* session, const pqi_run_options* options, const pqi_tensor* inputs, size_t input_count,
                                pqi_tensor* outputs, size_t output_count, pqi_error* error) {
  return Guard(error, [&]() -> Status {
    pqi_run_options limits = PQI_RUN_OPTIONS_INIT;
    if (options) {
      PQI_RETURN_IF_ERROR(CheckStruct(*options, "options"));
      limits = *options;
    }
    pqi::RunOptions chosen;
    chosen.max_memory = limits.max_memory;
    if (limits.cancelled) {
      chosen.cancelled = [](void* context) {
        const auto& given = *static_cast<const pqi_run_options*>(context);
        return given.cancelled(given.context) != 0;
      };
      chosen.context = &limits;
    }
    PQI_RETURN_IF_ERROR(CheckCall(session, inputs, input_count, outputs, output_count));
    SmallArray<pqi_tensor> in(inputs, input_count), out(outputs, output_count);
    std::shared_ptr<const pqi::RunPlan> plan;
    PQI_RETURN_IF_ERROR(PlanCall(session->session.get(), in.span(), &plan));
    const pqi::Graph& graph = session->session->model().graph();
    SmallArray<const void*> data(input_count);
    for (size_t i = 0; i < input_count; ++i) {
      const uint32_t value = graph.inputs[i].value;
      const size_t bytes = ByteSize(graph.values[value].dtype, plan->shapes[value]);
      if (in[i].bytes != bytes) {
        return InvalidArgument("input " + pqi::Quoted(graph.inputs[i].name) + ": shape " + pqi::DimsText(plan->shapes[value]) + " is " +
                               std::to_string(bytes) + " bytes, got " + std::to_string(in[i].bytes));
      }
      data[i] = in[i].data;
    }
    SmallArray<pqi::Target> targets(output_count);
    for (size_t i = 0; i < output_count; ++i) {
      const size_t room = out[i].bytes;
      Describe(graph, *plan, i, &out[i]);
      if (room < out[i].bytes) {
        return InvalidArgument("output " + pqi::Quoted(graph.outputs[i].name) + " needs " + std::to_string(out[i].bytes) +
                               " bytes, the buffer has " + std::to_string(room));
      }
      targets[i] = {graph.outputs[i].value, out[i].data};
    }
    PQI_RETURN_IF_ERROR(session->session->Run(*plan, data.span(), targets.span(), chosen));
    std::copy(out.span().begin(), out.span().end(), outputs);
    return {};
  });
}

}  // extern "C"
