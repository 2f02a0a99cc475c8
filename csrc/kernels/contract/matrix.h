// Convolutions on matrix registers (Intel AMX), in blocks of 16 positions by 16 channels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/contract/tile.h"

namespace pqi::kernels {

// A band of output positions of a convolution. The rows of a matrix register are evenly spaced in memory, which positions inside one padded
// image are: they run on through the columns beyond the output's width, and give no output there. The left operand of position p is
// `pieces` pieces of `bytes` k-values, and piece i begins at a + p * stride + offset[i].
//
// Panels have kMatrixChannels channels: for each piece, two blocks of 16 channels, each of them bytes/4 x 16 channels x 4 k-values. The
// weights are 0 where k-values of a piece belong to the piece before it, or lie beyond the window.
inline constexpr int kMatrixRows = 16, kMatrixBytes = 64, kMatrixChannels = 32;
struct TileMatrixU8S8 {
  const uint8_t* a;
  size_t stride;
  const ptrdiff_t* offset;  // [pieces]
  uint32_t pieces;
  uint32_t bytes;        // k-values of a piece: a multiple of 4, at most 64, and all of them are read
  uint32_t positions;    // at least 16
  const int32_t* pixel;  // [positions] the output pixel of each position, or -1; nullptr: position p is pixel p
  const int8_t* w;       // the first panel, 64-byte aligned
  size_t panel_bytes;    // bytes from panel to panel, a multiple of 64
  // The epilogue of the first panel and pixel 0. n counts the channels of all panels, and init, scale and bias go on for these. a, taps, k,
  // w, box and row are not read, and there is no base.
  TileU8S8 epilogue;
};

struct MatrixSet {
  void (*u8s8_matrix)(const TileMatrixU8S8&) noexcept;  // null: no matrix registers. Must not be called within a TileScope
};

}  // namespace pqi::kernels
