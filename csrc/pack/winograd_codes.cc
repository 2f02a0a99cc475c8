#include "pack/winograd_codes.h"

#include "pack/winograd_filter.h"

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

// 2 G of F(2,3).
void Transform2(const Lanes& g0, const Lanes& g1, const Lanes& g2, Lanes (&u)[4]) {
  const Lanes ends = g0 + g2;
  u[0] = 2 * g0;
  u[1] = ends + g1;
  u[2] = ends - g1;
  u[3] = 2 * g2;
}

// Of F(4,3).
void Transform4(const Lanes& g0, const Lanes& g1, const Lanes& g2, Lanes (&u)[6]) {
  const Lanes near = g0 + g2, far = g0 + 4 * g2, twice = 2 * g1;
  u[0] = g0;
  u[1] = near + g1;
  u[2] = near - g1;
  u[3] = far + twice;
  u[4] = far - twice;
  u[5] = g2;
}

// One dimension of F(4x4,3x3), not scaled: positions 0, 1, -1, infinity, and the complex one, conjugated.
struct Line {
  Lanes real[4], re, im;
};
Line TransformComplex(const Lanes& g0, const Lanes& g1, const Lanes& g2) {
  const Lanes ends = g0 + g2;
  return {{g0, ends + g1, ends - g1, g2}, g0 - g2, -1 * g1};
}

// In the order of kernels/generic/winograd_filters.h.
void Transform4x4(const Lanes (&g)[9], Lanes* u) {
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

void TransformKernels(Winograd winograd, const int8_t* g, int64_t stride, int64_t n, CodeLanes* u) {
  Lanes code[9];
  for (int i = 0; i < 9; ++i) {
    code[i] = n == kCodeLanes ? ForLanes([&](int j) { return g[i * stride + j]; })
                              : ForLanes([&](int j) { return j < n ? g[i * stride + j] : 0; });
  }
  switch (winograd) {
    case Winograd::k1d:
      for (int y = 0; y < 3; ++y) {
        Lanes v[4];
        Transform2(code[3 * y], code[3 * y + 1], code[3 * y + 2], v);
        for (int p = 0; p < 4; ++p) u[p * 3 + y] = v[p];
      }
      break;
    case Winograd::k1d4:
      for (int y = 0; y < 3; ++y) {
        Lanes v[6];
        Transform4(code[3 * y], code[3 * y + 1], code[3 * y + 2], v);
        for (int p = 0; p < 6; ++p) u[p * 3 + y] = v[p];
      }
      break;
    case Winograd::k2d: {
      Lanes columns[3][4];
      for (int x = 0; x < 3; ++x) Transform2(code[x], code[3 + x], code[6 + x], columns[x]);
      for (int y = 0; y < 4; ++y) {
        Lanes v[4];
        Transform2(columns[0][y], columns[1][y], columns[2][y], v);
        for (int x = 0; x < 4; ++x) u[y * 4 + x] = v[x];
      }
      break;
    }
    case Winograd::k4x4:
      Transform4x4(code, u);
      break;
    case Winograd::kNone:
      break;
  }
}

}  // namespace pqi::pack
