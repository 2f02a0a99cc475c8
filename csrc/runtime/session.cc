#include "runtime/session.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <mutex>

#include "base/aligned.h"
#include "base/checked.h"
#include "base/fpenv.h"
#include "base/text.h"
#include "graph/shapes.h"
#include "runtime/binding.h"
#include "runtime/views.h"

namespace pqi {
namespace {

constexpr size_t kMaxIdleContexts = 16;

struct Range {
  uintptr_t begin, end;
  Range(const void* data, size_t bytes) : begin(reinterpret_cast<uintptr_t>(data)), end(begin + bytes) {}
  bool Overlaps(const Range& o) const { return begin < o.end && o.begin < end; }
};

// The proofs about accumulators hold for codes in [qmin, qmax], so codes that a caller brings are held to it.
Status CheckCodes(const Graph& graph, const Port& port, const uint8_t* codes, size_t n) {
  const Quant& q = graph.quants[static_cast<size_t>(graph.values[port.value].quant)];
  for (size_t i = 0; i < n; ++i) {
    if (codes[i] < q.qmin || codes[i] > q.qmax) {
      return InvalidArgument("input " + Quoted(port.name) + ": code " + std::to_string(codes[i]) + " is outside [" +
                             std::to_string(q.qmin) + ", " + std::to_string(q.qmax) + "]");
    }
  }
  return {};
}

// Indices lie in every table that they are looked up in. `role` and `name` say whose they are: "input" or "layer".
Status CheckIndices(const char* role, const std::string& name, const int32_t* indices, size_t n, int64_t limit) {
  for (size_t i = 0; i < n; ++i) {
    const int32_t index = indices[i];
    if (index < 0 || index >= limit) {
      return InvalidArgument(std::string(role) + " " + Quoted(name) + ": index " + std::to_string(index) + " at position " +
                             std::to_string(i) + " is outside [0, " + std::to_string(limit) + "), the places that there are");
    }
  }
  return {};
}

double MillisecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

// The memory of one run.
struct Session::Context {
  AlignedBuffer<uint8_t> arena;
  AlignedBuffer<uint8_t> scratch;  // a piece for each thread
  Binding binding;
};

struct Session::Shared {
  Shared() {  // so that giving a context back cannot fail
    plans.reserve(kMaxPlans);
    idle.reserve(kMaxIdleContexts);
  }

