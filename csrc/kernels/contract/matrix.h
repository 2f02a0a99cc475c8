// Convolutions on matrix registers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/contract/tile.h"

namespace pqi::kernels {

// A band of output positions of a conv, on matrix registers (Intel AMX): blocks of 16 positions by 16 channels. The left operand of
// position p is `pieces` pieces of `bytes` k-values, piece i at a + p * stride + offset[i]: the rows of a matrix register are evenly spaced
// in memory. That is so inside one padded image, where positions run on through the columns beyond the output's width; those give no
// output. Panels of kMatrixChannels channels: for each piece, two blocks of 16 channels, of each bytes/4 x 16 channels x 4 k-values.
// k-values that a piece shares with the one before it, or that lie beyond the window, have weight 0.
inline constexpr int kMatrixRows = 16, kMatrixBytes = 64, kMatrixChannels = 32;
struct TileMatrixU8S8 {
  const uint8_t* a;
  size_t stride;
  const ptrdiff_t* offset;  // [pieces]
  uint32_t pieces;
  uint32_t bytes;        // of a piece: a multiple of 4, at most 64; all of them are read
  uint32_t positions;    // at least 16
  const int32_t* pixel;  // [positions] the output pixel of each, or -1; nullptr: position p is pixel p
  const int8_t* w;       // 64-byte aligned, as is panel_bytes
  size_t panel_bytes;
  // Of the first panel; n counts the channels of all panels, and init, scale and bias go on behind it. `out` and the residual are those of
  // pixel 0. a, taps, k, w, box and row are not read; no base.
  TileU8S8 epilogue;
};

struct MatrixSet {
  void (*u8s8_matrix)(const TileMatrixU8S8&) noexcept;  // null: no matrix registers. Not within a TileScope
};

}  // namespace pqi::kernels
