// The u8 x s8 tile over matrix registers of 16 rows by 64 bytes (Intel AMX), written once over their primitives M (generic/primitives.h).
//
// One Dot multiplies 16 rows by 16 channels by 64 k-values. The panel of kernels/contract/tile.h holds four k-values of nr channels per
// block, so that 16 blocks are its right operand as it has to lie in memory. Six registers are in use: four hold sums (16 rows x 64
// channels), one the rows, one the panel, and every load of the panel serves 16 rows.
//
// The k-values of all taps make one sequence, as in the panel. Where 64 of them lie in one tap and the 16 rows are evenly spaced, they are
// loaded in place; otherwise they are copied into a buffer of 1 KiB first.
#pragma once

#include <cstring>

#include "kernels/contract/matrix.h"
#include "kernels/contract/tile.h"
#include "kernels/generic/compiler.h"
#include "kernels/generic/epilogue.h"
#include "kernels/generic/epilogue_registers.h"

namespace pqi::kernels {
namespace {

// The rows of a tile, the left operand, 64 k-values at a time.
class MatrixRows {
 public:
  MatrixRows(const TileU8S8& t, int m) : t_(t), m_(static_cast<uint32_t>(m)) { BeginTap(0); }

  // Loads the next 64 k-values of all rows into register R.
  template <class M, int R>
  PQI_INLINE void Load() {
    if (evenly_ && t_.k - at_ >= kMatrixBytes) {
      M::template Load<R>(Row(0) + at_, stride_);
      Advance(kMatrixBytes);
      return;
    }
    Stage();
    M::template Load<R>(staged_, kMatrixBytes);
  }

 private:
  void BeginTap(uint32_t tap) {
    tap_ = tap;
    at_ = 0;
    evenly_ = false;
    if (m_ != kMatrixRows || tap == t_.taps) return;  // a load would read rows that do not exist
    stride_ = Row(1) - Row(0);
    evenly_ = true;
    for (uint32_t i = 2; i < kMatrixRows; ++i) evenly_ &= Row(i) - Row(i - 1) == stride_;
  }
  // The k-values of row i under the tap.
  const uint8_t* Row(uint32_t i) const { return t_.tap_step == 0 ? t_.a[tap_ * m_ + i] : t_.a[i] + tap_ * t_.tap_step; }
  void Advance(uint32_t count) {
    at_ += count;
    if (at_ == t_.k) BeginTap(tap_ + 1);
  }

  // Copies the next 64 k-values. The last block of each tap is filled as in the panel (kernels/contract/tile.h), and the last tap with
  // zeros up to 64. Rows from m on stay as they are: their sums go nowhere.
  __attribute__((noinline)) void Stage() {
    uint32_t filled = 0;
    while (filled < kMatrixBytes && tap_ < t_.taps) {
      const uint32_t left = t_.k - at_, room = kMatrixBytes - filled;
      const uint32_t count = left < room ? left : room, padded = (count + 3) & ~3u;
      for (uint32_t i = 0; i < m_; ++i) {
        const uint8_t* row = Row(i);
        uint8_t* to = staged_[i] + filled;
        std::memcpy(to, row + at_, count & ~3u);
        if (count == padded) continue;
        uint8_t* last = to + padded - 4;
        if (t_.k >= 4) {
          std::memcpy(last, row + t_.k - 4, 4);
        } else {
          std::memset(last, 0, 4);
          std::memcpy(last, row, t_.k);
        }
      }
      filled += padded;
      Advance(count);
    }
    for (uint32_t i = 0; i < m_; ++i) std::memset(staged_[i] + filled, 0, kMatrixBytes - filled);
  }

  const TileU8S8& t_;
  uint32_t m_, tap_, at_;
  bool evenly_;
  ptrdiff_t stride_ = 0;
  alignas(64) uint8_t staged_[kMatrixRows][kMatrixBytes] = {};
};

// Multiplies the rows by the panel's NV pieces of 16 channels at w, whose 16 blocks are kBlock bytes apart, and adds to the sums.
template <class M, int NV, int kBlock, int J = 0>
PQI_INLINE void MatrixStep(const int8_t* w) {
  M::template Load<5>(w + J * kMatrixBytes, kBlock);
  M::template Dot<J, 4, 5>();
  if constexpr (J + 1 < NV) MatrixStep<M, NV, kBlock, J + 1>(w);
}

// Sets the sums to their start values.
template <class M, int NV, int J = 0>
PQI_INLINE void MatrixStart(const int32_t* init) {
  M::template Load<J>(init + J * kMatrixRows, 0);  // a stride of 0 gives every row the same start values
  if constexpr (J + 1 < NV) MatrixStart<M, NV, J + 1>(init);
}

// Stores the sums, 16 rows of NV * 16.
template <class M, int NV, int J = 0>
PQI_INLINE void MatrixStore(int32_t* sums) {
  M::template Store<J>(sums + J * kMatrixRows, NV * kMatrixBytes);
  if constexpr (J + 1 < NV) MatrixStore<M, NV, J + 1>(sums);
}

// A tile of NV pieces of 16 channels, at most four. It is exact as the tiles of tile.h are: sums wrap.
template <class S, int NV>
__attribute__((noinline)) void MatrixTile(const TileU8S8& t, int m) noexcept {
  using M = typename S::Matrix;
  constexpr int kBlock = S::kU8S8.nr * 4;  // bytes that four k-values take in the panel
  constexpr int kStep = kMatrixRows * kBlock;
  static_assert(NV <= 4 && NV * kMatrixRows <= S::kU8S8.nr && S::kU8S8.kr == 4, "");
  MatrixRows rows(t, m);
  MatrixStart<M, NV>(t.init);
  const int8_t* w = t.w;
  size_t left = static_cast<size_t>(t.taps) * ((t.k + 3) / 4) * kBlock;
  for (; left >= kStep; left -= kStep, w += kStep) {
    rows.Load<M, 4>();
    MatrixStep<M, NV, kBlock>(w);
  }
  if (left > 0) {
    alignas(64) int8_t last[kStep];
    std::memcpy(last, w, left);
    std::memset(last + left, 0, kStep - left);
    rows.Load<M, 4>();
    MatrixStep<M, NV, kBlock>(last);
  }
  alignas(64) int32_t sums[kMatrixRows * NV * kMatrixRows];
  MatrixStore<M, NV>(sums);
  if (!FinishesInRegisters<S, NV>(t)) return FinishTile<S>(t, sums, static_cast<size_t>(m), NV * kMatrixRows);
  FinishRun<S, NV>(t, sums, static_cast<size_t>(m), static_cast<uint8_t*>(t.out), t.residual.u8);
}

}  // namespace
}  // namespace pqi::kernels
