// The epilogue of an integer tile from the registers that hold its sums: scale, bias, residual of codes, quantize, narrow, store.
//
// Four vectors at a time, whose dependent chains of about 30 cycles overlap, become one vector of bytes: two packs to 16 bits, the zero
// point added there with saturation, one pack to 8 bits, one permutation. Where the caller has proved that nothing is NaN or leaves int32
// (Output::saturates), saturation is also the clamp, with a minimum of bytes for codes that end below 255, and a vector costs two
// multiplications, an addition and two conversions.
//
// Beside the sums registers hold scale and bias of each column, 1/s, the zero point and four temporaries.
#pragma once

#include "kernels/contract/tile.h"
#include "kernels/generic/compiler.h"
#include "kernels/generic/epilogue.h"

namespace pqi::kernels {
namespace {

// True if FinishRows and FinishRun can do what the tile asks for.
template <class S, int NV>
PQI_INLINE bool FinishesInRegisters(const TileU8S8& t) {
  const bool whole = t.n == NV * S::kLanes;
  return t.rows == nullptr && t.step == 1 && t.base == nullptr && !t.output.f32 && t.residual.f32 == nullptr &&
         (t.residual.u8 == nullptr || whole);
}

// The epilogue of rows of NV vectors: four vectors of sums, which are 4 / NV rows, become one vector of bytes. It holds what the rows of a
// tile share.
template <class S, int NV, bool kSaturates, bool kResidual>
struct RowEpilogue {
  using Int = typename S::Int;
  using Float = typename S::Float;
  static constexpr int kRowBytes = NV * S::kLanes, kRows = 4 / NV;
  static_assert(4 % NV == 0, "");

  OutputStage<S> output;
  Int zero_point, top;
  bool whole;
  typename S::ByteMask part;
  Float scale[NV], bias[NV];
  DequantizeStage<S> residual;

  PQI_INLINE explicit RowEpilogue(const TileU8S8& t)
      : output(t.output, t.out),
        zero_point(S::SetShort(t.output.zero_point)),
        top(S::SetBytes(static_cast<int8_t>(t.output.code_max))),
        whole(t.n == kRowBytes),
        part(S::FirstBytes(whole ? 0 : t.n)),
        residual(t.residual.zero_point, t.residual.scale) {
    PQI_UNROLL for (int j = 0; j < NV; ++j) {
      scale[j] = S::LoadFloat(t.scale + j * S::kLanes);
      // Codes do not show whether a zero was added: only the sign of a zero could change.
      bias[j] = t.bias != nullptr ? S::LoadFloat(t.bias + j * S::kLanes) : S::SetFloat(0);
    }
  }

