// Byte permutes on 128-bit vectors that the x86 ISAs share. Like the headers of generic/ it opens an anonymous namespace.
#pragma once

#include <immintrin.h>

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

}  // namespace
}  // namespace pqi::kernels
