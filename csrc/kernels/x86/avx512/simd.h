// AVX-512 (F, BW, DQ, VL) primitives for CPUs without VNNI: the u8 x s8 product is widened to 16 bits, as on AVX2
// (kernels/generic/primitives.h says what each name means).
#pragma once

#include "kernels/x86/avx512/base.h"

namespace pqi::kernels {
namespace {

struct Avx512 : Avx512Base {
  // 32 registers hold 10x32 as 20 accumulators, 4 weights (two phases), the activation, its two phases, two products and a mask.
  static constexpr TileShape kU8S8 = {10, 32, 4};

  // vpmaddwd multiplies exactly what vpmaddubsw would saturate. Phase 0 takes bytes 0 and 2 of each dword, phase 1 bytes 1 and 3.
  static constexpr int kPhases = 2;
  PQI_INLINE static Int PhaseWeights(Int w, int phase) { return _mm512_srai_epi16(phase == 0 ? _mm512_slli_epi16(w, 8) : w, 8); }
  PQI_INLINE static Int PhaseActivations(Int x, int phase) {
    return phase == 0 ? _mm512_and_si512(x, _mm512_set1_epi16(0xFF)) : _mm512_srli_epi16(x, 8);
  }
  PQI_INLINE static Int Dot(Int acc, Int x, Int w) { return _mm512_add_epi32(acc, _mm512_madd_epi16(x, w)); }
  // The pairs of codes of 2 and 4 bits cannot saturate (kernels/generic/narrow.h).
  PQI_INLINE static Int DotPairs(Int acc, Int x, Int w) {
    return _mm512_add_epi32(acc, _mm512_madd_epi16(_mm512_maddubs_epi16(x, w), _mm512_set1_epi16(1)));
  }

  // Columns of pixels (kernels/generic/depthwise_columns.h), widened to 16 bits: each dword lane holds two pixels of one channel, or a last
  // one.
  static constexpr int kColumnVectors = 1;
  static constexpr int kColumnOutputs = 1;
  static constexpr int kRowsBeside = 1;
  static constexpr int ColumnPhases(int lines) { return (lines + 1) / 2; }
  PQI_INLINE static Int ColumnDot(Int acc, Int x, Int w) { return Dot(acc, x, w); }
  PQI_INLINE static __m256i Interleaved(__m128i a, __m128i b) { return _mm256_set_m128i(_mm_unpackhi_epi8(a, b), _mm_unpacklo_epi8(a, b)); }
  template <int Q, class Lanes>
  PQI_INLINE static __m128i Line(const void* p, Lanes lanes) {
    static_assert(Q == 1, "");
    return Bytes16(p, lanes);
  }
  template <int Q, int kLines>
  PQI_INLINE static void Columns(const __m128i (&lines)[kLines], Int (&out)[ColumnPhases(kLines)][Q]) {
    PQI_UNROLL for (int y = 0; y + 1 < kLines; y += 2) out[y / 2][0] = _mm512_cvtepu8_epi16(Interleaved(lines[y], lines[y + 1]));
    if constexpr (kLines % 2 == 1) out[kLines / 2][0] = _mm512_cvtepu8_epi32(lines[kLines - 1]);
  }
  template <int Q, int kLines>
  PQI_INLINE static void WeightColumns(const int8_t (*w)[Q * kLanes], Int (&out)[ColumnPhases(kLines)][Q]) {
    const auto line = [&](int y) PQI_INLINE_LAMBDA { return Bytes16(w[y], All()); };
    PQI_UNROLL for (int y = 0; y + 1 < kLines; y += 2) out[y / 2][0] = _mm512_cvtepi8_epi16(Interleaved(line(y), line(y + 1)));
    if constexpr (kLines % 2 == 1) out[kLines / 2][0] = _mm512_cvtepi8_epi32(line(kLines - 1));
  }
};

}  // namespace
}  // namespace pqi::kernels
