// Views: values that the node before a concat writes into the concat's output, where it would be copied otherwise.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/span.h"
#include "graph/graph.h"
#include "graph/memory_plan.h"
#include "ops/op.h"

namespace pqi {

// By node: those of its joint's inputs (ops/op.h) that are views. Such a value is written by a node, read once, and no output of the graph;
// its rows are evenly spaced in the joint's output, whose owner may be another joint. The graph alone decides, whatever the shapes to come.
std::vector<uint64_t> FindViews(const Graph& graph, Span<const std::unique_ptr<ops::Step>> steps);

// Where these views lie, by value. `steps` and `views` are by node, `shapes` by value.
std::vector<Placement> PlaceViews(const Graph& graph, Span<const std::unique_ptr<ops::Step>> steps, Span<const uint64_t> views,
                                  Span<const ConcreteShape> shapes);

}  // namespace pqi
