#include "pack/weights.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace pqi::pack {

AlignedBuffer<int32_t> StartValues(const kernels::ConvShape& s, const WeightsU8& w, int32_t offset) {
  AlignedBuffer<int32_t> start(static_cast<size_t>(s.oc));
  const int64_t per_channel = s.taps() * s.group_inputs();
  for (int64_t c = 0; c < s.oc; ++c) {
    uint32_t sum = 0;
    for (int64_t i = 0; i < per_channel; ++i) sum += static_cast<uint32_t>(w.codes[c * per_channel + i]);
    start[static_cast<size_t>(c)] = static_cast<int32_t>(static_cast<uint32_t>(offset - w.zero_point) * sum);
  }
  return start;
}

double LargestResult(const kernels::ConvShape& s, const WeightsU8& w) {
  const int64_t per_channel = s.taps() * s.group_inputs();
  const double reach = std::max(w.zero_point, 255 - w.zero_point);  // the largest |q_a - z_a|
  double largest = 0;
  for (int64_t c = 0; c < s.oc; ++c) {
    int64_t sum = 0;
    for (int64_t i = 0; i < per_channel; ++i) sum += std::abs(w.codes[c * per_channel + i]);
    double sums = static_cast<double>(w.step) * static_cast<double>(sum);
    if (w.base != nullptr) sums += std::abs(static_cast<double>(w.base[c])) * static_cast<double>(per_channel);
    double y = sums * reach * std::abs(static_cast<double>(w.scale[c]));
    if (w.bias != nullptr) y += std::abs(static_cast<double>(w.bias[c]));
    if (!std::isfinite(y)) return std::numeric_limits<double>::infinity();
    largest = std::max(largest, y);
  }
  return largest;
}

}  // namespace pqi::pack
