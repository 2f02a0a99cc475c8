// The epilogue of an integer tile from the registers that hold its sums: scale, bias, residual of codes, quantize, narrow, store.
//
// Four vectors at a time, whose dependent chains of about 30 cycles overlap, become one vector of bytes: two packs to 16 bits, the zero
// point added there with saturation, one pack to 8 bits, one permutation. Where the caller has proved that nothing is NaN or leaves int32
// (Output::saturates), saturation is also the clamp, with a minimum of bytes for codes that end below 255, and a vector costs two
// multiplications, an addition and two conversions.
// Registers beside the sums: scale and bias of each column, 1/s, the zero point, four temporaries.
#pragma once

#include "kernels/contract.h"
#include "kernels/generic/compiler.h"
#include "kernels/generic/epilogue.h"

namespace pqi::kernels {
namespace {

// True if FinishRows can do what the tile asks for.
template <class S, int NV>
PQI_INLINE bool FinishesInRegisters(const TileU8S8& t) {
  const bool whole = t.n == NV * S::kLanes;
  return t.rows == nullptr && t.step == 1 && t.base == nullptr && !t.output.f32 && t.residual.f32 == nullptr &&
         (t.residual.u8 == nullptr || whole);
}

template <class S, int MR, int NV, bool kSaturates, bool kResidual>
PQI_INLINE void FinishRowsAs(const TileU8S8& t, const typename S::Int (&acc)[MR][NV]) {
  using Int = typename S::Int;
  using Float = typename S::Float;
  constexpr int kVectors = MR * NV, kRowBytes = NV * S::kLanes;
  const OutputStage<S> output(t.output, t.out);
  const Int zero_point = S::SetShort(t.output.zero_point), top = S::SetBytes(static_cast<int8_t>(t.output.code_max));
  const bool whole = t.n == kRowBytes;
  const typename S::ByteMask part = S::FirstBytes(whole ? 0 : t.n);
  Float scale[NV], bias[NV];
  PQI_UNROLL for (int j = 0; j < NV; ++j) {
    scale[j] = S::LoadFloat(t.scale + j * S::kLanes);
    // Codes do not show whether a zero was added: only the sign of a zero could change.
    bias[j] = t.bias != nullptr ? S::LoadFloat(t.bias + j * S::kLanes) : S::SetFloat(0);
  }
  const DequantizeStage<S> residual(t.residual.zero_point, t.residual.scale);
  uint8_t* out = output.codes;
  const uint8_t* from = t.residual.u8;
  PQI_UNROLL for (int first = 0; first < kVectors; first += 4) {
    Int codes[4];
    PQI_UNROLL for (int v = 0; v < 4; ++v) {
      if (first + v >= kVectors) {
        codes[v] = codes[0];  // never stored
        continue;
      }
      const int i = (first + v) / NV, j = (first + v) % NV;
      Float y = S::AddF(S::MulF(S::ToFloat(acc[i][j]), scale[j]), bias[j]);
      if (kResidual) {
        y = S::AddF(y, residual.Get(from + j * S::kLanes, typename S::All()));
        if (j == NV - 1) from += t.residual.stride;
      }
      codes[v] = kSaturates ? S::ToIntPlain(S::MulF(y, output.inv_scale)) : output.Rounded(y);
    }
    const Int bytes = S::PackBytes(codes[0], codes[1], codes[2], codes[3], zero_point, top);
    PQI_UNROLL for (int piece = 0; piece < 4 / NV; ++piece) {
      if (first + piece * NV >= kVectors) continue;
      if (whole) {
        S::template StorePiece<kRowBytes>(out, bytes, piece, typename S::All());
      } else {
        S::template StorePiece<kRowBytes>(out, bytes, piece, part);
      }
      out += t.out_stride;
    }
  }
}

template <class S, int MR, int NV>
PQI_INLINE void FinishRows(const TileU8S8& t, const typename S::Int (&acc)[MR][NV]) {
  static_assert(4 % NV == 0, "");
  if (t.residual.u8 == nullptr) {
    if (t.output.saturates) return FinishRowsAs<S, MR, NV, true, false>(t, acc);
    return FinishRowsAs<S, MR, NV, false, false>(t, acc);
  }
  if (t.output.saturates) return FinishRowsAs<S, MR, NV, true, true>(t, acc);
  FinishRowsAs<S, MR, NV, false, true>(t, acc);
}

// FinishRows of sums that lie in memory, [MR][NV * kLanes].
template <class S, int MR, int NV>
__attribute__((noinline)) void FinishStored(const TileU8S8& t, const int32_t* sums) {
  typename S::Int acc[MR][NV];
  PQI_UNROLL for (int i = 0; i < MR; ++i) {
    PQI_UNROLL for (int j = 0; j < NV; ++j) acc[i][j] = S::LoadInt(sums + (i * NV + j) * S::kLanes);
  }
  FinishRows<S, MR, NV>(t, acc);
}

// Any number of rows whose sums lie in memory, [rows][NV * kLanes]: row i goes to out + i * out_stride, and takes its residual from
// residual + i * t.residual.stride.
template <class S, int NV, bool kSaturates, bool kResidual>
PQI_INLINE void FinishRunAs(const TileU8S8& t, const int32_t* sums, size_t rows, uint8_t* out, const uint8_t* residual) {
  using Int = typename S::Int;
  using Float = typename S::Float;
  constexpr int kRowBytes = NV * S::kLanes, kRows = 4 / NV;
  const OutputStage<S> output(t.output, t.out);
  const Int zero_point = S::SetShort(t.output.zero_point), top = S::SetBytes(static_cast<int8_t>(t.output.code_max));
  const bool whole = t.n == kRowBytes;
  const typename S::ByteMask part = S::FirstBytes(whole ? 0 : t.n);
  Float scale[NV], bias[NV];
  PQI_UNROLL for (int j = 0; j < NV; ++j) {
    scale[j] = S::LoadFloat(t.scale + j * S::kLanes);
    bias[j] = t.bias != nullptr ? S::LoadFloat(t.bias + j * S::kLanes) : S::SetFloat(0);
  }
  const DequantizeStage<S> stage(t.residual.zero_point, t.residual.scale);
  for (size_t row = 0; row < rows; row += kRows, sums += 4 * S::kLanes) {
    const size_t left = rows - row;
    Int codes[4];
    PQI_UNROLL for (int v = 0; v < 4; ++v) {
      const int i = v / NV, j = v % NV;
      Float y = S::AddF(S::MulF(S::ToFloat(S::LoadInt(sums + v * S::kLanes)), scale[j]), bias[j]);
      if (kResidual && static_cast<size_t>(i) < left) {
        y = S::AddF(y, stage.Get(residual + static_cast<size_t>(i) * t.residual.stride + j * S::kLanes, typename S::All()));
      }
      codes[v] = kSaturates ? S::ToIntPlain(S::MulF(y, output.inv_scale)) : output.Rounded(y);
    }
    const Int bytes = S::PackBytes(codes[0], codes[1], codes[2], codes[3], zero_point, top);
    PQI_UNROLL for (int i = 0; i < kRows; ++i) {
      if (static_cast<size_t>(i) >= left) continue;
      if (whole) {
        S::template StorePiece<kRowBytes>(out, bytes, i, typename S::All());
      } else {
        S::template StorePiece<kRowBytes>(out, bytes, i, part);
      }
      out += t.out_stride;
    }
    if (kResidual) residual += kRows * t.residual.stride;
  }
}

// Sums are read up to the next multiple of 4 / NV rows.
template <class S, int NV>
__attribute__((noinline)) void FinishRun(const TileU8S8& t, const int32_t* sums, size_t rows, uint8_t* out, const uint8_t* residual) {
  if (residual == nullptr) {
    if (t.output.saturates) return FinishRunAs<S, NV, true, false>(t, sums, rows, out, residual);
    return FinishRunAs<S, NV, false, false>(t, sums, rows, out, residual);
  }
  if (t.output.saturates) return FinishRunAs<S, NV, true, true>(t, sums, rows, out, residual);
  FinishRunAs<S, NV, false, true>(t, sums, rows, out, residual);
}

}  // namespace
}  // namespace pqi::kernels
