// From a range of output pixels to kernel calls: blocks of rows, tiles of nearly equal height, scratch memory.
//
// Order of work: blocks of rows, then groups, then panels, then tiles. A block's pointers are made once for all panels; a panel is read
// from L2 once per tile, which costs 4*nr bytes per mr dot products and is far below what L2 delivers.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/shapes.h"
#include "pack/arrange.h"
#include "pack/conv.h"
#include "pack/layout.h"
#include "pack/window_cursor.h"

namespace pqi::pack {

// The thread's scratch memory: offsets in bytes. Also the one place that knows its size.
template <typename T>
struct Scratch {
  size_t padding = 0;   // T[k]: a row of padding
  size_t offsets = 0;   // ptrdiff_t[taps]: elements from a window's first tap to each tap
  size_t pointers = 0;  // const T*[block_rows * taps]
  size_t windows = 0;   // T[block_rows * taps * k]: copies, where the method makes any
  size_t boxes = 0;     // int32_t[block_rows]
  size_t terms = 0;     // int32_t[block_rows], for inner products
  size_t bytes = 0;

  Scratch(const ConvLayout& layout, const kernels::ConvShape& shape) {
    const size_t rows = static_cast<size_t>(layout.block_rows);
    const size_t row_elements = static_cast<size_t>(layout.method == Method::kDepthwise ? shape.c : layout.k);
    if (layout.method == Method::kReference) return;
    padding = Append(&bytes, row_elements * sizeof(T));
    offsets = Append(&bytes, static_cast<size_t>(shape.taps()) * sizeof(ptrdiff_t));
    pointers = Append(&bytes, rows * static_cast<size_t>(layout.taps) * sizeof(const T*));
    if (layout.method == Method::kGather || layout.method == Method::kRuns) {
      windows = Append(&bytes, rows * static_cast<size_t>(layout.taps * layout.k) * sizeof(T));
    }
    if (layout.has_base) boxes = Append(&bytes, rows * sizeof(int32_t));
    if (layout.algorithm.product == Product::kInnerProduct) terms = Append(&bytes, rows * sizeof(int32_t));
  }
};

// One kernel call, without what the element types need of their own.
template <typename T>
struct Tile {
  const T* const* a;  // [taps][m], or [m] with a tap_step
  int64_t tap_step;
  int64_t index;  // which tile of its panel, from the first of a block of pixels on
  int64_t m, n;
  int64_t row;      // first output pixel
  int64_t channel;  // first output channel
  int64_t panel;
  const int32_t* box;    // [m], where the layer has a base
  const int32_t* terms;  // [m], for inner products
};

// Pointers of a tile's m pixels, from the cursor on, to `inputs` channels from `channel` on: list[tap * m + i]. `windows` has room for m
// windows.
template <typename T>
void TilePointers(const ConvLayout& layout, int64_t channel, int64_t inputs, int64_t m, WindowCursor<T>* cursor, T* windows,
                  const T** list) {
  const bool runs = layout.method == Method::kRuns;
  for (int64_t i = 0; i < m;) {
    const int64_t interior = layout.method == Method::kGather ? 0 : cursor->Interior(m - i);
    if (interior > 0) {
      cursor->InteriorPointers(channel, runs, interior, list + i, static_cast<size_t>(m));
      i += interior;
      continue;
    }
    T* window = windows + i * layout.taps * layout.k;
    if (layout.method == Method::kGather) {
      list[i] = window;
      cursor->Gather(channel, inputs, window);
    } else if (runs) {
      cursor->RunPointers(list + i, static_cast<size_t>(m), window);
    } else {
      cursor->Pointers(channel, list + i, static_cast<size_t>(m));
    }
    cursor->Next();
    ++i;
  }
}

// Calls tile_fn(Tile<T>) for every tile of a part, and rows_fn(pointers, m, box, terms) before a tile's first use.
template <typename T, typename RowsFn, typename TileFn>
void ForEachTile(const ConvLayout& layout, const ConvRun<T>& run, const ConvPart& part, T padding_value, void* scratch, RowsFn&& rows_fn,
                 TileFn&& tile_fn) {
  const kernels::ConvShape& s = run.shape;
  const Scratch<T> offsets(layout, s);
  uint8_t* memory = static_cast<uint8_t*>(scratch);
  T* padding = At<T>(memory, offsets.padding);
  std::fill(padding, padding + layout.k, padding_value);
  const T** pointers = At<const T*>(memory, offsets.pointers);
  T* windows = At<T>(memory, offsets.windows);
  int32_t* boxes = At<int32_t>(memory, offsets.boxes);
  int32_t* terms = At<int32_t>(memory, offsets.terms);
  WindowCursor<T> cursor(s, run.x, padding, At<ptrdiff_t>(memory, offsets.offsets));

  const int64_t rows = part.row_end - part.row_begin;
  const int64_t blocks = CeilDiv(rows, layout.block_rows);
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t row = part.row_begin + PieceBegin(rows, blocks, b);
    const int64_t count = part.row_begin + PieceBegin(rows, blocks, b + 1) - row;
    const int64_t tiles = CeilDiv(count, layout.tile.mr);
    for (int64_t panel = part.panel_begin; panel < part.panel_end;) {
      const int64_t group = panel / layout.panels_per_group;
      const int64_t panel_end = std::min(part.panel_end, (group + 1) * layout.panels_per_group);
      if (!s.pointwise()) cursor.Seek(row);
      for (int64_t t = 0; t < tiles; ++t) {
        const int64_t at = PieceBegin(count, tiles, t), m = PieceBegin(count, tiles, t + 1) - at;
        const T** list = pointers + at * layout.taps;
        if (s.pointwise()) {
          const T* pixel = run.x + (row + at) * s.c + group * s.group_inputs();
          for (int64_t i = 0; i < m; ++i) list[i] = pixel + i * s.c;
        } else {
          TilePointers(layout, group * s.group_inputs(), s.group_inputs(), m, &cursor, windows + at * layout.taps * layout.k, list);
        }
        rows_fn(list, m, boxes + at, terms + at);
      }
      for (; panel < panel_end; ++panel) {
        const int64_t first = panel % layout.panels_per_group * layout.tile.nr;
        const int64_t n = std::min<int64_t>(layout.tile.nr, s.group_outputs() - first);
        for (int64_t t = 0; t < tiles; ++t) {
          const int64_t at = PieceBegin(count, tiles, t), m = PieceBegin(count, tiles, t + 1) - at;
          tile_fn(
              Tile<T>{pointers + at * layout.taps, 0, t, m, n, row + at, group * s.group_outputs() + first, panel, boxes + at, terms + at});
        }
      }
    }
  }
}

// Calls pixel_fn(pointers of the taps, output pixel) for every pixel of a part of a depthwise layer.
template <typename T, typename PixelFn>
void ForEachPixel(const ConvLayout& layout, const ConvRun<T>& run, const ConvPart& part, T padding_value, void* scratch,
                  PixelFn&& pixel_fn) {
  const Scratch<T> offsets(layout, run.shape);
  uint8_t* memory = static_cast<uint8_t*>(scratch);
  T* padding = At<T>(memory, offsets.padding);
  std::fill(padding, padding + run.shape.c, padding_value);
  const T** pointers = At<const T*>(memory, offsets.pointers);
  WindowCursor<T> cursor(run.shape, run.x, padding, At<ptrdiff_t>(memory, offsets.offsets));
  cursor.Seek(part.row_begin);
  for (int64_t row = part.row_begin; row < part.row_end; ++row, cursor.Next()) {
    cursor.Pointers(0, pointers, 1);
    pixel_fn(pointers, row);
  }
}

}  // namespace pqi::pack
