#include "graph/shapes.h"

#include <optional>

#include "base/checked.h"
#include "base/text.h"

namespace pqi {
namespace {

std::string NodeText(const Node& node) { return "node " + Quoted(node.name) + " (" + node.op + ")"; }

// Names the first few of possibly many.
Status UnknownOps(const Graph& graph, OpLookup lookup) {
  constexpr size_t kListed = 50;
  std::string list;
  size_t count = 0;
  for (const Node& node : graph.nodes) {
    if (lookup(node.op) != nullptr) continue;
    if (++count <= kListed) list += (list.empty() ? "" : ", ") + Quoted(node.op) + " (node " + Quoted(node.name) + ")";
  }
  if (count == 0) return {};
  if (count > kListed) list += " and " + std::to_string(count - kListed) + " more";
  return Unsupported("unknown ops: " + list);
}

// Refuses dimensions and sizes above the limits of docs/format.md; dimensions that are not known count as 1.
Status CheckLimits(const Shape& shape, DType dtype, int64_t min_dim, const std::string& where) {
  std::vector<int64_t> dims;
  for (const Dim& dim : shape) {
    if (!dim.fixed()) continue;
    if (dim.value < min_dim || dim.value > kMaxDim) {
      return ModelFormat(where + ": dimension " + std::to_string(dim.value) + " is outside [" + std::to_string(min_dim) + ", 2^31 - 1]");
    }
    dims.push_back(dim.value);
  }
  uint64_t bytes = 0;
  if (CheckedByteSize(dims, DTypeSize(dtype), kMaxValueBytes, &bytes)) return {};
  return ModelFormat(where + ": shape " + DimsText(dims) + " is larger than 2^40 bytes");
}

// Runs the op's infer for one node. `shapes` is by value id.
Status InferNode(const Graph& graph, const Node& node, const OpDef& op, const std::vector<Shape>& shapes, Span<const int64_t> numbers,
                 std::vector<Shape>* outputs) {
  std::vector<Shape> inputs;
  inputs.reserve(node.inputs.size());
  for (uint32_t id : node.inputs) inputs.push_back(shapes[id]);
  outputs->clear();
  PQI_RETURN_IF_ERROR(op.infer({graph, node, numbers}, inputs, outputs));
  if (outputs->size() == node.outputs.size()) return {};
  return Internal(NodeText(node) + ": inferred " + std::to_string(outputs->size()) + " shapes for " + std::to_string(node.outputs.size()) +
                  " outputs");
}

// Whether an inferred concrete shape agrees with the symbolic one. It always does if the op's rule is consistent with itself.
bool Agrees(const Shape& symbolic, const Shape& concrete, Span<const int64_t> numbers) {
  if (symbolic.size() != concrete.size()) return false;
  for (size_t i = 0; i < symbolic.size(); ++i) {
    if (!concrete[i].fixed()) return false;
    const Dim& dim = symbolic[i];
    if (dim.fixed() && dim.value != concrete[i].value) return false;
    if (dim.kind == Dim::kSymbol && numbers[static_cast<size_t>(dim.value)] != concrete[i].value) return false;
  }
  return true;
}

// Gives each symbol of an input's shape the number that it has in `got`.
Status BindInput(const Graph& graph, const Port& input, const ConcreteShape& got, std::vector<std::optional<int64_t>>* symbols) {
  const Shape& expected = graph.values[input.value].shape;
  const std::string where = "input " + Quoted(input.name) + ": expected shape " + ShapeText(graph, expected) + ", got " + DimsText(got);
  if (got.size() != expected.size()) return InvalidArgument(where);
  for (size_t i = 0; i < got.size(); ++i) {
    if (got[i] < 0 || got[i] > kMaxDim) return InvalidArgument(where);
    if (expected[i].fixed() && expected[i].value != got[i]) return InvalidArgument(where);
    if (expected[i].kind != Dim::kSymbol) continue;
    std::optional<int64_t>& number = (*symbols)[static_cast<size_t>(expected[i].value)];
    if (number && *number != got[i]) {
      return InvalidArgument(where + ", but " + Quoted(graph.symbols[static_cast<size_t>(expected[i].value)]) + " is " +
                             std::to_string(*number) + " elsewhere in the inputs");
    }
    number = got[i];
  }
  return {};
}

Shape FixedShape(const ConcreteShape& dims) {
  Shape shape;
  for (int64_t d : dims) shape.push_back(Dim::Fixed(d));
  return shape;
}

// To the caller of a session every failure of a shape rule is about the shapes he passed.
Status AsCallersFault(const Status& status) { return status.code() == Code::kModelFormat ? InvalidArgument(status.message()) : status; }

}  // namespace

std::string ShapeText(const Graph& graph, const Shape& shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i != 0) out += ", ";
    switch (shape[i].kind) {
      case Dim::kFixed:
        out += std::to_string(shape[i].value);
        break;
      case Dim::kSymbol:
        out += graph.symbols[static_cast<size_t>(shape[i].value)];
        break;
      case Dim::kDerived:
        out += "?";
        break;
    }
  }
  return out + "]";
}

