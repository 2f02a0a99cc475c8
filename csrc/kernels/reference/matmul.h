// Products of two matrices in plain C++: docs/numerics.md section "matmul".
#pragma once

#include <cstdint>

#include "kernels/contract/output.h"

namespace pqi::kernels {

// The shape of a product: a is [m][k], b is [k][n], or [n][k] where `transposed`.
struct MatrixShape {
  int64_t m = 0, n = 0, k = 0;
  bool transposed = false;
};

namespace reference {

// Computes rows [begin, end) of y, which is [m][n].
void MatmulU8(const MatrixShape& s, const uint8_t* a, int32_t zero_a, const uint8_t* b, int32_t zero_b, float scale, const Output& o,
              void* y, int64_t begin, int64_t end) noexcept;
void MatmulF32(const MatrixShape& s, const float* a, const float* b, float* y, int64_t begin, int64_t end) noexcept;

}  // namespace reference
}  // namespace pqi::kernels
