// Quantize, dequantize and the activation in plain C++: docs/numerics.md section "Quantized values".
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/contract/output.h"

namespace pqi::kernels::reference {

// f32(1/s): the reciprocal taken in double and rounded once.
float InverseScale(float scale);
// Rounds v, |v| < 2^22, to nearest and ties to even, whatever the rounding mode is.
int32_t RoundToNearestEven(float v);

uint8_t QuantizeValue(float x, const Output& q);
float DequantizeValue(uint8_t q, const Affine& p);
float Activate(float x, float lo, float hi);
// y[i] = activation(x), as float32 if o.f32 is set, else as a code.
void Store(float x, const Output& o, void* y, size_t i);

void Quantize(const float* x, uint8_t* y, size_t n, const Output& q) noexcept;
void QuantizeToNhwc(const float* x, size_t plane_stride, size_t channels, size_t pixels, uint8_t* y, const Output& q) noexcept;
void Dequantize(const uint8_t* x, float* y, size_t n, const Affine& p) noexcept;

}  // namespace pqi::kernels::reference
