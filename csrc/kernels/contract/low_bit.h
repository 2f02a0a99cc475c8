// Products that are cheaper than the tile's where codes have few bits (kernels/generic/low_bit.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/contract/tile.h"

namespace pqi::kernels {

// Row terms of the inner-product kernels (kernels/generic/low_bit.h): row[i] = -sum((x0 - least) * (x1 - least - 128)) over the pairs of
// row i, which are bytes j and j + 4 of every eight. k is a multiple of 8, and no byte minus `least` exceeds 255.
struct RowTerms {
  const uint8_t* const* a;  // [taps][m]
  size_t a_offset;          // as in ProductU8S8
  uint32_t taps, k, m;
  int32_t least;  // the least code, at most 0
  int32_t* row;
};

struct LowBitSet {
  U8S8Kernels u8s8_inner_product;
  U8S8Kernels u8s8_deferred;
  void (*row_terms)(const RowTerms&) noexcept;
};

}  // namespace pqi::kernels
