// Winograd's filters: the transforms of one tile, before and after the products. generic/winograd.h has the loops around them.
//
//   filter             products per channel   instead of   for
//   F(2,3) along x              4                 6        two neighbours in an image row and one row of the kernel
//   F(4,3) along x              6                12        four neighbours, likewise
//   F(2x2,3x3)                 16                36        2x2 pixels and the whole kernel
//   F(4x4,3x3)                 46               144        4x4 pixels and the whole kernel, with the complex points i and -i
//
// Along x the products of the three kernel rows are added up before the output transform. Sources: Lavin & Gray, arXiv 1509.09308; complex
// points: Meng & Brothers, arXiv 1901.01965.
//
// The transformed input V consists of weighted sums of codes, at most 2, 10, 4 or 16 times qmax - qmin wide, which offsets bring into u8.
// The transformed weights U have rows that are scaled until they are whole, and must fit s8. So n * acc = A^T (U . V) A comes out instead
// of acc, with n = 2, 24, 4 or 16, exact modulo 2^32: bytes and sums wrap on purpose. A shift divides by n, as soon as |n * acc| < 2^31.
// For n = 24 the factor 3 is divided out first, by its inverse modulo 2^32, so that |8 * acc| < 2^31 is enough. csrc/conv/exact.h proves
// these conditions for each layer.
#pragma once

#include <cstdint>

#include "kernels/generic/compiler.h"

namespace pqi::kernels {
namespace {

// B^T d for four pixels.
template <class S>
PQI_INLINE void InputStep(const typename S::Int (&d)[4], typename S::Int (&out)[4]) {
  out[0] = S::SubBytes(d[0], d[2]);
  out[1] = S::AddBytes(d[1], d[2]);
  out[2] = S::SubBytes(d[2], d[1]);
  out[3] = S::SubBytes(d[1], d[3]);
}

// A^T m for four sums.
template <class S>
PQI_INLINE void OutputStep(const typename S::Int (&m)[4], typename S::Int (&out)[2]) {
  out[0] = S::AddInt(m[0], S::AddInt(m[1], m[2]));
  out[1] = S::SubInt(S::SubInt(m[1], m[2]), m[3]);
}

// F(2,3). In every filter load(i) gives vector i of the tile, which is a pixel before the products and the sums of a position after them,
// and store(p, v) takes what belongs to position p.
template <class S>
struct Winograd1d {
  using Int = typename S::Int;
  static constexpr int kPixels = 4, kPositions = 4, kRows = 1, kColumns = 2;
  static constexpr uint32_t kPixelStep = 2;  // how many pointers further the next tile begins

  template <class Load, class Store>
  PQI_INLINE static void Input(Load&& load, Store&& store) {
    const Int d[4] = {load(0), load(1), load(2), load(3)};
    Int v[4];
    InputStep<S>(d, v);
    PQI_UNROLL for (int p = 0; p < 4; ++p) store(p, v[p]);
  }
  template <class Load>
  PQI_INLINE static void Output(Load&& load, Int (&out)[kRows][kColumns]) {
    const Int m[4] = {load(0), load(1), load(2), load(3)};
    OutputStep<S>(m, out[0]);
    PQI_UNROLL for (int x = 0; x < 2; ++x) out[0][x] = S::template ShiftRight<1>(out[0][x]);
  }
};

// F(4,3) with the points 0, 1, -1, 2, -2 and infinity. Rows of G are scaled until they are whole, so the sums give
//   24 y0 = 6 m0 - 4 (m1 + m2) + (m3 + m4)      12 y1 = -2 (m1 - m2) + (m3 - m4)
//    6 y2 = -(m1 + m2) + (m3 + m4)               6 y3 = -(m1 - m2) + 2 (m3 - m4) + 6 m5
template <class S>
struct Winograd1d4 {
  using Int = typename S::Int;
  static constexpr int kPixels = 6, kPositions = 6, kRows = 1, kColumns = 4;
  static constexpr uint32_t kPixelStep = 4;
  static constexpr int32_t kInverseOf3 = -1431655765;  // modulo 2^32

