// Elementary functions in plain C++: docs/numerics.md section "Elementary functions". NaN gives NaN everywhere.
#pragma once

#include <cstddef>

#include "kernels/contract/elementwise.h"
#include "kernels/contract/output.h"

namespace pqi::kernels::reference {

float Exp(float x) noexcept;
float Sigmoid(float x) noexcept;
float Tanh(float x) noexcept;
float Silu(float x) noexcept;
float Gelu(float x) noexcept;
float GeluTanh(float x) noexcept;
float Erf(float x) noexcept;
// The natural logarithm: -infinity for zeros, NaN for negative numbers.
float Log(float x) noexcept;
float Softplus(float x) noexcept;
float Evaluate(const Unary& f, float x) noexcept;

// y[i] = f(x[i]), then the output as o says.
void ApplyUnary(const float* x, size_t n, const Unary& f, const Output& o, void* y) noexcept;
// y[r*channels + c] = x > 0 ? x : f32(x*slope[c]).
void PreluChannels(const float* x, float* y, size_t rows, size_t channels, const float* slope) noexcept;

}  // namespace pqi::kernels::reference
