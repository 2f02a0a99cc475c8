// Convolutions on matrix registers of 16 rows by up to 64 bytes (Intel AMX), written once over their primitives (matrix_tile.h).
//
// A block is 32 positions by 32 channels: four registers hold sums, two rows, two the panel, so that each of a piece's four loads serves
// two products. A panel is read once per block, from L1 or L2; the rows of neighbouring blocks and pieces overlap and stay in L1. The sums
// of a block go to memory, and their epilogue runs between the products of the next one: products and vector instructions use different
// units, and a layer with K = 64 has as much work for the one as for the other.
//
// It is exact as the tiles of tile.h are: sums wrap.
#pragma once

#include "kernels/contract/matrix.h"
#include "kernels/contract/tile.h"
#include "kernels/generic/compiler.h"
#include "kernels/generic/epilogue.h"
#include "kernels/generic/epilogue_registers.h"

namespace pqi::kernels {
namespace {

// The sums of a block, up to two runs of 16 positions, which wait for the epilogue.
template <class S>
class MatrixSums {
 public:
  // Sums of `halves` times 16 positions, row-major, 16 * vectors channels each. FinishRun reads up to three rows of 16 beyond them.
  alignas(64) int32_t sums[2 * kMatrixRows * kMatrixChannels + 4 * kMatrixRows];

  // Describes the block whose sums are in memory now: of each half, positions [first[h], first[h] + 16) less the first skip[h] of them,
  // which were done before.
  void Fill(const TileMatrixU8S8& band, const TileU8S8& panel, int halves, const uint32_t (&first)[2], const uint32_t (&skip)[2]) {
    pixel_ = band.pixel;
    panel_ = &panel;
    vectors_ = panel.n > kMatrixRows ? 2 : 1;
    in_registers_ = vectors_ == 2 ? FinishesInRegisters<S, 2>(panel) : FinishesInRegisters<S, 1>(panel);
    halves_ = halves;
    for (int h = 0; h < halves; ++h) {
      first_[h] = first[h];
      skip_[h] = skip[h];
    }
    half_ = 0;
    row_ = skip[0];
  }
  bool Waiting() const { return half_ < halves_; }

  // Runs the epilogue of up to sixteen neighbouring pixels.
  void FinishSome() {
    const int32_t* pixel = pixel_;
    const uint32_t at = first_[half_];
    uint32_t row = row_, end;
    while (pixel != nullptr && row < kMatrixRows && pixel[at + row] < 0) ++row;
    if (row < kMatrixRows) {
      const int32_t first = pixel != nullptr ? pixel[at + row] : static_cast<int32_t>(at + row);
      end = kMatrixRows;
      if (pixel != nullptr) {
        uint32_t same = row + 1;
        while (same < end && pixel[at + same] == first + static_cast<int32_t>(same - row)) ++same;
        end = same;
      }
      const size_t from = static_cast<size_t>(half_ * kMatrixRows) + row;
      if (vectors_ == 2) {
        Finish<2>(sums + from * kMatrixChannels, static_cast<size_t>(first), end - row);
      } else {
        Finish<1>(sums + from * kMatrixRows, static_cast<size_t>(first), end - row);
      }
      row = end;
    }
    row_ = row;
    if (row_ < kMatrixRows) return;
    if (++half_ < halves_) row_ = skip_[half_];
  }
  void FinishAll() {
    while (Waiting()) FinishSome();
  }

 private:
  template <int NV>
  void Finish(const int32_t* from, size_t pixel, uint32_t count) {
    const TileU8S8& p = *panel_;
    const size_t at = pixel * p.out_stride;
    const uint8_t* residual = p.residual.u8 != nullptr ? p.residual.u8 + pixel * p.residual.stride : nullptr;
    if (in_registers_) return FinishRun<S, NV>(p, from, count, static_cast<uint8_t*>(p.out) + at, residual);
    TileU8S8 t = p;
    t.out = static_cast<uint8_t*>(t.out) + at * (t.output.f32 ? sizeof(float) : 1);
    t.residual.u8 = residual;
    if (t.residual.f32 != nullptr) t.residual.f32 += pixel * t.residual.stride;
    FinishTile<S>(t, from, count, NV * S::kLanes);
  }

