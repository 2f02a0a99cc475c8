#include "fuzz/load.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "fuzz/target.h"
#include "graph/constants.h"
#include "graph/load.h"
#include "graph/memory_plan.h"
#include "graph/parse.h"
#include "graph/serialize.h"
#include "graph/shapes.h"
#include "ops/op.h"

namespace pqi::fuzz {
namespace {

void CheckText(const Graph& graph) {
  const std::string text = SerializeGraph(graph, ScaleText::kOmit);
  const Result<ParsedGraph> again = ParseGraph(text, GraphSource::kFile);
  Require(again.ok(), "a loaded graph does not read back", again.status().message());
  Require(SerializeGraph(again.value().graph, ScaleText::kOmit) == text, "serialization is not canonical", text);
}

void CheckCodes(const Graph& graph) {
  for (const Constant& constant : graph.constants) {
    if (constant.type != ConstType::kCode) continue;
    std::vector<int8_t> codes(static_cast<size_t>(constant.element_count()));
    Require(UnpackCodes(constant, codes).ok(), "codes do not unpack", constant.name);
    const Result<std::vector<uint8_t>> packed = PackCodes(constant, codes);
    Require(packed.ok(), "codes do not pack", constant.name);
    Require(std::equal(packed.value().begin(), packed.value().end(), constant.bytes.begin(), constant.bytes.end()),
            "packing is not canonical", constant.name);
  }
}

// Every symbol stands for a number of its own.
void CheckShapes(const Graph& graph) {
  static constexpr int64_t kNumbers[] = {1, 2, 32, 1, 65537, 7};
  for (size_t first = 0; first < std::size(kNumbers); ++first) {
    std::vector<ConcreteShape> inputs;
    for (const Port& port : graph.inputs) {
      ConcreteShape& shape = inputs.emplace_back();
      for (const Dim& dim : graph.values[port.value].shape) {
        shape.push_back(dim.fixed() ? dim.value : kNumbers[(first + static_cast<size_t>(dim.value)) % std::size(kNumbers)]);
      }
    }
    const Result<std::vector<ConcreteShape>> shapes = InferConcreteShapes(graph, ops::FindOpDef, inputs);
    if (!shapes.ok()) {
      Require(shapes.status().code() == Code::kInvalidArgument, "unexpected error of a session's shapes", shapes.status().message());
      continue;
    }
    for (ArenaReuse reuse : {ArenaReuse::kReuse, ArenaReuse::kNoReuse}) {
      const Result<MemoryPlan> plan = PlanMemory(graph, shapes.value(), {}, reuse);
      Require(plan.ok() || plan.status().code() == Code::kInvalidArgument, "memory plan", plan.status().message());
    }
  }
}

}  // namespace

void Load(AlignedBuffer<uint8_t> file) {
  const Result<LoadedModel> model = LoadGraph(std::move(file), ops::FindOpDef);
  if (!model.ok()) return RequireGoodError(model.status(), false);
  ++Counted().loaded;
  CheckText(model.value().graph);
  CheckCodes(model.value().graph);
  CheckShapes(model.value().graph);
}

}  // namespace pqi::fuzz
