// From a range of output pixels to kernel calls: row pointers or gathered windows, blocks of rows, tiles of nearly equal height.
//
// Order of work: blocks of rows, then groups, then panels, then tiles. A block's pointers are made once for all panels; a panel is read
// from L2 once per tile, which costs 4*nr bytes per mr dot products and is far below what L2 delivers.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/shapes.h"
#include "pack/conv.h"
#include "pack/layout.h"

namespace pqi::pack {

// Piece i of n elements in `pieces` pieces whose sizes differ by at most one.
inline int64_t PieceBegin(int64_t n, int64_t pieces, int64_t i) { return n / pieces * i + std::min(i, n % pieces); }

// The thread's scratch memory: offsets in bytes. Also the one place that knows its size.
template <typename T>
struct Scratch {
  size_t padding = 0;   // T[k]: a row of padding
  size_t offsets = 0;   // ptrdiff_t[taps]: elements from a window's first tap to each tap
  size_t pointers = 0;  // const T*[block_rows * taps]
  size_t windows = 0;   // T[block_rows * taps * k]: copies, where the method makes any
  size_t boxes = 0;     // int32_t[block_rows]
  size_t bytes = 0;

  Scratch(const ConvLayout& layout, const kernels::ConvShape& shape) {
    const size_t rows = static_cast<size_t>(layout.block_rows);
    const size_t row_elements = static_cast<size_t>(layout.method == Method::kDepthwise ? shape.c : layout.k);
    if (layout.method == Method::kReference) return;
    padding = Append(row_elements * sizeof(T));
    offsets = Append(static_cast<size_t>(shape.taps()) * sizeof(ptrdiff_t));
    pointers = Append(rows * static_cast<size_t>(layout.taps) * sizeof(const T*));
    if (layout.method == Method::kGather || layout.method == Method::kRuns) {
      windows = Append(rows * static_cast<size_t>(layout.taps * layout.k) * sizeof(T));
    }
    if (layout.has_base) boxes = Append(rows * sizeof(int32_t));
  }

 private:
  size_t Append(size_t n) {
    const size_t at = bytes;
    bytes += (n + kAlignment - 1) / kAlignment * kAlignment;
    return at;
  }
};

// Walks over output pixels and finds the input under their windows.
template <typename T>
class WindowCursor {
 public:
  // `offsets` is filled here; `padding` stands for every tap outside the image.
  WindowCursor(const kernels::ConvShape& shape, const T* x, const T* padding, ptrdiff_t* offsets)
      : s_(shape), x_(x), padding_(padding), offsets_(offsets), out_h_(shape.out_h()), out_w_(shape.out_w()) {
    for (int64_t kh = 0; kh < s_.kh; ++kh) {
      for (int64_t kw = 0; kw < s_.kw; ++kw) offsets[kh * s_.kw + kw] = (kh * s_.dilation_h * s_.w + kw * s_.dilation_w) * s_.c;
    }
  }

  void Seek(int64_t row) {
    out_x_ = row % out_w_;
    out_y_ = row / out_w_ % out_h_;
    image_ = row / out_w_ / out_h_;
  }
  void Next() {
    if (++out_x_ < out_w_) return;
    out_x_ = 0;
    if (++out_y_ < out_h_) return;
    out_y_ = 0;
    ++image_;
  }

  // pointers[tap * stride] = first channel of the tap's pixel plus `channel`, or the padding.
  void Pointers(int64_t channel, const T** pointers, size_t stride) const {
    const int64_t y0 = y(), x0 = x();
    const int64_t first = Element(y0, x0, channel);
    if (y0 >= 0 && x0 >= 0 && y0 + (s_.kh - 1) * s_.dilation_h < s_.h && x0 + (s_.kw - 1) * s_.dilation_w < s_.w) {
      for (int64_t tap = 0; tap < s_.taps(); ++tap) pointers[static_cast<size_t>(tap) * stride] = x_ + (first + offsets_[tap]);
      return;
    }
    for (int64_t kh = 0, tap = 0; kh < s_.kh; ++kh) {
      const bool row_inside = InRange(y0 + kh * s_.dilation_h, s_.h);
      for (int64_t kw = 0; kw < s_.kw; ++kw, ++tap) {
        const bool inside = row_inside && InRange(x0 + kw * s_.dilation_w, s_.w);
        pointers[static_cast<size_t>(tap) * stride] = inside ? x_ + (first + offsets_[tap]) : padding_;
      }
    }
  }

