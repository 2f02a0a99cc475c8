// Products of quantized rows by packed weights of 2 or 4 bits.
//
// A few rows unpack the codes in registers and run at the speed of memory. For many rows a piece of a panel is unpacked into L1 first.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/contract/output.h"
#include "pack/narrow_panels.h"

namespace pqi::linear {

// A block of rows that were quantized, in the order of NarrowPanels::ArrangeRow.
struct NarrowRows {
  const uint8_t* codes = nullptr;
  int64_t count = 0;
  const float* scale = nullptr;    // [count] scale of each row
  const int32_t* shift = nullptr;  // [count] offset - z of each row
  kernels::Output output;
  void* y = nullptr;  // output of the first row
};

// Scratch memory of one thread for blocks of so many rows. 64-byte aligned.
size_t NarrowScratchBytes(const pack::NarrowPanels& panels, int64_t block_rows);
// Units [unit_begin, unit_end) of the panels. block_rows as in NarrowScratchBytes.
void RunNarrow(const pack::NarrowPanels& panels, const NarrowRows& rows, int64_t unit_begin, int64_t unit_end, int64_t block_rows,
               uint8_t* scratch);

}  // namespace pqi::linear
