#include "pack/low_bit.h"

namespace pqi::pack {

uint32_t ShiftCodes(int8_t* codes, int64_t n, int least) {
  uint32_t products = 0;
  for (int64_t i = 0; i < n; i += 8) {
    for (int64_t j = i; j < i + 4; ++j) {
      const int y0 = codes[j] - least - 128, y1 = codes[j + 4] - least;
      products += static_cast<uint32_t>(y0 * y1 - least * (least + 128));
      codes[j] = static_cast<int8_t>(y0);
      codes[j + 4] = static_cast<int8_t>(y1);
    }
  }
  return products;
}

}  // namespace pqi::pack
