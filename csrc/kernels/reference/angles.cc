#include "kernels/reference/angles.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <limits>

namespace pqi::kernels::reference {
namespace {

constexpr double kTwoOverPi = 0x1.45f306dc9c883p-1;
// pi/2 is the sum of these. Products of the first, which has 33 bits, and numbers of up to 20 bits are exact.
constexpr double kHalfPiHigh = 0x1.921fb544p+0, kHalfPiLow = 0x1.0b4611a626331p-34;
constexpr double kHalfPi = 0x1.921fb54442d18p+0;
// The bits of 2/pi behind the point, after 32 zeros.
constexpr uint32_t kTwoOverPiBits[] = {0,          0xA2F9836E, 0x4E441529, 0xFC2757D1, 0xF534DDC0,
                                       0xDB629599, 0x3C439041, 0xFE5163AB, 0xDEBBC561, 0xB7246E3A};
// From here on an angle is divided by pi/2 in integers.
constexpr double kLargeAngle = 0x1p+20;

// An angle is `quarter` right angles and `rest`, which is at most about pi/4 in size; whole turns are left out.
struct Angle {
  uint32_t quarter = 0;
  double rest = 0;
};

Angle ReduceSmall(double x) {
  const double n = std::nearbyint(x * kTwoOverPi);
  return {static_cast<uint32_t>(static_cast<int32_t>(n)), (x - n * kHalfPiHigh) - n * kHalfPiLow};
}

// x = m * 2^e with m of 24 bits. Of 2/pi only the bits count that make less than four right angles of it; 96 of those are taken.
Angle ReduceLarge(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const uint64_t m = (bits & 0x7FFFFF) | 0x800000;
  const uint32_t at = (bits >> 23 & 0xFF) - 150 - 2 + 32;  // the first of these bits in kTwoOverPiBits
  const auto word = [at](uint32_t i) {
    const uint32_t first = at / 32 + i, shift = at % 32;
    const uint64_t two = uint64_t{kTwoOverPiBits[first]} << 32 | kTwoOverPiBits[first + 1];
    return static_cast<uint64_t>(static_cast<uint32_t>(two >> (32 - shift)));
  };
  const uint64_t product = m * (word(0) << 32 | word(1)) + (m * word(2) >> 32);  // in units of 2^-62 right angles, modulo 4
  const uint64_t quarter = (product + (uint64_t{1} << 61)) >> 62;
  const int64_t rest = static_cast<int64_t>(product - (quarter << 62));
  return {static_cast<uint32_t>(quarter), static_cast<double>(rest) * 0x1p-62 * kHalfPi};
}
static_assert(std::size(kTwoOverPiBits) * 32 >= 254 - 150 - 2 + 32 + 4 * 32, "the largest float reads four words");

double SineOfRest(double r) {
  const double q = r * r;
  double s = 1.0 / 6227020800.0;
  for (double c : {-1.0 / 39916800.0, 1.0 / 362880.0, -1.0 / 5040.0, 1.0 / 120.0, -1.0 / 6.0}) s = s * q + c;
  return r + (r * q) * s;
}

double CosineOfRest(double r) {
  const double q = r * r;
  double s = -1.0 / 87178291200.0;
  for (double c : {1.0 / 479001600.0, -1.0 / 3628800.0, 1.0 / 40320.0, -1.0 / 720.0, 1.0 / 24.0}) s = s * q + c;
  return (1.0 - 0.5 * q) + (q * q) * s;
}

// The sine of x >= 0 and `more` right angles.
float SineOf(float x, uint32_t more) {
  if (!std::isfinite(x)) return std::numeric_limits<float>::quiet_NaN();
  const Angle angle = x < kLargeAngle ? ReduceSmall(x) : ReduceLarge(x);
  const uint32_t quarter = angle.quarter + more;
  const float y = static_cast<float>(quarter % 2 == 0 ? SineOfRest(angle.rest) : CosineOfRest(angle.rest));
  return quarter % 4 < 2 ? y : -y;
}

}  // namespace

float Sin(float x) noexcept {
  const float y = SineOf(std::fabs(x), 0);
  return std::signbit(x) ? -y : y;
}

float Cos(float x) noexcept { return SineOf(std::fabs(x), 1); }

}  // namespace pqi::kernels::reference
