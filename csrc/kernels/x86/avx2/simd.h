// AVX2 + FMA primitives (kernels/generic/primitives.h says what each name means).
#pragma once

#include <immintrin.h>

#include "kernels/contract/tile.h"
#include "kernels/generic/compiler.h"
#include "kernels/x86/interleave.h"

namespace pqi::kernels {
namespace {

struct Avx2 : Transposes {
  static constexpr int kLanes = 8;
  static constexpr int kBytes = 32;
  // Sixteen registers hold 4x16 as 8 accumulators, 4 weights (two phases), the activation, its phase, a product and a mask.
  static constexpr TileShape kU8S8 = {4, 16, 4};
  // 6x16 takes 12 accumulators, 2 weights and 1 activation.
  static constexpr TileShape kF32 = {6, 16, 1};

  using Int = __m256i;
  using Float = __m256;
  struct All {};
  struct Mask {
    __m256i lanes;  // the sign bits are set in these lanes
    uint32_t count;
  };

  PQI_INLINE static Mask First(size_t n) {
    const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return {_mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), index), static_cast<uint32_t>(n)};
  }

  // Loads and stores of bytes.
  PQI_INLINE static Int LoadU8(const uint8_t* p, All) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))); }
  PQI_INLINE static Int LoadU8(const uint8_t* p, const Mask& m) { return _mm256_cvtepu8_epi32(Bytes8(p, m)); }
  PQI_INLINE static Int LoadS8(const int8_t* p) { return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))); }
  PQI_INLINE static __m128i PackU8(Int v) {
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    return _mm_packus_epi16(words, words);
  }
  PQI_INLINE static void StoreU8(uint8_t* p, Int v, All) { _mm_storel_epi64(reinterpret_cast<__m128i*>(p), PackU8(v)); }
  PQI_INLINE static void StoreU8(uint8_t* p, Int v, const Mask& m) {
    const uint64_t bytes = static_cast<uint64_t>(_mm_cvtsi128_si64(PackU8(v)));
    for (uint32_t i = 0; i < m.count; ++i) p[i] = static_cast<uint8_t>(bytes >> (8 * i));
  }
  using ByteTable = void;  // sixteen permutes and fifteen blends of 32 bytes are as slow as single loads
  PQI_INLINE static void MaxBytes(const uint8_t* const* x, size_t count, size_t at, uint8_t* y) {
    const auto load = [at](const uint8_t* row) PQI_INLINE_LAMBDA { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + at)); };
    __m256i most = load(x[0]);
    for (size_t i = 1; i < count; ++i) most = _mm256_max_epu8(most, load(x[i]));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), most);
  }

  PQI_INLINE static void Interleave3(const uint8_t* a, const uint8_t* b, const uint8_t* c, uint8_t* out) { InterleaveBytes3(a, b, c, out); }

  // Arithmetic of integers.
  PQI_INLINE static Int SetInt(int32_t v) { return _mm256_set1_epi32(v); }
  PQI_INLINE static Int LoadInt(const int32_t* p, All = {}) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  PQI_INLINE static Int LoadInt(const int32_t* p, const Mask& m) { return _mm256_maskload_epi32(p, m.lanes); }
  PQI_INLINE static void StoreInt(int32_t* p, Int v, All = {}) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
  PQI_INLINE static void StoreInt(int32_t* p, Int v, const Mask& m) { _mm256_maskstore_epi32(p, m.lanes, v); }
  PQI_INLINE static Int AddInt(Int a, Int b) { return _mm256_add_epi32(a, b); }
  PQI_INLINE static Int SubInt(Int a, Int b) { return _mm256_sub_epi32(a, b); }
  PQI_INLINE static Int MulInt(Int a, Int b) { return _mm256_mullo_epi32(a, b); }
  // The upper half-words of a, which is in 0..255, are 0, so vpmaddwd multiplies the lower ones (as signed 16 bits) and adds nothing.
  PQI_INLINE static Int MulSmall(Int a, Int b) { return _mm256_madd_epi16(a, b); }

  // The u8 x s8 product. vpmaddubsw would saturate at 255 * -128 * 2, so both sides are widened to 16 bits, and vpmaddwd multiplies them
  // exactly. Phase 0 takes bytes 0 and 2 of each dword, phase 1 bytes 1 and 3.
  using Matrix = void;
  static constexpr int32_t kOffset = 0;
  static constexpr int kPhases = 2;
  PQI_INLINE static Int LoadPanel(const int8_t* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }
  PQI_INLINE static Int PhaseWeights(Int w, int phase) { return _mm256_srai_epi16(phase == 0 ? _mm256_slli_epi16(w, 8) : w, 8); }
  PQI_INLINE static Int PhaseActivations(Int x, int phase) {
    return phase == 0 ? _mm256_and_si256(x, _mm256_set1_epi16(0xFF)) : _mm256_srli_epi16(x, 8);
  }
  // Codes whose pairs cannot saturate take two multiplications for four products instead of four.
  static constexpr int kPairsRows = 5;
  PQI_INLINE static Int DotPairs(Int acc, Int x, Int w) {
    return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), _mm256_set1_epi16(1)));
  }
  PQI_INLINE static Int Dot(Int acc, Int x, Int w) { return _mm256_add_epi32(acc, _mm256_madd_epi16(x, w)); }

  // Deferred products (kernels/generic/low_bit.h) and Winograd's transforms.
  static constexpr TileShape kDeferred = {6, 16, 4};
  PQI_INLINE static Int MulPairs(Int x, Int w) { return _mm256_maddubs_epi16(x, w); }
  PQI_INLINE static Int AddShorts(Int a, Int b) { return _mm256_add_epi16(a, b); }
  PQI_INLINE static Int WidenPairs(Int a) { return _mm256_madd_epi16(a, _mm256_set1_epi16(1)); }
  PQI_INLINE static Int SetBytes(int8_t v) { return _mm256_set1_epi8(v); }
  PQI_INLINE static Int LoadBytes(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  // Copies kSize bytes and moves on behind them if n has that bit.
  template <uint32_t kSize>
  PQI_INLINE static void CopyIf(uint32_t n, const uint8_t** from, uint8_t** to) {
    if ((n & kSize) == 0) return;
    __builtin_memcpy(*to, *from, kSize);
    *from += kSize;
    *to += kSize;
  }
  PQI_INLINE static Int LoadBytes(const uint8_t* p, uint32_t n) {
    alignas(32) uint8_t bytes[kBytes] = {};
    uint8_t* at = bytes;
    CopyIf<16>(n, &p, &at);
    CopyIf<8>(n, &p, &at);
    CopyIf<4>(n, &p, &at);
    CopyIf<2>(n, &p, &at);
    CopyIf<1>(n, &p, &at);
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(bytes));
  }
  PQI_INLINE static void StoreBytes(uint8_t* p, Int v) { _mm256_store_si256(reinterpret_cast<__m256i*>(p), v); }
  PQI_INLINE static Int AddBytes(Int a, Int b) { return _mm256_add_epi8(a, b); }
  PQI_INLINE static Int SubBytes(Int a, Int b) { return _mm256_sub_epi8(a, b); }

  // Sums of sparse convolutions (kernels/generic/sparse.h).
  static constexpr int kSparseVectors = 8, kSparseWideVectors = 6;
  PQI_INLINE static Int SubShorts(Int a, Int b) { return _mm256_sub_epi16(a, b); }
  PQI_INLINE static Int EvenBytes(Int v) { return _mm256_and_si256(v, _mm256_set1_epi16(0xFF)); }
  PQI_INLINE static Int OddBytes(Int v) { return _mm256_srli_epi16(v, 8); }
  template <int I>
  PQI_INLINE static Int QuadBytes(Int v) {
    return _mm256_and_si256(_mm256_srli_epi32(v, 8 * I), _mm256_set1_epi32(0xFF));
  }
  // Packing within pieces of 128 bits leaves four lanes of a, c, b and d in each, which one shuffle there brings into turns.
  PQI_INLINE static Int PackQuads(Int a, Int b, Int c, Int d, Int zero_point, Int top) {
    const Int ac = _mm256_adds_epi16(_mm256_packs_epi32(a, c), zero_point), bd = _mm256_adds_epi16(_mm256_packs_epi32(b, d), zero_point);
    const Int bytes = _mm256_min_epu8(_mm256_packus_epi16(ac, bd), top);
    const __m128i turns = _mm_setr_epi8(0, 8, 4, 12, 1, 9, 5, 13, 2, 10, 6, 14, 3, 11, 7, 15);
    return _mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(turns));
  }

  // Codes of 2 and 4 bits (kernels/generic/narrow.h). There are no registers for sums of floats: they lie in memory.
  static constexpr int kNarrowRows = 1, kNarrowUnpackedRows = 2;
  template <int Bits, int F>
  PQI_INLINE static Int HighCode(Int v) {
    constexpr int kShift = 8 - Bits * (F + 1);
    return _mm256_and_si256(_mm256_slli_epi16(v, kShift), SetBytes(static_cast<int8_t>(-(1 << (8 - Bits)))));
  }
  template <int Bits, int F>
  PQI_INLINE static Int SignedCode(Int v) {
    const Int sign = SetBytes(1 << (Bits - 1));
    const Int code = _mm256_and_si256(_mm256_srli_epi16(v, Bits * F), SetBytes((1 << Bits) - 1));
    return SubBytes(_mm256_xor_si256(code, sign), sign);
  }

  // Arithmetic of floats.
  PQI_INLINE static Float SetFloat(float v) { return _mm256_set1_ps(v); }
  PQI_INLINE static Float LoadFloat(const float* p, All = {}) { return _mm256_loadu_ps(p); }
  PQI_INLINE static Float LoadFloat(const float* p, const Mask& m) { return _mm256_maskload_ps(p, m.lanes); }
  PQI_INLINE static void StoreFloat(float* p, Float v, All = {}) { _mm256_storeu_ps(p, v); }
  PQI_INLINE static void StoreFloat(float* p, Float v, const Mask& m) { _mm256_maskstore_ps(p, m.lanes, v); }
  PQI_INLINE static Float AddF(Float a, Float b) { return _mm256_add_ps(a, b); }
  PQI_INLINE static Float MulF(Float a, Float b) { return _mm256_mul_ps(a, b); }
  PQI_INLINE static Float Fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
  PQI_INLINE static Float MaxF(Float a, Float b) { return _mm256_max_ps(a, b); }
  PQI_INLINE static Float MinF(Float a, Float b) { return _mm256_min_ps(a, b); }
  PQI_INLINE static Float SubF(Float a, Float b) { return _mm256_sub_ps(a, b); }
  PQI_INLINE static Float DivF(Float a, Float b) { return _mm256_div_ps(a, b); }
  PQI_INLINE static Float AbsF(Float a) { return _mm256_andnot_ps(SetFloat(-0.0f), a); }
  PQI_INLINE static Float CopySign(Float magnitude, Float sign) {
    return _mm256_or_ps(AbsF(magnitude), _mm256_and_ps(SetFloat(-0.0f), sign));
  }
  PQI_INLINE static Float SelectGreater(Float a, Float b, Float x, Float y) {
    return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_GT_OQ));
  }
  PQI_INLINE static Float SelectNan(Float a, Float x, Float y) { return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, a, _CMP_UNORD_Q)); }
  PQI_INLINE static Float SqrtF(Float a) { return _mm256_sqrt_ps(a); }
  PQI_INLINE static Int FloatBits(Float a) { return _mm256_castps_si256(a); }
  PQI_INLINE static Float BitsFloat(Int a) { return _mm256_castsi256_ps(a); }
  template <int N>
  PQI_INLINE static Int ShiftLeft(Int a) {
    return _mm256_slli_epi32(a, N);
  }
  template <int N>
  PQI_INLINE static Int ShiftRight(Int a) {
    return _mm256_srai_epi32(a, N);
  }
  PQI_INLINE static Float PowerOfTwo(Int n) { return _mm256_castsi256_ps(_mm256_slli_epi32(AddInt(n, SetInt(127)), 23)); }
  PQI_INLINE static Float ToFloat(Int a) { return _mm256_cvtepi32_ps(a); }
  // The conversion gives INT_MIN for NaN, so NaN becomes 0 before it.
  PQI_INLINE static Int ToIntNearest(Float a) { return _mm256_cvtps_epi32(_mm256_and_ps(a, _mm256_cmp_ps(a, a, _CMP_ORD_Q))); }
  PQI_INLINE static Int ToIntPlain(Float a) { return _mm256_cvtps_epi32(a); }

  using ByteMask = Mask;
  PQI_INLINE static ByteMask FirstBytes(size_t n) { return First(n); }
  // Codes of an epilogue to bytes (generic/epilogue_registers.h).
  PQI_INLINE static Int SetShort(int32_t v) { return _mm256_set1_epi16(static_cast<int16_t>(v)); }
  PQI_INLINE static Int PackBytes(Int a, Int b, Int c, Int d, Int zero_point, Int top) {
    const Int ab = _mm256_adds_epi16(_mm256_packs_epi32(a, b), zero_point);
    const Int cd = _mm256_adds_epi16(_mm256_packs_epi32(c, d), zero_point);
    // Packing works within pieces of 128 bits: piece L then holds dword L of a, b, c and d.
    const Int bytes = _mm256_min_epu8(_mm256_packus_epi16(ab, cd), top);
    return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  }
  PQI_INLINE static void PutPiece(uint8_t* p, __m128i v, int bytes, All) {
    if (bytes == 16) return _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), v);
  }
  PQI_INLINE static void PutPiece(uint8_t* p, __m128i v, int, const Mask& m) {
    alignas(16) uint8_t bytes[16];
    _mm_store_si128(reinterpret_cast<__m128i*>(bytes), v);
    for (uint32_t i = 0; i < m.count; ++i) p[i] = bytes[i];
  }
  template <int Bytes, class Lanes>
  PQI_INLINE static void StorePiece(uint8_t* p, Int v, int piece, const Lanes& lanes) {
    const int half = piece * Bytes / 16;
    const __m128i bytes = half == 0 ? _mm256_castsi256_si128(v) : _mm256_extracti128_si256(v, 1);
    PutPiece(p, piece * Bytes % 16 == 0 ? bytes : _mm_srli_si128(bytes, 8), Bytes, lanes);
  }

  // Columns of pixels (kernels/generic/depthwise_columns.h), widened to 16 bits: each dword lane holds two pixels of one channel, or a last
  // one.
  static constexpr int kColumnVectors = 1;
  static constexpr int kColumnOutputs = 1;
  static constexpr int kRowsBeside = 1;
  static constexpr int ColumnPhases(int lines) { return (lines + 1) / 2; }
  PQI_INLINE static Int ColumnDot(Int acc, Int x, Int w) { return Dot(acc, x, w); }
  PQI_INLINE static __m128i Bytes8(const void* p, All) { return _mm_loadl_epi64(static_cast<const __m128i*>(p)); }
  PQI_INLINE static __m128i Bytes8(const void* p, const Mask& m) {
    uint64_t v = 0;
    for (uint32_t i = 0; i < m.count; ++i) v |= static_cast<uint64_t>(static_cast<const uint8_t*>(p)[i]) << (8 * i);
    return _mm_cvtsi64_si128(static_cast<int64_t>(v));
  }
  template <int Q, class Lanes>
  PQI_INLINE static __m128i Line(const uint8_t* p, const Lanes& lanes) {
    static_assert(Q == 1, "");
    return Bytes8(p, lanes);
  }
  template <int Q, int kLines>
  PQI_INLINE static void Columns(const __m128i (&lines)[kLines], Int (&out)[ColumnPhases(kLines)][Q]) {
    PQI_UNROLL for (int y = 0; y + 1 < kLines; y += 2) out[y / 2][0] = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(lines[y], lines[y + 1]));
    if constexpr (kLines % 2 == 1) out[kLines / 2][0] = _mm256_cvtepu8_epi32(lines[kLines - 1]);
  }
  template <int Q, int kLines>
  PQI_INLINE static void WeightColumns(const int8_t (*w)[Q * kLanes], Int (&out)[ColumnPhases(kLines)][Q]) {
    const auto line = [&](int y) PQI_INLINE_LAMBDA { return Bytes8(w[y], All()); };
    PQI_UNROLL for (int y = 0; y + 1 < kLines; y += 2) out[y / 2][0] = _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(line(y), line(y + 1)));
    if constexpr (kLines % 2 == 1) out[kLines / 2][0] = _mm256_cvtepi8_epi32(line(kLines - 1));
  }
  template <int Q, class Lanes>
  PQI_INLINE static void StoreColumn(uint8_t* p, const Int (&v)[Q], Int zero_point, Int top, const Lanes& lanes) {
    PutPiece(p, _mm256_castsi256_si128(PackBytes(v[0], v[0], v[0], v[0], zero_point, top)), 8, lanes);
  }
};

}  // namespace
}  // namespace pqi::kernels
