// Bands of a depthwise convolution that runs along image rows: pieces of image rows and the lines under them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/shapes.h"
#include "pack/arrange.h"
#include "pack/conv.h"

namespace pqi::pack {

// A line has at most so many bytes, or columns where those are wide. A band has so many rows at least, where the part has them, and more
// while its lines fit L1: they stay there while one block of channels after the other is computed.
inline constexpr int64_t kLineBytes = 1 << 15, kLineColumns = 16;
inline constexpr int64_t kBandBytes = 1 << 15, kBandRows = 16, kBandRowsAtMost = 32;

// Offsets in bytes into the scratch memory.
struct BandScratch {
  size_t padding = 0;  // u8[columns * c]: a line of padding
  size_t lines = 0;    // const uint8_t*[kh * kBandRowsAtMost]
  size_t bytes = 0;
  int64_t columns;  // of a line at most

  explicit BandScratch(const kernels::ConvShape& s) : columns(std::max(kLineBytes / s.c, kLineColumns)) {
    padding = Append(&bytes, static_cast<size_t>(columns * s.c));
    lines = Append(&bytes, static_cast<size_t>(s.kh * kBandRowsAtMost) * sizeof(const uint8_t*));
  }
};

// A band for the kernel (kernels::DepthwiseColumnsU8S8), and its first output pixel.
struct Band {
  const uint8_t* const* line;
  const uint8_t* padding;
  int64_t begin, end, row_lines, rows, m, pixel;
};

// Calls fn(band) for the output pixels of a part. A band is several whole rows of one image, or a piece of a row.
template <typename Fn>
void ForEachBand(const ConvRun<uint8_t>& run, const ConvPart& part, uint8_t padding_value, void* scratch, Fn&& fn) {
  const kernels::ConvShape& s = run.shape;
  const BandScratch offsets(s);
  uint8_t* memory = static_cast<uint8_t*>(scratch);
  uint8_t* padding = memory + offsets.padding;
  const uint8_t** lines = At<const uint8_t*>(memory, offsets.lines);
  const int64_t out_w = s.out_w(), out_h = s.out_h();
  std::fill(padding, padding + std::min(std::max<int64_t>(s.w, 1), offsets.columns) * s.c, padding_value);
  Band band;
  band.line = lines;
  band.padding = padding;
  band.row_lines = s.dilation_h == 1 ? std::min(s.stride_h, s.kh) : s.kh;
  for (band.pixel = part.row_begin; band.pixel < part.row_end; band.pixel += band.rows * band.m) {
    const int64_t first = band.pixel % out_w, y = band.pixel / out_w % out_h, image = band.pixel / out_w / out_h;
    const int64_t left = part.row_end - band.pixel;
    band.m = std::min({out_w - first, left, (offsets.columns - s.kw) / s.stride_w + 1});
    const int64_t columns = (band.m - 1) * s.stride_w + s.kw, x0 = first * s.stride_w - s.pad_left;
    band.begin = std::min(std::max<int64_t>(-x0, 0), columns);
    band.end = std::max(std::min(s.w - x0, columns), band.begin);
    const int64_t fit = std::min(std::max((kBandBytes / (columns * s.c) - s.kh) / band.row_lines + 1, kBandRows), kBandRowsAtMost);
    band.rows = band.m == out_w ? std::min({fit, left / band.m, out_h - y}) : 1;
    for (int64_t line = 0; line < (band.rows - 1) * band.row_lines + s.kh; ++line) {
      const bool apart = band.row_lines == s.kh;  // rows share no line
      const int64_t row = apart ? line / s.kh : 0, tap = apart ? line % s.kh : line;
      const int64_t in_y = (y + row) * s.stride_h - s.pad_top + tap * s.dilation_h;
      const bool inside = in_y >= 0 && in_y < s.h && band.begin < band.end;
      lines[line] = inside ? run.x + ((image * s.h + in_y) * s.w + x0 + band.begin) * s.c : padding;
    }
    fn(band);
  }
}

}  // namespace pqi::pack
