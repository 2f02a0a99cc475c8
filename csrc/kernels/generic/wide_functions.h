// The elementary functions that docs/numerics.md computes in binary64, over an ISA's primitives: a vector of floats is two of doubles.
// There is no fma here, so that NumPy gives the same bits; on Zen 4 multiplications and additions have pipes of their own, and it costs
// nothing.
#pragma once

#include "kernels/functions.h"
#include "kernels/generic/compiler.h"

namespace pqi::kernels {
namespace {

template <class S>
struct WideFunctions {
  using Float = typename S::Float;
  using Wide = typename S::Wide;

  PQI_INLINE static Wide Set(double v) { return S::SetWide(v); }
  // x, or lo if it is less, or hi if it is greater; NaN passes.
  PQI_INLINE static Wide Clamp(Wide x, double lo, double hi) { return S::MinWide(Set(hi), S::MaxWide(Set(lo), x)); }

  // Applies a function of doubles to both halves of a vector of floats.
  template <class Fn>
  PQI_INLINE static Float Both(Float x, Fn&& fn) {
    return S::Narrow(fn(S::WidenLow(x)), fn(S::WidenHigh(x)));
  }

  // Horner's rule over x*x on pairs c[i] + c[i+1]*x (an odd last coefficient stands alone): the chain of dependent operations, which is
  // what these functions wait for, is half as long.
  template <size_t N>
  PQI_INLINE static Wide Pair(const double (&c)[N], size_t i, Wide x) {
    return i + 1 < N ? S::AddWide(S::MulWide(Set(c[i + 1]), x), Set(c[i])) : Set(c[i]);
  }
  template <size_t N>
  PQI_INLINE static Wide Polynomial(const double (&coefficients)[N], Wide x) {
    const Wide square = S::MulWide(x, x);
    size_t i = (N - 1) / 2 * 2;
    Wide y = Pair(coefficients, i, x);
    PQI_UNROLL
    while (i > 0) {
      i -= 2;
      y = S::AddWide(S::MulWide(y, square), Pair(coefficients, i, x));
    }
    return y;
  }

  // Splits y = n*ln(2) + r, and gives 2^n and e^r - 1.
  PQI_INLINE static Wide Reduce(Wide y, Wide* power) {
    const Wide n = S::RoundWide(S::MulWide(y, Set(constants::kWideLog2E)));
    const Wide r = S::SubWide(y, S::MulWide(n, Set(constants::kWideLn2)));
    *power = S::PowerOfTwoWide(n);
    return S::AddWide(r, S::MulWide(S::MulWide(r, r), Polynomial(constants::kWideExpPolynomial, r)));
  }
  PQI_INLINE static Wide Exp(Wide y) {
    Wide power;
    const Wide e = Reduce(Clamp(y, -constants::kWideExpEnd, constants::kWideExpEnd), &power);
    return S::MulWide(S::AddWide(Set(1), e), power);
  }
  PQI_INLINE static Wide Negated(Wide x) { return S::MulWide(x, Set(-1)); }

  PQI_INLINE static Float Sigmoid(Float x) {
    return Both(x, [](Wide v) { return S::DivWide(Set(1), S::AddWide(Set(1), Exp(Negated(v)))); });
  }

  // x / (1 + e^y).
  PQI_INLINE static Wide Gate(Wide x, Wide y) {
    return S::DivWide(S::MaxWide(Set(-constants::kWideExpEnd), x), S::AddWide(Set(1), Exp(y)));
  }
  PQI_INLINE static Float Silu(Float x) {
    return Both(x, [](Wide v) { return Gate(v, Negated(v)); });
  }
  PQI_INLINE static Float GeluTanh(Float x) {
    return Both(x, [](Wide v) {
      const Wide inner = S::AddWide(v, S::MulWide(Set(constants::kGeluTanhCube), S::MulWide(S::MulWide(v, v), v)));
      return Gate(v, S::MulWide(Set(constants::kGeluTanhScale), inner));
    });
  }

  PQI_INLINE static Float Tanh(Float x) {
    const Float magnitude = Both(S::AbsF(x), [](Wide a) {
      Wide power;
      const Wide e = Reduce(Clamp(S::MulWide(Set(-2), a), constants::kWideTanhEnd, 0), &power);
      const Wide t = S::AddWide(S::MulWide(power, e), S::SubWide(power, Set(1)));  // e^-2a - 1
      return S::DivWide(t, S::AddWide(t, Set(2)));
    });
    return S::CopySign(magnitude, x);
  }

  PQI_INLINE static Float Gelu(Float x) {
    return Both(x, [](Wide v) {
      const Wide t = S::MinWide(Set(constants::kTailEnd), S::AbsWide(v));
      const Wide u = S::DivWide(S::SubWide(t, Set(constants::kTailPole)), S::AddWide(t, Set(constants::kTailPole)));
      const Wide tail = S::MulWide(Polynomial(constants::kTail, u), Exp(S::MulWide(Set(-0.5), S::MulWide(t, t))));
      return S::MulWide(S::MaxWide(Set(-constants::kTailEnd), v), S::SelectNegative(v, tail, S::SubWide(Set(1), tail)));
    });
  }
};

}  // namespace
}  // namespace pqi::kernels
