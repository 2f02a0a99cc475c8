// Weights of a linear layer over rows quantized at run time that stay packed in 2 or 4 bits (kernels/contract/narrow.h, NarrowTile).
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/aligned.h"
#include "kernels/contract/output.h"
#include "kernels/kernel_set.h"
#include "kernels/reference/linear_dynamic.h"

namespace pqi::pack {

// A block of rows that were quantized, in the order of NarrowPanels::ArrangeRow.
struct NarrowRows {
  const uint8_t* codes = nullptr;
  int64_t count = 0;
  const float* scale = nullptr;    // [count]
  const int32_t* shift = nullptr;  // [count] offset - z
  kernels::Output output;
  void* y = nullptr;  // of the first row
};

// Panels are units of the widest kernel: one or more packed panels.
class NarrowPanels {
 public:
  // Bits per code, 2 or 4; 0: the set has no kernels, or the layer is none for them (wider codes, a base, step 2, short groups, or sums or
  // scales that could leave the kernels' range).
  static int Bits(const kernels::KernelSet& set, const kernels::reference::DynamicLinear& layer);

  // Bits(set, layer) is not 0. Throws std::bad_alloc. The kernel set must outlive this. Pointers of the layer are not kept.
  NarrowPanels(const kernels::KernelSet& set, const kernels::reference::DynamicLinear& layer);

  int bits() const { return bits_; }
  int64_t panels() const { return panels_; }
  size_t bytes() const { return buffer_.size(); }
  // Rows lie so many bytes apart. A block needs room for so many rows more, which are read but play no part.
  size_t RowBytes() const;
  int64_t SpareRows() const;
  // `inputs` codes at the start of a row to the places where the kernels expect them.
  void ArrangeRow(uint8_t* row) const;
  // Scratch of one thread for blocks of so many rows. 64-byte aligned.
  size_t ScratchBytes(int64_t block_rows) const { return Places(block_rows).bytes; }
  void Run(const NarrowRows& rows, int64_t panel_begin, int64_t panel_end, int64_t block_rows, uint8_t* scratch) const;

 private:
  // Offsets in bytes.
  struct Scratch {
    size_t sums = 0;      // float or int32_t[block_rows][nr]
    size_t codes = 0;     // int8_t: a piece of a panel, or with one group a whole one of KernelSet::u8s8
    size_t code_sum = 0;  // float[groups of the piece][nr], or with one group int32_t[KernelSet::u8s8.nr] behind as many floats
    size_t scale = 0;     // float, likewise
    size_t shift = 0;     // float[block_rows]
    size_t pointers = 0;  // const uint8_t*[mr]
    size_t bytes = 0;
  };

  void Pack(const kernels::reference::DynamicLinear& layer);
  Scratch Places(int64_t block_rows) const;
  const uint8_t* Panel(int64_t panel) const { return buffer_.data() + static_cast<size_t>(panel) * panel_bytes_; }
  size_t GroupBytes() const;
  void RunPacked(const NarrowRows& rows, int64_t panel, const Scratch& at, uint8_t* scratch) const;
  void RunUnpacked(const NarrowRows& rows, int64_t panel, const Scratch& at, uint8_t* scratch) const;
  void RunOneGroup(const NarrowRows& rows, int64_t unit, const Scratch& at, uint8_t* scratch) const;
  void Finish(const NarrowRows& rows, int64_t panel, int64_t row, int64_t m, const void* sums) const;

  const kernels::KernelSet* set_;
  int bits_;
  int64_t inputs_, outputs_, groups_;
  int64_t k_ = 0;             // of a group, as packed
  int64_t panels_ = 1;        // units
  int64_t unit_ = 1;          // packed panels in a unit
  int64_t piece_groups_ = 1;  // unpacked at a time
  size_t panel_bytes_ = 0;
  size_t scale_ = 0, bias_ = 0, init_ = 0;  // offsets into the buffer, behind the panels; scale with one group
  bool has_bias_;
  AlignedBuffer<uint8_t> buffer_;
};

}  // namespace pqi::pack