  std::mutex mutex;
  std::vector<std::shared_ptr<const RunPlan>> plans;  // the one used last stands last
  std::vector<std::unique_ptr<Context>> idle;
  size_t largest_arena = 0;
};

// A context taken from the idle ones, or a new one; given back at the end of the run.
class Session::Lease {
 public:
  explicit Lease(Shared* shared) : shared_(shared) {
    {
      std::lock_guard<std::mutex> lock(shared_->mutex);
      if (!shared_->idle.empty()) {
        context_ = std::move(shared_->idle.back());
        shared_->idle.pop_back();
      }
    }
    if (!context_) context_ = std::make_unique<Context>();
  }
  ~Lease() {
    std::lock_guard<std::mutex> lock(shared_->mutex);
    if (shared_->idle.size() < kMaxIdleContexts) shared_->idle.push_back(std::move(context_));
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  Context* get() { return context_.get(); }

 private:
  Shared* shared_;
  std::unique_ptr<Context> context_;
};

Session::Session(std::shared_ptr<const Model> model, const SessionOptions& options, Selection selection)
    : model_(std::move(model)),
      options_(options),
      selection_(std::move(selection)),
      pool_(options.threads),
      shared_(std::make_unique<ForkLocal<Shared>>()) {}

Session::~Session() = default;

Result<std::unique_ptr<Session>> Session::Create(std::shared_ptr<const Model> model, const SessionOptions& options) {
  if (options.threads < 1 || options.threads > kMaxThreads) {
    return InvalidArgument("threads must be 1 to " + std::to_string(kMaxThreads) + ", got " + std::to_string(options.threads));
  }
  PQI_RETURN_IF_ERROR(plan::CheckOptions(options.plan));
  PQI_ASSIGN_OR_RETURN(Selection selection, SelectKernels(options.isa));
  return Create(std::move(model), options, std::move(selection));
}

Result<std::unique_ptr<Session>> Session::Create(std::shared_ptr<const Model> model, const SessionOptions& options, Selection selection) {
  const FpEnvScope fp;  // packing multiplies scales
  std::unique_ptr<Session> session(new Session(std::move(model), options, std::move(selection)));
  PQI_RETURN_IF_ERROR(session->Prepare());
  return session;
}

Status Session::PrepareNode(const Node& node) {
  const Graph& graph = model_->graph();
  const ops::Op* op = ops::FindOp(node.op);  // known: the model was validated
  const NodeView view{graph, node};
  PQI_ASSIGN_OR_RETURN(std::unique_ptr<ops::Step> step, op->prepare({view, *selection_.kernels, options_.plan}));
  if (const std::optional<ops::Lookup> lookup = step->lookup(); lookup && lookup->limit > 0) {
    int64_t& limit = index_limit_[node.inputs[lookup->input]];
    limit = std::min(limit, lookup->limit);
  }
  steps_.push_back(std::move(step));
  return {};
}

Status Session::Prepare() {
  const Graph& graph = model_->graph();
  index_limit_.assign(graph.values.size(), INT64_MAX);
  for (const Node& node : graph.nodes) {
    try {
      PQI_RETURN_IF_ERROR(PrepareNode(node));
    } catch (const std::bad_alloc&) {
      size_t bytes = 0;
      for (const auto& [key, id] : node.constants) bytes += graph.constants[id].bytes.size();
      return NoMemory("no memory to prepare layer " + Quoted(node.name) + " (" + node.op + "), whose constants take " +
                      std::to_string(bytes) + " bytes in the file");
    }
  }
  std::vector<bool> looked_up(graph.values.size());
  for (size_t n = 0; n < steps_.size(); ++n) {
    std::optional<ops::Lookup> lookup = steps_[n]->lookup();
    if (lookup) {
      const uint32_t indices = graph.nodes[n].inputs[lookup->input];
      looked_up[indices] = true;
      const auto is_read = [&](const Port& port) { return port.value == indices; };
      const bool from_caller = std::any_of(graph.inputs.begin(), graph.inputs.end(), is_read);
      if (from_caller && lookup->limit > 0) lookup.reset();  // checked before any step runs
    }
    lookups_.push_back(lookup);
  }
  for (const Port& port : graph.inputs) {
    const Value& value = graph.values[port.value];
    const Quant* quant = value.dtype == DType::kU8 ? &graph.quants[static_cast<size_t>(value.quant)] : nullptr;
    checked_.push_back(looked_up[port.value] || (quant && (quant->qmin != 0 || quant->qmax != 255)));
  }
  views_ = FindViews(graph, steps_);
  for (size_t n = 0; n < steps_.size(); ++n) steps_[n]->ExpectInPlace(views_[n]);
  return {};
}

Result<std::shared_ptr<const RunPlan>> Session::PlanFor(Span<const ConcreteShape> inputs) {
  const std::vector<Span<const int64_t>> shapes(inputs.begin(), inputs.end());
  return PlanFor(Span<const Span<const int64_t>>(shapes));
}

Result<std::shared_ptr<const RunPlan>> Session::PlanFor(Span<const Span<const int64_t>> inputs) {
  Shared& shared = shared_->get();
  const auto same = [&](const std::shared_ptr<const RunPlan>& p) {
    return std::equal(inputs.begin(), inputs.end(), p->inputs.begin(), p->inputs.end(),
                      [](Span<const int64_t> a, const ConcreteShape& b) { return std::equal(a.begin(), a.end(), b.begin(), b.end()); });
  };
  {
    std::lock_guard<std::mutex> lock(shared.mutex);
    const auto it = std::find_if(shared.plans.begin(), shared.plans.end(), same);
    if (it != shared.plans.end()) {
      std::rotate(it, it + 1, shared.plans.end());
      return shared.plans.back();
    }
  }
  auto plan = std::make_shared<RunPlan>();
  const Graph& graph = model_->graph();
  for (const Span<const int64_t>& shape : inputs) plan->inputs.emplace_back(shape.begin(), shape.end());
  PQI_ASSIGN_OR_RETURN(plan->numbers, BindNumbers(model_->graph(), plan->inputs));
  PQI_ASSIGN_OR_RETURN(plan->shapes, InferConcreteShapes(model_->graph(), ops::FindOpDef, plan->inputs, plan->numbers));
  size_t scratch = 0;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const ConcreteShape& out = plan->shapes[graph.nodes[i].outputs[0]];
    const ConcreteShape& in = graph.nodes[i].inputs.empty() ? out : plan->shapes[graph.nodes[i].inputs[0]];
    const bool empty = std::find(out.begin(), out.end(), 0) != out.end();
    if (!empty) scratch = std::max(scratch, steps_[i]->ScratchBytes(in, out));
  }
  plan->placements = PlaceViews(graph, steps_, views_, plan->shapes);
  PQI_ASSIGN_OR_RETURN(plan->memory, PlanMemory(graph, plan->shapes, plan->placements, options_.reuse));
  size_t run_bytes = 0;
  if (!CheckedAlignUp(scratch, kAlignment, &plan->scratch_stride) ||
      !CheckedMul(plan->scratch_stride, static_cast<size_t>(options_.threads), &plan->scratch_bytes) ||
      !CheckedAdd(plan->scratch_bytes, plan->memory.arena_bytes, &run_bytes)) {
    return InvalidArgument("the scratch memory of one run does not fit the address space");
  }