  // The codes, less their zero point, of vector j of a row. Where `adds`, the residual of the row begins at `from`.
  PQI_INLINE Int Code(Int sum, int j, bool adds, const uint8_t* from) const {
    Float y = S::AddF(S::MulF(S::ToFloat(sum), scale[j]), bias[j]);
    if (kResidual && adds) y = S::AddF(y, residual.Get(from + j * S::kLanes, typename S::All()));
    return kSaturates ? S::ToIntPlain(S::MulF(y, output.inv_scale)) : output.Rounded(y);
  }
  PQI_INLINE Int Pack(const Int (&codes)[4]) const { return S::PackBytes(codes[0], codes[1], codes[2], codes[3], zero_point, top); }
  PQI_INLINE void Store(uint8_t* out, Int bytes, int row) const {
    if (whole) {
      S::template StorePiece<kRowBytes>(out, bytes, row, typename S::All());
    } else {
      S::template StorePiece<kRowBytes>(out, bytes, row, part);
    }
  }
  // Finishes kRows rows of sums, of which the first `left` exist: row i goes to out + i * out_stride and takes its residual from
  // from + i * from_stride.
  PQI_INLINE void Finish(const Int (&sums)[4], size_t left, uint8_t* out, size_t out_stride, const uint8_t* from,
                         size_t from_stride) const {
    Int codes[4];
    PQI_UNROLL for (int v = 0; v < 4; ++v) {
      const size_t i = v / NV;
      codes[v] = Code(sums[v], v % NV, i < left, kResidual ? from + i * from_stride : nullptr);
    }
    const Int bytes = Pack(codes);
    PQI_UNROLL for (int i = 0; i < kRows; ++i) {
      if (static_cast<size_t>(i) < left) Store(out + i * out_stride, bytes, i);
    }
  }
};

template <bool kValue>
struct Flag {
  static constexpr bool value = kValue;
};
// Calls fn(saturates, adds) with a Flag for whether the output saturates and whether a residual is added.
template <class Fn>
PQI_INLINE void ForEpilogueOf(const TileU8S8& t, Fn&& fn) {
  if (t.residual.u8 == nullptr) {
    if (t.output.saturates) return fn(Flag<true>(), Flag<false>());
    return fn(Flag<false>(), Flag<false>());
  }
  if (t.output.saturates) return fn(Flag<true>(), Flag<true>());
  fn(Flag<false>(), Flag<true>());
}

// Finishes a tile whose sums are in registers.
template <class S, int MR, int NV>
PQI_INLINE void FinishRows(const TileU8S8& t, const typename S::Int (&acc)[MR][NV]) {
  ForEpilogueOf(t, [&](auto saturates, auto adds) PQI_INLINE_LAMBDA {
    using Epilogue = RowEpilogue<S, NV, decltype(saturates)::value, decltype(adds)::value>;
    constexpr int kVectors = MR * NV;
    const Epilogue epilogue(t);
    uint8_t* out = epilogue.output.codes;
    const uint8_t* from = t.residual.u8;
    PQI_UNROLL for (int first = 0; first < kVectors; first += 4) {
      typename S::Int codes[4];
      PQI_UNROLL for (int v = 0; v < 4; ++v) {
        if (first + v >= kVectors) {
          codes[v] = codes[0];  // never stored
          continue;
        }
        const int i = (first + v) / NV, j = (first + v) % NV;
        codes[v] = epilogue.Code(acc[i][j], j, true, from);
        if (decltype(adds)::value && j == NV - 1) from += t.residual.stride;
      }
      const typename S::Int bytes = epilogue.Pack(codes);
      PQI_UNROLL for (int row = 0; row < Epilogue::kRows; ++row) {
        if (first + row * NV >= kVectors) continue;
        epilogue.Store(out, bytes, row);
        out += t.out_stride;
      }
    }
  });
}

// FinishRows for sums that lie in memory, [MR][NV * kLanes].
template <class S, int MR, int NV>
__attribute__((noinline)) void FinishStored(const TileU8S8& t, const int32_t* sums) {
  typename S::Int acc[MR][NV];
  PQI_UNROLL for (int i = 0; i < MR; ++i) {
    PQI_UNROLL for (int j = 0; j < NV; ++j) acc[i][j] = S::LoadInt(sums + (i * NV + j) * S::kLanes);
  }
  FinishRows<S, MR, NV>(t, acc);
}

// Finishes any number of rows whose sums lie in memory, [rows][NV * kLanes], and are read up to the next multiple of 4 / NV rows. Row i
// goes to out + i * t.out_stride, and takes its residual, if there is one, from residual + i * t.residual.stride.
template <class S, int NV>
__attribute__((noinline)) void FinishRun(const TileU8S8& t, const int32_t* sums, size_t rows, uint8_t* out, const uint8_t* residual) {
  ForEpilogueOf(t, [&](auto saturates, auto adds) PQI_INLINE_LAMBDA {
    using Epilogue = RowEpilogue<S, NV, decltype(saturates)::value, decltype(adds)::value>;
    const Epilogue epilogue(t);
    for (size_t row = 0; row < rows; row += Epilogue::kRows, sums += 4 * S::kLanes) {
      const typename S::Int vectors[4] = {S::LoadInt(sums), S::LoadInt(sums + S::kLanes), S::LoadInt(sums + 2 * S::kLanes),
                                          S::LoadInt(sums + 3 * S::kLanes)};
      epilogue.Finish(vectors, rows - row, out, t.out_stride, residual, t.residual.stride);
      out += Epilogue::kRows * t.out_stride;
      if (decltype(adds)::value) residual += Epilogue::kRows * t.residual.stride;
    }
  });
}

}  // namespace
}  // namespace pqi::kernels
