// Pools and means in plain C++: docs/numerics.md section "Other operations". They compute output pixels [row_begin, row_end) of
// shape.rows() in all channels; y is the whole output.
#pragma once

#include <cstdint>

#include "kernels/contract/output.h"
#include "kernels/shapes.h"

namespace pqi::kernels::reference {

void MaxPoolU8(const PoolShape& s, const uint8_t* x, uint8_t* y, int64_t row_begin, int64_t row_end) noexcept;
void MaxPoolF32(const PoolShape& s, const float* x, float* y, int64_t row_begin, int64_t row_end) noexcept;

// A window of an average: its positions inside the image, and n, by which the sum is divided.
struct PoolBox {
  int64_t image, y0, y1, x0, x1;
  int64_t n;
};

// The window of an output pixel. That of an adaptive pool comes from h, w, out_h and out_w alone.
PoolBox AvgBox(const PoolShape& s, int64_t row) noexcept;
PoolBox AdaptiveBox(const PoolShape& s, int64_t row) noexcept;

// `in` are the input's parameters. The output is as `o` says; its activation must be -inf, +inf.
void AvgPoolU8(const PoolShape& s, const uint8_t* x, const Affine& in, const Output& o, void* y, int64_t row_begin,
               int64_t row_end) noexcept;
void AvgPoolF32(const PoolShape& s, const float* x, const Output& o, void* y, int64_t row_begin, int64_t row_end) noexcept;

// An adaptive pool reads only n, h, w, c, out_h and out_w of the shape. With out_h = out_w = 1 it is the mean over H and W.
void AdaptiveAvgPoolU8(const PoolShape& s, const uint8_t* x, const Affine& in, const Output& o, void* y, int64_t row_begin,
                       int64_t row_end) noexcept;
void AdaptiveAvgPoolF32(const PoolShape& s, const float* x, const Output& o, void* y, int64_t row_begin, int64_t row_end) noexcept;

}  // namespace pqi::kernels::reference
