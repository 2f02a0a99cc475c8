// A table of 256 bytes in sixteen registers, each with a row of sixteen bytes. The upper half of an index chooses the row.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/generic/compiler.h"

namespace pqi::kernels {
namespace {

class ByteTable {
 public:
  PQI_INLINE explicit ByteTable(const uint8_t* table) {
    PQI_UNROLL for (int i = 0; i < 16; ++i) {
      rows_[i] = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table + 16 * i)));
    }
  }

  // y[i] = table[x[i]] for i < 64. Every row is looked up with the lower half of the index, and bits 4 to 7 choose among the answers.
  PQI_INLINE void LookUp(const uint8_t* x, uint8_t* y) const {
    const __m512i index = _mm512_loadu_si512(x), low = _mm512_and_si512(index, _mm512_set1_epi8(15));
    const auto bit = [&](int b) PQI_INLINE_LAMBDA { return _mm512_test_epi8_mask(index, _mm512_set1_epi8(static_cast<char>(1 << b))); };
    const __mmask64 bits[4] = {bit(4), bit(5), bit(6), _mm512_movepi8_mask(index)};
    __m512i found[8];
    PQI_UNROLL for (int i = 0; i < 8; ++i) {
      found[i] = _mm512_mask_shuffle_epi8(_mm512_shuffle_epi8(rows_[2 * i], low), bits[0], rows_[2 * i + 1], low);
    }
    PQI_UNROLL for (int level = 1; level < 4; ++level) {
      PQI_UNROLL for (int i = 0; i < 8 >> level; ++i) found[i] = _mm512_mask_blend_epi8(bits[level], found[2 * i], found[2 * i + 1]);
    }
    _mm512_storeu_si512(y, found[0]);
  }

 private:
  __m512i rows_[16];
};

}  // namespace
}  // namespace pqi::kernels
