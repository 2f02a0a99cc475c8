// The loops of Winograd's minimal filtering around the transforms of generic/winograd_filters.h. They go over all tiles of a piece of the
// image, before the products with kBytes channels at a time, after them with a panel's channels.
#pragma once

#include "kernels/contract/tile.h"
#include "kernels/contract/winograd.h"
#include "kernels/generic/compiler.h"
#include "kernels/generic/epilogue.h"
#include "kernels/generic/epilogue_registers.h"
#include "kernels/generic/primitives.h"
#include "kernels/generic/winograd_filters.h"
#include "kernels/kernel_set.h"

namespace pqi::kernels {
namespace {

// The input transform of all tiles, kBytes channels at a time. Loads and stores set the pace.
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

// The output transform of a tile: the sums of its pixels, row by row, in out[y][x * NV + j].
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

// The output transform and the epilogue of all tiles. Sums go from one to the other in registers, two pixels of a row at a time, or over
// the stack where the epilogue in registers cannot do what is asked for.
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
          PQI_UNROLL for (int y = 0; y < kRows; ++y) {
            if (kRows > 1 && static_cast<uint32_t>(y) >= t.rows) break;
            typename S::Int pair[2 * NV];
            PQI_UNROLL for (int v = 0; v < 2 * NV; ++v) pair[v] = sums[y][x * NV + v];
            const uint8_t* residual = decltype(adds)::value ? from + y * t.row_pixels * e.residual.stride : nullptr;
            epilogue.Finish(pair, left, out + y * t.row_pixels * e.out_stride, e.out_stride, residual, e.residual.stride);
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
    static_assert(kWinogradPad % S::kBytes == 0 && S::kU8S8.nr * S::kU8S8.kr % 64 == 0, "whole lines");
    set.winograd_1d = {&WinogradInputKernel<S, Winograd1d<S>>, &WinogradOutputKernel<S, Winograd1d<S>>};
    set.winograd_1d4 = {&WinogradInputKernel<S, Winograd1d4<S>>, &WinogradOutputKernel<S, Winograd1d4<S>>};
    set.winograd_4x4 = {&WinogradInputKernel<S, Winograd4x4<S>>, &WinogradOutputKernel<S, Winograd4x4<S>>};
    set.winograd_2d = {&WinogradInputKernel<S, Winograd2d<S>>, &WinogradOutputKernel<S, Winograd2d<S>>};
  }
}

}  // namespace
}  // namespace pqi::kernels
