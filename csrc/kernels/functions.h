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

// Constants of the functions that are computed in binary64.
inline constexpr double kWideExpEnd = 708;  // 2^n stays normal up to here
inline constexpr double kWideLog2E = 0x1.71547652b82fep+0, kWideLn2 = 0x1.62e42fefa39efp-1;
// Fits (e^r - 1 - r) / r^2 for |r| <= ln(2) / 2, ascending powers of r; the relative error of e^r - 1 is below 2^-31.
inline constexpr double kWideExpPolynomial[6] = {0x1.00000027f85d1p-1, 0x1.555555890b86ap-3,  0x1.5554ad8d1b6ebp-5,
                                                 0x1.11108f8a6d83fp-7, 0x1.6d74cf34ae11ep-10, 0x1.a1a181b3b5a5fp-13};
inline constexpr double kWideTanhEnd = -100;  // e^x - 1 is -1 below
// Fits (1 - Phi(t)) * e^(t*t/2) for 0 <= t <= kTailEnd, Phi the normal distribution, ascending powers of (t - kTailPole) / (t + kTailPole);
// the relative error is below 2^-29. Beyond the end x * (1 - Phi(|x|)) is 0 as a float32.
inline constexpr double kTailEnd = 15, kTailPole = 3.5;
inline constexpr double kTail[11] = {0x1.b396f9d1c5649p-4,  -0x1.7f4318dcd6e8cp-3,  0x1.01c06552e7854p-3,   -0x1.f8f365a70e650p-5,
                                     0x1.385f5d7966bacp-6,  -0x1.9927288a548d9p-10, -0x1.6a3909282c997p-10, 0x1.96dfe5f69849dp-12,
                                     0x1.17ff2c1cb980ap-13, -0x1.a03c6129a86dcp-15, -0x1.45fe5265e9a66p-16};
inline constexpr double kGeluTanhScale = -0x1.9884533d43651p+0;  // -2 * sqrt(2 / pi)
inline constexpr double kGeluTanhCube = 0.044715;

}  // namespace pqi::kernels::constants
