// How a sparse layer is cut (sparse.cc): which positions a line of planes holds, which channels a block, and how much work that is, for the
// choice among cuts and for the planner.
#pragma once

#include <algorithm>
#include <cstdint>

#include "conv/layout.h"
#include "kernels/kernel_set.h"
#include "kernels/shapes.h"
#include "pack/arrange.h"
#include "pack/sparse_lists.h"

namespace pqi::conv {

// Bytes need the fifth addition before they are widened: with fewer, positions of 16 bits are as fast.
inline constexpr int64_t kLeastSparseStep = 5;

// Every pixel of a pointwise layer is a position of one long row.
inline kernels::ConvShape AsRows(const kernels::ConvShape& s) {
  if (!s.pointwise()) return s;
  kernels::ConvShape rows = s;
  rows.w = s.n * s.h * s.w;
  rows.n = rows.h = 1;
  return rows;
}

inline const kernels::SparseKernels& KernelsOfCut(const kernels::KernelSet& set, bool wide) {
  return wide ? set.sparse_wide : set.sparse_bytes;
}

// How an image lies in bands.
struct Bands {
  int64_t out_h, out_w, max_shift;
  int64_t segments, pitch, rows;  // segments of a line, positions from one to the next, output rows of a band
  int64_t pieces, bands;          // of an output row, of an image

  Bands(const kernels::ConvShape& s, const pack::SparseCut& cut)
      : out_h(s.out_h()), out_w(s.out_w()), max_shift((s.kw - 1) * s.dilation_w / s.stride_w) {
    const int64_t line = cut.line_positions(), columns = out_w + max_shift;
    segments = 1;
    pitch = std::max<int64_t>(columns - SharedColumns(s), 1);
    pieces = columns <= line ? 1 : pack::CeilDiv(out_w, line - max_shift);
    if (pieces == 1) segments = std::min(1 + (line - columns) / pitch, pack::CeilDiv(out_h, int64_t{cut.lines}));
    rows = segments * cut.lines;
    bands = pack::CeilDiv(out_h, rows);
  }
  int64_t units(const kernels::ConvShape& s) const { return out_w > 0 ? s.n * bands * pieces : 0; }

 private:
  // Columns at the end of a segment that hold nothing but padding may be those at the beginning of the next one.
  int64_t SharedColumns(const kernels::ConvShape& s) const {
    const int64_t left = s.pad_left / s.stride_w;
    const int64_t right = out_w + max_shift - pack::CeilDiv(s.w + s.pad_left, s.stride_w);
    return std::max<int64_t>(std::min({left, right, max_shift}), 0);
  }
};

// What a layout needs to know of the codes.
struct Additions {
  int64_t all = 0;
  // The most that one channel and column of taps, or one channel, has of additions or of subtractions, and one channel of both.
  int64_t of_row = 0, of_channel = 0, of_both = 0;

  explicit Additions(const kernels::ConvShape& s, const int8_t* codes) {
    for (int64_t o = 0; o < s.oc; ++o) {
      int64_t channel[2] = {0, 0};
      for (int64_t x = 0; x < s.kw; ++x) {
        int64_t row[2] = {0, 0};
        for (int64_t y = 0; y < s.kh; ++y) {
          const int8_t* w = codes + ((o * s.kh + y) * s.kw + x) * s.group_inputs();
          for (int64_t c = 0; c < s.group_inputs(); ++c) {  // without a branch, because every layer is counted when a session is made
            row[0] += std::max<int>(w[c], 0);
            row[1] += std::max<int>(-w[c], 0);
          }
        }
        of_row = std::max({of_row, row[0], row[1]});
        channel[0] += row[0];
        channel[1] += row[1];
      }
      of_channel = std::max({of_channel, channel[0], channel[1]});
      of_both = std::max(of_both, channel[0] + channel[1]);
      all += channel[0] + channel[1];
    }
  }
};

// Rows of sums for each channel and column of taps, so that 16 bits hold each.
inline int32_t SparseSets(const Additions& additions, int64_t largest) {
  return static_cast<int32_t>(std::max<int64_t>(pack::CeilDiv(additions.of_row, pack::SparseCapacity(largest)), 1));
}

// Does a line hold more than the window is wide, and do the numbers of 16 bits in a list reach all planes of a block and all rows of sums?
bool Reaches(const kernels::ConvShape& shape, const pack::SparseCut& cut);

// How much a whole run of a layer has of everything that takes time. A vector is one of the kernel set.
struct SparseWork {
  double additions = 0;     // vectors that are loaded and added
  double offsets = 0;       // non-zeros that are looked up
  double steps = 0;         // ends of steps
  double step_vectors = 0;  // vectors that steps widen and store
  double planes = 0;        // vectors of planes that are made
  double outputs = 0;       // vectors of output positions that are finished, one channel each
};
SparseWork CountSparseWork(const ConvLayout& layout, const kernels::ConvShape& shape);

// Completes the layout of a sparse layer. n, h and w of the shape are those that the layer will mostly see: lists are made for one way to
// cut planes, which any image can be put into.
void LayoutSparse(const Request& request, ConvLayout* layout);

}  // namespace pqi::conv
