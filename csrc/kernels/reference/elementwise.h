// Elementwise operations in plain C++: docs/numerics.md section "Other operations".
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/contract.h"

namespace pqi::kernels::reference {

// One operand of an add: exactly one pointer is set.
struct AddOperand {
  const uint8_t* u8 = nullptr;
  const float* f32 = nullptr;
  Affine affine;  // of u8
};

void Add(const AddOperand& a, const AddOperand& b, size_t n, const Output& o, void* y) noexcept;
// Functions of two floats, in the order of docs/format.md; kRsub is b - a, kRdiv is b / a.
enum class BinaryFunction : uint8_t { kAdd, kSub, kMul, kDiv, kRsub, kRdiv };

// A row of codes or floats; exactly one pointer is set. Element i is at i * step, and step is 0 where one element stands for all.
struct BinaryOperand {
  const uint8_t* u8 = nullptr;
  const float* f32 = nullptr;
  Affine affine;  // of u8
  size_t step = 1;
};

void BinaryRow(BinaryFunction function, const BinaryOperand& a, const BinaryOperand& b, size_t n, const Output& o, void* y) noexcept;
void Table(const uint8_t* x, uint8_t* y, size_t n, const uint8_t* table256) noexcept;
// y[r*channels + c] = fma(x[r*channels + c], scale[c], shift[c]).
void AffineChannels(const float* x, float* y, size_t rows, size_t channels, const float* scale, const float* shift) noexcept;
void Clamp(const float* x, float* y, size_t n, float lo, float hi) noexcept;
void MaxU8(const uint8_t* x, uint8_t* acc, size_t n) noexcept;
void SumU8(const uint8_t* x, int32_t* acc, size_t n) noexcept;

}  // namespace pqi::kernels::reference
