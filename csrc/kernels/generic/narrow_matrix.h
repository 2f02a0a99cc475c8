// The tile over unpacked codes (NarrowUnpacked) on matrix registers: up to 16 rows by two times 16 channels.
//
// The product of a group of 32 or 64 k-values is one instruction for 16 x 16 sums. What follows it, conversion, multiplication and addition
// of floats, takes longer than the product and runs on other ports, so two groups are multiplied and stored while the two before them are
// finished. Rows beyond m are multiplied too, and go nowhere.
#pragma once

#include "kernels/contract/narrow.h"
#include "kernels/generic/compiler.h"

namespace pqi::kernels {
namespace {

inline constexpr int kNarrowPiece = 64;      // k-values in a matrix register
inline constexpr int kNarrowAhead = 2;       // groups that are multiplied while those before them are finished
inline constexpr int kNarrowSums = 16 * 16;  // sums of a register

// Multiplies `count` groups from g on, at most kNarrowAhead, and stores their sums one group after another in `stage`. Each group has
// registers of its own, and its store comes after the products of the next one, so that neither waits for the other.
template <class S, int G = 0>
PQI_INLINE void MatrixProducts(const NarrowUnpacked& t, uint32_t g, uint32_t count, int piece, int32_t* stage) {
  using M = typename S::Matrix;
  constexpr int kBlock = 2 * 64;  // bytes that four k-values of all channels take
  if (G >= static_cast<int>(count)) return;
  M::template Zero<G>();
  const uint8_t* a = t.a + static_cast<size_t>(g + G) * t.k;
  const int8_t* w = t.codes + (g + G) * t.group_bytes + piece * 64;
  // A last piece of fewer than 64 k-values is multiplied whole: its rows run into the next group, but the codes there are 0
  // (NarrowKernels::piece).
  for (uint32_t k = 0; k < t.k; k += kNarrowPiece, w += kNarrowPiece / 4 * kBlock) {
    M::template Load<4 + G % 2>(a + k, static_cast<ptrdiff_t>(t.a_stride));
    M::template Load<6 + G % 2>(w, kBlock);
    M::template Dot<G, 4 + G % 2, 6 + G % 2>();
  }
  if constexpr (G + 1 < kNarrowAhead) MatrixProducts<S, G + 1>(t, g, count, piece, stage);
  M::template Store<G>(stage + G * kNarrowSums, 64);
}

// All groups for one of the two pieces of 16 channels.
template <class S, int MR>
PQI_INLINE void NarrowMatrixPiece(const NarrowUnpacked& t, int piece) {
  using Float = typename S::Float;
  constexpr size_t kRow = 2 * 16;
  alignas(64) int32_t stage[2][kNarrowAhead * kNarrowSums];
  Float sum[MR];
  PQI_UNROLL for (int i = 0; i < MR; ++i) sum[i] = t.first ? S::SetFloat(-0.0f) : S::LoadFloat(t.sums + i * kRow + piece * 16);
  const auto count = [&](uint32_t g) { return g >= t.groups ? 0 : (t.groups - g < kNarrowAhead ? t.groups - g : kNarrowAhead); };
  MatrixProducts<S>(t, 0, count(0), piece, stage[0]);
  for (uint32_t first = 0; first < t.groups; first += kNarrowAhead) {
    const uint32_t next = first + kNarrowAhead;
    MatrixProducts<S>(t, next, count(next), piece, stage[next / kNarrowAhead % 2]);
    const int32_t* products = stage[first / kNarrowAhead % 2];
    for (uint32_t g = first; g < first + count(first); ++g, products += kNarrowSums) {
      const Float code_sum = S::LoadFloat(t.code_sum + g * kRow + piece * 16);
      const Float scale = S::LoadFloat(t.scale + g * kRow + piece * 16);
      PQI_UNROLL for (int i = 0; i < MR; ++i) {
        const Float exact = S::Fma(S::SetFloat(t.shift[i]), code_sum, S::ToFloat(S::LoadInt(products + i * 16)));
        sum[i] = S::AddF(sum[i], S::MulF(exact, scale));
      }
    }
  }
  PQI_UNROLL for (int i = 0; i < MR; ++i) S::StoreFloat(t.sums + i * kRow + piece * 16, sum[i]);
}

template <class S, int MR>
void NarrowMatrixKernel(const NarrowUnpacked& t) noexcept {
  static_assert(S::kLanes == 16 && MR <= 16, "");
  for (int piece = 0; piece < 2; ++piece) NarrowMatrixPiece<S, MR>(t, piece);
}

}  // namespace
}  // namespace pqi::kernels
