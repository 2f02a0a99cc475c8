// Two ways to multiply codes of few bits faster than by the plain dot product, both exact where csrc/conv/exact.h has proved it.
//
// Inner products (S. Winograd, 1968) use x0*y0 + x1*y1 = (x0 + y1)(x1 + y0) - x0*x1 - y0*y1: one dot product and two byte additions replace
// two dot products. That pays where additions run on ports that the dot product leaves idle (measured on Zen 4: 85 MAC per cycle against
// 64). The panel holds y1' = y1 - lo and y0' = y0 - lo - 128, with lo the least code, so that x0 + y1' fits u8 and x1 + y0' fits s8 as soon
// as the largest x plus the range of the codes is at most 255. What is left over falls into a part of each channel (in init) and a part of
// each row:
//   x0*y0 + x1*y1 = (x0 + y1')(x1 + y0') - y0'*y1' - (x0 - lo)(x1 - lo - 128) + lo*(lo + 128)
//
// Deferred sums are for ISAs without a dot instruction. There vpmaddubsw adds pairs of products in 16 bits, and with small codes `depth`
// such results can be added before they must be widened to 32.
#pragma once

#include "kernels/contract/low_bit.h"
#include "kernels/contract/tile.h"
#include "kernels/generic/compiler.h"
#include "kernels/generic/epilogue.h"
#include "kernels/generic/epilogue_registers.h"
#include "kernels/generic/primitives.h"
#include "kernels/generic/tile.h"
#include "kernels/kernel_set.h"

