// The primitives that all ISAs of 512-bit vectors share: AVX-512 F, BW, DQ and VL, without the product of u8 and s8
// (kernels/generic/primitives.h says what each name means).
#pragma once

#include <immintrin.h>

#include "kernels/contract/tile.h"
#include "kernels/generic/compiler.h"
#include "kernels/x86/avx512/byte_table.h"
#include "kernels/x86/interleave.h"

namespace pqi::kernels {
namespace {

struct Avx512Base : Transposes {
  static constexpr int kLanes = 16;
  static constexpr int kBytes = 64;
  // 32 registers hold 12x32 as 24 accumulators, 2 weights and 1 activation. Twelve row pointers, the panel, the offset and its end are all
  // the general registers there are.
  static constexpr TileShape kF32 = {12, 32, 1};

  using Int = __m512i;
  using Float = __m512;
  struct All {};
  using Mask = __mmask16;

  PQI_INLINE static Mask First(size_t n) { return static_cast<Mask>((1u << n) - 1); }

  // Loads and stores of bytes.
  PQI_INLINE static Int LoadU8(const uint8_t* p, All) { return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  PQI_INLINE static Int LoadU8(const uint8_t* p, Mask m) { return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(m, p)); }
  PQI_INLINE static Int LoadS8(const int8_t* p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  // The bytes are converted in a register, because the masked conversion to memory is microcoded on Zen 4.
  PQI_INLINE static void StoreU8(uint8_t* p, Int v, All) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(v)); }
  PQI_INLINE static void StoreU8(uint8_t* p, Int v, Mask m) { _mm_mask_storeu_epi8(p, m, _mm512_cvtepi32_epi8(v)); }
  using ByteTable = kernels::ByteTable;
  PQI_INLINE static void MaxBytes(const uint8_t* const* x, size_t count, size_t at, uint8_t* y) {
    __m512i most = _mm512_loadu_si512(x[0] + at);
    for (size_t i = 1; i < count; ++i) most = _mm512_max_epu8(most, _mm512_loadu_si512(x[i] + at));
    _mm512_storeu_si512(y, most);
  }

  PQI_INLINE static void Interleave3(const uint8_t* a, const uint8_t* b, const uint8_t* c, uint8_t* out) { InterleaveBytes3(a, b, c, out); }

  // Arithmetic of integers.
  PQI_INLINE static Int SetInt(int32_t v) { return _mm512_set1_epi32(v); }
  PQI_INLINE static Int LoadInt(const int32_t* p, All = {}) { return _mm512_loadu_si512(p); }
  PQI_INLINE static Int LoadInt(const int32_t* p, Mask m) { return _mm512_maskz_loadu_epi32(m, p); }
  PQI_INLINE static void StoreInt(int32_t* p, Int v, All = {}) { _mm512_storeu_si512(p, v); }
  PQI_INLINE static void StoreInt(int32_t* p, Int v, Mask m) { _mm512_mask_storeu_epi32(p, m, v); }
  PQI_INLINE static Int AddInt(Int a, Int b) { return _mm512_add_epi32(a, b); }
  PQI_INLINE static Int SubInt(Int a, Int b) { return _mm512_sub_epi32(a, b); }
  PQI_INLINE static Int MulInt(Int a, Int b) { return _mm512_mullo_epi32(a, b); }
  // The upper half-words of a, which is in 0..255, are 0, so vpmaddwd multiplies the lower ones (as signed 16 bits) and adds nothing.
  PQI_INLINE static Int MulSmall(Int a, Int b) { return _mm512_madd_epi16(a, b); }

  // What products of u8 and s8 have in common.
  using Matrix = void;
  static constexpr int32_t kOffset = 0;
  static constexpr int kPairsRows = 0;
  PQI_INLINE static Int LoadPanel(const int8_t* p) { return _mm512_load_si512(p); }

  // Arithmetic of bytes, for Winograd's transforms and codes of few bits.
  PQI_INLINE static Int SetBytes(int8_t v) { return _mm512_set1_epi8(v); }
  PQI_INLINE static Int LoadBytes(const uint8_t* p) { return _mm512_loadu_si512(p); }
  PQI_INLINE static Int LoadBytes(const uint8_t* p, uint32_t n) { return _mm512_maskz_loadu_epi8((__mmask64{1} << n) - 1, p); }
  PQI_INLINE static void StoreBytes(uint8_t* p, Int v) { _mm512_store_si512(p, v); }
  PQI_INLINE static Int AddBytes(Int a, Int b) { return _mm512_add_epi8(a, b); }
  PQI_INLINE static Int SubBytes(Int a, Int b) { return _mm512_sub_epi8(a, b); }

