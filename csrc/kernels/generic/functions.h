// Elementary functions over an ISA's primitives, operation by operation as docs/numerics.md has them: the bits are those of the plain
// reference for every input. Both sides of a choice are computed and one is taken.
#pragma once

#include "kernels/functions.h"
#include "kernels/generic/compiler.h"

namespace pqi::kernels {
namespace {

template <class S>
struct Functions {
  using Float = typename S::Float;
  using Int = typename S::Int;

  PQI_INLINE static Float Set(float v) { return S::SetFloat(v); }
  // x, or lo if it is less, or hi if it is greater; NaN passes.
  PQI_INLINE static Float Clamp(Float x, float lo, float hi) { return S::MinF(Set(hi), S::MaxF(Set(lo), x)); }

  template <size_t N>
  PQI_INLINE static Float Horner(const float (&coefficients)[N], Float x) {
    Float y = Set(coefficients[N - 1]);
    PQI_UNROLL for (size_t i = 1; i < N; ++i) y = S::Fma(y, x, Set(coefficients[N - 1 - i]));
    return y;
  }

  // Splits x = n*ln(2) + r, and gives n and e^r - 1.
  PQI_INLINE static Float Reduce(Float x, Int* n) {
    *n = S::ToIntNearest(S::MulF(x, Set(constants::kLog2E)));
    const Float whole = S::ToFloat(*n);
    const Float r = S::Fma(whole, Set(-constants::kLn2Low), S::Fma(whole, Set(-constants::kLn2High), x));
    return S::Fma(S::MulF(r, r), Horner(constants::kExpPolynomial, r), r);
  }

  PQI_INLINE static Float Exp(Float x) {
    Int n;
    const Float e = Reduce(Clamp(x, constants::kExpLow, constants::kExpHigh), &n);
    const Int half = S::template ShiftRight<1>(n);
    return S::MulF(S::MulF(S::AddF(Set(1), e), S::PowerOfTwo(half)), S::PowerOfTwo(S::SubInt(n, half)));
  }

  // e^x - 1 for x <= 0; a positive x counts as 0.
  PQI_INLINE static Float Expm1(Float x) {
    Int n;
    const Float e = Reduce(Clamp(x, constants::kExpm1Low, 0), &n);
    const Float scale = S::PowerOfTwo(n);
    return S::Fma(scale, e, S::SubF(scale, Set(1)));
  }

  PQI_INLINE static Float Erf(Float x) {
    const Float t = S::AbsF(x);
    const Float far = S::CopySign(S::SubF(Set(1), Exp(Horner(constants::kErfFar, S::MinF(Set(constants::kErfEnd), t)))), x);
    const Float near = S::Fma(Horner(constants::kErfNear, S::MulF(x, x)), x, x);
    return S::SelectGreater(t, Set(constants::kErfSplit), far, near);
  }

  // n*ln(2) + log(1 + z) for z of a limited range (constants::kLogPolynomial).
  PQI_INLINE static Float LogOf(Float n, Float z) {
    const Float t = S::Fma(S::MulF(z, z), S::Fma(z, Horner(constants::kLogPolynomial, z), Set(-0.5f)), z);
    return S::Fma(n, Set(constants::kLn2High), S::Fma(n, Set(constants::kLn2Low), t));
  }

  PQI_INLINE static Float Log(Float x) {
    const Float normal = Set(constants::kSmallestNormal);
    const Float raised = S::SelectGreater(normal, x, S::MulF(x, Set(constants::kLogRaise)), x);
    const Int bits = S::FloatBits(raised);
    // The exponent by which f = raised / 2^n lies above sqrt(1/2) and not above sqrt(2).
    const Int n = S::template ShiftRight<23>(S::SubInt(bits, S::SetInt(constants::kSqrtTwoBits + 1 - (1 << 23))));
    const Float f = S::BitsFloat(S::SubInt(bits, S::template ShiftLeft<23>(n)));
    const Float below = S::SelectGreater(normal, x, Set(constants::kLogRaiseBits), Set(0));
    const Float y = LogOf(S::SubF(S::ToFloat(n), below), S::SubF(f, Set(1)));
    const Float infinity = Set(__builtin_inff());
    // The result for zeros, negative numbers and NaN: -inf, NaN and NaN, because NaN less infinity is NaN.
    const Float special = S::SelectGreater(Set(0), x, Set(__builtin_nanf("")), S::SubF(x, infinity));
    return S::SelectGreater(x, Set(0), S::SelectGreater(x, Set(constants::kLargestFloat), x, y), special);
  }

  // Softplus as max(x, 0) + log(1 + e^-|x|).
  PQI_INLINE static Float Softplus(Float x) {
    const Float u = Exp(S::MulF(Set(-1), S::AbsF(x)));
    const Float split = S::SubF(Set(constants::kSqrtTwo), Set(1));
    const Float n = S::SelectGreater(u, split, Set(1), Set(0));
    // MinF replaces NaN: of a sum of two the compiler's order of operands would decide which NaN it gives.
    const Float z = S::MinF(S::SelectGreater(u, split, S::MulF(S::SubF(u, Set(1)), Set(0.5f)), u), Set(1));
    return S::AddF(S::MaxF(Set(0), x), LogOf(n, z));
  }

  PQI_INLINE static Float HardGate(Float x) { return Clamp(S::AddF(x, Set(3)), 0, 6); }
};

}  // namespace
}  // namespace pqi::kernels
