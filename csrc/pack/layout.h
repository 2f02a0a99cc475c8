// How a conv or linear layer lies in memory for one kernel set, and the packing itself.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/aligned.h"
#include "kernels/contract/tile.h"
#include "kernels/kernel_set.h"
#include "kernels/shapes.h"

namespace pqi::pack {

// The method follows from the layer alone, so it never depends on the image or the threads, and all methods give the same bits:
//   reference  kernels/reference/conv.h (the kernel set has no tiles)
//   tiles      tile kernels read the input through one pointer per tap; padding is a row of zero points
//   runs       the same with one pointer per kernel row, whose kw*c elements are neighbours in memory; only windows that cross the left or
//              right border are copied
//   lines      few channels per group (a network's first layer): lines are copied with their padding, and windows read in place as runs,
//              one pointer per window (pack/lines.h)
//   gather     the same where the taps of a line are apart or codes are not multiplied the plain way: each window is copied into one
//              contiguous row of taps*k elements
//   depthwise  groups = channels = outputs
//   matrix     matrix registers: bands of the input are copied into padded images (pack/matrix.h)
//   winograd   3x3, stride 1, one group; weights and input are transformed (kernels/generic/winograd.h)
enum class Method : uint8_t { kReference, kTiles, kRuns, kLines, kGather, kDepthwise, kMatrix, kWinograd };
const char* MethodName(Method method);

// How codes are multiplied (kernels::U8S8Kernels). Tiles, runs, gather and Winograd can take any of them, the others the plain way.
enum class Product : uint8_t { kDot, kInnerProduct, kDeferred };

// Winograd's filter: F(2,3) or F(4,3) along x, F(2x2,3x3) or F(4x4,3x3).
enum class Winograd : uint8_t { kNone, k1d, k1d4, k2d, k4x4 };

// What the planner decides about a layer of codes (csrc/plan); it has proved that the result is exact.
struct Algorithm {
  Winograd winograd = Winograd::kNone;
  Product product = Product::kDot;
  uint32_t depth = 0;  // of kDeferred, at least 1
};

// Weights in the order of the file; borrowed.
struct WeightsU8 {
  const int8_t* codes = nullptr;  // [oc][kh][kw][c/groups]
  int32_t step = 1;
  const float* scale = nullptr;   // [oc] f32(s_a * s_w[c])
  const float* bias = nullptr;    // [oc]; nullptr = none
  const int32_t* base = nullptr;  // [oc]; nullptr = all 0
  int32_t zero_point = 0;         // z_a
  int32_t qmin = 0, qmax = 255;   // all input codes lie here; read by Winograd only
};
struct WeightsF32 {
  const float* weights = nullptr;  // [oc][kh][kw][c/groups]
  const float* bias = nullptr;
};

// Everything of a layer is in one buffer. Its arrays are padded with zeros up to `channels`; offsets are in bytes, multiples of 64.
//
// With tiles, runs, lines and gather a panel is the nr channels that a kernel call computes; the last panel of each group is padded.
// kernels/contract/tile.h has the order inside a panel. depthwise: [taps][channels]. reference: the order of the file.
struct ConvLayout {
  Method method = Method::kReference;
  Algorithm algorithm;
  // As the kernels see them: runs have kh taps of kw*c elements, lines of kw*c/groups up to the next multiple of the panel's block, gather
  // has one of kh*kw*c/groups; Winograd's are its positions (in 1-D by kernel rows) of c elements, up to the next multiple of the block.
  int64_t taps = 1, k = 1;
  kernels::TileShape tile;  // tiles, runs, lines, gather and Winograd
  int32_t offset = 0;       // tiles, runs, lines, gather: what their product subtracts from codes of activations
  int64_t panels_per_group = 1;
  int64_t panels = 1;  // of all groups; 1 where the method has none
  size_t panel_bytes = 0;
  size_t channels = 0;
  int64_t block_rows = 1;  // output units whose pointers (or windows) are made at a time
  bool has_bias = false, has_base = false;
  bool depthwise_columns = false;  // depthwise: bands of rows can go to the kernel of that name
  size_t weights = 0, scale = 0, bias = 0, init = 0, base = 0;
  size_t bytes = 0;
};

// The one place where sizes and offsets are computed. n, h, w of the shape are not read.
ConvLayout LayoutConvU8(const kernels::KernelSet& set, const kernels::ConvShape& shape, bool has_bias, bool has_base,
                        const Algorithm& algorithm = {});
ConvLayout LayoutConvF32(const kernels::KernelSet& set, const kernels::ConvShape& shape, bool has_bias);

// Pieces of the output that can be computed apart: pixels, image rows on matrix registers (but for 1x1), or Winograd's tiles of 2x1
// or 2x2 pixels.
int64_t OutputUnits(const ConvLayout& layout, const kernels::ConvShape& shape);

inline constexpr int kMaxTaps = 46;  // of Winograd
// What inner products need to know of the packed codes: the least one, by position for Winograd, else at [0].
using LeastCodes = std::array<int8_t, kMaxTaps>;

// Throws std::bad_alloc.
AlignedBuffer<uint8_t> PackConvU8(const ConvLayout& layout, const kernels::ConvShape& shape, const WeightsU8& weights, LeastCodes* least);
AlignedBuffer<uint8_t> PackConvF32(const ConvLayout& layout, const kernels::ConvShape& shape, const WeightsF32& weights);

}  // namespace pqi::pack
