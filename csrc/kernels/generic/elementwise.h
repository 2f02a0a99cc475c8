// Elementwise kernels over an ISA's primitives.
#pragma once

#include <cstring>
#include <type_traits>

#include "kernels/contract/elementwise.h"
#include "kernels/contract/output.h"
#include "kernels/generic/compiler.h"
#include "kernels/generic/epilogue.h"

namespace pqi::kernels {
namespace {

// Calls fn(i, lanes) for whole vectors, then for what remains of n.
template <class S, class Fn>
PQI_INLINE void ForEachVector(size_t n, Fn&& fn) {
  size_t i = 0;
  for (; i + S::kLanes <= n; i += S::kLanes) fn(i, typename S::All());
  if (i < n) fn(i, S::First(n - i));
}

// An output that only quantizes, whatever activation the fields name.
PQI_INLINE Output PlainCodes(const Output& q) {
  Output o = q;
  o.act_lo = -__builtin_inff();
  o.act_hi = __builtin_inff();
  o.f32 = false;
  return o;
}

template <class S>
void QuantizeKernel(const float* x, uint8_t* y, size_t n, const Output& q) noexcept {
  const OutputStage<S> output(PlainCodes(q), y);
  ForEachVector<S>(n, [&](size_t i, auto lanes) { S::StoreU8(y + i, output.Quantize(S::LoadFloat(x + i, lanes)), lanes); });
}

// Several chains are exact, because minima and maxima do not depend on the order. They start at +0 and keep it against -0 and NaN.
template <class S>
void RangeKernel(const float* x, size_t n, float* lo, float* hi) noexcept {
  constexpr size_t kChains = 4;
  typename S::Float low[kChains], high[kChains];
  for (size_t c = 0; c < kChains; ++c) low[c] = high[c] = S::SetFloat(0);
  const auto take = [&](size_t i, size_t c, auto lanes) PQI_INLINE_LAMBDA {
    const typename S::Float v = S::LoadFloat(x + i, lanes);  // lanes beyond the end read as 0
    low[c] = S::MinF(v, low[c]);
    high[c] = S::MaxF(v, high[c]);
  };
  size_t i = 0;
  for (; i + kChains * S::kLanes <= n; i += kChains * S::kLanes) {
    PQI_UNROLL for (size_t c = 0; c < kChains; ++c) take(i + c * S::kLanes, c, typename S::All());
  }
  for (; i + S::kLanes <= n; i += S::kLanes) take(i, 0, typename S::All());
  if (i < n) take(i, 0, S::First(n - i));
  float lows[S::kLanes], highs[S::kLanes];
  S::StoreFloat(lows, S::MinF(S::MinF(low[0], low[1]), S::MinF(low[2], low[3])));
  S::StoreFloat(highs, S::MaxF(S::MaxF(high[0], high[1]), S::MaxF(high[2], high[3])));
  *lo = *hi = 0;
  for (int lane = 0; lane < S::kLanes; ++lane) {
    *lo = lows[lane] < *lo ? lows[lane] : *lo;
    *hi = highs[lane] > *hi ? highs[lane] : *hi;
  }
}

// Planes are quantized a run at a time into buffers that stay in L1, and then put together pixel by pixel: three planes, an image's usual
// number, by byte permutes, others by single bytes.
constexpr size_t kPlaneRun = 128;

template <class S>
PQI_INLINE void QuantizeRun(const OutputStage<S>& output, const float* plane, size_t count, uint8_t* codes) {
  ForEachVector<S>(count, [&](size_t i, auto lanes) { S::StoreU8(codes + i, output.Quantize(S::LoadFloat(plane + i, lanes)), lanes); });
}

template <class S>
void QuantizeThreePlanes(const float* x, size_t plane_stride, size_t pixels, uint8_t* y, const OutputStage<S>& output) {
  alignas(64) uint8_t codes[3][kPlaneRun];
  for (size_t first = 0; first < pixels; first += kPlaneRun) {
    const size_t count = pixels - first < kPlaneRun ? pixels - first : kPlaneRun;
    for (size_t c = 0; c < 3; ++c) QuantizeRun<S>(output, x + c * plane_stride + first, count, codes[c]);
    uint8_t* pixel = y + first * 3;
    size_t i = 0;
    for (; i + 16 <= count; i += 16) S::Interleave3(codes[0] + i, codes[1] + i, codes[2] + i, pixel + i * 3);
    for (; i < count; ++i) {
      for (size_t c = 0; c < 3; ++c) pixel[i * 3 + c] = codes[c][i];
    }
  }
}

template <class S>
void QuantizeToNhwcKernel(const float* x, size_t plane_stride, size_t channels, size_t pixels, uint8_t* y, const Output& q) noexcept {
  alignas(64) uint8_t codes[kPlaneRun];
  const OutputStage<S> output(PlainCodes(q), codes);
  if (channels == 3) return QuantizeThreePlanes<S>(x, plane_stride, pixels, y, output);
  for (size_t first = 0; first < pixels; first += kPlaneRun) {
    const size_t count = pixels - first < kPlaneRun ? pixels - first : kPlaneRun;
    for (size_t c = 0; c < channels; ++c) {
      QuantizeRun<S>(output, x + c * plane_stride + first, count, codes);
      uint8_t* pixel = y + first * channels + c;
      for (size_t i = 0; i < count; ++i) pixel[i * channels] = codes[i];
    }
  }
}

template <class S>
void DequantizeKernel(const uint8_t* x, float* y, size_t n, const Affine& p) noexcept {
  const DequantizeStage<S> stage(p.zero_point, p.scale);
  ForEachVector<S>(n, [&](size_t i, auto lanes) { S::StoreFloat(y + i, stage.Get(x + i, lanes), lanes); });
}

template <class S>
void AddU8Kernel(const uint8_t* a, const Affine& pa, const uint8_t* b, const Affine& pb, size_t n, const Output& o, void* y) noexcept {
  const DequantizeStage<S> stage_a(pa.zero_point, pa.scale), stage_b(pb.zero_point, pb.scale);
  const OutputStage<S> output(o, y);
  ForEachVector<S>(n, [&](size_t i, auto lanes) { output.Put(S::AddF(stage_a.Get(a + i, lanes), stage_b.Get(b + i, lanes)), i, lanes); });
}

template <class S>
void AddF32Kernel(const float* a, const float* b, size_t n, const Output& o, void* y) noexcept {
  const OutputStage<S> output(o, y);
  ForEachVector<S>(n, [&](size_t i, auto lanes) { output.Put(S::AddF(S::LoadFloat(a + i, lanes), S::LoadFloat(b + i, lanes)), i, lanes); });
}

template <class S>
void PreluKernel(const float* x, float* y, size_t rows, size_t channels, const float* slope) noexcept {
  for (size_t r = 0; r < rows; ++r, x += channels, y += channels) {
    ForEachVector<S>(channels, [&](size_t c, auto lanes) {
      const typename S::Float v = S::LoadFloat(x + c, lanes);
      S::StoreFloat(y + c, S::SelectGreater(v, S::SetFloat(0), v, S::MulF(v, S::LoadFloat(slope + c, lanes))), lanes);
    });
  }
}

template <class S>
void AffineKernel(const float* x, float* y, size_t rows, size_t channels, const float* scale, const float* shift) noexcept {
  for (size_t r = 0; r < rows; ++r, x += channels, y += channels) {
    ForEachVector<S>(channels, [&](size_t c, auto lanes) {
      S::StoreFloat(y + c, S::Fma(S::LoadFloat(x + c, lanes), S::LoadFloat(scale + c, lanes), S::LoadFloat(shift + c, lanes)), lanes);
    });
  }
}

template <class S>
void ClampKernel(const float* x, float* y, size_t n, float lo, float hi) noexcept {
  const typename S::Float low = S::SetFloat(lo), high = S::SetFloat(hi);
  ForEachVector<S>(n, [&](size_t i, auto lanes) { S::StoreFloat(y + i, S::MinF(high, S::MaxF(low, S::LoadFloat(x + i, lanes))), lanes); });
}

PQI_INLINE void TableBytes(const uint8_t* x, uint8_t* y, size_t n, const uint8_t* table256) {
  for (size_t i = 0; i < n; ++i) y[i] = table256[x[i]];
}

template <class S>
void TableKernel(const uint8_t* x, uint8_t* y, size_t n, const uint8_t* table256) noexcept {
  size_t at = 0;
  if constexpr (!std::is_void_v<typename S::ByteTable>) {
    if (n < S::kBytes / 2) return TableBytes(x, y, n, table256);  // to fill the registers would take longer
    const typename S::ByteTable table(table256);
    for (; at + S::kBytes <= n; at += S::kBytes) table.LookUp(x + at, y + at);
    if (const size_t left = n - at; left >= S::kBytes / 4) {
      uint8_t part[S::kBytes] = {};
      std::memcpy(part, x + at, left);
      table.LookUp(part, part);
      std::memcpy(y + at, part, left);
      at = n;
    }
  }
  TableBytes(x + at, y + at, n - at, table256);
}

// The largest of 16 bytes at `at` in all operands.
PQI_INLINE void Max16(const uint8_t* const* x, size_t count, size_t at, uint8_t* y) {
  typedef uint8_t Bytes __attribute__((vector_size(16)));
  Bytes most, other;
  __builtin_memcpy(&most, x[0] + at, 16);
  for (size_t i = 1; i < count; ++i) {
    __builtin_memcpy(&other, x[i] + at, 16);
    most = most > other ? most : other;
  }
  __builtin_memcpy(y, &most, 16);
}

// The largest codes of all rows. Count is size_t, or a constant that unrolls the loops over the operands.
template <class S, class Count>
PQI_INLINE void MaxRows(const MaxU8& m, const uint8_t* const* x, Count count) {
  const size_t n = m.n;
  for (size_t r = 0; r < m.rows; ++r) {
    const size_t row = r * m.x_step;
    uint8_t* y = m.y + r * n;
    size_t at = 0;
    for (; at + S::kBytes <= n; at += S::kBytes) S::MaxBytes(x, count, row + at, y + at);
    if (at == n) continue;
    if (n >= S::kBytes) {
      S::MaxBytes(x, count, row + n - S::kBytes, y + n - S::kBytes);  // the last vector overlaps the one before
      continue;
    }
    for (; at + 16 <= n; at += 16) Max16(x, count, row + at, y + at);
    if (at == n) continue;
    if (n >= 16) {
      Max16(x, count, row + n - 16, y + n - 16);
      continue;
    }
    for (; at < n; ++at) {
      uint8_t most = x[0][row + at];
      for (size_t i = 1; i < count; ++i) most = x[i][row + at] > most ? x[i][row + at] : most;
      y[at] = most;
    }
  }
}

// Windows of 2 and 3 pixels are by far the most frequent.
template <class S>
void MaxU8Kernel(const MaxU8& m) noexcept {
  if (m.count == 2) {
    const uint8_t* const x[] = {m.x[0], m.x[1]};
    return MaxRows<S>(m, x, std::integral_constant<size_t, 2>());
  }
  if (m.count == 3) {
    const uint8_t* const x[] = {m.x[0], m.x[1], m.x[2]};
    return MaxRows<S>(m, x, std::integral_constant<size_t, 3>());
  }
  MaxRows<S>(m, m.x, m.count);
}

// Four vectors of channels at a time stay in registers over all positions.
template <class S>
void SumU8Kernel(const uint8_t* x, size_t stride, size_t count, int32_t* acc, size_t n) noexcept {
  constexpr size_t kVectors = 4;
  size_t c = 0;
  for (; c + kVectors * S::kLanes <= n; c += kVectors * S::kLanes) {
    typename S::Int sums[kVectors];
    PQI_UNROLL for (size_t v = 0; v < kVectors; ++v) sums[v] = S::LoadInt(acc + c + v * S::kLanes);
    for (size_t i = 0; i < count; ++i) {
      const uint8_t* at = x + i * stride + c;
      PQI_UNROLL for (size_t v = 0; v < kVectors; ++v) sums[v] = S::AddInt(sums[v], S::LoadU8(at + v * S::kLanes, typename S::All()));
    }
    PQI_UNROLL for (size_t v = 0; v < kVectors; ++v) S::StoreInt(acc + c + v * S::kLanes, sums[v]);
  }
  ForEachVector<S>(n - c, [&](size_t j, auto lanes) {
    typename S::Int sum = S::LoadInt(acc + c + j, lanes);
    for (size_t i = 0; i < count; ++i) sum = S::AddInt(sum, S::LoadU8(x + i * stride + c + j, lanes));
    S::StoreInt(acc + c + j, sum, lanes);
  });
}

template <class S>
void SumLanesKernel(const float* x, size_t stride, size_t count, size_t first, float* lanes16, size_t n) noexcept {
  for (size_t i = 0; i < count; ++i) {
    float* acc = lanes16 + (first + i) % 16 * n;
    const float* from = x + i * stride;
    ForEachVector<S>(n, [&](size_t c, auto lanes) {
      S::StoreFloat(acc + c, S::AddF(S::LoadFloat(acc + c, lanes), S::LoadFloat(from + c, lanes)), lanes);
    });
  }
}

}  // namespace
}  // namespace pqi::kernels
