// The integer convolution of the plain reference, which tests of tiles and of packed layers compare with.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/contract/output.h"
#include "kernels/reference/conv.h"
#include "tests/kernels/guarded.h"

namespace pqi::test {

// A convolution of the reference, complete but for the memory of its output. Weights is a struct with the layer's codes, step, base, scale,
// bias and zero point. A residual without a stride is dense.
template <typename Weights>
kernels::reference::ConvU8 ReferenceConv(const kernels::ConvShape& shape, const uint8_t* x, const Weights& weights,
                                         const kernels::Residual& residual, const kernels::Output& output) {
  kernels::reference::ConvU8 conv;
  conv.shape = shape;
  conv.x = x;
  conv.zero_point = weights.zero_point;
  conv.codes = weights.codes;
  conv.step = weights.step;
  conv.base = weights.base;
  conv.scale = weights.scale;
  conv.bias = weights.bias;
  conv.residual = residual;
  if (residual.stride == 0) conv.residual.stride = static_cast<size_t>(shape.oc);
  conv.output = output;
  return conv;
}

// What memory filled by GuardedBytes holds after the convolution has written its pixels to it, `stride` elements apart.
inline std::vector<uint8_t> ReferenceOutput(kernels::reference::ConvU8 conv, size_t stride, GuardedBytes::Placement place) {
  const size_t rows = static_cast<size_t>(conv.shape.rows()), element = conv.output.f32 ? sizeof(float) : 1;
  const size_t row_bytes = static_cast<size_t>(conv.shape.oc) * element;
  const Guarded<uint8_t> dense(rows * row_bytes, place);
  conv.y = dense.data();
  conv.y_stride = static_cast<size_t>(conv.shape.oc);
  kernels::reference::Conv2dU8(conv, 0, conv.shape.rows());
  return Spaced(dense.data(), rows, row_bytes, stride * element);
}

}  // namespace pqi::test
