// Softmax and normalization over an ISA's primitives: docs/numerics.md section "Softmax and normalization".
#pragma once

#include "kernels/contract/elementwise.h"
#include "kernels/contract/output.h"
#include "kernels/generic/compiler.h"
#include "kernels/generic/elementwise.h"
#include "kernels/generic/functions.h"
#include "kernels/reference/functions.h"

namespace pqi::kernels {
namespace {

// The 16 lanes of sum16 (docs/numerics.md) in vectors. A masked load gives zeros, which change no lane, because one that starts at +0 never
// becomes -0.
template <class S>
struct Lanes16 {
  static constexpr size_t kVectors = 16 / S::kLanes;
  typename S::Float lane[kVectors];

  PQI_INLINE Lanes16() { PQI_UNROLL for (size_t v = 0; v < kVectors; ++v) lane[v] = S::SetFloat(0); }
  // Adds element(i, lanes) for i in [0, n) in order, the first to lane 0. `element` gives 0 in the lanes that it is not asked for.
  template <class Element>
  PQI_INLINE void Add(size_t n, Element&& element) {
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
      PQI_UNROLL for (size_t v = 0; v < kVectors; ++v) { lane[v] = S::AddF(lane[v], element(i + v * S::kLanes, typename S::All())); }
    }
    for (size_t v = 0; i < n; ++v, i += S::kLanes) {
      lane[v] = S::AddF(lane[v], i + S::kLanes <= n ? element(i, typename S::All()) : element(i, S::First(n - i)));
    }
  }
  PQI_INLINE float Sum() const {
    float sums[16];
    PQI_UNROLL for (size_t v = 0; v < kVectors; ++v) S::StoreFloat(sums + v * S::kLanes, lane[v]);
    for (int half = 8; half >= 1; half /= 2) {
      for (int j = 0; j < half; ++j) sums[j] += sums[j + half];
    }
    return sums[0];
  }
};

// The largest of n floats, -inf for none.
template <class S>
PQI_INLINE float LargestOf(const float* x, size_t n) {
  typename S::Float best = S::SetFloat(-__builtin_inff());
  size_t i = 0;
  // MaxF(a, b) is a > b ? a : b, so a NaN in x is skipped.
  for (; i + S::kLanes <= n; i += S::kLanes) best = S::MaxF(S::LoadFloat(x + i), best);
  float lanes[S::kLanes], largest = -__builtin_inff();
  S::StoreFloat(lanes, best);
  for (float v : lanes) largest = v > largest ? v : largest;
  for (; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
  return largest;
}

template <class S>
void SoftmaxKernel(const float* x, size_t n, bool log, const Output& o, float* e, void* y) noexcept {
  using F = Functions<S>;
  const OutputStage<S> output(o, y);
  const typename S::Float largest = S::SetFloat(LargestOf<S>(x, n));
  // What a masked load leaves in the other lanes would give e^(0 - largest): they are stored and loaded again as zeros.
  ForEachVector<S>(n, [&](size_t i, auto lanes) { S::StoreFloat(e + i, F::Exp(S::SubF(S::LoadFloat(x + i, lanes), largest)), lanes); });
  Lanes16<S> sum;
  sum.Add(n, [&](size_t i, auto lanes) { return S::LoadFloat(e + i, lanes); });
  if (log) {
    const typename S::Float d = S::SetFloat(reference::Log(sum.Sum()));
    ForEachVector<S>(n, [&](size_t i, auto lanes) { output.Put(S::SubF(S::SubF(S::LoadFloat(x + i, lanes), largest), d), i, lanes); });
    return;
  }
  const typename S::Float d = S::SetFloat(sum.Sum());
  ForEachVector<S>(n, [&](size_t i, auto lanes) { output.Put(S::DivF(S::LoadFloat(e + i, lanes), d), i, lanes); });
}

// sum16 over a group of x - mean, or of its square.
template <class S, bool kSquare>
PQI_INLINE float GroupSum(const NormalizeGroup& g, float mean) {
  const typename S::Float m = S::SetFloat(mean);
  if (g.pieces > 1 && g.length % 16 != 0) {  // runs would begin in the middle of the lanes
    float lane[16] = {};
    size_t at = 0;
    for (size_t p = 0; p < g.pieces; ++p) {
      for (size_t i = 0; i < g.length; ++i, ++at) {
        const float v = g.x[p * g.stride + i] - mean;
        lane[at % 16] += kSquare ? v * v : v;
      }
    }
    for (int half = 8; half >= 1; half /= 2) {
      for (int j = 0; j < half; ++j) lane[j] += lane[j + half];
    }
    return lane[0];
  }
  Lanes16<S> sum;
  for (size_t p = 0; p < g.pieces; ++p) {
    const float* x = g.x + p * g.stride;
    sum.Add(g.length / 16 * 16, [&](size_t i, auto lanes) {
      const typename S::Float v = S::SubF(S::LoadFloat(x + i, lanes), m);
      return kSquare ? S::MulF(v, v) : v;
    });
    const size_t whole = g.length / 16 * 16;
    if (whole == g.length) continue;
    // The last elements go over memory, so that lanes beyond the row add 0 and not (0 - mean)^2.
    float last[16] = {};
    for (size_t i = whole; i < g.length; ++i) {
      const float v = x[i] - mean;
      last[i - whole] = kSquare ? v * v : v;
    }
    sum.Add(16, [&](size_t i, auto lanes) { return S::LoadFloat(last + i, lanes); });
  }
  return sum.Sum();
}

template <class S>
void NormalizeKernel(const NormalizeGroup& g, const Output& o, void* y) noexcept {
  const float n = static_cast<float>(g.pieces * g.length);
  const float mean = g.center ? GroupSum<S, false>(g, 0.0f) / n : 0.0f;
  const float r = 1.0f / __builtin_sqrtf(GroupSum<S, true>(g, mean) / n + g.eps);
  const OutputStage<S> output(o, y);
  const typename S::Float m = S::SetFloat(mean), factor = S::SetFloat(r);
  for (size_t p = 0; p < g.pieces; ++p) {
    const size_t first = p * g.stride;
    ForEachVector<S>(g.length, [&](size_t i, auto lanes) {
      typename S::Float v = S::MulF(S::SubF(S::LoadFloat(g.x + first + i, lanes), m), factor);
      if (g.weight != nullptr) v = S::MulF(v, S::LoadFloat(g.weight + i, lanes));
      if (g.bias != nullptr) v = S::AddF(v, S::LoadFloat(g.bias + i, lanes));
      output.Put(v, first + i, lanes);
    });
  }
}

}  // namespace
}  // namespace pqi::kernels
