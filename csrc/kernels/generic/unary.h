// Functions of one float, element by element.
#pragma once

#include "kernels/contract/elementwise.h"
#include "kernels/contract/output.h"
#include "kernels/generic/compiler.h"
#include "kernels/generic/elementwise.h"
#include "kernels/generic/functions.h"

namespace pqi::kernels {
namespace {

template <class S, class Fn>
__attribute__((noinline)) void ApplyEach(const float* x, size_t n, const Output& o, void* y, Fn fn) {
  const OutputStage<S> output(o, y);
  ForEachVector<S>(n, [&](size_t i, auto lanes) { output.Put(fn(S::LoadFloat(x + i, lanes)), i, lanes); });
}

template <class S>
void UnaryKernel(const float* x, size_t n, const Unary& f, const Output& o, void* y) noexcept {
  using F = Functions<S>;
  using Float = typename S::Float;
  const Float alpha = S::SetFloat(f.alpha);
  const auto each = [&](auto fn) { ApplyEach<S>(x, n, o, y, fn); };
  switch (f.function) {
    case UnaryFunction::kExp:
      return each([](Float v) { return F::Exp(v); });
    case UnaryFunction::kSigmoid:
      return each([](Float v) { return F::Sigmoid(v); });
    case UnaryFunction::kTanh:
      return each([](Float v) { return F::Tanh(v); });
    case UnaryFunction::kErf:
      return each([](Float v) { return F::Erf(v); });
    case UnaryFunction::kSilu:
      return each([](Float v) { return F::Silu(v); });
    case UnaryFunction::kGelu:
      return each([](Float v) { return F::Gelu(v); });
    case UnaryFunction::kGeluTanh:
      return each([](Float v) { return F::GeluTanh(v); });
    case UnaryFunction::kHardsigmoid:
      return each([](Float v) { return S::DivF(F::HardGate(v), F::Set(6)); });
    case UnaryFunction::kHardswish:
      return each([](Float v) { return S::DivF(S::MulF(v, F::HardGate(v)), F::Set(6)); });
    case UnaryFunction::kElu:
      return each([=](Float v) { return S::SelectGreater(v, F::Set(0), v, S::MulF(alpha, F::Expm1(v))); });
    case UnaryFunction::kLeakyRelu:
      return each([=](Float v) { return S::SelectGreater(v, F::Set(0), v, S::MulF(v, alpha)); });
    case UnaryFunction::kSqrt:
      return each([](Float v) { return S::SqrtF(v); });
    case UnaryFunction::kRsqrt:
      return each([](Float v) { return S::DivF(F::Set(1), S::SqrtF(v)); });
    case UnaryFunction::kAbs:
      return each([](Float v) { return S::AbsF(v); });
    case UnaryFunction::kLog:
      return each([](Float v) { return F::Log(v); });
    case UnaryFunction::kSoftplus:
      return each([](Float v) { return F::Softplus(v); });
  }
}

}  // namespace
}  // namespace pqi::kernels