Status InferShapes(Graph* graph, const std::vector<bool>& shape_given, OpLookup lookup) {
  PQI_RETURN_IF_ERROR(UnknownOps(*graph, lookup));
  std::vector<Shape> shapes(graph->values.size());
  for (const Port& input : graph->inputs) {
    const Value& value = graph->values[input.value];
    PQI_RETURN_IF_ERROR(CheckLimits(value.shape, value.dtype, 0, "input " + Quoted(input.name)));
    shapes[input.value] = value.shape;
  }
  std::vector<Shape> outputs;
  for (const Node& node : graph->nodes) {
    const OpDef& op = *lookup(node.op);
    PQI_RETURN_IF_ERROR(op.check({*graph, node}));
    PQI_RETURN_IF_ERROR(InferNode(*graph, node, op, shapes, {}, &outputs));
    for (size_t i = 0; i < outputs.size(); ++i) {
      const uint32_t id = node.outputs[i];
      Value& value = graph->values[id];
      PQI_RETURN_IF_ERROR(CheckLimits(outputs[i], value.dtype, 1, NodeText(node)));
      if (shape_given[id] && value.shape != outputs[i]) {
        return ModelFormat(NodeText(node) + ": output " + std::to_string(i) + " has shape " + ShapeText(*graph, outputs[i]) + ", but " +
                           ShapeText(*graph, value.shape) + " is stored");
      }
      shapes[id] = outputs[i];
      value.shape = std::move(outputs[i]);
    }
  }
  return {};
}

Result<std::vector<int64_t>> BindNumbers(const Graph& graph, Span<const ConcreteShape> input_shapes) {
  if (input_shapes.size() != graph.inputs.size()) {
    return InvalidArgument("expected " + std::to_string(graph.inputs.size()) + " inputs, got " + std::to_string(input_shapes.size()));
  }
  std::vector<std::optional<int64_t>> symbols(graph.symbols.size());
  for (size_t i = 0; i < input_shapes.size(); ++i) PQI_RETURN_IF_ERROR(BindInput(graph, graph.inputs[i], input_shapes[i], &symbols));
  std::vector<int64_t> numbers;
  for (const std::optional<int64_t>& number : symbols) numbers.push_back(number.value_or(0));
  PQI_RETURN_IF_ERROR(CheckConditions(graph.conditions, graph.symbols, numbers));
  std::vector<int64_t> sizes;
  PQI_RETURN_IF_ERROR(EvaluateSizes(graph.sizes, graph.symbols, numbers, kMaxDim, &sizes));
  numbers.insert(numbers.end(), sizes.begin(), sizes.end());
  return numbers;
}

Result<std::vector<ConcreteShape>> InferConcreteShapes(const Graph& graph, OpLookup lookup, Span<const ConcreteShape> input_shapes) {
  PQI_ASSIGN_OR_RETURN(const std::vector<int64_t> numbers, BindNumbers(graph, input_shapes));
  return InferConcreteShapes(graph, lookup, input_shapes, numbers);
}

Result<std::vector<ConcreteShape>> InferConcreteShapes(const Graph& graph, OpLookup lookup, Span<const ConcreteShape> input_shapes,
                                                       Span<const int64_t> numbers) {
  std::vector<Shape> shapes(graph.values.size());
  for (size_t i = 0; i < input_shapes.size(); ++i) {
    const Port& input = graph.inputs[i];
    shapes[input.value] = FixedShape(input_shapes[i]);
    PQI_RETURN_IF_ERROR(
        AsCallersFault(CheckLimits(shapes[input.value], graph.values[input.value].dtype, 0, "input " + Quoted(input.name))));
  }
  std::vector<Shape> outputs;
  for (const Node& node : graph.nodes) {
    PQI_RETURN_IF_ERROR(AsCallersFault(InferNode(graph, node, *lookup(node.op), shapes, numbers, &outputs)));
    for (size_t i = 0; i < outputs.size(); ++i) {
      const Value& value = graph.values[node.outputs[i]];
      PQI_RETURN_IF_ERROR(AsCallersFault(CheckLimits(outputs[i], value.dtype, 0, NodeText(node))));
      if (!Agrees(value.shape, outputs[i], numbers)) {
        return Internal(NodeText(node) + ": shape " + ShapeText(graph, outputs[i]) + " contradicts " + ShapeText(graph, value.shape));
      }
      shapes[node.outputs[i]] = std::move(outputs[i]);
    }
  }
  std::vector<ConcreteShape> concrete(shapes.size());
  for (size_t id = 0; id < shapes.size(); ++id) {
    for (const Dim& dim : shapes[id]) concrete[id].push_back(dim.value);
  }
  return concrete;
}

}  // namespace pqi
