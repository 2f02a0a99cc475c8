// Kernels that go through tensors element by element or row by row: all layers but convolutions and products.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/contract/output.h"

namespace pqi::kernels {

// Functions of one float, in the order of docs/format.md. `alpha` is read by kElu and kLeakyRelu.
enum class UnaryFunction : uint8_t {
  kExp,
  kSigmoid,
  kTanh,
  kErf,
  kSilu,
  kGelu,
  kGeluTanh,
  kHardsigmoid,
  kHardswish,
  kElu,
  kLeakyRelu,
  kSqrt,
  kRsqrt,
  kAbs,
  kLog,
  kSoftplus,
};
inline constexpr int kUnaryFunctions = 16;
struct Unary {
  UnaryFunction function = UnaryFunction::kExp;
  float alpha = 0;
};

// Functions of two floats, in the order of docs/format.md; kRsub is b - a, kRdiv is b / a.
enum class BinaryFunction : uint8_t { kAdd, kSub, kMul, kDiv, kRsub, kRdiv, kMaximum, kMinimum };
inline constexpr int kBinaryFunctions = 8;
// An operand: rows of codes or of floats, one of the pointers is set. Element i of row r is at r * row_step + i * step. The step is 1, or 0
// where one element stands for a whole row.
struct BinaryOperand {
  const uint8_t* u8 = nullptr;
  const float* f32 = nullptr;
  Affine affine;  // parameters of u8
  size_t step = 1, row_step = 0;
};

// Elements that are normalized together: `pieces` runs of `length` elements, which begin `stride` elements apart in x and in y. A row of a
// layer norm is one run; a group of channels of an image is one run for each pixel.
struct NormalizeGroup {
  const float* x = nullptr;
  size_t pieces = 1, length = 0, stride = 0;
  const float* weight = nullptr;  // [length]; nullptr where there is none
  const float* bias = nullptr;    // [length]; nullptr where there is none
  float eps = 0;
  bool center = true;  // subtract the mean; false: divide by the root mean square alone
};

// The largest codes of `count` operands, row by row: y[r*n + c] = the largest of x[i][r*x_step + c], i < count, for r < rows, c < n. With
// one row y may be x[0].
struct MaxU8 {
  const uint8_t* const* x;
  size_t count;  // at least 1
  size_t x_step;
  size_t rows, n;
  uint8_t* y;
};

struct ElementwiseSet {
  // y[i] = quantize(x[i]). Output::f32 and the activation are not read.
  void (*quantize)(const float* x, uint8_t* y, size_t n, const Output& q) noexcept;
  // The range of x and 0: lo = min(0, x...), hi = max(0, x...). NaN takes no part.
  void (*range)(const float* x, size_t n, float* lo, float* hi) noexcept;
  // Quantizes NCHW planes to NHWC pixels: y[p*channels + c] = quantize(x[c*plane_stride + p]), p < pixels.
  void (*quantize_to_nhwc)(const float* x, size_t plane_stride, size_t channels, size_t pixels, uint8_t* y, const Output& q) noexcept;
  // y[i] = (x[i] - zero_point) * scale.
  void (*dequantize)(const uint8_t* x, float* y, size_t n, const Affine& p) noexcept;
  // y = a + b, then activation and quantize or float as o says. Both are codes or both are floats: of a mixed pair the caller dequantizes
  // one first.
  void (*add_u8)(const uint8_t* a, const Affine& pa, const uint8_t* b, const Affine& pb, size_t n, const Output& o, void* y) noexcept;
  void (*add_f32)(const float* a, const float* b, size_t n, const Output& o, void* y) noexcept;
  // y = f(x), then the output as o says.
  void (*unary)(const float* x, size_t n, const Unary& f, const Output& o, void* y) noexcept;
  // y[r*n + i] = f(a, b), then the output as o says.
  void (*binary)(BinaryFunction f, const BinaryOperand& a, const BinaryOperand& b, size_t rows, size_t n, const Output& o,
                 void* y) noexcept;
  // y = x > 0 ? x : f32(x * slope[c]) for each x[r*channels + c].
  void (*prelu)(const float* x, float* y, size_t rows, size_t channels, const float* slope) noexcept;
  // y = fma(x, scale[c], shift[c]) for each x[r*channels + c].
  void (*affine)(const float* x, float* y, size_t rows, size_t channels, const float* scale, const float* shift) noexcept;
  // The activation of docs/numerics.md alone.
  void (*clamp)(const float* x, float* y, size_t n, float lo, float hi) noexcept;
  // One row: y = softmax(x), or its logarithm, then the output as o says. `e` is n floats of scratch memory, which may be y.
  void (*softmax)(const float* x, size_t n, bool log, const Output& o, float* e, void* y) noexcept;
  // One group, then the output as o says.
  void (*normalize)(const NormalizeGroup& g, const Output& o, void* y) noexcept;
  // y[i] = table256[x[i]].
  void (*table)(const uint8_t* x, uint8_t* y, size_t n, const uint8_t* table256) noexcept;
  void (*max_u8)(const MaxU8& m) noexcept;
  // Sums over positions: acc[c] += x[i*stride + c] for i < count, c < n.
  void (*sum_u8)(const uint8_t* x, size_t stride, size_t count, int32_t* acc, size_t n) noexcept;
  // The 16 lanes of sum16 for n channels side by side: lanes[(first + i) % 16 * n + c] += x[i*stride + c] for i < count, in ascending
  // order.
  void (*sum_lanes)(const float* x, size_t stride, size_t count, size_t first, float* lanes, size_t n) noexcept;
};

}  // namespace pqi::kernels
