// Codes for the tile kernels that add pairs of products in 16 bits (kernels/contract/tile.h, TileU8S8Pairs).
#pragma once

#include <cstdint>
#include <vector>

#include "base/aligned.h"
#include "kernels/contract/tile.h"
#include "kernels/kernel_set.h"
#include "pack/panel.h"

namespace pqi::pack {

// What is left over of the pairs that exceed kPairLimit, panel by panel.
struct PairExtras {
  std::vector<kernels::TileExtra> at;  // the activations that each extra block meets
  std::vector<size_t> first;           // [2 * panels + 1] where the extras of each half of a panel begin in `at`; empty: no pairs
  AlignedBuffer<uint8_t> weights;      // the blocks, in the order of `at`

  bool used() const { return !first.empty(); }
  size_t bytes() const { return weights.size() + at.size() * sizeof(at[0]) + first.size() * sizeof(first[0]); }
};

// Splits panels in place where the set has kernels for pairs and the extra blocks cost less than those kernels save; else it changes
// nothing and the result is empty. Throws std::bad_alloc.
PairExtras SplitPairs(const kernels::KernelSet& set, const PanelGrid& grid, int8_t* panels);

}  // namespace pqi::pack