  // One pointer per kernel row. A row that crosses the left or right border is copied to window + kh*kw*c.
  void RunPointers(const T** pointers, size_t stride, T* window) const {
    const int64_t y0 = y(), x0 = x(), run = s_.kw * s_.c;
    const bool inside = x0 >= 0 && x0 + s_.kw <= s_.w;
    for (int64_t kh = 0; kh < s_.kh; ++kh, window += run) {
      const int64_t iy = y0 + kh * s_.dilation_h;
      const T** pointer = pointers + static_cast<size_t>(kh) * stride;
      if (!InRange(iy, s_.h)) {
        *pointer = padding_;
      } else if (inside) {
        *pointer = x_ + Element(iy, x0, 0);
      } else {
        CopyBorderRun(iy, x0, window);
        *pointer = window;
      }
    }
  }

  // Copies the window of one group, taps in order.
  void Gather(int64_t channel, int64_t count, T* window) const {
    const int64_t y0 = y(), x0 = x(), run = s_.kw * count;
    const bool neighbours = s_.dilation_w == 1 && s_.groups == 1;
    const bool inside = x0 >= 0 && x0 + s_.kw <= s_.w;
    for (int64_t kh = 0; kh < s_.kh; ++kh, window += run) {
      const int64_t iy = y0 + kh * s_.dilation_h;
      if (!InRange(iy, s_.h)) {
        for (int64_t kw = 0; kw < s_.kw; ++kw) Copy(padding_, count, window + kw * count);
      } else if (neighbours && inside) {
        Copy(x_ + Element(iy, x0, 0), run, window);
      } else if (neighbours) {
        CopyBorderRun(iy, x0, window);
      } else {
        for (int64_t kw = 0; kw < s_.kw; ++kw) {
          const int64_t ix = x0 + kw * s_.dilation_w;
          Copy(InRange(ix, s_.w) ? x_ + Element(iy, ix, channel) : padding_, count, window + kw * count);
        }
      }
    }
  }

 private:
  int64_t y() const { return out_y_ * s_.stride_h - s_.pad_top; }
  int64_t x() const { return out_x_ * s_.stride_w - s_.pad_left; }
  static bool InRange(int64_t i, int64_t n) { return i >= 0 && i < n; }
  // May be outside the image: an index, not yet a pointer.
  int64_t Element(int64_t iy, int64_t ix, int64_t channel) const { return ((image_ * s_.h + iy) * s_.w + ix) * s_.c + channel; }

  // The kw pixels of image row iy from column x0 on, of which some lie in the padding.
  void CopyBorderRun(int64_t iy, int64_t x0, T* run) const {
    const int64_t begin = std::min(std::max<int64_t>(-x0, 0), s_.kw), end = std::max(std::min(s_.w - x0, s_.kw), begin);
    std::fill(run, run + begin * s_.c, *padding_);
    if (begin < end) std::copy_n(x_ + Element(iy, x0 + begin, 0), (end - begin) * s_.c, run + begin * s_.c);
    std::fill(run + end * s_.c, run + s_.kw * s_.c, *padding_);
  }

  // Runs are a few dozen bytes: a call of memcpy would cost more than the copy. Overlapping pieces cover any length exactly.
  static void Copy(const T* from, int64_t elements, T* to) {
    const size_t n = static_cast<size_t>(elements) * sizeof(T);
    const char* f = reinterpret_cast<const char*>(from);
    char* t = reinterpret_cast<char*>(to);
    if (n >= 16) {
      for (size_t i = 0; i + 16 < n; i += 16) std::memcpy(t + i, f + i, 16);
      std::memcpy(t + n - 16, f + n - 16, 16);
    } else if (n >= 8) {
      std::memcpy(t, f, 8);
      std::memcpy(t + n - 8, f + n - 8, 8);
    } else if (n >= 4) {
      std::memcpy(t, f, 4);
      std::memcpy(t + n - 4, f + n - 4, 4);
    } else {
      for (size_t i = 0; i < n; ++i) t[i] = f[i];
    }
  }

