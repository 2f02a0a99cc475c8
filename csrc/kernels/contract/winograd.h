// Winograd's transforms, before and after the products (kernels/generic/winograd_filters.h). d is what a tile reads of one channel, m its
// sums, one for each position, and n the factor by which A^T m A comes out too large.
//
//   filter  name               outputs              reads d            positions   n
//   2d      F(2x2,3x3)         2x2                  4x4 pixels            16       4
//   4x4     F(4x4,3x3)         4x4                  6x6 pixels            46      16
//   1d      F(2,3) along x     2 in an image row    4 pixels of a row      4       2
//   1d4     F(4,3) along x     4 in an image row    6 pixels of a row      6      24
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/contract/tile.h"

namespace pqi::kernels {

// The input transform: v[p*plane + t*stride + c] = byte p of B^T d B (along x alone: B^T d) of channel c under tile t, plus offset[p],
// modulo 256. The 4x4 (6x6) pixels of tile t begin at pixels[t*16] (t*36), row by row. Along x tiles share pixels: those of tile t begin at
// pixels[t*2] (t*4). Rows of v are written up to the next multiple of kWinogradPad channels.
inline constexpr int kWinogradPad = 64;
struct WinogradInput {
  const uint8_t* const* pixels;
  uint32_t tiles, channels;
  const uint8_t* offset;  // [positions]
  uint8_t* v;             // 64-byte aligned
  size_t stride, plane;   // multiples of 64
};
// The output transform and the epilogue: (A^T m A) / n (along x alone: (A^T m) / n) of `tiles` neighbours in x. The sums of position p and
// tile t are sums[p*plane + t*nr + j].
struct WinogradOutput {
  const int32_t* sums;
  size_t plane;
  uint32_t tiles, rows, columns;  // outputs that exist: 1 to 4 rows of `columns` pixels, at least one pixel in every tile
  TileU8S8 epilogue;              // the epilogue of the upper row; a, taps, k, w and init are not read, and there is no base
  size_t row_pixels;              // pixels from row to row of the output, and of a residual
};
struct WinogradKernels {
  void (*input)(const WinogradInput&) noexcept;  // null: the set has no such kernels
  void (*output)(const WinogradOutput&) noexcept;
};

struct WinogradSet {
  WinogradKernels winograd_1d, winograd_1d4, winograd_2d, winograd_4x4;
};

}  // namespace pqi::kernels
