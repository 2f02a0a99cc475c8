// 3x3 depthwise convolution of codes along image rows.
//
// The three bytes of a column that belong to one channel are interleaved into one dword lane, so that a single dot product multiplies a
// whole column, and a column in registers serves up to three output pixels. Where a dword has room for a fourth byte, the column of the
// next image row comes with it: the same registers then serve a second row of outputs, with weights one byte further up, and each line is
// interleaved twice instead of three times. Weights go through the same interleaving and therefore need no layout of their own. Vector j of
// a block of Q vectors holds, in its 128-bit piece L, the four channels from (L * Q + j) * 4 on: the order in which unpacking leaves them
// and packing takes them back.
#pragma once

#include <algorithm>
#include <cstring>
#include <type_traits>

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
  alignas(64) int32_t lower_weights[3 * Q * S::kLanes];  // of the second row of outputs, where there is one

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

template <class S, int Q>
using ColumnRegisters = typename S::Int[S::kColumnPhases][Q];

// Lines under kRows groups of rows beside each other, kLines a group.
template <int kRows, int kLines>
struct ColumnLines {
  const uint8_t* at[kRows][kLines];
};

// Q * kLanes / kRows channels from c on, of which `lanes` are stored, in all pixels of the band. kRows groups of kOut rows, those of
// different groups beside each other in one block: d.rows is a multiple of kRows * kOut, and d.row_lines is 1 where kOut is 2.
template <class S, int Q, int kRows, int kOut, int kStride, bool kSaturates, class Lanes>
__attribute__((noinline)) void Depthwise3x3Block(const Depthwise3x3U8S8& d, size_t c, Lanes lanes) noexcept {
  using Int = typename S::Int;
  constexpr size_t kWidth = Q * S::kLanes / kRows;
  ColumnParameters<S, Q> params(d, c, kWidth);
  const OutputStage<S> output(d.output, nullptr);
  const size_t padded = DepthwisePadded(d.n), row_bytes = static_cast<size_t>(d.m) * d.n;
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
    if constexpr (kOut == 2) {
      static_assert(S::kColumnPhases == 1, "a column is one dword");
      PQI_UNROLL for (int j = 0; j < Q; ++j) {
        S::StoreInt(params.lower_weights + (x * Q + j) * S::kLanes, S::template ShiftLeft<8>(weights[x][0][j]));
      }
    }
  }
  const Int zero_point = S::SetShort(d.output.zero_point), top = S::SetBytes(static_cast<int8_t>(d.output.code_max));
  // The column that is loaded next, and where it lies in the image's lines. Both are kept apart from the lines, whose address is taken.
  ColumnLines<kRows, kOut + 2> image, padding;
  for (auto& lines : padding.at) {
    for (const uint8_t*& line : lines) line = d.padding + c;
  }
  const uint32_t begin = d.begin, end = d.end;
  const size_t step = d.n, apart = kOut == 2 ? 2 : d.row_lines;
  uint32_t column = 0;
  size_t offset = 0;
  uint8_t* out = d.out + c;
  // `inside`: the column is known to lie in the image.
  const auto load = [&](ColumnRegisters<S, Q>& to, auto inside) PQI_INLINE_LAMBDA {
    const auto* lines = &image;
    size_t at = offset;
    if constexpr (!decltype(inside)::value) {
      if (column < begin || column >= end) {
        lines = &padding;
        at = 0;
      }
      PQI_OPAQUE(lines);  // one choice, not one for each line
    }
    const auto line = [&](int y) PQI_INLINE_LAMBDA {
      if constexpr (kRows == 1) {
        return lines->at[0][y] + at;
      } else {
        return S::template Beside<kRows>([&](int r) PQI_INLINE_LAMBDA { return lines->at[r][y] + at; }, lanes);
      }
    };
    if constexpr (kRows > 1 && kOut == 2) {
      S::Interleave(line(0), line(1), line(2), line(3), to);
    } else if constexpr (kRows > 1) {
      S::Interleave(line(0), line(1), line(2), S::SetInt(0), to);
    } else if constexpr (kOut == 2) {
      S::template LoadColumn<Q>(line(0), line(1), line(2), line(3), lanes, to);
    } else {
      S::template LoadColumn<Q>(line(0), line(1), line(2), lanes, to);
    }
    ++column;
    offset += step;
  };
  // Parameters are read where they are used. Hoisted out of the loop they would push columns or weights out of registers.
  const auto finish = [&](const ColumnParameters<S, Q>* at, int j, Int sum) PQI_INLINE_LAMBDA {
    const typename S::Float y =
        S::AddF(S::MulF(S::ToFloat(sum), S::LoadFloat(at->scale + j * S::kLanes)), S::LoadFloat(at->bias + j * S::kLanes));
    return kSaturates ? S::ToIntPlain(S::MulF(y, output.inv_scale)) : output.Rounded(y);
  };
  const auto store = [&](uint8_t* to, const Int(&codes)[Q]) PQI_INLINE_LAMBDA {
    if constexpr (kRows == 1) {
      S::template StoreColumn<Q>(to, codes, zero_point, top, lanes);
    } else {
      S::template StoreBeside<kRows>(to, kOut * row_bytes, codes, zero_point, top, lanes);
    }
  };
  const auto pixel = [&](const ColumnRegisters<S, Q>& left, const ColumnRegisters<S, Q>& middle,
                         const ColumnRegisters<S, Q>& right) PQI_INLINE_LAMBDA {
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
      codes[j] = finish(at, j, sum);
    }
    store(out, codes);
    if constexpr (kOut == 2) {
      PQI_UNROLL for (int j = 0; j < Q; ++j) {
        const auto weight = [&](int x) PQI_INLINE_LAMBDA { return S::LoadInt(at->lower_weights + (x * Q + j) * S::kLanes); };
        Int sum = S::LoadInt(at->init + j * S::kLanes);
        sum = S::ColumnDot(sum, left[0][j], weight(0));
        sum = S::ColumnDot(sum, middle[0][j], weight(1));
        sum = S::ColumnDot(sum, right[0][j], weight(2));
        codes[j] = finish(at, j, sum);
      }
      store(out + row_bytes, codes);
    }
    out += d.n;
  };
  const std::true_type inside;
  const std::false_type anywhere;
  constexpr uint32_t kPixels = kStride == 1 ? 3 : 2;  // until the registers have the columns that they began with
  for (uint32_t row = 0; row < d.rows; row += kRows * kOut) {
    for (size_t r = 0; r < kRows; ++r) {
      for (size_t y = 0; y < kOut + 2; ++y) image.at[r][y] = d.line[size_t{row} * d.row_lines + r * apart + y] + c;
    }
    column = 0;
    offset = 0 - begin * step;  // used from column `begin` on
    out = d.out + row * row_bytes + c;
    ColumnRegisters<S, Q> x0, x1, x2;
    load(x0, anywhere);
    if (kStride == 1) load(x1, anywhere);
    for (uint32_t left = d.m; left > 0;) {
      const uint32_t ahead = column >= begin && column < end ? (end - column) / kStride : 0;
      const uint32_t turns = std::min(left, ahead) / kPixels;
      left -= turns * kPixels;
      for (uint32_t turn = 0; turn < turns; ++turn) {
        if (kStride == 1) {
          load(x2, inside);
          pixel(x0, x1, x2);
          load(x0, inside);
          pixel(x1, x2, x0);
          load(x1, inside);
          pixel(x2, x0, x1);
        } else {
          load(x1, inside);
          load(x2, inside);
          pixel(x0, x1, x2);
          load(x1, inside);
          load(x0, inside);
          pixel(x2, x1, x0);
        }
      }
      if (left == 0) break;
      if (kStride == 2) load(x1, anywhere);
      load(x2, anywhere);
      pixel(x0, x1, x2);
      std::memcpy(&x0, kStride == 1 ? &x1 : &x2, sizeof x0);
      if (kStride == 1) std::memcpy(&x1, &x2, sizeof x1);
      --left;
    }
  }
}

