// Constants of docs/numerics.md section "Elementary functions": least-maximum fits, rounded to float32. The plain reference and the vector
// kernels read the same numbers; the NumPy twin has its own copy.
#pragma once

#include <cstdint>

namespace pqi::kernels::constants {

inline constexpr float kExpLow = -104.0f, kExpHigh = 89.0f;  // beyond them e^x is 0 and infinity
inline constexpr float kExpm1Low = -87.0f;                   // below it e^x - 1 is -1, and 2^n would not be normal
inline constexpr float kLog2E = 0x1.715476p+0f;
// ln 2 is their sum; n * kLn2High is exact for |n| <= 150.
inline constexpr float kLn2High = 0x1.62e4p-1f, kLn2Low = 0x1.7f7d1cp-20f;
// Fits (e^r - 1 - r) / r^2 for |r| <= ln(2) / 2, ascending powers of r.
inline constexpr float kExpPolynomial[5] = {0x1.0p-1f, 0x1.55548cp-3f, 0x1.55545cp-5f, 0x1.123cep-7f, 0x1.6db648p-10f};
// Fits erf(x) / x - 1 for |x| <= kErfSplit, ascending powers of x^2.
inline constexpr float kErfSplit = 0.93f;
inline constexpr float kErfNear[6] = {0x1.06eba6p-3f, -0x1.8126dcp-2f, 0x1.ce1908p-4f, -0x1.b676eap-6f, 0x1.46c2c6p-8f, -0x1.3827acp-11f};
// Fits log(1 - erf(t)) for kErfSplit <= t <= kErfEnd, ascending powers of t; erf(t) is 1 beyond.
inline constexpr float kErfEnd = 4.0f;
inline constexpr float kErfFar[7] = {-0x1.bb22fcp-13f, -0x1.20ab22p+0f, -0x1.464aecp-1f, -0x1.a950f4p-4f,
                                     0x1.6b6b9ep-6f,   -0x1.8d634ap-9f, 0x1.987afep-13f};
// Fits (log(1 + z) - z + z^2/2) / z^3 for sqrt(1/2) - 1 <= z <= sqrt(2) - 1, ascending powers of z.
inline constexpr float kLogPolynomial[9] = {0x1.555548p-2f,  -0x1.000006p-2f, 0x1.99a4b6p-3f,  -0x1.555c4cp-3f, 0x1.233766p-3f,
                                            -0x1.fc2222p-4f, 0x1.e6f0a6p-4f,  -0x1.de3b9ap-4f, 0x1.145696p-4f};
inline constexpr float kSqrtTwo = 0x1.6a09e6p+0f;
inline constexpr int32_t kSqrtTwoBits = 0x3FB504F3;
inline constexpr float kSmallestNormal = 0x1p-126f, kLargestFloat = 0x1.fffffep+127f;
// A subnormal number times kLogRaise is normal, and its logarithm is kLogRaiseBits * ln(2) too large.
inline constexpr float kLogRaise = 0x1p+23f, kLogRaiseBits = 23;

// x * e^x is 0 below -kGateEnd.
inline constexpr float kGateEnd = 120.0f;
// Fits (1 - Phi(t)) * e^(t*t/2) for 0 <= t <= kTailEnd, Phi the normal distribution, ascending powers of (t - kTailPole) / (t + kTailPole).
// Beyond the end x * (1 - Phi(|x|)) is 0 as a float32.
inline constexpr float kTailEnd = 15.0f, kTailPole = 3.5f;
inline constexpr float kTail[11] = {0x1.b396fap-4f,   -0x1.7f4318p-3f, 0x1.01c066p-3f,  -0x1.f8f366p-5f,  0x1.385f5ep-6f,  -0x1.992728p-10f,
                                    -0x1.6a390ap-10f, 0x1.96dfe6p-12f, 0x1.17ff2cp-13f, -0x1.a03c60p-15f, -0x1.45fe4ep-16f};
// 2 sqrt(2 / pi) and 0.044715 times it, each the sum of two floats. Beyond kGeluTanhEnd both sides of the function have ended.
inline constexpr float kGeluTanhEnd = 16.0f;
inline constexpr float kGeluTanhLinear = 0x1.988454p+0f, kGeluTanhLinearLow = -0x1.857936p-25f;
inline constexpr float kGeluTanhCubic = 0x1.2444f2p-4f, kGeluTanhCubicLow = 0x1.49b16ap-29f;

}  // namespace pqi::kernels::constants
