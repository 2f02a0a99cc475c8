// Arithmetic of two operands, row by row. Each operand is codes, floats or one element per row.
#pragma once

#include <cstring>

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
    size_t first = 0;
    if (!o.f32) {
      for (; first + S::kBytes <= n; first += S::kBytes) {
        output.PutFour(r * n + first, [&](size_t v) PQI_INLINE_LAMBDA {
          const size_t i = first + v * S::kLanes;
          return fn(a.Get(i, typename S::All()), b.Get(i, typename S::All()));
        });
      }
    }
    ForEachVector<S>(n - first, [&](size_t j, auto lanes) {
      const size_t i = first + j;
      output.Put(fn(a.Get(i, lanes), b.Get(i, lanes)), r * n + i, lanes);
    });
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
void BinaryOfKinds(BinaryFunction f, const BinaryOperand& a, const BinaryOperand& b, size_t rows, size_t n, const Output& o, void* y) {
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

// One row that meets all rows of another operand, such as the gates of an image's channels: its floats, repeated until they make a row that
// is worth a loop. `repeats` rows of the other operand, which lie behind one another, are then one.
constexpr size_t kRepeatedRow = 1024, kWorthALoop = 256;

template <class S>
struct RepeatedRow {
  alignas(64) float floats[kRepeatedRow];
  size_t repeats = 1;

  static bool Fits(const BinaryOperand& row, const BinaryOperand& other, size_t rows, size_t n) {
    return row.step == 1 && row.row_step == 0 && other.step == 1 && other.row_step == n && rows > 1 && n <= kRepeatedRow;
  }
  RepeatedRow(const BinaryOperand& row, size_t rows, size_t n) {
    if (row.u8 != nullptr) {
      DequantizeKernel<S>(row.u8, floats, n, row.affine);
    } else {
      std::memcpy(floats, row.f32, n * sizeof(float));
    }
    if (n < kWorthALoop) repeats = kWorthALoop / n < rows ? kWorthALoop / n : rows;
    for (size_t i = 1; i < repeats; ++i) std::memcpy(floats + i * n, floats, n * sizeof(float));
  }
  BinaryOperand Operand() const {
    BinaryOperand o;
    o.f32 = floats;
    return o;
  }
};

// Calls call(row, rows, n, first): the repeated row, how many rows of what length there are, and the element that they begin at.
template <class S, class Call>
void WithRepeatedRow(const BinaryOperand& row, size_t rows, size_t n, Call&& call) {
  const RepeatedRow<S> repeated(row, rows, n);
  const size_t whole = rows / repeated.repeats * repeated.repeats;
  call(repeated.Operand(), whole / repeated.repeats, n * repeated.repeats, size_t{0});
  if (whole < rows) call(repeated.Operand(), size_t{1}, n * (rows - whole), whole * n);
}

// An operand of rows that lie behind one another, from an element on.
PQI_INLINE BinaryOperand RowsFrom(const BinaryOperand& o, size_t n, size_t first) {
  BinaryOperand moved = o;
  moved.row_step = n;
  if (o.u8 != nullptr) {
    moved.u8 += first;
  } else {
    moved.f32 += first;
  }
  return moved;
}

template <class S>
void BinaryKernel(BinaryFunction f, const BinaryOperand& a, const BinaryOperand& b, size_t rows, size_t n, const Output& o,
                  void* y) noexcept {
  const auto out = [&](size_t first) -> void* {
    return o.f32 ? static_cast<void*>(static_cast<float*>(y) + first) : static_cast<void*>(static_cast<uint8_t*>(y) + first);
  };
  if (RepeatedRow<S>::Fits(a, b, rows, n)) {
    return WithRepeatedRow<S>(a, rows, n, [&](const BinaryOperand& row, size_t count, size_t length, size_t first) {
      BinaryOfKinds<S>(f, row, RowsFrom(b, length, first), count, length, o, out(first));
    });
  }
  if (RepeatedRow<S>::Fits(b, a, rows, n)) {
    return WithRepeatedRow<S>(b, rows, n, [&](const BinaryOperand& row, size_t count, size_t length, size_t first) {
      BinaryOfKinds<S>(f, RowsFrom(a, length, first), row, count, length, o, out(first));
    });
  }
  BinaryOfKinds<S>(f, a, b, rows, n, o, y);
}

}  // namespace
}  // namespace pqi::kernels