  const int32_t* pixel_ = nullptr;
  const TileU8S8* panel_ = nullptr;
  int vectors_ = 0, halves_ = 0, half_ = 0;
  bool in_registers_ = false;
  uint32_t first_[2], skip_[2], row_ = 0;
};

// Multiplies one piece of a block: A runs of 16 rows by B times 16 channels.
template <class M, int A, int B>
PQI_INLINE void MatrixPiece(const uint8_t* a0, const uint8_t* a1, ptrdiff_t stride, const int8_t* w, size_t block) {
  M::template Load<4>(a0, stride);
  M::template Load<6>(w, kMatrixBytes);
  M::template Dot<0, 4, 6>();
  if constexpr (B > 1) {
    M::template Load<7>(w + block, kMatrixBytes);
    M::template Dot<1, 4, 7>();
  }
  if constexpr (A > 1) {
    M::template Load<5>(a1, stride);
    M::template Dot<2, 5, 6>();
    if constexpr (B > 1) M::template Dot<3, 5, 7>();
  }
}

// Computes a block's sums into `out`, while the epilogue of the block before goes on, and asks the cache for pieces [ahead_begin,
// ahead_end) of the next panel.
template <class S, int A, int B>
__attribute__((noinline)) void MatrixBlock(const TileMatrixU8S8& band, const TileU8S8& panel, const int8_t* w, const uint32_t (&first)[2],
                                           uint32_t ahead_begin, uint32_t ahead_end, MatrixSums<S>* before, MatrixSums<S>* out) {
  using M = typename S::Matrix;
  const ptrdiff_t stride = static_cast<ptrdiff_t>(band.stride);
  const uint8_t* a0 = band.a + first[0] * band.stride;
  const uint8_t* a1 = band.a + first[1] * band.stride;
  const size_t block = static_cast<size_t>(band.bytes) * kMatrixRows;
  M::template Load<0>(panel.init, 0);  // a stride of 0 gives every row the same start values
  if constexpr (B > 1) M::template Load<1>(panel.init + kMatrixRows, 0);
  if constexpr (A > 1) M::template Load<2>(panel.init, 0);
  if constexpr (A > 1 && B > 1) M::template Load<3>(panel.init + kMatrixRows, 0);
  for (uint32_t i = 0; i < band.pieces; ++i, w += 2 * block) {
    MatrixPiece<M, A, B>(a0 + band.offset[i], a1 + band.offset[i], stride, w, block);
    if (i >= ahead_begin && i < ahead_end) {
      for (size_t line = 0; line < 2 * block; line += 64) __builtin_prefetch(w + band.panel_bytes + line, 0, 2);
    }
    if (before->Waiting()) before->FinishSome();
  }
  before->FinishAll();
  constexpr int kRow = B * kMatrixRows;
  M::template Store<0>(out->sums, kRow * 4);
  if constexpr (B > 1) M::template Store<1>(out->sums + kMatrixRows, kRow * 4);
  if constexpr (A > 1) M::template Store<2>(out->sums + kMatrixRows * kRow, kRow * 4);
  if constexpr (A > 1 && B > 1) M::template Store<3>(out->sums + kMatrixRows * kRow + kMatrixRows, kRow * 4);
}

template <class S>
void MatrixBandKernel(const TileMatrixU8S8& band) noexcept {
  static_assert(kMatrixRows == S::kLanes, "");
  MatrixSums<S> buffers[2];
  TileU8S8 panels[2];  // epilogues of the block in work and of the one before it
  const uint32_t runs = (band.positions + kMatrixRows - 1) / kMatrixRows, blocks = (runs + 1) / 2;
  const uint32_t last = band.positions - kMatrixRows;
  int turn = 0, panel_turn = 0;
  TileU8S8 next = band.epilogue;
  const int8_t* w = band.w;
  S::Matrix::BeginPieces(band.bytes);
  while (true) {
    TileU8S8& panel = panels[panel_turn];
    panel = next;
    const uint32_t left = next.n;
    panel.n = left < kMatrixChannels ? left : kMatrixChannels;
    const bool wide = panel.n > kMatrixRows, more = left > kMatrixChannels;
    for (uint32_t b = 0; b < blocks; ++b, turn ^= 1) {
      const int halves = 2 * b + 1 < runs ? 2 : 1;
      uint32_t first[2] = {}, skip[2] = {};
      for (int h = 0; h < halves; ++h) {  // the last run may begin inside the run before it, so that it does not end beyond the band
        const uint32_t at = (2 * b + static_cast<uint32_t>(h)) * kMatrixRows;
        first[h] = at < last ? at : last;
        skip[h] = at - first[h];
      }
      const uint32_t ahead_begin = more ? band.pieces * b / blocks : 0, ahead_end = more ? band.pieces * (b + 1) / blocks : 0;
      const auto kernel =
          halves == 2 ? (wide ? &MatrixBlock<S, 2, 2> : &MatrixBlock<S, 2, 1>) : (wide ? &MatrixBlock<S, 1, 2> : &MatrixBlock<S, 1, 1>);
      kernel(band, panel, w, first, ahead_begin, ahead_end, &buffers[turn ^ 1], &buffers[turn]);
      buffers[turn].Fill(band, panel, halves, first, skip);
    }
    if (!more) break;
    next.n = left - kMatrixChannels;
    next.init += kMatrixChannels;
    next.scale += kMatrixChannels;
    if (next.bias != nullptr) next.bias += kMatrixChannels;
    next.out = static_cast<uint8_t*>(next.out) + kMatrixChannels * (next.output.f32 ? sizeof(float) : 1);
    if (next.residual.u8 != nullptr) next.residual.u8 += kMatrixChannels;
    if (next.residual.f32 != nullptr) next.residual.f32 += kMatrixChannels;
    w += band.panel_bytes;
    panel_turn ^= 1;
  }
  buffers[turn ^ 1].FinishAll();
  S::Matrix::End();
}

}  // namespace
}  // namespace pqi::kernels
