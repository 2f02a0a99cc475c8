// Winograd's minimal filtering (Lavin & Gray, arXiv 1509.09308) in integers. F(2x2,3x3): a 2x2 piece of a 3x3 convolution takes 16 products
// per channel instead of 36. F(2,3) along x: two neighbours take 4 products per channel and kernel row instead of 6, and the products of
// the three kernel rows are summed before the output transform; F(4,3): four neighbours 6 instead of 12. Exact in u8 x s8 under the
// conditions of docs/numerics.md, which csrc/plan/range.h proves for each layer:
//   V = B^T d B, B^T d    weighted sums of codes, at most 4 (F(2,3): 2, F(4,3): 10) times qmax - qmin wide: offsets bring them into u8
//   U                     4 G g G^T (2 G g; rows of G times 4, -6, 24 and 1 for F(4,3)), integers that must fit s8
//   n * acc = A^T (U . V) A with n = 4 (2; 24 for F(4,3), of which 3 goes by its inverse modulo 2^32 and 8 stays), exact modulo 2^32, so a
//   shift gives acc as soon as |n * acc| (|8 * acc|) < 2^31
// Here are the transforms; between them stand the product kernels. Bytes and sums wrap on purpose.
#pragma once

#include <type_traits>

#include "kernels/contract.h"
#include "kernels/generic/compiler.h"
#include "kernels/generic/epilogue.h"
#include "kernels/generic/epilogue_registers.h"
#include "kernels/generic/low_bit.h"

