// Graph JSON (docs/format.md, section "Graph") to Graph: every rule that needs no knowledge of ops.
#pragma once

#include <string_view>
#include <vector>

#include "base/status.h"
#include "graph/graph.h"

namespace pqi {

inline constexpr const char* kActivationScales = "activation_scales";

// A file gives every value's shape. A draft, on its way into a file, may leave out those of values that nodes write.
enum class GraphSource { kFile, kDraft };

struct ParsedGraph {
  Graph graph;                    // its constants have no bytes yet, its quants no scale
  std::vector<bool> shape_given;  // by value id
};

// Errors are kModelFormat and name the place in the text: "values[3].shape: ...".
Result<ParsedGraph> ParseGraph(std::string_view text, GraphSource source);

// The part of ParseGraph that compares the graph's lists: ids are in range, nodes in topological order, each value has one writer,
// everything is used, names are unique, samples complete.
Status CheckStructure(const Graph& graph);

}  // namespace pqi