  // Sums of sparse convolutions (kernels/generic/sparse.h).
  static constexpr int kSparseVectors = 8, kSparseWideVectors = 8;
  PQI_INLINE static Int AddShorts(Int a, Int b) { return _mm512_add_epi16(a, b); }
  PQI_INLINE static Int SubShorts(Int a, Int b) { return _mm512_sub_epi16(a, b); }
  PQI_INLINE static Int EvenBytes(Int v) { return _mm512_and_si512(v, _mm512_set1_epi16(0xFF)); }
  PQI_INLINE static Int OddBytes(Int v) { return _mm512_srli_epi16(v, 8); }
  template <int I>
  PQI_INLINE static Int QuadBytes(Int v) {
    return _mm512_and_si512(_mm512_srli_epi32(v, 8 * I), _mm512_set1_epi32(0xFF));
  }
  // Packing within pieces of 128 bits leaves four lanes of a, c, b and d in each, which one shuffle there brings into turns.
  PQI_INLINE static Int PackQuads(Int a, Int b, Int c, Int d, Int zero_point, Int top) {
    const Int ac = _mm512_adds_epi16(_mm512_packs_epi32(a, c), zero_point), bd = _mm512_adds_epi16(_mm512_packs_epi32(b, d), zero_point);
    const Int bytes = _mm512_min_epu8(_mm512_packus_epi16(ac, bd), top);
    const __m128i turns = _mm_setr_epi8(0, 8, 4, 12, 1, 9, 5, 13, 2, 10, 6, 14, 3, 11, 7, 15);
    return _mm512_shuffle_epi8(bytes, _mm512_broadcast_i32x4(turns));
  }

  // Codes of 2 and 4 bits (kernels/generic/narrow.h). 4 rows by 2 vectors take 8 sums of integers, 8 of floats, 2 of codes, 2 weights and
  // their packed form, a mask, ones and an activation. After unpacking, 6 rows by 2 vectors take 12 sums of each kind, 2 weights and an
  // activation.
  static constexpr int kNarrowRows = 4, kNarrowUnpackedRows = 6;
  template <int Bits, int F>
  PQI_INLINE static Int HighCode(Int v) {
    constexpr int kShift = 8 - Bits * (F + 1);
    return _mm512_and_si512(_mm512_slli_epi16(v, kShift), SetBytes(static_cast<int8_t>(-(1 << (8 - Bits)))));
  }
  template <int Bits, int F>
  PQI_INLINE static Int SignedCode(Int v) {
    const Int sign = SetBytes(1 << (Bits - 1));
    const Int code = _mm512_and_si512(_mm512_srli_epi16(v, Bits * F), SetBytes((1 << Bits) - 1));
    return SubBytes(_mm512_xor_si512(code, sign), sign);
  }

