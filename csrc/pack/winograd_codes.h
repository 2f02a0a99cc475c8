// Winograd's transforms of weight codes (kernels/generic/winograd_filters.h has those of activations and sums).
#pragma once

#include <cstdint>

#include "pack/layout.h"

namespace pqi::pack {

// Neighbouring channels, transformed together.
inline constexpr int kCodeLanes = 16;
struct CodeLanes {
  int16_t v[kCodeLanes];
};

// u[positions][taps] of n kernels, at most kCodeLanes: code i (of nine) of kernel j is at g[i * stride + j]. Lanes from n on are 0.
//   k2d   4 G g G^T    k1d   2 G g of each kernel row    k1d4   the same of F(4,3), rows of G times 4, -6, -6, 24, 24, 1
//   k4x4  rows of G times 4 and 1, complex ones 2: positions 0 and infinity with a complex one 4 instead of 8, those complex twice 2
// |u| is at most 9, 3, 7 and 18 times the largest |code|.
void TransformKernels(Winograd winograd, const int8_t* g, int64_t stride, int64_t n, CodeLanes* u);

}  // namespace pqi::pack
