// NEON primitives with sdot (Armv8.2 dot product: Cortex-A55/A76 and later, Neoverse N1).
#pragma once

#include "kernels/arm/neon/simd.h"

namespace pqi::kernels {
namespace {

struct Dotprod : Neon {
  // 32 registers hold 6x16 as 24 accumulators, 4 weights, 1 activation and a mask.
  static constexpr TileShape kU8S8 = {6, 16, 4};

  // sdot takes signed bytes on both sides, so activations enter as a - 128 (kOffset): one instruction for the four vectors that they meet.
  static constexpr int kPhases = 1;
  PQI_INLINE static Int PhaseWeights(Int w, int) { return w; }
  PQI_INLINE static Int PhaseActivations(Int x, int) { return Centred(x); }
  PQI_INLINE static Int Dot(Int acc, Int x, Int w) { return vdotq_s32(acc, vreinterpretq_s8_s32(x), vreinterpretq_s8_s32(w)); }
};

}  // namespace
}  // namespace pqi::kernels
