// The transformed input of a Winograd layer, and the product kernels' pointers to it, a block of tiles at a time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "conv/layout.h"
#include "conv/method.h"
#include "conv/winograd_filter.h"

namespace pqi::conv {

// Where the transformed input lies in the thread's scratch memory: offsets in bytes, appended to `bytes`.
//
// Filters over both dimensions fill v[positions][tiles of a block][stride] anew for every block. Those along rows fill
// v[slots][positions][tiles of an image row][stride]: an image row serves three output rows, so it is transformed once, as a whole, and
// stays while this block or the next one reads it. Row g of the padded rows of all images is in slot g modulo `slots`.
struct TransformedLayout {
  size_t stride = 0, plane = 0;  // bytes from tile to tile, and from position to position
  int64_t slots = 1;
  size_t padding = 0;  // u8[c]: a pixel of padding
  size_t pixels = 0;   // const uint8_t*[]: what the transform reads at a time
  size_t rows = 0;     // const uint8_t*[tiles of a block][taps]: what the products read of position 0
  size_t v = 0;

  TransformedLayout(const ConvLayout& layout, const kernels::ConvShape& shape, size_t* bytes);
};

class TransformedInput {
 public:
  TransformedInput(const LayerU8& layer, const TransformedLayout& at, const ConvRun<uint8_t>& run, uint8_t* memory) noexcept;

  // Transforms tiles [first, first + tiles), which lie behind those of the call before. Products read at most tile.mr of them at a time.
  void Load(int64_t first, int64_t tiles) noexcept;
  // The rows [taps][m] of position 0 for the product that begins at tile t of the block; the rows of position p lie p planes on.
  const uint8_t* const* Rows(int64_t t) const noexcept { return rows_ + t * filter_.taps(); }

 private:
  void LoadTiles(int64_t first, int64_t tiles) noexcept;
  void LoadRows(int64_t first, int64_t tiles) noexcept;
  void PointToRows(int64_t first, int64_t m, const uint8_t** list) const noexcept;
  void TransformRow(int64_t padded_row) noexcept;
  void Transform(int64_t tiles, uint8_t* v) noexcept;
  uint8_t* Slot(int64_t padded_row) const noexcept;

  const LayerU8& layer_;
  const TransformedLayout& at_;
  const kernels::ConvShape& shape_;
  const WinogradFilter& filter_;
  const TileGrid grid_;
  const uint8_t* const x_;
  uint8_t* const padding_;
  const uint8_t** const pixels_;
  const uint8_t** const rows_;
  uint8_t* const v_;
  int64_t transformed_ = 0;  // along rows: the padded rows from this one on are still to be transformed
};

}  // namespace pqi::conv
