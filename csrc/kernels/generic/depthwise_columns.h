// Depthwise convolution of codes along image rows, windows of 3x3 and 5x5.
//
// A column is the pixels that lie above each other under a window. Its bytes of one channel are interleaved into dword lanes (as many as
// S::ColumnPhases says), so that a dot product multiplies up to four pixels of it, and a column in registers serves as many output pixels
// as the window is wide. Where the last dword has room, it takes the pixel of the next image row too: the same registers then serve a
// second row of outputs, with weights one byte further up, and each line is interleaved less often. Weights go through the same
// interleaving and therefore need no layout of their own. Vector j of a block of Q vectors holds, in its 128-bit piece L, the four channels
// from (L * Q + j) * 4 on: the order in which unpacking leaves them and packing takes them back.
#pragma once

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <utility>

#include "kernels/contract/depthwise.h"
#include "kernels/generic/compiler.h"
#include "kernels/generic/depthwise.h"
#include "kernels/generic/epilogue.h"

namespace pqi::kernels {
namespace {

// A block of Q vectors of channels, for kOut rows of outputs of K x K windows at a time.
template <class S, int K, int Q, int kOut>
struct ColumnShape {
  static constexpr int kLines = K + kOut - 1, kPhases = S::ColumnPhases(kLines), kChannels = Q * S::kLanes;
  using Registers = typename S::Int[kPhases][Q];
};

// The parameters of a block in the order of its vectors. Where a block holds several image rows beside each other, those of `width`
// channels repeat.
template <class S, int K, int Q, int kOut>
struct ColumnParameters {
  using Shape = ColumnShape<S, K, Q, kOut>;

  alignas(64) int32_t init[Shape::kChannels];
  alignas(64) float scale[Shape::kChannels];
  alignas(64) float bias[Shape::kChannels];
  alignas(64) int32_t weights[kOut][K][Shape::kPhases][Shape::kChannels];

