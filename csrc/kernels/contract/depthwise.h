// Depthwise convolutions.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/contract/output.h"

namespace pqi::kernels {

// One output pixel of a depthwise conv (groups = channels = outputs): channel j of tap t is a[t][j]. Arrays are padded with zeros to a
// multiple of kDepthwisePad channels.
inline constexpr int kDepthwisePad = 16;
struct DepthwiseU8S8 {
  const uint8_t* const* a;  // [taps]
  uint32_t taps, n;         // n channels
  const int8_t* w;          // [taps][padded n]
  const int32_t* init;      // -z_a * sum(code); this and the next three [padded n], otherwise as in TileU8S8
  const float* scale;
  const float* bias;
  const int32_t* base;
  int32_t step;
  int32_t zero_point;  // z_a; read only where base is not null
  Residual residual;   // of this pixel: stride is not read
  Output output;
  void* out;
};
// A band of output pixels of a depthwise conv with a window of K x K, K = 3 or 5: `rows` pieces of image rows, each of m pixels, neighbours
// in y. Row r lies under lines (pieces of image rows) r * row_lines + 0..K-1, pixel p of it under their columns p * stride + 0..K-1.
// Columns begin..end - 1 of line l lie one behind the other from line[l] on, n bytes each; those before and behind them are `padding`. A
// line outside the image is a line of padding. Codes only: no base, no residual, step 1. Arrays as in DepthwiseU8S8.
struct DepthwiseColumnsU8S8 {
  uint32_t taps;  // K * K
  const uint8_t* const* line;
  const uint8_t* padding;  // [n]
  uint32_t begin, end;
  uint32_t row_lines;  // 1 to K. 1: rows are computed in pairs where that pays
  uint32_t rows, m, n;
  uint32_t stride;  // columns between output pixels: 1 or 2
  const int8_t* w;  // [taps][padded n]
  const int32_t* init;
  const float* scale;
  const float* bias;
  Output output;
  uint8_t* out;       // [rows][m] pixels
  size_t out_stride;  // elements between them
};
struct DepthwiseF32 {
  const float* const* a;
  uint32_t taps, n;
  const float* w;
  const float* bias;
  Residual residual;
  float act_lo, act_hi;
  float* out;
};

struct DepthwiseSet {
  void (*u8s8_depthwise)(const DepthwiseU8S8&) noexcept;
  void (*u8s8_depthwise_columns)(const DepthwiseColumnsU8S8&) noexcept;
  void (*f32_depthwise)(const DepthwiseF32&) noexcept;
};

}  // namespace pqi::kernels