  PQI_INLINE static Int TwiceBytes(Int v) { return S::AddBytes(v, v); }
  PQI_INLINE static Int TwiceInt(Int v) { return S::template ShiftLeft<1>(v); }

  template <class Load, class Store>
  PQI_INLINE static void Input(Load&& load, Store&& store) {
    const Int d0 = load(0), d1 = load(1), d2 = load(2), d3 = load(3), d4 = load(4), d5 = load(5);
    const Int even = S::SubBytes(d4, d2), odd = TwiceBytes(S::SubBytes(d3, d1));
    store(0, S::AddBytes(TwiceBytes(TwiceBytes(S::SubBytes(d0, d2))), even));  // 4 d0 - 5 d2 + d4
    store(5, S::SubBytes(S::SubBytes(d5, d3), TwiceBytes(odd)));               // 4 d1 - 5 d3 + d5
    store(3, S::AddBytes(even, odd));                                          // -2 d1 - d2 + 2 d3 + d4
    store(4, S::SubBytes(even, odd));                                          //  2 d1 - d2 - 2 d3 + d4
    const Int far = S::SubBytes(d4, TwiceBytes(TwiceBytes(d2))), near = S::SubBytes(d3, TwiceBytes(TwiceBytes(d1)));
    store(1, S::AddBytes(far, near));  // -4 d1 - 4 d2 + d3 + d4
    store(2, S::SubBytes(far, near));  //  4 d1 - 4 d2 - d3 + d4
  }
  template <class Load>
  PQI_INLINE static void Output(Load&& load, Int (&out)[kRows][kColumns]) {
    const Int m1 = load(1), m2 = load(2), m3 = load(3), m4 = load(4), third = S::SetInt(kInverseOf3);
    const Int sum1 = S::AddInt(m1, m2), difference1 = S::SubInt(m1, m2), sum2 = S::AddInt(m3, m4), difference2 = S::SubInt(m3, m4);
    const Int y0 = S::MulInt(S::SubInt(sum2, S::template ShiftLeft<2>(sum1)), third);
    const Int y1 = S::MulInt(S::SubInt(difference2, TwiceInt(difference1)), third);
    const Int y2 = S::MulInt(S::SubInt(sum2, sum1), third);
    const Int y3 = S::MulInt(S::SubInt(TwiceInt(difference2), difference1), third);
    out[0][0] = S::template ShiftRight<3>(S::AddInt(y0, TwiceInt(load(0))));
    out[0][1] = S::template ShiftRight<2>(y1);
    out[0][2] = S::template ShiftRight<1>(y2);
    out[0][3] = S::template ShiftRight<1>(S::AddInt(y3, TwiceInt(load(5))));
  }
};

// F(2,3) along y, and then along x.
template <class S>
struct Winograd2d {
  using Int = typename S::Int;
  static constexpr int kPixels = 16, kPositions = 16, kRows = 2, kColumns = 2;
  static constexpr uint32_t kPixelStep = 16;

