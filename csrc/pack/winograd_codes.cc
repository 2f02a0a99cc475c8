#include "pack/winograd_codes.h"

#include <algorithm>

namespace pqi::pack {
namespace {

using Lanes = CodeLanes;

template <class Fn>
Lanes ForLanes(Fn&& fn) {
  Lanes out;
  for (int i = 0; i < kCodeLanes; ++i) out.v[i] = static_cast<int16_t>(fn(i));
  return out;
}
Lanes operator+(const Lanes& a, const Lanes& b) {
  return ForLanes([&](int i) { return a.v[i] + b.v[i]; });
}
Lanes operator-(const Lanes& a, const Lanes& b) {
  return ForLanes([&](int i) { return a.v[i] - b.v[i]; });
}
Lanes operator*(int16_t k, const Lanes& a) {
  return ForLanes([&](int i) { return k * a.v[i]; });
}

// A kernel row by 2 G of F(2,3).
void Row2(const Lanes& g0, const Lanes& g1, const Lanes& g2, Lanes (&u)[4]) {
  const Lanes ends = g0 + g2;
  u[0] = 2 * g0;
  u[1] = ends + g1;
  u[2] = ends - g1;
  u[3] = 2 * g2;
}

// A kernel row by the scaled G of F(4,3).
void Row4(const Lanes& g0, const Lanes& g1, const Lanes& g2, Lanes (&u)[6]) {
  const Lanes near = g0 + g2, far = g0 + 4 * g2, twice = 2 * g1;
  u[0] = g0;
  u[1] = near + g1;
  u[2] = near - g1;
  u[3] = far + twice;
  u[4] = far - twice;
  u[5] = g2;
}

// One dimension of F(4x4,3x3), not scaled: points 0, 1, -1, infinity, and the complex one, conjugated.
struct Line {
  Lanes real[4], re, im;
};
Line TransformComplex(const Lanes& g0, const Lanes& g1, const Lanes& g2) {
  const Lanes ends = g0 + g2;
  return {{g0, ends + g1, ends - g1, g2}, g0 - g2, -1 * g1};
}

using Kernel = Lanes[9];  // 3x3 codes, row by row

// fn(codes) for the kernels at g; lanes from n on are 0.
template <class Fn>
void WithKernel(const int8_t* g, int64_t stride, int64_t n, Fn&& fn) {
  Kernel code;
  for (int i = 0; i < 9; ++i) {
    code[i] = n == kCodeLanes ? ForLanes([&](int j) { return g[i * stride + j]; })
                              : ForLanes([&](int j) { return j < n ? g[i * stride + j] : 0; });
  }
  fn(code);
}

// u[positions][3], each kernel row by itself.
template <int kPositions, class RowFn>
void AlongRows(const Kernel& g, RowFn&& row, Lanes* u) {
  for (int y = 0; y < 3; ++y) {
    Lanes v[kPositions];
    row(g[3 * y], g[3 * y + 1], g[3 * y + 2], v);
    for (int p = 0; p < kPositions; ++p) u[p * 3 + y] = v[p];
  }
}

void Square2(const Kernel& g, Lanes* u) {
  Lanes columns[3][4];
  for (int x = 0; x < 3; ++x) Row2(g[x], g[3 + x], g[6 + x], columns[x]);
  for (int y = 0; y < 4; ++y) {
    Lanes v[4];
    Row2(columns[0][y], columns[1][y], columns[2][y], v);
    for (int x = 0; x < 4; ++x) u[y * 4 + x] = v[x];
  }
}

// The positions come in the order of kernels/generic/winograd_filters.h.
void Square4(const Kernel& g, Lanes* u) {
  constexpr int16_t kScale[4] = {4, 1, 1, 4}, kComplexScale[4] = {4, 2, 2, 4};
  const auto complex = [&u](int16_t scale, const Lanes& re, const Lanes& im) {
    *u++ = scale * re;
    *u++ = scale * im;
    *u++ = scale * (re + im);
  };
  Line columns[3];
  for (int x = 0; x < 3; ++x) columns[x] = TransformComplex(g[x], g[3 + x], g[6 + x]);
  Line rows[4];
  for (int y = 0; y < 4; ++y) rows[y] = TransformComplex(columns[0].real[y], columns[1].real[y], columns[2].real[y]);
  const Line re = TransformComplex(columns[0].re, columns[1].re, columns[2].re),
             im = TransformComplex(columns[0].im, columns[1].im, columns[2].im);
  for (int y = 0; y < 4; ++y) {
    for (int x = 0; x < 4; ++x) *u++ = static_cast<int16_t>(kScale[y] * kScale[x]) * rows[y].real[x];
  }
  for (int y = 0; y < 4; ++y) complex(kComplexScale[y], rows[y].re, rows[y].im);
  for (int x = 0; x < 4; ++x) complex(kComplexScale[x], re.real[x], im.real[x]);
  complex(2, re.re - im.im, re.im + im.re);
  complex(2, re.re + im.im, re.im - im.re);
}

}  // namespace

void TransformCodes1d(const int8_t* g, int64_t stride, int64_t n, CodeLanes* u) {
  WithKernel(g, stride, n, [&](const Kernel& code) { AlongRows<4>(code, Row2, u); });
}
void TransformCodes1d4(const int8_t* g, int64_t stride, int64_t n, CodeLanes* u) {
  WithKernel(g, stride, n, [&](const Kernel& code) { AlongRows<6>(code, Row4, u); });
}
void TransformCodes2d(const int8_t* g, int64_t stride, int64_t n, CodeLanes* u) {
  WithKernel(g, stride, n, [&](const Kernel& code) { Square2(code, u); });
}
void TransformCodes4x4(const int8_t* g, int64_t stride, int64_t n, CodeLanes* u) {
  WithKernel(g, stride, n, [&](const Kernel& code) { Square4(code, u); });
}

AlignedBuffer<int8_t> TransformCodes(const CodeTransform& filter, const int* offset, bool inner_product, const PanelGrid& grid,
                                     const kernels::ConvShape& s, const WeightsU8& weights, const int32_t* start, LeastCodes* least,
                                     int32_t* init) {
  const int64_t k = grid.k, nr = grid.tile.nr, row = filter.taps * k, pieces = filter.positions * filter.taps;
  AlignedBuffer<int8_t> codes(static_cast<size_t>(s.oc * filter.positions * row));
  least->fill(0);
  for (int64_t o = 0; o < s.oc; ++o) {
    for (int64_t c = 0; c < s.c; c += kCodeLanes) {
      CodeLanes u[kMostPositions];
      const int64_t n = std::min<int64_t>(kCodeLanes, s.c - c);
      filter.codes(weights.codes + o * 9 * s.c + c, s.c, n, u);
      for (int i = 0; i < pieces; ++i) {
        int8_t* out = codes.data() + (o * pieces + i) * k + c;
        int8_t least_code = (*least)[static_cast<size_t>(i / filter.taps)];
        for (int64_t j = 0; j < n; ++j) {
          out[j] = static_cast<int8_t>(u[i].v[j]);
          least_code = std::min(least_code, out[j]);
        }
        (*least)[static_cast<size_t>(i / filter.taps)] = least_code;
      }
    }
  }
  for (int64_t o = 0; o < s.oc; ++o) {
    for (int p = 0; p < filter.positions; ++p) {
      int8_t* at = codes.data() + (o * filter.positions + p) * row;
      uint32_t sum = 0, value = 0;
      if (p == filter.common) value = static_cast<uint32_t>(filter.common_factor) * static_cast<uint32_t>(start[o]);
      for (int64_t i = 0; i < row; ++i) sum += static_cast<uint32_t>(at[i]);
      value -= static_cast<uint32_t>(offset[p]) * sum;
      if (inner_product) value -= ShiftCodes(at, row, (*least)[static_cast<size_t>(p)]);
      init[(o / nr * filter.positions + p) * nr + o % nr] = static_cast<int32_t>(value);
    }
  }
  return codes;
}

}  // namespace pqi::pack