  std::lock_guard<std::mutex> lock(shared.mutex);
  shared.largest_arena = std::max(shared.largest_arena, run_bytes);
  if (shared.plans.size() == kMaxPlans) shared.plans.erase(shared.plans.begin());
  shared.plans.push_back(plan);
  return std::shared_ptr<const RunPlan>(plan);
}

size_t Session::RunBytes(const RunPlan& plan, Span<const Target> targets) const {
  const Graph& graph = model_->graph();
  // The plan added up its own bytes without overflow, a value has at most 2^40 bytes, and there are at most 2 * 65,536 of them.
  size_t bytes = plan.memory.arena_bytes + plan.scratch_bytes;
  for (const Port& port : graph.inputs) bytes += plan.ValueBytes(graph, port.value);
  for (const Target& target : targets) bytes += plan.ValueBytes(graph, target.value);
  return bytes;
}

Status Session::CheckMemory(const RunPlan& plan, Span<const Target> targets, const RunOptions& options) const {
  if (options.max_memory == 0) return {};
  const size_t bytes = RunBytes(plan, targets);
  if (bytes <= options.max_memory) return {};
  const Graph& graph = model_->graph();
  const auto output_bytes = [&](const Node& node) { return plan.ValueBytes(graph, node.outputs[0]); };
  const auto largest = std::max_element(graph.nodes.begin(), graph.nodes.end(),
                                        [&](const Node& a, const Node& b) { return output_bytes(a) < output_bytes(b); });
  return NoMemory("a run with these shapes takes " + std::to_string(bytes) + " bytes, more than max_memory = " +
                  std::to_string(options.max_memory) + "; the largest output is that of layer " + Quoted(largest->name) + ": " +
                  DimsText(plan.shapes[largest->outputs[0]]) + ", " + std::to_string(output_bytes(*largest)) + " bytes");
}

Status Session::CheckValues(const Port& port, const void* data, size_t bytes) const {
  const Graph& graph = model_->graph();
  if (graph.values[port.value].dtype == DType::kU8) return CheckCodes(graph, port, static_cast<const uint8_t*>(data), bytes);
  if (index_limit_[port.value] == INT64_MAX) return {};  // looked up in what a layer computes, and checked before that one
  return CheckIndices("input", port.name, static_cast<const int32_t*>(data), bytes / sizeof(int32_t), index_limit_[port.value]);
}

Status Session::Run(const RunPlan& plan, Span<const void* const> inputs, Span<const Target> targets, const RunOptions& options,
                    Span<double> node_ms) {
  const Graph& graph = model_->graph();
  PQI_RETURN_IF_ERROR(CheckMemory(plan, targets, options));
  const auto bytes = [&](uint32_t value) { return plan.ValueBytes(graph, value); };
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Port& port = graph.inputs[i];
    if (!inputs[i] && bytes(port.value)) return InvalidArgument("input " + Quoted(port.name) + " has no data");
  }
  for (size_t t = 0; t < targets.size(); ++t) {
    const Range range(targets[t].data, bytes(targets[t].value));
    const auto name = [&] { return Quoted(graph.values[targets[t].value].name); };
    if (!targets[t].data && range.begin != range.end) return InvalidArgument("no memory for value " + name());
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (range.Overlaps({inputs[i], bytes(graph.inputs[i].value)}))
        return InvalidArgument("memory for value " + name() + " overlaps an input");
    }
    for (size_t u = 0; u < t; ++u) {
      if (range.Overlaps({targets[u].data, bytes(targets[u].value)})) {
        return InvalidArgument("memory for value " + name() + " overlaps that of another");
      }
    }
  }

