// Kernel sets as test parameters, random operands, and comparison bit for bit, for all kernel tests.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "base/isa.h"
#include "kernels/contract/output.h"
#include "kernels/kernel_set.h"
#include "kernels/reference/quantize.h"
#include "tests/twins/twins.h"

namespace pqi::test {

// A test suite that runs once per kernel set, and is skipped with the reason where this CPU lacks the instructions.
class KernelTest : public testing::TestWithParam<TestedSet> {
 protected:
  void SetUp() override {
    if (!CpuSupports(GetParam().needs)) GTEST_SKIP() << "this CPU lacks " << IsaName(GetParam().needs);
    set = GetParam().set;
    ASSERT_NE(set, nullptr);
  }
  const kernels::KernelSet* set = nullptr;
};
inline std::string SetParamName(const testing::TestParamInfo<TestedSet>& info) { return info.param.name; }
#define PQI_INSTANTIATE(suite)                                                                        \
  GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(suite); /* a build without vector kernels has none */ \
  INSTANTIATE_TEST_SUITE_P(Sets, suite, testing::ValuesIn(::pqi::test::TestedSets()), ::pqi::test::SetParamName)

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  // A uniform number in [lo, hi].
  int64_t Int(int64_t lo, int64_t hi) { return lo + static_cast<int64_t>(engine_() % static_cast<uint64_t>(hi - lo + 1)); }
  bool Coin() { return Int(0, 1) == 1; }
  float Float(float lo, float hi) { return lo + (hi - lo) * static_cast<float>(Int(0, 1 << 20)) / (1 << 20); }
  template <typename T>
  std::vector<T> Ints(int64_t n, int64_t lo, int64_t hi) {
    std::vector<T> v(static_cast<size_t>(n));
    for (T& x : v) x = static_cast<T>(Int(lo, hi));
    return v;
  }
  std::vector<float> Floats(int64_t n, float lo, float hi) {
    std::vector<float> v(static_cast<size_t>(n));
    for (float& x : v) x = Float(lo, hi);
    return v;
  }
  template <typename T>
  const T& Pick(const std::vector<T>& v) {
    return v[static_cast<size_t>(Int(0, static_cast<int64_t>(v.size()) - 1))];
  }

 private:
  std::mt19937_64 engine_;
};

inline constexpr float kInf = std::numeric_limits<float>::infinity();
inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// A quantized output with codes in [qmin, qmax], zero point z and an activation that clamps to [lo, hi].
inline kernels::Output Codes(float scale, int32_t z, int32_t qmin, int32_t qmax, float lo = -kInf, float hi = kInf) {
  kernels::Output o;
  o.act_lo = lo;
  o.act_hi = hi;
  o.inv_scale = kernels::reference::InverseScale(scale);
  o.v_lo = static_cast<float>(qmin - z);
  o.v_hi = static_cast<float>(qmax - z);
  o.zero_point = z;
  return o;
}
inline kernels::Output Floats(float lo = -kInf, float hi = kInf) {
  kernels::Output o;
  o.act_lo = lo;
  o.act_hi = hi;
  o.f32 = true;
  return o;
}

// Outputs of 8-bit, narrow and one-sided ranges of codes, with every relation between them and the activation, and outputs of floats.
inline std::vector<kernels::Output> Outputs(float scale) {
  return {Codes(scale, 0, 0, 255),
          Codes(scale, 128, 0, 255),
          Codes(scale, 255, 0, 255),
          Codes(scale, 3, 0, 15, 0, kInf),
          Codes(scale, 8, 1, 15),
          Codes(scale, 1, 0, 3),
          Codes(scale, 0, 0, 63, 0, 6.0f),
          Codes(scale, 100, 20, 200, -1.5f, 2.5f),
          Codes(scale, 5, 0, 9, 1.01f * scale, 3.49f * scale),  // NaN is the zero point, outside the activation's range
          Codes(scale, 0, 0, 3, 100 * scale, 200 * scale),      // activation ranges beyond the codes
          Codes(scale, 8, 1, 15, -50 * scale, -40 * scale),
          Codes(scale, 8, 1, 15, 2 * scale, -2 * scale),
          Floats(),
          Floats(0, kInf),
          Floats(-2.0f, 2.0f)};
}

// Any two NaNs count as the same, because which one an operation gives is not specified; other floats must have the same bits.
inline bool SameBits(float a, float b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  return std::memcmp(&a, &b, sizeof a) == 0;
}
inline bool SameBits(uint8_t a, uint8_t b) { return a == b; }
inline bool SameBits(int32_t a, int32_t b) { return a == b; }

// The index of the first element that differs, or -1.
template <typename T>
int64_t FirstDifference(const T* a, const T* b, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    if (!SameBits(a[i], b[i])) return static_cast<int64_t>(i);
  }
  return -1;
}

}  // namespace pqi::test
