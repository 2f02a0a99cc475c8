// Everything that one ISA offers, made of the parts of the contract (kernels/contract).
#pragma once

#include "base/isa.h"
#include "kernels/contract/depthwise.h"
#include "kernels/contract/elementwise.h"
#include "kernels/contract/low_bit.h"
#include "kernels/contract/matrix.h"
#include "kernels/contract/narrow.h"
#include "kernels/contract/tile.h"
#include "kernels/contract/winograd.h"

namespace pqi::kernels {

// The reference set has no tile or depthwise kernels, and 0 rows where a shape says how many: its convolutions are
// kernels/reference/conv.h.
struct KernelSet : TileSet, LowBitSet, NarrowSet, WinogradSet, MatrixSet, DepthwiseSet, ElementwiseSet {
  Isa isa;
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
