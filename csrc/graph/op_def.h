// What the graph layer needs to know of an op. csrc/ops fills one OpDef per op; nothing here knows any op by name.
#pragma once

#include <string>
#include <vector>

#include "base/span.h"
#include "base/status.h"
#include "graph/graph.h"

namespace pqi {

// Everything an op's checks may look at for one node.
struct NodeView {
  const Graph& graph;
  const Node& node;
  Span<const int64_t> numbers = {};  // of the graph's symbols and then of its sizes, while a session infers shapes; empty before

  const Value& input(size_t i) const { return graph.values[node.inputs[i]]; }
  // Gives the dimension that a symbol or a size of this index (IndexOfName) is: its number where that is known.
  Dim DimOfIndex(size_t index) const {
    if (!numbers.empty()) return Dim::Fixed(numbers[index]);
    return index < graph.symbols.size() ? Dim::Symbol(static_cast<int64_t>(index)) : Dim::Derived();
  }
  const Value& output(size_t i) const { return graph.values[node.outputs[i]]; }
  bool has_constant(const char* key) const { return node.constants.count(key) != 0; }
  const Constant* constant(const char* key) const {  // nullptr where the node has none
    auto it = node.constants.find(key);
    return it == node.constants.end() ? nullptr : &graph.constants[it->second];
  }
};

struct OpDef {
  const char* name;
  // Holds a node to its row in docs/format.md: arity, constants (names, types, shapes), attributes (names, ranges), dtypes and quants of
  // every input and output. May assume valid ids, and input shapes that infer has given. Shapes of outputs are not known yet: infer comes
  // next, node by node. Errors are kModelFormat and name the node.
  Status (*check)(const NodeView& view);
  // Gives output shapes for input shapes. With fixed dims only it must give fixed dims (that is how a session plans);
  // with symbols it keeps a symbol where the dimension is provably unchanged and gives "?" otherwise.
  // Errors are kModelFormat at load, and become kInvalidArgument when a session infers from the caller's shapes.
  Status (*infer)(const NodeView& view, const std::vector<Shape>& inputs, std::vector<Shape>* outputs);
  // Proves what only the contents of constants show: accumulator bounds, table ranges, scale products. May assume that every node's check
  // and infer have passed and that contents are valid (floats finite, codes unpack). May be null.
  Status (*prove)(const NodeView& view);
};

// Looks an op up by name; nullptr if unknown. Implemented by csrc/ops, handed to the graph layer as a function.
using OpLookup = const OpDef* (*)(const std::string& name);

}  // namespace pqi
