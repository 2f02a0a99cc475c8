// AVX-512 (F, BW, DQ, VL) primitives for CPUs without VNNI: those of AVX512-VNNI but for the u8 x s8 product, which is widened to 16 bits
// as on AVX2 (kernels/generic/kernel_set.h says what they are for).
#pragma once

#include "kernels/x86/avx512vnni/simd.h"

namespace pqi::kernels {
namespace {

struct Avx512 : Simd {
  // 10x32 of 32 registers: 20 accumulators, 4 weights (two phases), the activation, its two phases, two products, a mask.
  static constexpr TileShape kU8S8 = {10, 32, 4};

  // vpmaddwd multiplies exactly what vpmaddubsw would saturate: phase 0 takes bytes 0 and 2 of each dword, phase 1 bytes 1 and 3.
  static constexpr int kPhases = 2;
  PQI_INLINE static Int PhaseWeights(Int w, int phase) { return _mm512_srai_epi16(phase == 0 ? _mm512_slli_epi16(w, 8) : w, 8); }
  PQI_INLINE static Int PhaseActivations(Int x, int phase) {
    return phase == 0 ? _mm512_and_si512(x, _mm512_set1_epi16(0xFF)) : _mm512_srli_epi16(x, 8);
  }
  PQI_INLINE static Int Dot(Int acc, Int x, Int w) { return _mm512_add_epi32(acc, _mm512_madd_epi16(x, w)); }
  // For codes whose pairs cannot saturate: those of 2 and 4 bits (kernels/generic/narrow.h).
  PQI_INLINE static Int DotPairs(Int acc, Int x, Int w) {
    return _mm512_add_epi32(acc, _mm512_madd_epi16(_mm512_maddubs_epi16(x, w), _mm512_set1_epi16(1)));
  }

  // Columns of three pixels, widened to 16 bits: phase 0 holds one channel's upper two bytes in each dword lane, phase 1 the third.
  static constexpr int kColumnVectors = 1;
  static constexpr int kColumnOutputs = 1;
  static constexpr int kRowsBeside = 1;
  static constexpr int kColumnPhases = kPhases;
  PQI_INLINE static Int ColumnDot(Int acc, Int x, Int w) { return Dot(acc, x, w); }
  PQI_INLINE static __m256i Interleaved(__m128i a, __m128i b) { return _mm256_set_m128i(_mm_unpackhi_epi8(a, b), _mm_unpacklo_epi8(a, b)); }
  template <int Q, class Lanes>
  PQI_INLINE static void LoadColumn(const uint8_t* top, const uint8_t* middle, const uint8_t* bottom, Lanes lanes, Int (&out)[2][Q]) {
    static_assert(Q == 1, "");
    out[0][0] = _mm512_cvtepu8_epi16(Interleaved(Bytes16(top, lanes), Bytes16(middle, lanes)));
    out[1][0] = _mm512_cvtepu8_epi32(Bytes16(bottom, lanes));
  }
  template <int Q>
  PQI_INLINE static void WeightColumn(const int8_t* top, const int8_t* middle, const int8_t* bottom, Int (&out)[2][Q]) {
    static_assert(Q == 1, "");
    out[0][0] = _mm512_cvtepi8_epi16(Interleaved(Bytes16(top, All()), Bytes16(middle, All())));
    out[1][0] = LoadS8(bottom);
  }
};

}  // namespace
}  // namespace pqi::kernels
