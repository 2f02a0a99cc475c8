// Arithmetic of two operands, row by row. Each operand is codes, floats or one element per row.
#pragma once

#include "kernels/contract/elementwise.h"
#include "kernels/contract/output.h"
#include "kernels/generic/compiler.h"
#include "kernels/generic/elementwise.h"

namespace pqi::kernels {
namespace {

// The kinds of an operand. Seek goes to a row, Get gives its elements from i on as floats.
template <class S>
struct FloatRows {
  const BinaryOperand& operand;
  const float* row = nullptr;

  explicit FloatRows(const BinaryOperand& o) : operand(o) {}
  PQI_INLINE void Seek(size_t r) { row = operand.f32 + r * operand.row_step; }
  template <class Lanes>
  PQI_INLINE typename S::Float Get(size_t i, Lanes lanes) const {
    return S::LoadFloat(row + i, lanes);
  }
};

template <class S>
struct CodeRows {
  const BinaryOperand& operand;
  DequantizeStage<S> stage;
  const uint8_t* row = nullptr;

  explicit CodeRows(const BinaryOperand& o) : operand(o), stage(o.affine.zero_point, o.affine.scale) {}
  PQI_INLINE void Seek(size_t r) { row = operand.u8 + r * operand.row_step; }
  template <class Lanes>
  PQI_INLINE typename S::Float Get(size_t i, Lanes lanes) const {
    return stage.Get(row + i, lanes);
  }
};

template <class S>
struct OnePerRow {
  const BinaryOperand& operand;
  typename S::Float value;

  explicit OnePerRow(const BinaryOperand& o) : operand(o), value(S::SetFloat(0)) {}
  PQI_INLINE void Seek(size_t r) {
    const size_t at = r * operand.row_step;
    const Affine& p = operand.affine;
    value = S::SetFloat(operand.f32 != nullptr ? operand.f32[at] : static_cast<float>(operand.u8[at] - p.zero_point) * p.scale);
  }
  template <class Lanes>
  PQI_INLINE typename S::Float Get(size_t, Lanes) const {
    return value;
  }
};

template <class S, class A, class B, class Fn>
__attribute__((noinline)) void BinaryRows(A a, B b, size_t rows, size_t n, const Output& o, void* y, Fn fn) {
  const OutputStage<S> output(o, y);
  for (size_t r = 0; r < rows; ++r) {
    a.Seek(r);
    b.Seek(r);
    ForEachVector<S>(n, [&](size_t i, auto lanes) { output.Put(fn(a.Get(i, lanes), b.Get(i, lanes)), r * n + i, lanes); });
  }
}

// Calls fn with the operand as an object of its kind.
template <class S, class Fn>
PQI_INLINE void WithKind(const BinaryOperand& o, Fn&& fn) {
  if (o.step == 0) return fn(OnePerRow<S>(o));
  if (o.f32 != nullptr) return fn(FloatRows<S>(o));
  fn(CodeRows<S>(o));
}

template <class S>
void BinaryKernel(BinaryFunction f, const BinaryOperand& a, const BinaryOperand& b, size_t rows, size_t n, const Output& o,
                  void* y) noexcept {
  using Float = typename S::Float;
  WithKind<S>(a, [&](auto x) {
    WithKind<S>(b, [&](auto z) {
      switch (f) {
        case BinaryFunction::kAdd:
          return BinaryRows<S>(x, z, rows, n, o, y, [](Float u, Float v) { return S::AddF(u, v); });
        case BinaryFunction::kSub:
          return BinaryRows<S>(x, z, rows, n, o, y, [](Float u, Float v) { return S::SubF(u, v); });
        case BinaryFunction::kMul:
          return BinaryRows<S>(x, z, rows, n, o, y, [](Float u, Float v) { return S::MulF(u, v); });
        case BinaryFunction::kDiv:
          return BinaryRows<S>(x, z, rows, n, o, y, [](Float u, Float v) { return S::DivF(u, v); });
        case BinaryFunction::kRsub:
          return BinaryRows<S>(z, x, rows, n, o, y, [](Float u, Float v) { return S::SubF(u, v); });
        case BinaryFunction::kRdiv:
          return BinaryRows<S>(z, x, rows, n, o, y, [](Float u, Float v) { return S::DivF(u, v); });
        case BinaryFunction::kMaximum:
          return BinaryRows<S>(x, z, rows, n, o, y, [](Float u, Float v) { return S::SelectNan(u, u, S::MaxF(u, v)); });
        case BinaryFunction::kMinimum:
          return BinaryRows<S>(x, z, rows, n, o, y, [](Float u, Float v) { return S::SelectNan(u, u, S::MinF(u, v)); });
      }
    });
  });
}

}  // namespace
}  // namespace pqi::kernels
