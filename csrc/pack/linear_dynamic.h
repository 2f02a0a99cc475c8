// Linear layers over rows that are quantized at run time: weights packed once, then any part of the output computed by any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/aligned.h"
#include "kernels/contract/output.h"
#include "kernels/kernel_set.h"
#include "kernels/reference/linear_dynamic.h"
#include "pack/conv.h"
#include "pack/narrow.h"

namespace pqi::pack {

// What changes from run to run.
struct DynamicRun {
  const float* x = nullptr;                     // [rows][inputs]
  const kernels::Affine* parameters = nullptr;  // of all rows; nullptr: each row has its own
  kernels::Output output;
  void* y = nullptr;  // [rows][outputs]
};

// Panels of nr channels as in kernels/contract/tile.h, groups of k-values in the place of taps; behind them, for each panel and group, nr
// scales, code sums and bases. Codes of 2 and 4 bits stay packed where the set has kernels for that. The reference set has no tiles, and
// keeps the order of the file in one panel.
class PackedLinearDynamic {
 public:
  // Throws std::bad_alloc. The kernel set must outlive this. Pointers of the layer are not kept.
  PackedLinearDynamic(const kernels::KernelSet& set, const kernels::reference::DynamicLinear& layer,
                      const kernels::RowQuantizer& quantizer);

  int64_t panels() const { return panels_; }
  // The output of `rows` rows for Split.
  Work OutputWork(int64_t rows) const;
  size_t bytes() const { return narrow_ ? narrow_->bytes() : buffer_.size(); }
  // Bits of a code as it lies in memory: 8, or 2 or 4.
  int bits() const { return narrow_ ? narrow_->bits() : 8; }
  // Scratch of one thread, for any number of rows. 64-byte aligned.
  size_t ScratchBytes() const { return scratch_.bytes; }
  // Rows and panels of the part. Rows are quantized a block at a time, and once for every part that they lie in.
  void Run(const DynamicRun& run, const ConvPart& part, void* scratch) const noexcept;

 private:
  // Offsets in bytes.
  struct Scratch {
    size_t codes = 0;     // uint8_t[block_rows][inputs], or as NarrowPanels has it
    size_t scale = 0;     // float[block_rows]
    size_t shift = 0;     // int32_t[block_rows]
    size_t boxes = 0;     // int32_t[groups][block_rows], where the layer has a base
    size_t pointers = 0;  // const uint8_t*[mr]
    size_t partial = 0;   // float[mr * nr], with several groups
    size_t narrow = 0;    // of NarrowPanels
    size_t bytes = 0;
  };

  void PackTiles(const kernels::reference::DynamicLinear& layer);
  void PackNarrow(const kernels::reference::DynamicLinear& layer);
  void KeepOrder(const kernels::reference::DynamicLinear& layer);
  kernels::Affine QuantizeRow(const DynamicRun& run, int64_t row, uint8_t* codes) const;
  void RunReference(const DynamicRun& run, const ConvPart& part, uint8_t* codes) const;
  void RunRows(const DynamicRun& run, const ConvPart& part, int64_t row, int64_t count, uint8_t* scratch) const;
  void RunTiles(const DynamicRun& run, const ConvPart& part, int64_t row, int64_t count, uint8_t* scratch) const;
  int64_t GroupInputs() const { return inputs_ / groups_; }

  const kernels::KernelSet* set_;
  kernels::RowQuantizer quantizer_;
  int64_t inputs_, outputs_, groups_;
  int32_t step_;
  bool has_base_, has_bias_;
  int64_t panels_ = 1, block_rows_ = 1;
  size_t group_bytes_ = 0;                                            // of one group in a panel
  size_t scale_ = 0, code_sum_ = 0, base_ = 0, bias_ = 0, init_ = 0;  // offsets into the buffer, behind the codes
  Scratch scratch_;
  std::optional<NarrowPanels> narrow_;
  AlignedBuffer<uint8_t> buffer_;
};

}  // namespace pqi::pack
