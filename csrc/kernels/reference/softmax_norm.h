// Softmax and normalization in plain C++: docs/numerics.md section "Softmax and normalization".
#pragma once

#include <cstddef>

#include "kernels/contract/elementwise.h"
#include "kernels/contract/output.h"

namespace pqi::kernels::reference {

// The sum of n floats in 16 lanes and a fixed tree; element(i) gives them.
template <typename Element>
float Sum16(size_t n, Element&& element) {
  float lane[16] = {};
  for (size_t i = 0; i < n; ++i) lane[i % 16] += element(i);
  for (int half = 8; half >= 1; half /= 2) {
    for (int j = 0; j < half; ++j) lane[j] += lane[j + half];
  }
  return lane[0];
}

// What ElementwiseSet::softmax and ElementwiseSet::normalize compute.
void Softmax(const float* x, size_t n, bool log, const Output& o, float* e, void* y) noexcept;
void Normalize(const NormalizeGroup& g, const Output& o, void* y) noexcept;

}  // namespace pqi::kernels::reference
