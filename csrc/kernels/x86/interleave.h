// Permutes of bytes and shorts on vectors of 128 and 256 bits that the x86 ISAs share. Like the headers of generic/ it opens an anonymous
// namespace.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/generic/compiler.h"

namespace pqi::kernels {
namespace {

// Interleaves sixteen bytes of each of three planes to 48 bytes.
PQI_INLINE void InterleaveBytes3(const uint8_t* a, const uint8_t* b, const uint8_t* c, uint8_t* out) {
  const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(a)), y = _mm_loadu_si128(reinterpret_cast<const __m128i*>(b));
  const __m128i z = _mm_loadu_si128(reinterpret_cast<const __m128i*>(c));
  constexpr char o = -128;  // this byte comes from another plane
  const __m128i first = _mm_or_si128(_mm_or_si128(_mm_shuffle_epi8(x, _mm_setr_epi8(0, o, o, 1, o, o, 2, o, o, 3, o, o, 4, o, o, 5)),
                                                  _mm_shuffle_epi8(y, _mm_setr_epi8(o, 0, o, o, 1, o, o, 2, o, o, 3, o, o, 4, o, o))),
                                     _mm_shuffle_epi8(z, _mm_setr_epi8(o, o, 0, o, o, 1, o, o, 2, o, o, 3, o, o, 4, o)));
  const __m128i second = _mm_or_si128(_mm_or_si128(_mm_shuffle_epi8(x, _mm_setr_epi8(o, o, 6, o, o, 7, o, o, 8, o, o, 9, o, o, 10, o)),
                                                   _mm_shuffle_epi8(y, _mm_setr_epi8(5, o, o, 6, o, o, 7, o, o, 8, o, o, 9, o, o, 10))),
                                      _mm_shuffle_epi8(z, _mm_setr_epi8(o, 5, o, o, 6, o, o, 7, o, o, 8, o, o, 9, o, o)));
  const __m128i third = _mm_or_si128(_mm_or_si128(_mm_shuffle_epi8(x, _mm_setr_epi8(o, 11, o, o, 12, o, o, 13, o, o, 14, o, o, 15, o, o)),
                                                  _mm_shuffle_epi8(y, _mm_setr_epi8(o, o, 11, o, o, 12, o, o, 13, o, o, 14, o, o, 15, o))),
                                     _mm_shuffle_epi8(z, _mm_setr_epi8(10, o, o, 11, o, o, 12, o, o, 13, o, o, 14, o, o, 15)));
  __m128i* to = reinterpret_cast<__m128i*>(out);
  _mm_storeu_si128(to, first);
  _mm_storeu_si128(to + 1, second);
  _mm_storeu_si128(to + 2, third);
}

// Sixteen bytes from rows[r] + at of each of sixteen rows to out[i * stride + r]. Numbered by row and then by byte, the bytes of sixteen
// vectors have addresses of eight bits; interleaving vector i with vector i + 8 turns these by one bit, so four times exchange row and
// byte.
PQI_INLINE void Transpose16x16(const uint8_t* const* rows, size_t at, uint8_t* out, size_t stride) {
  __m128i v[16];
  PQI_UNROLL for (int i = 0; i < 16; ++i) v[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[i] + at));
  PQI_UNROLL for (int turn = 0; turn < 4; ++turn) {
    __m128i next[16];
    PQI_UNROLL for (int i = 0; i < 8; ++i) {
      next[2 * i] = _mm_unpacklo_epi8(v[i], v[i + 8]);
      next[2 * i + 1] = _mm_unpackhi_epi8(v[i], v[i + 8]);
    }
    PQI_UNROLL for (int i = 0; i < 16; ++i) v[i] = next[i];
  }
  PQI_UNROLL for (int i = 0; i < 16; ++i) _mm_storeu_si128(reinterpret_cast<__m128i*>(out + static_cast<size_t>(i) * stride), v[i]);
}

// Sixteen rounds of interleaving are the same for vectors of two halves, which turn apart from each other.
PQI_INLINE void TurnFourTimes(__m256i (&v)[16]) {
  PQI_UNROLL for (int turn = 0; turn < 4; ++turn) {
    __m256i next[16];
    PQI_UNROLL for (int i = 0; i < 8; ++i) {
      next[2 * i] = _mm256_unpacklo_epi8(v[i], v[i + 8]);
      next[2 * i + 1] = _mm256_unpackhi_epi8(v[i], v[i + 8]);
    }
    PQI_UNROLL for (int i = 0; i < 16; ++i) v[i] = next[i];
  }
}
// Transpose16x16 for sixteen rows of 32 bytes: out[i * stride + r], i < 32.
PQI_INLINE void Transpose16x32(const uint8_t* const* rows, size_t at, uint8_t* out, size_t stride) {
  __m256i v[16];
  PQI_UNROLL for (int i = 0; i < 16; ++i) v[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[i] + at));
  TurnFourTimes(v);
  const auto put = [&](size_t i, __m128i x) PQI_INLINE_LAMBDA { _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i * stride), x); };
  PQI_UNROLL for (int i = 0; i < 16; ++i) put(static_cast<size_t>(i), _mm256_castsi256_si128(v[i]));
  PQI_UNROLL for (int i = 0; i < 16; ++i) put(static_cast<size_t>(i) + 16, _mm256_extracti128_si256(v[i], 1));
}
// Transpose16x16 for 32 rows: out[i * stride + r], r < 32.
PQI_INLINE void Transpose32x16(const uint8_t* const* rows, size_t at, uint8_t* out, size_t stride) {
  __m256i v[16];
  const auto load = [&](int i) PQI_INLINE_LAMBDA { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[i] + at)); };
  PQI_UNROLL for (int i = 0; i < 16; ++i) v[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(load(i)), load(i + 16), 1);
  TurnFourTimes(v);
  PQI_UNROLL for (int i = 0; i < 16; ++i) _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + static_cast<size_t>(i) * stride), v[i]);
}

// Eight rows of sixteen shorts to sixteen rows of eight numbers of 32 bits, in the halves of 256-bit vectors as in Transpose16x16.
template <bool kStart>
PQI_INLINE void TransposeShorts8x16(const uint8_t* p, size_t stride, const int32_t* start, int32_t* out, size_t out_stride) {
  __m256i v[8];
  PQI_UNROLL for (int i = 0; i < 8; ++i) v[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + static_cast<size_t>(i) * stride));
  PQI_UNROLL for (int turn = 0; turn < 3; ++turn) {
    __m256i next[8];
    PQI_UNROLL for (int i = 0; i < 4; ++i) {
      next[2 * i] = _mm256_unpacklo_epi16(v[i], v[i + 4]);
      next[2 * i + 1] = _mm256_unpackhi_epi16(v[i], v[i + 4]);
    }
    PQI_UNROLL for (int i = 0; i < 8; ++i) v[i] = next[i];
  }
  const __m256i first = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(start));
  const auto put = [&](int j, __m128i x) PQI_INLINE_LAMBDA {
    __m256i* to = reinterpret_cast<__m256i*>(out + static_cast<size_t>(j) * out_stride);
    _mm256_storeu_si256(to, _mm256_add_epi32(_mm256_cvtepi16_epi32(x), kStart ? first : _mm256_loadu_si256(to)));
  };
  PQI_UNROLL for (int i = 0; i < 8; ++i) {
    put(i, _mm256_castsi256_si128(v[i]));
    put(i + 8, _mm256_extracti128_si256(v[i], 1));
  }
}

}  // namespace
}  // namespace pqi::kernels
