// A table of 256 bytes in registers, in four quarters of 64.
#pragma once

#include <arm_neon.h>

#include <cstdint>

#include "kernels/generic/compiler.h"

namespace pqi::kernels {
namespace {

class ByteTable {
 public:
  PQI_INLINE explicit ByteTable(const uint8_t* table) { PQI_UNROLL for (int i = 0; i < 4; ++i) quarters_[i] = vld1q_u8_x4(table + 64 * i); }

  // y[i] = table[x[i]] for i < 16. An index beyond a quarter finds nothing in it.
  PQI_INLINE void LookUp(const uint8_t* x, uint8_t* y) const {
    const uint8x16_t index = vld1q_u8(x);
    uint8x16_t found = vqtbl4q_u8(quarters_[0], index);
    PQI_UNROLL for (uint8_t i = 1; i < 4; ++i) {
      found = vqtbx4q_u8(found, quarters_[i], vsubq_u8(index, vdupq_n_u8(static_cast<uint8_t>(64 * i))));
    }
    vst1q_u8(y, found);
  }

 private:
  uint8x16x4_t quarters_[4];
};

}  // namespace
}  // namespace pqi::kernels
