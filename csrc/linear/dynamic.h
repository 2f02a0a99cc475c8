// Linear layers over rows that are quantized at run time: weights packed once, then any part of the output computed by any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <variant>

#include "conv/split.h"
#include "kernels/contract/output.h"
#include "kernels/kernel_set.h"
#include "kernels/reference/linear_dynamic.h"
#include "pack/dynamic_panels.h"
#include "pack/narrow_panels.h"

namespace pqi::linear {

// What changes from run to run.
struct DynamicRun {
  const float* x = nullptr;                     // [rows][inputs]
  const kernels::Affine* parameters = nullptr;  // one scale and zero point for all rows; nullptr: each row gets its own
  kernels::Output output;
  void* y = nullptr;  // [rows][outputs]
};

// Codes of 2 and 4 bits stay packed where the set has kernels for that; others lie in 8-bit panels.
class PackedLinearDynamic {
 public:
  // Throws std::bad_alloc. The kernel set must outlive this. Pointers of the layer are not kept.
  PackedLinearDynamic(const kernels::KernelSet& set, const kernels::reference::DynamicLinear& layer,
                      const kernels::RowQuantizer& quantizer);

  int64_t panels() const;
  // The output of `rows` rows for conv::Split.
  conv::Work OutputWork(int64_t rows) const;
  size_t bytes() const;
  // Bits of a code as it lies in memory: 8, or 2 or 4.
  int bits() const { return narrow() != nullptr ? narrow()->bits() : 8; }
  // Scratch memory of one thread, for any number of rows. 64-byte aligned.
  size_t ScratchBytes() const { return scratch_.bytes; }
  // Rows and panels of the part. Rows are quantized a block at a time, and once for every part that they lie in.
  void Run(const DynamicRun& run, const conv::ConvPart& part, void* scratch) const noexcept;

 private:
  // Offsets in bytes.
  struct Scratch {
    size_t codes = 0;     // uint8_t[block_rows][inputs], or as NarrowPanels has the rows
    size_t scale = 0;     // float[block_rows]
    size_t shift = 0;     // int32_t[block_rows]
    size_t boxes = 0;     // int32_t[groups][block_rows], where the layer has a base
    size_t pointers = 0;  // const uint8_t*[mr]
    size_t partial = 0;   // float[mr * nr], with several groups
    size_t narrow = 0;    // what RunNarrow needs
    size_t bytes = 0;
  };
  using Panels = std::variant<pack::DynamicPanels, pack::NarrowPanels>;

  static Panels Pack(const kernels::KernelSet& set, const kernels::reference::DynamicLinear& layer);
  const pack::DynamicPanels* tiles() const { return std::get_if<pack::DynamicPanels>(&panels_); }
  const pack::NarrowPanels* narrow() const { return std::get_if<pack::NarrowPanels>(&panels_); }
  void LayOutScratch();
  kernels::Affine QuantizeRow(const DynamicRun& run, int64_t row, uint8_t* codes) const;
  void RunReference(const DynamicRun& run, const conv::ConvPart& part, uint8_t* codes) const;
  void RunRows(const DynamicRun& run, const conv::ConvPart& part, int64_t row, int64_t count, uint8_t* scratch) const;
  void RunTiles(const DynamicRun& run, const conv::ConvPart& part, int64_t row, int64_t count, uint8_t* scratch) const;
  int64_t GroupInputs() const { return inputs_ / groups_; }

  const kernels::KernelSet* set_;
  kernels::RowQuantizer quantizer_;
  int64_t inputs_, outputs_, groups_;
  int32_t step_;
  bool has_base_;
  int64_t block_rows_ = 1;
  Scratch scratch_;
  Panels panels_;
};

}  // namespace pqi::linear
