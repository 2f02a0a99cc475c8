#include "kernels/reference/linear_dynamic.h"

#include <algorithm>
#include <limits>

#include "kernels/reference/quantize.h"

namespace pqi::kernels::reference {

void Range(const float* x, size_t n, float* lo, float* hi) noexcept {
  *lo = *hi = 0;
  for (size_t i = 0; i < n; ++i) {
    *lo = x[i] < *lo ? x[i] : *lo;
    *hi = x[i] > *hi ? x[i] : *hi;
  }
}

Affine RowParameters(const RowQuantizer& quantizer, float lo, float hi) {
  const float steps = static_cast<float>(quantizer.qmax - quantizer.qmin);
  Affine row;
  row.scale = quantizer.symmetric ? std::max(-lo, hi) / (steps / 2) : (hi - lo) / steps;
  row.scale = std::min(std::max(row.scale, quantizer.eps), std::numeric_limits<float>::max());
  if (quantizer.symmetric) {
    row.zero_point = (quantizer.qmin + quantizer.qmax + 1) / 2;
  } else {
    row.zero_point = quantizer.qmin - RoundToNearestEven(std::max(lo / row.scale, -steps));
  }
  return row;
}

Output RowCodes(const RowQuantizer& quantizer, const Affine& row) {
  Output o;
  o.act_lo = -std::numeric_limits<float>::infinity();
  o.act_hi = std::numeric_limits<float>::infinity();
  o.inv_scale = InverseScale(row.scale);
  o.v_lo = static_cast<float>(quantizer.qmin - row.zero_point);
  o.v_hi = static_cast<float>(quantizer.qmax - row.zero_point);
  o.zero_point = row.zero_point;
  return o;
}

void LinearDynamicRow(const DynamicLinear& layer, const uint8_t* q, const Affine& row, const Output& output, void* y, size_t at) noexcept {
  const int64_t k = layer.inputs / layer.groups;
  for (int64_t o = 0; o < layer.outputs; ++o) {
    float t = 0;
    for (int64_t g = 0; g < layer.groups; ++g) {
      const int8_t* code = layer.codes + o * layer.inputs + g * k;
      int32_t sum = 0;
      uint32_t box = 0;  // may wrap where there is no base to multiply it by
      for (int64_t i = 0; i < k; ++i) {
        sum += (q[g * k + i] - row.zero_point) * code[i];
        box += static_cast<uint32_t>(q[g * k + i] - row.zero_point);
      }
      int32_t acc = layer.step * sum;
      if (layer.base != nullptr) acc += static_cast<int32_t>(static_cast<uint32_t>(layer.base[o * layer.groups + g]) * box);
      const float s_w = layer.scale[o * layer.groups + g];
      if (layer.groups == 1) {
        t = static_cast<float>(acc) * row.scale * s_w;
      } else {
        const float term = static_cast<float>(acc) * s_w;
        t = g == 0 ? term : t + term;
      }
    }
    if (layer.groups > 1) t = t * row.scale;
    if (layer.bias != nullptr) t = t + layer.bias[o];
    Store(t, output, y, at + static_cast<size_t>(o));
  }
}

}  // namespace pqi::kernels::reference
