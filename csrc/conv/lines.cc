// Windows of few channels per group, as in a network's first layer: lines of the image are copied with their padding, a band of them at a
// time, into L1. Every window is then kh equally spaced runs of kw pixels, so one pointer per window serves all taps, and the borders of
// the image are no special case.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "conv/copy_few.h"
#include "conv/tile_calls.h"
#include "conv/tiling.h"
#include "kernels/contract/tile.h"
#include "kernels/kernel_set.h"
#include "pack/arrange.h"

namespace pqi::conv {
namespace {

// A band stays in L1 beside a panel: whole output rows while their lines fit, else a piece of a row, of kLeastColumns columns at least.
constexpr int64_t kLinesBytes = 1 << 14, kLeastColumns = 16;

// The sizes of bands, and where they lie in the thread's scratch memory: offsets in bytes.
template <typename T>
struct LineBands {
  int64_t channels;   // input channels of a group
  int64_t columns;    // output columns that a band has at most
  int64_t rows;       // output rows that a band of whole rows has at most
  int64_t row_lines;  // lines from one output row to the next; kh where output rows share no line
  int64_t run;        // elements that the kernel reads of a run: its kw pixels, up to a whole block of k
  int64_t step;       // elements from one line to the next
  size_t lines = 0;   // T[lines][step]
  size_t boxes = 0;   // int32_t[rows * columns]
  size_t bytes = 0;

