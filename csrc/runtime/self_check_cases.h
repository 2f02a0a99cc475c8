// Operands and comparisons of the self check (runtime/self_check.h).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels/contract/output.h"
#include "kernels/kernel_set.h"

namespace pqi::self_check {

using kernels::Output;

inline constexpr float kInfinity = std::numeric_limits<float>::infinity();
inline constexpr size_t kCount = 37;  // elements of the elementwise cases: whole vectors of every ISA, and a tail

// Pseudo-random operands that are the same on every machine; one in four is an extreme.
class Operands {
 public:
  template <typename T>
  std::vector<T> Integers(int64_t count, int lo, int hi) {
    std::vector<T> v(static_cast<size_t>(count));
    const uint64_t width = static_cast<uint64_t>(hi - lo + 1);
    for (T& x : v) {
      const uint64_t bits = engine_();  // one number for all: making operands would take longer than checking kernels
      const bool extreme = (bits & 3) == 0;
      x = static_cast<T>(extreme ? ((bits & 4) == 0 ? lo : hi) : lo + static_cast<int>((bits >> 3) * width >> 28));
    }
    return v;
  }
  std::vector<float> Floats(int64_t count, float scale) {
    std::vector<float> v(static_cast<size_t>(count));
    for (float& x : v) x = scale * (static_cast<float>(static_cast<uint64_t>(engine_()) * 2001 >> 31) - 1000) / 1000;
    return v;
  }

 private:
  std::minstd_rand engine_{1};  // 31 bits
};

// An epilogue that ends in codes. lo is -infinity, or it is 0 and so is the zero point: then saturation, and a minimum for codes that end
// at 200, can stand for every clamp.
inline Output Codes(int32_t zero_point, float lo, bool saturates = false) {
  Output o;
  o.saturates = saturates;
  o.code_max = saturates ? 200 : 255;
  o.act_lo = lo;
  o.act_hi = kInfinity;
  o.inv_scale = 1 / 0.037f;
  o.v_lo = static_cast<float>(-zero_point);
  o.v_hi = static_cast<float>(o.code_max - zero_point);
  o.zero_point = zero_point;
  return o;
}

inline Output Floats() {
  Output o;
  o.act_lo = -kInfinity;
  o.act_hi = kInfinity;
  o.f32 = true;
  return o;
}

// Bitwise equality, but any NaN equals any other: which NaN an operation gives is not specified.
inline bool Same(const std::vector<uint8_t>& a, const std::vector<uint8_t>& b, bool f32) {
  if (!f32 || a == b) return a == b;
  for (size_t i = 0; i < a.size(); i += sizeof(float)) {
    float x, y;
    std::memcpy(&x, &a[i], sizeof x);
    std::memcpy(&y, &b[i], sizeof y);
    if (std::memcmp(&x, &y, sizeof x) != 0 && !(std::isnan(x) && std::isnan(y))) return false;
  }
  return true;
}

// The first layer kernel of the set that is wrong, in words; empty if there is none.
std::string FindWrongLayer(const kernels::KernelSet& set);
std::string FindWrongElementwise(const kernels::KernelSet& set);

}  // namespace pqi::self_check
