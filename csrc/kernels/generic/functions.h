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

  // What rounding took from the product a * b.
  PQI_INLINE static Float Below(Float a, Float b, Float product) { return S::Fma(a, b, S::MulF(Set(-1), product)); }

  template <size_t N>
  PQI_INLINE static Float Horner(const float (&coefficients)[N], Float x) {
    Float y = Set(coefficients[N - 1]);
    PQI_UNROLL for (size_t i = 1; i < N; ++i) y = S::Fma(y, x, Set(coefficients[N - 1 - i]));
    return y;
  }

  // The rest r of x = n*ln(2) + r.
  PQI_INLINE static Float Rest(Float x, Int* n) {
    *n = S::ToIntNearest(S::MulF(x, Set(constants::kLog2E)));
    const Float whole = S::ToFloat(*n);
    return S::Fma(whole, Set(-constants::kLn2Low), S::Fma(whole, Set(-constants::kLn2High), x));
  }
  // e^r - 1.
  PQI_INLINE static Float ExpOfRest(Float r) { return S::Fma(S::MulF(r, r), Horner(constants::kExpPolynomial, r), r); }
  // Splits x = n*ln(2) + r, and gives n and e^r - 1.
  PQI_INLINE static Float Reduce(Float x, Int* n) { return ExpOfRest(Rest(x, n)); }

  // A number times 2^n in two steps, because 2^n alone may be beyond the normal numbers.
  struct Power {
    Float first, second;
    PQI_INLINE Float Times(Float v) const { return S::MulF(S::MulF(v, first), second); }
  };
  PQI_INLINE static Power PowerOf(Int n) {
    const Int half = S::template ShiftRight<1>(n);
    return {S::PowerOfTwo(half), S::PowerOfTwo(S::SubInt(n, half))};
  }

  PQI_INLINE static Float Exp(Float x) {
    Int n;
    const Float e = Reduce(Clamp(x, constants::kExpLow, constants::kExpHigh), &n);
    return PowerOf(n).Times(S::AddF(Set(1), e));
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

  // The one of two numbers that x >= 0 (or NaN) or x < 0 takes.
  PQI_INLINE static Float BySign(Float x, Float negative, Float other) { return S::SelectGreater(Set(0), x, negative, other); }

  // e^-y for y = high + low in 0..kGateEnd as a factor and its power of two.
  struct Decay {
    Float factor;
    Power power;
    PQI_INLINE Float Times(Float v) const { return power.Times(S::MulF(v, factor)); }
    PQI_INLINE Float Value() const { return power.Times(factor); }
  };
  PQI_INLINE static Decay DecayOf(Float high, Float low) {
    Int n;
    const Float r = S::SubF(Rest(S::SubF(Set(0), high), &n), low);
    return {S::AddF(Set(1), ExpOfRest(r)), PowerOf(n)};
  }
  // x / (1 + e^-y) for y of the sign of x: e^-|y| = d. A negative x is multiplied in front of the power of two, so that the tail keeps its
  // digits.
  PQI_INLINE static Float Gate(Float x, const Decay& d) { return S::DivF(BySign(x, d.Times(x), x), S::AddF(Set(1), d.Value())); }
  PQI_INLINE static Float Magnitude(Float x, float end) { return S::MinF(Set(end), S::AbsF(x)); }

  PQI_INLINE static Float Sigmoid(Float x) {
    const Float e = DecayOf(Magnitude(x, constants::kGateEnd), Set(0)).Value();
    // A NaN is taken from x, because the compiler decides which sign the ones on the way have.
    return S::DivF(S::SelectNan(x, x, BySign(x, e, Set(1))), S::AddF(Set(1), e));
  }

  PQI_INLINE static Float Silu(Float x) {
    return Gate(S::MaxF(Set(-constants::kGateEnd), x), DecayOf(Magnitude(x, constants::kGateEnd), Set(0)));
  }

  // x / (1 + e^-y), y = x * (linear + cubic * x*x), computed to twice the digits because it is an exponent.
  PQI_INLINE static Float GeluTanh(Float x) {
    const Float t = Magnitude(x, constants::kGeluTanhEnd), linear = Set(constants::kGeluTanhLinear), cubic = Set(constants::kGeluTanhCubic);
    const Float square = S::MulF(t, t), square_low = Below(t, t, square);
    const Float term = S::MulF(cubic, square), term_low = Below(cubic, square, term);
    const Float sum = S::AddF(linear, term), part = S::SubF(sum, linear);
    const Float lost = S::AddF(S::SubF(linear, S::SubF(sum, part)), S::SubF(term, part));
    const Float constant_low = S::AddF(term_low, Set(constants::kGeluTanhLinearLow));
    const Float low = S::AddF(lost, S::Fma(Set(constants::kGeluTanhCubicLow), square, S::Fma(cubic, square_low, constant_low)));
    const Float y = S::MulF(t, sum), y_low = S::AddF(Below(t, sum, y), S::MulF(t, low));
    return Gate(S::MaxF(Set(-constants::kGeluTanhEnd), x), DecayOf(S::MinF(Set(constants::kGateEnd), y), y_low));
  }

  PQI_INLINE static Float Tanh(Float x) {
    const Float e = Expm1(S::MulF(Set(-2), S::AbsF(x)));
    return S::CopySign(S::DivF(e, S::AddF(e, Set(2))), x);
  }

  // |x| * (1 - Phi(|x|)), which x less or a negative x without it is.
  PQI_INLINE static Float Gelu(Float x) {
    const Float t = Magnitude(x, constants::kTailEnd), pole = Set(constants::kTailPole);
    const Float tail = Horner(constants::kTail, S::DivF(S::SubF(t, pole), S::AddF(t, pole)));
    const Float square = S::MulF(t, t), half = Set(0.5f);
    const Float v = DecayOf(S::MulF(half, square), S::MulF(half, Below(t, t, square))).Times(S::MulF(t, tail));
    return BySign(x, S::SubF(Set(0), v), S::SubF(x, v));
  }

  PQI_INLINE static Float HardGate(Float x) { return Clamp(S::AddF(x, Set(3)), 0, 6); }
};

}  // namespace
}  // namespace pqi::kernels
