// conv2d and linear in plain C++: docs/numerics.md sections "conv2d and linear, integer" and "float", word for word. Every other
// kernel is compared with it, and on ISA "reference" it is the whole engine.
#pragma once

#include <cstdint>

#include "kernels/contract/output.h"
#include "kernels/shapes.h"

namespace pqi::kernels::reference {

struct ConvU8 {
  ConvShape shape;
  const uint8_t* x = nullptr;     // [n][h][w][c]
  int32_t zero_point = 0;         // z_a
  const int8_t* codes = nullptr;  // [oc][kh][kw][c/groups]
  int32_t step = 1;
  const int32_t* base = nullptr;  // [oc]; nullptr where all are 0
  const float* scale = nullptr;   // [oc] f32(s_a * s_w[c])
  const float* bias = nullptr;    // [oc]; nullptr where there is none
  Residual residual;
  Output output;
  void* y = nullptr;    // [rows][oc]
  size_t y_stride = 0;  // elements between rows
};

struct ConvF32 {
  ConvShape shape;
  const float* x = nullptr;
  const float* weights = nullptr;  // [oc][kh][kw][c/groups]
  const float* bias = nullptr;
  Residual residual;  // f32 only
  float act_lo = 0, act_hi = 0;
  float* y = nullptr;
  size_t y_stride = 0;
};

// Computes output pixels [row_begin, row_end) of shape.rows() in all channels.
void Conv2dU8(const ConvU8& conv, int64_t row_begin, int64_t row_end) noexcept;
void Conv2dF32(const ConvF32& conv, int64_t row_begin, int64_t row_end) noexcept;

}  // namespace pqi::kernels::reference
