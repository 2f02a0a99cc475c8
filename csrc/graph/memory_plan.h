// Where every value lives in one arena.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/span.h"
#include "base/status.h"
#include "graph/graph.h"

namespace pqi {

// kNoReuse gives every value memory of its own. Tests use it: where its results differ, the plan with reuse is wrong.
enum class ArenaReuse { kReuse, kNoReuse };

inline constexpr size_t kNotInArena = SIZE_MAX;
inline constexpr size_t kArenaSlack = 64;  // bytes behind the last value, which kernels may read but not write

// Where a value lies that has no memory of its own: `offset` bytes into `owner`, the output of the only node that reads it.
inline constexpr uint32_t kNoOwner = UINT32_MAX;
struct Placement {
  uint32_t owner = kNoOwner;
  size_t offset = 0;
  bool rows = true;  // whether its rows are as far apart as the owner's; else they lie one behind the other
};

struct MemoryPlan {
  std::vector<size_t> value_offset;  // by value id; kNotInArena for inputs of the graph, which lie in the caller's memory
  size_t arena_bytes = 0;            // what to allocate, kArenaSlack included
};

// A value lives from the node that writes it to the last node that reads it; graph outputs live to the end. No two that live at once
// overlap, a node's inputs and outputs included, but for a value with others inside, which lives from the first of these on. Offsets of
// values with memory of their own are multiples of 64. `shapes` is by value id, all fixed; so is `placements`, unless it is empty.
// kInvalidArgument if the sizes do not fit size_t.
Result<MemoryPlan> PlanMemory(const Graph& graph, Span<const ConcreteShape> shapes, Span<const Placement> placements = {},
                              ArenaReuse reuse = ArenaReuse::kReuse);

}  // namespace pqi
