// Elementwise operations in plain C++: docs/numerics.md section "Other operations".
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/contract/elementwise.h"
#include "kernels/contract/output.h"

namespace pqi::kernels::reference {

// An operand of an addition: one of the pointers is set.
struct AddOperand {
  const uint8_t* u8 = nullptr;
  const float* f32 = nullptr;
  Affine affine;  // parameters of u8
};

void Add(const AddOperand& a, const AddOperand& b, size_t n, const Output& o, void* y) noexcept;
// y[r*n + i] = f(a, b), then the output as o says.
void Binary(BinaryFunction function, const BinaryOperand& a, const BinaryOperand& b, size_t rows, size_t n, const Output& o,
            void* y) noexcept;
void Table(const uint8_t* x, uint8_t* y, size_t n, const uint8_t* table256) noexcept;
// y[r*channels + c] = fma(x[r*channels + c], scale[c], shift[c]).
void AffineChannels(const float* x, float* y, size_t rows, size_t channels, const float* scale, const float* shift) noexcept;
void Clamp(const float* x, float* y, size_t n, float lo, float hi) noexcept;
void MaxU8(const kernels::MaxU8& m) noexcept;
void SumU8(const uint8_t* x, size_t stride, size_t count, int32_t* acc, size_t n) noexcept;
void SumLanes(const float* x, size_t stride, size_t count, size_t first, float* lanes, size_t n) noexcept;

}  // namespace pqi::kernels::reference
