// AVX512-VNNI primitives: 512-bit vectors with vpdpbusd, which makes u8 x s8 products four at a time (kernels/generic/primitives.h says
// what each name means).
#pragma once

#include "kernels/x86/avx512/base.h"

namespace pqi::kernels {
namespace {

struct Avx512Vnni : Avx512Base {
  // 32 registers hold 12x32 as 24 accumulators, 2 weights and 1 activation. Four k-values take 24 dot products and 14 loads.
  static constexpr TileShape kU8S8 = {12, 32, 4};

  // vpdpbusd adds four products to each lane without saturation.
  static constexpr int kPhases = 1;
  PQI_INLINE static Int PhaseWeights(Int w, int) { return w; }
  PQI_INLINE static Int PhaseActivations(Int x, int) { return x; }
  PQI_INLINE static Int Dot(Int acc, Int x, Int w) { return _mm512_dpbusd_epi32(acc, x, w); }

  // Inner products (kernels/generic/low_bit.h): 8x32 takes 16 accumulators, 4 weights, 2 activations and 2 sums of bytes.
  static constexpr TileShape kInnerProduct = {8, 32, 4};
  // A byte less 128 is the byte with its top bit flipped. One factor of either dot product is 0 in the lanes that belong to the other row.
  PQI_INLINE static Int AddPairs(Int acc, Int a, Int b) {
    const Int first = _mm512_xor_si512(_mm512_srli_epi64(a, 32), _mm512_set1_epi64(0x80808080));
    return Dot(Dot(acc, a, first), _mm512_slli_epi64(b, 32), _mm512_xor_si512(b, SetBytes(-128)));
  }
  PQI_INLINE static Int SumPairs(const Int (&v)[8]) {
    Int w[4];
    PQI_UNROLL for (int i = 0; i < 4; ++i) {
      w[i] = AddInt(_mm512_unpacklo_epi64(v[2 * i], v[2 * i + 1]), _mm512_unpackhi_epi64(v[2 * i], v[2 * i + 1]));
    }
    const auto halves = [](Int x, Int y)
                            PQI_INLINE_LAMBDA { return AddInt(_mm512_shuffle_i32x4(x, y, 0x88), _mm512_shuffle_i32x4(x, y, 0xDD)); };
    return halves(halves(w[0], w[1]), halves(w[2], w[3]));
  }

  // Columns of pixels (kernels/generic/depthwise_columns.h): each dword lane holds four pixels of one channel, the last of them 0
  // where lines end.
  static constexpr int kColumnVectors = 4;
  static constexpr int kColumnOutputs = 2;
  static constexpr int ColumnPhases(int lines) { return (lines + 3) / 4; }
  PQI_INLINE static Int ColumnDot(Int acc, Int x, Int w) { return Dot(acc, x, w); }

  // Spreads 32 bytes over the lower halves of the four pieces of 128 bits.
  template <class Lanes>
  PQI_INLINE static Int Spread32(const void* p, Lanes lanes) {
    return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3), _mm512_zextsi256_si512(Bytes32(p, lanes)));
  }

  // Interleaves the bytes of lines a, b, c and d to dwords: of 64 channels, of 32 channels after Spread32, or of 16 channels that are
  // dwords already.
  PQI_INLINE static void Interleave(Int a, Int b, Int c, Int d, Int (&out)[4]) {
    const Int ab_lo = _mm512_unpacklo_epi8(a, b), ab_hi = _mm512_unpackhi_epi8(a, b);
    const Int cd_lo = _mm512_unpacklo_epi8(c, d), cd_hi = _mm512_unpackhi_epi8(c, d);
    out[0] = _mm512_unpacklo_epi16(ab_lo, cd_lo);
    out[1] = _mm512_unpackhi_epi16(ab_lo, cd_lo);
    out[2] = _mm512_unpacklo_epi16(ab_hi, cd_hi);
    out[3] = _mm512_unpackhi_epi16(ab_hi, cd_hi);
  }
  PQI_INLINE static void Interleave(Int a, Int b, Int c, Int d, Int (&out)[2]) {
    const Int ab = _mm512_unpacklo_epi8(a, b), cd = _mm512_unpacklo_epi8(c, d);
    out[0] = _mm512_unpacklo_epi16(ab, cd);
    out[1] = _mm512_unpackhi_epi16(ab, cd);
  }
  PQI_INLINE static void Interleave(Int a, Int b, Int c, Int d, Int (&out)[1]) {
    const Int ab = _mm512_or_si512(a, _mm512_slli_epi32(b, 8)), cd = _mm512_or_si512(c, _mm512_slli_epi32(d, 8));
    out[0] = _mm512_or_si512(ab, _mm512_slli_epi32(cd, 16));
  }

