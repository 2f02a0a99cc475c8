#include "kernels/reference/elementwise.h"

#include <algorithm>
#include <cmath>

#include "kernels/reference/quantize.h"

namespace pqi::kernels::reference {
namespace {

float Value(const AddOperand& x, size_t i) { return x.f32 != nullptr ? x.f32[i] : DequantizeValue(x.u8[i], x.affine); }

float Value(const BinaryOperand& x, size_t row, size_t i) {
  const size_t at = row * x.row_step + i * x.step;
  return x.f32 != nullptr ? x.f32[at] : DequantizeValue(x.u8[at], x.affine);
}

float Compute(BinaryFunction function, float a, float b) {
  switch (function) {
    case BinaryFunction::kAdd:
      return a + b;
    case BinaryFunction::kSub:
      return a - b;
    case BinaryFunction::kMul:
      return a * b;
    case BinaryFunction::kDiv:
      return a / b;
    case BinaryFunction::kRsub:
      return b - a;
    case BinaryFunction::kRdiv:
      return b / a;
    case BinaryFunction::kMaximum:
      return std::isnan(a) || a > b ? a : b;
    case BinaryFunction::kMinimum:
      return std::isnan(a) || a < b ? a : b;
  }
  return a;
}

}  // namespace

void Binary(BinaryFunction function, const BinaryOperand& a, const BinaryOperand& b, size_t rows, size_t n, const Output& o,
            void* y) noexcept {
  for (size_t r = 0; r < rows; ++r) {
    for (size_t i = 0; i < n; ++i) Store(Compute(function, Value(a, r, i), Value(b, r, i)), o, y, r * n + i);
  }
}

void Add(const AddOperand& a, const AddOperand& b, size_t n, const Output& o, void* y) noexcept {
  for (size_t i = 0; i < n; ++i) Store(Value(a, i) + Value(b, i), o, y, i);
}

void Table(const uint8_t* x, uint8_t* y, size_t n, const uint8_t* table256) noexcept {
  for (size_t i = 0; i < n; ++i) y[i] = table256[x[i]];
}

void AffineChannels(const float* x, float* y, size_t rows, size_t channels, const float* scale, const float* shift) noexcept {
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < channels; ++c) y[r * channels + c] = std::fma(x[r * channels + c], scale[c], shift[c]);
  }
}

void Clamp(const float* x, float* y, size_t n, float lo, float hi) noexcept {
  for (size_t i = 0; i < n; ++i) y[i] = Activate(x[i], lo, hi);
}

void MaxU8(const kernels::MaxU8& m) noexcept {
  for (size_t r = 0; r < m.rows; ++r) {
    for (size_t c = 0; c < m.n; ++c) {
      uint8_t most = 0;
      for (size_t i = 0; i < m.count; ++i) most = std::max(most, m.x[i][r * m.x_step + c]);
      m.y[r * m.n + c] = most;
    }
  }
}

void SumU8(const uint8_t* x, size_t stride, size_t count, int32_t* acc, size_t n) noexcept {
  for (size_t i = 0; i < count; ++i) {
    for (size_t c = 0; c < n; ++c) acc[c] += x[i * stride + c];
  }
}

void SumLanes(const float* x, size_t stride, size_t count, size_t first, float* lanes, size_t n) noexcept {
  for (size_t i = 0; i < count; ++i) {
    for (size_t c = 0; c < n; ++c) lanes[(first + i) % 16 * n + c] += x[i * stride + c];
  }
}

}  // namespace pqi::kernels::reference
