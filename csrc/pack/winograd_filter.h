// Winograd's filters as the packer sees them (kernels/generic/winograd.h has the arithmetic).
#pragma once

#include <cstdint>

#include "kernels/contract/winograd.h"
#include "kernels/kernel_set.h"
#include "kernels/shapes.h"
#include "pack/layout.h"

namespace pqi::pack {

inline constexpr int kWinogradPositions = 46;  // at most

struct WinogradFilter {
  int positions;      // of a tile
  int taps;           // kernel rows that the products still add up: more than one if the filter goes along rows only
  int rows, columns;  // of output pixels in a tile
  int factor;         // the output transform shifts so many times the sum
  int common;         // a position that enters every output alike
  int common_factor;  // what it gets so many times, every sum gets once
  int64_t max_tiles;  // whose products are made at a time

  int pixels_across() const { return columns + 2; }  // under a tile
};
// Of any but kNone.
const WinogradFilter& FilterOf(Winograd winograd);
const kernels::WinogradKernels& FilterKernels(const kernels::KernelSet& set, Winograd winograd);

// A position of the transformed input is a weighted sum of codes: the weights of those that are added, and of those that are subtracted.
struct InputWeights {
  int added = 0, subtracted = 0;
};
InputWeights InputWeightsOf(Winograd winograd, int position);
// What is added to it so that it is least 0 (modulo 256): codes lie in [qmin, qmax].
int WinogradOffset(Winograd winograd, int position, int qmin, int qmax);

// The tiles of a layer's output, image by image and row by row.
struct TileGrid {
  // Where a tile lies.
  struct Place {
    int64_t image, y, x;  // of its first output pixel
  };
  int64_t across, down;   // tiles
  int64_t rows, columns;  // of pixels in one
  TileGrid(const WinogradFilter& filter, const kernels::ConvShape& s)
      : across((s.out_w() + filter.columns - 1) / filter.columns),
        down((s.out_h() + filter.rows - 1) / filter.rows),
        rows(filter.rows),
        columns(filter.columns) {}
  Place At(int64_t tile) const { return {tile / across / down, tile / across % down * rows, tile % across * columns}; }
};

}  // namespace pqi::pack
