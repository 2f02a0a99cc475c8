// What stands at the end of a layer, whichever kernel computes it: parameters of codes, a residual input, the way a result is stored.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pqi::kernels {

// Parameters of a quantized tensor.
struct Affine {
  int32_t zero_point = 0;
  float scale = 1;
};

// How a float32 result leaves the epilogue (docs/numerics.md: activation, quantize).
struct Output {
  float act_lo = 0, act_hi = 0;  // -inf, +inf = no activation
  bool f32 = false;              // store float32 instead of codes
  float inv_scale = 1;           // f32(1/s_out)
  float v_lo = 0, v_hi = 255;    // qmin - z, qmax - z
  int32_t zero_point = 0;
  // Of codes from an integer layer only. The caller has proved that no result is NaN, that |y * inv_scale| < 2^30, and that clamping the
  // rounded value to codes 0..code_max is all that the bounds above do: conversion, saturation and a minimum of bytes then replace every
  // clamp.
  bool saturates = false;
  uint8_t code_max = 255;  // read where `saturates`; else 255
};

// A residual input, added after the bias. Exactly one pointer is set, or none.
struct Residual {
  const uint8_t* u8 = nullptr;
  const float* f32 = nullptr;
  size_t stride = 0;  // elements between rows
  int32_t zero_point = 0;
  float scale = 1;
};

}  // namespace pqi::kernels
