// AVX-VNNI primitives: those of AVX2 with vpdpbusd in place of the widened product (kernels/generic/primitives.h says what each name
// means).
//
// vpdpbusd on 256 bits has two encodings that do the same: VEX (AVX-VNNI: Alder Lake and later, Zen 5) and EVEX (AVX512-VNNI + VL).
// Which one is compiled follows from the flags of the translation unit: VEX in the library, EVEX in the twin that tests run on machines
// without AVX-VNNI (tests/twins).
#pragma once

#include "kernels/x86/avx2/simd.h"

namespace pqi::kernels {
namespace {

struct AvxVnni : Avx2 {
  // Sixteen registers hold 6x16 as 12 accumulators, 2 weights and 1 activation.
  static constexpr TileShape kU8S8 = {6, 16, 4};
  static constexpr int kNarrowRows = 2, kNarrowUnpackedRows = 3;

  static constexpr int kPhases = 1;
  PQI_INLINE static Int PhaseWeights(Int w, int) { return w; }
  PQI_INLINE static Int PhaseActivations(Int x, int) { return x; }
  PQI_INLINE static Int Dot(Int acc, Int x, Int w) {
#if defined(__AVXVNNI__)
    return _mm256_dpbusd_avx_epi32(acc, x, w);
#else
    return _mm256_dpbusd_epi32(acc, x, w);
#endif
  }

  // Columns of pixels (kernels/generic/depthwise_columns.h): each dword lane holds four pixels of one channel, the last of them 0 where
  // lines end.
  static constexpr int kColumnVectors = 2;
  static constexpr int kColumnOutputs = 2;
  static constexpr int ColumnPhases(int lines) { return (lines + 3) / 4; }
  PQI_INLINE static Int ColumnDot(Int acc, Int x, Int w) { return Dot(acc, x, w); }
  PQI_INLINE static __m128i Bytes16(const void* p, All) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
  PQI_INLINE static __m128i Bytes16(const void* p, const Mask& m) {
    if (m.count <= 8) return Bytes8(p, m);
    return _mm_unpacklo_epi64(Bytes8(p, All()), Bytes8(static_cast<const uint8_t*>(p) + 8, Mask{m.lanes, m.count - 8}));
  }
  // Spreads 16 bytes over the lower halves of the two pieces of 128 bits.
  template <class Lanes>
  PQI_INLINE static Int Spread16(const void* p, const Lanes& lanes) {
    return _mm256_permute4x64_epi64(_mm256_castsi128_si256(Bytes16(p, lanes)), 0x50);
  }

  // A line as Interleave takes it.
  template <int Q, class Lanes>
  PQI_INLINE static auto Line(const void* p, const Lanes& lanes) {
    if constexpr (Q == 2) {
      return Spread16(p, lanes);
    } else {
      return Bytes8(p, lanes);
    }
  }
  PQI_INLINE static void Interleave(Int a, Int b, Int c, Int d, Int (&out)[2]) {
    const Int ab = _mm256_unpacklo_epi8(a, b), cd = _mm256_unpacklo_epi8(c, d);
    out[0] = _mm256_unpacklo_epi16(ab, cd);
    out[1] = _mm256_unpackhi_epi16(ab, cd);
  }
  PQI_INLINE static void Interleave(__m128i a, __m128i b, __m128i c, __m128i d, Int (&out)[1]) {
    const __m128i ab = _mm_unpacklo_epi8(a, b), cd = _mm_unpacklo_epi8(c, d);
    out[0] = _mm256_set_m128i(_mm_unpackhi_epi16(ab, cd), _mm_unpacklo_epi16(ab, cd));
  }
  template <int Q, int kLines, class Bytes>
  PQI_INLINE static void Columns(const Bytes (&lines)[kLines], Int (&out)[ColumnPhases(kLines)][Q]) {
    const auto line = [&](int y) PQI_INLINE_LAMBDA { return y < kLines ? lines[y] : Bytes{}; };
    PQI_UNROLL for (int p = 0; p < ColumnPhases(kLines); ++p) {
      Interleave(line(4 * p), line(4 * p + 1), line(4 * p + 2), line(4 * p + 3), out[p]);
    }
  }
  template <int Q, int kLines>
  PQI_INLINE static void WeightColumns(const int8_t (*w)[Q * kLanes], Int (&out)[ColumnPhases(kLines)][Q]) {
    decltype(Line<Q>(w[0], All())) lines[kLines];
    PQI_UNROLL for (int y = 0; y < kLines; ++y) lines[y] = Line<Q>(w[y], All());
    Columns<Q>(lines, out);
  }

  template <int Q, class Lanes>
  PQI_INLINE static void StoreColumn(uint8_t* p, const Int (&v)[Q], Int zero_point, Int top, const Lanes& lanes) {
    if constexpr (Q == 2) {
      const Int words = _mm256_adds_epi16(_mm256_packs_epi32(v[0], v[1]), zero_point);
      const Int bytes = _mm256_min_epu8(_mm256_packus_epi16(words, words), top);
      PutPiece(p, _mm_unpacklo_epi64(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1)), 16, lanes);
    } else {
      Avx2::StoreColumn<1>(p, v, zero_point, top, lanes);
    }
  }
};

}  // namespace
}  // namespace pqi::kernels
