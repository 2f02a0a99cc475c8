#include "kernels/reference/pool.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/reference/quantize.h"

namespace pqi::kernels::reference {
namespace {

struct OutputPixel {
  int64_t image, y, x;
};

OutputPixel PixelOf(const PoolShape& s, int64_t row) { return {row / s.out_w / s.out_h, row / s.out_w % s.out_h, row % s.out_w}; }

// Calls fn(index of the input's channel 0) for each position of a max pool's window inside the image, in ascending order.
template <typename Fn>
void ForEachInside(const PoolShape& s, const OutputPixel& p, Fn&& fn) {
  for (int64_t kh = 0; kh < s.kh; ++kh) {
    const int64_t ih = p.y * s.stride_h - s.pad_top + kh * s.dilation_h;
    if (ih < 0 || ih >= s.h) continue;
    for (int64_t kw = 0; kw < s.kw; ++kw) {
      const int64_t iw = p.x * s.stride_w - s.pad_left + kw * s.dilation_w;
      if (iw >= 0 && iw < s.w) fn(((p.image * s.h + ih) * s.w + iw) * s.c);
    }
  }
}

float AverageU8(const PoolShape& s, const uint8_t* x, const Affine& in, const PoolBox& b, int64_t c) {
  int32_t sum = 0;
  for (int64_t iy = b.y0; iy < b.y1; ++iy) {
    for (int64_t ix = b.x0; ix < b.x1; ++ix) sum += x[((b.image * s.h + iy) * s.w + ix) * s.c + c] - in.zero_point;
  }
  const float factor = static_cast<float>(static_cast<double>(in.scale) / static_cast<double>(b.n));
  return static_cast<float>(sum) * factor;
}

// The sum of the positions inside the image as sum16 has it (docs/numerics.md): in ascending order over 16 lanes, and then in a tree.
float AverageF32(const PoolShape& s, const float* x, const PoolBox& b, int64_t c) {
  float lane[16] = {};
  size_t i = 0;
  for (int64_t iy = b.y0; iy < b.y1; ++iy) {
    for (int64_t ix = b.x0; ix < b.x1; ++ix) lane[i++ % 16] += x[((b.image * s.h + iy) * s.w + ix) * s.c + c];
  }
  for (int half = 8; half >= 1; half /= 2) {
    for (int j = 0; j < half; ++j) lane[j] += lane[j + half];
  }
  return lane[0] / static_cast<float>(b.n);
}

// Computes outputs: box_of(shape, row) gives the window, average(box, channel) its value.
template <typename BoxOf, typename Average>
void AverageRows(const PoolShape& s, const Output& o, void* y, int64_t row_begin, int64_t row_end, BoxOf&& box_of, Average&& average) {
  for (int64_t row = row_begin; row < row_end; ++row) {
    const PoolBox b = box_of(s, row);
    for (int64_t c = 0; c < s.c; ++c) Store(average(b, c), o, y, static_cast<size_t>(row * s.c + c));
  }
}

}  // namespace

PoolBox AvgBox(const PoolShape& s, int64_t row) noexcept {
  const OutputPixel p = PixelOf(s, row);
  const int64_t y0 = p.y * s.stride_h - s.pad_top, x0 = p.x * s.stride_w - s.pad_left;
  const int64_t y1 = std::min(y0 + s.kh, s.h + s.pad_bottom), x1 = std::min(x0 + s.kw, s.w + s.pad_right);
  PoolBox b = {p.image, std::max<int64_t>(y0, 0), std::min(y1, s.h), std::max<int64_t>(x0, 0), std::min(x1, s.w), 0};
  b.n = s.count_include_pad ? (y1 - y0) * (x1 - x0) : (b.y1 - b.y0) * (b.x1 - b.x0);
  return b;
}

PoolBox AdaptiveBox(const PoolShape& s, int64_t row) noexcept {
  const OutputPixel p = PixelOf(s, row);
  const auto floor_of = [](int64_t i, int64_t length, int64_t out) { return i * length / out; };
  const auto ceil_of = [](int64_t i, int64_t length, int64_t out) { return (i * length + out - 1) / out; };
  PoolBox b = {
      p.image, floor_of(p.y, s.h, s.out_h), ceil_of(p.y + 1, s.h, s.out_h), floor_of(p.x, s.w, s.out_w), ceil_of(p.x + 1, s.w, s.out_w), 0};
  b.n = (b.y1 - b.y0) * (b.x1 - b.x0);
  return b;
}

void MaxPoolU8(const PoolShape& s, const uint8_t* x, uint8_t* y, int64_t row_begin, int64_t row_end) noexcept {
  for (int64_t row = row_begin; row < row_end; ++row) {
    uint8_t* out = y + row * s.c;
    std::fill(out, out + s.c, uint8_t{0});
    ForEachInside(s, PixelOf(s, row), [&](int64_t at) {
      for (int64_t c = 0; c < s.c; ++c) out[c] = std::max(out[c], x[at + c]);
    });
  }
}

void MaxPoolF32(const PoolShape& s, const float* x, float* y, int64_t row_begin, int64_t row_end) noexcept {
  for (int64_t row = row_begin; row < row_end; ++row) {
    float* out = y + row * s.c;
    std::fill(out, out + s.c, -std::numeric_limits<float>::infinity());
    ForEachInside(s, PixelOf(s, row), [&](int64_t at) {
      for (int64_t c = 0; c < s.c; ++c) {
        const float v = x[at + c];
        out[c] = (v > out[c] || std::isnan(v)) ? v : out[c];
      }
    });
  }
}

void AvgPoolU8(const PoolShape& s, const uint8_t* x, const Affine& in, const Output& o, void* y, int64_t row_begin,
               int64_t row_end) noexcept {
  AverageRows(s, o, y, row_begin, row_end, AvgBox, [&](const PoolBox& b, int64_t c) { return AverageU8(s, x, in, b, c); });
}

void AvgPoolF32(const PoolShape& s, const float* x, const Output& o, void* y, int64_t row_begin, int64_t row_end) noexcept {
  AverageRows(s, o, y, row_begin, row_end, AvgBox, [&](const PoolBox& b, int64_t c) { return AverageF32(s, x, b, c); });
}

void AdaptiveAvgPoolU8(const PoolShape& s, const uint8_t* x, const Affine& in, const Output& o, void* y, int64_t row_begin,
                       int64_t row_end) noexcept {
  AverageRows(s, o, y, row_begin, row_end, AdaptiveBox, [&](const PoolBox& b, int64_t c) { return AverageU8(s, x, in, b, c); });
}

void AdaptiveAvgPoolF32(const PoolShape& s, const float* x, const Output& o, void* y, int64_t row_begin, int64_t row_end) noexcept {
  AverageRows(s, o, y, row_begin, row_end, AdaptiveBox, [&](const PoolBox& b, int64_t c) { return AverageF32(s, x, b, c); });
}

}  // namespace pqi::kernels::reference
