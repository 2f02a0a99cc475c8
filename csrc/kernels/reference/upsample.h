// The pixels that an enlarged image is made of, in plain C++: docs/numerics.md section "upsample".
#pragma once

#include <cstddef>
#include <cstdint>

namespace pqi::kernels::reference {

// The step from output to output along one axis, in input positions. `given` > 0 is the step itself; else it follows from the lengths.
float UpsampleStep(int64_t length, int64_t out, float given, bool align_corners);

// The input position that output `i` repeats.
int64_t NearestSource(int64_t i, float step, int64_t length);

// The inputs and their weights of output `i`: it is w0 * x[first] + w1 * x[second].
struct LinearTap {
  int64_t first, second;
  float w0, w1;
};
LinearTap LinearSource(int64_t i, float step, int64_t length, bool align_corners);

// y[i] = rows.w0 * (columns.w0 * a[i] + columns.w1 * b[i]) + rows.w1 * (columns.w0 * c[i] + columns.w1 * d[i]), each operation rounded
// once.
void Bilinear(const float* a, const float* b, const float* c, const float* d, const LinearTap& rows, const LinearTap& columns, size_t n,
              float* y) noexcept;

}  // namespace pqi::kernels::reference