template <class S, int Q, int kRows, int kOut, class Lanes>
PQI_INLINE void Depthwise3x3Rows(const Depthwise3x3U8S8& d, size_t c, Lanes lanes) {
  if (d.output.saturates) {
    if (d.stride == 1) return Depthwise3x3Block<S, Q, kRows, kOut, 1, true>(d, c, lanes);
    if constexpr (kOut == 1) Depthwise3x3Block<S, Q, kRows, kOut, 2, true>(d, c, lanes);
    return;
  }
  if (d.stride == 1) return Depthwise3x3Block<S, Q, kRows, kOut, 1, false>(d, c, lanes);
  if constexpr (kOut == 1) Depthwise3x3Block<S, Q, kRows, kOut, 2, false>(d, c, lanes);
}

// The band from row `first` on, `rows` of it.
PQI_INLINE Depthwise3x3U8S8 RowsOf(const Depthwise3x3U8S8& d, uint32_t first, uint32_t rows) {
  Depthwise3x3U8S8 part = d;
  part.line += static_cast<size_t>(first) * d.row_lines;
  part.out += static_cast<size_t>(first) * d.m * d.n;
  part.rows = rows;
  return part;
}

// All rows of the band, a multiple of kRows.
template <class S, int Q, int kRows, class Lanes>
PQI_INLINE void Depthwise3x3Columns(const Depthwise3x3U8S8& d, size_t c, Lanes lanes) {
  uint32_t paired = 0;
  if constexpr (S::kColumnOutputs == 2) {
    if (d.stride == 1 && d.row_lines == 1) paired = d.rows / (2 * kRows) * (2 * kRows);
    if (paired > 0) Depthwise3x3Rows<S, Q, kRows, 2>(RowsOf(d, 0, paired), c, lanes);
  }
  if (paired < d.rows) Depthwise3x3Rows<S, Q, kRows, 1>(RowsOf(d, paired, d.rows - paired), c, lanes);
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
  uint32_t done = 0;
  if constexpr (S::kRowsBeside > 1) {
    // The channels beyond whole blocks: a half of a block of two rows, a quarter of four, or both.
    const bool quarter = left % kHalf != 0 && left % kHalf <= kQuarter;
    const uint32_t together = quarter ? 4 : 2, rows = d.rows / together * together;
    if (left > 0 && left <= kHalf + kQuarter && rows > 0) {
      const size_t half = quarter ? left / kHalf * kHalf : left;
      const Depthwise3x3U8S8 beside = RowsOf(d, 0, rows);
      if (half > 0) Depthwise3x3Beside<S, 2>(beside, c, half);
      if (quarter) Depthwise3x3Beside<S, 4>(beside, c + half, left - half);
      done = rows;
    }
  }
  if (done < d.rows) Depthwise3x3From<S, Q>(RowsOf(d, done, d.rows - done), c);
}

}  // namespace
}  // namespace pqi::kernels
