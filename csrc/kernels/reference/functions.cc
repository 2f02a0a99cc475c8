#include "kernels/reference/functions.h"

#include <cmath>
#include <limits>

#include "kernels/functions.h"
#include "kernels/reference/quantize.h"

namespace pqi::kernels::reference {
namespace {

using namespace constants;

template <size_t N>
float Horner(const float (&coefficients)[N], float x) {
  float y = coefficients[N - 1];
  for (size_t i = N - 1; i-- > 0;) y = std::fma(y, x, coefficients[i]);
  return y;
}

// Splits x + low = n*ln(2) + r, and gives n and e^r - 1. x lies in [-kGateEnd, 89] or is NaN.
struct Reduced {
  int32_t n = 0;
  float e;
};

Reduced Reduce(float x, float low = 0.0f) {
  Reduced result;
  const float v = x * kLog2E;
  if (!std::isnan(v)) result.n = RoundToNearestEven(v);
  const float n = static_cast<float>(result.n);
  const float r = std::fma(n, -kLn2Low, std::fma(n, -kLn2High, x)) + low;
  result.e = std::fma(r * r, Horner(kExpPolynomial, r), r);
  return result;
}

// v * 2^n in two steps, because 2^n alone may be beyond the normal numbers.
float Scaled(float v, int32_t n) {
  const int32_t half = n >> 1;
  return v * std::ldexp(1.0f, half) * std::ldexp(1.0f, n - half);
}

// x / (1 + e^-y) for y of the sign of x, |y| = high + low. A negative x is multiplied in front of the power of two, so that the tail keeps
// its digits.
float Gate(float x, float high, float low) {
  const Reduced p = Reduce(0.0f - high, 0.0f - low);
  const float factor = 1.0f + p.e;
  return (x < 0.0f ? Scaled(x * factor, p.n) : x) / (1.0f + Scaled(factor, p.n));
}

// Both bounds let NaN pass.
float AtLeast(float lo, float x) { return x < lo ? lo : x; }
float AtMost(float hi, float x) { return x > hi ? hi : x; }

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
  return Scaled(1.0f + p.e, p.n);
}

float Sigmoid(float x) noexcept {
  if (std::isnan(x)) return x + x;
  const Reduced p = Reduce(0.0f - AtMost(kGateEnd, std::fabs(x)));
  const float e = Scaled(1.0f + p.e, p.n);
  return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

float Silu(float x) noexcept { return Gate(AtLeast(-kGateEnd, x), AtMost(kGateEnd, std::fabs(x)), 0.0f); }

float GeluTanh(float x) noexcept {
  // y = t * (linear + cubic * t*t) to twice the digits: each `low` is what rounding took.
  const float t = AtMost(kGeluTanhEnd, std::fabs(x));
  const float square = t * t, square_low = std::fma(t, t, -square);
  const float term = kGeluTanhCubic * square, term_low = std::fma(kGeluTanhCubic, square, -term);
  const float sum = kGeluTanhLinear + term, part = sum - kGeluTanhLinear;
  const float lost = (kGeluTanhLinear - (sum - part)) + (term - part);
  const float low = lost + std::fma(kGeluTanhCubicLow, square, std::fma(kGeluTanhCubic, square_low, term_low + kGeluTanhLinearLow));
  const float y = t * sum, y_low = std::fma(t, sum, -y) + t * low;
  return Gate(AtLeast(-kGeluTanhEnd, x), AtMost(kGateEnd, y), y_low);
}

float Tanh(float x) noexcept {
  const float e = Expm1(-2.0f * std::fabs(x));
  return std::copysign(e / (e + 2.0f), x);
}

float Gelu(float x) noexcept {
  const float t = AtMost(kTailEnd, std::fabs(x));
  const float square = t * t, square_low = std::fma(t, t, -square);
  const Reduced p = Reduce(0.0f - 0.5f * square, 0.0f - 0.5f * square_low);
  const float tail = Horner(kTail, (t - kTailPole) / (t + kTailPole));
  const float v = Scaled(t * tail * (1.0f + p.e), p.n);  // |x| * (1 - Phi(|x|))
  return x < 0.0f ? 0.0f - v : x - v;
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