  LineBands(const ConvLayout& layout, const kernels::ConvShape& s) : channels(s.group_inputs()) {
    const int64_t budget = kLinesBytes / static_cast<int64_t>(sizeof(T)), out_w = s.out_w();
    columns = std::min(std::max((budget / s.kh / channels - s.kw) / s.stride_w + 1, kLeastColumns), out_w);
    row_lines = s.dilation_h == 1 ? std::min(s.stride_h, s.kh) : s.kh;
    run = layout.k;
    step = Width(s, columns);
    rows = columns < out_w ? 1 : std::min(std::max<int64_t>((budget / step - s.kh) / row_lines + 1, 1), s.out_h());
    lines = pack::Append(&bytes, static_cast<size_t>(((rows - 1) * row_lines + s.kh) * step) * sizeof(T));
    if (layout.has_base) boxes = pack::Append(&bytes, static_cast<size_t>(rows * columns) * sizeof(int32_t));
  }
  // Elements of a line that lie under `windows` neighbours.
  int64_t Width(const kernels::ConvShape& s, int64_t windows) const { return (windows - 1) * s.stride_w * channels + run; }
};

// Copies what lies under `rows` times `columns` windows of an image from that of output pixel (y, x) on: the channels of a group from
// `channel` on.
template <typename T>
void CopyLines(const LineBands<T>& band, const kernels::ConvShape& s, const T* image, int64_t channel, int64_t y, int64_t x, int64_t rows,
               int64_t columns, T padding, T* to) {
  const int64_t c = band.channels, x0 = x * s.stride_w - s.pad_left, elements = band.Width(s, columns), width = elements / c;
  const int64_t begin = std::min(std::max<int64_t>(-x0, 0), width), end = std::max(std::min(s.w - x0, width), begin);
  for (int64_t line = 0; line < (rows - 1) * band.row_lines + s.kh; ++line, to += band.step) {
    const bool apart = band.row_lines == s.kh;
    const int64_t row = apart ? line / s.kh : 0, tap = apart ? line % s.kh : line;
    const int64_t in_y = (y + row) * s.stride_h - s.pad_top + tap * s.dilation_h;
    if (in_y < 0 || in_y >= s.h || begin == end) {
      std::fill(to, to + elements, padding);
      continue;
    }
    const T* from = image + (in_y * s.w + x0 + begin) * s.c + channel;
    std::fill(to, to + begin * c, padding);
    if (s.groups == 1) {
      std::memcpy(to + begin * c, from, static_cast<size_t>((end - begin) * c) * sizeof(T));
    } else {
      for (int64_t i = begin; i < end; ++i, from += s.c) CopyFew(from, c, to + i * c);
    }
    std::fill(to + end * c, to + elements, padding);
  }
}

// Calls tile_fn(Tile<T>) for every tile of a part whose kernel computes `mr` pixels at most, and, where the layer has a base,
// rows_fn(pointers, tap_step, m, box) before a tile's first use.
template <typename T, typename RowsFn, typename TileFn>
void ForEachLineTile(const ConvLayout& layout, const ConvRun<T>& run, const ConvPart& part, int64_t mr, T padding, void* scratch,
                     RowsFn&& rows_fn, TileFn&& tile_fn) {
  const kernels::ConvShape& s = run.shape;
  const LineBands<T> band(layout, s);
  uint8_t* memory = static_cast<uint8_t*>(scratch);
  T* lines = pack::At<T>(memory, band.lines);
  int32_t* boxes = pack::At<int32_t>(memory, band.boxes);
  const int64_t out_w = s.out_w(), out_h = s.out_h();
  const int64_t next_pixel = s.stride_w * band.channels, next_row = band.row_lines * band.step;
  for (int64_t pixel = part.row_begin, count; pixel < part.row_end; pixel += count) {
    const int64_t x = pixel % out_w, y = pixel / out_w % out_h, image = pixel / out_w / out_h, left = part.row_end - pixel;
    const int64_t columns = std::min({out_w - x, left, band.columns});
    const int64_t rows = columns == out_w ? std::min({band.rows, left / out_w, out_h - y}) : 1;
    count = rows * columns;
    const int64_t tiles = pack::CeilDiv(count, mr);
    const T* list[kernels::kMaxMr];
    // fn(its index, first pixel of the band, m) for each tile, whose pixels are in `list`.
    const auto for_each_tile = [&](auto&& fn) {
      const int64_t height = count / tiles, taller = count % tiles;
      int64_t left_in_row = columns;
      int64_t row = 0, window = 0;
      for (int64_t t = 0, at = 0, m; t < tiles; ++t, at += m) {
        m = height + (t < taller);
        for (int64_t i = 0; i < m;) {
          const int64_t end = std::min(m, i + left_in_row);
          left_in_row -= end - i;
          for (; i < end; ++i, window += next_pixel) list[i] = lines + window;
          if (left_in_row > 0) continue;
          left_in_row = columns;
          window = row += next_row;
        }
        fn(t, at, m);
      }
    };
    const auto copy_lines = [&](int64_t group) {
      CopyLines(band, s, run.x + image * s.h * s.w * s.c, group * band.channels, y, x, rows, columns, padding, lines);
      if (layout.has_base) for_each_tile([&](int64_t, int64_t at, int64_t m) { rows_fn(list, band.step, m, boxes + at); });
    };
    ForEachPanel(layout, s, part, copy_lines, [&](const PanelPlace& p) {
      for_each_tile([&](int64_t t, int64_t at, int64_t m) {
        tile_fn(Tile<T>{list, band.step, t, tiles, m, p.n, pixel + at, p.channel, p.panel, boxes + at, nullptr});
      });
    });
  }
}

bool Suits(const Request& request) {
  const kernels::ConvShape& s = request.shape;
  return s.taps() > 1 && FewChannels(s) && s.dilation_w == 1 && request.algorithm.product == Product::kDot;
}

void Layout(const Request& request, ConvLayout* layout) {
  const kernels::ConvShape& s = request.shape;
  if (request.codes != nullptr) layout->offset = request.set.u8s8_offset;
  layout->k = pack::RoundUp(layout->k * s.kw, layout->tile.kr);
  layout->taps = s.kh;
  pack::CutPanels(s, request.element_bytes(), layout);
}

// Weights of runs of kw pixels, each run filled up to k with zeros: [oc][kh][k].
template <typename T>
AlignedBuffer<T> FillUpRuns(const ConvLayout& layout, const kernels::ConvShape& s, const T* weights) {
  const int64_t runs = s.oc * s.kh, run = s.kw * s.group_inputs();
  AlignedBuffer<T> out(static_cast<size_t>(runs * layout.k));
  for (int64_t i = 0; i < runs; ++i) std::copy(weights + i * run, weights + (i + 1) * run, out.data() + i * layout.k);
  return out;
}

void PackU8(const kernels::KernelSet& set, const ConvLayout& layout, const kernels::ConvShape& shape, const pack::WeightsU8& weights,
            Packed* packed) {
  PackTilePanels(set, layout, shape, FillUpRuns(layout, shape, weights.codes).data(), packed);
  PackStartValues(layout, shape, weights, packed);
}

void PackF32(const ConvLayout& layout, const kernels::ConvShape& shape, const pack::WeightsF32& weights, uint8_t* buffer) {
  pack::PackPanels(layout, shape, FillUpRuns(layout, shape, weights.weights).data(), reinterpret_cast<float*>(buffer + layout.weights));
}

size_t ScratchBytes(const ConvLayout& layout, const kernels::ConvShape& shape) {
  return layout.element_bytes == 1 ? LineBands<uint8_t>(layout, shape).bytes : LineBands<float>(layout, shape).bytes;
}

void RunU8(const LayerU8& layer, const ConvRun<uint8_t>& run, const ConvPart& part, void* scratch) noexcept {
  TileCallsU8 calls(layer, run, part);
  const kernels::ConvShape& s = run.shape;
  const auto boxes = [&](const uint8_t* const* a, int64_t tap_step, int64_t m, int32_t* box) {
    calls.BoxSums(a, tap_step, s.kh, s.kw * s.group_inputs(), m, box);
  };
  ForEachLineTile(layer.layout, run, part, calls.mr(), static_cast<uint8_t>(layer.zero_point), scratch, boxes,
                  [&](const Tile<uint8_t>& tile) { calls(tile); });
}

void RunF32(const LayerF32& layer, const ConvRun<float>& run, const ConvPart& part, void* scratch) noexcept {
  TileCallsF32 calls(layer, run);
  const auto no_boxes = [](const float* const*, int64_t, int64_t, int32_t*) {};
  ForEachLineTile(layer.layout, run, part, calls.mr(), 0.0f, scratch, no_boxes, [&](const Tile<float>& tile) { calls(tile); });
}

Words Describe(const ConvLayout& layout, int) {
  return {"",
          "few channels per tap: lines are copied with their padding, windows of " + std::to_string(layout.taps) + " runs read in place"};
}

}  // namespace

extern const ConvMethod kLinesMethod = {"lines", Suits, Layout, PackU8, PackF32, ScratchBytes, PixelWork, RunU8, RunF32, Describe, nullptr};

}  // namespace pqi::conv
