#include "kernels/reference/quantize.h"

#include <cmath>

namespace pqi::kernels::reference {

float InverseScale(float scale) { return static_cast<float>(1.0 / static_cast<double>(scale)); }

int32_t RoundToNearestEven(float v) { return static_cast<int32_t>(std::lrint(v)); }

uint8_t QuantizeValue(float x, const Output& q) {
  if (std::isnan(x)) return static_cast<uint8_t>(q.zero_point);
  float v = x * q.inv_scale;
  v = v > q.v_lo ? v : q.v_lo;
  v = v < q.v_hi ? v : q.v_hi;
  return static_cast<uint8_t>(RoundToNearestEven(v) + q.zero_point);
}

float DequantizeValue(uint8_t q, const Affine& p) { return static_cast<float>(q - p.zero_point) * p.scale; }

float Activate(float x, float lo, float hi) {
  const float t = x < lo ? lo : x;
  return t > hi ? hi : t;
}

void Store(float x, const Output& o, void* y, size_t i) {
  const float a = Activate(x, o.act_lo, o.act_hi);
  if (o.f32) {
    static_cast<float*>(y)[i] = a;
  } else {
    static_cast<uint8_t*>(y)[i] = QuantizeValue(a, o);
  }
}

void Quantize(const float* x, uint8_t* y, size_t n, const Output& q) noexcept {
  for (size_t i = 0; i < n; ++i) y[i] = QuantizeValue(x[i], q);
}

void QuantizeToNhwc(const float* x, size_t plane_stride, size_t channels, size_t pixels, uint8_t* y, const Output& q) noexcept {
  for (size_t p = 0; p < pixels; ++p) {
    for (size_t c = 0; c < channels; ++c) y[p * channels + c] = QuantizeValue(x[c * plane_stride + p], q);
  }
}

void Dequantize(const uint8_t* x, float* y, size_t n, const Affine& p) noexcept {
  for (size_t i = 0; i < n; ++i) y[i] = DequantizeValue(x[i], p);
}

}  // namespace pqi::kernels::reference