  const kernels::ConvShape& s_;
  const T* x_;
  const T* padding_;
  const ptrdiff_t* offsets_;
  int64_t out_h_, out_w_;
  int64_t image_ = 0, out_y_ = 0, out_x_ = 0;
};

// One kernel call, without what the element types need of their own.
template <typename T>
struct Tile {
  const T* const* a;  // [taps][m]
  int64_t m, n;
  int64_t row;      // first output pixel
  int64_t channel;  // first output channel
  int64_t panel;
  const int32_t* box;  // [m], where the layer has a base
};

// Calls tile_fn(Tile<T>) for every tile of a part, and box_fn(pointers, m, box) before a tile's first use where the layer has a base.
template <typename T, typename BoxFn, typename TileFn>
void ForEachTile(const ConvLayout& layout, const ConvRun<T>& run, const ConvPart& part, T padding_value, void* scratch, BoxFn&& box_fn,
                 TileFn&& tile_fn) {
  const kernels::ConvShape& s = run.shape;
  const Scratch<T> offsets(layout, s);
  uint8_t* memory = static_cast<uint8_t*>(scratch);
  T* padding = reinterpret_cast<T*>(memory + offsets.padding);
  std::fill(padding, padding + layout.k, padding_value);
  const T** pointers = reinterpret_cast<const T**>(memory + offsets.pointers);
  T* windows = reinterpret_cast<T*>(memory + offsets.windows);
  int32_t* boxes = reinterpret_cast<int32_t*>(memory + offsets.boxes);
  WindowCursor<T> cursor(s, run.x, padding, reinterpret_cast<ptrdiff_t*>(memory + offsets.offsets));

  const int64_t rows = part.row_end - part.row_begin;
  const int64_t blocks = (rows + layout.block_rows - 1) / layout.block_rows;
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t row = part.row_begin + PieceBegin(rows, blocks, b);
    const int64_t count = part.row_begin + PieceBegin(rows, blocks, b + 1) - row;
    const int64_t tiles = (count + layout.tile.mr - 1) / layout.tile.mr;
    for (int64_t panel = part.panel_begin; panel < part.panel_end;) {
      const int64_t group = panel / layout.panels_per_group;
      const int64_t panel_end = std::min(part.panel_end, (group + 1) * layout.panels_per_group);
      cursor.Seek(row);
      for (int64_t t = 0; t < tiles; ++t) {
        const int64_t at = PieceBegin(count, tiles, t), m = PieceBegin(count, tiles, t + 1) - at;
        const T** list = pointers + at * layout.taps;
        for (int64_t i = 0; i < m; ++i, cursor.Next()) {
          T* window = windows + (at + i) * layout.taps * layout.k;
          if (layout.method == Method::kGather) {
            list[i] = window;
            cursor.Gather(group * s.group_inputs(), s.group_inputs(), window);
          } else if (layout.method == Method::kRuns) {
            cursor.RunPointers(list + i, static_cast<size_t>(m), window);
          } else {
            cursor.Pointers(group * s.group_inputs(), list + i, static_cast<size_t>(m));
          }
        }
        if (layout.has_base) box_fn(list, m, boxes + at);
      }
      for (; panel < panel_end; ++panel) {
        const int64_t first = panel % layout.panels_per_group * layout.tile.nr;
        const int64_t n = std::min<int64_t>(layout.tile.nr, s.group_outputs() - first);
        for (int64_t t = 0; t < tiles; ++t) {
          const int64_t at = PieceBegin(count, tiles, t), m = PieceBegin(count, tiles, t + 1) - at;
          tile_fn(Tile<T>{pointers + at * layout.taps, m, n, row + at, group * s.group_outputs() + first, panel, boxes + at});
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
  T* padding = reinterpret_cast<T*>(memory + offsets.padding);
  std::fill(padding, padding + run.shape.c, padding_value);
  const T** pointers = reinterpret_cast<const T**>(memory + offsets.pointers);
  WindowCursor<T> cursor(run.shape, run.x, padding, reinterpret_cast<ptrdiff_t*>(memory + offsets.offsets));
  cursor.Seek(part.row_begin);
  for (int64_t row = part.row_begin; row < part.row_end; ++row, cursor.Next()) {
    cursor.Pointers(0, pointers, 1);
    pixel_fn(pointers, row);
  }
}

}  // namespace pqi::pack
