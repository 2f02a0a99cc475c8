#include "ops/max_pool_codes.h"

#include <algorithm>

namespace pqi::ops {
namespace {

using kernels::KernelSet;
using kernels::PoolShape;

// The maxima down the lines stay in L1 until they are read across.
constexpr int64_t kLineBytes = 1 << 14;
constexpr size_t kMostOperands = 16;

int64_t Reach(const PoolShape& s) { return (s.kw - 1) * s.dilation_w + 1; }

// How many output columns' maxima down the lines are made at a time.
int64_t PieceColumns(const PoolShape& s) { return std::max<int64_t>((kLineBytes / s.c - Reach(s)) / s.stride_w + 1, 1); }

// Counts the taps of `kernel`, `dilation` apart from `first` on, that lie in [0, length).
struct Inside {
  int64_t begin, end;
  Inside(int64_t first, int64_t kernel, int64_t dilation, int64_t length) {
    const auto before = [&](int64_t at) { return at <= first ? 0 : std::min((at - first + dilation - 1) / dilation, kernel); };
    begin = before(0);
    end = before(length);
  }
};

// For i < n, y[i] becomes the largest of `count` codes that lie `step` apart: x[i], x[i + step] and so on.
void MaxOf(const KernelSet& set, const uint8_t* x, int64_t step, int64_t count, size_t n, uint8_t* y) {
  const uint8_t* operands[kMostOperands];
  for (size_t filled = 0; count > 0; filled = 1) {
    if (filled == 1) operands[0] = y;  // the maxima so far are an operand of the next call
    for (; count > 0 && filled < kMostOperands; --count, x += step) operands[filled++] = x;
    set.max_u8({operands, filled, 0, 1, n, y});
  }
}

// Windows of a piece of an output row, made from the maxima down their lines: `line` holds these for columns from `lo` on.
struct Across {
  const KernelSet& set;
  const PoolShape& s;
  const uint8_t* line;
  int64_t lo, x0;  // x0 is the first window's first column, which may be outside the image

  // Computes one window, of which some columns may be outside the image.
  void One(int64_t i, uint8_t* y) const {
    const int64_t first = x0 + i * s.stride_w;
    const Inside taps(first, s.kw, s.dilation_w, s.w);
    MaxOf(set, line + (first + taps.begin * s.dilation_w - lo) * s.c, s.dilation_w * s.c, taps.end - taps.begin, static_cast<size_t>(s.c),
          y);
  }
  // Computes windows [begin, end), whose columns are all inside the image.
  void Interior(int64_t begin, int64_t end, uint8_t* y) const {
    const uint8_t* operands[kMostOperands];
    for (int64_t tap = 0; tap < s.kw; ++tap) operands[tap] = line + (x0 + begin * s.stride_w + tap * s.dilation_w - lo) * s.c;
    const size_t count = static_cast<size_t>(s.kw), n = static_cast<size_t>(s.c), rows = static_cast<size_t>(end - begin);
    if (s.stride_w == 1) return set.max_u8({operands, count, 0, 1, rows * n, y});
    set.max_u8({operands, count, static_cast<size_t>(s.stride_w) * n, rows, n, y});
  }
};

}  // namespace

size_t MaxPoolCodesScratch(const PoolShape& s) {
  return static_cast<size_t>(std::min((PieceColumns(s) - 1) * s.stride_w + Reach(s), s.w) * s.c);
}

void MaxPoolCodes(const KernelSet& set, const PoolShape& s, const uint8_t* x, uint8_t* y, int64_t begin, int64_t end,
                  uint8_t* scratch) noexcept {
  const int64_t most = PieceColumns(s), reach = Reach(s);
  for (int64_t pixel = begin, m; pixel < end; pixel += m) {
    const int64_t column = pixel % s.out_w, row = pixel / s.out_w % s.out_h, image = pixel / s.out_w / s.out_h;
    m = std::min({s.out_w - column, end - pixel, most});
    const int64_t x0 = column * s.stride_w - s.pad_left, top = row * s.stride_h - s.pad_top;
    const int64_t lo = std::max<int64_t>(x0, 0), hi = std::min(x0 + (m - 1) * s.stride_w + reach, s.w);
    const Inside lines(top, s.kh, s.dilation_h, s.h);
    const uint8_t* first = x + ((image * s.h + top + lines.begin * s.dilation_h) * s.w + lo) * s.c;
    MaxOf(set, first, s.dilation_h * s.w * s.c, lines.end - lines.begin, static_cast<size_t>((hi - lo) * s.c), scratch);

    const Across across = {set, s, scratch, lo, x0};
    uint8_t* out = y + pixel * s.c;
    int64_t inner = m, inner_end = m;  // the range of windows that are inside the image
    if (static_cast<size_t>(s.kw) <= kMostOperands && s.w >= reach) {
      inner = std::min(x0 >= 0 ? 0 : (-x0 + s.stride_w - 1) / s.stride_w, m);
      const int64_t room = s.w - reach - x0;
      inner_end = std::max(room < 0 ? 0 : std::min(room / s.stride_w + 1, m), inner);
    }
    for (int64_t i = 0; i < inner; ++i) across.One(i, out + i * s.c);
    if (inner < inner_end) across.Interior(inner, inner_end, out + inner * s.c);
    for (int64_t i = inner_end; i < m; ++i) across.One(i, out + i * s.c);
  }
}

}  // namespace pqi::ops
