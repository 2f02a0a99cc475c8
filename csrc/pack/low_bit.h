// Codes as the low-bit algorithms want them: Winograd's transform of the weights, and the shifted codes of inner products.
#pragma once

#include <cstdint>

#include "base/aligned.h"
#include "kernels/contract.h"
#include "kernels/shapes.h"
#include "pack/layout.h"

namespace pqi::pack {

inline constexpr int kWinogradPositions = 16;
// Tiles whose products are made at a time. V and the sums of a panel stay in L2, a position of the panel in L1. 24 is up to 5 % slower, 64
// too.
inline constexpr int64_t kWinogradTiles = 48;

// u[16] = 4 G g G^T of one kernel whose nine codes lie `stride` apart. |u| <= 9 * 128.
void TransformKernel(const int8_t* g, int64_t stride, int32_t* u);

// The signs of position p of B^T d B: how many of its four codes are subtracted (0 or 2).
int SubtractedCodes(int position);

// What is added to position p so that it is least 0 (modulo 256): codes lie in [qmin, qmax].
inline int WinogradOffset(int position, int qmin, int qmax) {
  const int subtracted = SubtractedCodes(position);
  return subtracted * qmax - (4 - subtracted) * qmin;
}

// Transformed codes [oc][16][layout.k], zero beyond the layer's channels; shifted for inner products. start[oc] are the direct start
// values; init[panels][16][nr] gets Winograd's. Throws std::bad_alloc.
AlignedBuffer<int8_t> TransformCodes(const ConvLayout& layout, const kernels::ConvShape& shape, const WeightsU8& weights,
                                     const int32_t* start, LeastCodes* least, void* init);

// In place, n (a multiple of 8) codes to y0' = y0 - least - 128 (first four of eight) and y1' = y1 - least (last four, as u8). Returns what
// the products exceed the sums by in every row, sum(y0'*y1' - least*(least + 128)) modulo 2^32. `least` is at most 0.
uint32_t ShiftCodes(int8_t* codes, int64_t n, int least);

// The kernels of a product.
const kernels::U8S8Kernels& ProductKernels(const kernels::KernelSet& set, Product product);

}  // namespace pqi::pack