namespace pqi::kernels {
namespace {

// B^T d of four.
template <class S>
PQI_INLINE void InputStep(const typename S::Int (&d)[4], typename S::Int (&out)[4]) {
  out[0] = S::SubBytes(d[0], d[2]);
  out[1] = S::AddBytes(d[1], d[2]);
  out[2] = S::SubBytes(d[2], d[1]);
  out[3] = S::SubBytes(d[1], d[3]);
}

// A^T m of four.
template <class S>
PQI_INLINE void OutputStep(const typename S::Int (&m)[4], typename S::Int (&out)[2]) {
  out[0] = S::AddInt(m[0], S::AddInt(m[1], m[2]));
  out[1] = S::SubInt(S::SubInt(m[1], m[2]), m[3]);
}

// The transforms of one tile. load(i) is vector i of the tile (a pixel, the sums of a position), store(p, v) takes position p.
template <class S>
struct Winograd1d {
  using Int = typename S::Int;
  static constexpr int kPositions = 4, kRows = 1, kColumns = 2;
  static constexpr uint32_t kPixelStep = 2;  // pointers from tile to tile

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

// F(4,3). Rows of G are scaled until they are whole, so with the points 0, 1, -1, 2, -2 and infinity
//   24 y0 = 6 m0 - 4 (m1 + m2) + (m3 + m4)      12 y1 = -2 (m1 - m2) + (m3 - m4)
//    6 y2 = -(m1 + m2) + (m3 + m4)               6 y3 = -(m1 - m2) + 2 (m3 - m4) + 6 m5
template <class S>
struct Winograd1d4 {
  using Int = typename S::Int;
  static constexpr int kPositions = 6, kRows = 1, kColumns = 4;
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
  static constexpr int kPositions = 16, kRows = 2, kColumns = 2;
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

// kBytes channels of a tile at a time. Loads and stores set the pace.
template <class S, class Transform>
void WinogradInputKernel(const WinogradInput& t) noexcept {
  constexpr int kPositions = Transform::kPositions;
  typename S::Int offset[kPositions];
  PQI_UNROLL for (int p = 0; p < kPositions; ++p) offset[p] = S::SetBytes(static_cast<int8_t>(t.offset[p]));
  for (uint32_t tile = 0; tile < t.tiles; ++tile) {
    const uint8_t* const* d = t.pixels + tile * Transform::kPixelStep;
    uint8_t* v = t.v + tile * t.stride;
    uint32_t c = 0;
    const auto store = [&](int p, typename S::Int bytes)
                           PQI_INLINE_LAMBDA { S::StoreBytes(v + static_cast<size_t>(p) * t.plane + c, S::AddBytes(bytes, offset[p])); };
    for (; c + S::kBytes <= t.channels; c += S::kBytes) {
      Transform::Input([&](int i) PQI_INLINE_LAMBDA { return S::LoadBytes(d[i] + c); }, store);
    }
    if (c < t.channels) {
      const uint32_t left = t.channels - c;
      Transform::Input([&](int i) PQI_INLINE_LAMBDA { return S::LoadBytes(d[i] + c, left); }, store);
    }
  }
}

// The sums of a tile's pixels, row by row: out[y][x * NV + j].
template <class S, class Transform, int NV>
PQI_INLINE void TileSums(const WinogradOutput& t, uint32_t tile, typename S::Int (&out)[Transform::kRows][Transform::kColumns * NV]) {
  constexpr int kColumns = Transform::kColumns;
  PQI_UNROLL for (int j = 0; j < NV; ++j) {
    const int32_t* sums = t.sums + tile * static_cast<size_t>(NV * S::kLanes) + j * S::kLanes;
    typename S::Int pixels[Transform::kRows][kColumns];
    Transform::Output([&](int p) PQI_INLINE_LAMBDA { return S::LoadInt(sums + static_cast<size_t>(p) * t.plane); }, pixels);
    PQI_UNROLL for (int y = 0; y < Transform::kRows; ++y) {
      PQI_UNROLL for (int x = 0; x < kColumns; ++x) out[y][x * NV + j] = pixels[y][x];
    }
  }
}

// Tiles go from the transform to the epilogue in registers, two pixels of a row at a time; over the stack where that epilogue does not do
// what is asked for.
template <class S, class Transform>
void WinogradOutputKernel(const WinogradOutput& t) noexcept {
  constexpr int NV = S::kU8S8.nr / S::kLanes, kRows = Transform::kRows, kColumns = Transform::kColumns;
  const TileU8S8& e = t.epilogue;
  if (FinishesInRegisters<S, NV>(e)) {
    ForEpilogueOf(e, [&](auto saturates, auto adds) PQI_INLINE_LAMBDA {
      using Epilogue = RowEpilogue<S, NV, decltype(saturates)::value, decltype(adds)::value>;
      static_assert(Epilogue::kRows == 2 && kColumns % 2 == 0, "pixels leave in pairs");
      const Epilogue epilogue(e);
      uint8_t* out = epilogue.output.codes;
      const uint8_t* from = e.residual.u8;
      uint32_t left = t.columns;
      for (uint32_t tile = 0; tile < t.tiles; ++tile) {
        typename S::Int sums[kRows][kColumns * NV];
        TileSums<S, Transform, NV>(t, tile, sums);
        PQI_UNROLL for (int x = 0; x < kColumns; x += 2) {
          typename S::Int pair[kRows][2 * NV];
          PQI_UNROLL for (int y = 0; y < kRows; ++y) { PQI_UNROLL for (int v = 0; v < 2 * NV; ++v) pair[y][v] = sums[y][x * NV + v]; }
          epilogue.Finish(pair[0], left, out, e.out_stride, from, e.residual.stride);
          if constexpr (kRows == 2) {
            if (t.rows == 2) {
              const uint8_t* below = decltype(adds)::value ? from + t.row_pixels * e.residual.stride : nullptr;
              epilogue.Finish(pair[1], left, out + t.row_pixels * e.out_stride, e.out_stride, below, e.residual.stride);
            }
          }
          if (left <= 2) return;
          left -= 2;
          out += 2 * e.out_stride;
          if (decltype(adds)::value) from += 2 * e.residual.stride;
        }
      }
    });
    return;
  }
  for (uint32_t tile = 0; tile < t.tiles; ++tile) {
    typename S::Int sums[kRows][kColumns * NV];
    TileSums<S, Transform, NV>(t, tile, sums);
    for (uint32_t y = 0; y < t.rows; ++y) {
      int32_t row[kColumns * S::kU8S8.nr];
      PQI_UNROLL for (int v = 0; v < kColumns * NV; ++v) S::StoreInt(row + v * S::kLanes, sums[y][v]);
      TileU8S8 at = e;
      const uint32_t x = kColumns * tile;
      const size_t pixel = y * t.row_pixels + x, residual = pixel * e.residual.stride;
      at.out = static_cast<uint8_t*>(e.out) + pixel * e.out_stride * (e.output.f32 ? 4 : 1);
      if (e.residual.u8 != nullptr) at.residual.u8 += residual;
      if (e.residual.f32 != nullptr) at.residual.f32 += residual;
      FinishTile<S>(at, row, t.columns - x < kColumns ? static_cast<int>(t.columns - x) : kColumns, S::kU8S8.nr);
    }
  }
}

template <class S>
constexpr void FillWinograd(KernelSet& set) {
  if constexpr (HasWinograd<S>::value) {
    static_assert(kWinogradPad % S::kBytes == 0, "");
    set.winograd_1d = {&WinogradInputKernel<S, Winograd1d<S>>, &WinogradOutputKernel<S, Winograd1d<S>>};
    set.winograd_1d4 = {&WinogradInputKernel<S, Winograd1d4<S>>, &WinogradOutputKernel<S, Winograd1d4<S>>};
    set.winograd_2d = {&WinogradInputKernel<S, Winograd2d<S>>, &WinogradOutputKernel<S, Winograd2d<S>>};
  }
}

}  // namespace
}  // namespace pqi::kernels
