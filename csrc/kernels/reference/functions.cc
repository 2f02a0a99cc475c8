#include "kernels/reference/functions.h"

#include <cmath>
#include <limits>

#include "kernels/functions.h"
#include "kernels/reference/quantize.h"

namespace pqi::kernels::reference {
namespace {

using namespace constants;

// A polynomial by Horner's rule over x*x, on pairs c[i] + c[i+1]*x.
template <size_t N>
double PolynomialOfPairs(const double (&c)[N], double x) {
  const auto pair = [&](size_t i) { return i + 1 < N ? c[i + 1] * x + c[i] : c[i]; };
  size_t i = (N - 1) / 2 * 2;
  double y = pair(i);
  while (i > 0) {
    i -= 2;
    y = y * (x * x) + pair(i);
  }
  return y;
}

// Both bounds let NaN pass.
double AtLeast(double lo, double x) { return x < lo ? lo : x; }
double AtMost(double hi, double x) { return x > hi ? hi : x; }

// Splits y = n*ln(2) + r, and gives 2^n and e^r - 1.
struct WideReduced {
  double power = 1, e;
};

WideReduced ReduceWide(double y) {
  WideReduced result;
  const double n = std::nearbyint(y * kWideLog2E);
  const double r = y - n * kWideLn2;
  if (!std::isnan(n)) result.power = std::ldexp(1.0, static_cast<int>(n));
  result.e = r + (r * r) * PolynomialOfPairs(kWideExpPolynomial, r);
  return result;
}

double WideExp(double y) {
  const WideReduced p = ReduceWide(AtMost(kWideExpEnd, AtLeast(-kWideExpEnd, y)));
  return (1.0 + p.e) * p.power;
}

// x / (1 + e^y).
double WideGate(double x, double y) { return AtLeast(-kWideExpEnd, x) / (1.0 + WideExp(y)); }

template <size_t N>
float Horner(const float (&coefficients)[N], float x) {
  float y = coefficients[N - 1];
  for (size_t i = N - 1; i-- > 0;) y = std::fma(y, x, coefficients[i]);
  return y;
}

// Splits x = n*ln(2) + r, and gives n and e^r - 1. x lies in [-104, 89] or is NaN.
struct Reduced {
  int32_t n = 0;
  float e;
};

Reduced Reduce(float x) {
  Reduced result;
  const float v = x * kLog2E;
  if (!std::isnan(v)) result.n = RoundToNearestEven(v);
  const float n = static_cast<float>(result.n);
  const float r = std::fma(n, -kLn2Low, std::fma(n, -kLn2High, x));
  result.e = std::fma(r * r, Horner(kExpPolynomial, r), r);
  return result;
}

// e^x - 1 for x <= 0; a positive x counts as 0.
float Expm1(float x) {
  const Reduced p = Reduce(Activate(x, kExpm1Low, 0.0f));
  const float scale = std::ldexp(1.0f, p.n);
  return std::fma(scale, p.e, scale - 1.0f);
}

// n*ln(2) + log(1 + z) for z of a limited range (constants::kLogPolynomial).
float LogOf(float n, float z) {
  const float t = std::fma(z * z, std::fma(z, Horner(kLogPolynomial, z), -0.5f), z);
  return std::fma(n, kLn2High, std::fma(n, kLn2Low, t));
}

// relu6(x + 3), which the hard functions divide by 6.
float HardGate(float x) { return Activate(x + 3.0f, 0.0f, 6.0f); }

}  // namespace

float Exp(float x) noexcept {
  const Reduced p = Reduce(Activate(x, kExpLow, kExpHigh));
  // 2^n alone may be beyond the normal numbers; its two halves are not.
  const int32_t half = p.n >> 1;
  return (1.0f + p.e) * std::ldexp(1.0f, half) * std::ldexp(1.0f, p.n - half);
}

float Sigmoid(float x) noexcept { return static_cast<float>(1.0 / (1.0 + WideExp(-static_cast<double>(x)))); }

float Silu(float x) noexcept { return static_cast<float>(WideGate(x, -static_cast<double>(x))); }

float Tanh(float x) noexcept {
  const WideReduced p = ReduceWide(AtLeast(kWideTanhEnd, -2.0 * std::fabs(static_cast<double>(x))));
  const double t = p.power * p.e + (p.power - 1.0);  // e^-2|x| - 1
  return std::copysign(static_cast<float>(t / (t + 2.0)), x);
}

float Gelu(float x) noexcept {
  const double v = x, t = AtMost(kTailEnd, std::fabs(v));
  const double tail = PolynomialOfPairs(kTail, (t - kTailPole) / (t + kTailPole)) * WideExp(-0.5 * (t * t));
  return static_cast<float>(AtLeast(-kTailEnd, v) * (v < 0 ? tail : 1.0 - tail));
}

float GeluTanh(float x) noexcept {
  const double v = x;
  return static_cast<float>(WideGate(v, kGeluTanhScale * (v + kGeluTanhCube * ((v * v) * v))));
}

float Erf(float x) noexcept {
  const float t = std::fabs(x);
  if (t > kErfSplit) return std::copysign(1.0f - Exp(Horner(kErfFar, t > kErfEnd ? kErfEnd : t)), x);
  return std::fma(Horner(kErfNear, x * x), x, x);
}

float Log(float x) noexcept {
  if (x < 0.0f) return std::numeric_limits<float>::quiet_NaN();
  if (x == 0.0f) return -std::numeric_limits<float>::infinity();
  if (std::isnan(x) || std::isinf(x)) return x + x;  // the sum makes a signalling NaN quiet, as every other operation does
  int k = 0;
  float f = 2.0f * std::frexp(x, &k);  // 1 <= f < 2
  k -= 1;
  if (f > kSqrtTwo) {
    f *= 0.5f;
    k += 1;
  }
  return LogOf(static_cast<float>(k), f - 1.0f);
}

float Softplus(float x) noexcept {
  if (std::isnan(x)) return x + x;
  const float u = Exp(-std::fabs(x));
  const bool upper = u > kSqrtTwo - 1.0f;
  return (x < 0.0f ? 0.0f : x) + LogOf(upper ? 1.0f : 0.0f, upper ? (u - 1.0f) * 0.5f : u);
}

float Evaluate(const Unary& f, float x) noexcept {
  switch (f.function) {
    case UnaryFunction::kExp:
      return Exp(x);
    case UnaryFunction::kSigmoid:
      return Sigmoid(x);
    case UnaryFunction::kTanh:
      return Tanh(x);
    case UnaryFunction::kErf:
      return Erf(x);
    case UnaryFunction::kSilu:
      return Silu(x);
    case UnaryFunction::kGelu:
      return Gelu(x);
    case UnaryFunction::kGeluTanh:
      return GeluTanh(x);
    case UnaryFunction::kHardsigmoid:
      return HardGate(x) / 6.0f;
    case UnaryFunction::kHardswish:
      return x * HardGate(x) / 6.0f;
    case UnaryFunction::kElu:
      return x > 0.0f ? x : f.alpha * Expm1(x);
    case UnaryFunction::kLeakyRelu:
      return x > 0.0f ? x : x * f.alpha;
    case UnaryFunction::kSqrt:
      return std::sqrt(x);
    case UnaryFunction::kRsqrt:
      return 1.0f / std::sqrt(x);
    case UnaryFunction::kAbs:
      return std::fabs(x);
    case UnaryFunction::kLog:
      return Log(x);
    case UnaryFunction::kSoftplus:
      return Softplus(x);
  }
  return x;
}

void ApplyUnary(const float* x, size_t n, const Unary& f, const Output& o, void* y) noexcept {
  for (size_t i = 0; i < n; ++i) Store(Evaluate(f, x[i]), o, y, i);
}

void PreluChannels(const float* x, float* y, size_t rows, size_t channels, const float* slope) noexcept {
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < channels; ++c) {
      const float v = x[r * channels + c];
      y[r * channels + c] = v > 0.0f ? v : v * slope[c];
    }
  }
}

}  // namespace pqi::kernels::reference
