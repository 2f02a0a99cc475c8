// A table of 256 bytes in four registers, two to a permutation (AVX512-VBMI, which every CPU with AMX has).
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/generic/compiler.h"

namespace pqi::kernels {
namespace {

class ByteTableOfHalves {
 public:
  PQI_INLINE explicit ByteTableOfHalves(const uint8_t* table) {
    PQI_UNROLL for (int i = 0; i < 4; ++i) quarters_[i] = _mm512_loadu_si512(table + 64 * i);
  }

  // y[i] = table[x[i]] for i < 64. Bits 0 to 6 of an index choose within each half, bit 7 between the halves.
  PQI_INLINE void LookUp(const uint8_t* x, uint8_t* y) const {
    const __m512i index = _mm512_loadu_si512(x);
    const __m512i low = _mm512_permutex2var_epi8(quarters_[0], index, quarters_[1]);
    const __m512i high = _mm512_permutex2var_epi8(quarters_[2], index, quarters_[3]);
    _mm512_storeu_si512(y, _mm512_mask_blend_epi8(_mm512_movepi8_mask(index), low, high));
  }

 private:
  __m512i quarters_[4];
};

}  // namespace
}  // namespace pqi::kernels
