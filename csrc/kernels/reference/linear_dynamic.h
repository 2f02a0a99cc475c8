// linear_dynamic in plain C++: docs/numerics.md section "linear_dynamic", word for word.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/contract/output.h"

namespace pqi::kernels {

// How rows are quantized at run time (docs/numerics.md, "linear_dynamic").
struct RowQuantizer {
  bool symmetric = true;
  int32_t qmin = 0, qmax = 255;
  float eps = 0;
};

namespace reference {

// The range of x and 0: lo = min(0, x...), hi = max(0, x...). NaN takes no part.
void Range(const float* x, size_t n, float* lo, float* hi) noexcept;

// The parameters of a row (or tensor) whose values, with 0, span [lo, hi].
Affine RowParameters(const RowQuantizer& quantizer, float lo, float hi);
// The output that quantizes a row to these parameters (ElementwiseSet::quantize).
Output RowCodes(const RowQuantizer& quantizer, const Affine& row);

struct DynamicLinear {
  int64_t inputs = 1, outputs = 1, groups = 1;
  const int8_t* codes = nullptr;  // [outputs][inputs]
  int32_t step = 1;
  const float* scale = nullptr;   // [outputs][groups]
  const int32_t* base = nullptr;  // [outputs][groups]; nullptr where all are 0
  const float* bias = nullptr;    // [outputs]; nullptr where there is none
};

// Computes the `outputs` results of one row of codes with its parameters, and stores them from element `at` of y on.
void LinearDynamicRow(const DynamicLinear& layer, const uint8_t* q, const Affine& row, const Output& output, void* y, size_t at) noexcept;

}  // namespace reference
}  // namespace pqi::kernels
