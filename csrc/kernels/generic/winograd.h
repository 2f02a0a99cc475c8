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
#include "kernels/generic/epilogue_registers.h"
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

// kTiles neighbours: A^T m A / 4 as rows of pixels, out[y][2*kTiles][nr].
template <class S, int kTiles, int NV>
PQI_INLINE void OutputTransform(const WinogradOutput& t, uint32_t first, typename S::Int (&out)[2][2 * kTiles][NV]) {
  using Int = typename S::Int;
  PQI_UNROLL for (int tile = 0; tile < kTiles; ++tile) {
    PQI_UNROLL for (int j = 0; j < NV; ++j) {
      const int32_t* sums = t.sums + (first + tile) * static_cast<size_t>(NV * S::kLanes) + j * S::kLanes;
      Int z[2][4];
      PQI_UNROLL for (int x = 0; x < 4; ++x) {
        const auto sum = [&](int y) PQI_INLINE_LAMBDA { return S::LoadInt(sums + static_cast<size_t>(y * 4 + x) * t.plane); };
        const Int m1 = sum(1), m2 = sum(2);
        z[0][x] = S::AddInt(sum(0), S::AddInt(m1, m2));
        z[1][x] = S::SubInt(S::SubInt(m1, m2), sum(3));
      }
      PQI_UNROLL for (int y = 0; y < 2; ++y) {
        out[y][2 * tile][j] = S::QuarterInt(S::AddInt(z[y][0], S::AddInt(z[y][1], z[y][2])));
        out[y][2 * tile + 1][j] = S::QuarterInt(S::SubInt(S::SubInt(z[y][1], z[y][2]), z[y][3]));
      }
    }
  }
}

// The epilogue for outputs from pixel `first` of row y on.
PQI_INLINE TileU8S8 EpilogueAt(const WinogradOutput& t, uint32_t y, size_t first) {
  TileU8S8 e = t.epilogue;
  const size_t pixel = y * t.row_pixels + first, residual = pixel * e.residual.stride;
  e.out = static_cast<uint8_t*>(e.out) + pixel * e.out_stride * (e.output.f32 ? 4 : 1);
  if (e.residual.u8 != nullptr) e.residual.u8 += residual;
  if (e.residual.f32 != nullptr) e.residual.f32 += residual;
  return e;
}

// Two tiles at a time go from the transform to the epilogue in registers; a last tile, and what that epilogue does not do, over the stack.
template <class S>
void WinogradOutputKernel(const WinogradOutput& t) noexcept {
  constexpr int NV = S::kU8S8.nr / S::kLanes;
  const bool in_registers = FinishesInRegisters<S, NV>(t.epilogue);
  uint32_t tile = 0;
  for (; in_registers && 2 * tile + 4 <= t.columns; tile += 2) {
    typename S::Int out[2][4][NV];
    OutputTransform<S, 2>(t, tile, out);
    FinishRows<S, 4, NV>(EpilogueAt(t, 0, 2 * tile), out[0]);
    if (t.rows == 2) FinishRows<S, 4, NV>(EpilogueAt(t, 1, 2 * tile), out[1]);
  }
  for (; tile < t.tiles; ++tile) {
    typename S::Int out[2][2][NV];
    OutputTransform<S, 1>(t, tile, out);
    const size_t pixels = 2 * tile + 2 <= t.columns ? 2 : 1;
    PQI_UNROLL for (uint32_t y = 0; y < 2; ++y) {
      if (y >= t.rows) break;
      int32_t sums[2 * S::kU8S8.nr];
      StoreSums<S>(out[y], sums, S::kU8S8.nr);
      const TileU8S8 e = EpilogueAt(t, y, 2 * tile);
      if (in_registers && pixels == 2) {
        FinishStored<S, 2, NV>(e, sums);
      } else if (in_registers) {
        FinishStored<S, 1, NV>(e, sums);
      } else {
        FinishTile<S>(e, sums, pixels, S::kU8S8.nr);
      }
    }
  }
}

template <class S>
constexpr void FillWinograd(KernelSet& set) {
  if constexpr (HasWinograd<S>::value) {
    static_assert(kWinogradPad % S::kBytes == 0, "");
    set.winograd_input = &WinogradInputKernel<S>;
    set.winograd_output = &WinogradOutputKernel<S>;
  }
}

}  // namespace
}  // namespace pqi::kernels
