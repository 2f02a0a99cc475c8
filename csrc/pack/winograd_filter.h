// Winograd's filters as the packer sees them (kernels/generic/winograd.h has the arithmetic).
#pragma once

#include <cstdint>

#include "kernels/contract.h"
#include "kernels/shapes.h"
#include "pack/layout.h"

namespace pqi::pack {

inline constexpr int kWinogradPositions = 16;  // at most

struct WinogradFilter {
  int positions;      // of a tile
  int taps;           // kernel rows that the products still add up
  int rows;           // of output pixels in a tile, which has two columns
  int factor;         // a transformed input has so many codes, and the output transform gives so many times the sum
  int common;         // the position that enters every output with a plus sign: what it gets once, every sum gets once
  int64_t max_tiles;  // whose products are made at a time
};
// Of k1d and k2d.
const WinogradFilter& FilterOf(Winograd winograd);
const kernels::WinogradKernels& FilterKernels(const kernels::KernelSet& set, Winograd winograd);

// u[positions][taps] = 4 G g G^T (2 G g of each kernel row) of one kernel whose nine codes lie `stride` apart. |u| <= 9 (3) * 128.
void TransformKernel(Winograd winograd, const int8_t* g, int64_t stride, int32_t* u);

// What is added to a position of the transformed input so that it is least 0 (modulo 256): codes lie in [qmin, qmax].
int WinogradOffset(Winograd winograd, int position, int qmin, int qmax);

// The tiles of a layer's output, image by image and row by row.
struct TileGrid {
  // Where a tile lies.
  struct Place {
    int64_t image, y, x;  // of its first output pixel
  };
  int64_t across, down, rows;  // tiles; rows of pixels in one
  TileGrid(const WinogradFilter& filter, const kernels::ConvShape& s)
      : across((s.out_w() + 1) / 2), down((s.out_h() + filter.rows - 1) / filter.rows), rows(filter.rows) {}
  Place At(int64_t tile) const { return {tile / across / down, tile / across % down * rows, tile % across * 2}; }
};

}  // namespace pqi::pack
