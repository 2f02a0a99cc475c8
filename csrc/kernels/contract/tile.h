// The tile contract: the one interface between the engine and the kernels that multiply.
//
// A tile kernel computes m output rows (pixels) by n <= nr output channels. Row i of the left operand consists of `taps` pieces of k
// elements each, and piece t begins at a[t*m + i]: a convolution reads its input through these pointers (taps = kh*kw, k = channels of the
// group), a linear layer has taps = 1. Where the pieces of every row are `tap_step` elements apart, a list of m pointers serves all taps,
// and piece t begins at a[i] + t*tap_step; a tap_step of 0 says that the list has all pieces. There is no im2col.
//
// Kernels are stateless, allocate nothing, and read and write exactly the elements named here: the pieces, the packed panel, the nr (or m)
// elements of each parameter array, residual[i*stride + j] and out[i*out_stride + j] for i < m, j < n. Only the panel and the parameter
// arrays need to be aligned.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/contract/output.h"

namespace pqi::kernels {

inline constexpr int kMaxMr = 16;  // rows of the tallest tile of all ISAs

struct TileShape {
  int mr = 0, nr = 0, kr = 0;  // most rows, channels of a panel, k-values of a block of the panel
};

// What a tile needs besides where rows were quantized at run time, each with its own parameters, and weights have a scale per group of
// k-values. There is one call per group: acc = step * (sum((q - offset) * code) + code_sum[j] * shift[i]) + base[j] * box[i], which may
// wrap until it is complete. The offset is TileSet::u8s8_offset.
struct DynamicRows {
  const float* scale;       // [m] s of each row
  const int32_t* shift;     // [m] offset - z of each row
  const int32_t* code_sum;  // [nr] sum(code) of this group's k-values
  // [m * nr] floats that hold the sums over the groups so far, in an order of the kernel's own; only the last call writes `out`. nullptr
  // where there is one group.
  float* partial;
  bool first, last;  // whether this call is for the first or the last group
};

// A tile of u8 activations times s8 codes. The panel holds, for each tap and each block of kr k-values, nr channels x kr bytes. Where kr
// does not divide k, the last block holds the last kr values of the row, and 0 for those that the block before it has already. With k < kr
// it holds k values and then zeros.
struct TileU8S8 {
  const uint8_t* const* a;  // [taps][m], or [m] with a tap_step
  size_t tap_step;          // 0 for inner-product and deferred kernels
  uint32_t taps, k, n;
  const int8_t* w;      // the panel, 64-byte aligned
  const int32_t* init;  // [nr] (offset - z_a) * sum(code), wrapped; the offset is TileSet::u8s8_offset
  const float* scale;   // [nr] f32(s_a * s_w)
  const float* bias;    // [nr]; nullptr where there is none
  int32_t step;         // 1 or 2
  const int32_t* base;  // [nr]; nullptr where all are 0
  const int32_t* box;   // [m] sum(q_a - z_a) of each row; read only where base is not null
  Residual residual;
  Output output;
  void* out;
  size_t out_stride;  // elements between rows
  // Not null where rows have parameters of their own. Then `init` is 0, `scale` is that of the weights alone, and there is no residual.
  const DynamicRows* rows;
  const int32_t* row;  // [m] added to each row's sums; only inner-product kernels read it, it holds their row terms
  uint32_t depth;      // only deferred kernels read it
  // The weights that a later call reads: a hint to the cache for 64 bytes with every kr k-values, at which nothing is read. nullptr for no
  // hint.
  const int8_t* ahead;
};

// The sums of a tile without its epilogue: sums[i*nr + j] = init[j] + row[i] + sum of a*w for i < m and j < nr, exact modulo 2^32. Fields
// mean what they mean in TileU8S8.
struct ProductU8S8 {
  const uint8_t* const* a;
  size_t a_offset;  // bytes from these pointers to the rows, so that calls for several positions of a Winograd tile share the pointers
  uint32_t taps, k;
  const int8_t* w;
  const int32_t* init;
  const int32_t* row;
  uint32_t depth;
  int32_t* sums;
  const int8_t* ahead;  // never nullptr: a call that asks for nothing new has its own panel here
};

// A tile of u8 x s8 in which the products of two neighbouring k-values are added in 16 bits first (vpmaddubsw). That is exact while the
// positive codes of a pair sum to at most kPairLimit, and the negative ones to at least -kPairLimit, because 255 * 128 fits. The packer
// splits larger pairs and puts what remains of them into extra blocks of nr / 2 channels x 4 codes, which meet the four activations at
// a[tap * m + i] + k again.
inline constexpr int kPairLimit = 128;
struct TileExtra {
  uint32_t tap, k;
};
struct TileU8S8Pairs {
  TileU8S8 tile;           // k >= 4
  const TileExtra* extra;  // the extra blocks of the panel's first nr / 2 channels, then those of the others
  const int8_t* extra_w;   // their codes, aligned to a vector
  uint32_t extras[2];      // how many blocks either half has
};

// A tile of f32 x f32: one chain of fma per output, in ascending (tap, k) order. The panel holds nr floats for each tap and each k.
struct TileF32 {
  const float* const* a;  // [taps][m], or [m] with a tap_step
  size_t tap_step;
  uint32_t taps, k, n;
  const float* w;
  const float* bias;     // [nr]; nullptr where there is none
  Residual residual;     // f32 only
  float act_lo, act_hi;  // bounds of the activation, as in Output
  float* out;
  size_t out_stride;  // elements between rows
};

using TileU8S8Fn = void (*)(const TileU8S8&) noexcept;
using TileU8S8PairsFn = void (*)(const TileU8S8Pairs&) noexcept;
using TileF32Fn = void (*)(const TileF32&) noexcept;
using ProductU8S8Fn = void (*)(const ProductU8S8&) noexcept;

// One way to multiply u8 by s8. Each is exact under its own condition (csrc/conv/exact.h), and panels lie as in TileU8S8:
//   dot            exact for any codes
//   inner product  the panel holds shifted codes (pack/low_bit.h), sums get row terms, and k is a multiple of 8
//   deferred       `depth` blocks of four k-values are added in 16 bits before they are widened
struct U8S8Kernels {
  TileShape shape;          // mr = 0: the ISA has no such kernels
  TileU8S8Fn tile[kMaxMr];  // entry [i] is for i + 1 rows
  ProductU8S8Fn product[kMaxMr];
};

// The tiles of an ISA. Entry [i] of an array computes m = i + 1 rows; the entries up to the shape's mr are set.
struct TileSet {
  TileShape u8s8;
  int32_t u8s8_offset;  // what the product subtracts from activations: 128 where it only multiplies signed bytes, else 0
  // Called around u8s8 tiles on one thread where they are not null: they set up machine state that the tiles need and other code does not
  // (TileScope).
  void (*begin_tiles)() noexcept;
  void (*end_tiles)() noexcept;
  TileU8S8Fn u8s8_tile[kMaxMr];
  U8S8Kernels u8s8_dot;  // holds u8s8_tile again, and products of that kind
  int u8s8_pairs_mr;     // most rows of a tile of pairs; 0 where u8s8_tile is the faster one, and there are none
  TileU8S8PairsFn u8s8_pairs_tile[kMaxMr];
  TileShape f32;
  TileF32Fn f32_tile[kMaxMr];
};

}  // namespace pqi::kernels
