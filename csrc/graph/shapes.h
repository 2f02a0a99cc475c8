// Shape inference over a whole graph.
#pragma once

#include <string>
#include <vector>

#include "base/span.h"
#include "base/status.h"
#include "graph/graph.h"
#include "graph/op_def.h"

namespace pqi {

inline constexpr int64_t kMaxDim = (int64_t{1} << 31) - 1;
inline constexpr size_t kMaxRank = 8;
inline constexpr uint64_t kMaxValueBytes = uint64_t{1} << 40;

// A shape for messages: "[N, 3, ?, 224]".
std::string ShapeText(const Graph& graph, const Shape& shape);

// Checks each node and infers its output's shape, then compares that with the value's shape where shape_given, else fills it in.
// kUnsupported lists every node whose op is unknown; other errors are kModelFormat and name the node.
Status InferShapes(Graph* graph, const std::vector<bool>& shape_given, OpLookup lookup);

// Gives the numbers of the graph's symbols and then of its sizes for shapes of the graph's inputs in the order of graph.inputs. A symbol
// stands for one number throughout. kInvalidArgument names the input, what was expected and what came, or the condition that fails.
Result<std::vector<int64_t>> BindNumbers(const Graph& graph, Span<const ConcreteShape> input_shapes);

// Gives the concrete shape of every value, by value id, for shapes of the graph's inputs and the numbers that they give (BindNumbers).
// kInvalidArgument names what does not fit.
Result<std::vector<ConcreteShape>> InferConcreteShapes(const Graph& graph, OpLookup lookup, Span<const ConcreteShape> input_shapes,
                                                       Span<const int64_t> numbers);
Result<std::vector<ConcreteShape>> InferConcreteShapes(const Graph& graph, OpLookup lookup, Span<const ConcreteShape> input_shapes);

}  // namespace pqi