  const FpEnvScope fp;
  Lease lease(&shared_->get());
  Context& context = *lease.get();
  try {
    context.arena.Reserve(plan.memory.arena_bytes);
    context.scratch.Reserve(plan.scratch_bytes);
    context.binding.Bind(graph, plan, context.arena.data(), inputs, targets, checked_);
  } catch (const std::bad_alloc&) {
    return NoMemory("no memory for a run with these shapes: values between layers take " + std::to_string(plan.memory.arena_bytes) +
                    " bytes, the scratch memory of threads " + std::to_string(plan.scratch_bytes));
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Port& port = graph.inputs[i];
    if (checked_[i]) {
      PQI_RETURN_IF_ERROR(CheckValues(port, context.binding.data(port.value), bytes(port.value)));
    }
  }
  PQI_RETURN_IF_ERROR(Execute(plan, &context, options, node_ms));
  context.binding.CopyOut(graph, plan, targets);
  return {};
}

Status Session::Execute(const RunPlan& plan, Context* context, const RunOptions& options, Span<double> node_ms) const {
  const Graph& graph = model_->graph();
  const Binding& binding = context->binding;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    if (options.cancelled && options.cancelled(options.context)) {
      return Cancelled("the run was cancelled before layer " + Quoted(node.name));
    }
    const auto start = std::chrono::steady_clock::now();
    ops::RunArgs args;
    for (size_t k = 0; k < node.inputs.size(); ++k) args.in[k] = {binding.data(node.inputs[k]), &plan.shapes[node.inputs[k]]};
    args.out = {binding.data(node.outputs[0]), &plan.shapes[node.outputs[0]]};
    args.out_stride = binding.stride(node.outputs[0]);
    args.scratch = context->scratch.data();
    args.scratch_stride = plan.scratch_stride;
    args.pool = &pool_;
    args.numbers = plan.numbers;
    if (const std::optional<ops::Lookup>& lookup = lookups_[i]) {
      const ops::Operand& indices = args.in[lookup->input];
      const int64_t limit = lookup->limit > 0 ? lookup->limit : args.in[0].dim(lookup->axis);
      PQI_RETURN_IF_ERROR(CheckIndices("layer", node.name, indices.i32(), static_cast<size_t>(indices.count()), limit));
    }
    if (args.out.count() > 0) steps_[i]->Run(args);
    if (!node_ms.empty()) node_ms[i] = MillisecondsSince(start);
  }
  return {};
}

Result<std::vector<double>> Session::Profile(const RunPlan& plan, Span<const void* const> inputs, int repeat, const RunOptions& options) {
  if (repeat < 1) return InvalidArgument("repeat must be at least 1, got " + std::to_string(repeat));
  std::vector<std::vector<double>> times(steps_.size());
  std::vector<double> once(steps_.size());
  for (int r = 0; r < repeat; ++r) {
    PQI_RETURN_IF_ERROR(Run(plan, inputs, {}, options, {once.data(), once.size()}));
    for (size_t i = 0; i < once.size(); ++i) times[i].push_back(once[i]);
  }
  for (size_t i = 0; i < once.size(); ++i) {
    const auto middle = times[i].begin() + repeat / 2;
    std::nth_element(times[i].begin(), middle, times[i].end());
    once[i] = *middle;
  }
  return once;
}

std::vector<LayerInfo> Session::Layers() const {
  const Graph& graph = model_->graph();
  std::vector<LayerInfo> out;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const NodeView view{graph, graph.nodes[i]};
    LayerInfo info;
    info.name = view.node.name;
    info.op = view.node.op;
    const Constant* weight = view.constant("weight");
    if (weight && weight->type == ConstType::kCode) info.weight_bits = weight->bits;
    const Value& x = view.node.inputs.empty() ? view.output(0) : view.input(0);
    if (x.dtype == DType::kU8) info.act_bits = graph.quants[static_cast<size_t>(x.quant)].bits;
    const ops::StepInfo& step = steps_[i]->info();
    if (step.act_bits != 0) info.act_bits = step.act_bits;
    info.executed_as = step.executed_as;
    info.reason = step.reason;
    info.weight_bytes = step.weight_bytes;
    out.push_back(std::move(info));
  }
  return out;
}

MemoryReport Session::Memory() {
  MemoryReport report;
  for (const auto& step : steps_) report.weight_bytes += step->info().weight_bytes;
  Shared& shared = shared_->get();
  std::lock_guard<std::mutex> lock(shared.mutex);
  report.arena_bytes = shared.largest_arena;
  return report;
}

}  // namespace pqi
