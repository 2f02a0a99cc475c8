// Winograd's minimal filtering F(2x2,3x3) (Lavin & Gray, arXiv 1509.09308) in integers: a 2x2 piece of a 3x3 convolution takes 16 products
// per channel instead of 36. Exact in u8 x s8 under the conditions of docs/numerics.md, which csrc/plan/range.h proves for each layer:
//   V = B^T d B    sums of four codes with signs, so at most 4 * (qmax - qmin) wide: an offset per position brings them into u8
//   U = 4 G g G^T  integers, in s8 for codes of 4 bits and fewer (codes up to 14 always, larger ones where the actual codes allow)
//   4 * acc = A^T (U . V) A   exact modulo 2^32, so one shift gives acc as soon as |4 * acc| < 2^31
// Here are the two transforms; between them stand the product kernels. Bytes and sums wrap on purpose.
#pragma once

#include <type_traits>

#include "kernels/contract.h"
#include "kernels/generic/compiler.h"
#include "kernels/generic/epilogue.h"
#include "kernels/generic/low_bit.h"

namespace pqi::kernels {
namespace {

// kBytes channels of one tile: 16 loads, 16 stores (which set the pace: one per two cycles on Zen 4), 48 additions.
template <class S, class Load>
PQI_INLINE void TransformTile(const typename S::Int (&offset)[16], uint8_t* v, size_t plane, Load&& load) {
  using Int = typename S::Int;
  Int r[4][4];
  PQI_UNROLL for (int x = 0; x < 4; ++x) {
    const Int d0 = load(x), d1 = load(4 + x), d2 = load(8 + x), d3 = load(12 + x);
    r[0][x] = S::SubBytes(d0, d2);
    r[1][x] = S::AddBytes(d1, d2);
    r[2][x] = S::SubBytes(d2, d1);
    r[3][x] = S::SubBytes(d1, d3);
  }
  PQI_UNROLL for (int y = 0; y < 4; ++y) {
    const Int columns[4] = {S::SubBytes(r[y][0], r[y][2]), S::AddBytes(r[y][1], r[y][2]), S::SubBytes(r[y][2], r[y][1]),
                            S::SubBytes(r[y][1], r[y][3])};
    PQI_UNROLL for (int x = 0; x < 4; ++x) {
      S::StoreBytes(v + static_cast<size_t>(y * 4 + x) * plane, S::AddBytes(columns[x], offset[y * 4 + x]));
    }
  }
}

template <class S>
void WinogradInputKernel(const WinogradInput& t) noexcept {
  typename S::Int offset[16];
  PQI_UNROLL for (int p = 0; p < 16; ++p) offset[p] = S::SetBytes(static_cast<int8_t>(t.offset[p]));
  for (uint32_t tile = 0; tile < t.tiles; ++tile) {
    const uint8_t* const* d = t.pixels + tile * 16;
    uint8_t* v = t.v + tile * t.stride;
    uint32_t c = 0;
    for (; c + S::kBytes <= t.channels; c += S::kBytes) {
      TransformTile<S>(offset, v + c, t.plane, [&](int i) PQI_INLINE_LAMBDA { return S::LoadBytes(d[i] + c); });
    }
    if (c < t.channels) {
      const uint32_t left = t.channels - c;
      TransformTile<S>(offset, v + c, t.plane, [&](int i) PQI_INLINE_LAMBDA { return S::LoadBytes(d[i] + c, left); });
    }
  }
}

// Sums lie in rows of S::kU8S8.nr, whichever product kernels made them.
template <class S>
constexpr bool SameWidths() {
  bool same = true;
  if constexpr (HasInnerProduct<S>::value) same = same && S::kInnerProduct.nr == S::kU8S8.nr;
  if constexpr (HasDeferred<S>::value) same = same && S::kDeferred.nr == S::kU8S8.nr;
  return same;
}

// Outputs of a few tiles at a time go to the stack as two rows of pixels, from where the epilogue of all tiles takes them.
template <class S>
void WinogradOutputKernel(const WinogradOutput& t) noexcept {
  using Int = typename S::Int;
  constexpr uint32_t kTiles = 8;
  constexpr size_t kNr = S::kU8S8.nr;
  int32_t outputs[2][2 * kTiles * kNr];
  for (uint32_t begin = 0; begin < t.tiles; begin += kTiles) {
    const uint32_t tiles = t.tiles - begin < kTiles ? t.tiles - begin : kTiles;
    for (uint32_t tile = 0; tile < tiles; ++tile) {
      for (size_t j = 0; j < kNr; j += S::kLanes) {
        const int32_t* sums = t.sums + (begin + tile) * kNr + j;
        Int z[2][4];
        PQI_UNROLL for (int x = 0; x < 4; ++x) {
          const auto sum = [&](int y) PQI_INLINE_LAMBDA { return S::LoadInt(sums + static_cast<size_t>(y * 4 + x) * t.plane); };
          const Int m1 = sum(1), m2 = sum(2);
          z[0][x] = S::AddInt(sum(0), S::AddInt(m1, m2));
          z[1][x] = S::SubInt(S::SubInt(m1, m2), sum(3));
        }
        PQI_UNROLL for (int y = 0; y < 2; ++y) {
          int32_t* out = outputs[y] + 2 * tile * kNr + j;
          S::StoreInt(out, S::QuarterInt(S::AddInt(z[y][0], S::AddInt(z[y][1], z[y][2]))));
          S::StoreInt(out + kNr, S::QuarterInt(S::SubInt(S::SubInt(z[y][1], z[y][2]), z[y][3])));
        }
      }
    }
    const uint32_t left = t.columns - 2 * begin, columns = left < 2 * tiles ? left : 2 * tiles;
    for (uint32_t y = 0; y < t.rows; ++y) {
      TileU8S8 e = t.epilogue;
      const size_t pixel = 2 * begin;
      e.out = static_cast<uint8_t*>(e.out) + (y * t.row_stride + pixel * e.out_stride) * (e.output.f32 ? 4 : 1);
      if (e.residual.u8 != nullptr) e.residual.u8 += y * t.row_stride + pixel * e.residual.stride;
      if (e.residual.f32 != nullptr) e.residual.f32 += y * t.row_stride + pixel * e.residual.stride;
      FinishTile<S>(e, outputs[y], columns, kNr);
    }
  }
}

// An ISA with byte vectors.
template <class S, class = void>
struct HasWinograd : std::false_type {};
template <class S>
struct HasWinograd<S, std::void_t<decltype(&S::QuarterInt)>> : std::true_type {};

template <class S>
constexpr void FillWinograd(KernelSet& set) {
  if constexpr (HasWinograd<S>::value) {
    static_assert(SameWidths<S>() && kWinogradPad % S::kBytes == 0, "");
    set.winograd_input = &WinogradInputKernel<S>;
    set.winograd_output = &WinogradOutputKernel<S>;
  }
}

}  // namespace
}  // namespace pqi::kernels
