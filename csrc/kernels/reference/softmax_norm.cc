#include "kernels/reference/softmax_norm.h"

#include <cmath>
#include <limits>

#include "kernels/reference/functions.h"
#include "kernels/reference/quantize.h"

namespace pqi::kernels::reference {

void Softmax(const float* x, size_t n, bool log, const Output& o, float* e, void* y) noexcept {
  // A NaN is skipped here and reaches every result through the sum.
  float largest = -std::numeric_limits<float>::infinity();
  for (size_t i = 0; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
  if (log) {
    const float d = Log(Sum16(n, [&](size_t i) { return Exp(x[i] - largest); }));
    for (size_t i = 0; i < n; ++i) Store((x[i] - largest) - d, o, y, i);
    return;
  }
  for (size_t i = 0; i < n; ++i) e[i] = Exp(x[i] - largest);
  const float d = Sum16(n, [&](size_t i) { return e[i]; });
  for (size_t i = 0; i < n; ++i) Store(e[i] / d, o, y, i);
}

void Normalize(const NormalizeGroup& g, const Output& o, void* y) noexcept {
  const size_t n = g.pieces * g.length;
  const auto at = [&](size_t i) { return i / g.length * g.stride + i % g.length; };
  const float mean = g.center ? Sum16(n, [&](size_t i) { return g.x[at(i)]; }) / static_cast<float>(n) : 0.0f;
  const auto square = [&](size_t i) {
    const float d = g.x[at(i)] - mean;
    return d * d;
  };
  const float variance = Sum16(n, square) / static_cast<float>(n);
  const float r = 1.0f / std::sqrt(variance + g.eps);
  for (size_t i = 0; i < n; ++i) {
    float v = (g.x[at(i)] - mean) * r;
    if (g.weight != nullptr) v = v * g.weight[i % g.length];
    if (g.bias != nullptr) v = v + g.bias[i % g.length];
    Store(v, o, y, at(i));
  }
}

}  // namespace pqi::kernels::reference
