// Products of two matrices that are both known only at run time: the right one is packed, a panel at a time, into a thread's scratch
// memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/contract/output.h"
#include "kernels/kernel_set.h"
#include "kernels/reference/matmul.h"

namespace pqi::linear {

// A product of codes runs as a layer whose weights are asymmetric: code = q_b - 128, base = 128 - z_b (docs/numerics.md).
struct MatmulU8 {
  kernels::MatrixShape shape;
  const uint8_t* a = nullptr;
  const uint8_t* b = nullptr;
  int32_t zero_a = 0, zero_b = 0;
  float scale = 1;  // f32(s_a * s_b)
  kernels::Output output;
  void* y = nullptr;
};

struct MatmulF32 {
  kernels::MatrixShape shape;
  const float* a = nullptr;
  const float* b = nullptr;
  float* y = nullptr;
};

// Columns are computed in panels as wide as the kernels are; the reference set has one panel.
int64_t MatmulPanels(const kernels::KernelSet& set, bool integer, int64_t n);
// Scratch memory of one thread in bytes, a multiple of 64.
size_t MatmulScratchBytes(const kernels::KernelSet& set, bool integer, const kernels::MatrixShape& shape);

// Rows [begin, end) of one panel of the output. `scratch` is 64-byte aligned.
void RunMatmul(const kernels::KernelSet& set, const MatmulU8& run, int64_t panel, int64_t begin, int64_t end, void* scratch) noexcept;
void RunMatmul(const kernels::KernelSet& set, const MatmulF32& run, int64_t panel, int64_t begin, int64_t end, void* scratch) noexcept;

}  // namespace pqi::linear
