// Winograd's filters, a row each. kernels/generic/winograd_filters.h has their arithmetic.
#pragma once

#include <cstdint>

#include "base/span.h"
#include "kernels/contract/winograd.h"
#include "kernels/kernel_set.h"
#include "kernels/shapes.h"
#include "pack/low_bit.h"
#include "pack/winograd_codes.h"

namespace pqi::conv {

// A position of the transformed input is a weighted sum of codes: the sum of the weights of those that are added, and of those that are
// subtracted.
struct InputWeights {
  int added = 0, subtracted = 0;
};

struct WinogradFilter {
  const char* name;      // of the algorithm: Session(algorithm=)
  const char* suffix;    // of executed_as
  const char* products;  // what it saves, for people
  pack::CodeTransform codes;
  int rows, columns;  // output pixels of a tile
  // The output pixels come out of the integer transform multiplied by this factor, and an arithmetic shift removes it (for F(4,3) 3 of the
  // 24 goes by its inverse, so 8 are left).
  int factor;
  int64_t max_tiles;    // whose products are made at a time
  bool inner_products;  // do the products have kernels for inner products under this filter?
  kernels::WinogradKernels kernels::KernelSet::* kernels;
  InputWeights (*input_weights)(int position);

  int positions() const { return codes.positions; }
  // Kernel rows whose products are added up for each position: 3 where the filter goes along rows only, else 1.
  int taps() const { return codes.taps; }
  int pixels_across() const { return columns + 2; }  // input pixels under a tile
  // What is added to a position, modulo 256, so that it is never below 0 while codes lie in [qmin, qmax].
  int Offset(int position, int qmin, int qmax) const {
    const InputWeights weights = input_weights(position);
    return weights.subtracted * qmax - weights.added * qmin;
  }
};

inline constexpr int kWinogradFilters = 4;
extern const WinogradFilter kWinograd1d, kWinograd1d4, kWinograd4x4, kWinograd2d;
// All of them, in the order in which the planner tries them.
Span<const WinogradFilter* const> AllWinogradFilters();

// The tiles of a layer's output, image by image and row by row.
struct TileGrid {
  struct Place {
    int64_t image, y, x;  // of the tile's first output pixel
  };
  int64_t across, down;   // tiles of an image
  int64_t rows, columns;  // output pixels of a tile
  TileGrid(const WinogradFilter& filter, const kernels::ConvShape& s)
      : across((s.out_w() + filter.columns - 1) / filter.columns),
        down((s.out_h() + filter.rows - 1) / filter.rows),
        rows(filter.rows),
        columns(filter.columns) {}
  Place At(int64_t tile) const { return {tile / across / down, tile / across % down * rows, tile % across * columns}; }
};

}  // namespace pqi::conv
