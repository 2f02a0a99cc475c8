// The places of one run's values: in the arena, in the caller's memory, or inside another value.
#pragma once

#include <cstdint>
#include <vector>

#include "base/aligned.h"
#include "base/span.h"
#include "ops/op.h"
#include "runtime/run_plan.h"

namespace pqi {

// Kept from run to run, because binding what was bound before allocates nothing.
class Binding {
 public:
  // `inputs` and `targets` as in Session::Run, checked; `arena` has plan.memory.arena_bytes. A node writes straight into the caller's
  // memory where that is aligned. Inputs for which `copied` holds are read from copies. A view (runtime/views.h) that the caller asks for
  // is then none in this run.
  void Bind(const Graph& graph, const RunPlan& plan, uint8_t* arena, Span<const void* const> inputs, Span<const Target> targets,
            Span<const uint8_t> copied);
  // Copies values to the targets that nodes have not written themselves.
  void CopyOut(const Graph& graph, const RunPlan& plan, Span<const Target> targets) const;

  void* data(uint32_t value) const { return data_[value]; }
  // Distance in elements from one row (the last dimension) of a value that a node writes to the next.
  int64_t stride(uint32_t value) const { return stride_[value]; }

 private:
  // Aligned copies of the caller's memory, one per array.
  using Staging = std::vector<AlignedBuffer<uint8_t>>;

  std::vector<void*> data_;      // by value id
  std::vector<int64_t> stride_;  // by value id
  Staging inputs_, targets_;     // used for arrays that are misaligned or `copied`
};

}  // namespace pqi
