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

// Gives for each node a bit for each of its joint's inputs (ops/op.h) that is a view. Such a value is written by a node, read once, and no
// output of the graph; its rows are evenly spaced in the joint's output, whose owner may be another joint. The graph alone decides,
// whatever the shapes to come.
std::vector<uint64_t> FindViews(const Graph& graph, Span<const std::unique_ptr<ops::Step>> steps);

// Gives for each value where it lies, if it is a view. `steps` and `views` have an entry per node, `shapes` one per value.
std::vector<Placement> PlaceViews(const Graph& graph, Span<const std::unique_ptr<ops::Step>> steps, Span<const uint64_t> views,
                                  Span<const ConcreteShape> shapes);

}  // namespace pqi
