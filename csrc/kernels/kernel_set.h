// Everything that one ISA offers, made of the parts of the contract (kernels/contract).
#pragma once

#include "base/isa.h"
#include "kernels/contract/depthwise.h"
#include "kernels/contract/elementwise.h"
#include "kernels/contract/low_bit.h"
#include "kernels/contract/matrix.h"
#include "kernels/contract/narrow.h"
#include "kernels/contract/sparse.h"
#include "kernels/contract/tile.h"
#include "kernels/contract/winograd.h"

namespace pqi::kernels {

// The kernels of one ISA. The reference set has no tile and no depthwise kernels, and shapes of 0 rows: its convolutions are
// kernels/reference/conv.h.
struct KernelSet : TileSet, LowBitSet, NarrowSet, WinogradSet, SparseSet, MatrixSet, DepthwiseSet, ElementwiseSet {
  Isa isa;
};

// Brackets the calls of a set's u8s8 tiles on one thread: the object lives on the stack while they run.
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

// The set that was compiled for an ISA, or nullptr if this build has none. Whether the CPU can run it is another question (base/isa.h).
const KernelSet* GetKernelSet(Isa isa);

}  // namespace pqi::kernels
