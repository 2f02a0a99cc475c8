// Pools and means in plain C++: docs/numerics.md section "Other operations". All work on output pixels [row_begin, row_end) of
// shape.rows(), all channels; y is the whole output.
#pragma once

#include <cstdint>

#include "kernels/contract/output.h"
#include "kernels/shapes.h"

namespace pqi::kernels::reference {

void MaxPoolU8(const PoolShape& s, const uint8_t* x, uint8_t* y, int64_t row_begin, int64_t row_end) noexcept;
void MaxPoolF32(const PoolShape& s, const float* x, float* y, int64_t row_begin, int64_t row_end) noexcept;

// `in` are the input's parameters; the output goes through `o` (no activation is applied: give -inf, +inf).
void AvgPoolU8(const PoolShape& s, const uint8_t* x, const Affine& in, const Output& o, void* y, int64_t row_begin,
               int64_t row_end) noexcept;
void AvgPoolF32(const PoolShape& s, const float* x, const Output& o, void* y, int64_t row_begin, int64_t row_end) noexcept;

// Only n, h, w, c, out_h, out_w of the shape are read. The mean over H and W is out_h = out_w = 1.
void AdaptiveAvgPoolU8(const PoolShape& s, const uint8_t* x, const Affine& in, const Output& o, void* y, int64_t row_begin,
                       int64_t row_end) noexcept;
void AdaptiveAvgPoolF32(const PoolShape& s, const float* x, const Output& o, void* y, int64_t row_begin, int64_t row_end) noexcept;

}  // namespace pqi::kernels::reference
