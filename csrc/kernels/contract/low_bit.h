// Products of codes of few bits that are faster than the plain tile's (kernels/generic/low_bit.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/contract/tile.h"

namespace pqi::kernels {

// The part of inner products that belongs to a row: row[i] = -sum((x0 - least) * (x1 - least - 128)) over the pairs of row i, which are
// bytes j and j + 4 of every eight. k is a multiple of 8, and no byte minus `least` exceeds 255.
struct RowTerms {
  const uint8_t* const* a;  // [taps][m]
  size_t a_offset;          // bytes from these pointers to the rows
  uint32_t taps, k, m;
  int32_t least;  // the least code of the weights, at most 0
  int32_t* row;   // [m]
};

struct LowBitSet {
  U8S8Kernels u8s8_inner_product;
  U8S8Kernels u8s8_deferred;
  void (*row_terms)(const RowTerms&) noexcept;  // null where there are no inner products
};

}  // namespace pqi::kernels