  // Arithmetic of floats.
  PQI_INLINE static Float SetFloat(float v) { return _mm512_set1_ps(v); }
  PQI_INLINE static Float LoadFloat(const float* p, All = {}) { return _mm512_loadu_ps(p); }
  PQI_INLINE static Float LoadFloat(const float* p, Mask m) { return _mm512_maskz_loadu_ps(m, p); }
  PQI_INLINE static void StoreFloat(float* p, Float v, All = {}) { _mm512_storeu_ps(p, v); }
  PQI_INLINE static void StoreFloat(float* p, Float v, Mask m) { _mm512_mask_storeu_ps(p, m, v); }
  PQI_INLINE static Float AddF(Float a, Float b) { return _mm512_add_ps(a, b); }
  PQI_INLINE static Float MulF(Float a, Float b) { return _mm512_mul_ps(a, b); }
  PQI_INLINE static Float Fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
  PQI_INLINE static Float MaxF(Float a, Float b) { return _mm512_max_ps(a, b); }
  PQI_INLINE static Float MinF(Float a, Float b) { return _mm512_min_ps(a, b); }
  PQI_INLINE static Float SubF(Float a, Float b) { return _mm512_sub_ps(a, b); }
  PQI_INLINE static Float DivF(Float a, Float b) { return _mm512_div_ps(a, b); }
  PQI_INLINE static Float AbsF(Float a) { return _mm512_abs_ps(a); }
  PQI_INLINE static Float CopySign(Float magnitude, Float sign) {
    return _mm512_or_ps(AbsF(magnitude), _mm512_and_ps(SetFloat(-0.0f), sign));
  }
  PQI_INLINE static Float SelectGreater(Float a, Float b, Float x, Float y) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_GT_OQ), y, x);
  }
  PQI_INLINE static Float SelectNan(Float a, Float x, Float y) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), y, x);
  }
  PQI_INLINE static Float SqrtF(Float a) { return _mm512_sqrt_ps(a); }
  PQI_INLINE static Int FloatBits(Float a) { return _mm512_castps_si512(a); }
  PQI_INLINE static Float BitsFloat(Int a) { return _mm512_castsi512_ps(a); }
  template <int N>
  PQI_INLINE static Int ShiftLeft(Int a) {
    return _mm512_slli_epi32(a, N);
  }
  template <int N>
  PQI_INLINE static Int ShiftRight(Int a) {
    return _mm512_srai_epi32(a, N);
  }
  PQI_INLINE static Float PowerOfTwo(Int n) { return _mm512_castsi512_ps(_mm512_slli_epi32(AddInt(n, SetInt(127)), 23)); }
  PQI_INLINE static Float ToFloat(Int a) { return _mm512_cvtepi32_ps(a); }
  // The conversion gives INT_MIN for NaN, so NaN is masked out.
  PQI_INLINE static Int ToIntNearest(Float a) { return _mm512_maskz_cvtps_epi32(_mm512_cmp_ps_mask(a, a, _CMP_ORD_Q), a); }
  PQI_INLINE static Int ToIntPlain(Float a) { return _mm512_cvtps_epi32(a); }

  // Codes of an epilogue to bytes (generic/epilogue_registers.h).
  PQI_INLINE static Int SetShort(int32_t v) { return _mm512_set1_epi16(static_cast<int16_t>(v)); }
  PQI_INLINE static Int PackBytes(Int a, Int b, Int c, Int d, Int zero_point, Int top) {
    const Int ab = _mm512_adds_epi16(_mm512_packs_epi32(a, b), zero_point);
    const Int cd = _mm512_adds_epi16(_mm512_packs_epi32(c, d), zero_point);
    // Packing works within pieces of 128 bits: piece L then holds dword L of a, b, c and d.
    const Int bytes = _mm512_min_epu8(_mm512_packus_epi16(ab, cd), top);
    return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), bytes);
  }
  template <int Bytes, class Lanes>
  PQI_INLINE static void StorePiece(uint8_t* p, Int v, int piece, Lanes lanes) {
    if constexpr (Bytes == 32) {
      PutBytes(p, piece == 0 ? _mm512_castsi512_si256(v) : _mm512_extracti64x4_epi64(v, 1), lanes);
    } else {
      PutBytes(p, Quarter(v, piece), lanes);
    }
  }
  PQI_INLINE static __m128i Quarter(Int v, int i) {
    switch (i) {
      case 0:
        return _mm512_castsi512_si128(v);
      case 1:
        return _mm512_extracti32x4_epi32(v, 1);
      case 2:
        return _mm512_extracti32x4_epi32(v, 2);
      default:
        return _mm512_extracti32x4_epi32(v, 3);
    }
  }

  using ByteMask = __mmask64;
  PQI_INLINE static ByteMask FirstBytes(size_t n) { return (ByteMask{1} << n) - 1; }

  PQI_INLINE static __m512i Bytes64(const void* p, All) { return _mm512_loadu_si512(p); }
  PQI_INLINE static __m512i Bytes64(const void* p, ByteMask m) { return _mm512_maskz_loadu_epi8(m, p); }
  PQI_INLINE static __m256i Bytes32(const void* p, All) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  PQI_INLINE static __m256i Bytes32(const void* p, ByteMask m) { return _mm256_maskz_loadu_epi8(static_cast<__mmask32>(m), p); }
  PQI_INLINE static __m128i Bytes16(const void* p, All) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
  PQI_INLINE static __m128i Bytes16(const void* p, ByteMask m) { return _mm_maskz_loadu_epi8(static_cast<__mmask16>(m), p); }
  PQI_INLINE static void PutBytes(uint8_t* p, __m512i v, All) { _mm512_storeu_si512(p, v); }
  PQI_INLINE static void PutBytes(uint8_t* p, __m512i v, ByteMask m) { _mm512_mask_storeu_epi8(p, m, v); }
  PQI_INLINE static void PutBytes(uint8_t* p, __m256i v, All) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
  PQI_INLINE static void PutBytes(uint8_t* p, __m256i v, ByteMask m) { _mm256_mask_storeu_epi8(p, static_cast<__mmask32>(m), v); }
  PQI_INLINE static void PutBytes(uint8_t* p, __m128i v, All) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v); }
  PQI_INLINE static void PutBytes(uint8_t* p, __m128i v, ByteMask m) { _mm_mask_storeu_epi8(p, static_cast<__mmask16>(m), v); }

  // Stores a column of one vector, whose channels are in their order already.
  template <int Q, class Lanes>
  PQI_INLINE static void StoreColumn(uint8_t* p, const Int (&v)[Q], Int zero_point, Int top, Lanes lanes) {
    static_assert(Q == 1, "");
    PutBytes(p, _mm512_castsi512_si128(PackBytes(v[0], v[0], v[0], v[0], zero_point, top)), lanes);
  }
};

}  // namespace
}  // namespace pqi::kernels
