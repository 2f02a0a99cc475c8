// The order of weights inside a panel (kernels/contract/tile.h).
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/contract/tile.h"

namespace pqi::pack {

// Where k-value i of a row of k lies among the k-values of its panel: a last block of kr that k does not fill is filled from its end.
inline int64_t PanelPosition(int64_t k, int64_t kr, int64_t i) {
  const int64_t whole = k / kr * kr;
  return i < whole || k < kr ? i : i + (whole + kr - k);
}

// One panel: n <= nr channels of [taps][k] weights, k in blocks of kr, channels interleaved by kr values. Channel c starts at
// channels + c * taps * k. The panel's padding is left as it is.
template <typename T>
void PackPanel(const kernels::TileShape& tile, int64_t taps, int64_t k, const T* channels, int64_t n, T* panel) {
  const int64_t nr = tile.nr, kr = tile.kr, block = nr * kr, blocks = (k + kr - 1) / kr;
  for (int64_t c = 0; c < n; ++c) {
    const T* w = channels + c * taps * k;
    for (int64_t tap = 0; tap < taps; ++tap) {
      int64_t i = 0;
      if constexpr (sizeof(T) == 1) {
        if (kr == 4) {  // whole blocks by words
          for (; i + 4 <= k; i += 4) std::memcpy(panel + (tap * blocks + i / 4) * block + c * 4, w + tap * k + i, 4);
        }
      }
      for (; i < k; ++i) {
        const int64_t at = PanelPosition(k, kr, i);
        panel[(tap * blocks + at / kr) * block + c * kr + at % kr] = w[tap * k + i];
      }
    }
  }
}

}  // namespace pqi::pack
