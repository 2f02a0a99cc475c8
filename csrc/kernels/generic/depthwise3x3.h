// 3x3 depthwise convolution of codes along image rows.
//
// The three bytes of a column that belong to one channel are interleaved into one dword lane, so that a single dot product multiplies a
// whole column, and a column in registers serves up to three output pixels. Weights go through the same interleaving and therefore need no
// layout of their own. Vector j of a block of Q vectors holds, in its 128-bit piece L, the four channels from (L * Q + j) * 4 on: the order
// in which unpacking leaves them and packing takes them back.
#pragma once

#include <cstring>

#include "kernels/contract.h"
#include "kernels/generic/compiler.h"
#include "kernels/generic/depthwise.h"
#include "kernels/generic/epilogue.h"

namespace pqi::kernels {
namespace {

// Parameters of Q * kLanes channels in the order of the block's vectors; `width` channels again and again.
template <class S, int Q>
struct ColumnParameters {
  alignas(64) int32_t init[Q * S::kLanes];
  alignas(64) float scale[Q * S::kLanes];
  alignas(64) float bias[Q * S::kLanes];

  PQI_INLINE ColumnParameters(const Depthwise3x3U8S8& d, size_t c, size_t width) {
    constexpr int kPieces = S::kLanes / 4;
    for (int j = 0; j < Q; ++j) {
      for (int piece = 0; piece < kPieces; ++piece) {
        const size_t to = static_cast<size_t>(j * kPieces + piece) * 4, from = c + static_cast<size_t>(piece * Q + j) * 4 % width;
        std::memcpy(init + to, d.init + from, 16);
        std::memcpy(scale + to, d.scale + from, 16);
        // Codes do not show whether a zero was added: only the sign of a zero could change.
        if (d.bias != nullptr) {
          std::memcpy(bias + to, d.bias + from, 16);
        } else {
          std::memset(bias + to, 0, 16);
        }
      }
    }
  }
};

// Pointers of an image row: three for each column that its pixels read.
PQI_INLINE size_t RowPointers(const Depthwise3x3U8S8& d) { return (static_cast<size_t>(d.m - 1) * d.stride + 3) * 3; }
PQI_INLINE size_t RowBytes(const Depthwise3x3U8S8& d) { return static_cast<size_t>(d.m) * d.n; }

template <class S, int Q>
using ColumnRegisters = typename S::Int[S::kColumnPhases][Q];

// Q * kLanes / kRows channels from c on, of which `lanes` are stored, in all pixels of the band, kRows image rows at a time: those of
// several rows beside each other in one block. d.rows is a multiple of kRows.
template <class S, int Q, int kRows, int kStride, bool kSaturates, class Lanes>
__attribute__((noinline)) void Depthwise3x3Block(const Depthwise3x3U8S8& d, size_t c, Lanes lanes) noexcept {
  using Int = typename S::Int;
  constexpr size_t kWidth = Q * S::kLanes / kRows;
  const ColumnParameters<S, Q> params(d, c, kWidth);
  const OutputStage<S> output(d.output, nullptr);
  const size_t padded = DepthwisePadded(d.n);
  ColumnRegisters<S, Q> weights[3];
  PQI_UNROLL for (int x = 0; x < 3; ++x) {
    const int8_t* w = d.w + static_cast<size_t>(x) * padded + c;
    if constexpr (kRows == 1) {
      S::template WeightColumn<Q>(w, w + 3 * padded, w + 6 * padded, weights[x]);
    } else {
      alignas(64) int8_t copies[3][Q * S::kLanes];
      for (int y = 0; y < 3; ++y) {
        for (int r = 0; r < kRows; ++r)
          std::memcpy(copies[y] + static_cast<size_t>(r) * kWidth, w + static_cast<size_t>(3 * y) * padded, kWidth);
      }
      S::template WeightColumn<Q>(copies[0], copies[1], copies[2], weights[x]);
    }
  }
  const size_t row_pointers = RowPointers(d), row_bytes = RowBytes(d);
  const uint8_t* const* column = d.a;
  uint8_t* out = d.out + c;
  const Int zero_point = S::SetShort(d.output.zero_point), top = S::SetBytes(static_cast<int8_t>(d.output.code_max));
  const auto load = [&](ColumnRegisters<S, Q>& to) PQI_INLINE_LAMBDA {
    if constexpr (kRows == 1) {
      S::template LoadColumn<Q>(column[0] + c, column[1] + c, column[2] + c, lanes, to);
    } else {
      const auto line = [&](int y) PQI_INLINE_LAMBDA {
        return S::template Beside<kRows>([&](int r) PQI_INLINE_LAMBDA { return column[static_cast<size_t>(r) * row_pointers + y] + c; },
                                         lanes);
      };
      S::Interleave(line(0), line(1), line(2), to);
    }
    column += 3;
  };
  const auto pixel = [&](const ColumnRegisters<S, Q>& left, const ColumnRegisters<S, Q>& middle,
                         const ColumnRegisters<S, Q>& right) PQI_INLINE_LAMBDA {
    // Parameters are read where they are used. Hoisted out of the loop they would push columns or weights out of registers.
    const ColumnParameters<S, Q>* at = &params;
    PQI_OPAQUE(at);
    Int codes[Q];
    PQI_UNROLL for (int j = 0; j < Q; ++j) {
      Int sum = S::LoadInt(at->init + j * S::kLanes);
      PQI_UNROLL for (int p = 0; p < S::kColumnPhases; ++p) {
        sum = S::ColumnDot(sum, left[p][j], weights[0][p][j]);
        sum = S::ColumnDot(sum, middle[p][j], weights[1][p][j]);
        sum = S::ColumnDot(sum, right[p][j], weights[2][p][j]);
      }
      const typename S::Float y =
          S::AddF(S::MulF(S::ToFloat(sum), S::LoadFloat(at->scale + j * S::kLanes)), S::LoadFloat(at->bias + j * S::kLanes));
      codes[j] = kSaturates ? S::ToIntPlain(S::MulF(y, output.inv_scale)) : output.Rounded(y);
    }
    if constexpr (kRows == 1) {
      S::template StoreColumn<Q>(out, codes, zero_point, top, lanes);
    } else {
      S::template StoreBeside<kRows>(out, row_bytes, codes, zero_point, top, lanes);
    }
    out += d.n;
  };
  for (uint32_t row = 0; row < d.rows; row += kRows, column += (kRows - 1) * row_pointers, out += (kRows - 1) * row_bytes) {
    ColumnRegisters<S, Q> x0, x1, x2;
    uint32_t left = d.m;
    load(x0);
    if (kStride == 1) {
      load(x1);
      for (; left >= 3; left -= 3) {
        load(x2);
        pixel(x0, x1, x2);
        load(x0);
        pixel(x1, x2, x0);
        load(x1);
        pixel(x2, x0, x1);
      }
      if (left > 0) {
        load(x2);
        pixel(x0, x1, x2);
      }
      if (left > 1) {
        load(x0);
        pixel(x1, x2, x0);
      }
    } else {
      for (; left >= 2; left -= 2) {
        load(x1);
        load(x2);
        pixel(x0, x1, x2);
        load(x1);
        load(x0);
        pixel(x2, x1, x0);
      }
      if (left > 0) {
        load(x1);
        load(x2);
        pixel(x0, x1, x2);
      }
    }
  }
}

template <class S, int Q, int kRows, class Lanes>
PQI_INLINE void Depthwise3x3Columns(const Depthwise3x3U8S8& d, size_t c, Lanes lanes) {
  if (d.output.saturates) {
    if (d.stride == 1) return Depthwise3x3Block<S, Q, kRows, 1, true>(d, c, lanes);
    return Depthwise3x3Block<S, Q, kRows, 2, true>(d, c, lanes);
  }
  if (d.stride == 1) return Depthwise3x3Block<S, Q, kRows, 1, false>(d, c, lanes);
  Depthwise3x3Block<S, Q, kRows, 2, false>(d, c, lanes);
}

// From channel c on: whole blocks of Q vectors, then what is left in narrower ones. A partial block is used where it wastes no vector.
template <class S, int Q>
PQI_INLINE void Depthwise3x3From(const Depthwise3x3U8S8& d, size_t c) {
  constexpr size_t kBlock = Q * S::kLanes;
  for (; c + kBlock <= d.n; c += kBlock) Depthwise3x3Columns<S, Q, 1>(d, c, typename S::All());
  if (c == d.n) return;
  if constexpr (Q > 1) {
    if (d.n - c <= kBlock - S::kLanes) return Depthwise3x3From<S, Q / 2>(d, c);
  }
  Depthwise3x3Columns<S, Q, 1>(d, c, S::FirstBytes(d.n - c));
}

// n channels from c on, in kRows rows at a time.
template <class S, int kRows>
PQI_INLINE void Depthwise3x3Beside(const Depthwise3x3U8S8& d, size_t c, size_t n) {
  constexpr int Q = S::kColumnVectors;
  if (n == Q * S::kLanes / kRows) return Depthwise3x3Columns<S, Q, kRows>(d, c, typename S::All());
  Depthwise3x3Columns<S, Q, kRows>(d, c, S::FirstBytes(n));
}

template <class S>
void Depthwise3x3U8S8Kernel(const Depthwise3x3U8S8& d) noexcept {
  constexpr int Q = S::kColumnVectors;
  [[maybe_unused]] constexpr size_t kBlock = Q * S::kLanes, kHalf = kBlock / 2, kQuarter = kBlock / 4;
  const size_t left = d.n % kBlock, c = d.n - left;
  for (size_t block = 0; block < c; block += kBlock) Depthwise3x3Columns<S, Q, 1>(d, block, typename S::All());
  Depthwise3x3U8S8 rest = d;
  if constexpr (S::kRowsBeside > 1) {
    // The channels beyond whole blocks: a half of a block of two rows, a quarter of four, or both.
    const bool quarter = left % kHalf != 0 && left % kHalf <= kQuarter;
    const uint32_t together = quarter ? 4 : 2, rows = d.rows / together * together;
    if (left > 0 && left <= kHalf + kQuarter && rows > 0) {
      const size_t half = quarter ? left / kHalf * kHalf : left;
      rest.rows = rows;
      if (half > 0) Depthwise3x3Beside<S, 2>(rest, c, half);
      if (quarter) Depthwise3x3Beside<S, 4>(rest, c + half, left - half);
      rest.rows = d.rows - rows;
      rest.a += rows * RowPointers(d);
      rest.out += rows * RowBytes(d);
    }
  }
  if (rest.rows > 0) Depthwise3x3From<S, Q>(rest, c);
}

}  // namespace
}  // namespace pqi::kernels