  PQI_INLINE ColumnParameters(const DepthwiseColumnsU8S8& d, size_t c, size_t width) {
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
    const size_t padded = DepthwisePadded(d.n);
    for (int x = 0; x < K; ++x) {
      alignas(64) int8_t lines[K + 2 * (kOut - 1)][Shape::kChannels];  // lines of weights, with lines of zeros before and after them
      std::memset(lines, 0, sizeof lines);
      for (int y = 0; y < K; ++y) {
        const int8_t* w = d.w + static_cast<size_t>(y * K + x) * padded + c;
        for (size_t at = 0; at < Shape::kChannels; at += width) std::memcpy(lines[y + kOut - 1] + at, w, width);
      }
      PQI_UNROLL for (int o = 0; o < kOut; ++o) {
        typename Shape::Registers column;
        S::template WeightColumns<Q, Shape::kLines>(lines + (kOut - 1 - o), column);
        PQI_UNROLL for (int p = 0; p < Shape::kPhases; ++p) {
          PQI_UNROLL for (int j = 0; j < Q; ++j) S::StoreInt(weights[o][x][p] + j * S::kLanes, column[p][j]);
        }
      }
    }
  }
};

// The lines under kRows groups of output rows beside each other, kLines for a group.
template <int kRows, int kLines>
struct ColumnLines {
  const uint8_t* at[kRows][kLines];
};

// Calls fn(0), fn(1), ... with numbers that the compiler knows.
template <class Fn, int... I>
PQI_INLINE void CallWith(Fn&& fn, std::integer_sequence<int, I...>) {
  (fn(std::integral_constant<int, I>()), ...);
}
template <int kCount, class Fn>
PQI_INLINE void ForConstants(Fn&& fn) {
  CallWith(fn, std::make_integer_sequence<int, kCount>());
}

// Computes Q * kLanes / kRows channels from c on, of which `lanes` are stored, in all pixels of the band. A block holds kRows groups of
// kOut rows beside each other: d.rows is a multiple of kRows * kOut, and d.row_lines is 1 where kOut is 2.
template <class S, int K, int Q, int kRows, int kOut, int kStride, bool kSaturates, class Lanes>
__attribute__((noinline)) void DepthwiseBlock(const DepthwiseColumnsU8S8& d, size_t c, Lanes lanes) noexcept {
  using Int = typename S::Int;
  using Shape = ColumnShape<S, K, Q, kOut>;
  constexpr bool kHoldsWeights = K == 3;  // registers have room for the weights of the first row of outputs
  const ColumnParameters<S, K, Q, kOut> params(d, c, Q * S::kLanes / kRows);
  const OutputStage<S> output(d.output, nullptr);
  const size_t row_bytes = d.m * d.out_stride;
  typename Shape::Registers held[K];
  if constexpr (kHoldsWeights) {
    PQI_UNROLL for (int x = 0; x < K; ++x) {
      PQI_UNROLL for (int p = 0; p < Shape::kPhases; ++p) {
        PQI_UNROLL for (int j = 0; j < Q; ++j) held[x][p][j] = S::LoadInt(params.weights[0][x][p] + j * S::kLanes);
      }
    }
  }
  const Int zero_point = S::SetShort(d.output.zero_point), top = S::SetBytes(static_cast<int8_t>(d.output.code_max));
  // The column that is loaded next, and where it lies in the image's lines. Both are kept apart from the lines, whose address is taken.
  ColumnLines<kRows, Shape::kLines> image, padding;
  for (auto& lines : padding.at) std::fill(lines, lines + Shape::kLines, d.padding + c);
  const uint32_t begin = d.begin, end = d.end;
  const size_t step = d.n, apart = kOut == 2 ? 2 : d.row_lines;
  uint32_t column = 0;
  size_t offset = 0;
  uint8_t* out = d.out + c;
  // Loads the next column into registers; with `inside` it is known to lie in the image.
  const auto load = [&](typename Shape::Registers& to, auto inside) PQI_INLINE_LAMBDA {
    const auto* lines = &image;
    size_t at = offset;
    if constexpr (!decltype(inside)::value) {
      if (column < begin || column >= end) {
        lines = &padding;
        at = 0;
      }
      PQI_OPAQUE(lines);  // without this the compiler would choose for each line again
    }
    const auto line = [&](int y) PQI_INLINE_LAMBDA {
      if constexpr (kRows == 1) {
        return S::template Line<Q>(lines->at[0][y] + at, lanes);
      } else {
        return S::template Beside<kRows>([&](int r) PQI_INLINE_LAMBDA { return lines->at[r][y] + at; }, lanes);
      }
    };
    decltype(line(0)) bytes[Shape::kLines];
    PQI_UNROLL for (int y = 0; y < Shape::kLines; ++y) bytes[y] = line(y);
    S::template Columns<Q>(bytes, to);
    ++column;
    offset += step;
  };
  // Computes and stores the pixel under the columns x[first], x[first + 1], ..., indices modulo K.
  const auto pixel = [&](const typename Shape::Registers(&x)[K], auto first) PQI_INLINE_LAMBDA {
    // Parameters are read where they are used: hoisted out of the loop they would push columns or weights out of registers.
    const ColumnParameters<S, K, Q, kOut>* at = &params;
    PQI_OPAQUE(at);
    PQI_UNROLL for (int o = 0; o < kOut; ++o) {
      Int codes[Q];
      PQI_UNROLL for (int j = 0; j < Q; ++j) {
        Int sum = S::LoadInt(at->init + j * S::kLanes);
        PQI_UNROLL for (int p = 0; p < Shape::kPhases; ++p) {
          ForConstants<K>([&](auto i) PQI_INLINE_LAMBDA {
            const Int w = kHoldsWeights && o == 0 ? held[i][p][j] : S::LoadInt(at->weights[o][i][p] + j * S::kLanes);
            sum = S::ColumnDot(sum, x[(decltype(first)::value + i) % K][p][j], w);
          });
        }
        const typename S::Float y =
            S::AddF(S::MulF(S::ToFloat(sum), S::LoadFloat(at->scale + j * S::kLanes)), S::LoadFloat(at->bias + j * S::kLanes));
        codes[j] = kSaturates ? S::ToIntPlain(S::MulF(y, output.inv_scale)) : output.Rounded(y);
      }
      if constexpr (kRows == 1) {
        S::template StoreColumn<Q>(out + o * row_bytes, codes, zero_point, top, lanes);
      } else {
        S::template StoreBeside<kRows>(out + o * row_bytes, kOut * row_bytes, codes, zero_point, top, lanes);
      }
    }
    out += d.out_stride;
  };
  const std::true_type inside;
  const std::false_type anywhere;
  for (uint32_t row = 0; row < d.rows; row += kRows * kOut) {
    for (size_t r = 0; r < kRows; ++r) {
      for (size_t y = 0; y < Shape::kLines; ++y) image.at[r][y] = d.line[size_t{row} * d.row_lines + r * apart + y] + c;
    }
    column = 0;
    offset = 0 - begin * step;  // read from column `begin` on, where it is 0
    out = d.out + row * row_bytes + c;
    typename Shape::Registers x[K];
    ForConstants<K - kStride>([&](auto i) PQI_INLINE_LAMBDA { load(x[i], anywhere); });
    for (uint32_t left = d.m; left > 0;) {
      // After K pixels the registers have the columns that they began with.
      const uint32_t ahead = column >= begin && column < end ? (end - column) / kStride : 0;
      const uint32_t turns = std::min(left, ahead) / K;
      left -= turns * K;
      for (uint32_t turn = 0; turn < turns; ++turn) {
        ForConstants<K>([&](auto i) PQI_INLINE_LAMBDA {
          constexpr int kFirst = decltype(i)::value * kStride;
          ForConstants<kStride>([&](auto s) PQI_INLINE_LAMBDA { load(x[(kFirst + K - kStride + s) % K], inside); });
          pixel(x, std::integral_constant<int, kFirst % K>());
        });
      }
      if (left == 0) break;
      ForConstants<kStride>([&](auto s) PQI_INLINE_LAMBDA { load(x[K - kStride + s], anywhere); });
      pixel(x, std::integral_constant<int, 0>());
      ForConstants<K - kStride>([&](auto i) PQI_INLINE_LAMBDA { std::memcpy(&x[i], &x[i + kStride], sizeof x[i]); });
      --left;
    }
  }
}

template <class S, int K, int Q, int kRows, int kOut, class Lanes>
PQI_INLINE void DepthwiseRows(const DepthwiseColumnsU8S8& d, size_t c, Lanes lanes) {
  if (d.output.saturates) {
    if (d.stride == 1) return DepthwiseBlock<S, K, Q, kRows, kOut, 1, true>(d, c, lanes);
    if constexpr (kOut == 1) DepthwiseBlock<S, K, Q, kRows, kOut, 2, true>(d, c, lanes);
    return;
  }
  if (d.stride == 1) return DepthwiseBlock<S, K, Q, kRows, kOut, 1, false>(d, c, lanes);
  if constexpr (kOut == 1) DepthwiseBlock<S, K, Q, kRows, kOut, 2, false>(d, c, lanes);
}

// The part of a band from row `first` on, `rows` of them.
PQI_INLINE DepthwiseColumnsU8S8 RowsOf(const DepthwiseColumnsU8S8& d, uint32_t first, uint32_t rows) {
  DepthwiseColumnsU8S8 part = d;
  part.line += static_cast<size_t>(first) * d.row_lines;
  part.out += first * (d.m * d.out_stride);
  part.rows = rows;
  return part;
}

// Computes channels of all rows of the band, a multiple of kRows: in pairs of rows where that pays.
template <class S, int K, int Q, int kRows, class Lanes>
PQI_INLINE void DepthwiseChannelsOf(const DepthwiseColumnsU8S8& d, size_t c, Lanes lanes) {
  uint32_t paired = 0;
  if constexpr (S::kColumnOutputs == 2) {
    if (d.stride == 1 && d.row_lines == 1) paired = d.rows / (2 * kRows) * (2 * kRows);
    if (paired > 0) DepthwiseRows<S, K, Q, kRows, 2>(RowsOf(d, 0, paired), c, lanes);
  }
  if (paired < d.rows) DepthwiseRows<S, K, Q, kRows, 1>(RowsOf(d, paired, d.rows - paired), c, lanes);
}

// Computes the channels from c on in whole blocks of Q vectors, and then what is left in narrower ones. A partial block is used where it
// wastes no vector.
template <class S, int K, int Q>
PQI_INLINE void DepthwiseFrom(const DepthwiseColumnsU8S8& d, size_t c) {
  constexpr size_t kBlock = Q * S::kLanes;
  for (; c + kBlock <= d.n; c += kBlock) DepthwiseChannelsOf<S, K, Q, 1>(d, c, typename S::All());
  if (c == d.n) return;
  if constexpr (Q > 1) {
    if (d.n - c <= kBlock - S::kLanes) return DepthwiseFrom<S, K, Q / 2>(d, c);
  }
  DepthwiseChannelsOf<S, K, Q, 1>(d, c, S::FirstBytes(d.n - c));
}

// Computes n channels from c on in kRows rows at a time.
template <class S, int K, int kRows>
PQI_INLINE void DepthwiseBeside(const DepthwiseColumnsU8S8& d, size_t c, size_t n) {
  constexpr int Q = S::kColumnVectors;
  if (n == Q * S::kLanes / kRows) return DepthwiseChannelsOf<S, K, Q, kRows>(d, c, typename S::All());
  DepthwiseChannelsOf<S, K, Q, kRows>(d, c, S::FirstBytes(n));
}

template <class S>
PQI_INLINE void Depthwise3x3(const DepthwiseColumnsU8S8& d) {
  constexpr int K = 3, Q = S::kColumnVectors;
  [[maybe_unused]] constexpr size_t kBlock = Q * S::kLanes, kHalf = kBlock / 2, kQuarter = kBlock / 4;
  const size_t left = d.n % kBlock, c = d.n - left;
  for (size_t block = 0; block < c; block += kBlock) DepthwiseChannelsOf<S, K, Q, 1>(d, block, typename S::All());
  uint32_t done = 0;
  if constexpr (S::kRowsBeside > 1) {
    // The channels beyond whole blocks take a half of a block that holds two rows, a quarter of one that holds four, or both.
    const bool quarter = left % kHalf != 0 && left % kHalf <= kQuarter;
    const uint32_t together = quarter ? 4 : 2, rows = d.rows / together * together;
    if (left > 0 && left <= kHalf + kQuarter && rows > 0) {
      const size_t half = quarter ? left / kHalf * kHalf : left;
      const DepthwiseColumnsU8S8 beside = RowsOf(d, 0, rows);
      if (half > 0) DepthwiseBeside<S, K, 2>(beside, c, half);
      if (quarter) DepthwiseBeside<S, K, 4>(beside, c + half, left - half);
      done = rows;
    }
  }
  if (done < d.rows) DepthwiseFrom<S, K, Q>(RowsOf(d, done, d.rows - done), c);
}

template <class S>
void DepthwiseColumnsU8S8Kernel(const DepthwiseColumnsU8S8& d) noexcept {
  if (d.taps == 9) return Depthwise3x3<S>(d);
  // Five columns of two dwords each: half as many vectors leave room for them in registers.
  DepthwiseFrom<S, 5, (S::kColumnVectors + 1) / 2>(d, 0);
}

}  // namespace
}  // namespace pqi::kernels
