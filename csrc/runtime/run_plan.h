// What a run needs to know besides the graph: shapes, memory, and where the caller wants values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "graph/graph.h"
#include "graph/memory_plan.h"

namespace pqi {

// Everything that depends on the input shapes and not on their contents.
struct RunPlan {
  std::vector<ConcreteShape> inputs;  // in the order of the graph's inputs
  std::vector<int64_t> numbers;       // of the graph's symbols and then of its sizes
  std::vector<ConcreteShape> shapes;  // by value id
  std::vector<Placement> placements;  // by value id (runtime/views.h)
  MemoryPlan memory;
  size_t scratch_stride = 0, scratch_bytes = 0;  // scratch memory of one thread, and of all of them

  size_t ValueBytes(const Graph& graph, uint32_t value) const {
    size_t n = DTypeSize(graph.values[value].dtype);
    for (int64_t d : shapes[value]) n *= static_cast<size_t>(d);
    return n;  // proved small when the shapes were inferred
  }
};

// A place in the caller's memory for a value of the graph: `data` holds as many elements as the plan's shape says.
struct Target {
  uint32_t value = 0;
  void* data = nullptr;
};

}  // namespace pqi
