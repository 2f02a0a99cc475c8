// Winograd's transforms of weight codes. kernels/generic/winograd_filters.h has those of activations and of sums.
#pragma once

#include <cstdint>

#include "base/aligned.h"
#include "kernels/shapes.h"
#include "pack/low_bit.h"
#include "pack/panel.h"
#include "pack/weights.h"

namespace pqi::pack {

// Neighbouring input channels, transformed together.
inline constexpr int kCodeLanes = 16;
struct CodeLanes {
  int16_t v[kCodeLanes];
};

// Writes u[positions][taps], the transform of n <= kCodeLanes kernels of 3x3 codes. Code i (of nine) of kernel j is at g[i * stride + j].
// Lanes from n on are 0.
using TransformCodesFn = void (*)(const int8_t* g, int64_t stride, int64_t n, CodeLanes* u);

// F(2,3) along x: 2 G g of each kernel row. |u| is at most 3 times the largest |code|.
void TransformCodes1d(const int8_t* g, int64_t stride, int64_t n, CodeLanes* u);
// F(4,3) along x: each kernel row by the rows of G, multiplied by 4, -6, -6, 24, 24, 1. |u| is at most 7 times the largest |code|.
void TransformCodes1d4(const int8_t* g, int64_t stride, int64_t n, CodeLanes* u);
// F(2x2,3x3): 4 G g G^T. |u| is at most 9 times the largest |code|.
void TransformCodes2d(const int8_t* g, int64_t stride, int64_t n, CodeLanes* u);
// F(4x4,3x3) by complex points: the rows of G multiplied by 4 and 1, its complex rows by 2. Positions that pair 0 or infinity with a
// complex point are multiplied by 4 instead of 8, those that are complex twice by 2. |u| is at most 18 times the largest |code|.
void TransformCodes4x4(const int8_t* g, int64_t stride, int64_t n, CodeLanes* u);

// What packing has to know of a filter.
struct CodeTransform {
  TransformCodesFn codes;
  int positions;  // of a tile
  int taps;       // kernel rows whose products are still added up for each position
  // The start values of the direct sums enter every output alike if position `common` starts with `common_factor` times them: the output
  // transform multiplies that position by one number for all outputs.
  int common, common_factor;
};

// Transforms all codes of a layer, to [oc][positions][taps][grid.k], zero beyond the layer's channels. `offset`[positions] is what the
// transformed activations have been raised by; the sums start lower for it. `start`[oc] are the direct start values; init, int32
// [panels][positions][nr], gets those of the positions. For inner products the codes come out shifted, and *least gets the least code of
// each position. Throws std::bad_alloc.
AlignedBuffer<int8_t> TransformCodes(const CodeTransform& filter, const int* offset, bool inner_product, const PanelGrid& grid,
                                     const kernels::ConvShape& shape, const WeightsU8& weights, const int32_t* start, LeastCodes* least,
                                     int32_t* init);

}  // namespace pqi::pack
