// The tile contract: the one interface between the engine and the kernels that multiply.
//
// A tile kernel computes m output rows (pixels) by n <= nr output channels. Row i of the left operand is `taps` pieces of k elements,
// piece t at a[t*m + i]: a conv reads its input through these pointers (taps = kh*kw, k = channels of the group), a linear layer has
// taps = 1. Where the pieces of all rows are `tap_step` elements apart, a list of m pointers serves all taps: piece t at
// a[i] + t*tap_step; 0 says that the list has them all. There is no im2col. Kernels are stateless, allocate nothing, and read and write
// exactly the elements named here: the pieces, the packed panel, the nr (or m) elements of each parameter array, residual[i*stride + j]
// and out[i*out_stride + j] for i < m, j < n. Only the panel and the parameter arrays need to be aligned.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/contract/output.h"

namespace pqi::kernels {

inline constexpr int kMaxMr = 16;

struct TileShape {
  int mr = 0, nr = 0, kr = 0;  // rows at most, channels of a panel, k-values of a panel block
};

// For rows that were quantized at run time, each with its own parameters, and weights with a scale per group of k-values: one call per
// group. acc = step * (sum((q - offset) * code) + code_sum[j] * shift[i]) + base[j] * box[i], wrapping until it is complete; the offset is
// KernelSet::u8s8_offset.
struct DynamicRows {
  const float* scale;       // [m] s of each row
  const int32_t* shift;     // [m] offset - z of each row
  const int32_t* code_sum;  // [nr] sum(code) of these k-values
  // [m * nr] sum over the groups so far: the kernel's own order; only the last call writes `out`. nullptr: one group.
  float* partial;
  bool first, last;
};

// u8 activations x s8 codes. Panel: for each tap, for each block of kr k-values, nr channels x kr bytes. Where kr does not divide k, the
// last block holds the last kr values of the row, and 0 for those that the block before it has already; with k < kr it holds k values and
// zeros.
struct TileU8S8 {
  const uint8_t* const* a;  // [taps][m], or [m] with a tap_step
  size_t tap_step;          // 0 for inner-product and deferred kernels
  uint32_t taps, k, n;
  const int8_t* w;      // the panel, 64-byte aligned
  const int32_t* init;  // [nr] (offset - z_a) * sum(code), wrap-around; the offset is KernelSet::u8s8_offset
  const float* scale;   // [nr] f32(s_a * s_w)
  const float* bias;    // [nr]; nullptr = none
  int32_t step;         // 1 or 2
  const int32_t* base;  // [nr]; nullptr = all 0
  const int32_t* box;   // [m] sum(q_a - z_a) of each row; read only where base is not null
  Residual residual;
  Output output;
  void* out;
  size_t out_stride;  // elements
  // nullptr: one scale and zero point for all rows. Else `init` is 0, `scale` is that of the weights alone, and there is no residual.
  const DynamicRows* rows;
  const int32_t* row;  // [m] added to each row's sums: the inner-product kernels' row terms; not read by others
  uint32_t depth;      // of the deferred kernels; not read by others
  // Where a later call reads, or nullptr: a hint to the cache, nothing is read there. 64 bytes for every kr k-values.
  const int8_t* ahead;
};

// The sums of a tile without what follows them: sums[i*nr + j] = init[j] + row[i] + sum of a*w, i < m, j < nr, all exact modulo 2^32.
// Fields as in TileU8S8.
struct ProductU8S8 {
  const uint8_t* const* a;
  size_t a_offset;  // bytes from these pointers to the rows: calls for several positions of a tile share the pointers
  uint32_t taps, k;
  const int8_t* w;
  const int32_t* init;
  const int32_t* row;
  uint32_t depth;
  int32_t* sums;
  const int8_t* ahead;  // as in TileU8S8, but never nullptr: a call that asks for nothing new has its own panel here
};

// The same tile where the products of two neighbouring k-values are added in 16 bits first (vpmaddubsw), which is exact while the positive
// codes of a pair sum to at most kPairLimit, and the negative ones to at least -kPairLimit: 255 * 128 fits. The packer splits larger pairs
// and puts what remains of them into extra blocks, nr / 2 channels x 4 codes each, that meet the four activations at a[tap * m + i] + k
// again.
inline constexpr int kPairLimit = 128;
struct TileExtra {
  uint32_t tap, k;
};
struct TileU8S8Pairs {
  TileU8S8 tile;           // k >= 4
  const TileExtra* extra;  // those of the panel's first nr / 2 channels, then those of the others
  const int8_t* extra_w;   // aligned to a vector
  uint32_t extras[2];      // of either half
};

// f32 x f32: one fma chain per output in ascending (tap, k) order. Panel: for each tap, for each k, nr floats.
struct TileF32 {
  const float* const* a;  // [taps][m], or [m] with a tap_step
  size_t tap_step;
  uint32_t taps, k, n;
  const float* w;
  const float* bias;  // [nr]; nullptr = none
  Residual residual;  // f32 only
  float act_lo, act_hi;
  float* out;
  size_t out_stride;
};

using TileU8S8Fn = void (*)(const TileU8S8&) noexcept;
using TileU8S8PairsFn = void (*)(const TileU8S8Pairs&) noexcept;
using TileF32Fn = void (*)(const TileF32&) noexcept;
using ProductU8S8Fn = void (*)(const ProductU8S8&) noexcept;

// A way to multiply u8 by s8, each exact under its own condition (csrc/conv/exact.h). Entry [i] is for i + 1 rows; shape.mr = 0: the ISA
// has none. Panels lie as in TileU8S8.
//   dot            any codes
//   inner product  the panel holds shifted codes (pack/low_bit.h), sums get row terms; k a multiple of 8
//   deferred       `depth` blocks of four k-values are added in 16 bits before they are widened
struct U8S8Kernels {
  TileShape shape;
  TileU8S8Fn tile[kMaxMr];
  ProductU8S8Fn product[kMaxMr];
};

// Entry [i] of a tile array computes m = i + 1 rows; entries up to shape.mr - 1 are set.
struct TileSet {
  TileShape u8s8;
  int32_t u8s8_offset;  // what the product subtracts from activations: 128 where it only multiplies signed bytes, else 0
  // Around u8s8 tiles on one thread, where not null: machine state that they need and other code does not (TileScope).
  void (*begin_tiles)() noexcept;
  void (*end_tiles)() noexcept;
  TileU8S8Fn u8s8_tile[kMaxMr];
  U8S8Kernels u8s8_dot;  // its tiles are u8s8_tile
  int u8s8_pairs_mr;     // rows at most of the next; 0 where u8s8_tile is the faster one and the next are null
  TileU8S8PairsFn u8s8_pairs_tile[kMaxMr];
  TileShape f32;
  TileF32Fn f32_tile[kMaxMr];
};

}  // namespace pqi::kernels
