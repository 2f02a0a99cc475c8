#include "kernels/reference/conv.h"

#include <cmath>

#include "kernels/reference/quantize.h"

namespace pqi::kernels::reference {
namespace {

// Where an output pixel's window lies in the image.
struct Window {
  int64_t image, y0, x0;  // the image and the position of tap (0, 0), which may lie in the padding
};

Window WindowOf(const ConvShape& s, int64_t row) {
  const int64_t ow = s.out_w(), oh = s.out_h();
  const int64_t x = row % ow, y = row / ow % oh;
  return {row / ow / oh, y * s.stride_h - s.pad_top, x * s.stride_w - s.pad_left};
}

// Calls fn(tap, first channel of the pixel under it) for each tap inside the image, in ascending order.
template <typename T, typename Fn>
void ForEachTapInside(const ConvShape& s, const T* x, const Window& window, Fn&& fn) {
  for (int64_t kh = 0; kh < s.kh; ++kh) {
    const int64_t ih = window.y0 + kh * s.dilation_h;
    if (ih < 0 || ih >= s.h) continue;
    for (int64_t kw = 0; kw < s.kw; ++kw) {
      const int64_t iw = window.x0 + kw * s.dilation_w;
      if (iw < 0 || iw >= s.w) continue;
      fn(kh * s.kw + kw, x + ((window.image * s.h + ih) * s.w + iw) * s.c);
    }
  }
}

struct Sums {
  int32_t code = 0;  // sum((q_a - z_a) * code)
  int32_t box = 0;   // sum(q_a - z_a)
};

Sums Accumulate(const ConvU8& conv, const Window& window, int64_t oc) {
  const ConvShape& s = conv.shape;
  const int64_t k = s.group_inputs(), first = oc / s.group_outputs() * k;
  const int8_t* codes = conv.codes + oc * s.taps() * k;
  const int32_t z = conv.zero_point;
  Sums sums;
  ForEachTapInside(s, conv.x, window, [&](int64_t tap, const uint8_t* pixel) {
    const uint8_t* q = pixel + first;
    const int8_t* code = codes + tap * k;
    int32_t sum = 0;
    for (int64_t i = 0; i < k; ++i) sum += (q[i] - z) * code[i];
    sums.code += sum;
    if (conv.base != nullptr) {
      for (int64_t i = 0; i < k; ++i) sums.box += q[i] - z;
    }
  });
  return sums;
}

float ResidualValue(const Residual& r, int64_t row, int64_t oc) {
  const size_t i = static_cast<size_t>(row) * r.stride + static_cast<size_t>(oc);
  return r.f32 != nullptr ? r.f32[i] : DequantizeValue(r.u8[i], {r.zero_point, r.scale});
}

bool HasResidual(const Residual& r) { return r.u8 != nullptr || r.f32 != nullptr; }

}  // namespace

void Conv2dU8(const ConvU8& conv, int64_t row_begin, int64_t row_end) noexcept {
  const ConvShape& s = conv.shape;
  for (int64_t row = row_begin; row < row_end; ++row) {
    const Window window = WindowOf(s, row);
    for (int64_t oc = 0; oc < s.oc; ++oc) {
      const Sums sums = Accumulate(conv, window, oc);
      int32_t acc = conv.step * sums.code;
      if (conv.base != nullptr) acc += conv.base[oc] * sums.box;
      float y = static_cast<float>(acc) * conv.scale[oc];
      if (conv.bias != nullptr) y = y + conv.bias[oc];
      if (HasResidual(conv.residual)) y = y + ResidualValue(conv.residual, row, oc);
      Store(y, conv.output, conv.y, static_cast<size_t>(row) * conv.y_stride + static_cast<size_t>(oc));
    }
  }
}

void Conv2dF32(const ConvF32& conv, int64_t row_begin, int64_t row_end) noexcept {
  const ConvShape& s = conv.shape;
  const int64_t k = s.group_inputs();
  for (int64_t row = row_begin; row < row_end; ++row) {
    const Window window = WindowOf(s, row);
    for (int64_t oc = 0; oc < s.oc; ++oc) {
      const int64_t first = oc / s.group_outputs() * k;
      const float* weights = conv.weights + oc * s.taps() * k;
      float t = 0;
      for (int64_t kh = 0; kh < s.kh; ++kh) {
        for (int64_t kw = 0; kw < s.kw; ++kw) {
          const int64_t ih = window.y0 + kh * s.dilation_h, iw = window.x0 + kw * s.dilation_w;
          const bool inside = ih >= 0 && ih < s.h && iw >= 0 && iw < s.w;
          const float* x = inside ? conv.x + ((window.image * s.h + ih) * s.w + iw) * s.c + first : nullptr;
          const float* w = weights + (kh * s.kw + kw) * k;
          for (int64_t i = 0; i < k; ++i) t = std::fma(inside ? x[i] : 0.0f, w[i], t);
        }
      }
      float y = t;
      if (conv.bias != nullptr) y = y + conv.bias[oc];
      if (HasResidual(conv.residual)) y = y + ResidualValue(conv.residual, row, oc);
      conv.y[static_cast<size_t>(row) * conv.y_stride + static_cast<size_t>(oc)] = Activate(y, conv.act_lo, conv.act_hi);
    }
  }
}

}  // namespace pqi::kernels::reference
