// The loop nests of the tile kernels: u8 x s8 and f32 x f32, written once over an ISA's primitives.
//
// MR is the number of rows, NV the number of vectors of channels. Vector registers hold MR x NV accumulators, NV (x S::kPhases) weights and
// one broadcast activation; general registers hold MR row pointers and one offset k for all of them. The panel is read in order, once per
// tile, and every load of it serves MR rows.
#pragma once

#include <type_traits>

#include "kernels/contract/tile.h"
#include "kernels/generic/compiler.h"
#include "kernels/generic/epilogue.h"
#include "kernels/generic/epilogue_registers.h"
#include "kernels/generic/matrix_tile.h"

namespace pqi::kernels {
namespace {

PQI_INLINE uint32_t LoadDword(const uint8_t* p) {
  uint32_t v;
  __builtin_memcpy(&v, p, 4);
  return v;
}

// The 1..3 bytes of a short row with zeros above them. No further byte is read.
PQI_INLINE uint32_t LoadShort(const uint8_t* p, uint32_t count) {
  uint32_t v = p[0];
  if (count > 1) v |= static_cast<uint32_t>(p[1]) << 8;
  if (count > 2) v |= static_cast<uint32_t>(p[2]) << 16;
  return v;
}

// Brings the weights that a later call reads into L2, one cache line with every block of the panel, because in a network they come from L3
// or memory. The request takes as long as one load in fifteen, 6 % of a tall tile's time, so tiles that ask and tiles that do not are two
// functions.
template <bool kAsks>
struct Ahead {
  PQI_INLINE explicit Ahead(const int8_t*) {}
  PQI_INLINE void Next() {}
};
template <>
struct Ahead<true> {
  uintptr_t at;  // an integer, because there may be no object at that address
  PQI_INLINE explicit Ahead(const int8_t* ahead) : at(reinterpret_cast<uintptr_t>(ahead)) {}
  PQI_INLINE void Next() {
    __builtin_prefetch(reinterpret_cast<const void*>(at), 0, 2);
    at += 64;
  }
};

PQI_INLINE size_t PointerOffset(const TileU8S8&) { return 0; }
PQI_INLINE size_t PointerOffset(const ProductU8S8& t) { return t.a_offset; }
PQI_INLINE size_t TapStep(const TileU8S8& t) { return t.tap_step; }
PQI_INLINE size_t TapStep(const ProductU8S8&) { return 0; }

// acc[i][j] += four k-values of row i x kLanes channels. S::kPhases splits the four where the ISA's multiplication takes fewer.
template <class S, int MR, int NV, class Load>
PQI_INLINE void DotStep(typename S::Int (&acc)[MR][NV], const int8_t* w, Load&& load) {
  typename S::Int weights[S::kPhases][NV];
  PQI_UNROLL for (int j = 0; j < NV; ++j) {
    const typename S::Int v = S::LoadPanel(w + j * S::kLanes * 4);
    PQI_UNROLL for (int p = 0; p < S::kPhases; ++p) weights[p][j] = S::PhaseWeights(v, p);
  }
  PQI_UNROLL for (int i = 0; i < MR; ++i) {
    const typename S::Int x = S::SetInt(static_cast<int32_t>(load(i)));
    PQI_UNROLL for (int p = 0; p < S::kPhases; ++p) {
      const typename S::Int xp = S::PhaseActivations(x, p);
      PQI_UNROLL for (int j = 0; j < NV; ++j) acc[i][j] = S::Dot(acc[i][j], xp, weights[p][j]);
    }
  }
}

// acc[i][j] += four k-values of row i x kLanes channels, in pairs that are added in 16 bits (kernels/contract/tile.h, TileU8S8Pairs).
template <class S, int MR, int NV, class Load>
PQI_INLINE void PairStep(typename S::Int (&acc)[MR][NV], const int8_t* w, Load&& load) {
  typename S::Int weights[NV];
  PQI_UNROLL for (int j = 0; j < NV; ++j) weights[j] = S::LoadPanel(w + j * S::kLanes * 4);
  PQI_UNROLL for (int i = 0; i < MR; ++i) {
    const typename S::Int x = S::SetInt(static_cast<int32_t>(load(i)));
    PQI_UNROLL for (int j = 0; j < NV; ++j) acc[i][j] = S::DotPairs(acc[i][j], x, weights[j]);
  }
}

// A tile of few products pays for every choice, so there are two functions: for one pointer per tap (kEven false), and for a tap_step.
template <class S, int MR, int NV, bool kEven>
PQI_NOINLINE void PairsTileBy(const TileU8S8Pairs& p) noexcept {
  constexpr int kBlock = S::kU8S8.nr * 4;
  const TileU8S8& t = p.tile;
  const size_t tap_step = kEven ? t.tap_step : 0;
  constexpr size_t kNext = kEven ? 0 : MR;
  typename S::Int acc[MR][NV];
  PQI_UNROLL for (int j = 0; j < NV; ++j) {
    const typename S::Int init = S::LoadInt(t.init + j * S::kLanes);
    PQI_UNROLL for (int i = 0; i < MR; ++i) acc[i][j] = init;
  }
  const uint32_t whole = t.k & ~3u;
  const int8_t* w = t.w;
  const uint8_t* const* a = t.a;
  size_t end = whole;
  for (uint32_t tap = 0; tap < t.taps; ++tap, a += kNext, end += tap_step) {
    const uint8_t* row[MR];
    PQI_UNROLL for (int i = 0; i < MR; ++i) row[i] = a[i] + end;
    for (ptrdiff_t at = -static_cast<ptrdiff_t>(whole); at != 0; at += 4) {
      PairStep<S, MR, NV>(acc, w, [&](int i) { return LoadDword(row[i] + at); });
      w += kBlock;
    }
    if (whole < t.k) {
      const ptrdiff_t last = static_cast<ptrdiff_t>(t.k - whole) - 4;
      PairStep<S, MR, NV>(acc, w, [&](int i) { return LoadDword(row[i] + last); });
      w += kBlock;
    }
  }
  static_assert(S::kU8S8.nr == 2 * S::kLanes, "extra blocks are vectors");
  const TileExtra* e = p.extra;
  w = p.extra_w;
  PQI_UNROLL for (int j = 0; j < NV; ++j) {
    for (const TileExtra* last = e + p.extras[j]; e != last; ++e, w += kBlock / 2) {
      const uint8_t* const* row = t.a + e->tap * kNext;
      const size_t at = e->tap * tap_step + e->k;
      const typename S::Int weights = S::LoadPanel(w);
      PQI_UNROLL for (int i = 0; i < MR; ++i) {
        acc[i][j] = S::DotPairs(acc[i][j], S::SetInt(static_cast<int32_t>(LoadDword(row[i] + at))), weights);
      }
    }
  }
  if (FinishesInRegisters<S, NV>(t)) return FinishRows<S, MR, NV>(t, acc);
  int32_t sums[MR * NV * S::kLanes];
  PQI_UNROLL for (int i = 0; i < MR; ++i) {
    PQI_UNROLL for (int j = 0; j < NV; ++j) S::StoreInt(sums + (i * NV + j) * S::kLanes, acc[i][j]);
  }
  FinishTile<S>(t, sums, MR, NV * S::kLanes);
}

template <class S, int MR, int NV>
void PairsTile(const TileU8S8Pairs& p) noexcept {
  if (p.tile.tap_step == 0) return PairsTileBy<S, MR, NV, false>(p);
  return PairsTileBy<S, MR, NV, true>(p);
}

// The sums of a tile. They are exact: every product and every partial sum fits int32, by the bound of docs/numerics.md that is checked when
// a model is loaded, and start values wrap. T is TileU8S8 or ProductU8S8.
template <class S, bool kAsks, int MR, int NV, class T>
PQI_INLINE void DotSums(const T& t, typename S::Int (&acc)[MR][NV]) {
  constexpr int kBlock = S::kU8S8.nr * 4;  // bytes that four k-values take in the panel
  PQI_UNROLL for (int j = 0; j < NV; ++j) {
    const typename S::Int init = S::LoadInt(t.init + j * S::kLanes);
    PQI_UNROLL for (int i = 0; i < MR; ++i) acc[i][j] = init;
  }
  const int8_t* w = t.w;
  Ahead<kAsks> ahead(t.ahead);
  const uint8_t* const* a = t.a;
  const size_t step = TapStep(t), next = step == 0 ? MR : 0;
  size_t from = PointerOffset(t);
  for (uint32_t tap = 0; tap < t.taps; ++tap, a += next, from += step) {
    const uint8_t* row[MR];
    PQI_UNROLL for (int i = 0; i < MR; ++i) row[i] = a[i];
    if (t.k >= 4) {
      // The last block holds the last four values, whatever k is (kernels/contract/tile.h). It shares the body of the loop, because of
      // several bodies compilers would merge what they have in common and keep that in memory.
      const size_t last = from + t.k - 4;
      for (size_t at = from;; at = at + 4 < last ? at + 4 : last) {
        DotStep<S, MR, NV>(acc, w, [&](int i) { return LoadDword(row[i] + at); });
        ahead.Next();
        w += kBlock;
        if (at == last) break;
      }
    } else if (t.k > 0) {
      uint32_t values[MR];
      PQI_UNROLL for (int i = 0; i < MR; ++i) values[i] = LoadShort(row[i] + from, t.k);
      const uint32_t* value = values;
      PQI_OPAQUE(value);  // without this the compiler would broadcast all values first, and run out of registers
      DotStep<S, MR, NV>(acc, w, [&](int i) { return value[i]; });
      w += kBlock;
    }
  }
}

template <class S, int MR, int NV>
PQI_INLINE void StoreSums(const typename S::Int (&acc)[MR][NV], int32_t* sums) {
  PQI_UNROLL for (int i = 0; i < MR; ++i) {
    PQI_UNROLL for (int j = 0; j < NV; ++j) S::StoreInt(sums + (i * NV + j) * S::kLanes, acc[i][j]);
  }
}

template <class S, bool kAsks, int MR, int NV>
PQI_NOINLINE void DotTileBy(const TileU8S8& t) noexcept {
  constexpr int kStride = NV * S::kLanes;
  typename S::Int acc[MR][NV];
  DotSums<S, kAsks>(t, acc);
  if (S::kPhases == 1 && FinishesInRegisters<S, NV>(t)) return FinishRows<S, MR, NV>(t, acc);
  int32_t sums[MR * kStride];
  StoreSums<S, MR, NV>(acc, sums);
  // A product of two phases fills the registers with its loop. An epilogue in the same function would make compilers move accumulators
  // inside that loop, so sums go over memory.
  if (S::kPhases > 1 && FinishesInRegisters<S, NV>(t)) return FinishStored<S, MR, NV>(t, sums);
  FinishTile<S>(t, sums, MR, kStride);
}

template <class S, int MR, int NV>
void DotTile(const TileU8S8& t) noexcept {
  if (t.ahead == nullptr) return DotTileBy<S, false, MR, NV>(t);
  return DotTileBy<S, true, MR, NV>(t);
}

// Product calls are short: to choose whether to ask would cost more than to ask.
template <class S, int MR>
void DotProductKernel(const ProductU8S8& t) noexcept {
  typename S::Int acc[MR][S::kU8S8.nr / S::kLanes];
  DotSums<S, true>(t, acc);
  StoreSums<S>(acc, t.sums);
}

template <class S, int MR, int NV>
void FloatTile(const TileF32& t) noexcept {
  constexpr int kStride = NV * S::kLanes;
  typename S::Float acc[MR][NV];
  PQI_UNROLL for (int i = 0; i < MR; ++i) { PQI_UNROLL for (int j = 0; j < NV; ++j) acc[i][j] = S::SetFloat(0); }
  const float* w = t.w;
  const float* const* a = t.a;
  const size_t next = t.tap_step == 0 ? MR : 0;
  size_t end = t.k;
  for (uint32_t tap = 0; tap < t.taps; ++tap, a += next, end += t.tap_step) {
    const float* row[MR];
    PQI_UNROLL for (int i = 0; i < MR; ++i) row[i] = a[i] + end;
    for (ptrdiff_t at = -static_cast<ptrdiff_t>(t.k); at != 0; ++at) {
      typename S::Float weights[NV];
      PQI_UNROLL for (int j = 0; j < NV; ++j) weights[j] = S::LoadFloat(w + j * S::kLanes);
      PQI_UNROLL for (int i = 0; i < MR; ++i) {
        const typename S::Float x = S::SetFloat(row[i][at]);
        PQI_UNROLL for (int j = 0; j < NV; ++j) acc[i][j] = S::Fma(x, weights[j], acc[i][j]);
      }
      w += S::kF32.nr;
    }
  }
  float sums[MR * kStride];
  PQI_UNROLL for (int i = 0; i < MR; ++i) {
    PQI_UNROLL for (int j = 0; j < NV; ++j) S::StoreFloat(sums + i * kStride + j * S::kLanes, acc[i][j]);
  }
  FinishTile<S>(t, sums, MR, kStride);
}

// The entry of a tile of MR rows. A layer of few channels computes only the half of the panel that is not padding.
template <class S, int MR>
void TileU8S8Kernel(const TileU8S8& t) noexcept {
  constexpr int kVectors = S::kU8S8.nr / S::kLanes;
  if constexpr (!std::is_void_v<typename S::Matrix>) {
    if (t.n <= S::kU8S8.nr / 2) return MatrixTile<S, kVectors / 2>(t, MR);
    return MatrixTile<S, kVectors>(t, MR);
  }
  if (t.n <= S::kU8S8.nr / 2) return DotTile<S, MR, kVectors / 2>(t);
  DotTile<S, MR, kVectors>(t);
}

template <class S, int MR>
void TileU8S8PairsKernel(const TileU8S8Pairs& p) noexcept {
  constexpr int kVectors = S::kU8S8.nr / S::kLanes;
  if (p.tile.n <= S::kU8S8.nr / 2) return PairsTile<S, MR, kVectors / 2>(p);
  PairsTile<S, MR, kVectors>(p);
}

template <class S, int MR>
void TileF32Kernel(const TileF32& t) noexcept {
  constexpr int kVectors = S::kF32.nr / S::kLanes;
  if (t.n <= S::kF32.nr / 2) return FloatTile<S, MR, kVectors / 2>(t);
  FloatTile<S, MR, kVectors>(t);
}

}  // namespace
}  // namespace pqi::kernels
