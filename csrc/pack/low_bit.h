// Codes as the low-bit algorithms want them: Winograd's transform of the weights, and the shifted codes of inner products.
#pragma once

#include <cstdint>

#include "base/aligned.h"
#include "kernels/contract/tile.h"
#include "kernels/kernel_set.h"
#include "kernels/shapes.h"
#include "pack/layout.h"

namespace pqi::pack {

// Transformed codes [oc][positions][taps][layout.k], zero beyond the layer's channels; shifted for inner products. start[oc] are the direct
// start values; init[panels][positions][nr] gets Winograd's. Throws std::bad_alloc.
AlignedBuffer<int8_t> TransformCodes(const ConvLayout& layout, const kernels::ConvShape& shape, const WeightsU8& weights,
                                     const int32_t* start, LeastCodes* least, void* init);

// In place, n (a multiple of 8) codes to y0' = y0 - least - 128 (first four of eight) and y1' = y1 - least (last four, as u8). Returns what
// the products exceed the sums by in every row, sum(y0'*y1' - least*(least + 128)) modulo 2^32. `least` is at most 0.
uint32_t ShiftCodes(int8_t* codes, int64_t n, int least);

// The kernels of a product.
const kernels::U8S8Kernels& ProductKernels(const kernels::KernelSet& set, Product product);

}  // namespace pqi::pack
