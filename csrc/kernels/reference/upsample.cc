#include "kernels/reference/upsample.h"

#include <algorithm>
#include <cmath>

namespace pqi::kernels::reference {

float UpsampleStep(int64_t length, int64_t out, float given, bool align_corners) {
  if (align_corners) return out > 1 ? static_cast<float>(length - 1) / static_cast<float>(out - 1) : 0.0f;
  return given > 0 ? given : static_cast<float>(length) / static_cast<float>(out);
}

int64_t NearestSource(int64_t i, float step, int64_t length) {
  // The comparison is one of floats, because a product beyond int64 must not be converted.
  const float at = std::floor(static_cast<float>(i) * step);
  return at < static_cast<float>(length - 1) ? static_cast<int64_t>(at) : length - 1;
}

LinearTap LinearSource(int64_t i, float step, int64_t length, bool align_corners) {
  float at = align_corners ? step * static_cast<float>(i) : step * (static_cast<float>(i) + 0.5f) - 0.5f;
  at = at < 0 ? 0.0f : at;
  LinearTap tap;
  tap.first = at < static_cast<float>(length - 1) ? static_cast<int64_t>(at) : length - 1;
  tap.second = std::min(tap.first + 1, length - 1);
  tap.w1 = std::min(at - static_cast<float>(tap.first), 1.0f);
  tap.w1 = tap.w1 < 0 ? 0.0f : tap.w1;
  tap.w0 = 1.0f - tap.w1;
  return tap;
}

void Bilinear(const float* a, const float* b, const float* c, const float* d, const LinearTap& rows, const LinearTap& columns, size_t n,
              float* y) noexcept {
  for (size_t i = 0; i < n; ++i) {
    const float above = columns.w0 * a[i] + columns.w1 * b[i];
    const float below = columns.w0 * c[i] + columns.w1 * d[i];
    y[i] = rows.w0 * above + rows.w1 * below;
  }
}

}  // namespace pqi::kernels::reference
