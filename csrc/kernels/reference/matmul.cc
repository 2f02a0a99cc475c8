#include "kernels/reference/matmul.h"

#include <cmath>

#include "kernels/reference/quantize.h"

namespace pqi::kernels::reference {
namespace {

// Calls fn(row, column, first, step) for each output: b[first] belongs to k = 0, and `step` elements of b lie between neighbours in k.
template <typename Fn>
void ForEachOutput(const MatrixShape& s, int64_t begin, int64_t end, Fn&& fn) {
  for (int64_t i = begin; i < end; ++i) {
    for (int64_t j = 0; j < s.n; ++j) fn(i, j, s.transposed ? j * s.k : j, s.transposed ? 1 : s.n);
  }
}

}  // namespace

void MatmulU8(const MatrixShape& s, const uint8_t* a, int32_t zero_a, const uint8_t* b, int32_t zero_b, float scale, const Output& o,
              void* y, int64_t begin, int64_t end) noexcept {
  ForEachOutput(s, begin, end, [&](int64_t i, int64_t j, int64_t first, int64_t step) {
    int32_t acc = 0;
    for (int64_t k = 0; k < s.k; ++k) acc += (a[i * s.k + k] - zero_a) * (b[first + k * step] - zero_b);
    Store(static_cast<float>(acc) * scale, o, y, static_cast<size_t>(i * s.n + j));
  });
}

void MatmulF32(const MatrixShape& s, const float* a, const float* b, float* y, int64_t begin, int64_t end) noexcept {
  ForEachOutput(s, begin, end, [&](int64_t i, int64_t j, int64_t first, int64_t step) {
    float t = 0;
    for (int64_t k = 0; k < s.k; ++k) t = std::fma(a[i * s.k + k], b[first + k * step], t);
    y[i * s.n + j] = t;
  });
}

}  // namespace pqi::kernels::reference
