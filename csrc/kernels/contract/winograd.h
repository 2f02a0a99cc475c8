// Winograd's transforms, before and after the products. A tile is
//   2d    F(2x2,3x3): 2x2 outputs over 4x4 pixels, 16 positions
//   4x4   F(4x4,3x3): 4x4 outputs over 6x6 pixels, 46 positions
//   1d    F(2,3) along x: two neighbours over four pixels of one image row, 4 positions
//   1d4   F(4,3) along x: four neighbours over six, 6 positions
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/contract/tile.h"

namespace pqi::kernels {

// Before: v[p*plane + t*stride + c] = byte p of B^T d B (B^T d) of channel c under tile t, plus offset[p], modulo 256. d is the 4x4 (6x6)
// pixels from pixels[t*16] (t*36) on, row by row, or the four at pixels[t*2 + x] (six at t*4 + x), which tiles share. Rows of v are written
// up to the next multiple of kWinogradPad channels.
inline constexpr int kWinogradPad = 64;
struct WinogradInput {
  const uint8_t* const* pixels;
  uint32_t tiles, channels;
  const uint8_t* offset;  // [positions]
  uint8_t* v;             // 64-byte aligned, as are stride and plane
  size_t stride, plane;
};
// After: A^T m A / 4 (/ 16; A^T m / 2, / 24) of `tiles` neighbours in x, and then the epilogue. sums[p*plane + t*nr + j] belongs to
// position p.
struct WinogradOutput {
  const int32_t* sums;
  size_t plane;
  uint32_t tiles, rows, columns;  // outputs that exist: 1 to 4 rows of `columns` pixels, at least one in every tile
  TileU8S8 epilogue;              // of the upper row; a, taps, k, w, init are not read; no base
  size_t row_pixels;              // pixels between the rows of the output, and of a residual
};
struct WinogradKernels {
  void (*input)(const WinogradInput&) noexcept;  // null: the set has no such kernels
  void (*output)(const WinogradOutput&) noexcept;
};

struct WinogradSet {
  WinogradKernels winograd_1d, winograd_1d4, winograd_2d, winograd_4x4;
};

}  // namespace pqi::kernels