  template <class Load, class Store>
  PQI_INLINE static void Input(Load&& load, Store&& store) {
    Int rows[4][4];
    PQI_UNROLL for (int x = 0; x < 4; ++x) {
      const Int d[4] = {load(x), load(4 + x), load(8 + x), load(12 + x)};
      Int r[4];
      InputStep<S>(d, r);
      PQI_UNROLL for (int y = 0; y < 4; ++y) rows[y][x] = r[y];
    }
    PQI_UNROLL for (int y = 0; y < 4; ++y) {
      Int v[4];
      InputStep<S>(rows[y], v);
      PQI_UNROLL for (int x = 0; x < 4; ++x) store(y * 4 + x, v[x]);
    }
  }
  template <class Load>
  PQI_INLINE static void Output(Load&& load, Int (&out)[kRows][kColumns]) {
    Int columns[2][4];
    PQI_UNROLL for (int x = 0; x < 4; ++x) {
      const Int m[4] = {load(x), load(4 + x), load(8 + x), load(12 + x)};
      Int z[2];
      OutputStep<S>(m, z);
      PQI_UNROLL for (int y = 0; y < 2; ++y) columns[y][x] = z[y];
    }
    PQI_UNROLL for (int y = 0; y < 2; ++y) {
      OutputStep<S>(columns[y], out[y]);
      PQI_UNROLL for (int x = 0; x < 2; ++x) out[y][x] = S::template ShiftRight<2>(out[y][x]);
    }
  }
};

// F(4x4,3x3). Modulo x (x^4 - 1) and infinity, one dimension has the real positions 0, 1, -1 and infinity and one complex position. Two
// dimensions have 16 positions that are real in both, 8 that are complex in one, and one that is complex in both, which becomes two complex
// numbers by putting i and -i for the second unit. Complex numbers are multiplied by three products each: 16 + 3 * (8 + 2) = 46. The order
// of positions is [y][x] where both are real, then three each where x is complex, three each where y is complex, and three for either of
// the two.
template <class S>
struct Winograd4x4 {
  using Int = typename S::Int;
  static constexpr int kPixels = 36, kPositions = 46, kRows = 4, kColumns = 4;
  static constexpr uint32_t kPixelStep = 36;
  static constexpr int kRowComplex = 16, kColumnComplex = 28, kPlus = 40, kMinus = 43;

  struct Complex {
    Int re, im;
  };
  // The five positions of one dimension: the real ones 0, 1, -1 and infinity, and the complex one.
  struct Line {
    Int zero, one, minus, infinity;
    Complex c;
  };
  PQI_INLINE static Line InputStep(Int d0, Int d1, Int d2, Int d3, Int d4, Int d5) {
    const Int even = S::AddBytes(d2, d4), odd = S::AddBytes(d1, d3);
    return {S::SubBytes(d0, d4),
            S::AddBytes(even, odd),
            S::SubBytes(even, odd),
            S::SubBytes(d5, d1),
            {S::SubBytes(d4, d2), S::SubBytes(d1, d3)}};
  }
  template <class Store>
  PQI_INLINE static void StoreComplex(Store&& store, int p, Int re, Int im) {
    store(p, re);
    store(p + 1, im);
    store(p + 2, S::AddBytes(re, im));
  }
  template <class Store>
  PQI_INLINE static void StoreReal(Store&& store, int y, const Line& row) {
    store(4 * y, row.zero);
    store(4 * y + 1, row.one);
    store(4 * y + 2, row.minus);
    store(4 * y + 3, row.infinity);
    StoreComplex(store, kRowComplex + 3 * y, row.c.re, row.c.im);
  }

  template <class Load, class Store>
  PQI_INLINE static void Input(Load&& load, Store&& store) {
    const auto column = [&](int x) PQI_INLINE_LAMBDA {
      return InputStep(load(x), load(6 + x), load(12 + x), load(18 + x), load(24 + x), load(30 + x));
    };
    const Line a = column(0), b = column(1), c = column(2), d = column(3), e = column(4), f = column(5);
    StoreReal(store, 0, InputStep(a.zero, b.zero, c.zero, d.zero, e.zero, f.zero));
    StoreReal(store, 1, InputStep(a.one, b.one, c.one, d.one, e.one, f.one));
    StoreReal(store, 2, InputStep(a.minus, b.minus, c.minus, d.minus, e.minus, f.minus));
    StoreReal(store, 3, InputStep(a.infinity, b.infinity, c.infinity, d.infinity, e.infinity, f.infinity));
    const Line re = InputStep(a.c.re, b.c.re, c.c.re, d.c.re, e.c.re, f.c.re),
               im = InputStep(a.c.im, b.c.im, c.c.im, d.c.im, e.c.im, f.c.im);
    StoreComplex(store, kColumnComplex, re.zero, im.zero);
    StoreComplex(store, kColumnComplex + 3, re.one, im.one);
    StoreComplex(store, kColumnComplex + 6, re.minus, im.minus);
    StoreComplex(store, kColumnComplex + 9, re.infinity, im.infinity);
    StoreComplex(store, kPlus, S::SubBytes(re.c.re, im.c.im), S::AddBytes(re.c.im, im.c.re));
    StoreComplex(store, kMinus, S::AddBytes(re.c.re, im.c.im), S::SubBytes(re.c.im, im.c.re));
  }

