// Reductions over any axes in plain C++: docs/numerics.md section "Other operations".
#pragma once

#include <cstdint>

#include "kernels/contract/output.h"

namespace pqi::kernels::reference {

// The kinds of reductions, in the order of docs/format.md.
enum class ReduceFunction : uint8_t { kMean, kSum, kAmax };

// A row-major array whose axes are kept or reduced, each kind in its order; sizes and distances in elements.
struct Reduction {
  ReduceFunction function = ReduceFunction::kMean;
  int kept = 0, reduced = 0;
  int64_t kept_size[8] = {}, kept_stride[8] = {};
  int64_t reduced_size[8] = {}, reduced_stride[8] = {};

  int64_t outputs() const;
  int64_t elements() const;  // how many go into each output
};

// Computes outputs [begin, end); y is the whole output.
void ReduceU8(const Reduction& r, const uint8_t* x, const Affine& in, const Output& o, void* y, int64_t begin, int64_t end) noexcept;
void ReduceF32(const Reduction& r, const float* x, const Output& o, void* y, int64_t begin, int64_t end) noexcept;

}  // namespace pqi::kernels::reference
