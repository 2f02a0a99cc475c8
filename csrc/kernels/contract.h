// The kernel contract: the one interface between the engine and its kernels.
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

#include "base/isa.h"

namespace pqi::kernels {

inline constexpr int kMaxMr = 16;

// How a float32 result leaves the epilogue (docs/numerics.md: activation, quantize).
struct Output {
  float act_lo = 0, act_hi = 0;  // -inf, +inf = no activation
  bool f32 = false;              // store float32 instead of codes
  float inv_scale = 1;           // f32(1/s_out)
  float v_lo = 0, v_hi = 255;    // qmin - z, qmax - z
  int32_t zero_point = 0;
  // Of codes from an integer layer only. The caller has proved that no result is NaN, that |y * inv_scale| < 2^30, and that clamping the
  // rounded value to codes 0..code_max is all that the bounds above do: conversion, saturation and a minimum of bytes then replace every
  // clamp.
  bool saturates = false;
  uint8_t code_max = 255;  // read where `saturates`; else 255
};

// A residual input, added after the bias. Exactly one pointer is set, or none.
struct Residual {
  const uint8_t* u8 = nullptr;
  const float* f32 = nullptr;
  size_t stride = 0;  // elements between rows
  int32_t zero_point = 0;
  float scale = 1;
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

// Linear layers whose codes lie packed, 2 or 4 bits each, over rows that were quantized at run time (generic/narrow.h).
//
// A packed panel is nr channels, group after group of k-values. A group: for every 4 * 8/bits k-values one line of nr * 4 bytes, of which
// byte 4 * c + b has, from its lowest bits on, the codes (two's complement) of channel c and k-values b, 4 + b, 8 + b, ...; then the nr
// scales of the group, divided by 2^NarrowKernels::shift because kernels may multiply codes by that to extend their signs. k is a multiple
// of 4 * 8/bits: where a group is not, the codes that fill it up are 0. Rows lie likewise, with any bytes there.
struct NarrowTile {
  const uint8_t* a;  // rows of codes, a_stride bytes apart
  size_t a_stride;
  uint32_t k, groups;    // of a group, as packed
  const uint8_t* w;      // the panel, 64-byte aligned
  const int32_t* shift;  // [m] offset - z of each row
  // [m][nr] with several groups, floats: sum over them in ascending order of f32(f32(acc) * scale); with one group, int32: acc.
  // acc = sum((q - z) * code).
  void* sums;
};

// 255 * 8 * k < 2^24.
inline constexpr int kNarrowExact = 8192;
// The same after a panel was unpacked (UnpackNarrow), for the groups of a piece of it.
struct NarrowUnpacked {
  const uint8_t* a;  // the first group's k-values of each row
  size_t a_stride;
  uint32_t k, groups;
  const int8_t* codes;  // 64-byte aligned
  size_t group_bytes;
  const float* code_sum;  // [groups][nr] sum(code); at most kNarrowExact k-values make a sum that floats hold exactly
  const float* scale;     // [groups][nr]
  const float* shift;     // [m] as in NarrowTile
  float* sums;            // [m][nr]
  bool first;             // there are no sums yet
};

// Whole groups of a packed panel to bytes: blocks of four k-values by nr channels, `block_stride` bytes apart, groups `group_stride` bytes.
struct UnpackNarrow {
  const uint8_t* w;
  uint32_t k, groups;
  int8_t* codes;
  size_t block_stride, group_stride;
  // [groups][nr] sum(code), and the scales as they were before they were divided.
  float* code_sum;
  float* scale;
};

// What is left to do for m rows by n channels after their sums (docs/numerics.md, "linear_dynamic").
struct FinishNarrow {
  const void* sums;  // as in NarrowTile, rows `stride` elements apart
  size_t stride;
  uint32_t m, n;
  const float* row_scale;  // [m]
  const float* scale;      // [nr] of the weights with one group; nullptr: several groups
  const float* bias;       // [nr]; nullptr = none
  Output output;
  void* out;
  size_t out_stride;
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

// Row terms of the inner-product kernels (kernels/generic/low_bit.h): row[i] = -sum((x0 - least) * (x1 - least - 128)) over the pairs of
// row i, which are bytes j and j + 4 of every eight. k is a multiple of 8, and no byte minus `least` exceeds 255.
struct RowTerms {
  const uint8_t* const* a;  // [taps][m]
  size_t a_offset;          // as in ProductU8S8
  uint32_t taps, k, m;
  int32_t least;  // the least code, at most 0
  int32_t* row;
};

// Winograd's transforms, before and after the products. A tile is
//   2d    F(2x2,3x3): 2x2 outputs over 4x4 pixels, 16 positions
//   4x4   F(4x4,3x3): 4x4 outputs over 6x6 pixels, 46 positions
//   1d    F(2,3) along x: two neighbours over four pixels of one image row, 4 positions
//   1d4   F(4,3) along x: four neighbours over six, 6 positions
//
// Before: v[p*plane + t*stride + c] = byte p of B^T d B (B^T d) of channel c under tile t, plus offset[p], modulo 256. d is the 4x4 (6x6)
// pixels from pixels[t*16] (t*36) on, row by row, or the four at pixels[t*2 + x] (six at t*4 + x), which tiles share. Rows of v are written
// up to the next multiple of kWinogradPad channels.
inline constexpr int kWinogradPad = 64;
struct WinogradInput {
  const uint8_t* const* pixels;
  uint32_t tiles, channels;
  const uint8_t* offset;  // [positions]
  uint8_t* v;             // 64-byte aligned, as are stride and plane
  size_t stride, plane;
};
// After: A^T m A / 4 (/ 16; A^T m / 2, / 24) of `tiles` neighbours in x, and then the epilogue. sums[p*plane + t*nr + j] belongs to
// position p.
struct WinogradOutput {
  const int32_t* sums;
  size_t plane;
  uint32_t tiles, rows, columns;  // outputs that exist: 1 to 4 rows of `columns` pixels, at least one in every tile
  TileU8S8 epilogue;              // of the upper row; a, taps, k, w, init are not read; no base
  size_t row_pixels;              // pixels between the rows of the output, and of a residual
};
struct WinogradKernels {
  void (*input)(const WinogradInput&) noexcept;  // null: the set has no such kernels
  void (*output)(const WinogradOutput&) noexcept;
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

// A band of output positions of a conv, on matrix registers (Intel AMX): blocks of 16 positions by 16 channels. The left operand of
// position p is `pieces` pieces of `bytes` k-values, piece i at a + p * stride + offset[i]: the rows of a matrix register are evenly spaced
// in memory. That is so inside one padded image, where positions run on through the columns beyond the output's width; those give no
// output. Panels of kMatrixChannels channels: for each piece, two blocks of 16 channels, of each bytes/4 x 16 channels x 4 k-values.
// k-values that a piece shares with the one before it, or that lie beyond the window, have weight 0.
inline constexpr int kMatrixRows = 16, kMatrixBytes = 64, kMatrixChannels = 32;
struct TileMatrixU8S8 {
  const uint8_t* a;
  size_t stride;
  const ptrdiff_t* offset;  // [pieces]
  uint32_t pieces;
  uint32_t bytes;        // of a piece: a multiple of 4, at most 64; all of them are read
  uint32_t positions;    // at least 16
  const int32_t* pixel;  // [positions] the output pixel of each, or -1; nullptr: position p is pixel p
  const int8_t* w;       // 64-byte aligned, as is panel_bytes
  size_t panel_bytes;
  // Of the first panel; n counts the channels of all panels, and init, scale and bias go on behind it. `out` and the residual are those of
  // pixel 0. a, taps, k, w, box and row are not read; no base.
  TileU8S8 epilogue;
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

using TileU8S8Fn = void (*)(const TileU8S8&) noexcept;
using TileU8S8PairsFn = void (*)(const TileU8S8Pairs&) noexcept;
using TileF32Fn = void (*)(const TileF32&) noexcept;
using ProductU8S8Fn = void (*)(const ProductU8S8&) noexcept;

struct TileShape {
  int mr = 0, nr = 0, kr = 0;  // rows at most, channels of a panel, k-values of a panel block
};

// Parameters of a quantized tensor.
struct Affine {
  int32_t zero_point = 0;
  float scale = 1;
};

// How rows are quantized at run time (docs/numerics.md, "linear_dynamic").
struct RowQuantizer {
  bool symmetric = true;
  int32_t qmin = 0, qmax = 255;
  float eps = 0;
};

// Functions of one float, in the order of docs/format.md. `alpha` is read by kElu and kLeakyRelu.
enum class UnaryFunction : uint8_t {
  kExp,
  kSigmoid,
  kTanh,
  kErf,
  kSilu,
  kGelu,
  kGeluTanh,
  kHardsigmoid,
  kHardswish,
  kElu,
  kLeakyRelu,
  kSqrt,
  kRsqrt,
  kAbs,
  kLog,
  kSoftplus,
};
inline constexpr int kUnaryFunctions = 16;
struct Unary {
  UnaryFunction function = UnaryFunction::kExp;
  float alpha = 0;
};

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

// Linear layers of packed codes. Entry [i] of an array is for i + 1 rows.
struct NarrowKernels {
  int nr = 0;                   // channels of a packed panel; 0: the set has none of these
  int mr = 0, unpacked_mr = 0;  // rows at most
  int shift[2] = {};            // by which scales in the panel are too small; [0]: 2 bits, [1]: 4 bits, as below
  // The unpacked tiles read groups of rows and codes up to the next multiple of `piece` k-values, of which the codes from k on are 0, and
  // `reads` rows where m is less; what is in those they ignore.
  int piece = 0, reads = 0;
  void (*tile[2][kMaxMr])(const NarrowTile&) noexcept;
  void (*unpack[2])(const UnpackNarrow&) noexcept;
  void (*unpacked_tile[kMaxMr])(const NarrowUnpacked&) noexcept;
  void (*finish)(const FinishNarrow&) noexcept;
};

// Functions of two floats, in the order of docs/format.md; kRsub is b - a, kRdiv is b / a.
enum class BinaryFunction : uint8_t { kAdd, kSub, kMul, kDiv, kRsub, kRdiv, kMaximum, kMinimum };
inline constexpr int kBinaryFunctions = 8;
// Rows of codes or floats; exactly one pointer is set. Element i of row r is at r * row_step + i * step; step is 1, or 0 where one element
// stands for a whole row.
struct BinaryOperand {
  const uint8_t* u8 = nullptr;
  const float* f32 = nullptr;
  Affine affine;  // of u8
  size_t step = 1, row_step = 0;
};

// Elements that are normalized together: `pieces` runs of `length` elements, `stride` apart, of x and y alike. A row of a layer norm is one
// run; a group of channels of an image is one run for each pixel.
struct NormalizeGroup {
  const float* x = nullptr;
  size_t pieces = 1, length = 0, stride = 0;
  const float* weight = nullptr;  // [length]; nullptr = none
  const float* bias = nullptr;    // [length]; nullptr = none
  float eps = 0;
  bool center = true;  // subtract the mean; false: root mean square
};

// Rows of n codes: y[r*n + c] = the largest of x[i][r*x_step + c], i < count, for r < rows, c < n. One row may go to where x[0] is.
struct MaxU8 {
  const uint8_t* const* x;
  size_t count;  // at least 1
  size_t x_step;
  size_t rows, n;
  uint8_t* y;
};

// Everything one ISA offers. Entry [i] of a tile array computes m = i + 1 rows; entries up to shape.mr - 1 are set.
// The reference set has mr = 0 and no tile or depthwise kernels: its convolutions are kernels/reference/conv.h.
struct KernelSet {
  Isa isa;
  TileShape u8s8;
  int32_t u8s8_offset;  // what the product subtracts from activations: 128 where it only multiplies signed bytes, else 0
  // Around u8s8 tiles on one thread, where not null: machine state that they need and other code does not (TileScope).
  void (*begin_tiles)() noexcept;
  void (*end_tiles)() noexcept;
  TileU8S8Fn u8s8_tile[kMaxMr];
  U8S8Kernels u8s8_dot;  // its tiles are u8s8_tile
  U8S8Kernels u8s8_inner_product;
  U8S8Kernels u8s8_deferred;
  void (*row_terms)(const RowTerms&) noexcept;
  WinogradKernels winograd_1d, winograd_1d4, winograd_2d, winograd_4x4;
  NarrowKernels narrow;
  int u8s8_pairs_mr;  // rows at most of the next; 0 where u8s8_tile is the faster one and the next are null
  TileU8S8PairsFn u8s8_pairs_tile[kMaxMr];
  void (*u8s8_matrix)(const TileMatrixU8S8&) noexcept;  // null: no matrix registers. Not within a TileScope
  TileShape f32;
  TileF32Fn f32_tile[kMaxMr];
  void (*u8s8_depthwise)(const DepthwiseU8S8&) noexcept;
  void (*u8s8_depthwise_columns)(const DepthwiseColumnsU8S8&) noexcept;
  void (*f32_depthwise)(const DepthwiseF32&) noexcept;
  // y[i] = quantize(x[i]); Output.f32 is false, the activation is not applied.
  void (*quantize)(const float* x, uint8_t* y, size_t n, const Output& q) noexcept;
  // lo = min(0, x...), hi = max(0, x...); NaN takes no part.
  void (*range)(const float* x, size_t n, float* lo, float* hi) noexcept;
  // NCHW planes to NHWC pixels: y[p*channels + c] = quantize(x[c*plane_stride + p]), p < pixels.
  void (*quantize_to_nhwc)(const float* x, size_t plane_stride, size_t channels, size_t pixels, uint8_t* y, const Output& q) noexcept;
  void (*dequantize)(const uint8_t* x, float* y, size_t n, const Affine& p) noexcept;
  // y = a + b, both codes or both float (a mixed pair is dequantized by the caller first).
  void (*add_u8)(const uint8_t* a, const Affine& pa, const uint8_t* b, const Affine& pb, size_t n, const Output& o, void* y) noexcept;
  void (*add_f32)(const float* a, const float* b, size_t n, const Output& o, void* y) noexcept;
  // y = f(x), then activation and quantize or float as o says.
  void (*unary)(const float* x, size_t n, const Unary& f, const Output& o, void* y) noexcept;
  // y[r*n + i] = f(a, b), then activation and quantize or float as o says.
  void (*binary)(BinaryFunction f, const BinaryOperand& a, const BinaryOperand& b, size_t rows, size_t n, const Output& o,
                 void* y) noexcept;
  // y[r*channels + c] = x > 0 ? x : f32(x * slope[c]), and fma(x, scale[c], shift[c]), of x[r*channels + c].
  void (*prelu)(const float* x, float* y, size_t rows, size_t channels, const float* slope) noexcept;
  void (*affine)(const float* x, float* y, size_t rows, size_t channels, const float* scale, const float* shift) noexcept;
  // The activation of docs/numerics.md.
  void (*clamp)(const float* x, float* y, size_t n, float lo, float hi) noexcept;
  // One row: y = softmax(x), or its logarithm, then activation and quantize or float as o says. `e`: n floats of scratch, which may be y.
  void (*softmax)(const float* x, size_t n, bool log, const Output& o, float* e, void* y) noexcept;
  void (*normalize)(const NormalizeGroup& g, const Output& o, void* y) noexcept;
  void (*table)(const uint8_t* x, uint8_t* y, size_t n, const uint8_t* table256) noexcept;
  void (*max_u8)(const MaxU8& m) noexcept;
  // acc[c] += x[c]
  void (*sum_u8)(const uint8_t* x, int32_t* acc, size_t n) noexcept;
};

// Lives on the stack while a thread calls the u8s8 tiles of a set, and holds nothing else.
class TileScope {
 public:
  explicit TileScope(const KernelSet& set) : set_(set) {
    if (set.begin_tiles != nullptr) set.begin_tiles();
  }
  ~TileScope() {
    if (set_.end_tiles != nullptr) set_.end_tiles();
  }
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;

 private:
  const KernelSet& set_;
};

// The set compiled for an ISA, or nullptr if this build has none. Never selects by the running CPU: see base/isa.h.
const KernelSet* GetKernelSet(Isa isa);

}  // namespace pqi::kernels
