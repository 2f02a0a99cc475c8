// Sums of convolutions whose weights are mostly zero (kernels/contract/sparse.h).
//
// A vector of positions costs a load and an addition for each non-zero weight. Steps are sorted by their numbers of additions and
// subtractions (pack/sparse_lists.h), so that the inner loops run alike from step to step and their ends are predicted.
#pragma once

#include <cstring>

#include "kernels/contract/sparse.h"
#include "kernels/generic/compiler.h"
#include "kernels/generic/epilogue.h"
#include "kernels/generic/epilogue_registers.h"
#include "kernels/generic/primitives.h"
#include "kernels/kernel_set.h"

namespace pqi::kernels {
namespace {

template <class S, bool kWide>
void SparsePlanesKernel(const SparsePlanes& t) noexcept {
  constexpr uint32_t kStep = kSparseChannels;
  alignas(64) uint8_t bytes[kStep * kMaxSparseVectors * S::kBytes];
  for (uint32_t c = 0; c < t.channels; c += kStep) {
    const uint32_t left = t.channels - c;
    uint8_t* planes = t.planes + c * t.plane;
    uint8_t* to = kWide ? bytes : planes;
    const size_t stride = kWide ? t.positions : t.plane;
    for (uint32_t j = 0; j < t.positions; j += kStep) {
      if (left >= kStep) {
        S::TransposeBytes(t.pixels + j, t.channel + c, to + j, stride);
        continue;
      }
      uint8_t part[kStep][kStep] = {};
      const uint8_t* rows[kStep];
      for (uint32_t i = 0; i < kStep; ++i) {
        std::memcpy(part[i], t.pixels[j + i] + t.channel + c, left);
        rows[i] = part[i];
      }
      S::TransposeBytes(rows, 0, to + j, stride);
    }
    if (!kWide) continue;
    for (uint32_t i = 0; i < kStep; ++i) {
      for (uint32_t j = 0; j < t.positions; j += S::kBytes) {
        const typename S::Int v = S::LoadBytes(bytes + i * t.positions + j);
        S::StoreBytes(planes + i * t.plane + 2 * j, S::EvenBytes(v));
        S::StoreBytes(planes + i * t.plane + 2 * j + S::kBytes, S::OddBytes(v));
      }
    }
  }
}

template <class S, int V, bool kWide, bool kAdd>
void SparseSumsKernel(const SparseSums& t) noexcept {
  using Int = typename S::Int;
  constexpr int kRows = SparseRowsAtOnce(V), kRegisters = kWide ? 2 * V : V;
  const uint16_t* offset = t.offsets;
  const uint8_t* const planes = t.planes;
  for (const SparseStep *step = t.steps, *end = t.steps + t.count; step != end; ++step) {
    Int acc[kRows][kRegisters];
    // Bytes never fall below 0 on the way.
    const Int start = S::SetBytes(static_cast<int8_t>(step->sub * t.largest));
    PQI_UNROLL for (int r = 0; r < kRows; ++r) {
      PQI_UNROLL for (int v = 0; v < kRegisters; ++v) acc[r][v] = start;
    }
    for (uint32_t n = step->add; n > 0; --n) {
      PQI_UNROLL for (int r = 0; r < kRows; ++r) {
        const uint8_t* from = planes + size_t{*offset++} * kSparseOffsetUnit;
        PQI_UNROLL for (int v = 0; v < kRegisters; ++v) {
          const Int x = S::LoadBytes(from + v * S::kBytes);
          acc[r][v] = kWide ? S::AddShorts(acc[r][v], x) : S::AddBytes(acc[r][v], x);
        }
      }
    }
    for (uint32_t n = step->sub; n > 0; --n) {
      PQI_UNROLL for (int r = 0; r < kRows; ++r) {
        const uint8_t* from = planes + size_t{*offset++} * kSparseOffsetUnit;
        PQI_UNROLL for (int v = 0; v < kRegisters; ++v) {
          const Int x = S::LoadBytes(from + v * S::kBytes);
          acc[r][v] = kWide ? S::SubShorts(acc[r][v], x) : S::SubBytes(acc[r][v], x);
        }
      }
    }
    PQI_UNROLL for (int r = 0; r < kRows; ++r) {
      uint8_t* even = t.sums + size_t{step->row[r]} * (2 * V * S::kBytes);
      uint8_t* odd = even + V * S::kBytes;
      PQI_UNROLL for (int v = 0; v < V; ++v) {
        Int low = kWide ? acc[r][2 * v % kRegisters] : S::EvenBytes(acc[r][v]);
        Int high = kWide ? acc[r][(2 * v + 1) % kRegisters] : S::OddBytes(acc[r][v]);
        if (kAdd) {
          low = S::AddShorts(low, S::LoadBytes(even + v * S::kBytes));
          high = S::AddShorts(high, S::LoadBytes(odd + v * S::kBytes));
        }
        S::StoreBytes(even + v * S::kBytes, low);
        S::StoreBytes(odd + v * S::kBytes, high);
      }
    }
  }
}

// The sums of eight channels from `channel` on over rows [first, last) of each, in 16 bits: t.shorts holds the even positions of the line
// for each channel, then the odd ones.
template <class S>
PQI_INLINE void SumSparseRows(const SparseOutput& t, size_t channel, uint32_t first, uint32_t last) {
  using Int = typename S::Int;
  // A line of n positions has n bytes of even ones, and as many of odd ones.
  const size_t line = size_t{t.line_count} * S::kBytes, array = size_t{t.vectors} * S::kBytes, stride = SparseShortBytes(line);
  for (size_t c = 0; c < kSparseFinished; ++c) {
    const size_t row = (channel + c) * t.rows;
    uint32_t fill = 0;
    for (uint32_t r = first; r < last; ++r) fill += t.fill[row + r];
    const Int start = S::SetShort(-static_cast<int32_t>(fill));
    const uint8_t* sums = t.sums + row * 2 * array + size_t{t.line_vector} * S::kBytes;
    for (size_t i = 0; i < line; i += S::kBytes) {
      Int even = start, odd = start;
      for (uint32_t r = first; r < last; ++r) {
        const uint8_t *e = sums + r * 2 * array + i, *o = e + array;
        const size_t d = t.shift[r];
        even = S::AddShorts(even, S::LoadBytes(d % 2 == 0 ? e + d : o + d - 1));
        odd = S::AddShorts(odd, S::LoadBytes(d % 2 == 0 ? o + d : e + d + 1));
      }
      S::StoreBytes(t.shorts + c * stride + i, even);
      S::StoreBytes(t.shorts + (kSparseFinished + c) * stride + i, odd);
    }
  }
}

// t.shorts to eight channels of the tile from `channel` on: [positions][nr].
template <class S, bool kStart>
PQI_INLINE void SpreadShorts(const SparseOutput& t, size_t channel) {
  constexpr size_t kNumbers = 16, nr = S::kU8S8.nr;
  const size_t line = size_t{t.line_count} * S::kBytes, stride = SparseShortBytes(line);
  for (size_t i = 0; i * 2 < line; i += kNumbers) {
    int32_t* out = t.tile + 2 * i * nr + channel;
    S::template TransposeShorts<kStart>(t.shorts + i * 2, stride, t.epilogue.init + channel, out, 2 * nr);
    S::template TransposeShorts<kStart>(t.shorts + kSparseFinished * stride + i * 2, stride, t.epilogue.init + channel, out + nr, 2 * nr);
  }
}

template <class S>
void SparseOutputKernel(const SparseOutput& t) noexcept {
  constexpr int nr = S::kU8S8.nr, NV = nr / S::kLanes;
  static_assert(nr % kSparseFinished == 0, "");
  for (size_t channel = 0; channel < t.epilogue.n; channel += kSparseFinished) {
    const uint32_t pass = t.at_once ? t.rows : 1;
    for (uint32_t first = 0; first < t.rows; first += pass) {
      SumSparseRows<S>(t, channel, first, first + pass);
      if (first == 0) {
        SpreadShorts<S, true>(t, channel);
      } else {
        SpreadShorts<S, false>(t, channel);
      }
    }
  }
  TileU8S8 e = t.epilogue;
  for (uint32_t s = 0; s < t.segments; ++s) {
    const size_t pixel = s * t.segment_pixels;
    e.out = static_cast<uint8_t*>(t.epilogue.out) + pixel * e.out_stride * (e.output.f32 ? 4 : 1);
    if (e.residual.u8 != nullptr) e.residual.u8 = t.epilogue.residual.u8 + pixel * e.residual.stride;
    if (e.residual.f32 != nullptr) e.residual.f32 = t.epilogue.residual.f32 + pixel * e.residual.stride;
    const int32_t* sums = t.tile + size_t{s} * t.pitch * nr;
    if (FinishesInRegisters<S, NV>(e)) {
      FinishRun<S, NV>(e, sums, t.width, static_cast<uint8_t*>(e.out), e.residual.u8);
    } else {
      FinishTile<S>(e, sums, t.width, nr);
    }
  }
}

template <class S, int V, bool kWide>
constexpr void FillSparseVectors(SparseKernels& k) {
  if constexpr (V > 0) {
    k.store[V - 1] = &SparseSumsKernel<S, V, kWide, false>;
    k.add[V - 1] = &SparseSumsKernel<S, V, kWide, true>;
    FillSparseVectors<S, V - 1, kWide>(k);
  }
}

template <class S>
constexpr void FillSparse(KernelSet& set) {
  if constexpr (HasSparse<S>::value) {
    static_assert(S::kSparseVectors <= kMaxSparseVectors && S::kSparseWideVectors <= kMaxSparseVectors, "");
    set.sparse_positions = S::kBytes;
    set.sparse_bytes.vectors = S::kSparseVectors;
    set.sparse_bytes.planes = &SparsePlanesKernel<S, false>;
    FillSparseVectors<S, S::kSparseVectors, false>(set.sparse_bytes);
    set.sparse_wide.vectors = S::kSparseWideVectors;
    set.sparse_wide.planes = &SparsePlanesKernel<S, true>;
    FillSparseVectors<S, S::kSparseWideVectors, true>(set.sparse_wide);
    set.sparse_output = &SparseOutputKernel<S>;
  }
}

}  // namespace
}  // namespace pqi::kernels
