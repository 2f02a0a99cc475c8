// What a run of a convolution is given, and how the pieces of its output are found.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/contract/output.h"
#include "kernels/shapes.h"

namespace pqi::conv {

// What changes from run to run. T is the element type of the input. `shape` is the one that was packed, with any n, h, w. With float inputs
// y is float, and only act_lo and act_hi of `output` are read.
template <typename T>
struct ConvRun {
  kernels::ConvShape shape;
  const T* x = nullptr;
  kernels::Residual residual;  // as large as y and dense: its stride is not read
  kernels::Output output;
  void* y = nullptr;
  size_t y_stride = 0;  // elements from one output pixel to the next
};

// The residual of output pixel `pixel` from `channel` on.
inline kernels::Residual ResidualAt(const kernels::Residual& r, const kernels::ConvShape& s, int64_t pixel, int64_t channel) {
  kernels::Residual at = r;
  const int64_t offset = pixel * s.oc + channel;
  if (r.u8 != nullptr) at.u8 = r.u8 + offset;
  if (r.f32 != nullptr) at.f32 = r.f32 + offset;
  at.stride = static_cast<size_t>(s.oc);
  return at;
}

// The output of pixel `pixel` from `channel` on.
inline void* OutputAt(void* y, bool f32, size_t y_stride, int64_t pixel, int64_t channel) {
  return static_cast<uint8_t*>(y) + (static_cast<size_t>(pixel) * y_stride + static_cast<size_t>(channel)) * (f32 ? 4 : 1);
}

}  // namespace pqi::conv
