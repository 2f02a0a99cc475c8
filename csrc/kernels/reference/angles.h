// Sine and cosine in plain C++: docs/numerics.md section "Elementary functions". All instruction sets run these.
#pragma once

namespace pqi::kernels::reference {

// NaN for infinities and NaN.
float Sin(float x) noexcept;
float Cos(float x) noexcept;

}  // namespace pqi::kernels::reference
