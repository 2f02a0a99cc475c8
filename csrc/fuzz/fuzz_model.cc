// Loads whatever the fuzzer makes up: a file, or (where it begins with '{') a graph's text that is written to a file first. Tensor and
// header hashes are not checked in this program, or the fuzzer would never get past them.
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "graph/constants.h"
#include "graph/load.h"
#include "graph/memory_plan.h"
#include "graph/parse.h"
#include "graph/serialize.h"
#include "graph/shapes.h"
#include "graph/write.h"
#include "ops/op.h"

namespace pqi {
namespace {

void Require(bool holds, const char* what, const std::string& detail) {
  if (holds) return;
  std::fprintf(stderr, "fuzz_model: %s: %s\n", what, detail.c_str());
  std::abort();
}

// Holds every error to what the loader promises: one of three codes, with a message.
void RequireGoodError(const Status& status, bool writing) {
  const bool expected = status.code() == Code::kModelFormat || status.code() == Code::kIntegrity || status.code() == Code::kUnsupported ||
                        (writing && status.code() == Code::kInvalidArgument);
  Require(expected && !status.message().empty() && status.message().size() < 20'000, "unexpected error", status.message());
}

// Asks a loaded model for everything that does not need a run.
void Use(const LoadedModel& model) {
  const Graph& graph = model.graph;
  const std::string text = SerializeGraph(graph, ScaleText::kOmit);
  const Result<ParsedGraph> again = ParseGraph(text, GraphSource::kFile);
  Require(again.ok(), "a loaded graph does not read back", again.status().message());
  Require(SerializeGraph(again.value().graph, ScaleText::kOmit) == text, "serialization is not canonical", text);
  for (const Constant& constant : graph.constants) {
    if (constant.type != ConstType::kCode) continue;
    std::vector<int8_t> codes(static_cast<size_t>(constant.element_count()));
    Require(UnpackCodes(constant, codes).ok(), "codes do not unpack", constant.name);
    const Result<std::vector<uint8_t>> packed = PackCodes(constant, codes);
    Require(packed.ok(), "codes do not pack", constant.name);
    Require(std::equal(packed.value().begin(), packed.value().end(), constant.bytes.begin(), constant.bytes.end()),
            "packing is not canonical", constant.name);
  }
  for (int64_t symbol : {1, 2, 32, 65537}) {
    std::vector<ConcreteShape> inputs;
    for (const Port& port : graph.inputs) {
      ConcreteShape& shape = inputs.emplace_back();
      for (const Dim& dim : graph.values[port.value].shape) shape.push_back(dim.fixed() ? dim.value : symbol);
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

void LoadFile(AlignedBuffer<uint8_t> file) {
  const Result<LoadedModel> model = LoadGraph(std::move(file), ops::FindOpDef);
  if (model.ok()) {
    Use(model.value());
  } else {
    RequireGoodError(model.status(), false);
  }
}

// Puts a file around the graph, with constants of all ones, which are valid for nearly every use.
void WriteAndLoad(std::string_view text) {
  const Result<ParsedGraph> parsed = ParseGraph(text, GraphSource::kDraft);
  if (!parsed.ok()) return RequireGoodError(parsed.status(), true);
  std::vector<std::vector<uint8_t>> elements;
  std::vector<LogicalArray> arrays;
  uint64_t total = 0;
  for (const Constant& constant : parsed.value().graph.constants) {
    const uint64_t count = static_cast<uint64_t>(constant.element_count());
    total += count;
    if (total > 1 << 16) return;
    const uint64_t size = LogicalElementBytes(constant.type);
    elements.emplace_back(static_cast<size_t>(count * size), static_cast<uint8_t>(size == 4 ? 0 : 1));
    if (constant.type == ConstType::kF32) {
      for (size_t i = 0; i < elements.back().size(); i += 4) elements.back()[i + 2] = 0x80, elements.back()[i + 3] = 0x3F;  // 1.0f
    }
  }
  for (size_t i = 0; i < elements.size(); ++i) {
    const Constant& constant = parsed.value().graph.constants[i];
    arrays.push_back({constant.type, constant.shape, elements[i]});
  }
  Result<AlignedBuffer<uint8_t>> file = WriteGraph(text, arrays, "fuzz", ops::FindOpDef);
  if (!file.ok()) return RequireGoodError(file.status(), true);
  LoadFile(std::move(file).value());
}

}  // namespace
}  // namespace pqi

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 0 && data[0] == '{') {
    pqi::WriteAndLoad({reinterpret_cast<const char*>(data), size});
  } else {
    pqi::LoadFile(pqi::AlignedBuffer<uint8_t>::CopyOf({data, size}));
  }
  return 0;
}
