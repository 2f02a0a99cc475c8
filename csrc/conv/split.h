// How a layer's output is divided among threads.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pqi::conv {

// A piece of the output: units [row_begin, row_end), which are pixels for most methods (ConvMethod::work), by panels [panel_begin,
// panel_end) of the layout. It may be empty.
struct ConvPart {
  int64_t row_begin = 0, row_end = 0;
  int64_t panel_begin = 0, panel_end = 0;
};

// The output as a grid of units and panels, and what a thread does and reads for a piece of it.
struct Work {
  int64_t rows = 1, panels = 1;
  int64_t grain = 1;          // pieces begin at multiples of this many units
  int64_t macs = 1;           // multiply-accumulates of one unit and panel
  int64_t panel_bytes = 0;    // weights of a panel, read by every thread that has a piece of it
  int64_t row_bytes = 0;      // input that is read for each unit
  int64_t macs_per_byte = 8;  // multiply-accumulates in the time that a byte takes from a cache which threads share
};

// Part `index` of `parts`, which together cover the work once in the grid whose slowest piece is expected to be the fastest. Threads that
// share rows read input which others have written; threads that share panels read the same weights.
ConvPart Split(const Work& work, int parts, int index);

}  // namespace pqi::conv