namespace pqi::kernels {
namespace {

// The sums of an inner-product tile. 8x32 of AVX-512 take 16 registers with accumulators, 4 with weights, 2 with activations and 2 with
// sums of bytes, and eight row pointers.
template <class S, int MR, int NV, class T>
PQI_INLINE void InnerProductSums(const T& t, typename S::Int (&acc)[MR][NV]) {
  constexpr int kBlock = S::kInnerProduct.nr * 4;
  PQI_UNROLL for (int i = 0; i < MR; ++i) {
    const typename S::Int row = S::SetInt(t.row[i]);
    PQI_UNROLL for (int j = 0; j < NV; ++j) acc[i][j] = S::AddInt(S::LoadInt(t.init + j * S::kLanes), row);
  }
  const int8_t* w = t.w;
  Ahead<true> ahead(t.ahead != nullptr ? t.ahead : t.w);
  const size_t end = PointerOffset(t) + t.k;
  for (uint32_t tap = 0; tap < t.taps; ++tap) {
    const uint8_t* row[MR];
    PQI_UNROLL for (int i = 0; i < MR; ++i) row[i] = t.a[tap * MR + i] + end;
    for (ptrdiff_t at = -static_cast<ptrdiff_t>(t.k); at != 0; at += 8) {
      typename S::Int y0[NV], y1[NV];
      PQI_UNROLL for (int j = 0; j < NV; ++j) {
        y0[j] = S::LoadPanel(w + j * S::kLanes * 4);
        y1[j] = S::LoadPanel(w + kBlock + j * S::kLanes * 4);
      }
      PQI_UNROLL for (int i = 0; i < MR; ++i) {
        const typename S::Int x0 = S::SetInt(static_cast<int32_t>(LoadDword(row[i] + at)));
        const typename S::Int x1 = S::SetInt(static_cast<int32_t>(LoadDword(row[i] + at + 4)));
        PQI_UNROLL for (int j = 0; j < NV; ++j) acc[i][j] = S::Dot(acc[i][j], S::AddBytes(x0, y1[j]), S::AddBytes(x1, y0[j]));
      }
      ahead.Next();
      ahead.Next();
      w += 2 * kBlock;
    }
  }
}

// Row terms. The bytes of a row are read in whole vectors and one masked piece, whose rest is 0 and adds nothing. Two rows share a vector
// of sums, and up to kLanes rows are added across lanes at once.
template <class S>
void RowTermsKernel(const RowTerms& t) noexcept {
  using Int = typename S::Int;
  constexpr uint32_t kLanes = S::kLanes;
  const uint32_t tail = t.k % S::kBytes, whole = t.k - tail;
  uint8_t least_bytes[S::kBytes];
  for (uint8_t& b : least_bytes) b = static_cast<uint8_t>(t.least);
  const Int least = S::LoadBytes(least_bytes), least_tail = S::LoadBytes(least_bytes, tail);
  for (uint32_t begin = 0; begin < t.m; begin += kLanes) {
    const uint32_t rows = t.m - begin < kLanes ? t.m - begin : kLanes;
    Int acc[kLanes / 2];
    PQI_UNROLL for (uint32_t i = 0; i < kLanes; i += 2) {
      acc[i / 2] = S::SetInt(0);
      if (i >= rows) continue;
      for (uint32_t tap = 0; tap < t.taps; ++tap) {
        const uint8_t* const* x = t.a + tap * t.m + begin + i;
        const uint8_t *a = x[0] + t.a_offset, *b = x[i + 1 < rows] + t.a_offset;  // an odd last row takes both places
        for (uint32_t k = 0; k < whole; k += S::kBytes) {
          acc[i / 2] = S::AddPairs(acc[i / 2], S::SubBytes(S::LoadBytes(a + k), least), S::SubBytes(S::LoadBytes(b + k), least));
        }
        if (tail != 0) {
          acc[i / 2] = S::AddPairs(acc[i / 2], S::SubBytes(S::LoadBytes(a + whole, tail), least_tail),
                                   S::SubBytes(S::LoadBytes(b + whole, tail), least_tail));
        }
      }
    }
    const Int row = S::SubInt(S::SetInt(0), S::SumPairs(acc));
    if (rows == kLanes) {
      S::StoreInt(t.row + begin, row);
    } else {
      S::StoreInt(t.row + begin, row, S::First(rows));
    }
  }
}

// The sums of a deferred tile. 6x16 of AVX2 take 12 registers with sums of 16 bits, 2 with weights, 1 with an activation and 1 with a
// product; the sums of 32 bits lie in memory.
template <class S, int MR>
PQI_INLINE void DeferredSums(const ProductU8S8& t) {
  constexpr int NV = S::kDeferred.nr / S::kLanes;
  constexpr int kBlock = S::kDeferred.nr * 4;
  int32_t* sums = t.sums;
  const size_t k = t.k, whole = k & ~size_t{3}, piece = size_t{4} * t.depth;
  PQI_UNROLL for (int j = 0; j < NV; ++j) {
    const typename S::Int init = S::LoadInt(t.init + j * S::kLanes);
    PQI_UNROLL for (int i = 0; i < MR; ++i) S::StoreInt(sums + (i * NV + j) * S::kLanes, init);
  }
  const int8_t* w = t.w;
  Ahead<true> ahead(t.ahead != nullptr ? t.ahead : t.w);
  const uint32_t taps = t.taps;
  for (uint32_t tap = 0; tap < taps; ++tap) {
    const uint8_t* row[MR];
    PQI_UNROLL for (int i = 0; i < MR; ++i) row[i] = t.a[tap * MR + i] + t.a_offset;
    for (size_t at = 0; at < k;) {
      typename S::Int acc[MR][NV];
      const auto step = [&](auto first, auto&& load) PQI_INLINE_LAMBDA {
        typename S::Int y[NV];
        PQI_UNROLL for (int j = 0; j < NV; ++j) y[j] = S::LoadPanel(w + j * S::kLanes * 4);
        PQI_UNROLL for (int i = 0; i < MR; ++i) {
          const typename S::Int x = S::SetInt(static_cast<int32_t>(load(i)));
          PQI_UNROLL for (int j = 0; j < NV; ++j) {
            const typename S::Int product = S::MulPairs(x, y[j]);
            acc[i][j] = decltype(first)::value ? product : S::AddShorts(acc[i][j], product);
          }
        }
        ahead.Next();
        w += kBlock;
      };
      if (at < whole) {
        const size_t end = whole - at < piece ? whole : at + piece;
        const auto load = [&](int i) PQI_INLINE_LAMBDA { return LoadDword(row[i] + at); };
        step(Flag<true>(), load);
        for (at += 4; at < end; at += 4) step(Flag<false>(), load);
      } else {
        if (whole > 0) {
          step(Flag<true>(), [&](int i) PQI_INLINE_LAMBDA { return LoadDword(row[i] + (k - 4)); });
        } else {
          step(Flag<true>(), [&](int i) PQI_INLINE_LAMBDA { return LoadShort(row[i], static_cast<uint32_t>(k)); });
        }
        at = k;
      }
      PQI_OPAQUE(sums);  // without this the compiler would keep the sums of 32 bits in registers
      PQI_UNROLL for (int i = 0; i < MR; ++i) {
        PQI_UNROLL for (int j = 0; j < NV; ++j) {
          int32_t* sum = sums + (i * NV + j) * S::kLanes;
          S::StoreInt(sum, S::AddInt(S::LoadInt(sum), S::WidenPairs(acc[i][j])));
        }
      }
    }
  }
}

template <class S, int MR>
struct InnerProductTile {
  static constexpr int kVectors = S::kInnerProduct.nr / S::kLanes;
  static void Product(const ProductU8S8& t) noexcept {
    typename S::Int acc[MR][kVectors];
    InnerProductSums<S>(t, acc);
    StoreSums<S>(acc, t.sums);
  }
  static void Tile(const TileU8S8& t) noexcept {
    typename S::Int acc[MR][kVectors];
    InnerProductSums<S>(t, acc);
    if (FinishesInRegisters<S, kVectors>(t)) return FinishRows<S, MR, kVectors>(t, acc);
    int32_t sums[MR * S::kInnerProduct.nr];
    StoreSums<S>(acc, sums);
    FinishTile<S>(t, sums, MR, S::kInnerProduct.nr);
  }
};

template <class S, int MR>
struct DeferredTile {
  static constexpr int kVectors = S::kDeferred.nr / S::kLanes;
  static void Product(const ProductU8S8& t) noexcept { DeferredSums<S, MR>(t); }
  static void Tile(const TileU8S8& t) noexcept {
    int32_t sums[MR * S::kDeferred.nr];
    DeferredSums<S, MR>({t.a, 0, t.taps, t.k, t.w, t.init, t.row, t.depth, sums, t.ahead});
    if (FinishesInRegisters<S, kVectors>(t)) return FinishStored<S, MR, kVectors>(t, sums);
    FinishTile<S>(t, sums, MR, S::kDeferred.nr);
  }
};

template <class S, template <class, int> class Tile, int MR>
constexpr void FillTiles(U8S8Kernels& kernels) {
  kernels.tile[MR - 1] = &Tile<S, MR>::Tile;
  kernels.product[MR - 1] = &Tile<S, MR>::Product;
  if constexpr (MR > 1) FillTiles<S, Tile, MR - 1>(kernels);
}

template <class S, int MR>
constexpr void FillProducts(U8S8Kernels& kernels) {
  kernels.product[MR - 1] = &DotProductKernel<S, MR>;
  if constexpr (MR > 1) FillProducts<S, MR - 1>(kernels);
}

template <class S>
constexpr void FillLowBit(KernelSet& set) {
  if constexpr (HasWinograd<S>::value) {
    set.u8s8_dot.shape = S::kU8S8;
    for (int i = 0; i < kMaxMr; ++i) set.u8s8_dot.tile[i] = set.u8s8_tile[i];
    FillProducts<S, S::kU8S8.mr>(set.u8s8_dot);
  }
  if constexpr (HasInnerProduct<S>::value) {
    set.u8s8_inner_product.shape = S::kInnerProduct;
    FillTiles<S, InnerProductTile, S::kInnerProduct.mr>(set.u8s8_inner_product);
    set.row_terms = &RowTermsKernel<S>;
  }
  if constexpr (HasDeferred<S>::value) {
    set.u8s8_deferred.shape = S::kDeferred;
    FillTiles<S, DeferredTile, S::kDeferred.mr>(set.u8s8_deferred);
  }
}

}  // namespace
}  // namespace pqi::kernels
