#include "graph/write.h"

#include <algorithm>
#include <string>

#include "base/checked.h"
#include "base/text.h"
#include "format/container.h"
#include "graph/constants.h"
#include "graph/parse.h"
#include "graph/serialize.h"
#include "graph/shapes.h"

namespace pqi {
namespace {

const char* LogicalTypeName(ConstType type) {
  switch (type) {
    case ConstType::kF32:
      return "float32";
    case ConstType::kI32:
      return "int32";
    case ConstType::kU8:
      return "uint8";
    case ConstType::kCode:
      break;
  }
  return "int8";
}

Status CheckArray(const Constant& constant, const LogicalArray& array) {
  const std::string where = "constant " + Quoted(constant.name) + ": ";
  if (array.type != constant.type || array.shape != constant.shape) {
    return InvalidArgument(where + "expected " + LogicalTypeName(constant.type) + DimsText(constant.shape) + ", got " +
                           LogicalTypeName(array.type) + DimsText(array.shape));
  }
  const uint64_t expected = static_cast<uint64_t>(constant.element_count()) * LogicalElementBytes(constant.type);
  if (array.bytes.size() == expected) return {};
  return InvalidArgument(where + "expected " + std::to_string(expected) + " bytes, got " + std::to_string(array.bytes.size()));
}

// The tensor that stores a constant; its bytes are the caller's, or `packed`.
Result<Tensor> StoreConstant(const Constant& constant, const LogicalArray& array, std::vector<uint8_t>* packed) {
  PQI_RETURN_IF_ERROR(CheckArray(constant, array));
  switch (constant.type) {
    case ConstType::kF32:
      return Tensor{constant.name, StoredType::kF32, constant.shape, array.bytes};
    case ConstType::kI32:
      return Tensor{constant.name, StoredType::kI32, constant.shape, array.bytes};
    case ConstType::kU8:
      return Tensor{constant.name, StoredType::kU8, constant.shape, array.bytes};
    case ConstType::kCode:
      break;
  }
  if (!IsPacked(constant)) return Tensor{constant.name, StoredType::kI8, constant.shape, array.bytes};
  // Packing reads codes more than once, so it reads a copy: another thread may change the caller's.
  const std::vector<int8_t> codes(array.bytes.begin(), array.bytes.end());
  Result<std::vector<uint8_t>> bytes = PackCodes(constant, codes);
  if (!bytes.ok()) return Status(bytes.status().code(), "constant " + Quoted(constant.name) + ": " + bytes.status().message());
  *packed = std::move(bytes).value();
  return Tensor{constant.name, StoredType::kU8, {static_cast<int64_t>(packed->size())}, *packed};
}

// The features that a reader of this graph must know.
std::string FeaturesOf(const Graph& graph) {
  const auto is_stream = [](const Constant& constant) { return constant.packing == Packing::kTritRans; };
  std::string features;
  if (std::any_of(graph.constants.begin(), graph.constants.end(), is_stream)) features = kTritRansFeature;
  if (!graph.conditions.empty()) features += (features.empty() ? "" : ",") + std::string(kConditionsFeature);
  return features;
}

}  // namespace

Result<AlignedBuffer<uint8_t>> WriteGraph(std::string_view graph_json, Span<const LogicalArray> constants, std::string_view producer,
                                          OpLookup lookup) {
  PQI_ASSIGN_OR_RETURN(ParsedGraph parsed, ParseGraph(graph_json, GraphSource::kDraft));
  Graph& graph = parsed.graph;
  if (constants.size() != graph.constants.size()) {
    return InvalidArgument("expected " + std::to_string(graph.constants.size()) + " constants, got " + std::to_string(constants.size()));
  }
  PQI_RETURN_IF_ERROR(InferShapes(&graph, parsed.shape_given, lookup));
  std::vector<std::vector<uint8_t>> packed(constants.size());
  std::vector<Tensor> tensors;
  for (size_t i = 0; i < constants.size(); ++i) {
    PQI_ASSIGN_OR_RETURN(Tensor tensor, StoreConstant(graph.constants[i], constants[i], &packed[i]));
    tensors.push_back(std::move(tensor));
  }
  return WriteContainer(producer, FeaturesOf(graph), SerializeGraph(graph, ScaleText::kOmit), tensors);
}

}  // namespace pqi
