// Error of the elementary functions against the mathematical value, in units of the result's last place (docs/numerics.md).
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "kernels/reference/angles.h"
#include "tests/kernels/cases.h"

namespace pqi::test {
namespace {

using kernels::UnaryFunction;

struct Function {
  UnaryFunction function;
  const char* name;
  double bound;
  double (*exact)(double);
};

constexpr double kSqrtTwoOverPi = 0.79788456080286535588, kSqrtHalf = 0.70710678118654752440;

const Function kFunctions[] = {
    {UnaryFunction::kExp, "exp", 1.1, [](double x) { return std::exp(x); }},
    {UnaryFunction::kErf, "erf", 1.3, [](double x) { return std::erf(x); }},
    {UnaryFunction::kSigmoid, "sigmoid", 2.5, [](double x) { return 1 / (1 + std::exp(-x)); }},
    {UnaryFunction::kSilu, "silu", 2.9, [](double x) { return x / (1 + std::exp(-x)); }},
    {UnaryFunction::kTanh, "tanh", 2.6, [](double x) { return std::tanh(x); }},
    {UnaryFunction::kGelu, "gelu", 8.5, [](double x) { return x * 0.5 * std::erfc(-x * kSqrtHalf); }},
    {UnaryFunction::kGeluTanh, "gelu_tanh", 2.9,
     [](double x) { return x / (1 + std::exp(-2 * kSqrtTwoOverPi * (x + 0.044715 * x * x * x))); }},
    {UnaryFunction::kSqrt, "sqrt", 0.5, [](double x) { return std::sqrt(x); }},
    {UnaryFunction::kRsqrt, "rsqrt", 1.5, [](double x) { return 1 / std::sqrt(x); }},
    {UnaryFunction::kLog, "log", 1.2, [](double x) { return std::log(x); }},
    {UnaryFunction::kSoftplus, "softplus", 2.0, [](double x) { return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x)); }},
};

// The distance of `got` from `exact`, in units of the last place of a float near `exact`.
double Error(float got, double exact) {
  if (std::abs(exact) > std::numeric_limits<float>::max()) return std::isinf(got) ? 0 : kInf;
  int exponent = -126;
  if (exact != 0) exponent = std::max(std::ilogb(exact), -126);
  return std::abs(static_cast<double>(got) - exact) / std::ldexp(1.0, exponent - 23);
}

// How far apart the tested floats are: PQINFER_ACCURACY_STEP, of which 1 tests every float; without it 2^24 of them are tested.
uint64_t Step() {
  const char* text = std::getenv("PQINFER_ACCURACY_STEP");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : 257;
}

// No set has them: sessions run these on every CPU.
TEST(AccuracyTest, SineAndCosineOfEveryFloatAreWithinTheirBounds) {
  double worst = 0;
  for (uint64_t bits = 0; bits < uint64_t{1} << 31; bits += Step()) {
    const uint32_t pattern = static_cast<uint32_t>(bits);
    float x;
    std::memcpy(&x, &pattern, sizeof x);
    if (!std::isfinite(x)) {
      EXPECT_TRUE(std::isnan(kernels::reference::Sin(x)) && std::isnan(kernels::reference::Cos(-x)));
      break;
    }
    EXPECT_EQ(kernels::reference::Sin(-x), -kernels::reference::Sin(x));
    EXPECT_EQ(kernels::reference::Cos(-x), kernels::reference::Cos(x));
    worst = std::max({worst, Error(kernels::reference::Sin(x), std::sin(static_cast<double>(x))),
                      Error(kernels::reference::Cos(x), std::cos(static_cast<double>(x)))});
  }
  EXPECT_LE(worst, 0.51);
}

// All sets give the same bits (elementwise_test.cc), so one is enough: the last that this CPU runs.
TEST(AccuracyTest, FunctionsOfEveryFloatAreWithinTheirBounds) {
  const kernels::KernelSet* set = RunnableSets().back().set;
  constexpr size_t kBatch = 4096;
  std::vector<float> x(kBatch), y(kBatch);
  for (const Function& f : kFunctions) {
    double worst = 0;
    float worst_at = 0;
    const uint64_t step = Step();
    for (uint64_t first = 0; first < uint64_t{1} << 32; first += kBatch * step) {
      for (size_t i = 0; i < kBatch; ++i) {
        const uint32_t bits = static_cast<uint32_t>(std::min<uint64_t>(first + i * step, 0xFFFFFFFFu));
        std::memcpy(&x[i], &bits, 4);
      }
      set->unary(x.data(), kBatch, {f.function, 0}, Floats(), y.data());
      for (size_t i = 0; i < kBatch; ++i) {
        if (std::isnan(x[i])) {
          ASSERT_TRUE(std::isnan(y[i])) << f.name;
        } else if (const double exact = f.exact(static_cast<double>(x[i])); std::isnan(exact)) {
          ASSERT_TRUE(std::isnan(y[i])) << f.name << "(" << x[i] << ")";
        } else if (!std::isinf(x[i])) {
          const double error = std::isinf(exact) && static_cast<double>(y[i]) == exact ? 0 : Error(y[i], exact);
          if (!(error <= worst)) {
            worst = error;
            worst_at = x[i];
          }
        }
      }
    }
    EXPECT_LE(worst, f.bound) << f.name << "(" << worst_at << ")";
    std::cout << f.name << ": " << worst << " at " << worst_at << "\n";
  }
}

}  // namespace
}  // namespace pqi::test
