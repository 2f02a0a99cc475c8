// Codes for the tile kernels that add pairs of products in 16 bits (kernels/contract/tile.h, TileU8S8Pairs).
#pragma once

#include <cstdint>
#include <vector>

#include "base/aligned.h"
#include "kernels/contract/tile.h"
#include "kernels/kernel_set.h"
#include "pack/layout.h"

namespace pqi::pack {

// What the pairs beyond kPairLimit leave over, panel by panel.
struct PairExtras {
  std::vector<kernels::TileExtra> at;
  std::vector<size_t> first;       // [2 * panels + 1] extras of a half of a panel in `at`; empty where the layer does not run in pairs
  AlignedBuffer<uint8_t> weights;  // blocks in the order of `at`

  bool used() const { return !first.empty(); }
  size_t bytes() const { return weights.size() + at.size() * sizeof(at[0]) + first.size() * sizeof(first[0]); }
};

// Splits the packed panels in place if the set has such kernels and the extra blocks cost less than the kernels save; else changes nothing.
// Throws std::bad_alloc.
PairExtras SplitPairs(const kernels::KernelSet& set, const ConvLayout& layout, uint8_t* packed);

}  // namespace pqi::pack
