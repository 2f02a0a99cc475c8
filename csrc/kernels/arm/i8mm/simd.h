// NEON primitives with usdot (Armv8.6 int8 matrix extension: Cortex-A510/A710 and later, Neoverse N2, V1).
#pragma once

#include "kernels/arm/dotprod/simd.h"

namespace pqi::kernels {
namespace {

// The matrix extension also brings the dot product of unsigned by signed bytes, which takes activations as they are.
struct I8mm : Dotprod {
  static constexpr int32_t kOffset = 0;
  PQI_INLINE static Int PhaseActivations(Int x, int) { return x; }
  PQI_INLINE static Int Dot(Int acc, Int x, Int w) { return vusdotq_s32(acc, vreinterpretq_u8_s32(x), vreinterpretq_s8_s32(w)); }
};

}  // namespace
}  // namespace pqi::kernels