  // Packs codes in the order in which Interleave leaves channels, which brings them back in theirs.
  PQI_INLINE static Int ColumnBytes(const Int (&v)[4], Int zero_point, Int top) {
    const Int low = _mm512_adds_epi16(_mm512_packs_epi32(v[0], v[1]), zero_point);
    const Int high = _mm512_adds_epi16(_mm512_packs_epi32(v[2], v[3]), zero_point);
    return _mm512_min_epu8(_mm512_packus_epi16(low, high), top);
  }

  // Puts few channels of two or four image rows beside each other in one vector.
  static constexpr int kRowsBeside = 4;
  template <int kRows, class At, class Lanes>
  PQI_INLINE static Int Beside(At at, Lanes lanes) {
    if constexpr (kRows == 2) {
      return _mm512_inserti64x4(_mm512_castsi256_si512(Bytes32(at(0), lanes)), Bytes32(at(1), lanes), 1);
    } else {
      const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(Bytes16(at(0), lanes)), Bytes16(at(1), lanes), 1);
      const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(Bytes16(at(2), lanes)), Bytes16(at(3), lanes), 1);
      return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
    }
  }
  template <int kRows, class Lanes>
  PQI_INLINE static void StoreBeside(uint8_t* p, size_t stride, const Int (&v)[4], Int zero_point, Int top, Lanes lanes) {
    const Int bytes = ColumnBytes(v, zero_point, top);
    if constexpr (kRows == 2) {
      PutBytes(p, _mm512_castsi512_si256(bytes), lanes);
      PutBytes(p + stride, _mm512_extracti64x4_epi64(bytes, 1), lanes);
    } else {
      PutBytes(p, _mm512_castsi512_si128(bytes), lanes);
      PutBytes(p + stride, _mm512_extracti32x4_epi32(bytes, 1), lanes);
      PutBytes(p + 2 * stride, _mm512_extracti32x4_epi32(bytes, 2), lanes);
      PutBytes(p + 3 * stride, _mm512_extracti32x4_epi32(bytes, 3), lanes);
    }
  }

  // A line as Interleave takes it.
  template <int Q, class Lanes>
  PQI_INLINE static Int Line(const void* p, Lanes lanes) {
    if constexpr (Q == 4) return Bytes64(p, lanes);
    if constexpr (Q == 2) return Spread32(p, lanes);
    if constexpr (Q == 1) return _mm512_cvtepu8_epi32(Bytes16(p, lanes));
  }
  template <int Q, int kLines>
  PQI_INLINE static void Columns(const Int (&lines)[kLines], Int (&out)[ColumnPhases(kLines)][Q]) {
    const auto line = [&](int y) PQI_INLINE_LAMBDA { return y < kLines ? lines[y] : _mm512_setzero_si512(); };
    PQI_UNROLL for (int p = 0; p < ColumnPhases(kLines); ++p) {
      Interleave(line(4 * p), line(4 * p + 1), line(4 * p + 2), line(4 * p + 3), out[p]);
    }
  }
  template <int Q, int kLines>
  PQI_INLINE static void WeightColumns(const int8_t (*w)[Q * kLanes], Int (&out)[ColumnPhases(kLines)][Q]) {
    Int lines[kLines];
    PQI_UNROLL for (int y = 0; y < kLines; ++y) lines[y] = Line<Q>(w[y], All());
    Columns<Q>(lines, out);
  }

  template <int Q, class Lanes>
  PQI_INLINE static void StoreColumn(uint8_t* p, const Int (&v)[Q], Int zero_point, Int top, Lanes lanes) {
    if constexpr (Q == 4) {
      PutBytes(p, ColumnBytes(v, zero_point, top), lanes);
    } else if constexpr (Q == 2) {
      const Int words = _mm512_adds_epi16(_mm512_packs_epi32(v[0], v[1]), zero_point);
      const Int bytes = _mm512_min_epu8(_mm512_packus_epi16(words, words), top);
      PutBytes(p, _mm512_castsi512_si256(_mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 0, 2, 4, 6), bytes)), lanes);
    } else {
      Avx512Base::StoreColumn<1>(p, v, zero_point, top, lanes);
    }
  }
};

}  // namespace
}  // namespace pqi::kernels
