// What stands at the end of a layer, whichever kernel computes it: the parameters of codes, a residual input, the form of the output.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pqi::kernels {

// Parameters of a quantized tensor: the value of code q is (q - zero_point) * scale.
struct Affine {
  int32_t zero_point = 0;
  float scale = 1;
};

// How a float32 result becomes the output: activation, then quantization to codes or a store as it is (docs/numerics.md).
struct Output {
  float act_lo = 0, act_hi = 0;  // bounds of the activation; -inf and +inf where there is none
  bool f32 = false;              // store float32 instead of codes
  float inv_scale = 1;           // f32(1/s_out)
  float v_lo = 0, v_hi = 255;    // bounds of the rounded value before the zero point is added: qmin - z, qmax - z
  int32_t zero_point = 0;
  // Codes of an integer layer only: the caller has proved that no result is NaN, that |y * inv_scale| < 2^30, and that clamping the rounded
  // value to codes 0..code_max is all that the bounds above do. Conversion, saturation and a minimum of bytes then replace every clamp.
  bool saturates = false;
  uint8_t code_max = 255;  // largest code where `saturates`, else 255
};

// A residual input, added after the bias. At most one pointer is set.
struct Residual {
  const uint8_t* u8 = nullptr;
  const float* f32 = nullptr;
  size_t stride = 0;       // elements between rows
  int32_t zero_point = 0;  // parameters of u8
  float scale = 1;
};

}  // namespace pqi::kernels
