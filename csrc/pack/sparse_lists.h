// Lists of non-zero weights for the kernels that add and subtract planes (kernels/contract/sparse.h).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/contract/sparse.h"
#include "kernels/shapes.h"
#include "pack/panel.h"
#include "pack/weights.h"

namespace pqi::pack {

// How planes are cut, and what sums need. A code of 3 is added three times.
struct SparseCut {
  int32_t line_vectors = 1;  // vectors of a line of positions
  int32_t lines = 1;         // lines of output positions that are summed together
  bool wide = false;         // kernels::SparseKernels
  int32_t vector_bytes = 0;
  int64_t block_channels = kernels::kSparseChannels;  // input channels whose planes stay in L1 while they are added
  int32_t sets = 1;                                   // rows that share the sums of one channel and shift, so that 16 bits hold each
  bool at_once = true;                                // 16 bits hold the sums that leave, start values included
  int32_t largest = 255;                              // no activation code is larger
  int64_t additions = 0, outputs = 0;                 // of one position of all output channels together; these channels

  int32_t vectors() const { return line_vectors * lines; }
  int64_t line_positions() const { return int64_t{line_vectors} * vector_bytes; }
  int64_t line_bytes() const { return line_positions() * (wide ? 2 : 1); }
  int64_t blocks(int64_t inputs) const { return CeilDiv(inputs, block_channels); }
};

// What the window asks of a plane. Positions lie stride_w pixels apart, so pixels between them have lines of their own, and so have the
// image rows between output rows.
struct SparseWindow {
  struct Line {
    int64_t column, row;  // of the pixel at position 0, counted from the first pixel of the first output's window, padding included
  };
  struct Tap {
    int64_t line;   // where its pixels begin: that many lines from the beginning of the plane
    int64_t shift;  // index in `shifts`
  };
  std::vector<Line> lines;
  std::vector<Tap> taps;
  std::vector<uint32_t> shifts;  // in positions, ascending

  SparseWindow() = default;
  SparseWindow(const kernels::ConvShape& shape, const SparseCut& cut);
  int64_t plane_bytes(const SparseCut& cut) const { return static_cast<int64_t>(lines.size()) * cut.line_bytes(); }
};

// Where the blocks of planes of a group lie, one behind the other: bytes. A block begins with zeros, which offset 0 adds.
struct SparseBlocks {
  int64_t zeros, plane, block;
  SparseBlocks(const SparseWindow& window, const SparseCut& cut)
      : zeros(cut.vectors() * int64_t{cut.vector_bytes} * (cut.wide ? 2 : 1)),
        plane(window.plane_bytes(cut)),
        block(RoundUp(zeros + cut.block_channels * plane, 64)) {}
};

// The lists of a layer. Row c * rows() + r of a panel belongs to its output channel c; one more row takes what fills up a last pair.
struct SparseLists {
  // The steps of one panel and block of input channels: the first ones store, the others add.
  struct Run {
    size_t offsets, steps, store, add;  // first offset, first step, steps that store, steps that add
    size_t stored_offsets;              // offsets of the steps that store
  };
  SparseWindow window;
  std::vector<kernels::SparseRow> places;  // [rows()]
  std::vector<uint16_t> offsets;
  std::vector<kernels::SparseStep> steps;
  std::vector<Run> runs;       // [panels][blocks of the panel's group]
  std::vector<uint16_t> fill;  // [panels][nr][passes] as kernels::SparseOutput has them

  size_t rows() const { return places.size(); }
  size_t bytes() const {
    return offsets.size() * sizeof(offsets[0]) + steps.size() * sizeof(steps[0]) + runs.size() * sizeof(runs[0]) +
           fill.size() * sizeof(fill[0]);
  }
};

// The most non-zeros of a step for codes up to `largest`, 0 where bytes cannot hold one.
inline int64_t SparseStepSize(bool wide, int64_t largest) { return wide ? 255 : 255 / std::max<int64_t>(largest, 1); }
// How many codes up to `largest` a row can hold of either sign.
inline int64_t SparseCapacity(int64_t largest) { return INT16_MAX / std::max<int64_t>(largest, 1); }

// `start`: start values of all output channels (StartValues). Throws std::bad_alloc.
SparseLists ListNonZeros(const PanelGrid& grid, const SparseCut& cut, const kernels::ConvShape& shape, const WeightsU8& weights,
                         const int32_t* start);

}  // namespace pqi::pack
