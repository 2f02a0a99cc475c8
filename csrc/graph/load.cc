#include "graph/load.h"

#include <cstring>
#include <optional>
#include <string>
#include <unordered_map>

#include "base/text.h"
#include "codec/trit_rans.h"
#include "format/container.h"
#include "graph/constants.h"
#include "graph/parse.h"
#include "graph/shapes.h"

namespace pqi {
namespace {

constexpr float kMinScale = 0x1p-100f, kMaxScale = 0x1p100f;

StoredType StoredTypeOf(const Constant& constant) {
  switch (constant.type) {
    case ConstType::kF32:
      return StoredType::kF32;
    case ConstType::kI32:
      return StoredType::kI32;
    case ConstType::kU8:
      return StoredType::kU8;
    case ConstType::kCode:
      break;
  }
  return constant.packing == Packing::kNone ? StoredType::kI8 : StoredType::kU8;
}

// A stream may have any size that can hold the constant's elements: looked at before anything is allocated for those.
Status CheckStream(const Constant& constant, const Container& container, const Tensor& tensor) {
  if (!container.Requires(kTritRansFeature)) return ModelFormat("its packing is not in the file's list of required features");
  if (tensor.shape.size() != 1) return ModelFormat("a stream has one dimension, the file has " + DimsText(tensor.shape));
  return CheckTritRansSize(tensor.bytes.size(), static_cast<uint64_t>(constant.element_count()));
}

// Gives every constant its bytes: one tensor each, of the size that type, shape and packing ask for.
Status BindConstants(const Container& container, Graph* graph) {
  const std::vector<Tensor>& tensors = container.tensors;
  std::unordered_map<std::string, const Tensor*> by_name;
  for (const Tensor& tensor : tensors) by_name.emplace(tensor.name, &tensor);
  for (Constant& constant : graph->constants) {
    const std::string where = "constant " + Quoted(constant.name) + ": ";
    const auto found = by_name.find(constant.name);
    if (found == by_name.end()) return ModelFormat(where + "the file has no such tensor");
    const Tensor& tensor = *found->second;
    const std::optional<uint64_t> stored = StoredBytes(constant);
    if (!stored) {
      const Status status = CheckStream(constant, container, tensor);
      if (!status.ok()) return {status.code(), where + status.message()};
    }
    const std::vector<int64_t> shape = !stored              ? tensor.shape
                                       : IsPacked(constant) ? std::vector<int64_t>{static_cast<int64_t>(*stored)}
                                                            : constant.shape;
    if (tensor.type != StoredTypeOf(constant) || tensor.shape != shape) {
      return ModelFormat(where + "expected a tensor " + StoredTypeName(StoredTypeOf(constant)) + DimsText(shape) + ", the file has " +
                         StoredTypeName(tensor.type) + DimsText(tensor.shape));
    }
    constant.bytes = tensor.bytes;
    by_name.erase(found);
  }
  if (by_name.empty()) return {};
  for (const Tensor& tensor : tensors) {
    if (by_name.count(tensor.name) != 0) return ModelFormat("tensor " + Quoted(tensor.name) + " belongs to no constant");
  }
  return {};
}

Status CheckSampleShapes(const Graph& graph, OpLookup lookup) {
  for (size_t i = 0; i < graph.samples.size(); ++i) {
    const std::string where = "samples[" + std::to_string(i) + "]: ";
    std::vector<ConcreteShape> inputs;
    for (const Port& port : graph.inputs) inputs.push_back(graph.constants[graph.samples[i].inputs.at(port.name)].shape);
    const Result<std::vector<ConcreteShape>> shapes = InferConcreteShapes(graph, lookup, inputs);
    if (!shapes.ok()) return ModelFormat(where + shapes.status().message());
    for (const Port& port : graph.outputs) {
      const ConcreteShape& got = graph.constants[graph.samples[i].outputs.at(port.name)].shape;
      if (got == shapes.value()[port.value]) continue;
      return ModelFormat(where + "output " + Quoted(port.name) + " has shape " + DimsText(got) + ", expected " +
                         DimsText(shapes.value()[port.value]));
    }
  }
  return {};
}

Status AssignScales(Graph* graph) {
  for (const Constant& constant : graph->constants) {
    if (constant.name != kActivationScales) continue;
    const Span<const float> scales = ElementsOf<float>(constant);
    for (size_t i = 0; i < scales.size(); ++i) {
      if (!(scales[i] >= kMinScale && scales[i] <= kMaxScale)) {
        return ModelFormat("quants[" + std::to_string(i) + "]: scale " + std::to_string(scales[i]) + " is outside [2^-100, 2^100]");
      }
      graph->quants[i].scale = scales[i];
    }
  }
  return {};
}

}  // namespace

Result<LoadedModel> LoadGraph(AlignedBuffer<uint8_t> file, OpLookup lookup) {
  PQI_ASSIGN_OR_RETURN(Container container, ReadContainer(file.span()));
  PQI_ASSIGN_OR_RETURN(ParsedGraph parsed, ParseGraph(container.graph, GraphSource::kFile));
  Graph& graph = parsed.graph;
  if (!graph.conditions.empty() && !container.Requires(kConditionsFeature)) {
    return ModelFormat("the graph has conditions, which are not in the file's list of required features");
  }
  PQI_RETURN_IF_ERROR(BindConstants(container, &graph));
  PQI_RETURN_IF_ERROR(InferShapes(&graph, parsed.shape_given, lookup));
  PQI_RETURN_IF_ERROR(CheckSampleShapes(graph, lookup));
  // The proofs below read contents, so hashes are compared first.
  PQI_RETURN_IF_ERROR(CheckTensorHashes(container));
  for (const Constant& constant : graph.constants) PQI_RETURN_IF_ERROR(CheckContents(constant));
  PQI_RETURN_IF_ERROR(AssignScales(&graph));
  for (const Node& node : graph.nodes) {
    const OpDef& op = *lookup(node.op);
    if (op.prove != nullptr) PQI_RETURN_IF_ERROR(op.prove({graph, node}));
  }
  return LoadedModel{std::move(file), std::move(container.producer), std::move(graph)};
}

}  // namespace pqi
