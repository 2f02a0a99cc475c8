// Sums of convolutions whose weights are mostly zero (kernels/contract/sparse.h).
//
// A vector of positions costs a load and an addition for each non-zero weight. Steps are sorted by their numbers of additions and
// subtractions (pack/sparse_lists.h), so that the inner loops run alike from step to step and their ends are predicted.
#pragma once

#include <algorithm>
#include <cstring>

#include "kernels/contract/sparse.h"
#include "kernels/generic/compiler.h"
#include "kernels/generic/epilogue.h"
#include "kernels/generic/epilogue_registers.h"
#include "kernels/generic/primitives.h"
#include "kernels/kernel_set.h"

namespace pqi::kernels {
namespace {

// Planes of N channels from `channel` on.
template <class S, int N>
PQI_INLINE void TurnPixels(const SparsePlanes& t, size_t channel, uint8_t* planes, size_t stride) {
  for (uint32_t j = 0; j < t.positions; j += kSparseChannels) S::template PixelsToPlanes<N>(t.pixels + j, channel, planes + j, stride);
}

template <class S, bool kWide>
void SparsePlanesKernel(const SparsePlanes& t) noexcept {
  constexpr uint32_t kStep = kSparseChannels;
  alignas(64) uint8_t bytes[S::kTransposed * kMaxSparseVectors * S::kBytes];
  const size_t stride = kWide ? t.positions : t.plane;
  for (uint32_t c = 0, made = 0; c < t.channels; c += made) {
    const uint32_t left = t.channels - c;
    uint8_t* planes = t.planes + c * t.plane;
    uint8_t* to = kWide ? bytes : planes;
    made = left >= S::kTransposed ? S::kTransposed : kStep;
    if (left >= S::kTransposed) {
      TurnPixels<S, S::kTransposed>(t, t.channel + c, to, stride);
    } else if (left >= kStep) {
      TurnPixels<S, kStep>(t, t.channel + c, to, stride);
    } else {
      for (uint32_t j = 0; j < t.positions; j += kStep) {
        uint8_t part[kStep][kStep] = {};
        const uint8_t* rows[kStep];
        for (uint32_t i = 0; i < kStep; ++i) {
          std::memcpy(part[i], t.pixels[j + i] + t.channel + c, left);
          rows[i] = part[i];
        }
        S::template PixelsToPlanes<kStep>(rows, 0, to + j, stride);
      }
    }
    if (!kWide) continue;
    for (uint32_t i = 0; i < made; ++i) {
      for (uint32_t j = 0; j < t.positions; j += S::kBytes) {
        const typename S::Int v = S::LoadBytes(bytes + i * t.positions + j);
        S::StoreBytes(planes + i * t.plane + 2 * j, S::EvenBytes(v));
        S::StoreBytes(planes + i * t.plane + 2 * j + S::kBytes, S::OddBytes(v));
      }
    }
  }
}

template <class S, int V, bool kWide, bool kAdd>
void SparseSumsKernel(const SparseSums& t) noexcept {
  using Int = typename S::Int;
  constexpr int kRows = SparseRowsAtOnce(V), kRegisters = kWide ? 2 * V : V;
  const uint16_t* offset = t.offsets;
  const uint8_t* const planes = t.planes;
  for (const SparseStep *step = t.steps, *end = t.steps + t.count; step != end; ++step) {
    Int acc[kRows][kRegisters];
    // Bytes never fall below 0 on the way.
    const Int start = S::SetBytes(static_cast<int8_t>(step->sub * t.largest));
    PQI_UNROLL for (int r = 0; r < kRows; ++r) { PQI_UNROLL for (int v = 0; v < kRegisters; ++v) acc[r][v] = start; }
    // The next n planes of every row, into which `combine` takes a vector each.
    const auto take = [&](uint32_t n, auto combine) PQI_INLINE_LAMBDA {
      for (; n > 0; --n) {
        PQI_UNROLL for (int r = 0; r < kRows; ++r) {
          const uint8_t* from = planes + size_t{*offset++} * kSparseOffsetUnit;
          PQI_UNROLL for (int v = 0; v < kRegisters; ++v) acc[r][v] = combine(acc[r][v], S::LoadBytes(from + v * S::kBytes));
        }
      }
    };
    take(step->add, [](Int a, Int x) PQI_INLINE_LAMBDA { return kWide ? S::AddShorts(a, x) : S::AddBytes(a, x); });
    take(step->sub, [](Int a, Int x) PQI_INLINE_LAMBDA { return kWide ? S::SubShorts(a, x) : S::SubBytes(a, x); });
    PQI_UNROLL for (int r = 0; r < kRows; ++r) {
      uint8_t* even = t.sums + size_t{step->row[r]} * (2 * V * S::kBytes);
      uint8_t* odd = even + V * S::kBytes;
      PQI_UNROLL for (int v = 0; v < V; ++v) {
        Int low = kWide ? acc[r][2 * v % kRegisters] : S::EvenBytes(acc[r][v]);
        Int high = kWide ? acc[r][(2 * v + 1) % kRegisters] : S::OddBytes(acc[r][v]);
        if (kAdd) {
          low = S::AddShorts(low, S::LoadBytes(even + v * S::kBytes));
          high = S::AddShorts(high, S::LoadBytes(odd + v * S::kBytes));
        }
        S::StoreBytes(even + v * S::kBytes, low);
        S::StoreBytes(odd + v * S::kBytes, high);
      }
    }
  }
}

// Adds `count` rows, whose summands for one vector of either kind of positions lie at sums + places[r].
template <class S>
PQI_INLINE void AddSparseRows(const uint8_t* sums, const SparseRow* places, uint32_t count, typename S::Int* even, typename S::Int* odd) {
  PQI_UNROLL for (uint32_t r = 0; r < count; ++r) {
    *even = S::AddShorts(*even, S::LoadBytes(sums + places[r].even));
    *odd = S::AddShorts(*odd, S::LoadBytes(sums + places[r].odd));
  }
}

// The sums of eight channels from `channel` on over rows [first, first + count) of each, in 16 bits: t.shorts holds the even positions of
// the line for each channel, then the odd ones.
template <class S>
PQI_INLINE void SumSparseRows(const SparseOutput& t, size_t channel, uint32_t first, uint32_t count) {
  using Int = typename S::Int;
  const uint32_t passes = t.at_once ? 1 : t.rows;
  // A line of n positions has n bytes of even ones, and as many of odd ones.
  const size_t line = size_t{t.line_count} * S::kBytes, stride = SparseShortBytes(line), row = 2 * size_t{t.vectors} * S::kBytes;
  const uint8_t* sums = t.sums + channel * t.rows * row + size_t{t.line_vector} * S::kBytes;
  const uint16_t* fill = t.fill + channel * passes + first;
  uint8_t* out = t.shorts;
  for (size_t c = 0; c < kSparseFinished; ++c, sums += t.rows * row, fill += passes, out += stride) {
    const Int start = S::SetShort(-static_cast<int32_t>(*fill));
    for (size_t i = 0; i < line; i += S::kBytes) {
      Int even = start, odd = start;
      AddSparseRows<S>(sums + i, t.row + first, count, &even, &odd);
      S::StoreBytes(out + i, even);
      S::StoreBytes(out + kSparseFinished * stride + i, odd);
    }
  }
}

// t.shorts to eight channels of the tile from `channel` on, [positions][nr], which they begin at `start` or add to.
template <class S, bool kStart>
PQI_INLINE void SpreadShorts(const SparseOutput& t, const int32_t* start, size_t channel) {
  constexpr size_t kNumbers = 16, nr = S::kU8S8.nr;
  const size_t line = size_t{t.line_count} * S::kBytes, stride = SparseShortBytes(line);
  for (size_t i = 0; i * 2 < line; i += kNumbers) {
    int32_t* out = t.tile + 2 * i * nr + channel;
    S::template TransposeShorts<kStart>(t.shorts + i * 2, stride, start, out, 2 * nr);
    S::template TransposeShorts<kStart>(t.shorts + kSparseFinished * stride + i * 2, stride, start, out + nr, 2 * nr);
  }
}

// The line of one channel as codes, one behind the other, with the arithmetic of epilogue_registers.h. Positions stay side by side until
// they are bytes, so that only these are transposed. Of the four vectors of 32 bits that two vectors of shorts become, each holds every
// fourth position. kRows: t.rows where that is known and there is one pass, else 0.
template <class S, bool kSaturates, bool kResidual, uint32_t kRows>
PQI_INLINE void FinishSparsePlane(const SparseOutput& t, const OutputStage<S>& output, const DequantizeStage<S>& residual, size_t channel,
                                  const uint8_t* residual_plane, uint8_t* out) {
  using Int = typename S::Int;
  using Float = typename S::Float;
  const TileU8S8& e = t.epilogue;
  const uint32_t passes = kRows > 0 || t.at_once ? 1 : t.rows, count = kRows > 0 ? kRows : t.at_once ? t.rows : 1;
  const size_t line = size_t{t.line_count} * S::kBytes, row = 2 * size_t{t.vectors} * S::kBytes;
  const uint8_t* sums = t.sums + channel * t.rows * row + size_t{t.line_vector} * S::kBytes;
  const uint16_t* fill = t.fill + channel * passes;
  // Stores of bytes may change anything in memory, but not these.
  SparseRow known[kRows > 0 ? kRows : 1];
  PQI_UNROLL for (uint32_t r = 0; r < kRows; ++r) known[r] = t.row[r];
  const SparseRow* const places = kRows > 0 ? known : t.row;
  const Int init = S::SetInt(t.at_once ? 0 : e.init[channel]), zero_point = S::SetShort(e.output.zero_point);
  const Int top = S::SetBytes(static_cast<int8_t>(e.output.code_max));
  const Float scale = S::SetFloat(e.scale[channel]), bias = S::SetFloat(e.bias != nullptr ? e.bias[channel] : 0.0f);
  for (size_t i = 0; i < line; i += S::kBytes) {
    Int quads[4];
    for (uint32_t p = 0; p < passes; ++p) {
      Int even = S::SetShort(-static_cast<int32_t>(fill[p])), odd = even;
      AddSparseRows<S>(sums + i, places + p, count, &even, &odd);
      const Int parts[4] = {S::template ShiftRight<16>(S::template ShiftLeft<16>(even)),
                            S::template ShiftRight<16>(S::template ShiftLeft<16>(odd)), S::template ShiftRight<16>(even),
                            S::template ShiftRight<16>(odd)};
      PQI_UNROLL for (int q = 0; q < 4; ++q) quads[q] = kRows > 0 || t.at_once ? parts[q] : S::AddInt(p == 0 ? init : quads[q], parts[q]);
    }
    const Int codes = kResidual ? S::LoadBytes(residual_plane + i) : init;
    const auto finish = [&](Int sum, Int code) PQI_INLINE_LAMBDA {
      Float y = S::AddF(S::MulF(S::ToFloat(sum), scale), bias);
      if (kResidual) y = S::AddF(y, S::MulF(S::ToFloat(S::SubInt(code, residual.zero_point)), residual.scale));
      return kSaturates ? S::ToIntPlain(S::MulF(y, output.inv_scale)) : output.Rounded(y);
    };
    S::StoreBytes(out + i,
                  S::PackQuads(finish(quads[0], S::template QuadBytes<0>(codes)), finish(quads[1], S::template QuadBytes<1>(codes)),
                               finish(quads[2], S::template QuadBytes<2>(codes)), finish(quads[3], S::template QuadBytes<3>(codes)),
                               zero_point, top));
  }
}

// Planes of the line, `stride` bytes apart, to N channels of its pixels, of which `channels` exist.
template <class S, int N>
PQI_INLINE void StoreSparsePlanes(const SparseOutput& t, const uint8_t* planes, size_t stride, uint32_t channels, uint8_t* out) {
  constexpr uint32_t kStep = kSparseChannels;
  const size_t pixel = t.epilogue.out_stride;
  const uint8_t* rows[N];
  for (int c = 0; c < N; ++c) rows[c] = planes + static_cast<size_t>(c) * stride;
  for (uint32_t s = 0; s < t.segments; ++s) {
    for (uint32_t x = 0; x < t.width; x += kStep) {
      uint8_t* to = out + (s * t.segment_pixels + x) * pixel;
      const size_t at = size_t{s} * t.pitch + x;
      const uint32_t left = t.width - x;
      if (left >= kStep && channels == N) {
        S::template PlanesToPixels<N>(rows, at, to, pixel);
        continue;
      }
      uint8_t part[kStep][N];
      S::template PlanesToPixels<N>(rows, at, part[0], N);
      for (uint32_t i = 0; i < left && i < kStep; ++i) {
        if (channels == N) {
          std::memcpy(to + i * pixel, part[i], N);
        } else {
          std::memcpy(to + i * pixel, part[i], channels);
        }
      }
    }
  }
}

template <class S, bool kSaturates, bool kResidual>
PQI_INLINE void FinishSparseCodes(const SparseOutput& given) {
  const SparseOutput t = given;
  const TileU8S8& e = t.epilogue;
  const OutputStage<S> output(e.output, e.out);
  const DequantizeStage<S> residual(e.residual.zero_point, e.residual.scale);
  const size_t line = size_t{t.line_count} * S::kBytes, stride = SparseShortBytes(line);
  if (kResidual) {
    std::fill_n(t.pixels, line, e.residual.u8);  // positions that are no pixel read the first one
    for (uint32_t s = 0; s < t.segments; ++s) {
      for (uint32_t x = 0; x < t.width; ++x) t.pixels[s * t.pitch + x] = e.residual.u8 + (s * t.segment_pixels + x) * e.residual.stride;
    }
  }
  for (uint32_t first = 0; first < e.n; first += S::kTransposed) {
    const uint32_t channels = e.n - first < S::kTransposed ? e.n - first : S::kTransposed;
    if (kResidual) SparsePlanesKernel<S, false>({t.pixels, first, channels, static_cast<uint32_t>(line), t.residual, stride});
    const auto finish = [&](auto rows) PQI_INLINE_LAMBDA {
      for (uint32_t c = 0; c < channels; ++c) {
        FinishSparsePlane<S, kSaturates, kResidual, decltype(rows)::value>(t, output, residual, first + c, t.residual + c * stride,
                                                                           t.shorts + c * stride);
      }
    };
    if (t.at_once && t.rows == 1) {
      finish(std::integral_constant<uint32_t, 1>());
    } else if (t.at_once && t.rows == 3) {
      finish(std::integral_constant<uint32_t, 3>());
    } else {
      finish(std::integral_constant<uint32_t, 0>());
    }
    uint8_t* out = output.codes + first;
    if (channels > kSparseChannels) {
      StoreSparsePlanes<S, S::kTransposed>(t, t.shorts, stride, channels, out);
    } else {
      StoreSparsePlanes<S, kSparseChannels>(t, t.shorts, stride, channels, out);
    }
  }
}

// Any other output: nr channels at a time by way of sums of 32 bits.
template <class S>
PQI_INLINE void FinishSparseTiles(const SparseOutput& t) {
  constexpr uint32_t nr = S::kU8S8.nr;
  static_assert(nr % kSparseFinished == 0, "");
  TileU8S8 e = t.epilogue;
  const size_t element = e.output.f32 ? 4 : 1;
  const uint32_t pass = t.at_once ? t.rows : 1;
  for (uint32_t from = 0; from < t.epilogue.n; from += nr) {
    e.n = t.epilogue.n - from < nr ? t.epilogue.n - from : nr;
    for (uint32_t channel = 0; channel < e.n; channel += kSparseFinished) {
      for (uint32_t first = 0; first < t.rows; first += pass) {
        SumSparseRows<S>(t, from + channel, first, pass);
        if (first == 0 && !t.at_once) {
          SpreadShorts<S, true>(t, t.epilogue.init + from + channel, channel);
        } else if (first == 0) {
          constexpr int32_t kZeros[kSparseFinished] = {};
          SpreadShorts<S, true>(t, kZeros, channel);
        } else {
          SpreadShorts<S, false>(t, nullptr, channel);
        }
      }
    }
    e.scale = t.epilogue.scale + from;
    if (e.bias != nullptr) e.bias = t.epilogue.bias + from;
    for (uint32_t s = 0; s < t.segments; ++s) {
      const size_t pixel = s * t.segment_pixels, residual = pixel * e.residual.stride + from;
      e.out = static_cast<uint8_t*>(t.epilogue.out) + (pixel * e.out_stride + from) * element;
      if (e.residual.u8 != nullptr) e.residual.u8 = t.epilogue.residual.u8 + residual;
      if (e.residual.f32 != nullptr) e.residual.f32 = t.epilogue.residual.f32 + residual;
      FinishTile<S>(e, t.tile + size_t{s} * t.pitch * nr, t.width, nr);
    }
  }
}

template <class S>
void SparseOutputKernel(const SparseOutput& t) noexcept {
  const TileU8S8& e = t.epilogue;
  if (e.step != 1 || e.output.f32 || e.residual.f32 != nullptr) return FinishSparseTiles<S>(t);
  ForEpilogueOf(
      e, [&](auto saturates, auto adds) PQI_INLINE_LAMBDA { FinishSparseCodes<S, decltype(saturates)::value, decltype(adds)::value>(t); });
}

template <class S, int V, bool kWide>
constexpr void FillSparseVectors(SparseKernels& k) {
  if constexpr (V > 0) {
    k.store[V - 1] = &SparseSumsKernel<S, V, kWide, false>;
    k.add[V - 1] = &SparseSumsKernel<S, V, kWide, true>;
    FillSparseVectors<S, V - 1, kWide>(k);
  }
}

template <class S>
constexpr void FillSparse(KernelSet& set) {
  if constexpr (HasSparse<S>::value) {
    static_assert(S::kSparseVectors <= kMaxSparseVectors && S::kSparseWideVectors <= kMaxSparseVectors, "");
    set.sparse_positions = S::kBytes;
    set.sparse_bytes.vectors = S::kSparseVectors;
    set.sparse_bytes.planes = &SparsePlanesKernel<S, false>;
    FillSparseVectors<S, S::kSparseVectors, false>(set.sparse_bytes);
    set.sparse_wide.vectors = S::kSparseWideVectors;
    set.sparse_wide.planes = &SparsePlanesKernel<S, true>;
    FillSparseVectors<S, S::kSparseWideVectors, true>(set.sparse_wide);
    set.sparse_output = &SparseOutputKernel<S>;
  }
}

}  // namespace
}  // namespace pqi::kernels
