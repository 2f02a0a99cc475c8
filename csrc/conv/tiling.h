// From a range of output pixels to kernel calls: blocks of pixels, groups, panels, tiles of nearly equal height.
//
// A block's pointers are made once for all panels of a group. A panel is read from L2 once per tile, which costs 4*nr bytes per mr dot
// products and is far below what L2 delivers.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "conv/layout.h"
#include "conv/run.h"
#include "conv/split.h"
#include "conv/window_cursor.h"
#include "kernels/shapes.h"
#include "pack/arrange.h"

namespace pqi::conv {

// With fewer channels than this in a group a tap is too short for a tile kernel's loop: lines or windows are copied.
inline constexpr int64_t kFewChannels = 16;
inline bool FewChannels(const kernels::ConvShape& s) { return s.group_inputs() < kFewChannels; }

// One kernel call, without what the element types need of their own.
template <typename T>
struct Tile {
  const T* const* a;  // [taps][m], or [m] with a tap_step
  int64_t tap_step;
  int64_t index, tiles;  // number of the tile among those of its block that run over the panel
  int64_t m, n;
  int64_t row;      // first output pixel
  int64_t channel;  // first output channel
  int64_t panel;
  const int32_t* box;    // [m] sum(q_a - z_a) of each window, where the layer has a base
  const int32_t* terms;  // [m] row terms of inner products
};

// A panel and the output channels that it computes.
struct PanelPlace {
  int64_t panel, channel, n;
};

// Calls group_fn(group) before the first panel of each group that the part has, and panel_fn(PanelPlace) for every panel.
template <typename GroupFn, typename PanelFn>
void ForEachPanel(const ConvLayout& layout, const kernels::ConvShape& s, const ConvPart& part, GroupFn&& group_fn, PanelFn&& panel_fn) {
  for (int64_t panel = part.panel_begin; panel < part.panel_end;) {
    const int64_t group = panel / layout.panels_per_group;
    const int64_t panel_end = std::min(part.panel_end, (group + 1) * layout.panels_per_group);
    group_fn(group);
    for (; panel < panel_end; ++panel) {
      const int64_t first = panel % layout.panels_per_group * layout.tile.nr;
      panel_fn(PanelPlace{panel, group * s.group_outputs() + first, std::min<int64_t>(layout.tile.nr, s.group_outputs() - first)});
    }
  }
}

// A thread's scratch memory for tiles over pointers: offsets in bytes.
template <typename T>
struct TileScratch {
  size_t padding = 0;   // T[k]: what a tap outside the image reads
  size_t offsets = 0;   // ptrdiff_t[taps]: elements from a window's first tap to each tap
  size_t pointers = 0;  // const T*[block_rows * taps]
  size_t windows = 0;   // T[block_rows * taps * k]: copies of windows, where the layout makes any
  size_t boxes = 0;     // int32_t[block_rows]
  size_t terms = 0;     // int32_t[block_rows], for inner products
  size_t bytes = 0;

  TileScratch(const ConvLayout& layout, const kernels::ConvShape& shape) {
    const size_t rows = static_cast<size_t>(layout.block_rows);
    padding = pack::Append(&bytes, static_cast<size_t>(layout.k) * sizeof(T));
    offsets = pack::Append(&bytes, static_cast<size_t>(shape.taps()) * sizeof(ptrdiff_t));
    pointers = pack::Append(&bytes, rows * static_cast<size_t>(layout.taps) * sizeof(const T*));
    if (layout.windows != Windows::kTaps) {
      windows = pack::Append(&bytes, rows * static_cast<size_t>(layout.taps * layout.k) * sizeof(T));
    }
    if (layout.has_base) boxes = pack::Append(&bytes, rows * sizeof(int32_t));
    if (layout.algorithm.product == Product::kInnerProduct) terms = pack::Append(&bytes, rows * sizeof(int32_t));
  }
};

// Pointers to the windows of m pixels, from the cursor on: list[tap * m + i], to `inputs` channels from `channel` on. `windows` has room
// for copies of m windows.
template <typename T>
void TilePointers(const ConvLayout& layout, int64_t channel, int64_t inputs, int64_t m, WindowCursor<T>* cursor, T* windows,
                  const T** list) {
  const bool runs = layout.windows == Windows::kRuns, copies = layout.windows == Windows::kCopies;
  for (int64_t i = 0; i < m;) {
    const int64_t interior = copies ? 0 : cursor->Interior(m - i);
    if (interior > 0) {
      cursor->InteriorPointers(channel, runs, interior, list + i, static_cast<size_t>(m));
      i += interior;
      continue;
    }
    T* window = windows + i * layout.taps * layout.k;
    if (copies) {
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

// Calls tile_fn(Tile<T>) for every tile of a part whose kernel computes `mr` pixels at most, and rows_fn(pointers, m, box, terms) before a
// tile's first use.
template <typename T, typename RowsFn, typename TileFn>
void ForEachTile(const ConvLayout& layout, const ConvRun<T>& run, const ConvPart& part, int64_t mr, T padding_value, void* scratch,
                 RowsFn&& rows_fn, TileFn&& tile_fn) {
  using pack::At;
  using pack::PieceBegin;
  const kernels::ConvShape& s = run.shape;
  const TileScratch<T> offsets(layout, s);
  uint8_t* memory = static_cast<uint8_t*>(scratch);
  T* padding = At<T>(memory, offsets.padding);
  std::fill(padding, padding + layout.k, padding_value);
  const T** pointers = At<const T*>(memory, offsets.pointers);
  T* windows = At<T>(memory, offsets.windows);
  int32_t* boxes = At<int32_t>(memory, offsets.boxes);
  int32_t* terms = At<int32_t>(memory, offsets.terms);
  WindowCursor<T> cursor(s, run.x, padding, At<ptrdiff_t>(memory, offsets.offsets));

  const int64_t rows = part.row_end - part.row_begin;
  const int64_t blocks = pack::CeilDiv(rows, layout.block_rows);
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t row = part.row_begin + PieceBegin(rows, blocks, b);
    const int64_t count = part.row_begin + PieceBegin(rows, blocks, b + 1) - row;
    const int64_t tiles = pack::CeilDiv(count, mr);
    const auto make_pointers = [&](int64_t group) {
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
    };
    ForEachPanel(layout, s, part, make_pointers, [&](const PanelPlace& p) {
      for (int64_t t = 0; t < tiles; ++t) {
        const int64_t at = PieceBegin(count, tiles, t), m = PieceBegin(count, tiles, t + 1) - at;
        tile_fn(Tile<T>{pointers + at * layout.taps, 0, t, tiles, m, p.n, row + at, p.channel, p.panel, boxes + at, terms + at});
      }
    });
  }
}

}  // namespace pqi::conv
