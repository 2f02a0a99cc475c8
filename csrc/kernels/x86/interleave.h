// Interleaved and transposed bytes and shorts in vectors of 128 and 256 bits, which the x86 ISAs share. Like the headers of generic/ it
// opens an anonymous namespace.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/generic/compiler.h"
#include "kernels/generic/turn.h"

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

struct BytesOf128 {
  using Vector = __m128i;
  PQI_INLINE static Vector Low(Vector a, Vector b) { return _mm_unpacklo_epi8(a, b); }
  PQI_INLINE static Vector High(Vector a, Vector b) { return _mm_unpackhi_epi8(a, b); }
};
// Both halves of 256 bits are interleaved apart from each other.
struct BytesOf256 {
  using Vector = __m256i;
  PQI_INLINE static Vector Low(Vector a, Vector b) { return _mm256_unpacklo_epi8(a, b); }
  PQI_INLINE static Vector High(Vector a, Vector b) { return _mm256_unpackhi_epi8(a, b); }
};
struct ShortsOf256 {
  using Vector = __m256i;
  PQI_INLINE static Vector Low(Vector a, Vector b) { return _mm256_unpacklo_epi16(a, b); }
  PQI_INLINE static Vector High(Vector a, Vector b) { return _mm256_unpackhi_epi16(a, b); }
};

// The transposes of sparse convolutions (kernels/generic/primitives.h), for ISAs to inherit.
struct Transposes {
  static constexpr int kTransposed = 32;

  template <int N>
  PQI_INLINE static void PixelsToPlanes(const uint8_t* const* rows, size_t at, uint8_t* out, size_t stride) {
    if constexpr (N == 16) {
      Square(rows, at, out, stride);
    } else {
      __m256i v[16];
      PQI_UNROLL for (int i = 0; i < 16; ++i) v[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[i] + at));
      TurnSquare<BytesOf256>(v);
      PQI_UNROLL for (int i = 0; i < 16; ++i) Put(out + static_cast<size_t>(i) * stride, _mm256_castsi256_si128(v[i]));
      PQI_UNROLL for (int i = 0; i < 16; ++i) Put(out + static_cast<size_t>(i + 16) * stride, _mm256_extracti128_si256(v[i], 1));
    }
  }
  template <int N>
  PQI_INLINE static void PlanesToPixels(const uint8_t* const* rows, size_t at, uint8_t* out, size_t stride) {
    if constexpr (N == 16) {
      Square(rows, at, out, stride);
    } else {
      __m256i v[16];
      PQI_UNROLL for (int i = 0; i < 16; ++i) {
        v[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(Get(rows[i] + at)), Get(rows[i + 16] + at), 1);
      }
      TurnSquare<BytesOf256>(v);
      PQI_UNROLL for (int i = 0; i < 16; ++i) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + static_cast<size_t>(i) * stride), v[i]);
      }
    }
  }
  template <bool kStart>
  PQI_INLINE static void TransposeShorts(const uint8_t* p, size_t stride, const int32_t* start, int32_t* out, size_t out_stride) {
    __m256i v[8];
    PQI_UNROLL for (int i = 0; i < 8; ++i) {
      v[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + static_cast<size_t>(i) * stride));
    }
    TurnSquare<ShortsOf256>(v);
    const auto put = [&](int j, __m128i x) PQI_INLINE_LAMBDA {
      __m256i* to = reinterpret_cast<__m256i*>(out + static_cast<size_t>(j) * out_stride);
      const __m256i before = _mm256_loadu_si256(kStart ? reinterpret_cast<const __m256i*>(start) : to);
      _mm256_storeu_si256(to, _mm256_add_epi32(_mm256_cvtepi16_epi32(x), before));
    };
    PQI_UNROLL for (int i = 0; i < 8; ++i) {
      put(i, _mm256_castsi256_si128(v[i]));
      put(i + 8, _mm256_extracti128_si256(v[i], 1));
    }
  }

 private:
  PQI_INLINE static __m128i Get(const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
  PQI_INLINE static void Put(uint8_t* p, __m128i v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v); }
  PQI_INLINE static void Square(const uint8_t* const* rows, size_t at, uint8_t* out, size_t stride) {
    __m128i v[16];
    PQI_UNROLL for (int i = 0; i < 16; ++i) v[i] = Get(rows[i] + at);
    TurnSquare<BytesOf128>(v);
    PQI_UNROLL for (int i = 0; i < 16; ++i) Put(out + static_cast<size_t>(i) * stride, v[i]);
  }
};

}  // namespace
}  // namespace pqi::kernels
