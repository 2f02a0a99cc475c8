// Loads and runs: what loads is prepared for the reference kernels and for sets of this CPU, under any algorithm, and all must give the
// same bits. Symbols stand for numbers of their own. An input that begins with '{' is a graph's text, any other a file.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "fuzz/draft.h"
#include "fuzz/target.h"
#include "ops/op.h"
#include "runtime/model.h"
#include "runtime/session.h"

namespace pqi::fuzz {
namespace {

using Bytes = std::vector<uint8_t>;

constexpr uint64_t kMostElements = 100'000, kMostMacs = 1'000'000;  // of one run, so that a campaign has many

uint64_t Count(const ConcreteShape& shape) {
  uint64_t n = 1;
  for (int64_t d : shape) n *= static_cast<uint64_t>(d);
  return n;
}

// How many elements a window or a reduction may read for one element that it writes.
uint64_t Reads(const NodeView& view, const std::vector<ConcreteShape>& shapes) {
  uint64_t reads = 1;
  for (const auto& [name, attr] : view.node.attrs) {
    const auto* list = name == "kernel" ? std::get_if<std::vector<DimOrName>>(&attr) : nullptr;
    if (!list) continue;
    for (const DimOrName& entry : *list) reads *= std::holds_alternative<uint64_t>(entry) ? std::get<uint64_t>(entry) : 1;
  }
  const bool adaptive = view.node.op == "adaptive_avg_pool2d" || view.node.op == "reduce" || view.node.op == "mean";
  return adaptive ? Count(shapes[view.node.inputs[0]]) : reads;
}

bool Cheap(const Graph& graph, const std::vector<ConcreteShape>& shapes) {
  uint64_t elements = 0, macs = 0;
  for (const ConcreteShape& shape : shapes) {
    const uint64_t n = Count(shape);
    if (n > kMostElements || (elements += n) > kMostElements) return false;
  }
  for (const Node& node : graph.nodes) {
    const ops::Op* op = ops::FindOp(node.op);
    const NodeView view{graph, node};
    const ConcreteShape& out = shapes[node.outputs[0]];
    const auto own = op->macs ? static_cast<uint64_t>(op->macs(view, shapes[node.inputs[0]], out)) : 0;
    const uint64_t reads = Reads(view, shapes);
    if (own > kMostMacs || reads > kMostMacs || (macs += own + Count(out) * reads) > kMostMacs) return false;
  }
  return true;
}

// Codes in the quant's range, small indices, and floats of moderate size with one in 64 of any bits at all.
Bytes Draw(const Graph& graph, const Value& value, uint64_t count, Random* random) {
  Bytes bytes(count * DTypeSize(value.dtype));
  for (uint64_t i = 0; i < count; ++i) {
    const uint32_t r = random->Next();
    if (value.dtype == DType::kU8) {
      const Quant& q = graph.quants[static_cast<size_t>(value.quant)];
      bytes[i] = static_cast<uint8_t>(q.qmin + static_cast<int>(r % static_cast<uint32_t>(q.qmax - q.qmin + 1)));
      continue;
    }
    const float moderate = static_cast<float>(static_cast<int32_t>(r)) * 0x1p-28f;
    uint32_t word = r % 3;
    if (value.dtype == DType::kF32) {
      std::memcpy(&word, &moderate, sizeof word);
      if (r % 64 == 0) word = random->Next();
    }
    std::memcpy(&bytes[4 * i], &word, sizeof word);
  }
  return bytes;
}

// Replaces every NaN by one: docs/numerics.md does not say which NaN a sum gives.
void OneNan(DType dtype, Bytes* bytes) {
  if (dtype != DType::kF32) return;
  for (size_t i = 0; i < bytes->size(); i += 4) {
    float x = 0;
    std::memcpy(&x, &(*bytes)[i], sizeof x);
    if (std::isnan(x)) std::memset(&(*bytes)[i], 0xFF, sizeof x);
  }
}

std::vector<std::unique_ptr<Session>> Sessions(const std::shared_ptr<const Model>& model, Random* random) {
  static constexpr const char* kAlgorithms[] = {"auto",     "auto",        "direct",       "fip",   "deferred",
                                                "winograd", "winograd_1d", "winograd_4x4", "sparse"};
  const std::vector<Isa> isas = AvailableIsas();
  std::vector<std::unique_ptr<Session>> sessions;
  for (int i = 0; i < 3; ++i) {
    SessionOptions options;
    options.isa = i == 0 ? "reference" : i == 1 ? "auto" : IsaName(isas[random->Next() % isas.size()]);
    if (i == 2) options.plan.algorithm = kAlgorithms[random->Next() % std::size(kAlgorithms)];
    options.threads = i == 1 ? 1 + static_cast<int>(random->Next() % 2) : 1;
    options.reuse = random->Next() % 2 ? ArenaReuse::kReuse : ArenaReuse::kNoReuse;
    Result<std::unique_ptr<Session>> session = Session::Create(model, options);
    if (session.ok()) {
      sessions.push_back(std::move(session).value());
    } else {  // a forced algorithm that is not exact for a layer, or that this set lacks
      Require(i == 2 && (session.status().code() == Code::kInvalidArgument || session.status().code() == Code::kUnsupported),
              "a session is refused", session.status().message());
    }
  }
  return sessions;
}

// The values that a run gives: outputs, and one that a node writes.
std::vector<uint32_t> Wanted(const Graph& graph, Random* random) {
  std::vector<uint32_t> wanted;
  for (const Port& port : graph.outputs) wanted.push_back(port.value);
  const uint32_t inner = graph.nodes[random->Next() % graph.nodes.size()].outputs[0];
  if (random->Next() % 2 && std::find(wanted.begin(), wanted.end(), inner) == wanted.end()) wanted.push_back(inner);
  return wanted;
}

std::vector<Bytes> RunOn(Session* session, const std::vector<ConcreteShape>& shapes, const std::vector<Bytes>& inputs,
                         const std::vector<uint32_t>& wanted) {
  const Graph& graph = session->model().graph();
  const auto plan = session->PlanFor(Span<const ConcreteShape>(shapes));
  Require(plan.ok(), "shapes that were inferred have no plan", plan.status().message());
  std::vector<const void*> data;
  for (const Bytes& bytes : inputs) data.push_back(bytes.data());
  std::vector<Bytes> outputs;
  std::vector<Target> targets;
  for (uint32_t value : wanted) {
    outputs.emplace_back(plan.value()->ValueBytes(graph, value));
    targets.push_back({value, outputs.back().data()});
  }
  const Status status = session->Run(*plan.value(), data, targets);
  Require(status.ok() || status.code() == Code::kInvalidArgument, "run", status.message());
  if (!status.ok()) return {};
  ++Counted().runs;
  for (size_t i = 0; i < wanted.size(); ++i) OneNan(graph.values[wanted[i]].dtype, &outputs[i]);
  return outputs;
}

void RunAll(const std::shared_ptr<const Model>& model, uint32_t seed) {
  static constexpr int64_t kNumbers[] = {1, 2, 3, 5, 8, 1, 4, 17};
  const Graph& graph = model->graph();
  Random random(seed);
  std::vector<std::unique_ptr<Session>> sessions;
  for (int round = 0; round < 2; ++round) {
    std::vector<int64_t> numbers;
    for (size_t i = 0; i < graph.symbols.size(); ++i) numbers.push_back(kNumbers[random.Next() % std::size(kNumbers)]);
    std::vector<ConcreteShape> shapes;
    for (const Port& port : graph.inputs) {
      ConcreteShape& shape = shapes.emplace_back();
      for (const Dim& d : graph.values[port.value].shape) shape.push_back(d.fixed() ? d.value : numbers[static_cast<size_t>(d.value)]);
    }
    const auto all = model->Shapes(shapes);
    if (!all.ok()) {
      Require(all.status().code() == Code::kInvalidArgument, "shapes", all.status().message());
      continue;
    }
    if (!Cheap(graph, all.value())) return;
    if (sessions.empty()) sessions = Sessions(model, &random);
    std::vector<Bytes> inputs;
    for (size_t i = 0; i < shapes.size(); ++i)
      inputs.push_back(Draw(graph, graph.values[graph.inputs[i].value], Count(shapes[i]), &random));
    const std::vector<uint32_t> wanted = Wanted(graph, &random);
    const std::vector<Bytes> expected = RunOn(sessions[0].get(), shapes, inputs, wanted);
    for (size_t s = 1; s < sessions.size(); ++s) {
      Require(RunOn(sessions[s].get(), shapes, inputs, wanted) == expected, "two kernel sets differ", IsaName(sessions[s]->isa()));
    }
  }
}

}  // namespace

void One(const uint8_t* data, size_t size) {
  uint32_t seed = static_cast<uint32_t>(size);
  for (size_t i = 0; i < size; ++i) seed = seed * 31 + data[i];
  Result<std::shared_ptr<const Model>> model = Internal("");
  if (size > 0 && data[0] == '{') {
    const auto file = WriteDraft({reinterpret_cast<const char*>(data), size}, seed | 1);
    if (!file) return;
    model = Model::FromBytes(file->span());
  } else {
    model = Model::FromBytes({data, size});
  }
  if (!model.ok()) return RequireGoodError(model.status(), false);
  ++Counted().loaded;
  RunAll(model.value(), seed);
}

}  // namespace pqi::fuzz
