// Linear layers over codes of 2 and 4 bits that stay packed in memory, with rows quantized at run time (kernels/contract/narrow.h,
// NarrowTile).
//
// For few rows the panel is read once from memory and its codes are unpacked in registers, where every unpacked vector meets all rows.
// Moving a code to the upper end of its byte gives it its sign for free. Sums are then too large by 2^(8 - bits), which the scales in the
// panel make up for (exactly, because it is a power of two), or a shift where there is one group. Sums of codes, which the zero points
// multiply, are made from the same registers: in memory they would add a tenth to the bytes.
//
// For many rows some groups of the panel are unpacked into L1 and serve all rows before the next groups. Sums of floats stay in registers
// over those groups, each in ascending order as docs/numerics.md has it.
#pragma once

#include <type_traits>

#include "kernels/contract/narrow.h"
#include "kernels/generic/compiler.h"
#include "kernels/generic/epilogue.h"
#include "kernels/generic/narrow_matrix.h"
#include "kernels/generic/primitives.h"
#include "kernels/generic/tile.h"
#include "kernels/kernel_set.h"

namespace pqi::kernels {
namespace {

inline constexpr int kNarrowVectors = 2;  // vectors of channels in a panel
// How many bytes before their use the cache is asked for weights, of this panel and then of the next one. Without that one row gets 70 % of
// the bandwidth of a plain read, for which the CPU runs ahead by itself (docs/performance.md).
inline constexpr int kNarrowPrefetch = 2048;

// By how many bits codes are too large in registers. Where one instruction makes a dot product it takes codes at the upper end of their
// bytes. Elsewhere pairs of products are added in 16 bits, which is exact for codes as they are: 2 * 255 * 8 fits.
template <class S, int Bits>
inline constexpr int kNarrowShift = S::kPhases == 1 ? 8 - Bits : 0;

// Code F of every byte, kNarrowShift bits too large.
template <class S, int Bits, int F>
PQI_INLINE typename S::Int NarrowCode(typename S::Int line) {
  if constexpr (S::kPhases == 1) {
    return S::template HighCode<Bits, F>(line);
  } else {
    return S::template SignedCode<Bits, F>(line);
  }
}

// acc[i][j] += four k-values of row i x the codes in w.
template <class S, int MR, int NV, class Load>
PQI_INLINE void DotVectors(typename S::Int (&acc)[MR][NV], const typename S::Int (&w)[NV], Load&& load) {
  PQI_UNROLL for (int i = 0; i < MR; ++i) {
    const typename S::Int x = load(i);
    PQI_UNROLL for (int j = 0; j < NV; ++j) {
      if constexpr (S::kPhases == 1) {
        acc[i][j] = S::Dot(acc[i][j], x, w[j]);
      } else {
        acc[i][j] = S::DotPairs(acc[i][j], x, w[j]);
      }
    }
  }
}

// Multiplies codes F and up of every byte of one line of the panel by the k-values that they meet, and adds up the codes themselves.
template <class S, int Bits, int F, int kChains, int MR, int NV>
PQI_INLINE void NarrowFields(typename S::Int (&acc)[kChains][MR][NV], typename S::Int (&codes)[kChains][1][NV],
                             const typename S::Int (&line)[NV], typename S::Int ones, const uint8_t* const (&row)[MR], ptrdiff_t at) {
  typename S::Int v[NV];
  PQI_UNROLL for (int j = 0; j < NV; ++j) v[j] = NarrowCode<S, Bits, F>(line[j]);
  DotVectors<S, 1, NV>(codes[F % kChains], v, [&](int) PQI_INLINE_LAMBDA { return ones; });
  DotVectors<S, MR, NV>(acc[F % kChains], v,
                        [&](int i) PQI_INLINE_LAMBDA { return S::SetInt(static_cast<int32_t>(LoadDword(row[i] + at + 4 * F))); });
  if constexpr ((F + 1) * Bits < 8) NarrowFields<S, Bits, F + 1, kChains>(acc, codes, line, ones, row, at);
}

// The tile that unpacks codes in registers.
template <class S, int Bits, int MR>
void NarrowTileKernel(const NarrowTile& t) noexcept {
  constexpr int NV = kNarrowVectors, kLine = NV * S::kLanes * 4, kValues = 4 * 8 / Bits;
  // With one row each dot product would wait for the one before it, so two sums take turns where there are registers for them.
  constexpr int kChains = MR == 1 && S::kLanes == 16 ? 2 : 1;
  using Int = typename S::Int;
  using Float = typename S::Float;
  const Int ones = S::SetBytes(1);
  const uint8_t* row[MR];
  Float sum[MR][NV];
  PQI_UNROLL for (int i = 0; i < MR; ++i) {
    row[i] = t.a + i * t.a_stride;
    PQI_UNROLL for (int j = 0; j < NV; ++j) sum[i][j] = S::SetFloat(-0.0f);  // the one number whose addition changes no term, -0 included
  }
  const uint8_t* w = t.w;
  ptrdiff_t at = 0;
  for (uint32_t g = 0; g < t.groups; ++g) {
    Int acc[kChains][MR][NV], codes[kChains][1][NV];
    PQI_UNROLL for (int c = 0; c < kChains; ++c) {
      PQI_UNROLL for (int j = 0; j < NV; ++j) {
        codes[c][0][j] = S::SetInt(0);
        PQI_UNROLL for (int i = 0; i < MR; ++i) acc[c][i][j] = S::SetInt(0);
      }
    }
    for (const ptrdiff_t end = at + t.k; at != end; at += kValues, w += kLine) {
      Int line[NV];
      PQI_UNROLL for (int j = 0; j < NV; ++j) line[j] = S::LoadPanel(reinterpret_cast<const int8_t*>(w) + j * S::kLanes * 4);
      PQI_UNROLL for (int i = 0; i < kLine; i += 64) __builtin_prefetch(w + kNarrowPrefetch + i, 0, 3);
      NarrowFields<S, Bits, 0, kChains>(acc, codes, line, ones, row, at);
    }
    PQI_UNROLL for (int j = 0; j < NV; ++j) {
      if (kChains > 1) codes[0][0][j] = S::AddInt(codes[0][0][j], codes[kChains - 1][0][j]);
    }
    PQI_UNROLL for (int i = 0; i < MR; ++i) {
      const Int shift = S::SetInt(t.shift[i]);
      PQI_UNROLL for (int j = 0; j < NV; ++j) {
        Int sums = acc[0][i][j];
        if (kChains > 1) sums = S::AddInt(sums, acc[kChains - 1][i][j]);
        sums = S::AddInt(sums, S::MulInt(codes[0][0][j], shift));
        const Float scale = S::LoadFloat(reinterpret_cast<const float*>(w) + j * S::kLanes);
        sum[i][j] = S::AddF(sum[i][j], S::MulF(S::ToFloat(sums), scale));
        if (t.groups == 1) {
          const size_t to = static_cast<size_t>(i * NV + j) * S::kLanes;
          S::StoreInt(static_cast<int32_t*>(t.sums) + to, S::template ShiftRight<kNarrowShift<S, Bits>>(sums));
        }
      }
    }
    w += kLine;
  }
  if (t.groups == 1) return;
  PQI_UNROLL for (int i = 0; i < MR; ++i) {
    PQI_UNROLL for (int j = 0; j < NV; ++j) S::StoreFloat(static_cast<float*>(t.sums) + (i * NV + j) * S::kLanes, sum[i][j]);
  }
}

// Stores codes F and up of every byte of one line as signed bytes, and adds them up.
template <class S, int Bits, int F, int NV>
PQI_INLINE void UnpackFields(typename S::Int (&codes)[1][NV], const typename S::Int (&line)[NV], typename S::Int ones, int8_t* to,
                             size_t block_stride) {
  typename S::Int v[NV];
  PQI_UNROLL for (int j = 0; j < NV; ++j) {
    v[j] = S::template SignedCode<Bits, F>(line[j]);
    S::StoreBytes(reinterpret_cast<uint8_t*>(to) + j * S::kLanes * 4, v[j]);
  }
  DotVectors<S, 1, NV>(codes, v, [&](int) PQI_INLINE_LAMBDA { return ones; });
  if constexpr ((F + 1) * Bits < 8) UnpackFields<S, Bits, F + 1>(codes, line, ones, to + block_stride, block_stride);
}

template <class S, int Bits>
void UnpackNarrowKernel(const UnpackNarrow& t) noexcept {
  constexpr int NV = kNarrowVectors, kFields = 8 / Bits, kLine = NV * S::kLanes * 4;
  const typename S::Int ones = S::SetBytes(1);
  const uint8_t* w = t.w;
  for (uint32_t g = 0; g < t.groups; ++g) {
    int8_t* to = t.codes + g * t.group_stride;
    typename S::Int codes[1][NV];
    PQI_UNROLL for (int j = 0; j < NV; ++j) codes[0][j] = S::SetInt(0);
    for (uint32_t k = 0; k < t.k; k += 4 * kFields, w += kLine, to += kFields * t.block_stride) {
      typename S::Int line[NV];
      PQI_UNROLL for (int j = 0; j < NV; ++j) line[j] = S::LoadPanel(reinterpret_cast<const int8_t*>(w) + j * S::kLanes * 4);
      UnpackFields<S, Bits, 0>(codes, line, ones, to, t.block_stride);
    }
    PQI_UNROLL for (int j = 0; j < NV; ++j) {
      const size_t at = (g * NV + static_cast<size_t>(j)) * S::kLanes;
      const typename S::Float scale = S::LoadFloat(reinterpret_cast<const float*>(w) + j * S::kLanes);
      S::StoreFloat(t.code_sum + at, S::ToFloat(codes[0][j]));
      S::StoreFloat(t.scale + at, S::MulF(scale, S::SetFloat(1 << kNarrowShift<S, Bits>)));
    }
    w += kLine;
  }
}

// The tile over unpacked codes. With 6 rows AVX-512 has 12 registers with sums of integers, 12 with sums of floats, 2 with weights and 1
// with an activation.
template <class S, int MR>
void NarrowUnpackedKernel(const NarrowUnpacked& t) noexcept {
  constexpr int NV = kNarrowVectors, kBlock = NV * S::kLanes * 4;
  using Int = typename S::Int;
  using Float = typename S::Float;
  const uint8_t* row[MR];
  Float sum[MR][NV];
  PQI_UNROLL for (int i = 0; i < MR; ++i) {
    row[i] = t.a + i * t.a_stride;
    PQI_UNROLL for (int j = 0; j < NV; ++j) sum[i][j] = t.first ? S::SetFloat(-0.0f) : S::LoadFloat(t.sums + (i * NV + j) * S::kLanes);
  }
  ptrdiff_t at = 0;
  for (uint32_t g = 0; g < t.groups; ++g) {
    const int8_t* w = t.codes + g * t.group_bytes;
    Int acc[MR][NV];
    PQI_UNROLL for (int i = 0; i < MR; ++i) { PQI_UNROLL for (int j = 0; j < NV; ++j) acc[i][j] = S::SetInt(0); }
    for (const ptrdiff_t end = at + t.k; at != end; at += 4, w += kBlock) {
      Int v[NV];
      PQI_UNROLL for (int j = 0; j < NV; ++j) v[j] = S::LoadPanel(w + j * S::kLanes * 4);
      DotVectors<S, MR, NV>(acc, v, [&](int i) PQI_INLINE_LAMBDA { return S::SetInt(static_cast<int32_t>(LoadDword(row[i] + at))); });
    }
    const float* shift = t.shift;
    PQI_OPAQUE(shift);  // without this the compiler would keep each shift in a register, and sums on the stack
    PQI_UNROLL for (int j = 0; j < NV; ++j) {
      const Float code_sum = S::LoadFloat(t.code_sum + (g * NV + static_cast<size_t>(j)) * S::kLanes);
      const Float scale = S::LoadFloat(t.scale + (g * NV + static_cast<size_t>(j)) * S::kLanes);
      PQI_UNROLL for (int i = 0; i < MR; ++i) {
        const Float exact = S::Fma(S::SetFloat(shift[i]), code_sum, S::ToFloat(acc[i][j]));
        sum[i][j] = S::AddF(sum[i][j], S::MulF(exact, scale));
      }
    }
  }
  PQI_UNROLL for (int i = 0; i < MR; ++i) {
    PQI_UNROLL for (int j = 0; j < NV; ++j) S::StoreFloat(t.sums + (i * NV + j) * S::kLanes, sum[i][j]);
  }
}

// The epilogue of kLanes channels of all rows.
template <class S, class Lanes>
PQI_INLINE void FinishNarrowColumn(const FinishNarrow& t, size_t j, Lanes lanes) {
  const OutputStage<S> output(t.output, t.out);
  const typename S::Float bias = t.bias != nullptr ? S::LoadFloat(t.bias + j) : S::SetFloat(0);
  for (size_t i = 0; i < t.m; ++i) {
    const typename S::Float row_scale = S::SetFloat(t.row_scale[i]);
    typename S::Float y;
    if (t.scale != nullptr) {
      const typename S::Int acc = S::LoadInt(static_cast<const int32_t*>(t.sums) + i * t.stride + j);
      y = S::MulF(S::MulF(S::ToFloat(acc), row_scale), S::LoadFloat(t.scale + j));
    } else {
      y = S::MulF(S::LoadFloat(static_cast<const float*>(t.sums) + i * t.stride + j), row_scale);
    }
    if (t.bias != nullptr) y = S::AddF(y, bias);
    output.Put(y, i * t.out_stride + j, lanes);
  }
}

template <class S>
void FinishNarrowKernel(const FinishNarrow& t) noexcept {
  size_t j = 0;
  for (; j + S::kLanes <= t.n; j += S::kLanes) FinishNarrowColumn<S>(t, j, typename S::All());
  if (j < t.n) FinishNarrowColumn<S>(t, j, S::First(t.n - j));
}

template <class S, int MR>
constexpr void FillNarrowTiles(NarrowKernels& kernels) {
  kernels.tile[0][MR - 1] = &NarrowTileKernel<S, 2, MR>;
  kernels.tile[1][MR - 1] = &NarrowTileKernel<S, 4, MR>;
  if constexpr (MR > 1) FillNarrowTiles<S, MR - 1>(kernels);
}

template <class S, int MR>
constexpr void FillUnpackedTiles(NarrowKernels& kernels) {
  if constexpr (std::is_void_v<typename S::Matrix>) {
    kernels.unpacked_tile[MR - 1] = &NarrowUnpackedKernel<S, MR>;
  } else {
    kernels.unpacked_tile[MR - 1] = &NarrowMatrixKernel<S, MR>;
  }
  if constexpr (MR > 1) FillUnpackedTiles<S, MR - 1>(kernels);
}

template <class S>
constexpr void FillNarrow(KernelSet& set) {
  if constexpr (HasNarrow<S>::value) {
    NarrowKernels& kernels = set.narrow;
    kernels.nr = kNarrowVectors * S::kLanes;
    kernels.mr = S::kNarrowRows;
    kernels.shift[0] = kNarrowShift<S, 2>;
    kernels.shift[1] = kNarrowShift<S, 4>;
    kernels.unpacked_mr = S::kNarrowUnpackedRows;
    constexpr bool kMatrix = !std::is_void_v<typename S::Matrix>;
    kernels.piece = kMatrix ? kNarrowPiece : 4;
    kernels.reads = kMatrix ? 16 : 1;
    FillNarrowTiles<S, S::kNarrowRows>(kernels);
    FillUnpackedTiles<S, S::kNarrowUnpackedRows>(kernels);
    kernels.unpack[0] = &UnpackNarrowKernel<S, 2>;
    kernels.unpack[1] = &UnpackNarrowKernel<S, 4>;
    kernels.finish = &FinishNarrowKernel<S>;
  }
}

}  // namespace
}  // namespace pqi::kernels