  // A complex product from its three real ones.
  template <class Load>
  PQI_INLINE static Complex Product(Load&& load, int p) {
    const Int a = load(p), b = load(p + 1);
    return {S::SubInt(a, b), S::SubInt(S::SubInt(load(p + 2), a), b)};
  }
  PQI_INLINE static Complex Twice(const Complex& c) { return {S::AddInt(c.re, c.re), S::AddInt(c.im, c.im)}; }
  struct Four {
    Int v0, v1, v2, v3;
  };
  PQI_INLINE static Four OutputStep(const Line& m) {
    const Int sum = S::AddInt(m.one, m.minus), difference = S::SubInt(m.one, m.minus);
    return {S::AddInt(m.zero, S::AddInt(sum, m.c.re)), S::AddInt(difference, m.c.im), S::SubInt(sum, m.c.re),
            S::AddInt(m.infinity, S::SubInt(difference, m.c.im))};
  }
  PQI_INLINE static void Row(const Line& m, Int (&out)[kColumns]) {
    const Four y = OutputStep(m);
    out[0] = S::template ShiftRight<4>(y.v0);
    out[1] = S::template ShiftRight<4>(y.v1);
    out[2] = S::template ShiftRight<4>(y.v2);
    out[3] = S::template ShiftRight<4>(y.v3);
  }

  // U is scaled by 4 in positions 0 and infinity, but by 2 where the other dimension is complex, so those products count twice.
  template <class Load>
  PQI_INLINE static void Output(Load&& load, Int (&out)[kRows][kColumns]) {
    const auto column = [&](int x, const Complex& c)
                            PQI_INLINE_LAMBDA { return OutputStep({load(x), load(4 + x), load(8 + x), load(12 + x), c}); };
    const Four zero = column(0, Twice(Product(load, kColumnComplex))), one = column(1, Product(load, kColumnComplex + 3)),
               minus = column(2, Product(load, kColumnComplex + 6)), infinity = column(3, Twice(Product(load, kColumnComplex + 9)));
    const Complex row0 = Twice(Product(load, kRowComplex)), row1 = Product(load, kRowComplex + 3), row2 = Product(load, kRowComplex + 6),
                  row3 = Twice(Product(load, kRowComplex + 9)), plus = Product(load, kPlus), less = Product(load, kMinus);
    const Four re = OutputStep({row0.re, row1.re, row2.re, row3.re, {S::AddInt(plus.re, less.re), S::SubInt(plus.im, less.im)}});
    const Four im = OutputStep({row0.im, row1.im, row2.im, row3.im, {S::AddInt(plus.im, less.im), S::SubInt(less.re, plus.re)}});
    Row({zero.v0, one.v0, minus.v0, infinity.v0, {re.v0, im.v0}}, out[0]);
    Row({zero.v1, one.v1, minus.v1, infinity.v1, {re.v1, im.v1}}, out[1]);
    Row({zero.v2, one.v2, minus.v2, infinity.v2, {re.v2, im.v2}}, out[2]);
    Row({zero.v3, one.v3, minus.v3, infinity.v3, {re.v3, im.v3}}, out[3]);
  }
};

}  // namespace
}  // namespace pqi::kernels
