// Depthwise convolutions, whose groups are single channels. Parameter arrays are padded with zeros to a multiple of kDepthwisePad channels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/contract/output.h"

namespace pqi::kernels {

inline constexpr int kDepthwisePad = 16;

// One output pixel in all n channels: channel j of tap t is a[t][j].
struct DepthwiseU8S8 {
  const uint8_t* const* a;  // [taps]
  uint32_t taps, n;
  const int8_t* w;      // [taps][padded n]
  const int32_t* init;  // [padded n] -z_a * sum(code)
  const float* scale;   // [padded n] f32(s_a * s_w)
  const float* bias;    // [padded n]; nullptr where there is none
  const int32_t* base;  // [padded n]; nullptr where all are 0
  int32_t step;         // 1 or 2
  int32_t zero_point;   // z_a; read only where base is not null
  Residual residual;    // the residual of this pixel: stride is not read
  Output output;
  void* out;
};

// A band of output pixels for a window of K x K, K = 3 or 5: `rows` pieces, of m pixels each, of image rows that are neighbours in y. Lines
// are pieces of rows of the input. Row r lies under lines r * row_lines + 0..K-1, and its pixel p under their columns p * stride + 0..K-1.
// Columns begin..end - 1 of line l lie one behind the other from line[l] on, n bytes each; the columns before and behind them are
// `padding`. A line outside the image is a line of padding. The output is codes, and there are no base, no residual and no step of 2.
struct DepthwiseColumnsU8S8 {
  uint32_t taps;  // K * K
  const uint8_t* const* line;
  const uint8_t* padding;  // [n]
  uint32_t begin, end;
  uint32_t row_lines;  // lines from row to row: 1 to K. With 1, rows are computed in pairs where that pays
  uint32_t rows, m, n;
  uint32_t stride;      // columns from pixel to pixel: 1 or 2
  const int8_t* w;      // [taps][padded n]
  const int32_t* init;  // parameters as in DepthwiseU8S8
  const float* scale;
  const float* bias;
  Output output;
  uint8_t* out;       // [rows][m] pixels
  size_t out_stride;  // elements from pixel to pixel
};

// One output pixel of floats, as in DepthwiseU8S8.
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
